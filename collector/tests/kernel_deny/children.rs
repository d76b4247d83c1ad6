//! What the children of the denial tests do: dial, and play the agent that is killed.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use collector::decision::Target;
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use collector::loader::{Kernel, KernelOptions, mount_of_cgroup2};

use super::support::decision;
use super::{MS, cookie_in_proc, support};

/// One action, by name.
pub fn act(args: &[String]) {
    let arg = |at: usize| args[at].as_str();
    match arg(0) {
        // dial ADDRESS LOG: connects every 5 ms and writes down when and how it ended.
        "dial" => dial(arg(1), Path::new(arg(2)), "main"),
        // once ADDRESS: prints the errno.
        "once" => print!("{}", errno_of(arg(1))),
        // family ADDRESS LOG: itself, a double-forked orphan, and after a second a younger child.
        "family" => family(arg(1), Path::new(arg(2))),
        "talk" => talk(arg(1)),
        "hammer" => hammer(arg(1), arg(2).parse().expect("a number")),
        "agent" => agent(Path::new(arg(1)), Path::new(arg(2)), arg(3).parse().expect("milliseconds")),
        other => panic!("no child action {other}"),
    }
}

fn errno_of(address: &str) -> i32 {
    let address: SocketAddr = address.parse().expect("an address");
    match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

fn dial(address: &str, log: &Path, who: &str) {
    let mut log = OpenOptions::new().create(true).append(true).open(log).expect("a log");
    // Longer than any test: whoever started it ends it.
    for _ in 0..20_000 * support::slowness() {
        let at = boot_now();
        let errno = errno_of(address);
        log.write_all(format!("{who} {at} {errno} {}\n", boot_now()).as_bytes()).expect("written");
        sleep(Duration::from_millis(5));
    }
}

fn family(address: &str, log: &Path) {
    // SAFETY: the children run plain code of this single-threaded process and leave by _exit.
    unsafe {
        if libc::fork() == 0 {
            if libc::fork() == 0 {
                dial(address, log, "orphan");
            }
            libc::_exit(0);
        }
        libc::wait(std::ptr::null_mut());
        if libc::fork() == 0 {
            libc::usleep(1_000_000);
            if libc::fork() == 0 {
                dial(address, log, "younger");
            }
            libc::_exit(0);
        }
    }
    dial(address, log, "main");
}

fn talk(address: &str) {
    let mut stream = TcpStream::connect(address).expect("connected");
    while stream.write_all(b"x").is_ok() {
        sleep(Duration::from_millis(5));
    }
}

/// Connects a datagram socket again and again: the same hook, no packet.
fn hammer(address: &str, times: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let denied = (0..times).filter(|_| socket.connect(address).is_err()).count();
    print!("{denied}");
}

/// The agent that is killed: loads, pins, denies the tree whose pid it is told, and waits.
fn agent(scope: &Path, bpffs: &Path, ttl_ms: u64) {
    let options = KernelOptions {
        scope: Some(scope.to_path_buf()),
        cgroup_mount: mount_of_cgroup2(),
        bpffs: Some(bpffs.to_path_buf()),
        ..KernelOptions::default()
    };
    let kernel = Kernel::load(&options).expect("loaded");
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&kernel).expect("maps"));
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a pid");
    let until = boot_now() + ttl_ms * MS;
    let target = Target::Tree { cookie: cookie_in_proc(line.trim().parse().expect("a number")) };
    enforcer.apply(&[decision(1, target, until)], boot_now()).expect("applied");
    println!("{until}");
    sleep(Duration::from_secs(60));
}
