//! Containment on the running kernel: freezing, killing, cutting connections. Everything in cgroups that the test makes; all
//! traffic stays on loopback.
//!
//! The binary is its own child: `--child ACTION …`.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use collector::contain::{cut, freeze, kill, processes_in};
use collector::decision::Target;
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector_common::header::tgid_of;
use support::{Cgroup, Watch, end, pause};

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act(&args[1..]);
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let no_diag = on && !shows_connections();
    let tests: [Test; 7] = [
        ("a_frozen_cgroup_stands_still_and_goes_on_when_thawed", a_frozen_cgroup_stands_still),
        ("what_a_dead_agent_froze_is_found_and_thawed", what_a_dead_agent_froze_is_found),
        ("a_tree_that_forks_without_end_is_killed_and_nobody_else", a_tree_that_forks_is_killed),
        ("a_cgroup_is_killed_with_its_children", a_cgroup_is_killed_with_its_children),
        ("an_open_connection_is_cut_at_both_ends", an_open_connection_is_cut),
        ("an_open_connection_of_an_isolated_tree_is_cut_too", an_isolated_connection_is_cut_too),
        ("a_process_id_that_was_given_away_is_not_hit", a_process_id_that_was_given_away_is_not_hit),
    ];
    support::run_one_by_one(
        on,
        tests.map(|(name, test)| (name, no_diag && name.starts_with("an_open_connection"), test)),
    )
}

/// Whether connections can be listed and ended: a kernel may have that as a module (tcp_diag) that is not there.
fn shows_connections() -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let _open = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
    let tried = cut::connections_of([std::process::id()], true);
    if let Some(why) = tried.failed.first() {
        support::skipped(&format!("cutting connections: this kernel does not list them ({why})"));
    }
    tried.failed.is_empty()
}

// ---- The children --------------------------------------------------------------------------------------------------

fn act(args: &[String]) {
    match args[0].as_str() {
        // count FILE: writes a growing number into a file. A file that is written in place is empty for a moment, in which
        // it may be read, or its writer frozen.
        "count" => (0..u64::MAX).for_each(|n| {
            let next = format!("{}.next", args[1]);
            fs::write(&next, n.to_string()).expect("written");
            fs::rename(&next, &args[1]).expect("renamed");
            pause(2);
        }),
        // brood: forty double-forked orphans, and a loop that forks on and on.
        "brood" => brood(),
        // talk ADDRESS: an open connection; prints the error that ends it.
        "talk" => talk(&args[1]),
        "sleep" => sleep(Duration::from_secs(60)),
        other => panic!("no child action {other}"),
    }
}

fn brood() {
    // SAFETY: single-threaded plain code; the children leave by _exit or sleep.
    unsafe {
        for _ in 0..40 {
            if libc::fork() == 0 {
                if libc::fork() == 0 {
                    libc::sleep(60);
                }
                libc::_exit(0);
            }
            libc::wait(std::ptr::null_mut());
        }
        loop {
            // Each generation is forked by the one before: whoever is killed has a child already.
            if libc::fork() != 0 {
                libc::usleep(2_000);
                libc::_exit(0);
            }
        }
    }
}

fn talk(address: &str) {
    let mut stream = TcpStream::connect(address).expect("connected");
    println!("talking");
    let error = stream.read(&mut [0; 16]);
    println!("{}", error.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
}

fn child(cgroup: &Cgroup, args: &[&str]) -> Command {
    let mut command = cgroup.command(std::env::current_exe().expect("own path"));
    command.arg("--child").args(args).stdin(Stdio::null());
    command
}

fn counter(cgroup: &Cgroup, file: &Path) -> Child {
    let child = child(cgroup, &["count", &file.to_string_lossy()]).spawn().expect("a counter");
    let deadline = Instant::now() + Duration::from_secs(10 * support::slowness());
    while !file.exists() || number_in(file) < 3 {
        assert!(Instant::now() < deadline, "the counter does not count");
        pause(5);
    }
    child
}

fn number_in(file: &Path) -> u64 {
    let text = fs::read_to_string(file).expect("the counter's file");
    text.parse().expect("a whole number")
}

fn counts_on(file: &Path) -> bool {
    let before = number_in(file);
    pause(300);
    number_in(file) > before
}

fn cookie_of(child: &Child) -> u64 {
    kill::cookie_in_proc(child.id()).expect("it lives")
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn a_frozen_cgroup_stands_still() {
    let cgroup = Cgroup::new("freeze");
    let file = std::env::temp_dir().join(format!("stockade-freeze-{}", std::process::id()));
    let child = counter(&cgroup, &file);
    freeze::freeze(&cgroup.path, 7).expect("frozen");
    pause(100);
    assert!(!counts_on(&file), "frozen, it counts no further");
    assert!(freeze::thaw(&cgroup.path).expect("thawed"));
    assert!(counts_on(&file), "thawed, it goes on where it was");
    assert!(!freeze::thaw(&cgroup.path).expect("nothing to do"), "what somebody else froze is not ours to thaw");
    end(child);
    let _ = fs::remove_file(file.with_extension("next"));
    let _ = fs::remove_file(file);
}

fn what_a_dead_agent_froze_is_found() {
    let cgroup = Cgroup::new("mark");
    let (ours, kept) = (cgroup.child("ours"), cgroup.child("kept"));
    let theirs = cgroup.child("theirs");
    freeze::freeze(&ours.path, 1).expect("frozen");
    freeze::freeze(&kept.path, 2).expect("frozen");
    fs::write(theirs.path.join("cgroup.freeze"), "1").expect("frozen by an operator");
    assert_eq!(freeze::thaw_all_but(&cgroup.path, &[2]), 1);
    let frozen = |cgroup: &Cgroup| fs::read_to_string(cgroup.path.join("cgroup.freeze")).expect("it").trim() == "1";
    assert_eq!((frozen(&ours), frozen(&kept), frozen(&theirs)), (false, true, true));
    assert_eq!(freeze::thaw_all_but(&cgroup.path, &[]), 1);
    assert!(frozen(&theirs), "an operator's own freeze must not be undone");
}

fn a_tree_that_forks_is_killed() {
    let watch = Watch::new("kill");
    let mut outsider = child(&watch.cgroup, &["sleep"]).spawn().expect("an outsider");
    let mut family = child(&watch.cgroup, &["brood"]).spawn().expect("a family");
    let cookie = cookie_of_tree(&watch, &family);
    let deadline = Instant::now() + Duration::from_secs(10 * support::slowness());
    while watch.kernel.members_of(cookie).len() < 40 {
        assert!(Instant::now() < deadline, "{} members", watch.kernel.members_of(cookie).len());
        pause(5);
    }
    // Some of these are about to end; by now the last orphan has been born.
    pause(200);
    let killed = kill::tree(|| watch.kernel.members_of(cookie));
    assert_eq!(killed.left, 0);
    assert!(killed.killed >= 40, "{killed:?}");
    pause(200);
    let _ = family.wait();
    let left: Vec<u32> = processes_in(&watch.cgroup.path).into_iter().collect();
    assert_eq!(left, [outsider.id()], "nobody of the tree is left, and nobody else was hit");
    assert!(outsider.try_wait().expect("asked").is_none());
    end(outsider);
}

/// The family's root, as the kernel stamped it.
fn cookie_of_tree(watch: &Watch, family: &Child) -> u64 {
    watch.kernel.lineage(family.id()).map_or_else(|| cookie_of(family), |lineage| lineage.cookie)
}

fn a_cgroup_is_killed_with_its_children() {
    let cgroup = Cgroup::new("killed");
    let inner = cgroup.child("inner");
    let mut children =
        [child(&cgroup, &["sleep"]).spawn(), child(&inner, &["sleep"]).spawn()].map(|c| c.expect("a child"));
    pause(200);
    let killed = kill::cgroup(&cgroup.path).expect("killed");
    assert_eq!(killed.killed, 2);
    for child in &mut children {
        assert!(!child.wait().expect("ended").success());
    }
    assert!(processes_in(&cgroup.path).is_empty());
    drop(inner);
}

fn an_open_connection_is_cut() {
    let cgroup = Cgroup::new("cut");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address").to_string();
    let mut talker = child(&cgroup, &["talk", &address]).stdout(Stdio::piped()).spawn().expect("a talker");
    let (mut peer, _) = listener.accept().expect("accepted");
    peer.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let mut bystander = TcpStream::connect(&address).expect("another connection");
    let (mut bystanders_peer, _) = listener.accept().expect("accepted");
    pause(100);
    let dry = cut::connections_of(processes_in(&cgroup.path), true);
    assert_eq!((dry.ended, dry.failed.len()), (1, 0), "what would be cut is counted first");
    let began = Instant::now();
    let done = cut::connections_of(processes_in(&cgroup.path), false);
    assert_eq!((done.ended, done.failed.len()), (1, 0), "{done:?}");
    let heard = peer.read(&mut [0; 16]);
    assert!(heard.is_err() || heard.is_ok_and(|bytes| bytes == 0), "the peer learns of it");
    assert!(began.elapsed() < Duration::from_millis(500 * support::slowness()));
    let output = talker.stdout.take().map(|mut out| {
        let mut text = String::new();
        out.read_to_string(&mut text).expect("its words");
        text
    });
    assert!(output.expect("output").ends_with("103\n"), "the talker's own end says ECONNABORTED");
    bystander.write_all(b"x").expect("the bystander goes on");
    assert_eq!(bystanders_peer.read(&mut [0; 1]).expect("heard"), 1);
    let _ = talker.wait();
}

/// The reset passes the denial that drops everything else of the tree.
fn an_isolated_connection_is_cut_too() {
    let watch = Watch::new("isolated");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address").to_string();
    let talker = child(&watch.cgroup, &["talk", &address]).stdout(Stdio::piped()).spawn().expect("a talker");
    let (mut peer, _) = listener.accept().expect("accepted");
    peer.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    pause(100);
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&watch.kernel).expect("deny maps"));
    let target = Target::Tree { cookie: cookie_of(&talker) };
    enforcer.apply(&[support::decision(1, target, boot_now() + 60_000_000_000)], boot_now()).expect("applied");
    let began = Instant::now();
    assert_eq!(cut::connections_of([talker.id()], false).ended, 1);
    let heard = peer.read(&mut [0; 16]);
    assert_eq!(heard.expect_err("no byte").kind(), std::io::ErrorKind::ConnectionReset, "the peer learns of it");
    assert!(began.elapsed() < Duration::from_millis(500 * support::slowness()));
    end(talker);
}

fn a_process_id_that_was_given_away_is_not_hit() {
    let cgroup = Cgroup::new("stale");
    let mut child = child(&cgroup, &["sleep"]).spawn().expect("a child");
    pause(100);
    // The same number, started at another time: an earlier owner of the process id.
    let stale = cookie_of(&child) ^ 1 << 40;
    assert_eq!(tgid_of(stale), child.id());
    let mut asked = 0;
    let killed = kill::tree(|| {
        asked += 1;
        if asked < 3 { vec![stale] } else { Vec::new() }
    });
    assert_eq!(killed.killed, 0);
    assert!(child.try_wait().expect("asked").is_none(), "whoever has the number now must not be hit");
    end(child);
}
