//! A day of a recorded host while it happens: what changes and attacks have at hand.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};

use super::services::Running;
use super::stage::{Stage, wait_for};

/// What changes and attacks have at hand.
pub struct Day<'a> {
    /// The host.
    pub stage: &'a Stage,
    /// Its services.
    pub running: &'a Running,
    /// Everybody else.
    pub world: &'a World,
    /// Number of the day.
    pub cycle: u32,
    /// Of this day.
    pub seed: u64,
    /// Of the passwords.
    pub host_seed: u64,
}

impl Day<'_> {
    /// A user's password.
    pub fn password(&self, user: &str) -> String {
        format!("{user}-{}", self.host_seed)
    }

    /// A session of a person, to its end.
    pub fn person(&self, user: &str, seed: u64, more: &[&str]) -> anyhow::Result<()> {
        let script = self.stage.scenarios.join("outside/person.py");
        let mut child = self
            .stage
            .outside("python3")
            .arg("-B")
            .arg(script)
            .args([&self.stage.address, user, &self.password(user), &seed.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        wait_for(&mut child, Duration::from_secs(40));
        Ok(())
    }

    /// One request of a customer.
    pub fn customer(&self, path: &str) -> anyhow::Result<()> {
        let url = format!("http://{}{path}", self.stage.address);
        let mut curl = self.stage.outside("curl");
        curl.args(["-s", "-m", "10", "--interface", "192.0.2.5", &url]).stdin(Stdio::null()).stdout(Stdio::null());
        let status = curl.status()?;
        if !status.success() {
            bail!("{url} was not answered: {status}");
        }
        Ok(())
    }

    /// Processes of the host that run a file which no package or service has, or that an attack named otherwise.
    pub fn strangers(&self) -> Vec<u32> {
        let units = ["shop-api.service", "php8.2-fpm.service", "shop-orders.service", "redis-server.service"];
        let pids = units.iter().flat_map(|unit| self.stage.pids(unit));
        pids.filter(|pid| {
            let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            is_strange(&exe)
        })
        .collect()
    }

    /// Puts the customers' pictures back.
    pub fn restore_pictures(&self) -> anyhow::Result<()> {
        let uploads = self.stage.path("/srv/www/uploads");
        let picture = std::fs::read(self.stage.scenarios.join("stage/init.c"))?;
        for number in 1..=120 {
            let path = uploads.join(format!("picture-{number}.jpg"));
            std::fs::write(&path, picture.get(..3000).unwrap_or(&picture))?;
            std::os::unix::fs::chown(&path, Some(33), Some(33)).context("cannot give the pictures back")?;
        }
        Ok(())
    }
}

/// What an attack runs: something below a writable folder, from memory, or a shell or tool that a service would not leave.
fn is_strange(exe: &Path) -> bool {
    let exe = exe.to_string_lossy();
    let below = ["/tmp/", "/var/tmp/", "/srv/", "/memfd:", "/dev/shm/"];
    let tools = ["/usr/bin/dash", "/usr/bin/bash", "/usr/bin/curl", "/usr/bin/openssl", "/usr/bin/tar"];
    below.iter().any(|start| exe.starts_with(start)) || tools.iter().any(|tool| exe.starts_with(tool))
}

/// Customers, monitoring, providers: one process outside the host.
pub struct World {
    child: Mutex<Child>,
    input: Mutex<ChildStdin>,
}

impl World {
    /// Starts it, and a backup host beside it.
    pub fn start(stage: &Stage, seed: u64, base: f64) -> anyhow::Result<Self> {
        let folder = stage.world_folder();
        for module in ["backup", "www"] {
            std::fs::create_dir_all(folder.join(module))?;
        }
        let mut text = "use chroot = no\nuid = root\ngid = root\nread only = no\n".to_owned();
        for module in ["backup", "www"] {
            text.push_str(&format!("[{module}]\npath = {}\n", folder.join(module).display()));
        }
        std::fs::write(folder.join("rsyncd.conf"), text)?;
        let mut backup = stage.outside("rsync");
        backup.args(["--daemon", "--address=203.0.113.20", "--config=rsyncd.conf", "--log-file=rsync.log"]);
        backup.stdin(Stdio::null()).stdout(Stdio::null()).status().context("cannot start the backup host")?;
        let mut child = stage
            .outside("python3")
            .arg("-B")
            .arg(stage.scenarios.join("outside/world.py"))
            .args(["--site", &stage.address, "--seed", &seed.to_string(), "--base", &base.to_string()])
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(folder.join("world.jsonl"))?)
            .spawn()
            .context("cannot start the world outside")?;
        let input = child.stdin.take().context("no input")?;
        Ok(Self { child: Mutex::new(child), input: Mutex::new(input) })
    }

    /// Says something to it: see `datasets/scenarios/outside/world.py`.
    pub fn tell(&self, line: &str) -> anyhow::Result<()> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(input, "{line}").context("the world outside has ended")
    }

    /// Ends it.
    pub fn end(&self) {
        let _ = self.tell("stop");
        wait_for(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner), Duration::from_secs(3));
    }
}
