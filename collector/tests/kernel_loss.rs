//! Loss: a noisy neighbour with a tiny ring, rows that speak too often, maps that are full. What is lost is counted, what
//! matters still comes through, and nothing is denied that should not be.
//!
//! The binary is its own child: `--child ACTION`.

mod support;

use std::net::TcpListener;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use collector::contain::kill::cookie_in_proc;
use collector::decision::Target;
use collector::decode::Record;
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector_common::map::{RowKey, SEEN_BITS};
use collector_common::stats::Program;
use collector_common::syscall::Why;
use collector_common::token::{self, arg, trigger_trigram, trigram_bit, x86_64 as nr};
use support::{Cgroup, Watch, end, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act(&args[1], args.get(2).map_or("", String::as_str));
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let tests: [(&str, fn()); 3] = [
        ("a_noisy_neighbour_hides_no_attack", a_noisy_neighbour_hides_no_attack),
        ("a_row_speaks_early_so_often_and_not_more", a_row_speaks_early_so_often),
        ("full_maps_are_counted_and_deny_nobody_by_mistake", full_maps_are_counted),
    ];
    support::run_one_by_one(on, tests.map(|(name, test)| (name, false, test)))
}

fn act(action: &str, address: &str) {
    match action {
        "noise" => loop {
            // SAFETY: no arguments.
            unsafe { libc::syscall(libc::SYS_getppid) };
        },
        // One call that no run before made.
        "attack" => memory_file(),
        "nothing" => (),
        // Five hundred threads, each with such a call.
        "crowd" => {
            for _ in 0..500 {
                std::thread::spawn(memory_file).join().expect("a thread");
            }
        }
        "brood" => {
            let sleeper = || std::process::Command::new("sleep").arg("2").spawn().expect("a sleeper");
            let sleepers: Vec<Child> = (0..60).map(|_| sleeper()).collect();
            sleepers.into_iter().for_each(|mut sleeper| drop(sleeper.wait()));
        }
        "connect" => print!("{}", std::net::TcpStream::connect(address).map_or(1, |_| 0)),
        other => panic!("no child action {other}"),
    }
}

fn memory_file() {
    // SAFETY: a constant name; the descriptor is closed at exit.
    unsafe { libc::memfd_create(c"x".as_ptr(), 0) };
}

fn child(watch: &Watch, cgroup: &Cgroup, args: &[&str]) -> std::process::Command {
    let _ = watch;
    let mut command = cgroup.command(std::env::current_exe().expect("own path"));
    command.arg("--child").args(args).stdin(Stdio::null());
    command
}

/// A row in which everything is normal but a memory file.
fn ready(watch: &mut Watch, cgroup: &Cgroup) {
    run(&mut child(watch, cgroup, &["nothing"]));
    let id = cgroup.id();
    let exec = watch.wait_for("exec", |record| matches!(record, Record::Exec(exec) if exec.cgroup == id));
    let Record::Exec(exec) = exec else { unreachable!() };
    let novel = trigram_bit(trigger_trigram(nr::MEMFD_CREATE, arg::PLAIN));
    let bits: Vec<u32> = (0..SEEN_BITS).filter(|bit| *bit != novel).collect();
    watch.kernel.fill_row(1, &bits).expect("a row");
    watch.kernel.point(RowKey { cgroup: id, exe: exec.exe }, 1).expect("a key");
    watch.kernel.announce_rows().expect("control");
}

fn is_early(record: &Record) -> bool {
    matches!(record, Record::Window(window) if window.why == Why::Early as u8)
}

fn a_noisy_neighbour_hides_no_attack() {
    let mut watch = Watch::with("noise", |options| options.bulk_bytes = 4_096);
    let (noisy, quiet) = (watch.cgroup.child("noisy"), watch.cgroup.child("quiet"));
    ready(&mut watch, &quiet);
    let noise = [(); 3].map(|()| child(&watch, &noisy, &["noise"]).spawn().expect("noise"));
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    run(&mut child(&watch, &quiet, &["attack"]));
    let Record::Window(early) = watch.wait_for("early window", is_early) else { unreachable!() };
    let took = began.elapsed();
    assert_eq!(early.cgroup, quiet.id());
    assert!(early.trace[..usize::from(early.n)].iter().any(|call| token::number(*call) == nr::MEMFD_CREATE));
    // The ring is shared, so this thread may have lost calls too, and says so: then it is found, but denies nothing by itself.
    assert!(took < Duration::from_secs(5), "{took:?}");
    noise.into_iter().for_each(end);
    std::thread::sleep(Duration::from_millis(100));
    drop((noisy, quiet));
    let outcome = watch.finish();
    let both = outcome.ledger.reconcile(&outcome.stats);
    assert!(both.calls.missed > 0, "the ring was too small on purpose: {both}");
    assert!(both.closes(), "{both}");
}

fn a_row_speaks_early_so_often() {
    let mut watch = Watch::new("crowd");
    let cgroup = watch.cgroup.child("crowd");
    ready(&mut watch, &cgroup);
    let began = Instant::now();
    run(&mut child(&watch, &cgroup, &["crowd"]));
    std::thread::sleep(Duration::from_millis(100));
    let seconds = began.elapsed().as_secs() + 2;
    drop(cgroup);
    let outcome = watch.finish();
    let early = outcome.records.iter().filter(|(_, record)| is_early(record)).count() as u64;
    let cpus = std::thread::available_parallelism().map_or(2, |count| count.get() as u64);
    assert!((1..=20 * cpus * seconds).contains(&early), "{early} in {seconds} s on {cpus} CPUs");
    let throttled = outcome.of(Program::Syscall).throttled;
    assert_eq!(early + throttled, 500, "what was held back is counted");
    assert!(outcome.ledger.reconcile(&outcome.stats).closes());
}

fn full_maps_are_counted() {
    let watch =
        Watch::with("full", |options| options.map_entries = &[("lineage", 32), ("deny_seen", 8), ("files_seen", 64)]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let brood = child(&watch, &watch.cgroup, &["brood"]).spawn().expect("a brood");
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&watch.kernel).expect("deny maps"));
    let target = Target::Tree { cookie: cookie_in_proc(brood.id()).expect("it lives") };
    let decision = support::decision(1, target, boot_now() + 60_000_000_000);
    enforcer.apply(&[decision], boot_now()).expect("applied");
    std::thread::sleep(Duration::from_millis(700));
    let output = run(&mut child(&watch, &watch.cgroup, &["connect", &address]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0", "somebody who is not in the map must not be denied");
    end(brood);
    watch.cgroup.clear();
    let outcome = watch.finish();
    assert!(outcome.of(Program::Fork).map_full > 0, "births that did not fit are counted");
    let both = outcome.ledger.reconcile(&outcome.stats);
    assert!(both.storage.map_full > 0 && both.to_string().contains("map full"), "and shown: {both}");
    assert!(both.closes(), "{both}");
}
