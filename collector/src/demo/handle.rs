//! The demo's agent: a process of its own, spoken to by the same command line that people use.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::decision::Decision;
use crate::finding::Finding;

/// A running `stockade run`.
pub struct Agent {
    child: Child,
    program: PathBuf,
    config: PathBuf,
}

impl Agent {
    /// Starts the agent and waits until it answers.
    pub fn start(config: &Path, log: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = std::fs::File::create(log)?;
        let child = Command::new(&program)
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the agent")?;
        let mut agent = Self { child, program, config: config.to_path_buf() };
        let deadline = Instant::now() + Duration::from_secs(15);
        while agent.command(&["status"]).output()?.status.code() == Some(3) {
            if let Some(status) = agent.child.try_wait()? {
                bail!("the agent ended at its start ({status})");
            }
            if Instant::now() > deadline {
                bail!("the agent did not answer within 15 s");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in MiB.
    pub fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// Text that a command prints for people.
    pub fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.command(args).output()?;
        if !output.status.success() && output.status.code() != Some(1) {
            bail!("`stockade {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a command prints for machines.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let args = [args, &["-o", "json"]].concat();
        let text = self.text(&args)?;
        serde_json::from_str(&text).with_context(|| format!("`stockade {}` printed {text:.200}", args.join(" ")))
    }

    /// All findings.
    pub fn findings(&self) -> anyhow::Result<Vec<Finding>> {
        self.json(&["findings", "list"])
    }

    /// All decisions.
    pub fn decisions(&self) -> anyhow::Result<Vec<Decision>> {
        self.json(&["decisions", "list", "--all"])
    }

    /// kill -9.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// A command of the command line with this agent's configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).arg("--config").arg(&self.config).stdin(Stdio::null());
        command
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}
