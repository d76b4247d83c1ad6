//! Flows on the running kernel: every socket's traffic belongs to the process that used it. Loopback only.

#[path = "support/multipath.rs"]
mod multipath;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use collector::agent::inbox::Lane;
use collector::decode::Record;
use collector_common::flow::{Direction, FLOW_WITNESSED, Flow, Why};
use collector_common::header::tgid_of;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Outcome, Watch, end, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act(&args[1..]);
        return ExitCode::SUCCESS;
    }
    let skip = !support::kernel_tests_are_on();
    let tests: [(&str, fn()); 7] = [
        ("a_connection_belongs_to_its_client_v4_v6_and_v4_mapped", a_connection_belongs_to_its_client),
        ("an_accepted_connection_belongs_to_the_worker_that_serves_it", an_accepted_connection_belongs_to_the_worker),
        ("datagrams_belong_to_their_sender", datagrams_belong_to_their_sender),
        ("the_answers_of_a_datagram_server_are_no_destinations", answers_are_no_destinations),
        ("connections_of_a_multipath_listener_belong_to_who_serves_them", multipath_connections_belong_to_who_serves),
        ("what_is_still_queued_at_close_is_counted", what_is_still_queued_at_close_is_counted),
        ("an_unknown_destination_of_a_ready_workload_is_told_at_once", an_unknown_destination_is_told_at_once),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
        .with_ignored_flag(skip)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn act(args: &[String]) {
    let arg = |at: usize| args[at].as_str();
    match arg(0) {
        // send ADDRESS BYTES: connects, sends, closes.
        "send" => {
            let mut stream = TcpStream::connect(arg(1)).expect("connected");
            stream.write_all(&vec![7; arg(2).parse().expect("a number")]).expect("sent");
        }
        "datagrams" => {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            for _ in 0..3 {
                socket.send_to(&[7; 100], arg(1)).expect("sent");
                socket.recv(&mut [0; 100]).expect("answered");
            }
        }
        // ask plain|multipath PORT: reads 500 bytes, thanks.
        "ask" => {
            let port = arg(2).parse().expect("a port");
            let mut stream = match arg(1) {
                "plain" => TcpStream::connect(("127.0.0.1", port)).expect("connected"),
                _ => multipath::caller(port),
            };
            stream.read_exact(&mut [0; 500]).expect("answered");
            stream.write_all(b"ta!").expect("thanked");
        }
        // answer N ADDRESS: prints where it listens, answers N datagrams when all have come, then calls the address by the same
        // socket.
        "answer" => {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            println!("{}", socket.local_addr().expect("its address"));
            let count: usize = arg(1).parse().expect("a number");
            let callers: Vec<SocketAddr> =
                (0..count).map(|_| socket.recv_from(&mut [0; 100]).expect("a datagram").1).collect();
            for caller in callers {
                socket.send_to(&[7; 50], caller).expect("answered");
            }
            socket.send_to(&[7; 50], arg(2)).expect("sent");
        }
        // serve-multipath N: listens as Go does, answers N callers of either protocol.
        "serve-multipath" => {
            let Ok(listener) = multipath::listener() else {
                println!("none");
                return;
            };
            println!("{}", listener.local_addr().expect("its address").port());
            for _ in 0..arg(1).parse().expect("a number") {
                let (mut stream, _) = listener.accept().expect("a client");
                stream.write_all(&[7; 500]).expect("answered");
                stream.read_exact(&mut [0; 3]).expect("thanked");
            }
        }
        // serve: a master listens, a forked worker accepts one connection and answers 500 bytes.
        "serve" => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            println!("{}", listener.local_addr().expect("its address"));
            // SAFETY: the child runs plain code of this single-threaded process and leaves by _exit.
            let worker = unsafe { libc::fork() };
            if worker == 0 {
                let (mut stream, _) = listener.accept().expect("a client");
                stream.read_exact(&mut [0; 3]).expect("a request");
                stream.write_all(&[7; 500]).expect("answered");
                drop(stream);
                // SAFETY: ends this process.
                unsafe { libc::_exit(0) };
            }
            println!("{worker}");
            // SAFETY: waits for the child above.
            unsafe { libc::wait(std::ptr::null_mut()) };
        }
        other => panic!("no child action {other}"),
    }
}

fn child(watch: &Watch, args: &[&str]) -> Command {
    let mut command = watch.cgroup.command(std::env::current_exe().expect("own path"));
    command.arg("--child").args(args).stdin(Stdio::null());
    command
}

/// A server outside the watched cgroup that reads everything.
fn reader(bind: &str) -> SocketAddr {
    let listener = TcpListener::bind(bind).expect("a listener");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    address
}

fn closed(outcome: &Outcome) -> Vec<Flow> {
    let flows = outcome.records.iter().filter_map(|(_, record)| match record {
        Record::Flow(flow) if flow.why == Why::Close as u8 => Some(*flow),
        _ => None,
    });
    flows.collect()
}

/// Waits until the socket has really closed, then ends the watch.
fn finish(watch: Watch) -> Outcome {
    watch.wait_for("closed flow", |record| matches!(record, Record::Flow(flow) if flow.why == Why::Close as u8));
    std::thread::sleep(Duration::from_millis(100));
    watch.finish()
}

fn a_connection_belongs_to_its_client() {
    for (bind, mapped) in [("127.0.0.1:0", false), ("[::1]:0", false), ("127.0.0.1:0", true)] {
        let watch = Watch::new("client");
        let server = reader(bind);
        let address = if mapped { format!("[::ffff:127.0.0.1]:{}", server.port()) } else { server.to_string() };
        let mut client = child(&watch, &["send", &address, "1000"]).spawn().expect("a client");
        let pid = client.id();
        assert!(client.wait().expect("its end").success());
        let flows = closed(&finish(watch));
        let flow = flows.iter().find(|flow| flow.remote_port == server.port()).unwrap_or_else(|| panic!("{flows:?}"));
        assert_eq!(tgid_of(flow.header.cookie), pid, "the user, to {address}");
        assert_eq!(tgid_of(flow.opener), pid);
        assert_eq!(flow.direction, Direction::Out as u8);
        assert!((1_000..3_000).contains(&flow.tx_bytes), "payload and headers: {flow:?}");
        assert!(flow.rx_bytes > 0 && flow.tx_packets >= 3);
        let v4_mapped = flow.remote[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        assert_eq!(v4_mapped, bind.starts_with("127"), "IPv4 has one form");
        // SYN, FIN and ACK were seen.
        assert_eq!(flow.tcp_flags & 0x13, 0x13);
    }
}

fn an_accepted_connection_belongs_to_the_worker() {
    let watch = Watch::new("worker");
    let mut server = child(&watch, &["serve"]).stdout(Stdio::piped()).spawn().expect("a server");
    let master = server.id();
    let mut told = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().expect("its output")));
    let address = told.next().expect("an address").expect("text");
    let worker: u32 = told.next().expect("a pid").expect("text").parse().expect("a number");
    let mut stream = TcpStream::connect(&address).expect("connected");
    stream.write_all(b"get").expect("asked");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    drop(stream);
    server.wait().expect("its end");
    let flows = closed(&finish(watch));
    let flow = flows.iter().find(|flow| flow.direction == Direction::In as u8).unwrap_or_else(|| panic!("{flows:?}"));
    assert_eq!(tgid_of(flow.header.cookie), worker, "who serves it");
    assert_eq!(tgid_of(flow.opener), master, "who listened");
    assert_eq!(flow.header.flags & FLOW_WITNESSED, FLOW_WITNESSED, "the handshake was seen");
    assert!(flow.tx_bytes >= 500);
}

fn datagrams_belong_to_their_sender() {
    let watch = Watch::new("datagrams");
    let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = server.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut buffer = [0; 200];
        while let Ok((bytes, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..bytes], from);
        }
    });
    let mut client = child(&watch, &["datagrams", &address.to_string()]).spawn().expect("a client");
    let pid = client.id();
    assert!(client.wait().expect("its end").success());
    let flows = closed(&finish(watch));
    let flow = flows.iter().find(|flow| flow.remote_port == address.port()).unwrap_or_else(|| panic!("{flows:?}"));
    assert_eq!(tgid_of(flow.header.cookie), pid);
    assert_eq!((flow.protocol, flow.direction), (17, Direction::Out as u8));
    assert_eq!((flow.tx_packets, flow.rx_packets), (3, 3));
    assert_eq!(flow.tx_bytes, 3 * (100 + 28), "payload, UDP and IP headers");
}

fn answers_are_no_destinations() {
    let mut watch = Watch::new("answers");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let place = stranger.local_addr().expect("its address");
    watch.kernel.mark_ready(watch.cgroup.id(), true).expect("marked");
    let mut command = child(&watch, &["answer", "3", &place.to_string()]);
    let mut server = command.stdout(Stdio::piped()).spawn().expect("a server");
    let mut told = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().expect("its output")));
    let address = told.next().expect("an address").expect("text");
    let callers: [UdpSocket; 3] = std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    for caller in &callers {
        caller.send_to(&[1; 20], &address).expect("asked");
    }
    for caller in &callers {
        assert_eq!(caller.recv(&mut [0; 100]).expect("answered"), 50);
    }
    assert!(server.wait().expect("its end").success());
    let outcome = finish(watch);
    let novel: Vec<u16> = outcome
        .records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Flow(flow) if flow.why == Why::Novel as u8 => Some(flow.remote_port),
            _ => None,
        })
        .collect();
    assert_eq!(novel, [place.port()], "whoever asked first is no destination");
    let flows = closed(&outcome);
    let [served, called] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((served.direction, served.rx_packets, served.tx_packets), (Direction::In as u8, 3, 3));
    assert_eq!((called.direction, called.tx_packets), (Direction::Out as u8, 1));
    assert_eq!(called.remote_port, place.port());
}

/// They are cloned from a socket that the kernel made for itself, and MPTCP's packets go by such sockets, too.
fn multipath_connections_belong_to_who_serves() {
    let watch = Watch::new("multipath");
    let mut command = child(&watch, &["serve-multipath", "2"]);
    let mut server = command.stdout(Stdio::piped()).spawn().expect("a server");
    let pid = server.id();
    let mut told = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().expect("its output")));
    let port = told.next().expect("a port").expect("text");
    if port == "none" {
        println!("MPTCP does not exist on this kernel");
        return;
    }
    let callers = ["plain", "multipath"];
    for caller in callers {
        let mut client = child(&watch, &["ask", caller, &port]).spawn().expect("a client");
        assert!(client.wait().expect("its end").success(), "{caller}");
    }
    assert!(server.wait().expect("its end").success());
    let port: u16 = port.parse().expect("a number");
    let outcome = finish(watch);
    let flows = closed(&outcome);
    let served: Vec<_> = flows.iter().filter(|flow| flow.local_port == port).collect();
    assert_eq!(served.len(), callers.len(), "{flows:?}");
    for flow in served {
        assert_eq!((tgid_of(flow.header.cookie), flow.direction), (pid, Direction::In as u8), "{flow:?}");
        assert!(flow.tx_bytes >= 500);
    }
    for flow in flows.iter().filter(|flow| flow.remote_port == port) {
        assert_ne!(flow.header.cookie, 0, "a caller's: {flow:?}");
        assert_eq!(flow.direction, Direction::Out as u8);
    }
}

fn what_is_still_queued_at_close_is_counted() {
    const BYTES: u64 = 300_000;
    let watch = Watch::new("queued");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let client = child(&watch, &["send", &address.to_string(), &BYTES.to_string()]).spawn().expect("a client");
    let (mut stream, _) = listener.accept().expect("a connection");
    // The client is gone long before its bytes are read.
    std::thread::sleep(Duration::from_millis(300));
    let mut read = Vec::new();
    stream.read_to_end(&mut read).expect("everything");
    drop(stream);
    assert_eq!(read.len() as u64, BYTES);
    let flows = closed(&finish(watch));
    let flow = flows.iter().find(|flow| flow.remote_port == address.port()).unwrap_or_else(|| panic!("{flows:?}"));
    assert!(flow.tx_bytes >= BYTES, "{flow:?}");
    end(client);
}

fn an_unknown_destination_is_told_at_once() {
    let mut watch = Watch::new("novel");
    let server = reader("127.0.0.1:0");
    run(&mut child(&watch, &["send", &server.to_string(), "10"]));
    let id = watch.cgroup.id();
    watch.kernel.mark_ready(id, true).expect("marked");
    run(&mut child(&watch, &["send", &server.to_string(), "10"]));
    let is_novel = |record: &Record| matches!(record, Record::Flow(flow) if flow.why == Why::Novel as u8);
    watch.wait_for("first-seen destination", is_novel);
    let outcome = watch.finish();
    let novel: Vec<_> = outcome.records.iter().filter(|(_, record)| is_novel(record)).collect();
    assert_eq!(novel.len(), 1, "only after the workload was ready");
    assert_eq!(novel[0].0, Lane::Ctrl, "on the ring that wakes its reader");
}
