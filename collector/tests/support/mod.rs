//! What the tests on the running kernel share: a cgroup of their own, a loaded kernel object confined to it, and everything
//! that came out of the rings.
#![allow(dead_code, reason = "each test binary uses its own part")]

mod skip;

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use skip::skipped;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use collector::agent::inbox::Lane;
use collector::decision::{Author, Decision, DecisionAction, DecisionState, Target};
use collector::decode::{Record, decode};
use collector::ledger::Ledger;
use collector::loader::{Hook, Kernel, KernelOptions, mount_of_cgroup2, privilege};
use collector::ring::{RingSink, Rings};
use collector_common::stats::{Program, Stats};
use libtest_mimic::{Arguments, Failed, Trial};
use model::event::Time;

/// Set when the tests on the kernel are to be left out; whoever sets it says so.
pub const SKIP: &str = "STOCKADE_SKIP_KERNEL_TESTS";

/// Whether the tests on the kernel run here. Prints the reason when they do not.
pub fn kernel_tests_are_on() -> bool {
    if let Some(why) = std::env::var_os(SKIP) {
        skip::skipped(&format!("tests on the kernel: {}", why.to_string_lossy()));
        return false;
    }
    if let Some(obstacle) = privilege::obstacle() {
        skip::skipped(&format!("tests on the kernel: {obstacle}"));
        return false;
    }
    true
}

/// This machine's number of a call that tokens know by x86-64's.
pub fn native(number: u16) -> i64 {
    if cfg!(target_arch = "x86_64") {
        return i64::from(number);
    }
    let known = collector_common::numbers::aarch64::CALLS.iter().find(|(_, token)| *token == number);
    known.map_or(-1, |(here, _)| i64::from(*here))
}

/// How many times longer things may take here than on a machine of one's own: a guest is emulated.
pub fn slowness() -> u64 {
    if std::env::var_os("STOCKADE_GUEST").is_some() { 10 } else { 1 }
}

/// A cgroup that only this test uses; its processes are killed and it is removed at the end.
pub struct Cgroup {
    pub path: PathBuf,
}

impl Cgroup {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mount = mount_of_cgroup2().expect("a cgroup v2 hierarchy");
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = mount.join(format!("stockade-test-{}-{id}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup: these tests need root");
        Self { path }
    }

    /// A cgroup below.
    pub fn child(&self, name: &str) -> Self {
        let path = self.path.join(name);
        fs::create_dir(&path).expect("a child cgroup");
        Self { path }
    }

    pub fn id(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(&self.path).expect("the cgroup"))
    }

    /// Ends every process in it, and waits for the last: what somebody does meanwhile is in no ledger.
    pub fn clear(&self) {
        fs::write(self.path.join("cgroup.kill"), "1").expect("it can be killed");
        let events = self.path.join("cgroup.events");
        while fs::read_to_string(&events).expect("its events").contains("populated 1") {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A command that joins the cgroup and becomes the program, in one process.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 0 > \"$0/cgroup.procs\"; exec \"$@\""]).arg(&self.path).arg(program.as_ref());
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && self.path.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[derive(Default)]
struct Seen {
    records: Vec<(Lane, Record)>,
    ledger: Ledger,
}

struct Collect(Arc<Mutex<Seen>>);

impl RingSink for Collect {
    fn take(&mut self, lane: Lane, bytes: &[u8]) -> bool {
        let mut seen = lock(&self.0);
        match decode(bytes) {
            Ok(record) => {
                seen.ledger.decoded(&record);
                seen.records.push((lane, record));
            }
            Err(reject) => seen.ledger.rejected(&reject, bytes),
        }
        true
    }
}

/// A loaded kernel object, confined to a cgroup, whose records are collected.
pub struct Watch {
    pub cgroup: Cgroup,
    pub kernel: Kernel,
    rings: Option<Rings>,
    seen: Arc<Mutex<Seen>>,
}

/// What came of a watch.
pub struct Outcome {
    pub records: Vec<(Lane, Record)>,
    pub ledger: Ledger,
    pub stats: Vec<(Program, u32, Stats)>,
}

impl Watch {
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub fn with(name: &str, adjust: impl FnOnce(&mut KernelOptions)) -> Self {
        Self::over(Cgroup::new(name), adjust)
    }

    /// Over a cgroup that may have processes already.
    pub fn over(cgroup: Cgroup, adjust: impl FnOnce(&mut KernelOptions)) -> Self {
        let mut options = KernelOptions {
            scope: Some(cgroup.path.clone()),
            cgroup_mount: mount_of_cgroup2(),
            ..KernelOptions::default()
        };
        adjust(&mut options);
        let mut kernel =
            Kernel::load(&options).expect("the kernel object: run `cargo xtask bpf`, and the tests as root");
        for attached in kernel.attached() {
            let may_be_off = matches!(attached.row.hook, Hook::Lsm(_) | Hook::Function(_));
            assert!(attached.is_covered() || may_be_off, "{} is off: {:?}", attached.row.program, attached.off);
        }
        let (ctrl, bulk) = kernel.take_rings().expect("two rings");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let rings = Rings::start(ctrl, bulk, Collect(seen.clone())).expect("the ring thread");
        Self { cgroup, kernel, rings: Some(rings), seen }
    }

    /// Runs this test binary's own child action inside the cgroup.
    pub fn child(&self, action: &str) -> Command {
        let mut command = self.cgroup.command(std::env::current_exe().expect("own path"));
        command.args(["--child", action]).stdin(Stdio::null());
        command
    }

    /// Waits until a record is there.
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&Record) -> bool) -> Record {
        let deadline = Instant::now() + Duration::from_secs(10 * slowness());
        loop {
            if let Some((_, record)) = lock(&self.seen).records.iter().find(|(_, record)| wanted(record)) {
                return record.clone();
            }
            assert!(Instant::now() < deadline, "no {what} within {} s", 10 * slowness());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Everything so far.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.seen).records.iter().map(|(_, record)| record.clone()).collect()
    }

    /// Drains the rings and adds up.
    pub fn finish(mut self) -> Outcome {
        if let Some(rings) = self.rings.take() {
            rings.finish();
        }
        let stats = self.kernel.stats().expect("statistics");
        let mut seen = lock(&self.seen);
        Outcome { records: std::mem::take(&mut seen.records), ledger: std::mem::take(&mut seen.ledger), stats }
    }
}

impl Outcome {
    /// A program's counters, all CPUs together.
    pub fn of(&self, program: Program) -> Stats {
        let mut sum = Stats::default();
        for (_, _, stats) in self.stats.iter().filter(|(of, _, _)| *of == program) {
            sum.attempted += stats.attempted;
            sum.ring_full += stats.ring_full;
            sum.seen += stats.seen;
            sum.recorded += stats.recorded;
            sum.skipped += stats.skipped;
            sum.missed += stats.missed;
            sum.no_storage += stats.no_storage;
            sum.map_full += stats.map_full;
            sum.unattributed += stats.unattributed;
            sum.throttled += stats.throttled;
        }
        sum
    }
}

/// Waits; longer in a guest, where everything takes longer.
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms * slowness()));
}

/// A test on the kernel: its name, whether this kernel lacks what it is about, and what it does.
pub type Case = (&'static str, bool, fn());

/// Runs the tests one after the other: they measure, and the machine's cores are not shared between them. What this kernel
/// lacks is left out, which whoever found it out has said.
pub fn run_one_by_one(on: bool, cases: impl IntoIterator<Item = Case>) -> ExitCode {
    let trial = |(name, lacking, test): Case| {
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        Trial::test(name, run).with_ignored_flag(!on || lacking)
    };
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, cases.into_iter().map(trial).collect()).exit_code()
}

/// A decision by a person that isolates a target until a boot time.
pub fn decision(number: u64, target: Target, until_ns: u64) -> Decision {
    Decision {
        number,
        target,
        action: DecisionAction::Isolate,
        shadow: false,
        allowed: Vec::new(),
        allowed_files: Vec::new(),
        contained: None,
        author: Author::Operator("test".to_owned()),
        finding: None,
        reason: "test".to_owned(),
        workload: None,
        created: Time::default(),
        until: Time { unix_ns: 0, boot_ns: until_ns },
        state: DecisionState::Active,
        ended: None,
        release: None,
        hits: 0,
        breaker: 0,
        test: true,
    }
}

/// Runs to the end; the output must be a success.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("the child starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Ends a child that may still run.
pub fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
