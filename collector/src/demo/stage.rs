//! The demo's stage: a folder, two cgroups and a network namespace of its own, and their complete removal.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::shop::{ATTACKER_WEB, DATABASE, Layout, PROGRAMS, SITE};

/// Everything that exists only for this run.
pub struct Stage {
    /// Folders.
    pub layout: Layout,
    /// Path of the cgroup that the agent is confined to; nothing outside it can be denied.
    pub watched: PathBuf,
    top: PathBuf,
    namespace: String,
    children: Vec<Child>,
    dismantled: bool,
}

/// In which part of the stage a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The workload that is learnt and attacked.
    Web,
    /// The database, a workload of its own.
    Database,
    /// Outside the watched cgroup: the public and the attacker.
    Public,
}

impl Stage {
    /// Builds the stage below the given cgroup v2 mount.
    pub fn build(cgroup_mount: &Path) -> anyhow::Result<Self> {
        let id = std::process::id();
        let root = std::env::temp_dir().join(format!("stockade-demo-{id}"));
        let top = cgroup_mount.join(format!("stockade-demo-{id}"));
        let mut stage = Self {
            layout: Layout { root },
            watched: top.join("shop"),
            top,
            namespace: format!("stockade-demo-{id}"),
            children: Vec::new(),
            dismantled: false,
        };
        stage.make_folders()?;
        for place in [Place::Web, Place::Database, Place::Public] {
            let cgroup = stage.cgroup(place);
            fs::create_dir_all(&cgroup).with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
        }
        stage.make_namespace()?;
        Ok(stage)
    }

    /// The cgroup of a place.
    pub fn cgroup(&self, place: Place) -> PathBuf {
        match place {
            Place::Web => self.watched.join("shop-web.service"),
            Place::Database => self.watched.join("shop-db.service"),
            Place::Public => self.top.join("public"),
        }
    }

    /// Starts a program of the shop in its place.
    pub fn start(&mut self, program: &str, place: Place) -> anyhow::Result<u32> {
        let child = self
            .command(place, self.layout.bin(program).as_os_str())
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = child.id();
        self.children.push(child);
        Ok(pid)
    }

    /// Prepares a program of the machine to run in the network namespace, as one of the public.
    pub fn as_public(&self, program: &str) -> Command {
        self.command(Place::Public, OsStr::new(program))
    }

    fn command(&self, place: Place, program: &OsStr) -> Command {
        let mut command = Command::new(self.layout.bin("shop-start"));
        command.arg(self.cgroup(place)).arg(self.namespace_file()).arg(program);
        command
    }

    fn namespace_file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }

    fn make_folders(&mut self) -> anyhow::Result<()> {
        for folder in ["bin", "log", "htdocs/upload", "state"] {
            let path = self.layout.root.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        fs::write(self.layout.htdocs().join("index.html"), "<h1>shop</h1>\n")?;
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        for program in PROGRAMS {
            fs::copy(&own, self.layout.bin(program)).with_context(|| format!("cannot copy {program}"))?;
        }
        Ok(())
    }

    fn make_namespace(&self) -> anyhow::Result<()> {
        ip(&["netns", "add", &self.namespace])?;
        ip(&["-n", &self.namespace, "link", "set", "lo", "up"])?;
        for address in [SITE, DATABASE, ATTACKER_WEB] {
            ip(&["-n", &self.namespace, "address", "add", &format!("{}/32", address.ip()), "dev", "lo"])?;
        }
        Ok(())
    }

    /// Ends every process of the stage and removes everything. Returns what is left, which should be nothing.
    pub fn dismantle(&mut self) -> Vec<String> {
        self.dismantled = true;
        let _ = fs::write(self.top.join("cgroup.kill"), "1");
        for child in &mut self.children {
            let _ = child.wait();
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        let cgroups = [
            self.cgroup(Place::Web),
            self.cgroup(Place::Database),
            self.cgroup(Place::Public),
            self.watched.clone(),
            self.top.clone(),
        ];
        for cgroup in &cgroups {
            while cgroup.exists() && fs::remove_dir(cgroup).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = ip(&["netns", "delete", &self.namespace]);
        let _ = fs::remove_dir_all(&self.layout.root);
        [&self.top, &self.layout.root, &self.namespace_file()]
            .into_iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.dismantled {
            self.dismantle();
        }
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .with_context(|| format!("cannot run `ip {}`: the demo needs iproute2", args.join(" ")))?;
    if !output.status.success() {
        bail!("`ip {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
