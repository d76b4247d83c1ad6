//! Life on a host: an agent that stands still, programs of others on the same hooks, clocks that step, a machine that sleeps.
//!
//! The binary is its own child: `--child ACTION …`. Clocks and sleep belong to the whole machine: those tests run in guests.

#[path = "kernel_life/foreign.rs"]
mod foreign;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use collector::contain::kill::cookie_in_proc;
use collector::decision::{Decision, DecisionAction, Target};
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector_common::stats::Program;
use foreign::Foreign;
use support::{Cgroup, Watch, decision, slowness};

const MS: u64 = 1_000_000;
const EPERM: i32 = 1;
/// Both clocks of the machine belong to the tests only in a guest.
const GUEST: &str = "STOCKADE_GUEST";

fn main() -> ExitCode {
    collector::loader::canary::act_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act(&args[1..]);
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let in_a_guest = std::env::var_os(GUEST).is_some();
    if on && !in_a_guest {
        support::skipped("steps of the clock and sleep: they would happen to this whole machine (cargo xtask vm)");
    }
    let no_sleep = in_a_guest && !can_sleep();
    support::run_one_by_one(
        on,
        [
            ("an_agent_that_stands_still_blocks_nobody", false, an_agent_that_stands_still_blocks_nobody as fn()),
            ("a_connection_that_another_program_redirects_is_still_denied", false, a_redirected_connection_is_denied),
            ("a_filter_of_another_owner_keeps_its_say", false, a_filter_of_another_owner_keeps_its_say),
            ("steps_of_the_wall_clock_move_no_deadline", !in_a_guest, steps_of_the_wall_clock_move_no_deadline),
            ("sleep_counts_towards_a_deadline", !in_a_guest || no_sleep, sleep_counts_towards_a_deadline),
        ],
    )
}

// ---- The children --------------------------------------------------------------------------------------------------

fn act(args: &[String]) {
    match args[0].as_str() {
        // Connects to every port that it is told and prints the errno.
        "dialer" => {
            for line in std::io::stdin().lines() {
                println!("{}", errno_of(line.expect("a line").trim().parse().expect("a port")));
            }
        }
        // Watches a cgroup until its input ends, then prints what the ledger says.
        "agent" => {
            let watch = Watch::over(Cgroup { path: args[1].clone().into() }, |_| {});
            println!("ready");
            let _ = std::io::stdin().read_line(&mut String::new());
            // The last connections end some moments after the last process.
            support::pause(300);
            let outcome = watch.finish();
            let syscalls = outcome.of(Program::Syscall);
            let reconciled = outcome.ledger.reconcile(&outcome.stats);
            let closes = reconciled.closes();
            if !closes {
                eprintln!("{reconciled}");
            }
            println!("{closes} {} {} {}", syscalls.seen, syscalls.recorded + syscalls.skipped, syscalls.missed);
        }
        // What a busy process does: calls, children, connections. Prints how long it took in µs.
        "work" => {
            let port: u16 = args[1].parse().expect("a port");
            let began = Instant::now();
            for _ in 0..50_000 {
                // SAFETY: no arguments.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
            for _ in 0..20 {
                assert!(Command::new("/bin/true").status().expect("it starts").success());
            }
            for _ in 0..100 {
                assert_eq!(errno_of(port), 0, "it connects");
            }
            println!("{}", began.elapsed().as_micros());
        }
        other => panic!("no child action {other}"),
    }
}

fn errno_of(port: u16) -> i32 {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpStream::connect_timeout(&address, Duration::from_millis(300 * slowness())) {
        Ok(mut stream) => stream.write_all(b"out").err().and_then(|error| error.raw_os_error()).unwrap_or(0),
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

struct Dialer(Child, BufReader<ChildStdout>);

impl Dialer {
    fn start(cgroup: &Cgroup) -> Self {
        let mut command = cgroup.command(std::env::current_exe().expect("own path"));
        let command = command.args(["--child", "dialer"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a dialer");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        Self(child, answers)
    }

    fn dial(&mut self, port: u16) -> i32 {
        writeln!(self.0.stdin.as_mut().expect("its input"), "{port}").expect("it listens");
        let mut answer = String::new();
        self.1.read_line(&mut answer).expect("it answers");
        answer.trim().parse().expect("an errno")
    }

    fn tree(&self) -> Target {
        Target::Tree { cookie: cookie_in_proc(self.0.id()).expect("it lives") }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A listener that counts the bytes that reach it.
fn server() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let bytes = Arc::new(AtomicU64::new(0));
    let count = bytes.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || {
                let read = std::io::copy(&mut &stream, &mut std::io::sink()).unwrap_or(0);
                count.fetch_add(read, Ordering::Relaxed);
            });
        }
    });
    (port, bytes)
}

fn enforcer_of(watch: &Watch) -> KernelEnforcer {
    KernelEnforcer::new(KernelMaps::of(&watch.kernel).expect("maps"))
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn an_agent_that_stands_still_blocks_nobody() {
    let cgroup = Cgroup::new("still");
    let own = std::env::current_exe().expect("own path");
    let mut agent = Command::new(&own)
        .args(["--child", "agent"])
        .arg(&cgroup.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an agent");
    let mut told = BufReader::new(agent.stdout.take().expect("its output")).lines();
    assert_eq!(told.next().expect("a line").expect("text"), "ready");
    let (port, _) = server();
    let work = || -> u64 {
        let output = support::run(cgroup.command(&own).args(["--child", "work", &port.to_string()]));
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a time")
    };
    let best = |of: &dyn Fn() -> u64| (0..3).map(|_| of()).min().expect("three runs");
    let watched = best(&work);
    // SAFETY: a signal to a child of ours that was not waited for.
    assert_eq!(unsafe { libc::kill(agent.id() as i32, libc::SIGSTOP) }, 0);
    let stopped = best(&work);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(agent.id() as i32, libc::SIGCONT) }, 0);
    // Every call, birth and connection went on; full rings cost less than read ones, not more.
    assert!(stopped < 3 * watched, "{stopped} µs while nobody read the rings, {watched} before");
    drop(agent.stdin.take());
    let line = told.next().expect("a line").expect("text");
    let numbers: Vec<&str> = line.split(' ').collect();
    assert_eq!(numbers[0], "true", "the ledger closes afterwards: {line}");
    let number = |at: usize| numbers[at].parse::<u64>().expect("a number");
    assert!(number(1) > 6 * 50_000, "all calls were seen: {line}");
    assert!(number(2) + number(3) <= number(1), "{line}");
    agent.wait().expect("it ends");
}

fn isolated_but_for(tree: Target, port: u16) -> Decision {
    let gate =
        collector::decision::Destination { net: "127.0.0.1/32".parse().expect("a net"), ports: vec![(port, port)] };
    Decision { allowed: vec![gate], ..decision(1, tree, boot_now() + 60_000 * MS * slowness()) }
}

fn a_redirected_connection_is_denied() {
    // The other program is there before ours, so ours sees what it made of the address; or it comes later, and ours sees
    // the address that was asked for: then the packets tell.
    for comes_later in [false, true] {
        let cgroup = Cgroup::new("proxy");
        let ((asked, _), (behind, bytes)) = (server(), server());
        let proxy = Foreign::Proxy(asked, behind);
        let earlier = (!comes_later).then(|| proxy.attach(&cgroup.path));
        let watch = Watch::over(cgroup, |_| {});
        let later = comes_later.then(|| proxy.attach(&watch.cgroup.path));
        let mut dialer = Dialer::start(&watch.cgroup);
        assert_eq!(dialer.dial(asked), 0, "the proxy works");
        support::pause(50);
        assert_eq!(bytes.swap(0, Ordering::Relaxed), 3, "and what was sent came out behind it");
        let mut enforcer = enforcer_of(&watch);
        let rule = isolated_but_for(dialer.tree(), asked);
        enforcer.apply(&[rule], boot_now()).expect("applied");
        assert_ne!(dialer.dial(asked), 0, "denied behind the proxy (which came later: {comes_later})");
        support::pause(50);
        assert_eq!(bytes.load(Ordering::Relaxed), 0, "not one byte (the proxy came later: {comes_later})");
        drop((earlier, later));
        assert_eq!(dialer.dial(asked), 0, "without the proxy the gate is open");
        enforcer.apply(&[], boot_now()).expect("applied");
    }
}

fn a_filter_of_another_owner_keeps_its_say() {
    let watch = Watch::new("filter");
    let ((forbidden, bytes), (free, _)) = (server(), server());
    let filter = Foreign::Filter(forbidden).attach(&watch.cgroup.path);
    let mut dialer = Dialer::start(&watch.cgroup);
    assert_ne!(dialer.dial(forbidden), 0, "what nobody here denies is still denied by its owner");
    assert_eq!(dialer.dial(free), 0);
    let mut enforcer = enforcer_of(&watch);
    let rule = Decision { action: DecisionAction::DenyConnect, ..decision(1, dialer.tree(), boot_now() + 60_000 * MS) };
    enforcer.apply(&[rule], boot_now()).expect("applied");
    assert_eq!((dialer.dial(free), dialer.dial(forbidden)), (EPERM, EPERM), "both may deny");
    enforcer.apply(&[], boot_now()).expect("applied");
    let Watch { cgroup, .. } = {
        // Detaching takes only what is ours.
        let Watch { cgroup, .. } = watch;
        Watch::over(cgroup, |_| {})
    };
    assert_ne!(dialer.dial(forbidden), 0, "their filter outlives us");
    assert_eq!(dialer.dial(free), 0);
    assert_eq!(bytes.load(Ordering::Relaxed), 0, "not one byte passed it");
    drop(filter);
    assert_eq!(dialer.dial(forbidden), 0, "and without it everything passes");
    drop(dialer);
    drop(cgroup);
}

fn steps_of_the_wall_clock_move_no_deadline() {
    let watch = Watch::new("clock");
    let (port, _) = server();
    let mut dialer = Dialer::start(&watch.cgroup);
    let mut enforcer = enforcer_of(&watch);
    let until = boot_now() + 6_000 * MS;
    enforcer.apply(&[decision(1, dialer.tree(), until)], boot_now()).expect("applied");
    const DAY: i64 = 86_400;
    let began = Instant::now();
    for step in [DAY, -3 * DAY, 400 * DAY] {
        step_the_wall_clock(step);
        assert_eq!(dialer.dial(port), EPERM, "denied after a step of {step} s");
    }
    step_the_wall_clock(-398 * DAY - began.elapsed().as_secs() as i64);
    assert!(boot_now() < until, "the guest was too slow for this test");
    while dialer.dial(port) == EPERM {
        assert!(boot_now() < until + 500 * MS * slowness(), "still denied after its deadline");
    }
    assert!(boot_now() >= until, "allowed before its deadline");
}

fn step_the_wall_clock(seconds: i64) {
    // SAFETY: a plain structure that the kernel fills and reads.
    unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now), 0);
        now.tv_sec += seconds;
        assert_eq!(libc::clock_settime(libc::CLOCK_REALTIME, &raw const now), 0, "a guest's clock can be set");
    }
}

const ALARM: &str = "/sys/class/rtc/rtc0/wakealarm";

/// Whether this machine can be put to sleep and wakes by itself: suspend to memory, which an emulated clock wakes from.
fn can_sleep() -> bool {
    let offers = fs::read_to_string("/sys/power/mem_sleep").unwrap_or_default();
    let able = offers.contains("deep") && fs::metadata(ALARM).is_ok();
    if !able {
        let offers = offers.trim();
        support::skipped(&format!(
            "sleep: this machine offers no suspend to memory ({offers}), or no clock that wakes it"
        ));
    }
    able
}

fn sleep_counts_towards_a_deadline() {
    let watch = Watch::new("sleep");
    let (port, _) = server();
    let mut dialer = Dialer::start(&watch.cgroup);
    let mut enforcer = enforcer_of(&watch);
    let monotonic = Instant::now();
    let slept_from = boot_now();
    let until = slept_from + 20_000 * MS;
    enforcer.apply(&[decision(1, dialer.tree(), until)], boot_now()).expect("applied");
    assert_eq!(dialer.dial(port), EPERM);
    fs::write(ALARM, "0").expect("the alarm is cleared");
    fs::write(ALARM, "+25").expect("an alarm in 25 seconds");
    fs::write("/sys/power/mem_sleep", "deep").expect("suspend to memory");
    fs::write("/sys/power/state", "mem").expect("it sleeps and wakes");
    let asleep = (boot_now() - slept_from).saturating_sub(monotonic.elapsed().as_nanos() as u64);
    assert!(asleep > 5_000 * MS, "the machine slept for {} ms only", asleep / MS);
    assert!(boot_now() > until, "the deadline passed meanwhile");
    assert_eq!(dialer.dial(port), 0, "and so did the denial");
}
