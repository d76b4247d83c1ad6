//! Killing a tree or a cgroup. Cannot be undone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use collector_common::header::{cookie_of_ticks, tgid_of};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Rounds after which a tree that still has members is given up and reported.
const ROUNDS: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(5);

/// What a killing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Processes that got the signal.
    pub killed: usize,
    /// Members that were still there at the end.
    pub left: usize,
}

/// Kills every process of a cgroup and its descendants, forks in progress included.
///
/// # Errors
///
/// When it is not there (any more), or is the root.
pub fn cgroup(directory: &Path) -> io::Result<Killed> {
    let killed = super::processes_in(directory).len();
    fs::write(directory.join("cgroup.kill"), "1")?;
    std::thread::sleep(BETWEEN);
    Ok(Killed { killed, left: super::processes_in(directory).len() })
}

/// Kills the members of a tree until none is left. `members` gives the cookies of those that live now.
///
/// Each round first stops them all, so that none can fork while the others are killed, and signals by a descriptor whose
/// process was compared with `/proc`: a number that was given to somebody else meanwhile is never hit.
pub fn tree(mut members: impl FnMut() -> Vec<u64>) -> Killed {
    let mut killed = BTreeSet::new();
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let now = members();
        if now.is_empty() {
            // A child may have been born of somebody that we killed a moment ago: its record is a moment late.
            quiet += 1;
            if quiet == 3 {
                return Killed { killed: killed.len(), left: 0 };
            }
        } else {
            quiet = 0;
            for signal in [Signal::STOP, Signal::KILL] {
                killed.extend(now.iter().copied().filter(|cookie| send(*cookie, signal) && signal == Signal::KILL));
            }
        }
        std::thread::sleep(BETWEEN);
    }
    Killed { killed: killed.len(), left: members().len() }
}

fn send(cookie: u64, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(tgid_of(cookie) as i32) else { return false };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Looked at after the descriptor was opened: from here on both mean the same process.
    cookie_in_proc(tgid_of(cookie)) == Some(cookie) && pidfd_send_signal(&process, signal).is_ok()
}

/// The cookie of whoever has a process id now.
pub fn cookie_in_proc(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    Some(cookie_of_ticks(ticks, pid))
}
