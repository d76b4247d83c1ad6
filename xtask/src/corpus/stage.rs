//! A recorded host: cgroups, two network namespaces, an overlay over the root, and a pid 1; and their complete removal.
//!
//! Nothing of the machine is written to: what the host's processes write is in a temporary file system, and they reach
//! nobody but the namespace at the other end of their veth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::init::Init;
use crate::{must, told};

/// Addresses of the world outside: customers, monitoring, the enemy, providers.
const OUTSIDE: [&str; 9] = [
    "192.0.2.200/32",
    "192.0.2.201/32",
    "198.51.100.7/32",
    "203.0.113.10/32",
    "203.0.113.20/32",
    "203.0.113.30/32",
    "203.0.113.40/32",
    "203.0.113.50/32",
    "203.0.113.60/32",
];
const CUSTOMERS: std::ops::Range<u8> = 2..22;

/// Everything that exists only while a host is recorded.
pub struct Stage {
    /// Name of the host.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its pid 1.
    pub init: Init,
    /// The cgroup that is recorded.
    pub watched: PathBuf,
    /// Where the sources of the scenarios are.
    pub scenarios: PathBuf,
    folder: PathBuf,
    others: PathBuf,
    veth: String,
}

impl Stage {
    /// Builds the host `name`, which is the `number`th on this machine, from the scenarios.
    pub fn build(root: &Path, name: &str, number: u8, seed: u64) -> anyhow::Result<Self> {
        let cgroups = told(Command::new("findmnt").args(["-nro", "TARGET", "-t", "cgroup2"]))
            .and_then(|mounts| mounts.lines().next().map(PathBuf::from))
            .context("no cgroup v2 hierarchy is mounted")?;
        let watched = cgroups.join("stockade-corpus").join(name);
        let others = cgroups.join("stockade-corpus-outside").join(name);
        let folder = PathBuf::from("/dev/shm/stockade-corpus").join(name);
        let events = fs::read_to_string(watched.join("cgroup.events")).unwrap_or_default();
        if events.contains("populated 1") {
            bail!("{name} is being recorded: processes run in {}", watched.display());
        }
        let veth = format!("sc{number}");
        let stage = Self::raise(root, name, number, seed, (&watched, &others, &folder, &veth));
        if stage.is_err() {
            remove(name, &veth, &[watched, others], &folder);
        }
        stage
    }

    fn raise(
        root: &Path,
        name: &str,
        number: u8,
        seed: u64,
        (watched, others, folder, veth): (&PathBuf, &PathBuf, &PathBuf, &String),
    ) -> anyhow::Result<Self> {
        // What an earlier run left that was killed.
        remove(name, veth, &[watched.clone(), others.clone()], folder);
        for unit in ["init.scope", "system.slice", "user.slice"] {
            make_folder(&watched.join(unit))?;
        }
        make_folder(others)?;
        for part in ["upper/usr/lib/systemd", "work", "root", "world"] {
            make_folder(&folder.join(part))?;
        }
        let scenarios = root.join("datasets/scenarios");
        let address = format!("10.20.{number}.10");
        make_network(name, veth, number)?;
        compile(&scenarios.join("stage/init.c"), &folder.join("upper/usr/lib/systemd/systemd"), &[])?;
        fs::copy(folder.join("upper/usr/lib/systemd/systemd"), folder.join("init"))?;
        let netns = PathBuf::from("/run/netns").join(inside(name));
        let init = Init::start(&folder.join("init"), name, &netns, watched, folder)?;
        let stage = Self {
            name: name.to_owned(),
            address,
            init,
            watched: watched.clone(),
            scenarios,
            folder: folder.clone(),
            others: others.clone(),
            veth: veth.clone(),
        };
        stage.prepare(seed)?;
        Ok(stage)
    }

    /// Writes what the host's services find on their disk.
    fn prepare(&self, seed: u64) -> anyhow::Result<()> {
        let copy = self.path("/opt/scenarios");
        must(Command::new("cp").arg("-rL").arg(&self.scenarios).arg(&copy))?;
        make_folder(&self.watched.join("system.slice/setup.service"))?;
        let script = format!("/opt/scenarios/stage/setup.sh /opt/scenarios {} {seed} {}", self.address, self.name);
        let argv: Vec<&str> = ["/bin/sh"].into_iter().chain(script.split(' ')).collect();
        let status = self.init.run("system.slice/setup.service", "root", &argv, Duration::from_secs(180))?;
        fs::remove_dir_all(copy)?;
        if status != 0 {
            let log = fs::read_to_string(self.path("/var/log/setup.service.log")).unwrap_or_default();
            bail!("the host could not be prepared (status {status}): {log}");
        }
        Ok(())
    }

    /// A file of the host, as seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init.pid())).join(path.trim_start_matches('/'))
    }

    /// A folder for what the world outside keeps.
    pub fn world_folder(&self) -> PathBuf {
        self.folder.join("world")
    }

    /// Makes the cgroup of a unit, if it is not there.
    pub fn unit(&self, unit: &str) -> anyhow::Result<String> {
        let relative = format!("system.slice/{unit}");
        make_folder(&self.watched.join(&relative))?;
        Ok(relative)
    }

    /// Pids of this machine in a unit's cgroup.
    pub fn pids(&self, unit: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.watched.join("system.slice").join(unit).join("cgroup.procs"));
        text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// A program in the world outside, in a cgroup of its own so that it can be ended for sure.
    pub fn outside(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let join = format!(
            "echo 0 > {}/cgroup.procs && exec ip netns exec {} \"$@\"",
            self.others.display(),
            outside(&self.name)
        );
        command.args(["-c", &join, "outside", program]).current_dir(self.world_folder()).stderr(Stdio::null());
        command
    }

    /// Ends every process of the host and of its outside, and removes everything. Returns what is left.
    pub fn dismantle(mut self) -> Vec<String> {
        for top in [&self.watched, &self.others] {
            let _ = fs::write(top.join("cgroup.kill"), "1");
        }
        self.init.end();
        remove(&self.name, &self.veth, &[self.watched, self.others], &self.folder)
    }
}

/// Removes everything of a host that is there. Returns what is left.
fn remove(name: &str, veth: &str, cgroups: &[PathBuf], folder: &Path) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    for top in cgroups {
        let _ = fs::write(top.join("cgroup.kill"), "1");
        while top.exists() && Instant::now() < deadline {
            remove_cgroups(top);
            std::thread::sleep(Duration::from_millis(50));
        }
        // The directory of all hosts goes with the last of them.
        let _ = top.parent().map(fs::remove_dir);
    }
    let quiet = |line: String| Command::new("ip").args(line.split(' ')).stderr(Stdio::null()).status();
    let _ = quiet(format!("-n {} link delete {veth}", inside(name)));
    for namespace in [inside(name), outside(name)] {
        let _ = quiet(format!("netns delete {namespace}"));
    }
    let _ = fs::remove_dir_all(folder);
    let _ = folder.parent().map(fs::remove_dir);
    let left = cgroups.iter().map(PathBuf::as_path).chain([folder]);
    left.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

/// Compiles one C file.
pub fn compile(source: &Path, target: &Path, flags: &[&str]) -> anyhow::Result<()> {
    must(Command::new("gcc").args(["-O1", "-o"]).arg(target).arg(source).args(flags))
        .with_context(|| format!("cannot compile {}", source.display()))
}

/// Waits for a child for so long; then ends it.
pub fn wait_for(child: &mut Child, patience: Duration) {
    let deadline = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn make_network(name: &str, veth: &str, number: u8) -> anyhow::Result<()> {
    let (inside, outside) = (inside(name), outside(name));
    let peer = format!("{veth}w");
    let ip = |line: String| must(Command::new("ip").args(line.split(' ')));
    ip(format!("netns add {inside}"))?;
    ip(format!("netns add {outside}"))?;
    ip(format!("link add {veth} netns {inside} type veth peer name {peer} netns {outside}"))?;
    ip(format!("-n {inside} address add 10.20.{number}.10/24 dev {veth}"))?;
    ip(format!("-n {outside} address add 10.20.{number}.1/24 dev {peer}"))?;
    for (namespace, device) in [(&inside, "lo"), (&outside, "lo"), (&inside, veth), (&outside, peer.as_str())] {
        ip(format!("-n {namespace} link set {device} up"))?;
    }
    ip(format!("-n {inside} route add default via 10.20.{number}.1"))?;
    let customers = CUSTOMERS.map(|number| format!("192.0.2.{number}/32"));
    for address in OUTSIDE.iter().map(|address| (*address).to_owned()).chain(customers) {
        ip(format!("-n {outside} address add {address} dev lo"))?;
    }
    Ok(())
}

fn inside(name: &str) -> String {
    format!("stockade-{name}")
}

fn outside(name: &str) -> String {
    format!("stockade-{name}-world")
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

fn remove_cgroups(top: &Path) {
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(top);
}
