//! One guest: boots, runs, and what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::image::Binaries;
use super::kernel::{Kernel, MODULES};
use super::outcome::{self, Outcome, outcomes};
use crate::must;

/// A guest that says nothing for so long is ended.
const PATIENCE: Duration = Duration::from_secs(900);
/// A guest that takes longer than this is ended, whatever it says.
const LONGEST: Duration = Duration::from_secs(7_200);

/// One host thread for all of the guest's CPUs. With a thread each, QEMU may run an instruction that another CPU is patching:
/// attaching a program switches a static branch, and the guest dies of the breakpoint in it (seen with QEMU 7.2).
pub const EMULATION: &str = "tcg,thread=single";

/// Kernel parameters of every guest. On a busy machine the timer that the kernel tries at boot is late, and it gives up
/// (`IO-APIC + timer doesn't work`): it need not try.
pub const PARAMETERS: &str = "panic=-1 no_timer_check";

/// How the guest's cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Only v2, at /sys/fs/cgroup.
    V2,
    /// v1 controllers, a named hierarchy, and v2 at /sys/fs/cgroup/unified.
    Hybrid,
    /// v1 controllers and a named hierarchy, no v2 at all.
    V1,
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub kernel: String,
    /// bpf is among the security modules.
    pub lsm: bool,
    /// Locked down for confidentiality.
    pub lockdown: bool,
    pub cgroups: Cgroups,
}

/// What a guest said.
pub struct Report {
    pub cell: Cell,
    pub release: String,
    pub outcomes: Vec<Outcome>,
    /// Everything, for people who look for a cause.
    pub text: String,
}

impl Report {
    /// Prints one line a test and the output of what failed; how many failed.
    pub fn print(&self) -> usize {
        let lsm = if self.cell.lsm { "bpf LSM" } else { "no bpf LSM" };
        let lockdown = if self.cell.lockdown { ", locked down" } else { "" };
        for outcome in &self.outcomes {
            println!("vm       {} ({lsm}{lockdown}, {:?}) {}", self.release, self.cell.cgroups, outcome.line());
        }
        let failed = self.failed();
        if failed > 0 {
            println!("{}", self.text);
        }
        failed
    }

    /// Tests that failed or never ended.
    pub fn failed(&self) -> usize {
        self.outcomes.iter().map(Outcome::faults).sum()
    }
}

/// Runs tests in a guest; all when `only` names none.
pub fn run_tests(kernel: &Kernel, cell: &Cell, binaries: &Binaries, only: &[&str]) -> anyhow::Result<Report> {
    let names: Vec<&str> = binaries.names().filter(|name| only.is_empty() || only.contains(name)).collect();
    if names.is_empty() {
        bail!("there is no test {}; see --list", only.join(" "));
    }
    let runs = names.iter().map(|name| {
        let begin = outcome::begin(name);
        format!("echo '{begin}'\n/t/{name} --test-threads 1 --color never 2>&1\necho \"@@ end $?\"\n")
    });
    let text = boot(kernel, cell, binaries, &names, &runs.collect::<String>())?;
    Ok(Report { cell: cell.clone(), release: kernel.release.clone(), outcomes: outcomes(&text), text })
}

/// Runs a command in a guest; what it printed, and its exit code.
pub fn run_command(
    kernel: &Kernel,
    cell: &Cell,
    binaries: &Binaries,
    command: &[String],
) -> anyhow::Result<(String, i32)> {
    const END: &str = "@@ end ";
    let quoted: Vec<String> = command.iter().map(|part| format!("'{}'", part.replace('\'', "'\\''"))).collect();
    let text = boot(kernel, cell, binaries, &[], &format!("{}\necho \"{END}$?\"\n", quoted.join(" ")))?;
    let Some((said, rest)) = text.rsplit_once(END) else {
        bail!("the guest ended before the command did; it said:\n{text}");
    };
    let code: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok((said.to_owned(), code.parse().with_context(|| format!("the guest gave no exit code but {rest:?}"))?))
}

/// Gives a shell in a guest to whoever sits at this terminal.
pub fn shell(kernel: &Kernel, cell: &Cell, binaries: &Binaries) -> anyhow::Result<()> {
    let directory = Scratch::new()?;
    let work = "echo 'A guest; `stockade` and every test of the list are in /t. `exit` ends it.'\n\
                setsid -c sh <&1\n";
    let names: Vec<&str> = binaries.names().collect();
    // Ctrl-C is for the guest.
    let (port, device) = kernel.arch.second_port("stdio,signal=off");
    let init = init(cell.cgroups, device, work);
    must(machine(kernel, cell, binaries, &names, &init, &directory.0)?.args(port))
}

fn boot(kernel: &Kernel, cell: &Cell, binaries: &Binaries, names: &[&str], work: &str) -> anyhow::Result<String> {
    let directory = Scratch::new()?;
    let (said, console) = (directory.0.join("said"), directory.0.join("console"));
    let (port, device) = kernel.arch.second_port(&format!("file,path={}", said.display()));
    let mut qemu = machine(kernel, cell, binaries, names, &init(cell.cgroups, device, work), &directory.0)?;
    qemu.args(port);
    run_to_its_end(qemu, &said, &console)?;
    let mut text = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
    let told = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    let signs = ["BUG:", "Oops", "general protection", "Kernel panic", "WARNING:"];
    if let Some(at) = signs.iter().filter_map(|sign| told.find(sign)).min() {
        text += &format!("\n@@ the guest's kernel said\n{}", &told[told[..at].rfind('\n').unwrap_or(0)..]);
    }
    Ok(text)
}

/// QEMU with the kernel, an initramfs and a console in a file; the second serial port is the caller's.
fn machine(
    kernel: &Kernel,
    cell: &Cell,
    binaries: &Binaries,
    names: &[&str],
    init: &str,
    directory: &Path,
) -> anyhow::Result<Command> {
    let packed = binaries.pack(kernel, names, init, directory)?;
    let modules = if cell.lsm { "landlock,lockdown,yama,bpf" } else { "landlock,lockdown,yama" };
    let lockdown = if cell.lockdown { " lockdown=confidentiality" } else { "" };
    let (processor, console) = kernel.arch.machine();
    let mut qemu = Command::new(kernel.arch.emulator());
    qemu.args(["-accel", EMULATION, "-m", "3072", "-smp", "2", "-nographic", "-nodefaults"])
        .args(processor)
        .args(["-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&packed)
        .args(["-append", &format!("console={console} {PARAMETERS} loglevel=6 lsm={modules}{lockdown}")])
        .args(["-serial", &format!("file:{}", directory.join("console").display())]);
    Ok(qemu)
}

/// Waits for the guest to power off; one that stays silent is ended, by its own pid.
pub fn run_to_its_end(mut qemu: Command, said: &Path, console: &Path) -> anyhow::Result<()> {
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start QEMU")?;
    let began = Instant::now();
    let (mut len, mut last) = (0, began);
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("QEMU failed: {status}");
            }
            if fs::metadata(said).map_or(0, |about| about.len()) == 0 {
                let text = fs::read(console).unwrap_or_default();
                bail!("the guest said nothing; its console:\n{}", String::from_utf8_lossy(&text));
            }
            return Ok(());
        }
        let now = fs::metadata(said).map_or(0, |about| about.len());
        if now != len {
            (len, last) = (now, Instant::now());
        }
        let (silent, long) = (last.elapsed() > PATIENCE, began.elapsed() > LONGEST);
        if silent || long {
            child.kill()?;
            child.wait()?;
            let why = if silent { "said nothing for" } else { "was not done after" };
            let limit = if silent { PATIENCE } else { LONGEST }.as_secs();
            let text = fs::read(said).unwrap_or_default();
            bail!("the guest {why} {limit} s and was ended; it had said:\n{}", String::from_utf8_lossy(&text));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn init(cgroups: Cgroups, port: &str, work: &str) -> String {
    let cgroups = match cgroups {
        Cgroups::V2 => "mount -t cgroup2 none /sys/fs/cgroup\n",
        Cgroups::V1 => {
            "mount -t tmpfs none /sys/fs/cgroup\n\
             mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/cpu\n\
             mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd\n\
             mount -t cgroup -o cpu,cpuacct none /sys/fs/cgroup/cpu\n"
        }
        Cgroups::Hybrid => {
            "mount -t tmpfs none /sys/fs/cgroup\n\
             mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup/cpu /sys/fs/cgroup/memory\n\
             mount -t cgroup2 none /sys/fs/cgroup/unified\n\
             mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd\n\
             mount -t cgroup -o cpu,cpuacct none /sys/fs/cgroup/cpu\n\
             mount -t cgroup -o memory none /sys/fs/cgroup/memory\n"
        }
    };
    // What `modprobe` would load on a real system when it is asked for.
    let modules: String = MODULES.iter().map(|module| format!("insmod /m/{module}.ko\n")).collect();
    format!(
        "#!/bin/sh\n\
         export PATH=/t:/bin HOME=/tmp RUST_BACKTRACE=0 STOCKADE_GUEST=1\n\
         mount -t proc none /proc\nmount -t sysfs none /sys\nmount -t devtmpfs none /dev\n\
         mkdir -p /dev/shm /dev/pts\nmount -t tmpfs none /dev/shm\nmount -t tmpfs none /tmp\nmount -t tmpfs none /run\n\
         {cgroups}\
         mount -t bpf none /sys/fs/bpf\nmount -t tracefs none /sys/kernel/tracing\n\
         mount -t securityfs none /sys/kernel/security\n\
         ip link set lo up\n\
         {modules}\
         exec <>/dev/{port} >&0 2>&1\nstty -F /dev/{port} -onlcr 2>/dev/null\n\
         {work}\
         sync\npoweroff -f\n"
    )
}

/// A folder for one guest, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> anyhow::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// The same in a given folder.
    pub fn within(folder: &Path) -> anyhow::Result<Self> {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let path = folder.join(format!("stockade-vm-{}-{time}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
