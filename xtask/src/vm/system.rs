//! A whole Debian system in a guest: systemd, nginx, redis, sshd, and the agent on the whole host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use super::guest::{EMULATION, PARAMETERS, Scratch, run_to_its_end};
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
    let binaries = Binaries::build(root, kernel.arch)?;
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
        .args([
            "-append",
            &format!("console=ttyS0 {PARAMETERS} quiet root=/dev/nvme0n1 rw lsm=landlock,lockdown,yama,bpf"),
        ])
        .args(["-serial", &format!("file:{}", console.display()), "-serial", &format!("file:{}", said.display())]);
    run_to_its_end(qemu, &said, &console)?;
    let text = String::from_utf8_lossy(&fs::read(&said)?).replace('\r', "");
    println!("{text}");
    let faults = faults(&text);
    if !faults.is_empty() {
        bail!("on {}, as the output above shows:\n  {}", kernel.release, faults.join("\n  "));
    }
    println!(
        "vm       {}: the agent ran on the whole host, knew {} and denied nothing",
        kernel.release,
        EXPECTED.join(", ")
    );
    Ok(())
}

/// What is not as it should be in what the guest printed.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let workloads = section(text, "top");
    for name in EXPECTED {
        let row = workloads.as_array().into_iter().flatten().find(|row| row["workload"] == *name);
        match row.map(|row| row["processes"].as_u64().unwrap_or(0)) {
            None => faults.push(format!("{name} is not among the workloads")),
            Some(0) => faults.push(format!("{name} has no processes")),
            Some(_) => (),
        }
    }
    let decisions = section(text, "decisions");
    if decisions.as_array().is_none_or(|decisions| !decisions.is_empty()) {
        faults.push(format!("nothing was to be denied, and the decisions are {decisions}"));
    }
    let status = section(text, "status");
    if status["decisions"] != serde_json::json!([0, 0]) {
        faults.push(format!("nothing was to be denied, and the status counts {}", status["decisions"]));
    }
    if !text.lines().any(|line| line == "@@ disarmed") {
        faults.push("`stockade disarm` failed".to_owned());
    }
    faults
}

/// What stands under `@@ NAME`, null when it is not there or no JSON.
fn section(text: &str, name: &str) -> Value {
    let head = format!("@@ {name}\n");
    let rest = text.split_once(&head).map_or("", |(_, rest)| rest);
    let own = rest.split_once("\n@@ ").map_or(rest, |(own, _)| own);
    serde_json::from_str(own.trim()).unwrap_or(Value::Null)
}

/// What happens in the system when its services are there.
const UNIT: &str = "[Unit]
After=nginx.service redis-server.service ssh.service
Wants=nginx.service redis-server.service ssh.service
[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
ExecStart=/bin/sh -c 'mkdir -p /payload; tar xf /dev/nvme1n1 -C /payload; sh /payload/main.sh'
ExecStopPost=/bin/sh -c 'sync; echo o > /proc/sysrq-trigger'
[Install]
WantedBy=multi-user.target
";

/// Units that need what the system has not, and would count as failed.
const MASKED: &[&str] = &["serial-getty@ttyS0.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"];

/// The system's disk, built once, and again when its recipe changes.
fn disk() -> anyhow::Result<PathBuf> {
    let cache = cache()?;
    let (disk, note) = (cache.join(format!("{SUITE}.ext4")), cache.join(format!("{SUITE}.recipe")));
    let recipe = format!("{PACKAGES}\n{}\n{UNIT}", MASKED.join(" "));
    if disk.exists() && fs::read_to_string(&note).is_ok_and(|built| built == recipe) {
        return Ok(disk);
    }
    println!("vm       debootstrap {SUITE} (about 300 MB, 2 min)");
    // Two that build at once do not meet; the later one wins.
    let scratch = Scratch::within(&cache)?;
    let (tree, part) = (scratch.0.join("tree"), scratch.0.join("part"));
    // What it mounts in the tree goes with its namespace, also when it is killed.
    let mut debootstrap = Command::new("unshare");
    debootstrap.args(["--mount", "debootstrap", "--variant=minbase", &format!("--include={PACKAGES}"), SUITE]);
    must(debootstrap.arg(&tree)).context("debootstrap needs root and Debian's archive")?;
    for mask in MASKED {
        std::os::unix::fs::symlink("/dev/null", tree.join("etc/systemd/system").join(mask))?;
    }
    fs::write(tree.join("etc/systemd/system/payload.service"), UNIT)?;
    let wants = tree.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("/etc/systemd/system/payload.service", wants.join("payload.service"))?;
    must(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
            .arg(&tree)
            .arg(&part)
            .arg("1400M"),
    )?;
    fs::rename(&part, &disk)?;
    fs::write(&note, recipe)?;
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
stockade baseline status
echo "@@ status"; stockade status -o json
echo "@@ top"; stockade top -o json | cat
echo "@@ decisions"; stockade decisions list --all -o json
echo "@@ end"
stockade disarm && echo "@@ disarmed"
tail -5 /tmp/agent.log
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "starting\n@@ status\n{\"decisions\":[0,0]}\n@@ top\n[{\"workload\":\"unit:nginx.service\",\
        \"processes\":2},{\"workload\":\"unit:redis-server.service\",\"processes\":1},\
        {\"workload\":\"unit:ssh.service\",\"processes\":1}]\n@@ decisions\n[]\n@@ end\n@@ disarmed\n";

    #[test]
    fn a_guest_that_knows_its_services_and_denies_nothing_is_fine() {
        assert_eq!(faults(GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_workload_without_processes_and_a_denial_are_faults() {
        let text = GOOD.replace("\"processes\":2", "\"processes\":0").replace("[]", "[{\"name\":\"D-1\"}]");
        assert_eq!(faults(&text).len(), 2, "{:?}", faults(&text));
        assert_eq!(faults("the agent did not start\n").len(), 6, "and silence is no success");
    }
}
