//! What no event tells: threads that went idle in the middle of a window, sockets that were open before the agent came,
//! sockets that were handed on.
//!
//! The binary is its own child: `--child ACTION ADDRESS`, moved on line by line.

#[path = "support/multipath.rs"]
mod multipath;
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use collector::contain::kill::cookie_in_proc;
use collector::decode::{Record, trace};
use collector_common::flow::{Direction, Flow};
use collector_common::map::{LINEAGE_PRE_EXISTING, Lineage};
use collector_common::syscall::Why;
use collector_common::token;
use support::{Cgroup, Watch};

/// Processes of a crowd, and how many of them hold a connection.
const CROWD: usize = 500;
const CONNECTED: usize = 300;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act(&args[1], args.get(2).map_or("", String::as_str));
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let tests: [(&str, fn()); 6] = [
        ("an_idle_thread_shows_what_it_did_and_tells_it_again_when_it_ends", an_idle_thread_shows_what_it_did),
        ("a_socket_older_than_the_agent_gets_its_owner", a_socket_older_than_the_agent_gets_its_owner),
        (
            "what_an_older_multipath_listener_accepts_gets_its_owner",
            what_an_older_multipath_listener_accepts_gets_its_owner,
        ),
        ("every_connection_of_a_crowd_gets_its_owner", every_connection_of_a_crowd_gets_its_owner),
        ("a_walk_takes_no_socket_from_who_uses_it", a_walk_takes_no_socket_from_who_uses_it),
        ("a_socket_that_was_handed_on_belongs_to_who_uses_it", a_socket_that_was_handed_on_belongs_to_who_uses_it),
    ];
    support::run_one_by_one(on, tests.map(|(name, test)| (name, false, test)))
}

// ---- The children --------------------------------------------------------------------------------------------------

fn act(action: &str, address: &str) {
    match action {
        // In a thread of its own: how many calls the loader makes differs from machine to machine, and a window that it
        // all but fills would be full, and closed, among the ten.
        "idle" => {
            let idler = std::thread::spawn(|| {
                // SAFETY: no arguments.
                (0..10).for_each(|_| unsafe {
                    libc::syscall(libc::SYS_getppid);
                });
                step("idle");
            });
            idler.join().expect("it ends");
        }
        "talk" => {
            let mut stream = TcpStream::connect(address).expect("connected");
            step("connected");
            stream.write_all(&[7; 1_000]).expect("sent");
            step("sent");
        }
        // Accepts when it is told to, and answers.
        "serve-multipath" => {
            let listener = multipath::listener();
            step(
                &listener.as_ref().map_or(0, |listener| listener.local_addr().expect("its address").port()).to_string(),
            );
            let (mut stream, _) = listener.expect("a listener").accept().expect("a caller");
            stream.write_all(&[7; 1_000]).expect("sent");
            step("sent");
        }
        // Processes of which some hold a connection; those send when they are told to.
        "crowd" => {
            let ([told, tell], [connected, connect]) = (pipe(), pipe());
            for number in 0..CROWD {
                // SAFETY: the child runs plain code of this single-threaded process and leaves by _exit.
                if unsafe { libc::fork() } == 0 {
                    // SAFETY: descriptors of our own; the reader sees the end when the last writer has closed its copy.
                    unsafe {
                        libc::close(tell);
                        let stream = (number < CONNECTED).then(|| TcpStream::connect(address).expect("connected"));
                        libc::write(connect, [1u8].as_ptr().cast(), 1);
                        libc::read(told, [0u8; 1].as_mut_ptr().cast(), 1);
                        if let Some(mut stream) = stream {
                            let _ = stream.write_all(&[7; 10]);
                        }
                        libc::_exit(0);
                    }
                }
            }
            for _ in 0..CROWD {
                // SAFETY: a descriptor of our own and a byte.
                assert_eq!(unsafe { libc::read(connected, [0u8; 1].as_mut_ptr().cast(), 1) }, 1);
            }
            step("connected");
            // SAFETY: as above; children are waited for.
            unsafe {
                libc::close(tell);
                while libc::wait(std::ptr::null_mut()) > 0 {}
            }
            step("sent");
        }
        // The connection is made here and used by a child that inherits it.
        "hand-on" => {
            let mut stream = TcpStream::connect(address).expect("connected");
            step("connected");
            // SAFETY: the child runs plain code and leaves by _exit.
            unsafe {
                if libc::fork() == 0 {
                    let _ = stream.write_all(&[7; 1_000]);
                    libc::sleep(1);
                    libc::_exit(stream.as_raw_fd().min(0));
                }
                libc::wait(std::ptr::null_mut());
            }
            step("sent");
        }
        other => panic!("no child action {other}"),
    }
}

/// Its reading and its writing end.
fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

/// Says where it is and waits to be told to go on.
fn step(at: &str) {
    println!("{at}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
}

struct Puppet {
    child: Child,
    words: BufReader<std::process::ChildStdout>,
}

impl Puppet {
    fn start(cgroup: &Cgroup, action: &str, address: &str) -> Self {
        let mut command = cgroup.command(std::env::current_exe().expect("own path"));
        command.args(["--child", action, address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a puppet");
        let words = BufReader::new(child.stdout.take().expect("its words"));
        Self { child, words }
    }

    fn is_at(&mut self, place: &str) {
        assert_eq!(self.says(), place);
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.words.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"\n").expect("it listens");
    }

    fn cookie(&self) -> u64 {
        cookie_in_proc(self.child.id()).expect("it lives")
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address").to_string();
    (listener, address)
}

/// What the agent does with a process that is older than it.
fn take_in(watch: &mut Watch, puppet: &Puppet) {
    let cookie = puppet.cookie();
    let lineage = Lineage { cookie, root: cookie, flags: LINEAGE_PRE_EXISTING, ..Lineage::default() };
    assert!(watch.kernel.take_in(puppet.child.id(), &lineage).expect("the lineage map"));
}

/// The record of the client's end that says how the flow ended.
fn ended_flow(watch: &Watch, address: &str) -> Flow {
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let is_ended = |record: &Record| matches!(record, Record::Flow(flow) if flow.remote_port == port && flow.why == 3);
    match watch.wait_for("ended flow", is_ended) {
        Record::Flow(flow) => flow,
        _ => unreachable!(),
    }
}

// ---- The tests -----------------------------------------------------------------------------------------------------

fn an_idle_thread_shows_what_it_did() {
    // Long enough for ten calls, also where a busy machine interrupts them.
    let age = Duration::from_millis(1_000);
    let mut watch = Watch::with("idle", |options| options.window_age = age);
    let mut puppet = Puppet::start(&watch.cgroup, "idle", "");
    puppet.is_at("idle");
    watch.kernel.sweep_tasks().expect("a walk");
    std::thread::sleep(Duration::from_millis(50));
    let shown = |watch: &Watch| -> Vec<Vec<u16>> {
        let windows = watch.records().into_iter().filter_map(|record| match record {
            Record::Window(window) if window.why == Why::Idle as u8 => {
                Some(trace(&window).map(token::number).collect())
            }
            _ => None,
        });
        windows.collect()
    };
    assert!(shown(&watch).is_empty(), "a window that may still grow is left alone");
    std::thread::sleep(age + Duration::from_millis(300));
    watch.kernel.sweep_tasks().expect("a walk");
    watch.kernel.sweep_tasks().expect("a walk");
    let is_idle = |record: &Record| matches!(record, Record::Window(window) if window.why == Why::Idle as u8);
    watch.wait_for("idle window", is_idle);
    std::thread::sleep(Duration::from_millis(50));
    let first: Vec<Vec<u16>> = shown(&watch).into_iter().filter(|calls| calls.contains(&110)).collect();
    assert_eq!(first.len(), 1, "once, however often one looks");
    assert_eq!(first[0].iter().filter(|call| **call == 110).count(), 10);
    puppet.go_on();
    let _ = puppet.child.wait();
    let outcome = watch.finish();
    let again = outcome.records.iter().filter_map(|(_, record)| match record {
        Record::Window(window) if window.why != Why::Idle as u8 && window.why != Why::Early as u8 => Some(window),
        _ => None,
    });
    let calls = again.flat_map(|window| trace(window).collect::<Vec<_>>()).filter(|call| token::number(*call) == 110);
    assert_eq!(calls.count(), 10, "the calls come again with the window that is closed, and only there they count");
}

fn a_socket_older_than_the_agent_gets_its_owner() {
    let (listener, address) = server();
    let cgroup = Cgroup::new("older");
    let mut puppet = Puppet::start(&cgroup, "talk", &address);
    puppet.is_at("connected");
    let (mut peer, _) = listener.accept().expect("accepted");
    let mut watch = Watch::over(cgroup, |_| ());
    take_in(&mut watch, &puppet);
    watch.kernel.sweep_sockets().expect("a walk");
    let cookie = puppet.cookie();
    puppet.go_on();
    puppet.is_at("sent");
    puppet.go_on();
    let _ = peer.read_to_end(&mut Vec::new());
    let flow = ended_flow(&watch, &address);
    assert_eq!((flow.header.cookie, flow.opener), (cookie, cookie));
    assert_eq!(flow.cgroup, watch.cgroup.id());
    assert_eq!(flow.direction, Direction::Unknown as u8, "nobody saw it connect: it is no server for that");
}

fn every_connection_of_a_crowd_gets_its_owner() {
    let (listener, address) = server();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
        }
    });
    let cgroup = Cgroup::new("crowd");
    let mut puppet = Puppet::start(&cgroup, "crowd", &address);
    puppet.is_at("connected");
    let members = std::fs::read_to_string(cgroup.path.join("cgroup.procs")).expect("its processes");
    let members: Vec<u32> = members.lines().map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(members.len(), CROWD + 1);
    let mut watch = Watch::over(cgroup, |_| ());
    let cookies: BTreeSet<u64> = members.iter().map(|pid| cookie_in_proc(*pid).expect("it lives")).collect();
    assert_eq!(cookies.len(), CROWD + 1, "cookies are one's own");
    for (pid, cookie) in members.iter().zip(members.iter().map(|pid| cookie_in_proc(*pid).expect("it lives"))) {
        let lineage = Lineage { cookie, root: cookie, flags: LINEAGE_PRE_EXISTING, ..Lineage::default() };
        assert!(watch.kernel.take_in(*pid, &lineage).expect("the lineage map"));
    }
    watch.kernel.sweep_sockets().expect("a walk");
    puppet.go_on();
    puppet.is_at("sent");
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let mut owners = BTreeSet::new();
    watch.wait_for("an end of every flow", |record| {
        if let Record::Flow(flow) = record
            && flow.remote_port == port
            && flow.why == 3
        {
            owners.insert(flow.header.cookie);
        }
        owners.len() == CONNECTED
    });
    assert!(owners.is_subset(&cookies), "each belongs to one of them");
    puppet.go_on();
}

/// A walk finds the socket that its process holds, not the kernel's own below it, from which what it accepts is cloned.
fn what_an_older_multipath_listener_accepts_gets_its_owner() {
    let cgroup = Cgroup::new("older-multipath");
    let mut puppet = Puppet::start(&cgroup, "serve-multipath", "");
    let port: u16 = puppet.says().parse().expect("a port");
    if port == 0 {
        println!("MPTCP does not exist on this kernel");
        return;
    }
    let mut watch = Watch::over(cgroup, |_| ());
    take_in(&mut watch, &puppet);
    watch.kernel.sweep_sockets().expect("a walk");
    let cookie = puppet.cookie();
    let mut caller = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    puppet.go_on();
    puppet.is_at("sent");
    puppet.go_on();
    let _ = caller.read_to_end(&mut Vec::new());
    drop(caller);
    let is_ended = |record: &Record| matches!(record, Record::Flow(flow) if flow.local_port == port && flow.why == 3);
    let Record::Flow(flow) = watch.wait_for("ended flow", is_ended) else { unreachable!() };
    assert_eq!((flow.header.cookie, flow.direction), (cookie, Direction::In as u8));
}

fn a_walk_takes_no_socket_from_who_uses_it() {
    let (listener, address) = server();
    let mut watch = Watch::new("walk");
    let mut puppet = Puppet::start(&watch.cgroup, "talk", &address);
    puppet.is_at("connected");
    let (mut peer, _) = listener.accept().expect("accepted");
    let cookie = puppet.cookie();
    for _ in 0..3 {
        watch.kernel.sweep_sockets().expect("a walk");
    }
    puppet.go_on();
    puppet.is_at("sent");
    puppet.go_on();
    let _ = peer.read_to_end(&mut Vec::new());
    assert_eq!(ended_flow(&watch, &address).header.cookie, cookie, "what was stamped live stays");
}

fn a_socket_that_was_handed_on_belongs_to_who_uses_it() {
    let (listener, address) = server();
    let watch = Watch::new("hand-on");
    let mut puppet = Puppet::start(&watch.cgroup, "hand-on", &address);
    puppet.is_at("connected");
    let (mut peer, _) = listener.accept().expect("accepted");
    let opener = puppet.cookie();
    puppet.go_on();
    puppet.is_at("sent");
    puppet.go_on();
    let _ = peer.read_to_end(&mut Vec::new());
    let flow = ended_flow(&watch, &address);
    let is_child = |record: &Record| matches!(record, Record::Fork(fork) if fork.header.cookie == opener && fork.child == flow.header.cookie);
    assert_eq!(flow.opener, opener, "who made it");
    watch.wait_for("birth of the user", is_child);
}
