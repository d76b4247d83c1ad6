use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as Plain;
use std::time::Duration;

use model::event::{Body, Event, Fork, Process, Time};

use super::*;
use crate::api::client::Client;

struct Fake(broadcast::Sender<WatchItem>);

impl Backend for Fake {
    fn answer(&self, caller: Caller, request: Request) -> Result<Value, ApiError> {
        match request {
            Request::Status => Ok(Value::from(caller.name)),
            _ => Err(ApiError::new(ErrorCode::Refused, "not ready")),
        }
    }

    fn watch(&self) -> broadcast::Receiver<WatchItem> {
        self.0.subscribe()
    }
}

fn served(test: impl FnOnce(&Path)) {
    served_with_watchers(|path, _| test(path));
}

fn served_with_watchers(test: impl FnOnce(&Path, broadcast::Sender<WatchItem>)) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run/stockade.sock");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let watchers = broadcast::channel(8).0;
    let backend = Arc::new(Fake(watchers.clone()));
    let at = path.clone();
    runtime.spawn(async move { serve(&at, None, backend).await });
    while !path.exists() || std::fs::metadata(&path).expect("it").permissions().mode() & 0o777 != 0o660 {
        std::thread::sleep(Duration::from_millis(5));
    }
    test(&path, watchers);
}

#[test]
fn the_socket_is_for_its_group_and_knows_who_asks() {
    served(|path| {
        let mut client = Client::connect(path).expect("a connection");
        let name = client.ask::<String>(Request::Status).expect("an answer");
        assert_eq!(name, login_name(rustix::process::geteuid().as_raw()));
        let refused = client.ask::<Value>(Request::Disarm).expect_err("the fake refuses").to_string();
        assert!(refused.contains("not ready"));
    });
}

#[test]
fn garbage_and_giants_are_refused_without_harm() {
    served(|path| {
        let mut stream = Plain::connect(path).expect("a connection");
        stream.write_all(b"\xff\xfe{]\n").expect("written");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("an answer");
        assert!(line.contains("this is no request"), "{line}");
        let mut giant = Plain::connect(path).expect("a connection");
        let _ = giant.write_all(&vec![b'x'; LONGEST + 10]);
        line.clear();
        let _ = BufReader::new(&giant).read_line(&mut line);
        let mut other = Plain::connect(path).expect("a connection");
        other.write_all(b"{\"version\":99,\"request\":\"status\"}\n").expect("written");
        line.clear();
        BufReader::new(&other).read_line(&mut line).expect("an answer");
        assert!(line.contains("version 99"), "{line}");
        assert!(Client::connect(path).expect("still there").ask::<String>(Request::Status).is_ok());
    });
}

fn fork_at(unix_ns: u64) -> WatchItem {
    let process = Process {
        cookie: 7,
        pid: 7,
        workload: "unit:x.service".into(),
        exe: "/bin/x".into(),
        script: None,
        cmdline: "x".into(),
        uid: 0,
        loginuid: None,
        cgroup: 1,
        ancestors: Vec::new(),
        pre_existing: false,
    };
    let body = Body::Fork(Fork { child: 8, clone_flags: 0 });
    WatchItem::Event(Arc::new(Event { at: Time { unix_ns, boot_ns: 0 }, process: Arc::new(process), body }))
}

#[test]
fn a_stream_brings_what_happens_and_counts_what_a_slow_reader_missed() {
    served_with_watchers(|path, watchers| {
        let client = Client::connect(path).expect("a connection");
        let mut stream = client.watch(Request::Watch { what: Watch::Events }).expect("a stream");
        // The server has subscribed before it says yes to the client.
        assert!(watchers.send(fork_at(1)).is_ok(), "somebody listens");
        let first = stream.next().expect("an item").expect("JSON");
        assert_eq!(first["event"]["at"]["unix_ns"], 1);
        // Far more than socket and channel hold, while nobody reads.
        let sent = 20_000;
        for at in 2..2 + sent {
            assert!(watchers.send(fork_at(at)).is_ok(), "somebody listens");
        }
        let (mut seen, mut missed) = (0, 0);
        while seen + missed < sent {
            let item = stream.next().expect("the stream goes on").expect("JSON");
            match item["missed"].as_u64() {
                Some(count) => missed += count,
                None => seen += 1,
            }
        }
        assert!(missed > 0 && seen + missed == sent, "{seen} seen, {missed} missed of {sent}");
    });
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").expect("written");
    let error = listen(&path, None).expect_err("it is in the way").to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "data");
}

#[test]
fn a_socket_that_a_killed_agent_left_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("stockade.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("an old socket"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async { listen(&path, None) }).expect("a new one");
}

#[test]
fn an_unknown_group_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("stockade.sock");
    let error = listen(&path, Some("no-such-group-here")).expect_err("no such group").to_string();
    assert!(error.contains("agent.group is `no-such-group-here`"), "{error}");
    assert!(!path.exists());
}

#[test]
fn whoever_fills_the_places_cannot_lock_out_root() {
    assert!(admits(1000, MAX_CLIENTS - 1) && !admits(1000, MAX_CLIENTS));
    assert!(admits(0, MAX_CLIENTS) && !admits(0, 2 * MAX_CLIENTS));
}
