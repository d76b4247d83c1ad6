//! Do the offsets agree with what `/proc` says? Compared on a process that is started for it.
//!
//! The programs ignore this process (it is the agent), so a child is watched: its lineage entry must carry the cookie that
//! `/proc/PID/stat` gives. A wrong offset shows at once: the start time, the group leader and the pid are all part of it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Kernel;

/// Checks one child. The text says what was compared.
///
/// # Errors
///
/// What differs.
pub fn agrees(kernel: &Kernel) -> Result<String, String> {
    let scope = kernel.scope().ok_or("only a confined kernel object is checked")?;
    let join = "echo 0 > \"$0/cgroup.procs\" && sleep 0.3 & echo 0 > \"$0/cgroup.procs\"; sleep 0.3 & wait";
    let mut child = Command::new("/bin/sh")
        .args(["-c", join])
        .arg(scope)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a child to compare: {error}"))?;
    let compared = compare(kernel, scope);
    let _ = child.wait();
    compared
}

fn compare(kernel: &Kernel, scope: &std::path::Path) -> Result<String, String> {
    let deadline = Instant::now() + Duration::from_millis(800);
    loop {
        let procs = std::fs::read_to_string(scope.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse::<u32>().ok()) {
            let Some(lineage) = kernel.lineage(pid) else { continue };
            let Some(told) = cookie_in_proc(pid) else { continue };
            if lineage.cookie != told {
                return Err(format!("pid {pid}: the kernel says cookie {:#x}, /proc says {told:#x}", lineage.cookie));
            }
            return Ok(format!("pid, group leader and start time of pid {pid} agree with /proc"));
        }
        if Instant::now() > deadline {
            return Err("no birth was seen in the cgroup within 800 ms".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn cookie_in_proc(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    Some(collector_common::header::cookie_of_ticks(ticks, pid))
}
