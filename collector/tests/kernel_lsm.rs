//! Denials that need LSM programs: programs, files, hatches, tampering. Where this kernel refuses such programs (or was booted
//! without `bpf` among its security modules) the tests show that this is *said*, and the rest is left out by name.
//!
//! The binary is its own child: `--child puppet` does what it is told, line by line, and prints the errno.

#[path = "kernel_lsm/puppet.rs"]
mod puppet;
mod support;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use collector::decision::{Decision, DecisionAction, FileId, Target};
use collector::decode::Record;
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector::loader::{Hook, canary, identify, mount_of_cgroup2};
use collector_common::deny::{self, Action, HARDEN_BPF, HARDEN_PTRACE};
use puppet::Puppet;
use support::{Cgroup, Watch};

const EPERM: i32 = 1;
/// What opening /proc/PID/mem says when attaching is refused (mm_access, kernel/fork.c).
const EACCES: i32 = 13;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    canary::act_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        puppet::act();
        return ExitCode::SUCCESS;
    }
    let everywhere: [Test; 1] = [("what_the_canary_disproves_is_off_and_says_so", what_the_canary_disproves_is_off)];
    let with_lsm: [Test; 8] = [
        ("the_canary_proves_every_hook", the_canary_proves_every_hook),
        ("a_tree_starts_no_programs_and_others_do", a_tree_starts_no_programs),
        ("a_fence_lets_known_programs_start", a_fence_lets_known_programs_start),
        ("an_executable_is_denied_in_its_cgroup_only", an_executable_is_denied_in_its_cgroup_only),
        ("a_tree_changes_no_files_but_reads_and_keeps_what_is_open", a_tree_changes_no_files),
        ("isolation_closes_the_hatches_and_no_other_socket", isolation_closes_the_hatches),
        ("a_tree_does_not_tamper", a_tree_does_not_tamper),
        ("switches_harden_all_but_the_protected", switches_harden_all_but_the_protected),
    ];
    let on = support::kernel_tests_are_on();
    let lsm = on && lsm_works();
    if on && !lsm {
        support::skipped("denials by LSM programs: this kernel does not ask them; run `cargo xtask vm`");
    }
    let everywhere = everywhere.map(|(name, test)| (name, false, test));
    support::run_one_by_one(on, everywhere.into_iter().chain(with_lsm.map(|(name, test)| (name, !lsm, test))))
}

/// Found out as the agent does: by the canary.
fn lsm_works() -> bool {
    let mut watch = Watch::new("probe");
    watch.kernel.prove().is_ok_and(|proven| proven > 0)
}

// ---- What the tests need -------------------------------------------------------------------------------------------

struct Guard {
    watch: Watch,
    enforcer: KernelEnforcer,
    place: Place,
}

impl Guard {
    fn new(name: &str) -> Self {
        let watch = Watch::new(name);
        let enforcer = KernelEnforcer::new(KernelMaps::of(&watch.kernel).expect("deny maps"));
        Self { watch, enforcer, place: Place::new(name) }
    }

    fn puppet(&self) -> Puppet {
        Puppet::start(&self.watch.cgroup)
    }

    fn deny(&mut self, target: Target, action: DecisionAction) -> Decision {
        self.deny_but(target, action, Vec::new())
    }

    fn deny_but(&mut self, target: Target, action: DecisionAction, allowed_files: Vec<FileId>) -> Decision {
        let decision = Decision { allowed_files, ..decision(target, action) };
        self.enforcer.apply(std::slice::from_ref(&decision), boot_now()).expect("applied");
        decision
    }

    fn release(&mut self) {
        self.enforcer.apply(&[], boot_now()).expect("released");
    }

    fn denied_record(&self, hook: deny::Hook) -> deny::Deny {
        match self
            .watch
            .wait_for("deny record", |record| matches!(record, Record::Deny(deny) if deny.hook == hook as u8))
        {
            Record::Deny(deny) => *deny,
            _ => unreachable!(),
        }
    }
}

/// A folder of the test's own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stockade-lsm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, "something").expect("a file");
        path.to_string_lossy().into_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// A program of its own: a copy, so that denying it hits nobody else.
    fn program(&self, name: &str) -> String {
        let path = self.0.join(name);
        fs::copy("/proc/self/exe", &path).expect("a copy");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn decision(target: Target, action: DecisionAction) -> Decision {
    Decision { action, ..support::decision(1, target, boot_now() + 60_000_000_000) }
}

fn in_cgroup(cgroup: &Cgroup, file: FileId) -> Target {
    let mount = mount_of_cgroup2().expect("v2");
    let level = cgroup.path.strip_prefix(&mount).expect("below").components().count() as u32;
    Target::CgroupExecutable { id: cgroup.id(), level, path: "/test".into(), file }
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn what_the_canary_disproves_is_off() {
    let mut watch = Watch::new("canary");
    let proven = watch.kernel.prove().expect("the canary sings");
    let rows = || watch.kernel.attached().iter().filter(|done| matches!(done.row.hook, Hook::Lsm(_)));
    if proven == 0 {
        assert!(rows().all(|done| done.off.is_some()), "what was not proven must not be called on");
        assert!(!watch.kernel.denies(Action::Exec) && !watch.kernel.denies(Action::OpenWrite));
        let reason = rows().find_map(|done| done.off.as_deref()).expect("a reason");
        assert!(reason.contains("does not ask") || reason.contains("Operation not permitted"), "{reason}");
    } else {
        assert!(watch.kernel.denies(Action::Exec) && watch.kernel.denies(Action::OpenWrite));
    }
    assert!(watch.kernel.denies(Action::Connect), "network denials do not depend on it");
}

fn the_canary_proves_every_hook() {
    let mut watch = Watch::new("proof");
    watch.kernel.prove().expect("the canary sings");
    // Kernels before 6.2 have no file_truncate.
    let off: Vec<_> = watch
        .kernel
        .attached()
        .iter()
        .filter(|done| matches!(done.row.hook, Hook::Lsm(_)) && done.row.program != "deny_ftruncate")
        .filter_map(|done| Some((done.row.program, done.off.clone()?)))
        .collect();
    assert_eq!(off, []);
}

fn a_tree_starts_no_programs() {
    let mut guard = Guard::new("exec");
    let (mut inside, mut outside) = (guard.puppet(), guard.puppet());
    let program = guard.place.program("tool");
    assert_eq!(inside.errno(&["exec", &program]), 0);
    let target = Target::Tree { cookie: inside.cookie() };
    guard.deny(target, DecisionAction::DenyExec);
    assert_eq!(inside.errno(&["exec", &program]), EPERM);
    assert_eq!(inside.errno(&["exec-memfd", &program]), EPERM, "nor from memory");
    assert_eq!(inside.errno(&["exec-script", &guard.place.path("script")]), EPERM, "nor a script");
    assert_eq!(inside.errno(&["fork-exec", &program]), EPERM, "nor a grandchild");
    assert_eq!(inside.errno(&["thread-exec", &program]), EPERM, "nor from another thread");
    assert_eq!(outside.errno(&["exec", &program]), 0, "nobody else is denied");
    let record = guard.denied_record(deny::Hook::Exec);
    assert_eq!((record.decision, record.action), (1, Action::Exec as u8));
    assert!(record.name.starts_with(b"tool\0"), "the record names the program");
    assert!(guard.enforcer.hits().expect("hits")[&1] >= 5);
    guard.release();
    assert_eq!(inside.errno(&["exec", &program]), 0, "a release is at once");
}

fn a_fence_lets_known_programs_start() {
    let mut guard = Guard::new("fence");
    let mut inside = guard.puppet();
    let (known, new) = (guard.place.program("known"), guard.place.program("new"));
    let allowed = vec![identify(Path::new(&known)).expect("identified")];
    let target = Target::Tree { cookie: inside.cookie() };
    guard.deny_but(target, DecisionAction::Fence, allowed);
    assert_eq!(inside.errno(&["exec", &known]), 0, "the fence has a gate");
    assert_eq!(inside.errno(&["exec", &new]), EPERM);
}

fn an_executable_is_denied_in_its_cgroup_only() {
    let mut guard = Guard::new("exe");
    let (denied, free) = (guard.watch.cgroup.child("denied"), guard.watch.cgroup.child("free"));
    let inner = denied.child("inner");
    let (mut inside, mut deeper, mut outside) = (Puppet::start(&denied), Puppet::start(&inner), Puppet::start(&free));
    let (program, other) = (guard.place.program("denied"), guard.place.program("other"));
    let file = identify(Path::new(&program)).expect("identified");
    guard.deny(in_cgroup(&denied, file), DecisionAction::DenyExec);
    assert_eq!(inside.errno(&["exec", &program]), EPERM);
    assert_eq!(deeper.errno(&["exec", &program]), EPERM, "a delegated child is no way out");
    assert_eq!(inside.errno(&["exec", &other]), 0, "another program starts");
    assert_eq!(outside.errno(&["exec", &program]), 0, "elsewhere it starts");
    assert_eq!(inside.errno(&["move", &inner.path.to_string_lossy()]), 0);
    assert_eq!(inside.errno(&["exec", &program]), EPERM, "moving down does not help");
    // The name is not the file: a copy under the old name is another inode.
    fs::remove_file(&program).expect("removed");
    guard.place.program("denied");
    assert_eq!(inside.errno(&["exec", &program]), 0, "what is denied is the file, not its name");
    drop((inside, deeper, outside));
    drop(inner);
}

fn a_tree_changes_no_files() {
    let mut guard = Guard::new("write");
    let (mut inside, mut outside) = (guard.puppet(), guard.puppet());
    let [a, b, c] = ["a", "b", "c"].map(|name| guard.place.file(name));
    let (new, moved) = (guard.place.path("new"), guard.place.path("moved"));
    assert_eq!(inside.errno(&["hold", &a]), 0);
    guard.deny(Target::Tree { cookie: inside.cookie() }, DecisionAction::DenyOpenWrite);
    for deed in [["open-write", &a], ["create", &new], ["unlink", &b], ["truncate", &c]] {
        assert_eq!(inside.errno(&deed), EPERM, "{deed:?}");
    }
    assert_eq!(inside.errno(&["rename", &b, &moved]), EPERM);
    assert_eq!(inside.errno(&["open-read", &a]), 0, "reading is not denied");
    assert_eq!(inside.errno(&["open-write", "/dev/null"]), 0, "devices are no files");
    assert_eq!(inside.errno(&["write-held"]), 0, "what was open before can be written: the name says so");
    assert_eq!(outside.errno(&["open-write", &a]), 0, "nobody else is denied");
    assert_eq!(outside.errno(&["rename", &b, &moved]), 0);
    let record = guard.denied_record(deny::Hook::Open);
    assert!(record.name.starts_with(b"a\0"), "the record names the file");
    let directory = fs::metadata(&guard.place.0).expect("the folder");
    assert_eq!(record.file.ino, std::os::unix::fs::MetadataExt::ino(&directory), "and its directory");
}

fn isolation_closes_the_hatches() {
    let mut guard = Guard::new("hatch");
    let (mut inside, mut outside) = (guard.puppet(), guard.puppet());
    let (hatch, other) = (guard.place.path("docker.sock"), guard.place.path("app.sock"));
    let _listeners = [&hatch, &other].map(|path| UnixListener::bind(path).expect("a socket"));
    let closed = guard.watch.kernel.watch_hatches([Path::new(&hatch)]).expect("entered");
    assert_eq!(closed, 1);
    assert_eq!(inside.errno(&["unix", &hatch]), 0, "nobody is denied yet");
    guard.deny(Target::Tree { cookie: inside.cookie() }, DecisionAction::Isolate);
    assert_eq!(inside.errno(&["unix", &hatch]), EPERM);
    assert_eq!(inside.errno(&["unix", &other]), 0, "other sockets go on");
    assert_eq!(outside.errno(&["unix", &hatch]), 0);
}

fn a_tree_does_not_tamper() {
    let mut guard = Guard::new("tamper");
    let (mut inside, mut outside) = (guard.puppet(), guard.puppet());
    assert_eq!((inside.errno(&["ptrace"]), inside.errno(&["bpf"])), (0, 0));
    guard.deny(Target::Tree { cookie: inside.cookie() }, DecisionAction::DenyTamper);
    assert_eq!((inside.errno(&["ptrace"]), inside.errno(&["bpf"]), inside.errno(&["module"])), (EACCES, EPERM, EPERM));
    assert_eq!((outside.errno(&["ptrace"]), outside.errno(&["bpf"])), (0, 0));
}

/// The switches are for everybody in scope, which here is the test's own cgroup.
fn switches_harden_all_but_the_protected() {
    let mut guard = Guard::new("harden");
    let (mut one, mut protected) = (guard.puppet(), guard.puppet());
    assert!(guard.watch.kernel.protect(protected.cookie()).expect("the lineage map"));
    guard.watch.kernel.harden(HARDEN_PTRACE | HARDEN_BPF).expect("switched");
    assert_eq!((one.errno(&["ptrace"]), one.errno(&["bpf"])), (EACCES, EPERM));
    assert_eq!((protected.errno(&["ptrace"]), protected.errno(&["bpf"])), (0, 0), "the protected must not be denied");
    let record = guard.denied_record(deny::Hook::Ptrace);
    assert_eq!((record.decision, record.matched), (0, deny::Match::Harden as u8));
    guard.watch.kernel.harden(0).expect("switched");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!((one.errno(&["ptrace"]), one.errno(&["bpf"])), (0, 0));
}
