//! A host with cgroup v1 only: programs that a cgroup would carry are off and said to be, the rest works. Host-wide, so in a
//! guest only; nothing is denied.

mod support;

use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use collector::agent::inbox::Lane;
use collector::decode::{Record, decode};
use collector::loader::{Hook, Kernel, KernelOptions, mount_of_cgroup2};
use collector::ring::{RingSink, Rings};
use collector_common::deny::Action;

fn main() -> ExitCode {
    collector::loader::canary::act_if_asked();
    let on = support::kernel_tests_are_on();
    let elsewhere = std::env::var_os("STOCKADE_GUEST").is_none() || mount_of_cgroup2().is_some();
    if on && elsewhere {
        support::skipped("cgroup v1 alone: this host has a v2 hierarchy (cargo xtask vm 6.12 kernel_v1 --v1)");
    }
    let name = "without_cgroup_v2_calls_and_programs_are_seen_and_no_denial_is_offered";
    support::run_one_by_one(on, [(name, elsewhere, without_cgroup_v2 as fn())])
}

struct Collect(Arc<Mutex<Vec<Record>>>);

impl RingSink for Collect {
    fn take(&mut self, _: Lane, bytes: &[u8]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(decode(bytes));
        true
    }
}

fn without_cgroup_v2() {
    let mut kernel = Kernel::load(&KernelOptions::default()).expect("loaded without a scope");
    for attached in kernel.attached() {
        let told = attached.off.as_deref().unwrap_or_default();
        match attached.row.hook {
            Hook::Tracepoint(_) => assert!(attached.is_covered(), "{} is off: {told}", attached.row.program),
            Hook::Lsm(_) | Hook::Function(_) => {}
            _ if attached.is_covered() => {}
            _ => assert!(told.contains("no cgroup v2 hierarchy is mounted"), "{}: {told}", attached.row.program),
        }
    }
    assert!(!kernel.denies(Action::Connect) && !kernel.denies(Action::Egress), "no network denial is offered");
    let (ctrl, bulk) = kernel.take_rings().expect("two rings");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let rings = Rings::start(ctrl, bulk, Collect(seen.clone())).expect("the ring thread");
    let child = Command::new("/bin/true").status().expect("it starts");
    assert!(child.success());
    let deadline = Instant::now() + Duration::from_secs(30);
    let holds = |wanted: fn(&Record) -> bool| seen.lock().unwrap_or_else(PoisonError::into_inner).iter().any(wanted);
    while !(holds(|record| matches!(record, Record::Exec(_))) && holds(|record| matches!(record, Record::Window(_)))) {
        assert!(Instant::now() < deadline, "no exec and no window within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    rings.finish();
}
