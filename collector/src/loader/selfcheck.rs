//! Do the offsets agree with what `/proc` says? Compared on a process that is started for it.
//!
//! The programs ignore this process (it is the agent), so a child is watched: its lineage entry must carry the cookie that
//! `/proc/PID/stat` gives. A wrong offset shows at once: the start time, the group leader and the pid are all part of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::Kernel;

/// Checks one child. The text says what was compared.
///
/// # Errors
///
/// What differs.
pub fn agrees(kernel: &Kernel) -> Result<String, String> {
    // The background job is born inside the scope, so its birth is stamped.
    let script = "test -z \"$0\" || echo 0 > \"$0/cgroup.procs\"; sleep 0.3 & echo $!; wait";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(kernel.scope().unwrap_or(Path::new("")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a child to compare: {error}"))?;
    let mut line = String::new();
    let told = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    let compared = match (told, line.trim().parse()) {
        (Some(Ok(_)), Ok(pid)) => compare(kernel, pid),
        _ => Err("the child to compare did not say its pid".to_owned()),
    };
    let _ = child.wait();
    compared
}

fn compare(kernel: &Kernel, pid: u32) -> Result<String, String> {
    let lineage = kernel.lineage(pid).ok_or_else(|| format!("the birth of pid {pid} was not seen"))?;
    let told = cookie_in_proc(pid).ok_or_else(|| format!("/proc does not know pid {pid}"))?;
    if lineage.cookie == told {
        return Ok(format!("pid, group leader and start time of pid {pid} agree with /proc"));
    }
    Err(format!("pid {pid}: the kernel says cookie {:#x}, /proc says {told:#x}", lineage.cookie))
}

pub(super) fn cookie_in_proc(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    Some(collector_common::header::cookie_of_ticks(ticks, pid))
}
