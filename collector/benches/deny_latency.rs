//! From a decision to its first effect: map update → first denied connect, in a process that connects without pause.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use collector::decision::{Author, Decision, DecisionAction, DecisionState, Destination, Target};
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};
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
    let kernel = Kernel::load(&options).expect("run after cargo xtask bpf");
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
    drop(kernel);
    let _ = std::fs::remove_dir(&scope);
    for (name, mut values) in [("decision to written entry", update), ("decision to first denied connect", effect)] {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() as f64 * share) as usize).min(values.len() - 1)];
        println!("{name}: p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs ({REPEATS} times)", at(0.5), at(0.99), at(1.0));
    }
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
