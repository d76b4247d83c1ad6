//! One guest: boots, runs, and what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::image::Binaries;
use super::kernel::Kernel;

/// A guest that says nothing for so long is ended.
const PATIENCE: Duration = Duration::from_secs(900);

/// One host thread for all of the guest's CPUs. With a thread each, QEMU may run an instruction that another CPU is patching:
/// attaching a program switches a static branch, and the guest dies of the breakpoint in it (seen with QEMU 7.2).
pub const EMULATION: &str = "tcg,thread=single";

/// How the guest's cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Only v2, at /sys/fs/cgroup.
    V2,
    /// v1 controllers, a named hierarchy, and v2 at /sys/fs/cgroup/unified.
    Hybrid,
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub kernel: String,
    /// bpf is among the security modules.
    pub lsm: bool,
    pub cgroups: Cgroups,
}

/// What became of one test binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub test: String,
    pub passed: Vec<String>,
    pub failed: Vec<String>,
    pub left_out: Vec<String>,
    /// Why tests were left out, as they said it.
    pub reasons: Vec<String>,
    /// It did not come to its end.
    pub cut: bool,
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
        for outcome in &self.outcomes {
            println!("vm       {} ({lsm}, {:?}) {}", self.release, self.cell.cgroups, outcome.line());
        }
        let failed = self.failed();
        if failed > 0 {
            println!("{}", self.text);
        }
        failed
    }

    /// Tests that failed or never ended.
    pub fn failed(&self) -> usize {
        self.outcomes.iter().map(|outcome| outcome.failed.len() + usize::from(outcome.cut)).sum()
    }
}

impl Outcome {
    /// `kernel_lsm: 9 passed, 1 failed (name), 2 left out: reason`.
    pub fn line(&self) -> String {
        let mut line = format!("{}: {} passed", self.test, self.passed.len());
        if !self.failed.is_empty() {
            line += &format!(", {} failed ({})", self.failed.len(), self.failed.join(", "));
        }
        if self.cut {
            line += ", did not come to its end";
        }
        if !self.left_out.is_empty() {
            line += &format!(", {} left out: {}", self.left_out.len(), self.reasons.join("; "));
        }
        line
    }
}

/// Runs tests in a guest; all when `only` names none.
pub fn run_tests(kernel: &Kernel, cell: &Cell, binaries: &Binaries, only: &[&str]) -> anyhow::Result<Report> {
    let names: Vec<&str> = binaries.names().filter(|name| only.is_empty() || only.contains(name)).collect();
    if names.is_empty() {
        bail!("there is no test {}; see --list", only.join(" "));
    }
    let runs = names.iter().map(|name| {
        format!("echo '@@ test {name}'\n/t/{name} --test-threads 1 --color never 2>&1\necho \"@@ end $?\"\n")
    });
    let text = boot(kernel, cell, binaries, &names, &runs.collect::<String>())?;
    Ok(Report { cell: cell.clone(), release: kernel.release.clone(), outcomes: outcomes(&text), text })
}

/// Runs a command in a guest; what it printed.
pub fn run_command(kernel: &Kernel, cell: &Cell, binaries: &Binaries, command: &[String]) -> anyhow::Result<String> {
    let quoted: Vec<String> = command.iter().map(|part| format!("'{}'", part.replace('\'', "'\\''"))).collect();
    boot(kernel, cell, binaries, &[], &format!("{}\n", quoted.join(" ")))
}

fn boot(kernel: &Kernel, cell: &Cell, binaries: &Binaries, names: &[&str], work: &str) -> anyhow::Result<String> {
    let directory = Scratch::new()?;
    let packed = binaries.pack(names, &init(cell.cgroups, work), &directory.0)?;
    let (said, console) = (directory.0.join("said"), directory.0.join("console"));
    let modules = if cell.lsm { "landlock,lockdown,yama,bpf" } else { "landlock,lockdown,yama" };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", EMULATION, "-cpu", "max", "-m", "3072", "-smp", "2", "-nographic", "-nodefaults"])
        .args(["-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&packed)
        .args(["-append", &format!("console=ttyS0 loglevel=6 panic=-1 lsm={modules}")])
        .args(["-serial", &format!("file:{}", console.display()), "-serial", &format!("file:{}", said.display())]);
    run_to_its_end(qemu, &said, &console)?;
    let mut text = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
    let told = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    let signs = ["BUG:", "Oops", "general protection", "Kernel panic", "WARNING:"];
    if let Some(at) = signs.iter().filter_map(|sign| told.find(sign)).min() {
        text += &format!("\n@@ the guest's kernel said\n{}", &told[told[..at].rfind('\n').unwrap_or(0)..]);
    }
    Ok(text)
}

/// Waits for the guest to power off; one that stays silent is ended, by its own pid.
pub fn run_to_its_end(mut qemu: Command, said: &Path, console: &Path) -> anyhow::Result<()> {
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start QEMU")?;
    let (mut len, mut last) = (0, Instant::now());
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
        if last.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("the guest was silent for {} s and was ended", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn init(cgroups: Cgroups, work: &str) -> String {
    let cgroups = match cgroups {
        Cgroups::V2 => "mount -t cgroup2 none /sys/fs/cgroup\n",
        Cgroups::Hybrid => {
            "mount -t tmpfs none /sys/fs/cgroup\n\
             mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup/cpu /sys/fs/cgroup/memory\n\
             mount -t cgroup2 none /sys/fs/cgroup/unified\n\
             mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd\n\
             mount -t cgroup -o cpu,cpuacct none /sys/fs/cgroup/cpu\n\
             mount -t cgroup -o memory none /sys/fs/cgroup/memory\n"
        }
    };
    format!(
        "#!/bin/sh\n\
         export PATH=/t:/bin HOME=/tmp RUST_BACKTRACE=0 STOCKADE_GUEST=1\n\
         mount -t proc none /proc\nmount -t sysfs none /sys\nmount -t devtmpfs none /dev\n\
         mkdir -p /dev/shm /dev/pts\nmount -t tmpfs none /dev/shm\nmount -t tmpfs none /tmp\nmount -t tmpfs none /run\n\
         {cgroups}\
         mount -t bpf none /sys/fs/bpf\nmount -t tracefs none /sys/kernel/tracing\n\
         mount -t securityfs none /sys/kernel/security\n\
         ip link set lo up\n\
         exec > /dev/ttyS1 2>&1\nstty -F /dev/ttyS1 -onlcr 2>/dev/null\n\
         {work}\
         sync\npoweroff -f\n"
    )
}

/// Reads what the tests printed.
fn outcomes(text: &str) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(test) = line.strip_prefix("@@ test ") {
            outcomes.push(Outcome { test: test.to_owned(), cut: true, ..Outcome::default() });
            continue;
        }
        let Some(outcome) = outcomes.last_mut() else { continue };
        if line.starts_with("@@ end") {
            outcome.cut = false;
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            outcome.reasons.push(reason.to_owned());
        } else if let Some((name, how)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let name = name.trim().to_owned();
            match how.trim() {
                "ok" => outcome.passed.push(name),
                "ignored" => outcome.left_out.push(name),
                // A failing test prints its panic before its verdict; the list of failures has its name.
                _ => (),
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            outcome.failed.push(name.to_owned());
        } else if line.trim() == "ok" || line.trim() == "FAILED" {
            // The verdict of a test that printed something: counted from the summary.
        }
        if let Some(count) = line.strip_prefix("test result: ").and_then(summary_passed) {
            let unnamed = count.saturating_sub(outcome.passed.len());
            outcome.passed.extend((0..unnamed).map(|_| "(printed something)".to_owned()));
        }
    }
    outcomes
}

fn summary_passed(rest: &str) -> Option<usize> {
    rest.split_once(". ")?.1.split_once(" passed")?.0.trim().parse().ok()
}

/// A folder for one guest, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> anyhow::Result<Self> {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let path = std::env::temp_dir().join(format!("stockade-vm-{}-{time}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_print_is_counted() {
        let text = "@@ test kernel_lsm\r\n\nrunning 4 tests\ntest one   ... ok\ntest two ... \nthread panicked\nFAILED\n\
                    test three ... ignored\nskipped: no LSM here\n---- two ----\ntest result: FAILED. 2 passed; 1 failed;\n\
                    @@ end 101\n@@ test kernel\ntest a ... ok\n";
        let outcomes = outcomes(text);
        assert_eq!(outcomes[0].passed.len(), 2, "one of them printed something");
        assert_eq!((outcomes[0].failed.as_slice(), outcomes[0].left_out.len()), (&["two".to_owned()][..], 1));
        assert_eq!(outcomes[0].reasons, ["no LSM here"]);
        assert!(!outcomes[0].cut && outcomes[1].cut, "the second never came to its end");
    }
}
