//! Memory with 300 models and 10,000 processes: the agent's own, before and after 64 workloads have full forests of their own,
//! and the kernel maps beside it.

use collector::agent::chain::Chain;
use collector::config::Config;
use collector::decode::Record;
use collector::enrich::Enricher;
use collector::enrich::clock::Clock;
use collector::enrich::surroundings::Recorded;
use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};
use collector::policy::protect::Protected;
use collector::policy::{Policy, State};
use collector::record::Note;
use collector_common::header::cookie_of;
use collector_common::process::Exec;
use collector_common::syscall::{Why, Window};
use collector_common::{ABI, ExeId, Header, Kind};

const WORKLOADS: u64 = 300;
const PROCESSES: u64 = 10_000;
const WINDOWS: u64 = 6;
/// Workloads that go on for three days after that, a window every other minute: all rows that a forest of their own can hold.
const BUSY: u64 = model::params::MAX_OWN as u64;
const STEP_NS: u64 = 120_000_000_000;
const STEPS: u64 = 73 * 30;

fn main() {
    let start = resident_kib();
    let mut chain = chain();
    for n in 0..PROCESSES {
        let workload = n % WORKLOADS;
        let boot_ns = 1_000_000_000 * (n + 1);
        let cookie = cookie_of(boot_ns, 1_000 + n as u32);
        if n < WORKLOADS {
            chain.enricher.take_note(&Note::Cgroup {
                id: 100 + workload,
                path: Some(format!("/system.slice/svc{workload}.service")),
            });
        }
        let exe = ExeId { ino: 10 + workload, dev: 1, generation: 0 };
        let header = Header { abi: ABI, boot_ns, cookie, ..Header::default() };
        let mut exec = Exec {
            header: Header { kind: Kind::Exec as u8, ..header },
            exe,
            cgroup: 100 + workload,
            ..Exec::default()
        };
        let name = format!("/usr/bin/program{workload}");
        exec.file[..name.len()].copy_from_slice(name.as_bytes());
        exec.file_len = name.len() as u16;
        chain.feed(&Record::Exec(Box::new(exec)));
        for window in 0..WINDOWS {
            chain.feed(&Record::Window(Box::new(made_up(header, exe, 100 + workload, n * WINDOWS + window))));
        }
    }
    report("agent", &chain, start);
    for step in 1..=STEPS {
        let boot_ns = 1_000_000_000 * PROCESSES + step * STEP_NS;
        for n in 0..BUSY {
            let boot_ns = boot_ns + n * 1_000_000_000;
            let cookie = cookie_of(1_000_000_000 * (n + 1), 1_000 + n as u32);
            let header = Header { abi: ABI, boot_ns, cookie, ..Header::default() };
            let exe = ExeId { ino: 10 + n, dev: 1, generation: 0 };
            // What a program calls repeats itself sooner than how much it reads.
            let window = made_up(header, exe, 100 + n, n * 16 + step % 16);
            let read_bytes = 1_000 + step * step % 7_919 * (1 + n);
            chain.feed(&Record::Window(Box::new(Window { read_bytes, errors: (step % 23 / 4) as u16, ..window })));
        }
        let at = chain.enricher.clock().at(boot_ns + STEP_NS - 1);
        chain.tick(at);
    }
    report("after three days", &chain, start);
    let options = KernelOptions { cgroup_mount: mount_of_cgroup2(), only: Some(&[]), ..KernelOptions::default() };
    match Kernel::load(&options) {
        Ok(kernel) => {
            println!(
                "kernel: {:.1} MiB in maps as loaded; per thread 0.5 KiB and per process 0.2 KiB on top",
                map_memory() as f64 / 1048576.0
            );
            drop(kernel);
        }
        Err(error) => println!("kernel: not measured: {error}"),
    }
}

fn report(when: &str, chain: &Chain<Recorded>, start: u64) {
    let (resident, model) = (resident_kib(), chain.scorer.model());
    let workloads = model.workloads();
    println!(
        "{when}: {} workloads, {} of them with forests of their own, {} processes: {:.0} MiB resident, {:.0} MiB more than at the start; snapshot {:.1} MiB",
        workloads.len(),
        workloads.iter().filter(|workload| model.own_forests().share(workload) > 0.79).count(),
        chain.enricher.table().len(),
        resident as f64 / 1024.0,
        (resident - start) as f64 / 1024.0,
        model.snapshot().map_or(0.0, |bytes| bytes.len() as f64 / 1048576.0),
    );
}

fn chain() -> Chain<Recorded> {
    let config = Config::default();
    let policy =
        Policy::new(config.policy.clone(), "bench".into(), Protected::new(0), State::default(), Vec::new(), Vec::new());
    let enricher = Enricher::new(Clock::real(0, 1_700_000_000_000_000_000), Recorded::default());
    Chain::new(enricher, model::Model::new(config.params()).expect("parameters"), policy)
}

/// Some 60 different calls in an order that repeats with variations.
fn made_up(header: Header, exe: ExeId, cgroup: u64, seed: u64) -> Window {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut window = Window {
        header: Header { kind: Kind::Window as u8, ..header },
        why: Why::Full as u8,
        n: 128,
        exe,
        cgroup,
        start_boot_ns: header.boot_ns,
        ..Window::default()
    };
    for (at, call) in window.trace.iter_mut().enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let strange = state % 16 == 0;
        *call = if strange { (state >> 20) as u16 % 60 } else { at as u16 % 12 };
    }
    window
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Bytes of all BPF maps that this process holds open.
fn map_memory() -> u64 {
    let infos = std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let of = |text: String| -> Option<u64> {
        text.lines().find(|line| line.starts_with("map_type"))?;
        text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
    };
    infos.filter_map(|entry| of(std::fs::read_to_string(entry.path()).ok()?)).sum()
}
