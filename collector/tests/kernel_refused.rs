//! What a host may refuse, and what the command line says then: capabilities, a BPF file system, memory, a kernel that is
//! locked down. Whole commands; what they are allowed is taken from them before they start.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use collector::loader::{Pins, mount_of_cgroup2, own_programs, privilege};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;
use support::{Cgroup, slowness};
use tempfile::TempDir;

fn main() -> ExitCode {
    collector::loader::canary::act_if_asked();
    let on = support::kernel_tests_are_on();
    let locked = privilege::is_confidential() == Some(true);
    let lacks_memory_limits = Limit::new(1 << 20).is_none();
    if on && locked {
        support::skipped("what a kernel refuses that is not locked down: this one is");
    }
    if on && !locked {
        support::skipped(
            "a kernel locked down for confidentiality: this one is not (cargo xtask vm 6.12 kernel_refused --lockdown)",
        );
    }
    let cannot_freeze = !Disk::can_be_frozen();
    if on && cannot_freeze {
        support::skipped("a disk that hangs: no fsfreeze, mkfs.ext4 or loop device");
    }
    if on && lacks_memory_limits {
        support::skipped("memory that is refused: no memory controller to limit it with");
    }
    support::run_one_by_one(
        on,
        [
            ("without_a_capability_nothing_is_loaded_and_its_name_is_said", locked, without_a_capability as fn()),
            ("with_the_capabilities_that_the_remedy_names_the_agent_runs", locked, with_those_capabilities),
            ("in_a_pid_namespace_of_its_own_nothing_is_loaded", locked, in_a_pid_namespace_of_its_own),
            ("without_a_bpf_file_system_the_agent_says_where_it_looked", locked, without_a_bpf_file_system),
            (
                "memory_that_is_not_given_is_said_with_the_setting",
                locked || lacks_memory_limits,
                memory_that_is_not_given,
            ),
            ("a_second_agent_is_refused_and_the_first_goes_on", locked, a_second_agent_is_refused),
            ("a_start_that_comes_to_nothing_leaves_nothing", locked, a_start_that_comes_to_nothing),
            ("an_agent_whose_disk_hangs_blocks_nobody", locked || cannot_freeze, an_agent_whose_disk_hangs),
            ("a_kernel_that_may_not_be_read_is_said_to_be_locked_down", !locked, a_kernel_that_may_not_be_read),
        ],
    )
}

// ---- What the tests need -------------------------------------------------------------------------------------------

/// An agent's own cgroup, BPF file system, state and socket.
struct Place {
    cgroup: Cgroup,
    folder: TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
        let place = Self { cgroup: Cgroup::new(name), folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(place.bpffs()).expect("a folder");
        place.configure("");
        place
    }

    /// Mounts what the pins need.
    fn with_bpffs(self) -> Self {
        rustix::mount::mount("bpf", self.bpffs(), "bpf", rustix::mount::MountFlags::empty(), None).expect("mounted");
        self
    }

    fn bpffs(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn configure(&self, kernel: &str) {
        let (folder, scope) = (self.folder.path().display(), self.cgroup.path.display());
        let text = format!(
            "[agent]\nstate_dir = '{folder}/state'\nsocket = '{folder}/socket'\n\
             [scope]\ncgroup = '{scope}'\n[kernel]\nbpffs = '{folder}/bpf'\n{kernel}\n"
        );
        fs::write(self.config(), text).expect("a configuration");
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("stockade.toml")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(agent());
        command.args(args).arg("--config").arg(self.config());
        command
    }

    fn pinned(&self) -> Vec<String> {
        Pins::at(&self.bpffs()).names()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.bpffs(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// The binary; a guest has it beside the tests.
fn agent() -> PathBuf {
    let beside = std::env::current_exe().expect("own path").with_file_name("stockade");
    if beside.exists() { beside } else { env!("CARGO_BIN_EXE_stockade").into() }
}

struct Ended {
    /// `None` = a signal ended it.
    code: Option<i32>,
    out: String,
    err: String,
}

/// An agent that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs to the end, which must come soon.
fn ended(command: &mut Command) -> Ended {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    // One that starts although it should not is ended, and the test fails by what it said.
    let guard = std::thread::spawn(move || {
        if waiting.recv_timeout(Duration::from_secs(60 * slowness())).is_err() {
            signal(pid, Signal::TERM);
        }
    });
    let output = child.wait_with_output().expect("it ends");
    drop(done);
    guard.join().expect("the guard");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    let _ = kill_process(pid, signal);
}

/// Takes capabilities from what is started in `start`: a thread's bounding set is what exec gives to root.
fn without<T: Send>(taken: CapabilitySet, start: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for capability in taken.iter() {
                // One that this kernel does not know, or that is gone already, cannot be held either.
                let _ = remove_capability_from_bounding_set(capability);
            }
            start()
        });
        thread.join().expect("the thread")
    })
}

fn doctor(command: &mut Command) -> Vec<Value> {
    let ended = ended(command);
    let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.err));
    report["items"].as_array().expect("items").clone()
}

fn failures(items: &[Value]) -> Vec<String> {
    let failed = items.iter().filter(|item| item["level"] == "fail");
    failed.map(|item| format!("{}: {}; fix: {}", item["area"], item["text"], item["fix"])).collect()
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn without_a_capability() {
    let place = Place::new("capability").with_bpffs();
    let before = own_programs();
    for (name, flag) in [
        ("CAP_BPF", CapabilitySet::BPF),
        ("CAP_PERFMON", CapabilitySet::PERFMON),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ] {
        // Which would stand in for any of them.
        let taken = flag | CapabilitySet::SYS_ADMIN;
        let run = without(taken, || ended(&mut place.command(&["run"])));
        assert_eq!(run.code, Some(5), "{name} is not held: {}", run.err);
        assert!(run.err.contains(&format!("without {name}; nothing was loaded")), "{}", run.err);
        assert!(run.err.contains("AmbientCapabilities=CAP_BPF CAP_PERFMON"), "the remedy: {}", run.err);
        let items = without(taken, || doctor(&mut place.command(&["doctor", "-o", "json"])));
        let failed = failures(&items);
        assert!(failed.len() == 1 && failed[0].contains(&format!("no {name}")), "{name}: {failed:?}");
    }
    nothing_is_left(&place, before);
}

/// The kernel lets go of programs a moment after the last that held them: those of a test before this one, too.
fn nothing_is_left(place: &Place, before: usize) {
    assert_eq!(place.pinned(), [""; 0]);
    let deadline = Instant::now() + Duration::from_secs(5 * slowness());
    while own_programs() > before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(own_programs() <= before, "{} programs, {before} before", own_programs());
}

fn with_those_capabilities() {
    let place = Place::new("capabilities").with_bpffs();
    let named = CapabilitySet::BPF
        | CapabilitySet::PERFMON
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::SYS_PTRACE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::KILL;
    let items = without(CapabilitySet::all() - named, || doctor(&mut place.command(&["doctor", "-o", "json"])));
    assert_eq!(failures(&items), [""; 0], "and CAP_SYS_ADMIN is not among them");
    let lost = |item: &&Value| item["text"] == "no CAP_SYS_ADMIN" && item["level"] == "off";
    assert!(items.iter().find(lost).is_some(), "what is lost without it is said: {items:?}");

    // The state directory and the cgroup belong to root, who lacks the right to pass over permissions now.
    let mut agent = without(CapabilitySet::all() - named, || {
        place.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    });
    let runs = appears(&place.socket(), &mut agent);
    signal(agent.id(), Signal::TERM);
    let output = agent.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(runs, "it runs: {said}");
    assert_eq!(
        (output.status.signal(), output.status.code()),
        (None, Some(0)),
        "and ends with a ledger that closes: {said}"
    );
}

fn appears(path: &Path, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30 * slowness());
    while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
        if path.exists() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn in_a_pid_namespace_of_its_own() {
    let place = Place::new("namespace").with_bpffs();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(agent()).args(["run", "--config"]).arg(place.config());
    let run = ended(&mut command);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("pid namespace") && run.err.contains("--pid=host"), "{}", run.err);
    assert_eq!(place.pinned(), [""; 0]);
}

fn without_a_bpf_file_system() {
    let place = Place::new("no-bpffs");
    // Who may mount one does; who may not says so.
    let run = without(CapabilitySet::SYS_ADMIN, || ended(&mut place.command(&["run"])));
    assert_eq!(run.code, Some(5), "{}", run.err);
    let says = |text: &str| assert!(run.err.contains(text), "{text} is not in: {}", run.err);
    says(&format!("no BPF file system at {}", place.bpffs().display()));
    says("none can be mounted there");
    says("kernel.bpffs");
}

fn a_second_agent_is_refused() {
    // Its BPF file system is not mounted yet: the first agent does.
    let place = Place::new("second");
    let mut first =
        Running(place.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    assert!(appears(&place.socket(), &mut first.0), "the first one runs");
    let pinned = place.pinned();
    let again = ended(&mut place.command(&["run"]));
    assert_eq!(again.code, Some(1), "{}", again.err);
    assert!(again.err.contains(&format!("another agent (pid {})", first.0.id())), "{}", again.err);
    // By another directory it would take over what is pinned all the same.
    let text = fs::read_to_string(place.config()).expect("a configuration");
    fs::write(place.config(), text.replace("/state'", "/state2'").replace("/socket'", "/socket2'")).expect("written");
    let beside = ended(&mut place.command(&["run"]));
    assert!(beside.err.contains("another agent uses") && beside.err.contains("bpf"), "{}", beside.err);
    fs::write(place.config(), text).expect("written");

    assert_eq!(place.pinned(), pinned, "what the first one pinned stays");
    let status = ended(&mut place.command(&["status"]));
    assert!(status.err.is_empty() && status.out.contains("untrained"), "and it answers: {}{}", status.out, status.err);
    signal(first.0.id(), Signal::TERM);
    assert!(first.0.wait().expect("it ends").success());
    assert_eq!(place.pinned(), [""; 0]);
}

fn a_start_that_comes_to_nothing() {
    let place = Place::new("nothing").with_bpffs();
    let before = own_programs();
    fs::create_dir_all(place.folder.path().join("state/stockade.db")).expect("a folder in the way");
    let run = ended(&mut place.command(&["run"]));
    assert_eq!(run.code, Some(1), "{}", run.err);
    nothing_is_left(&place, before);
}

/// A disk in a file, which can be made to hang.
struct Disk {
    at: PathBuf,
    frozen: bool,
}

impl Disk {
    fn can_be_frozen() -> bool {
        let there = |program: &str| Command::new(program).arg("-V").stderr(Stdio::null()).output().is_ok();
        there("fsfreeze") && there("mkfs.ext4") && Path::new("/dev/loop-control").exists()
    }

    fn mounted(image: &Path, at: PathBuf) -> Self {
        fs::create_dir_all(&at).expect("a folder");
        fs::File::create(image).and_then(|file| file.set_len(64 << 20)).expect("an image");
        support::run(Command::new("mkfs.ext4").arg("-q").arg(image));
        support::run(Command::new("mount").args(["-o", "loop"]).args([image, &at]));
        Self { at, frozen: false }
    }

    /// From now on who writes waits, or no longer.
    fn freeze(&mut self, frozen: bool) {
        support::run(Command::new("fsfreeze").arg(if frozen { "-f" } else { "-u" }).arg(&self.at));
        self.frozen = frozen;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.frozen {
            let _ = Command::new("fsfreeze").arg("-u").arg(&self.at).status();
        }
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

fn an_agent_whose_disk_hangs() {
    let place = Place::new("disk").with_bpffs();
    let mut disk = Disk::mounted(&place.folder.path().join("image"), place.folder.path().join("state"));
    let mut agent =
        Running(place.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    assert!(appears(&place.socket(), &mut agent.0), "it runs");
    let sleeper = Running(place.cgroup.command("sleep").arg("600").spawn().expect("it starts"));
    support::pause(300);
    disk.freeze(true);
    // A decision is written down before it is in force: now the agent waits for its disk.
    let tree = sleeper.0.id().to_string();
    let mut waits = place.command(&["decisions", "add", "--tree", &tree, "--for", "1m", "--reason", "test"]);
    let mut asker = Running(waits.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(asker.0.try_wait().expect("a child").is_none(), "the agent does not answer");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port().to_string();
    let began = Instant::now();
    for _ in 0..20 {
        let script = "exec 3<>/dev/tcp/127.0.0.1/$0 && /bin/true && echo x > /dev/null";
        support::run(place.cgroup.command("bash").args(["-c", script, &port]));
    }
    assert!(began.elapsed() < Duration::from_secs(5 * slowness()), "nobody waits for it: {:?}", began.elapsed());
    assert!(asker.0.try_wait().expect("a child").is_none(), "although it stands still all the while");

    disk.freeze(false);
    asker.0.wait().expect("an answer");
    signal(agent.0.id(), Signal::TERM);
    let ended = agent.0.wait().expect("it ends");
    assert!(ended.success(), "and its ledger closes: {ended}");
}

/// A limit on memory for what joins it.
struct Limit(PathBuf);

impl Limit {
    /// `None` where memory cannot be limited.
    fn new(bytes: u64) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (parent, file) = if v1.exists() {
            (v1.to_path_buf(), "memory.limit_in_bytes")
        } else {
            let root = mount_of_cgroup2()?;
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
            (root, "memory.max")
        };
        let limit = Self(parent.join(format!("stockade-test-{}-{bytes}", std::process::id())));
        fs::create_dir(&limit.0).ok()?;
        fs::write(limit.0.join(file), bytes.to_string()).ok()?;
        Some(limit)
    }

    fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 0 > \"$0/cgroup.procs\"; exec \"$@\""]).arg(&self.0);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn memory_that_is_not_given() {
    let place = Place::new("memory").with_bpffs();
    place.configure("bulk_bytes = 268435456");
    let before = own_programs();
    let limit = Limit::new(160 << 20).expect("a limit");
    let run = ended(&mut limit.command(&place.command(&["run"])));
    assert_eq!(run.code, Some(1), "it ends by itself: {}", run.err);
    let says = |text: &str| assert!(run.err.contains(text), "{text} is not in: {}", run.err);
    says("no memory for the map bulk");
    says("kernel.bulk_bytes");
    nothing_is_left(&place, before);
}

fn a_kernel_that_may_not_be_read() {
    let place = Place::new("lockdown").with_bpffs();
    let run = ended(&mut place.command(&["run"]));
    assert_eq!(run.code, Some(1), "an agent that is half blind does not start: {}", run.err);
    let says = |text: &str| assert!(run.err.contains(text), "{text} is not in: {}", run.err);
    says("the kernel refused the program exec");
    says("boot without lockdown=confidentiality");
    assert_eq!(place.pinned(), [""; 0], "nothing is left");

    let failed = failures(&doctor(&mut place.command(&["doctor", "-o", "json"])));
    let told = |area: &str| {
        failed.iter().any(|line| line.starts_with(&format!("\"{area}\"")) && line.contains("lockdown=confidentiality"))
    };
    assert!(told("lockdown") && told("exec"), "{failed:#?}");
}
