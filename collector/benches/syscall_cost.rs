//! ns that the syscall program adds to a call, above an empty program on the same hook in the same run.
//!
//! Two loops: A = getppid, getuid, getpid, getgid; B = read and write of one byte. Each attached block stands between two
//! unattached ones; where these differ by more than 6 % the round is dropped. Pinned to one CPU; lower quartile of chunks.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Instant;

use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};
use collector_common::map::{RowKey, SEEN_BITS};

const CHUNK: u32 = 2_000;
const CHUNKS: usize = 120;
const ROUNDS: usize = 12;
const NOISE: f64 = 0.06;

fn main() {
    pin_to(1);
    let zero = File::open("/dev/zero").expect("/dev/zero");
    let null = File::create("/dev/null").expect("/dev/null");
    let (zero, null) = (zero.as_raw_fd(), null.as_raw_fd());
    // SAFETY: calls without pointers, or with one to a byte that outlives the call.
    let a = move || unsafe {
        for number in [libc::SYS_getppid, libc::SYS_getuid, libc::SYS_getpid, libc::SYS_getgid] {
            libc::syscall(number);
        }
    };
    // SAFETY: as above.
    let b = move || unsafe {
        let mut byte = 0u8;
        libc::read(zero, (&raw mut byte).cast(), 1);
        libc::write(null, (&raw const byte).cast(), 1);
    };
    report("A: getppid loop ", 4, &a);
    report("B: read/write   ", 2, &b);
}

fn report(name: &str, calls: u32, body: &dyn Fn()) {
    let (mut empty, mut full, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..2 {
            let is_empty = (round + turn) % 2 == 0;
            let before = measure(calls, body);
            let with =
                if is_empty { with_program(&["empty"], calls, body) } else { with_program(&["syscall"], calls, body) };
            let after = measure(calls, body);
            if (before - after).abs() > NOISE * before.min(after) {
                continue;
            }
            let unattached = f64::midpoint(before, after);
            plain.push(unattached);
            (if is_empty { &mut empty } else { &mut full }).push(with - unattached);
        }
    }
    let (empty_ns, full_ns) = (quantile(&mut empty, 0.5), quantile(&mut full, 0.5));
    println!(
        "{name} unattached {:.0} ns; empty +{empty_ns:.0} ({:.0}..{:.0}), syscall program +{full_ns:.0} ({:.0}..{:.0}); above empty {:.1} ns; {} and {} of {ROUNDS} rounds kept",
        quantile(&mut plain, 0.5),
        quantile(&mut empty, 0.25),
        quantile(&mut empty, 0.75),
        quantile(&mut full, 0.25),
        quantile(&mut full, 0.75),
        full_ns - empty_ns,
        empty.len(),
        full.len(),
    );
}

fn with_program(only: &'static [&'static str], calls: u32, body: &dyn Fn()) -> f64 {
    let options =
        KernelOptions { cgroup_mount: mount_of_cgroup2(), only: Some(only), skip_tgid: 0, ..KernelOptions::default() };
    let mut kernel = Kernel::load(&options).expect("run as root, after cargo xtask bpf");
    assert!(kernel.attached().iter().all(|row| row.off.is_none()), "{:?}", kernel.attached());
    let (mut ctrl, mut bulk) = kernel.take_rings().expect("rings");
    if only == ["syscall"] {
        // All features on: the trigrams are compared with a row in which every one is known.
        kernel.fill_row(1, &(0..SEEN_BITS).collect::<Vec<_>>()).expect("a row");
        (0..1_000).for_each(|_| body());
        while let Some(item) = bulk.next() {
            if let Ok(collector::decode::Record::Window(window)) = collector::decode::decode(&item) {
                let key = RowKey { cgroup: window.cgroup, exe: window.exe };
                kernel.point(key, 1).expect("a key");
            }
        }
        kernel.announce_rows().expect("control");
    }
    let ns = measure(calls, body);
    while ctrl.next().is_some() || bulk.next().is_some() {}
    ns
}

/// ns a call: the lower quartile of many chunks.
fn measure(calls: u32, body: &dyn Fn()) -> f64 {
    let mut chunks: Vec<f64> = (0..CHUNKS)
        .map(|_| {
            let began = Instant::now();
            (0..CHUNK / calls).for_each(|_| body());
            began.elapsed().as_nanos() as f64 / f64::from(CHUNK / calls * calls)
        })
        .collect();
    quantile(&mut chunks, 0.25)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn pin_to(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        println!("not pinned to CPU {cpu}: {error}");
    }
}
