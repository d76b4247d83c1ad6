//! What is lost at which rate with which ring: as many syscalls as the machine can make, read by the agent's own ring thread.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use collector::agent::inbox::Lane;
use collector::decode::decode;
use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};
use collector::ring::{RingSink, Rings};
use collector_common::stats::{Program, Stats};

const CALLS: u64 = 2_000_000;

struct Count(Arc<AtomicU64>);

impl RingSink for Count {
    fn take(&mut self, _: Lane, bytes: &[u8]) -> bool {
        self.0.fetch_add(u64::from(decode(bytes).is_ok()), Ordering::Relaxed);
        true
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--child") {
        // SAFETY: a call without arguments.
        (0..CALLS).for_each(|_| unsafe {
            libc::syscall(libc::SYS_getppid);
        });
        return;
    }
    for processes in [1, 2] {
        for kib in [16u32, 256, 8_192] {
            measure(processes, kib);
        }
    }
}

fn measure(processes: usize, kib: u32) {
    let mount = mount_of_cgroup2().expect("a cgroup v2 hierarchy");
    let scope = mount.join(format!("stockade-bench-{}", std::process::id()));
    std::fs::create_dir(&scope).expect("run as root");
    let options = KernelOptions {
        scope: Some(scope.clone()),
        cgroup_mount: Some(mount),
        bulk_bytes: kib << 10,
        ..KernelOptions::default()
    };
    let mut kernel = Kernel::load(&options).expect("run after cargo xtask bpf");
    let (ctrl, bulk) = kernel.take_rings().expect("rings");
    let decoded = Arc::new(AtomicU64::new(0));
    let rings = Rings::start(ctrl, bulk, Count(decoded.clone())).expect("a thread");
    let began = Instant::now();
    let children: Vec<_> = (0..processes)
        .map(|_| {
            Command::new("/bin/sh")
                .args(["-c", "echo 0 > \"$0/cgroup.procs\"; exec \"$@\""])
                .arg(&scope)
                .arg(std::env::current_exe().expect("own path"))
                .arg("--child")
                .stdin(Stdio::null())
                .spawn()
                .expect("a child")
        })
        .collect();
    for mut child in children {
        child.wait().expect("its end");
    }
    let seconds = began.elapsed().as_secs_f64();
    rings.finish();
    let mut sum = Stats::default();
    for (_, _, stats) in
        kernel.stats().expect("statistics").iter().filter(|(program, _, _)| *program == Program::Syscall)
    {
        sum.seen += stats.seen;
        sum.recorded += stats.recorded;
        sum.skipped += stats.skipped;
        sum.missed += stats.missed;
        sum.no_storage += stats.no_storage;
        sum.attempted += stats.attempted;
        sum.ring_full += stats.ring_full;
    }
    drop(kernel);
    let _ = std::fs::remove_dir(&scope);
    println!(
        "{processes} process(es), ring {kib:>5} KiB: {:.2} M calls/s, {:.0} windows/s; calls lost {:.4} %; ledger {}",
        sum.seen as f64 / seconds / 1e6,
        (sum.attempted - sum.ring_full) as f64 / seconds,
        100.0 * sum.missed as f64 / sum.seen as f64,
        if sum.seen == sum.recorded + sum.skipped + sum.missed + sum.no_storage { "closes" } else { "DOES NOT CLOSE" },
    );
}
