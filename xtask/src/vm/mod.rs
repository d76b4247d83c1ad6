//! `cargo xtask vm`: the tests on other kernels, in guests that QEMU emulates.
//!
//! ```text
//! kernel (from apt, never installed) + initramfs (busybox, test binaries, their libraries) ─► guest ─► results ─► docs/kernels.md
//! ```
//!
//! Only there may a test deny host-wide. Everything is emulated, so rates mean nothing; what works and what does not, does.

mod arch;
mod guest;
mod host;
mod image;
mod kernel;
mod matrix;
mod outcome;
mod page;
mod system;

use std::path::Path;

use anyhow::{Context, bail};
use clap::Args;

use arch::Arch;
use guest::{Cell, Cgroups};
use image::Binaries;
use kernel::Kernel;

/// Which kernels, tests and variants.
#[derive(Args)]
pub struct Options {
    /// `6.1`, `6.12`, `newest`, `all`; all when none is given.
    kernel: Option<String>,
    /// A test binary such as `kernel_lsm`; all when none is given.
    test: Option<String>,
    /// Architecture of the guest; its tests are built here and run there.
    #[arg(long, value_enum, default_value = std::env::consts::ARCH)]
    arch: Arch,
    /// Boot without bpf among the security modules.
    #[arg(long)]
    no_lsm: bool,
    /// cgroup v1 controllers beside a v2 hierarchy at /sys/fs/cgroup/unified.
    #[arg(long)]
    hybrid: bool,
    /// cgroup v1 alone.
    #[arg(long, conflicts_with = "hybrid")]
    v1: bool,
    /// Boot locked down for confidentiality: programs may not read the kernel.
    #[arg(long)]
    lockdown: bool,
    /// Run this part of the matrix, the whole of it when none is named, and write its rows into docs/kernels.md.
    #[arg(long)]
    bless: bool,
    /// Show kernels and tests, run nothing.
    #[arg(long)]
    list: bool,
    /// Boot a Debian system with systemd, nginx, redis and sshd, and run the agent there on the whole host.
    #[arg(long)]
    system: bool,
    /// Instead of tests, a shell in the guest; Ctrl-C goes there too.
    #[arg(long)]
    shell: bool,
    /// Instead of tests, run this in the guest (`stockade` is there).
    #[arg(last = true)]
    command: Vec<String>,
}

/// What this machine is.
const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };
/// Kernels that are asked for when none is named.
const KERNELS: &[&str] = &["6.1", "6.12"];

/// Runs what was asked for.
pub fn vm(root: &Path, options: &Options) -> anyhow::Result<()> {
    if let Some(program) = options.arch.missing() {
        bail!(
            "there is no {program}: `cargo xtask setup --for {}`",
            if options.arch.is_native() { "vm" } else { "arch" }
        );
    }
    if options.list {
        return list(root, options.arch);
    }
    let every = |name: Option<&str>| name.is_none_or(|name| name == "all");
    let names: Vec<&str> = match options.kernel.as_deref() {
        Some(name) if name != "all" => vec![name],
        _ => every_kernel(options.arch)?,
    };
    if options.system {
        if options.arch == Arch::Aarch64 {
            bail!("the Debian system is built for x86_64 only; without --system the tests run on aarch64 too");
        }
        return names.iter().try_for_each(|name| system::run(root, &Kernel::get(name, options.arch)?));
    }
    let binaries = Binaries::build(root, options.arch)?;
    if options.shell {
        return guest::shell(&Kernel::get(names[0], options.arch)?, &cell(names[0], options), &binaries);
    }
    if !options.command.is_empty() {
        let cell = cell(names[0], options);
        let (said, code) =
            guest::run_command(&Kernel::get(names[0], options.arch)?, &cell, &binaries, &options.command)?;
        print!("{said}");
        if code != 0 {
            bail!("the command ended with {code} in the guest");
        }
        return Ok(());
    }
    let whole = every(options.kernel.as_deref())
        && !options.no_lsm
        && !options.hybrid
        && !options.v1
        && !options.lockdown
        && options.arch.is_native();
    if options.bless || whole {
        let only = options.test.as_deref();
        let part = matrix::Part { arch: options.arch, names: &names, only, whole: whole && only.is_none() };
        return matrix::run(root, &binaries, &part, options.bless);
    }
    let mut failed = 0;
    for name in names {
        let only: Vec<&str> = options.test.as_deref().into_iter().collect();
        let result = guest::run_tests(&Kernel::get(name, options.arch)?, &cell(name, options), &binaries, &only)?;
        failed += result.print();
    }
    if failed > 0 { bail!("{failed} tests failed in guests") } else { Ok(()) }
}

/// The part of the gate: what this machine's kernel may refuse, on two kernels side by side. The rest of the tests has run
/// here already; the whole matrix takes half an hour. Says why when it was left out.
///
/// # Errors
/// A test failed, or the guest did.
pub fn gate(root: &Path) -> anyhow::Result<Option<String>> {
    const TESTS: &[&str] = &["kernel_lsm", "kernel_bypass"];
    if let Some(why) = missing() {
        return Ok(Some(why));
    }
    // Without a network there is nothing to download; that says nothing about Stockade.
    let kernels = match KERNELS.iter().map(|name| Kernel::get(name, NATIVE)).collect::<anyhow::Result<Vec<_>>>() {
        Ok(kernels) => kernels,
        Err(error) => return Ok(Some(format!("no kernels: {error:#}"))),
    };
    let binaries = Binaries::build(root, NATIVE)?;
    let run = |kernel: &Kernel| {
        let cell = Cell { kernel: kernel.name.clone(), lsm: true, lockdown: false, cgroups: Cgroups::V2 };
        guest::run_tests(kernel, &cell, &binaries, TESTS)
    };
    let reports = side_by_side(&kernels, run)?;
    let failed: usize = reports.iter().map(guest::Report::print).sum();
    if failed > 0 { bail!("{failed} tests failed in guests") } else { Ok(None) }
}

/// Runs something for each kernel at the same time: a guest keeps one core busy.
fn side_by_side<T: Send>(
    kernels: &[Kernel],
    run: impl Fn(&Kernel) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = kernels.iter().map(|kernel| scope.spawn(|| run(kernel))).collect();
        let panicked = || anyhow::anyhow!("a guest's thread panicked");
        running.into_iter().map(|thread| thread.join().map_err(|_| panicked())?).collect()
    })
}

/// Why guests cannot run here.
pub fn missing() -> Option<String> {
    NATIVE.missing().map(|program| format!("there is no {program}: `cargo xtask setup --for vm`"))
}

/// Whether guests of another architecture can run here.
pub fn foreign_is_ready() -> bool {
    [Arch::X86_64, Arch::Aarch64].into_iter().all(|arch| arch.missing().is_none())
}

/// [`KERNELS`], and the newest when it is another one.
fn every_kernel(arch: Arch) -> anyhow::Result<Vec<&'static str>> {
    let known = KERNELS.iter().map(|name| kernel::package(name, arch)).collect::<anyhow::Result<Vec<_>>>()?;
    let newest = kernel::package("newest", arch)?;
    let further = (!known.contains(&newest)).then_some("newest");
    Ok(KERNELS.iter().copied().chain(further).collect())
}

fn cell(kernel: &str, options: &Options) -> Cell {
    let cgroups = match (options.hybrid, options.v1) {
        (true, _) => Cgroups::Hybrid,
        (_, true) => Cgroups::V1,
        _ => Cgroups::V2,
    };
    Cell { kernel: kernel.to_owned(), lsm: !options.no_lsm, lockdown: options.lockdown, cgroups }
}

fn list(root: &Path, arch: Arch) -> anyhow::Result<()> {
    for name in ["6.1", "6.12", "newest"] {
        println!("kernel   {name}: {}", kernel::package(name, arch).context("apt knows no such kernel")?);
    }
    for name in Binaries::build(root, arch)?.names() {
        println!("test     {name}");
    }
    Ok(())
}
