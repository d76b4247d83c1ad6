//! Denials on the running kernel, confined to a cgroup that the test makes; all traffic stays on loopback.
//!
//! The binary is its own child: `--child ACTION …` dials, or plays the agent that is killed.

#[path = "kernel_deny/busy.rs"]
mod busy;
#[path = "kernel_deny/children.rs"]
mod children;
mod support;
#[path = "kernel_deny/tools.rs"]
mod tools;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use collector::decision::{Author, Destination, Target};
use collector::decode::Record;
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector::loader::probe::{Level, probe};
use collector::loader::{Kernel, KernelOptions, Pins, mount_of_cgroup2};
use collector_common::deny::DENY_BREAKER;
use collector_common::header::{cookie_of_ticks, tgid_of};
use support::{Cgroup, Watch, decision, end, run};
use tools::{Bpffs, Log, Server};

const MS: u64 = 1_000_000;
const EPERM: i32 = 1;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        children::act(&args[1..]);
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let tests: [(&str, fn()); 15] = [
        ("a_tree_is_denied_with_children_older_and_younger_than_the_decision", a_tree_is_denied_with_all_its_children),
        ("a_cgroup_is_denied_with_its_children_and_no_other", a_cgroup_is_denied_with_its_children_and_no_other),
        ("an_address_a_prefix_and_its_ports_are_denied_v4_mapped_too", addresses_prefixes_and_ports_are_denied),
        ("a_tree_is_denied_one_destination_only", a_tree_is_denied_one_destination_only),
        ("a_fence_leaves_its_gate_open", a_fence_leaves_its_gate_open),
        ("the_peer_of_an_open_connection_gets_no_more_bytes", the_peer_of_an_open_connection_gets_no_more_bytes),
        ("two_decisions_on_one_tree_are_undone_one_at_a_time", two_decisions_on_one_tree_are_undone_one_at_a_time),
        ("a_killed_agent_leaves_the_denial_until_its_deadline", a_killed_agent_leaves_the_denial_until_its_deadline),
        ("a_read_only_bpf_file_system_is_refused_with_the_remedy", a_read_only_bpf_file_system_is_refused),
        ("a_restarted_agent_takes_a_denial_over_without_a_gap", a_restarted_agent_takes_over_without_a_gap),
        ("an_upgrade_leaves_no_gap_and_nothing_behind", an_upgrade_leaves_no_gap_and_nothing_behind),
        ("a_million_denied_connects_are_denied_and_told_rarely", a_million_denied_connects_are_denied_and_told_rarely),
        ("a_protected_process_is_never_denied", a_protected_process_is_never_denied),
        ("a_shadow_counts_and_lets_through", a_shadow_counts_and_lets_through),
        ("a_breaker_counts_trees_not_hammering", a_breaker_counts_trees_not_hammering),
    ];
    let no_nginx = busy::nginx().is_none();
    if on && no_nginx {
        support::skipped("a denial on a busy nginx: there is none");
    }
    let busy = busy::a_false_denial_costs_a_busy_nginx_the_novel_act_and_no_request;
    let busy = ("a_false_denial_costs_a_busy_nginx_the_novel_act_and_no_request", no_nginx, busy as fn());
    support::run_one_by_one(on, tests.map(|(name, test)| (name, false, test)).into_iter().chain([busy]))
}

// ---- What the tests need -------------------------------------------------------------------------------------------

fn later(ms: u64) -> u64 {
    boot_now() + ms * MS
}

/// Longer than any test needs.
fn long() -> u64 {
    later(120_000 * support::slowness())
}

fn to(net: &str, ports: &[(u16, u16)]) -> Destination {
    Destination { net: net.parse().expect("a prefix"), ports: ports.to_vec() }
}

fn cookie_in_proc(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let field = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).expect("field 22");
    cookie_of_ticks(field.parse().expect("a number"), pid)
}

/// A watch and an enforcer over its maps.
fn guard(name: &str) -> (Watch, KernelEnforcer) {
    let watch = Watch::new(name);
    let maps = KernelMaps::of(&watch.kernel).expect("deny maps");
    (watch, KernelEnforcer::new(maps))
}

fn child(cgroup: &Cgroup, args: &[&str]) -> Command {
    let mut command = cgroup.command(std::env::current_exe().expect("own path"));
    command.arg("--child").args(args).stdin(Stdio::null());
    command
}

fn once(cgroup: &Cgroup, address: &str) -> i32 {
    let output = run(&mut child(cgroup, &["once", address]));
    String::from_utf8_lossy(&output.stdout).parse().expect("an errno")
}

fn all(errnos: &[i32], wanted: i32) -> bool {
    errnos.len() >= 5 && errnos.iter().all(|errno| *errno == wanted)
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn a_tree_is_denied_with_all_its_children() {
    let (watch, mut enforcer) = guard("tree");
    let (server, log, other) = (Server::start(), Log::new("tree"), Log::new("other"));
    let family =
        child(&watch.cgroup, &["family", &server.local(), &log.0.to_string_lossy()]).spawn().expect("a family");
    let outsider =
        child(&watch.cgroup, &["dial", &server.local(), &other.0.to_string_lossy()]).spawn().expect("an outsider");
    let before = [log.enough_of("main", 0), log.enough_of("orphan", 0)];
    assert!(before.iter().all(|before| all(before, 0)), "before: {before:?}");
    let target = Target::Tree { cookie: cookie_in_proc(family.id()) };
    enforcer.apply(&[decision(1, target, long())], boot_now()).expect("applied");
    let settled = later(5);
    for who in ["main", "orphan", "younger"] {
        let after = log.enough_of(who, settled);
        assert!(all(&after, EPERM), "{who}: {after:?}");
    }
    assert!(all(&other.enough_of("main", settled), 0), "nobody else is denied");
    enforcer.apply(&[], boot_now()).expect("released");
    let released = later(5);
    assert!(all(&log.enough_of("younger", released), 0), "a release is at once");
    end(family);
    end(outsider);
}

fn a_cgroup_is_denied_with_its_children_and_no_other() {
    let (watch, mut enforcer) = guard("cgroup");
    let server = Server::start();
    let (denied, free) = (watch.cgroup.child("denied"), watch.cgroup.child("free"));
    let inner = denied.child("inner");
    let mount = mount_of_cgroup2().expect("v2");
    let level = denied.path.strip_prefix(&mount).expect("below").components().count() as u32;
    let target = Target::Cgroup { id: denied.id(), level, path: "/denied".into() };
    enforcer.apply(&[decision(1, target, long())], boot_now()).expect("applied");
    assert_eq!(once(&denied, &server.local()), EPERM);
    assert_eq!(once(&inner, &server.local()), EPERM, "a delegated child is no way out");
    assert_eq!(once(&free, &server.local()), 0);
    drop(inner);
}

fn addresses_prefixes_and_ports_are_denied() {
    let (watch, mut enforcer) = guard("address");
    let server = Server::start();
    let whole = Target::Address { to: to("127.0.0.2/32", &[]) };
    let ports = Target::Address { to: to("127.9.0.0/16", &[(server.port, server.port)]) };
    let elsewhere = Target::Address { to: to("127.8.0.0/16", &[(1, 1)]) };
    let live = [decision(1, whole, long()), decision(2, ports, long()), decision(3, elsewhere, long())];
    enforcer.apply(&live, boot_now()).expect("applied");
    let ask = |ip| once(&watch.cgroup, &server.at(ip));
    assert_eq!(ask([127, 0, 0, 2]), EPERM);
    assert_eq!(ask([127, 0, 0, 3]), 0);
    assert_eq!(ask([127, 9, 1, 1]), EPERM);
    assert_eq!(ask([127, 8, 1, 1]), 0, "another port of a denied prefix");
    // The same destination through IPv6 sockets.
    assert_eq!(once(&watch.cgroup, &format!("[::ffff:127.0.0.2]:{}", server.port)), EPERM);
    // A narrower prefix that has lapsed does not hide a wider one that has not, the agent doing nothing.
    let narrow = Target::Address { to: to("127.7.0.1/32", &[]) };
    let wide = Target::Address { to: to("127.7.0.0/24", &[]) };
    let lapsed = later(100);
    let live = [decision(4, narrow, lapsed), decision(5, wide, long())];
    enforcer.apply(&live, boot_now()).expect("applied");
    while boot_now() < lapsed + 100 * MS {
        sleep(Duration::from_millis(10));
    }
    assert_eq!(ask([127, 7, 0, 1]), EPERM);
}

fn a_tree_is_denied_one_destination_only() {
    let (watch, mut enforcer) = guard("tree-address");
    let (server, log) = (Server::start(), Log::new("tree-address"));
    let dialer =
        child(&watch.cgroup, &["dial", &server.at([127, 0, 0, 2]), &log.0.to_string_lossy()]).spawn().expect("a child");
    log.enough_of("main", 0);
    let cookie = cookie_in_proc(dialer.id());
    let elsewhere = Target::TreeAddress { cookie, to: to("127.0.0.9/32", &[]) };
    enforcer.apply(&[decision(1, elsewhere, long())], boot_now()).expect("applied");
    let first = later(5);
    assert!(all(&log.enough_of("main", first), 0), "another destination is free");
    let here = Target::TreeAddress { cookie, to: to("127.0.0.0/24", &[(server.port, server.port)]) };
    enforcer.apply(&[decision(2, here, long())], boot_now()).expect("applied");
    let second = later(5);
    assert!(all(&log.enough_of("main", second), EPERM));
    assert_eq!(once(&watch.cgroup, &server.at([127, 0, 0, 2])), 0, "another tree is free");
    end(dialer);
}

fn a_fence_leaves_its_gate_open() {
    let (watch, mut enforcer) = guard("fence");
    let (server, inside, outside) = (Server::start(), Log::new("inside"), Log::new("outside"));
    let mut dialers: Vec<Child> = Vec::new();
    let mut live = Vec::new();
    for (number, (ip, log)) in [([127, 0, 0, 2], &inside), ([127, 0, 0, 3], &outside)].into_iter().enumerate() {
        let dialer =
            child(&watch.cgroup, &["dial", &server.at(ip), &log.0.to_string_lossy()]).spawn().expect("a child");
        log.enough_of("main", 0);
        let mut fenced = decision(number as u64 + 1, Target::Tree { cookie: cookie_in_proc(dialer.id()) }, long());
        fenced.allowed = vec![to("127.0.0.2/32", &[(server.port, server.port)])];
        live.push(fenced);
        dialers.push(dialer);
    }
    enforcer.apply(&live, boot_now()).expect("applied");
    let settled = later(5);
    let (within, beyond) = (inside.enough_of("main", settled), outside.enough_of("main", settled));
    assert!(all(&within, 0), "the gate: {within:?}");
    assert!(all(&beyond, EPERM), "the fence: {beyond:?}");
    dialers.into_iter().for_each(end);
}

fn the_peer_of_an_open_connection_gets_no_more_bytes() {
    let (watch, mut enforcer) = guard("established");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address").to_string();
    let talker = child(&watch.cgroup, &["talk", &address]).spawn().expect("a child");
    let (mut stream, _) = listener.accept().expect("a connection");
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    });
    let patience = long();
    while received.load(Ordering::Relaxed) <= 10 {
        assert!(boot_now() < patience, "it talks");
        sleep(Duration::from_millis(5));
    }
    let target = Target::Tree { cookie: cookie_in_proc(talker.id()) };
    enforcer.apply(&[decision(1, target, long())], boot_now()).expect("applied");
    support::pause(100);
    let cut = received.load(Ordering::Relaxed);
    support::pause(400);
    assert_eq!(received.load(Ordering::Relaxed), cut, "silence");
    end(talker);
}

fn two_decisions_on_one_tree_are_undone_one_at_a_time() {
    let (watch, mut enforcer) = guard("two");
    let (server, log) = (Server::start(), Log::new("two"));
    let dialer = child(&watch.cgroup, &["dial", &server.local(), &log.0.to_string_lossy()]).spawn().expect("a child");
    log.enough_of("main", 0);
    let target = || Target::Tree { cookie: cookie_in_proc(dialer.id()) };
    let mut live = vec![decision(1, target(), long()), decision(2, target(), long())];
    for wanted in [EPERM, EPERM, 0] {
        enforcer.apply(&live, boot_now()).expect("applied");
        let settled = later(5);
        let after = log.at_least(20, "main", settled);
        assert!(all(&after, wanted), "{} left: {after:?}", live.len());
        live.pop();
    }
    let hits = enforcer.hits().expect("hits");
    assert!(hits.get(&1).copied().unwrap_or(0) > 20, "the hits of released decisions are not lost: {hits:?}");
    end(dialer);
}

fn a_killed_agent_leaves_the_denial_until_its_deadline() {
    let ttl_ms = 2_500 * support::slowness();
    let cgroup = Cgroup::new("killed");
    let bpffs = Bpffs::new("killed");
    let (server, log) = (Server::start(), Log::new("killed"));
    let mut agent = Command::new(std::env::current_exe().expect("own path"))
        .args(["--child", "agent"])
        .args([cgroup.path.as_os_str(), bpffs.0.as_os_str()])
        .arg(ttl_ms.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an agent");
    let mut told = BufReader::new(agent.stdout.take().expect("its output")).lines();
    assert_eq!(told.next().expect("a line").expect("text"), "ready");
    let family = child(&cgroup, &["family", &server.local(), &log.0.to_string_lossy()]).spawn().expect("a family");
    log.enough_of("orphan", 0);
    writeln!(agent.stdin.as_mut().expect("its input"), "{}", family.id()).expect("written");
    let until: u64 = told.next().expect("a line").expect("text").parse().expect("a time");
    agent.kill().expect("killed");
    agent.wait().expect("gone");
    let killed = boot_now();
    while boot_now() < until + 500 * support::slowness() * MS {
        sleep(Duration::from_millis(20));
    }
    for who in ["main", "orphan", "younger"] {
        let (mut last_denied, mut first_allowed, mut denied) = (0, u64::MAX, 0);
        for (name, at, errno, over) in log.lines() {
            if name != who || at < killed {
                continue;
            }
            if errno == EPERM {
                denied += 1;
                last_denied = last_denied.max(at);
            } else {
                // A call may begin before the deadline and be judged after it.
                first_allowed = first_allowed.min(over);
            }
        }
        assert!(denied > 20, "{who} was denied without an agent");
        assert!(last_denied < until, "{who} was denied {} ms after the deadline", (last_denied - until) / MS);
        let late = first_allowed.saturating_sub(until);
        let soon = 50 * support::slowness() * MS;
        assert!(first_allowed >= until && late < soon, "{who} was first allowed {} ms from the deadline", late / MS);
    }
    end(family);
    let (links, maps) = Pins::at(&bpffs.0).remove_all().expect("unpinned");
    assert!(links >= 8 && maps >= 8, "{links} links and {maps} maps had been pinned");
    assert!(Pins::at(&bpffs.0).names().is_empty());
}

fn a_read_only_bpf_file_system_is_refused() {
    let bpffs = Bpffs::new("read-only");
    Pins::open(&bpffs.0).expect("one that takes pins");
    rustix::mount::mount_remount(&bpffs.0, rustix::mount::MountFlags::RDONLY, "").expect("read-only");
    let refused = Pins::open(&bpffs.0).expect_err("nothing can be pinned there").to_string();
    assert!(refused.contains("read-only") && refused.contains("remount,rw"), "{refused}");
    let report = probe(&bpffs.0);
    let pins = report.items.iter().find(|item| item.area == "pins").expect("a line about pins");
    assert!(pins.level == Level::Fail && pins.fix.contains("remount,rw"), "{pins:?}");
    rustix::mount::mount_remount(&bpffs.0, rustix::mount::MountFlags::empty(), "").expect("writable again");
    Pins::open(&bpffs.0).expect("as the remedy says");
}

fn a_restarted_agent_takes_over_without_a_gap() {
    let (cgroup, bpffs) = (Cgroup::new("restart"), Bpffs::new("restart"));
    let options = KernelOptions {
        scope: Some(cgroup.path.clone()),
        cgroup_mount: mount_of_cgroup2(),
        bpffs: Some(bpffs.0.clone()),
        ..KernelOptions::default()
    };
    let (server, log) = (Server::start(), Log::new("restart"));
    let start = || {
        let kernel = Kernel::load(&options).expect("loaded");
        let enforcer = KernelEnforcer::new(KernelMaps::of(&kernel).expect("maps"));
        (kernel, enforcer)
    };
    let (kernel, mut enforcer) = start();
    let dialer = child(&cgroup, &["dial", &server.local(), &log.0.to_string_lossy()]).spawn().expect("a child");
    log.enough_of("main", 0);
    let live = [decision(1, Target::Tree { cookie: cookie_in_proc(dialer.id()) }, long())];
    enforcer.apply(&live, boot_now()).expect("applied");
    let settled = later(5);
    drop((kernel, enforcer));
    sleep(Duration::from_millis(200));
    let (_kernel, mut enforcer) = start();
    enforcer.apply(&live, boot_now()).expect("taken over");
    let during = log.at_least(51, "main", settled);
    assert!(during.len() > 50 && all(&during, EPERM), "not one call got through: {during:?}");
    enforcer.apply(&[], boot_now()).expect("released");
    let released = later(5);
    assert!(all(&log.enough_of("main", released), 0), "nothing of the first agent is left in force");
    end(dialer);
}

fn an_upgrade_leaves_no_gap_and_nothing_behind() {
    let (cgroup, bpffs) = (Cgroup::new("upgrade"), Bpffs::new("upgrade"));
    let options = KernelOptions {
        scope: Some(cgroup.path.clone()),
        cgroup_mount: mount_of_cgroup2(),
        bpffs: Some(bpffs.0.clone()),
        ..KernelOptions::default()
    };
    let (server, log) = (Server::start(), Log::new("upgrade"));
    let dialer = child(&cgroup, &["dial", &server.local(), &log.0.to_string_lossy()]).spawn().expect("a child");
    let older = Kernel::load(&options).expect("loaded");
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&older).expect("maps"));
    let live = [decision(1, Target::Tree { cookie: cookie_in_proc(dialer.id()) }, long())];
    let stamp = |mut kernel: Kernel| {
        let cookie = cookie_in_proc(dialer.id());
        let lineage = collector_common::map::Lineage { cookie, root: cookie, ..Default::default() };
        kernel.take_in(dialer.id(), &lineage).expect("the lineage map");
        kernel
    };
    let older = stamp(older);
    enforcer.apply(&live, boot_now()).expect("applied");
    let settled = later(10);
    drop((older, enforcer));
    // What another version of Stockade left behind: the same pins under its own number.
    let ours = Pins::at(&bpffs.0);
    let theirs = ours.directory().with_file_name("v1");
    std::fs::rename(ours.directory(), &theirs).expect("renamed");
    let newer = stamp(Kernel::load(&options).expect("loaded beside it"));
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&newer).expect("maps"));
    enforcer.apply(&live, boot_now()).expect("applied anew");
    let others = newer.pins().expect("pins").others();
    assert_eq!(others.len(), 1, "the older layout is recognised");
    sleep(Duration::from_millis(100));
    for other in others {
        other.remove_all().expect("removed");
    }
    let during = log.at_least(31, "main", settled);
    assert!(during.len() > 30 && all(&during, EPERM), "not one call got through: {during:?}");
    assert!(!theirs.exists(), "nothing of the older version is left");
    enforcer.apply(&[], boot_now()).expect("released");
    let released = later(10);
    assert!(all(&log.enough_of("main", released), 0), "and nothing of it still denies");
    end(dialer);
}

fn a_million_denied_connects_are_denied_and_told_rarely() {
    let (watch, mut enforcer) = guard("million");
    let target = Target::Address { to: to("127.0.0.5/32", &[]) };
    enforcer.apply(&[decision(1, target, long())], boot_now()).expect("applied");
    // Emulated, a million would take minutes.
    let times = 1_000_000 / support::slowness();
    let started = boot_now();
    let hammer = child(&watch.cgroup, &["hammer", "127.0.0.5:9", &times.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    sleep(Duration::from_millis(100));
    // Something else happens meanwhile, and is told at once.
    let began = boot_now();
    assert_eq!(once(&watch.cgroup, "127.0.0.1:1"), 111);
    watch.wait_for("exec meanwhile", |record| matches!(record, Record::Exec(exec) if exec.header.boot_ns > began));
    assert!(boot_now() - began < 1_000 * support::slowness() * MS, "the alert was not late");
    let output = hammer.wait_with_output().expect("its end");
    let took_s = (boot_now() - started) / (1_000 * MS);
    assert_eq!(String::from_utf8_lossy(&output.stdout), times.to_string(), "every single one was denied");
    let hits = enforcer.hits().expect("hits");
    assert_eq!(hits.get(&1), Some(&times));
    let outcome = watch.finish();
    let told: Vec<_> = outcome
        .records
        .iter()
        .filter_map(|(_, record)| if let Record::Deny(deny) = record { Some(deny) } else { None })
        .collect();
    assert!((1..=took_s as usize + 2).contains(&told.len()), "{} records in {took_s} s", told.len());
}

fn a_protected_process_is_never_denied() {
    let (mut watch, mut enforcer) = guard("protected");
    let (server, log) = (Server::start(), Log::new("protected"));
    let dialer = child(&watch.cgroup, &["dial", &server.local(), &log.0.to_string_lossy()]).spawn().expect("a child");
    log.enough_of("main", 0);
    let cookie = cookie_in_proc(dialer.id());
    assert!(watch.kernel.protect(cookie).expect("marked"));
    let everybody = Target::Address { to: to("127.0.0.0/8", &[]) };
    let live = [decision(1, Target::Tree { cookie }, long()), decision(2, everybody, long())];
    enforcer.apply(&live, boot_now()).expect("applied");
    let settled = later(5);
    let after = log.enough_of("main", settled);
    assert!(all(&after, 0), "whatever matches: {after:?}");
    assert_eq!(once(&watch.cgroup, &server.local()), EPERM, "others are");
    end(dialer);
}

fn a_shadow_counts_and_lets_through() {
    let (watch, mut enforcer) = guard("shadow");
    let server = Server::start();
    let mut shadow = decision(1, Target::Address { to: to("127.0.0.1/32", &[]) }, long());
    shadow.shadow = true;
    enforcer.apply(&[shadow], boot_now()).expect("applied");
    assert_eq!(once(&watch.cgroup, &server.local()), 0);
    let record = watch.wait_for("deny", |record| matches!(record, Record::Deny(_)));
    assert_eq!(record.header().flags & collector_common::deny::DENY_SHADOW, 1);
    assert!(enforcer.hits().expect("hits").get(&1).copied().unwrap_or(0) >= 1);
}

fn a_breaker_counts_trees_not_hammering() {
    let (watch, mut enforcer) = guard("breaker");
    let server = Server::start();
    let mut automatic = decision(1, Target::Address { to: to("127.0.0.1/32", &[]) }, long());
    automatic.author = Author::Automatic;
    automatic.breaker = 2;
    let other = decision(2, Target::Address { to: to("127.0.0.2/32", &[]) }, long());
    enforcer.apply(&[automatic, other], boot_now()).expect("applied");
    let output = run(&mut child(&watch.cgroup, &["hammer", &server.local(), "20000"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "20000", "one tree opens nothing, however it hammers");
    assert_eq!(once(&watch.cgroup, &server.local()), EPERM, "the second tree");
    assert_eq!(once(&watch.cgroup, &server.local()), 0, "the third is one too many: this decision is disarmed");
    assert_eq!(once(&watch.cgroup, &server.at([127, 0, 0, 2])), EPERM, "the other decision is not");
    let tripped = watch
        .wait_for("tripped", |record| record.header().flags & DENY_BREAKER != 0 && matches!(record, Record::Deny(_)));
    assert_ne!(tgid_of(tripped.header().cookie), 0);
}
