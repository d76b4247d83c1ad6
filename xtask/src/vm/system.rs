//! A whole Debian system in a guest: systemd, nginx, redis, sshd, and the agent on the whole host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use super::guest::{EMULATION, Scratch, run_to_its_end};
use super::image::Binaries;
use super::kernel::{Kernel, cache};
use crate::must;

/// What is installed besides the smallest Debian.
const PACKAGES: &str =
    "systemd-sysv,udev,dbus,iproute2,procps,nginx-light,redis-server,openssh-server,curl,kmod,libssl3,zlib1g,libzstd1";
const SUITE: &str = "bookworm";

/// Workloads that must be known, with their processes, when the agent has run for a while.
const EXPECTED: &[&str] = &["unit:nginx.service", "unit:redis-server.service", "unit:ssh.service"];

/// Boots the system and runs the agent in it.
pub fn run(root: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let binaries = Binaries::build(root)?;
    let disk = disk()?;
    let directory = Scratch::new()?;
    let payload = payload(&binaries, &directory.0)?;
    let (said, console) = (directory.0.join("said"), directory.0.join("console"));
    let drive = |path: &Path, id: &str, more: &str| format!("file={},format=raw,if=none,id={id}{more}", path.display());
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", EMULATION, "-cpu", "max", "-m", "2048", "-smp", "2", "-nographic", "-nodefaults"])
        .args(["-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .args(["-drive", &drive(&disk, "system", ",snapshot=on"), "-device", "nvme,drive=system,serial=system"])
        .args(["-drive", &drive(&payload, "payload", ",readonly=on"), "-device", "nvme,drive=payload,serial=payload"])
        .args(["-append", "console=ttyS0 quiet panic=-1 root=/dev/nvme0n1 rw lsm=landlock,lockdown,yama,bpf"])
        .args(["-serial", &format!("file:{}", console.display()), "-serial", &format!("file:{}", said.display())]);
    run_to_its_end(qemu, &said, &console)?;
    let text = String::from_utf8_lossy(&fs::read(&said)?).replace('\r', "");
    println!("{text}");
    let lacking: Vec<&&str> = EXPECTED.iter().filter(|workload| !text.contains(**workload)).collect();
    if !lacking.is_empty() || !text.contains("@@ denied nothing") || !text.contains("@@ disarmed") {
        bail!("on {}: workloads that were not found: {lacking:?}; see the output above", kernel.release);
    }
    println!(
        "vm       {}: the agent ran on the whole host, knew {} and denied nothing",
        kernel.release,
        EXPECTED.join(", ")
    );
    Ok(())
}

/// The system's disk, built once.
fn disk() -> anyhow::Result<PathBuf> {
    let cache = cache()?;
    let disk = cache.join(format!("{SUITE}.ext4"));
    if disk.exists() {
        return Ok(disk);
    }
    println!("vm       debootstrap {SUITE} (about 300 MB, 2 min)");
    let tree = cache.join("system");
    let _ = fs::remove_dir_all(&tree);
    must(Command::new("debootstrap").args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]).arg(&tree))?;
    for mask in ["serial-getty@ttyS0.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"] {
        std::os::unix::fs::symlink("/dev/null", tree.join("etc/systemd/system").join(mask))?;
    }
    let unit = "[Unit]\nAfter=nginx.service redis-server.service ssh.service\nWants=nginx.service redis-server.service \
                ssh.service\n[Service]\nType=oneshot\nStandardOutput=file:/dev/ttyS1\nStandardError=file:/dev/ttyS1\n\
                ExecStart=/bin/sh -c 'mkdir -p /payload; tar xf /dev/nvme1n1 -C /payload; sh /payload/main.sh'\n\
                ExecStopPost=/bin/sh -c 'sync; echo o > /proc/sysrq-trigger'\n[Install]\nWantedBy=multi-user.target\n";
    fs::write(tree.join("etc/systemd/system/payload.service"), unit)?;
    let wants = tree.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("/etc/systemd/system/payload.service", wants.join("payload.service"))?;
    let part = cache.join("system.part");
    must(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
            .arg(&tree)
            .arg(&part)
            .arg("1400M"),
    )?;
    fs::rename(&part, &disk)?;
    fs::remove_dir_all(&tree)?;
    Ok(disk)
}

/// The agent and what the guest does, as a tar that a disk holds. The libraries are the guest's own: an agent that was built
/// against a newer C library than Debian 12's does not start there, and the run says so.
fn payload(binaries: &Binaries, directory: &Path) -> anyhow::Result<PathBuf> {
    let tree = directory.join("payload");
    fs::create_dir_all(&tree)?;
    must(Command::new("strip").arg("-g").arg("-o").arg(tree.join("stockade")).arg(binaries.agent()?))?;
    fs::write(tree.join("main.sh"), SCRIPT)?;
    let packed = directory.join("payload.tar");
    must(Command::new("tar").arg("cf").arg(&packed).arg("-C").arg(&tree).arg("."))?;
    Ok(packed)
}

const SCRIPT: &str = r#"
export PATH=/payload:$PATH
uname -r
systemctl is-active nginx redis-server ssh
stockade doctor
(stockade run > /tmp/agent.log 2>&1) &
for wait in $(seq 100); do stockade status > /dev/null 2>&1; [ $? -le 1 ] && break; sleep 1; done
for request in $(seq 40); do curl -s -o /dev/null http://127.0.0.1/; redis-cli ping > /dev/null; done
# A client that only greets: the listener forks a child for it.
for knock in 1 2 3; do curl -s -m 2 telnet://127.0.0.1:22 < /dev/null > /dev/null; done
sleep 10
stockade status
stockade top | cat
stockade baseline status
[ "$(stockade decisions list -o json | tr -d ' \n')" = "[]" ] && echo "@@ denied nothing"
stockade disarm && echo "@@ disarmed"
tail -5 /tmp/agent.log
"#;
