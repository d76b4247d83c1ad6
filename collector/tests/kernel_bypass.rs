//! Ways round a denial: every way that somebody who may not connect could try to send something all the same. Loopback only.
//!
//! The binary is its own child: `--child puppet`, which does what it is told and prints the errno.

#[path = "support/multipath.rs"]
mod multipath;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use collector::contain::kill::cookie_in_proc;
use collector::decision::Target;
use collector::enforce::{Enforcer, KernelEnforcer, KernelMaps};
use collector::enrich::clock::boot_now;
use io_uring::{IoUring, opcode, types};
use support::Watch;

const EPERM: i32 = 1;
/// What io_uring and the others say when a kernel cannot do it at all.
const CANNOT: [i32; 6] = [38, 92, 93, 94, 95, 97];

fn main() -> ExitCode {
    collector::loader::canary::act_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act();
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let tests: [(&str, fn()); 4] = [
        ("no_way_of_connecting_passes_a_denial", no_way_of_connecting_passes_a_denial),
        ("no_datagram_and_no_raw_packet_leaves_an_isolated_tree", no_datagram_and_no_raw_packet_leaves),
        ("moving_to_another_cgroup_does_not_leave_the_tree", moving_to_another_cgroup_does_not_help),
        ("what_a_multipath_listener_accepted_is_denied_too", what_a_multipath_listener_accepted_is_denied_too),
    ];
    support::run_one_by_one(on, tests.map(|(name, test)| (name, false, test)))
}

// ---- The puppet ----------------------------------------------------------------------------------------------------

fn act() {
    let mut listener = None;
    let mut accepted: Vec<TcpStream> = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let (way, rest) = line.split_once(' ').unwrap_or((&line, "0"));
        let errno = match way {
            "move" => std::fs::write(rest, "0").err().and_then(|error| error.raw_os_error()).unwrap_or(0),
            // Answers the port, or a negative errno.
            "listen-mptcp" => {
                let made = multipath::listener();
                let port = made.as_ref().map_or_else(|errno| -errno, |listener| port_of(listener).into());
                listener = made.ok();
                port
            }
            "accept" => {
                accepted.push(listener.as_ref().expect("a listener").accept().expect("a caller").0);
                0
            }
            "say" => {
                let said = accepted[rest.parse::<usize>().expect("a number")].write_all(b"out");
                said.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
            }
            way => attempt(way, rest.parse().expect("a port")),
        };
        println!("{errno}");
    }
}

/// 127.0.0.1 and a port.
fn v4(port: u16) -> libc::sockaddr_in {
    // SAFETY: a plain structure of numbers.
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address
}

/// ::ffff:127.0.0.1 and a port.
fn mapped(port: u16) -> libc::sockaddr_in6 {
    // SAFETY: as above.
    let mut address: libc::sockaddr_in6 = unsafe { zeroed() };
    address.sin6_family = libc::AF_INET6 as u16;
    address.sin6_port = port.to_be();
    address.sin6_addr.s6_addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    address
}

/// Tries one way; 0 when it worked.
fn attempt(way: &str, port: u16) -> i32 {
    // SAFETY: system calls on descriptors of our own with addresses of the size that is told.
    let done = unsafe {
        match way {
            "tcp" => connect(libc::SOCK_STREAM, 0, &v4(port)),
            "mapped" => connect(libc::SOCK_STREAM, 0, &mapped(port)),
            "mptcp" => connect(libc::SOCK_STREAM, libc::IPPROTO_MPTCP, &v4(port)),
            "udp-connect" => connect(libc::SOCK_DGRAM, 0, &v4(port)),
            "fast-open" => send_to(libc::SOCK_STREAM, 0, libc::MSG_FASTOPEN, &v4(port)),
            "udp-sendto" => send_to(libc::SOCK_DGRAM, 0, 0, &v4(port)),
            "raw" => send_raw(port),
            "thread" => std::thread::spawn(move || connect(libc::SOCK_STREAM, 0, &v4(port))).join().expect("it"),
            "uring" => return by_ring(port),
            other => panic!("no way {other}"),
        }
    };
    if done < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("its address").port()
}

unsafe fn connect<A>(kind: i32, protocol: i32, address: &A) -> i32 {
    // SAFETY: by the caller's contract: an address structure.
    unsafe {
        let family = i32::from(*std::ptr::from_ref(address).cast::<u16>());
        let socket = libc::socket(family, kind, protocol);
        if socket < 0 {
            return socket;
        }
        let done = libc::connect(socket, std::ptr::from_ref(address).cast(), size_of::<A>() as u32);
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        libc::close(socket);
        *libc::__errno_location() = error;
        done
    }
}

unsafe fn send_to<A>(kind: i32, protocol: i32, flags: i32, address: &A) -> i32 {
    // SAFETY: as above.
    unsafe {
        let socket = libc::socket(libc::AF_INET, kind, protocol);
        if socket < 0 {
            return socket;
        }
        let text = b"out";
        let to = std::ptr::from_ref(address).cast();
        let done = libc::sendto(socket, text.as_ptr().cast(), text.len(), flags, to, size_of::<A>() as u32);
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        libc::close(socket);
        *libc::__errno_location() = error;
        done as i32
    }
}

/// A UDP datagram made by hand on a raw socket.
unsafe fn send_raw(port: u16) -> i32 {
    // SAFETY: as above.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP);
        if socket < 0 {
            return socket;
        }
        let mut datagram = [0u8; 11];
        datagram[..2].copy_from_slice(&4_000u16.to_be_bytes());
        datagram[2..4].copy_from_slice(&port.to_be_bytes());
        datagram[4..6].copy_from_slice(&11u16.to_be_bytes());
        datagram[8..].copy_from_slice(b"out");
        let to = v4(0);
        let size = size_of::<libc::sockaddr_in>() as u32;
        let done = libc::sendto(socket, datagram.as_ptr().cast(), datagram.len(), 0, (&raw const to).cast(), size);
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        libc::close(socket);
        *libc::__errno_location() = error;
        done as i32
    }
}

fn by_ring(port: u16) -> i32 {
    let Ok(mut ring) = IoUring::new(4) else { return 38 };
    let address = v4(port);
    // SAFETY: the address outlives the operation, which is waited for.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let connect =
            opcode::Connect::new(types::Fd(socket), (&raw const address).cast(), size_of_val(&address) as u32);
        ring.submission().push(&connect.build()).expect("room");
        ring.submit_and_wait(1).expect("submitted");
        let done = ring.completion().next().expect("an answer").result();
        libc::close(socket);
        if done < 0 { -done } else { 0 }
    }
}

struct Puppet {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Puppet {
    fn start(watch: &Watch) -> Self {
        let mut command = watch.cgroup.command(std::env::current_exe().expect("own path"));
        command.args(["--child", "puppet"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a puppet");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, answers }
    }

    fn errno(&mut self, way: &str, rest: impl std::fmt::Display) -> i32 {
        let line = format!("{way} {rest}\n");
        self.child.stdin.as_mut().expect("its input").write_all(line.as_bytes()).expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().parse().unwrap_or_else(|_| panic!("{way}: {answer:?}"))
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- What the tests need -------------------------------------------------------------------------------------------

fn isolate(watch: &Watch, puppet: &Puppet) -> KernelEnforcer {
    let mut enforcer = KernelEnforcer::new(KernelMaps::of(&watch.kernel).expect("deny maps"));
    let target = Target::Tree { cookie: cookie_in_proc(puppet.child.id()).expect("it lives") };
    let decision = support::decision(1, target, boot_now() + 60_000_000_000);
    enforcer.apply(&[decision], boot_now()).expect("applied");
    enforcer
}

fn tcp_server() -> u16 {
    let listener = TcpListener::bind("[::]:0").expect("a listener for both families");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    port
}

/// A UDP port, and how many datagrams came.
fn udp_server() -> (u16, Arc<AtomicU64>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("its address").port();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        while socket.recv(&mut [0; 64]).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, count)
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn no_way_of_connecting_passes_a_denial() {
    let watch = Watch::new("ways");
    let port = tcp_server();
    let (mut inside, mut outside) = (Puppet::start(&watch), Puppet::start(&watch));
    let ways = ["tcp", "mapped", "mptcp", "udp-connect", "fast-open", "thread", "uring"];
    let before: Vec<i32> = ways.iter().map(|way| inside.errno(way, port)).collect();
    let _enforcer = isolate(&watch, &inside);
    for (way, before) in ways.iter().zip(before) {
        let after = inside.errno(way, port);
        if CANNOT.contains(&before) {
            println!("{way} does not exist on this kernel (errno {before})");
            continue;
        }
        assert_eq!((before, after), (0, EPERM), "{way}");
        assert_eq!(outside.errno(way, port), 0, "{way}: nobody else is denied");
    }
}

fn no_datagram_and_no_raw_packet_leaves() {
    let mut watch = Watch::new("packets");
    let lsm = watch.kernel.prove().is_ok_and(|proven| proven > 0);
    let (port, count) = udp_server();
    let (mut inside, mut outside) = (Puppet::start(&watch), Puppet::start(&watch));
    let came = |count: &AtomicU64| {
        std::thread::sleep(Duration::from_millis(100));
        count.swap(0, Ordering::Relaxed)
    };
    for way in ["udp-sendto", "raw"] {
        assert_eq!(inside.errno(way, port), 0, "{way}");
        assert_eq!(came(&count), 1, "{way}: before the denial it comes through");
    }
    let _enforcer = isolate(&watch, &inside);
    assert_eq!(inside.errno("udp-sendto", port), EPERM);
    let raw = inside.errno("raw", port);
    assert_eq!(raw, EPERM, "a raw socket {} refused", if lsm { "is" } else { "is made, but its packet is" });
    assert_eq!(came(&count), 0, "nothing came through");
    assert_eq!((outside.errno("udp-sendto", port), outside.errno("raw", port)), (0, 0));
    assert_eq!(came(&count), 2, "nobody else is denied");
}

fn moving_to_another_cgroup_does_not_help() {
    let watch = Watch::new("move");
    let places = [watch.cgroup.child("down"), watch.cgroup.child("aside")];
    let port = tcp_server();
    let mut inside = Puppet::start(&watch);
    assert_eq!(inside.errno("tcp", port), 0);
    let _enforcer = isolate(&watch, &inside);
    for place in &places {
        assert_eq!(inside.errno("move", place.path.join("cgroup.procs").display()), 0, "it may move");
        assert_eq!(inside.errno("tcp", port), EPERM, "but that is no way out");
    }
}

/// Such a listener's connections are cloned from a socket of the kernel's own, which no process has ever made.
fn what_a_multipath_listener_accepted_is_denied_too() {
    let watch = Watch::new("multipath");
    let (mut inside, mut outside) = (Puppet::start(&watch), Puppet::start(&watch));
    let mut callers = [&mut inside, &mut outside].map(|puppet| {
        let port = puppet.errno("listen-mptcp", 0);
        if CANNOT.contains(&-port) {
            println!("MPTCP does not exist on this kernel (errno {})", -port);
            return Vec::new();
        }
        let port = u16::try_from(port).unwrap_or_else(|_| panic!("errno {}", -port));
        // The first two are spoken to before the denial, the other two never were.
        let plain = || TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let callers = vec![plain(), multipath::caller(port), plain(), multipath::caller(port)];
        for _ in &callers {
            puppet.errno("accept", 0);
        }
        callers
    });
    if callers[0].is_empty() {
        return;
    }
    let heard = |caller: &mut TcpStream| {
        caller.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
        caller.read(&mut [0; 8]).unwrap_or(0)
    };
    for (at, caller) in callers[0].iter_mut().take(2).enumerate() {
        assert_eq!(inside.errno("say", at), 0);
        assert_eq!(heard(caller), 3, "before the denial it comes through");
    }
    let _enforcer = isolate(&watch, &inside);
    for at in 0..4 {
        inside.errno("say", at);
        assert_eq!(heard(&mut callers[0][at]), 0, "caller {at} of the denied tree");
        assert_eq!(outside.errno("say", at), 0);
        assert_eq!(heard(&mut callers[1][at]), 3, "caller {at} of somebody else");
    }
}
