//! What Stockade costs applications: redis-benchmark, nginx under wrk, pgbench, a C build; each alone, with the whole agent
//! watching it, and beside it what a user would otherwise try: bpftrace counting syscalls, and strace -c --seccomp-bpf.
//!
//! In turns within each round; what counts is the ratio to the run alone. The agent runs on the same processors. A word after
//! `--` chooses an application by its name.

#[path = "applications/apps.rs"]
mod apps;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use apps::App;
use collector::config::Config;
use collector::loader::mount_of_cgroup2;

const ROUNDS: usize = 3;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Watcher {
    Nobody,
    Stockade,
    Bpftrace,
    Strace,
}

impl Watcher {
    const ALL: [Self; 4] = [Self::Nobody, Self::Stockade, Self::Bpftrace, Self::Strace];

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Stockade => "stockade",
            Self::Bpftrace => "bpftrace count",
            Self::Strace => "strace -c",
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Nobody | Self::Stockade => None,
            Self::Bpftrace => Some("bpftrace"),
            Self::Strace => Some("strace"),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mount = mount_of_cgroup2().context("no cgroup v2 hierarchy is mounted")?;
    let place = Place::new(&mount)?;
    let is_there = |program: &str| Command::new("which").arg(program).output().is_ok_and(|told| told.status.success());
    let watchers: Vec<Watcher> =
        Watcher::ALL.into_iter().filter(|watcher| watcher.program().is_none_or(is_there)).collect();
    for absent in Watcher::ALL.into_iter().filter(|watcher| !watchers.contains(watcher)) {
        println!("skipped: {} is not installed", absent.name());
    }
    println!(
        "| application | alone | {} |",
        watchers[1..].iter().map(|watcher| watcher.name()).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|---|{}", "---|".repeat(watchers.len() - 1));
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with("--")).unwrap_or_default();
    for app in App::ALL.into_iter().filter(|app| app.name().contains(&wanted)) {
        if let Some((program, package)) = app.needs().iter().find(|(program, _)| !is_there(program)) {
            println!("| {} | skipped: no {program} (apt-get install {package}) |", app.name());
            continue;
        }
        match row(&place, app, &watchers) {
            Ok(row) => println!("{row}"),
            Err(error) => println!("| {} | failed: {error:#} |", app.name()),
        }
    }
    Ok(())
}

fn row(place: &Place, app: App, watchers: &[Watcher]) -> anyhow::Result<String> {
    let folder = place.root.join(format!("{app:?}"));
    fs::create_dir_all(&folder)?;
    app.prepare(&folder)?;
    let mut seen: BTreeMap<Watcher, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for watcher in watchers {
            let number = round(place, app, *watcher, &folder).with_context(|| watcher.name())?;
            seen.entry(*watcher).or_default().push(number);
        }
    }
    let mut median = |watcher: &Watcher| {
        let values = seen.get_mut(watcher).map(Vec::as_mut_slice).unwrap_or_default();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let alone = median(&Watcher::Nobody);
    let mut row = format!("| {} | {alone:.1} {} |", app.name(), app.unit());
    for watcher in &watchers[1..] {
        row += &format!(" {:.3} |", median(watcher) / alone);
    }
    Ok(row)
}

fn round(place: &Place, app: App, watcher: Watcher, folder: &Path) -> anyhow::Result<f64> {
    let _agent = match watcher {
        Watcher::Stockade => Some(Ended(place.start_agent()?)),
        Watcher::Bpftrace => Some(Ended(start_bpftrace()?)),
        Watcher::Nobody | Watcher::Strace => None,
    };
    let mut words = app.command(folder);
    if watcher == Watcher::Strace {
        let strace = ["strace", "-f", "-c", "--seccomp-bpf", "-e", "trace=%process,%network", "-o", "/dev/null"];
        words.splice(0..0, strace.map(str::to_owned));
    }
    let script = "echo 0 > \"$0/cgroup.procs\"; exec \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(&place.cgroup).args(&words);
    let complaints = folder.join("stderr");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&complaints)?);
    let mut watched = command.spawn()?;
    let said = |error: anyhow::Error| error.context(fs::read_to_string(&complaints).unwrap_or_default());
    let number = app.measure(&mut watched, folder).map_err(said);
    fs::write(place.cgroup.join("cgroup.kill"), "1")?;
    watched.wait()?;
    while !fs::read_to_string(place.cgroup.join("cgroup.procs"))?.trim().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    app.forget(folder);
    number
}

/// Without tracefs it ends at once, and nothing would be measured.
fn start_bpftrace() -> anyhow::Result<Child> {
    let program = "tracepoint:raw_syscalls:sys_exit { @[comm, args->id] = count(); }";
    let mut child =
        Command::new("bpftrace").args(["-e", program]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_secs(3));
    if child.try_wait()?.is_some() {
        let complaint = std::io::read_to_string(child.stderr.take().context("no output")?)?;
        bail!("bpftrace ended ({}); is tracefs mounted at /sys/kernel/tracing?", complaint.trim());
    }
    Ok(child)
}

/// A child that ends by SIGINT when it goes out of scope: its programs are detached then.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.0.wait();
    }
}

/// A folder, a cgroup and an agent's configuration of the benchmark's own.
struct Place {
    root: PathBuf,
    cgroup: PathBuf,
    config: PathBuf,
    socket: PathBuf,
}

impl Place {
    fn new(mount: &Path) -> anyhow::Result<Self> {
        let name = format!("stockade-bench-{}", std::process::id());
        let (root, cgroup) = (std::env::temp_dir().join(&name), mount.join(&name));
        fs::create_dir_all(root.join("bpf"))?;
        fs::create_dir(&cgroup).context("cannot make a cgroup: run as root")?;
        let mut config = Config::default();
        config.agent.state_dir = root.join("state");
        config.agent.socket = root.join("agent.sock");
        config.scope.cgroup = Some(cgroup.clone());
        config.kernel.bpffs = root.join("bpf");
        config.agent.on_exit = collector::config::OnExit::Release;
        config.policy.test = true;
        let path = root.join("bench.toml");
        fs::write(&path, toml::to_string(&config)?)?;
        Ok(Self { socket: config.agent.socket, root, cgroup, config: path })
    }

    fn start_agent(&self) -> anyhow::Result<Child> {
        let _ = fs::remove_file(&self.socket);
        let log = fs::File::create(self.root.join("agent.log"))?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["run", "--config"])
            .arg(&self.config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            if child.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(20) {
                bail!("the agent did not start: {}", fs::read_to_string(self.root.join("agent.log"))?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(child)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        std::thread::sleep(Duration::from_millis(200));
        let _ = fs::remove_dir(&self.cgroup);
        let disarm =
            Command::new(env!("CARGO_BIN_EXE_stockade")).args(["disarm", "--config"]).arg(&self.config).output();
        drop(disarm);
        let _ = rustix::mount::unmount(self.root.join("bpf"), rustix::mount::UnmountFlags::empty());
        let _ = fs::remove_dir_all(&self.root);
    }
}
