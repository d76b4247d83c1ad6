//! Builds the kernel object: with the distribution's compiler and its library sources, or with rustup's nightly.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use crate::{must, told};

/// Part of the flags: `CARGO_ENCODED_RUSTFLAGS` separates by this byte.
const SEPARATOR: &str = "\u{1f}";

/// A compiler that can build `core` for the BPF target.
pub struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// A stable compiler has to be told that unstable options are meant.
    bootstrap: bool,
    /// For people.
    pub name: String,
}

/// Finds a compiler with library sources.
pub fn toolchain() -> Option<Toolchain> {
    let system = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    if system.0.exists() && has_sources(&system.1) {
        let name = told(Command::new(&system.1).arg("--version"))?;
        return Some(Toolchain { cargo: system.0, rustc: system.1, bootstrap: true, name });
    }
    let which =
        |tool: &str| told(Command::new("rustup").args(["which", tool, "--toolchain", "nightly"])).map(PathBuf::from);
    let (cargo, rustc) = (which("cargo")?, which("rustc")?);
    if !has_sources(&rustc) {
        return None;
    }
    let name = told(Command::new(&rustc).arg("--version"))?;
    Some(Toolchain { cargo, rustc, bootstrap: false, name })
}

fn has_sources(rustc: &Path) -> bool {
    let sysroot = told(Command::new(rustc).args(["--print", "sysroot"])).unwrap_or_default();
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists()
}

/// Finds bpf-linker.
pub fn linker() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let own = home.map(|home| home.join("bin/bpf-linker")).filter(|path| path.exists());
    own.or_else(|| told(Command::new("sh").args(["-c", "command -v bpf-linker"])).map(PathBuf::from))
}

/// Which kernels the object is for.
#[derive(Args)]
pub struct Options {
    /// Architecture of the kernels: where registers are and what numbers mean differs.
    #[arg(long, default_value = std::env::consts::ARCH, value_parser = ["x86_64", "aarch64"])]
    arch: String,
}

/// Builds the object that was asked for and says where it is.
///
/// # Errors
/// As [`build_for`].
pub fn bpf(root: &Path, options: &Options) -> anyhow::Result<()> {
    println!("bpf      {}", build_for(root, &options.arch)?.display());
    Ok(())
}

/// Builds the object for this machine and returns its path.
pub fn build(root: &Path) -> anyhow::Result<PathBuf> {
    build_for(root, std::env::consts::ARCH)
}

/// Builds the object for an architecture and returns its path.
///
/// # Errors
/// The toolchain is missing, or the programs do not compile.
pub fn build_for(root: &Path, arch: &str) -> anyhow::Result<PathBuf> {
    let missing = "run `cargo xtask setup --for run`";
    let toolchain = toolchain().with_context(|| format!("no compiler with library sources: {missing}"))?;
    let linker = linker().with_context(|| format!("no bpf-linker: {missing}"))?;
    let directory = root.join("collector-ebpf");
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
    ];
    println!("bpf      {} with {}", toolchain.name, linker.display());
    let mut command = Command::new(&toolchain.cargo);
    // What the cargo that runs this set for its own build does not concern the other one.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        let ours = ["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&&*name_text) || name_text.starts_with("CARGO_HTTP");
        if (name_text.starts_with("CARGO") && !ours) || name_text.starts_with("RUST") {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(&directory)
        .args(["build", "--release", "-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"])
        .arg(format!("target/{arch}"))
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(SEPARATOR));
    if toolchain.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    must(&mut command)?;
    let built = directory.join(format!("target/{arch}/bpfel-unknown-none/release/stockade"));
    strip(&built, &directory.join(format!("target/stockade.{arch}.bpf.o")))
}

/// Debug information triples the size; BTF is kept. Nothing is touched when the object did not change.
fn strip(built: &Path, object: &Path) -> anyhow::Result<PathBuf> {
    let fresh = object.with_extension("new");
    let tools = ["llvm-strip", "llvm-strip-22", "/usr/lib/llvm-22/bin/llvm-strip"];
    let stripped =
        tools.iter().any(|tool| told(Command::new(tool).arg("-g").arg("-o").arg(&fresh).arg(built)).is_some());
    if !stripped {
        println!("bpf      no llvm-strip: the object keeps its debug information");
        std::fs::copy(built, &fresh)?;
    }
    let bytes = std::fs::read(&fresh)?;
    if bytes.is_empty() {
        bail!("{} is empty", fresh.display());
    }
    if std::fs::read(object).is_ok_and(|old| old == bytes) {
        std::fs::remove_file(&fresh)?;
    } else {
        std::fs::rename(&fresh, object)?;
    }
    Ok(object.to_path_buf())
}
