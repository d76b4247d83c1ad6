//! From a decision to its first effect: map update → first denied connect, in a process that connects without pause; and
//! from the kernel's exec record to the deny entry, through ring, decode, enrich, score, policy, audit row and map update.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use collector::agent::chain::Chain;
use collector::agent::inbox::Lane;
use collector::config::Config;
use collector::decision::{Author, Decision, DecisionAction, DecisionState, Destination, Target};
use collector::decode::{Record, decode};
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::Enricher;
use collector::enrich::clock::{Clock, boot_now};
use collector::enrich::surroundings::{Live, Noting};
use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};
use collector::policy::decision::Proposal;
use collector::policy::protect::Protected;
use collector::policy::{Policy, State, commit};
use collector::ring::{RingSink, Rings};
use collector::store::Store;
use model::event::Time;

const REPEATS: usize = 300;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--child") {
        return spin();
    }
    let mount = mount_of_cgroup2().expect("a cgroup v2 hierarchy");
    let scope = mount.join(format!("stockade-bench-{}", std::process::id()));
    std::fs::create_dir(&scope).expect("run as root");
    let options = KernelOptions { scope: Some(scope.clone()), cgroup_mount: Some(mount), ..KernelOptions::default() };
    let mut kernel = Kernel::load(&options).expect("run after cargo xtask bpf");
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&kernel).expect("maps"));
    let mut child = Command::new("/bin/sh")
        .args(["-c", "echo 0 > \"$0/cgroup.procs\"; exec \"$@\""])
        .arg(&scope)
        .arg(std::env::current_exe().expect("own path"))
        .arg("--child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut told = BufReader::new(child.stdout.take().expect("its output")).lines();
    let (mut update, mut effect) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        writeln!(child.stdin.as_mut().expect("its input"), "go").expect("written");
        std::thread::sleep(std::time::Duration::from_millis(2));
        let began = boot_now();
        enforcer.apply(&[decision(began + 1_000_000_000)], began).expect("applied");
        update.push((boot_now() - began) as f64 / 1e3);
        let denied: u64 = told.next().expect("a line").expect("text").parse().expect("a time");
        effect.push(denied.saturating_sub(began) as f64 / 1e3);
        enforcer.apply(&[], boot_now()).expect("released");
    }
    let _ = child.kill();
    let _ = child.wait();
    let whole = exec_to_entry(&mut kernel, &mut enforcer, &scope);
    drop(kernel);
    let _ = std::fs::remove_dir(&scope);
    let rows = [
        ("decision to written entry", update),
        ("decision to first denied connect", effect),
        ("exec record to deny entry, all stages", whole),
    ];
    for (name, mut values) in rows {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() as f64 * share) as usize).min(values.len() - 1)];
        println!(
            "{name}: p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs ({} times)",
            at(0.5),
            at(0.99),
            at(1.0),
            values.len()
        );
    }
}

struct IntoChannel(Sender<Vec<u8>>);

impl RingSink for IntoChannel {
    fn take(&mut self, _: Lane, bytes: &[u8]) -> bool {
        self.0.send(bytes.to_vec()).is_ok()
    }
}

/// µs from the kernel's timestamp of an exec to the written entry for its tree, as in the agent but with a decision on each.
fn exec_to_entry(kernel: &mut Kernel, enforcer: &mut KernelEnforcer, scope: &Path) -> Vec<f64> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&directory.path().join("bench.db")).expect("a store");
    let config = Config::default();
    let policy =
        Policy::new(config.policy.clone(), "bench".into(), Protected::new(0), State::default(), Vec::new(), Vec::new());
    let enricher = Enricher::new(Clock::now(), Noting::new(Live::new()));
    let mut chain = Chain::new(enricher, model::Model::new(config.params()).expect("parameters"), policy);
    let (send, records) = channel();
    let (ctrl, bulk) = kernel.take_rings().expect("rings");
    let rings = Rings::start(ctrl, bulk, IntoChannel(send)).expect("a thread");
    let mut times = Vec::new();
    while times.len() < REPEATS {
        let join = "echo 0 > \"$0/cgroup.procs\"; exec /bin/true";
        let mut child = Command::new("/bin/sh").args(["-c", join]).arg(scope).spawn().expect("a child");
        while let Ok(bytes) = records.recv_timeout(Duration::from_millis(20)) {
            let Ok(record) = decode(&bytes) else { continue };
            chain.feed(&record);
            let Record::Exec(exec) = &record else { continue };
            let at = chain.enricher.clock().at(boot_now());
            let proposal = Proposal {
                target: Target::Tree { cookie: exec.header.cookie },
                action: DecisionAction::Isolate,
                shadow: false,
                allowed: Vec::new(),
                author: Author::Operator("bench".to_owned()),
                finding: None,
                reason: "bench".to_owned(),
                workload: None,
                ttl_ns: 1_000_000_000,
            };
            let Ok(outcomes) = chain.policy.add_decision(proposal, at) else { continue };
            let mut apply =
                |live: &[Decision], now: u64| enforcer.apply(live, now).map(|_| ()).map_err(|error| error.to_string());
            commit(&mut chain.policy, outcomes, &mut store, &mut apply, at);
            times.push((boot_now() - exec.header.boot_ns) as f64 / 1e3);
            let at = chain.enricher.clock().at(boot_now());
            let released = chain.policy.release_all(false, "bench", "bench", at);
            commit(&mut chain.policy, released, &mut store, &mut apply, at);
        }
        let _ = child.wait();
    }
    rings.finish();
    times
}

/// Connects without pause; tells when the first one was denied.
fn spin() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in std::io::stdin().lines() {
        while socket.connect("127.0.0.5:9").is_ok() {}
        println!("{}", boot_now());
    }
}

fn decision(until_ns: u64) -> Decision {
    Decision {
        number: 1,
        target: Target::Address {
            to: Destination { net: "127.0.0.5/32".parse().expect("a prefix"), ports: Vec::new() },
        },
        action: DecisionAction::Isolate,
        shadow: false,
        allowed: Vec::new(),
        allowed_files: Vec::new(),
        contained: None,
        author: Author::Operator("bench".to_owned()),
        finding: None,
        reason: String::new(),
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
