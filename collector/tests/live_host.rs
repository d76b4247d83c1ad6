//! Enrichment on this host: a child process in a cgroup of its own, found by cgroup id and by pid.
//!
//! Needs root and a v2 hierarchy; without them it says so and checks nothing. Touches only a cgroup and a process of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use collector::decode::Record;
use collector::enrich::Enricher;
use collector::enrich::cgroup::unified_mount;
use collector::enrich::clock::Clock;
use collector::enrich::surroundings::{Live, Surroundings};
use collector_common::header::{cookie_of_ticks, tgid_of};
use collector_common::syscall::Window;
use collector_common::{ABI, Header, Kind};

#[path = "support/skip.rs"]
mod skip;

/// A cgroup with one process; both go when it is dropped.
struct Place {
    cgroup: PathBuf,
    child: Child,
}

impl Place {
    fn new(mount: &Path, name: &str) -> Option<Self> {
        let cgroup = mount.join(format!("stockade-test-{name}-{}", std::process::id())).join(name);
        fs::create_dir_all(&cgroup).ok()?;
        let child = Command::new("/bin/sleep").arg("60").stdin(Stdio::null()).spawn().ok()?;
        let place = Self { cgroup, child };
        fs::write(place.cgroup.join("cgroup.procs"), place.child.id().to_string()).ok()?;
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The kernel lets go of a cgroup a moment after its last process.
        for _ in 0..100 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        if let Some(parent) = self.cgroup.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

fn place(name: &str) -> Option<(Place, PathBuf)> {
    let mount = unified_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?)?;
    Some((Place::new(&mount, name)?, mount))
}

#[test]
fn a_child_in_its_own_cgroup_has_its_path_and_its_workload() {
    let Some((place, mount)) = place("nginx@a.service") else {
        skip::skipped("tests on the live host: they need root and a cgroup v2 hierarchy");
        return;
    };
    let pid = place.child.id();
    let id = fs::metadata(&place.cgroup).unwrap().ino();
    let path = format!("/{}", place.cgroup.strip_prefix(&mount).unwrap().display());
    assert_eq!(Live::new().cgroup_path(id, pid).as_deref(), Some(&*path), "by the process's own word");
    assert_eq!(Live::new().cgroup_path(id, 0).as_deref(), Some(&*path), "by walking");

    let all = Live::new().take_in();
    let at = |pid: u32| all.iter().position(|exec| tgid_of(exec.header.cookie) == pid);
    let (child, me) = (at(pid).unwrap(), at(std::process::id()).unwrap());
    assert!(me < child, "parents come first");
    assert_eq!((all[child].cgroup, all[child].parent), (id, all[me].header.cookie));

    let mut enricher = Enricher::new(Clock::real(0, 0), Live::new());
    for exec in &all {
        assert_eq!(enricher.enrich(&Record::Exec(Box::new(*exec))), None);
    }
    let process = enricher.table().by_pid(pid).unwrap();
    assert_eq!(&*process.workload, "unit:nginx@.service");
    assert_eq!((&*process.exe, &*process.cmdline), ("/bin/sleep", "/bin/sleep 60"));
    assert_eq!(process.ancestors[0], all[me].header.cookie);
}

#[test]
fn a_window_of_a_process_that_was_missed_finds_it_while_it_lives() {
    let Some((mut place, _mount)) = place("job") else {
        skip::skipped("tests on the live host: they need root and a cgroup v2 hierarchy");
        return;
    };
    let pid = place.child.id();
    let live = Live::new().take_in().into_iter().find(|exec| tgid_of(exec.header.cookie) == pid).unwrap();
    let header = Header {
        kind: Kind::Window as u8,
        abi: ABI,
        len: size_of::<Window>() as u16,
        boot_ns: live.header.boot_ns + 1,
        cookie: live.header.cookie,
        ..Header::default()
    };
    let window = Window { header, exe: live.exe, cgroup: live.cgroup, n: 1, why: 1, ..Window::default() };
    let record = Record::Window(Box::new(window));

    let mut enricher = Enricher::new(Clock::real(0, 0), Live::new());
    let event = enricher.enrich(&record).unwrap();
    assert_eq!((&*event.process.exe, event.process.pid), ("/bin/sleep", pid));
    assert!(event.process.workload.starts_with("cgroup:/stockade-test-"), "{}", event.process.workload);

    place.child.kill().unwrap();
    place.child.wait().unwrap();
    let mut late = Enricher::new(Clock::real(0, 0), Live::new());
    assert_eq!(&*late.enrich(&record).unwrap().process.exe, "?");
    assert_eq!(late.counters().gone, 1);

    let earlier = Window { header: Header { cookie: cookie_of_ticks(1, std::process::id()), ..header }, ..window };
    let stranger = enricher.enrich(&Record::Window(Box::new(earlier))).unwrap();
    assert_eq!(&*stranger.process.exe, "?", "another owner of the pid is not taken for it");
}
