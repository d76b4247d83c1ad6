//! What Stockade adds to operations that a service makes: fork and exit, exec, open and close, connect and close.
//!
//! A child in a cgroup of its own makes them, in turns with every program attached to that cgroup and with none. What counts
//! is the ratio of the two, each the median of its rounds; the absolute numbers are those of this machine at that moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};

const ROUNDS: usize = 6;
const OPERATIONS: &[(&str, u32)] =
    &[("fork+exit", 300), ("exec", 150), ("open+close", 20_000), ("connect+close", 1_500)];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        return measure(&args[1]);
    }
    let mount = mount_of_cgroup2().expect("a cgroup v2 hierarchy");
    let cgroup = mount.join(format!("stockade-bench-{}", std::process::id()));
    fs::create_dir(&cgroup).expect("a cgroup: run as root");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let child = || -> BTreeMap<String, f64> {
        let script = "echo 0 > \"$0/cgroup.procs\"; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(&cgroup).arg(std::env::current_exe().expect("own path"));
        let output = command.args(["--child", &address]).stderr(Stdio::inherit()).output().expect("a child");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let parse = |line: &str| Some((line.split_once('\t')?.0.to_owned(), line.split_once('\t')?.1.parse().ok()?));
        text.lines().filter_map(parse).collect()
    };
    let mut seen: BTreeMap<(&str, bool), Vec<f64>> = BTreeMap::new();
    for round in 0..ROUNDS * 2 {
        let attached = round % 2 == 1;
        let options = KernelOptions {
            scope: Some(cgroup.clone()),
            cgroup_mount: Some(mount.clone()),
            skip_tgid: 0,
            ..KernelOptions::default()
        };
        let mut kernel = attached.then(|| Kernel::load(&options).expect("cargo xtask bpf, and as root"));
        let rings = kernel.as_mut().map(|kernel| kernel.take_rings().expect("rings"));
        let told = child();
        drop((rings, kernel));
        for (name, _) in OPERATIONS {
            seen.entry((name, attached)).or_default().extend(told.get(*name));
        }
    }
    for (name, _) in OPERATIONS {
        let mut median = |attached| {
            let values = seen.get_mut(&(*name, attached)).expect("measured");
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (without, with) = (median(false), median(true));
        let (without_us, with_us) = (without / 1_000.0, with / 1_000.0);
        println!("{name:<14} without {without_us:>8.2} µs   with {with_us:>8.2} µs   ratio {:.3}", with / without);
    }
    let _ = fs::remove_dir(&cgroup);
}

fn measure(address: &str) {
    for (name, times) in OPERATIONS {
        let began = Instant::now();
        for _ in 0..*times {
            match *name {
                "fork+exit" => fork_and_wait(),
                "exec" => drop(Command::new("/bin/true").status()),
                "open+close" => drop(File::open("/etc/hostname").or_else(|_| File::open("/etc/passwd"))),
                _ => drop(TcpStream::connect(address)),
            }
        }
        println!("{name}\t{}", began.elapsed().as_nanos() as f64 / f64::from(*times));
    }
}

fn fork_and_wait() {
    // SAFETY: the child leaves at once.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}
