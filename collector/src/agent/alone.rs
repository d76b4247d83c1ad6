//! One agent a state directory and a BPF file system: a second one would take the first one's links over, and remove them when
//! it ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail};

/// File in the state directory that is locked; it holds the agent's pid.
const LOCK: &str = "lock";

/// What this agent has for itself for as long as it lives. The kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Alone {
    locks: Vec<File>,
}

impl Alone {
    /// Claims a state directory, made if it is not there, before anything is loaded.
    ///
    /// # Errors
    ///
    /// When another agent has it, or it cannot be made.
    pub fn in_state(directory: &Path) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(LOCK);
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = opened.with_context(|| format!("cannot open {}", path.display()))?;
        lock(&file, directory, || fs::read_to_string(&path).unwrap_or_default().trim().to_owned())?;
        // Only for whoever reads it: what counts is the lock.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { locks: vec![file] })
    }

    /// Claims a BPF file system too.
    ///
    /// # Errors
    ///
    /// When another agent has it, or it cannot be opened.
    pub fn on_bpffs(&mut self, mount: &Path) -> anyhow::Result<()> {
        let directory = File::open(mount).with_context(|| format!("cannot open {}", mount.display()))?;
        lock(&directory, mount, String::new)?;
        self.locks.push(directory);
        Ok(())
    }
}

fn lock(file: &File, what: &Path, who: impl FnOnce() -> String) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let who = who();
            let pid = if who.is_empty() { String::new() } else { format!(" (pid {who})") };
            bail!(
                "another agent{pid} uses {}: stop it first, or give this one its own agent.state_dir, agent.socket and \
                 kernel.bpffs; nothing was loaded",
                what.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {} against a second agent", what.display()))
        }
    }
}
