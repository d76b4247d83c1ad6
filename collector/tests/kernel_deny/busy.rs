//! A denial that is wrong, on an nginx that is busy: what it costs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use collector::decision::{Author, Target};
use collector::enforce::Enforcer;
use collector::enrich::clock::boot_now;

use crate::support::{decision, end, slowness};
use crate::{cookie_in_proc, guard, long, to};

const CLIENTS: usize = 4;
const REQUESTS: usize = 10_000;

/// nginx, if this machine has one.
pub fn nginx() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into()]).collect::<Vec<_>>();
    folders.into_iter().map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

/// Acceptance 13: the server goes to one place that it knows and to one that is new, which is taken for an attack. As the
/// policy does with a service's main process, its tree is denied that one destination.
pub fn a_false_denial_costs_a_busy_nginx_the_novel_act_and_no_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let [front, behind] = [free_port(), free_port()];
    fs::write(folder.path().join("nginx.conf"), configuration(&folder.path().to_string_lossy(), front, behind))
        .expect("written");
    let (watch, mut enforcer) = guard("busy");
    let mut server = watch.cgroup.command(nginx().expect("it was looked for"));
    server.arg("-p").arg(folder.path()).args(["-e", "error.log", "-c", "nginx.conf"]);
    let server = server.stdin(Stdio::null()).spawn().expect("nginx starts");
    let deadline = boot_now() + 10_000_000_000 * slowness();
    while TcpStream::connect(("127.0.0.1", front)).is_err() {
        assert!(boot_now() < deadline, "nginx does not listen");
        sleep(Duration::from_millis(10));
    }
    let requests = REQUESTS / slowness() as usize;
    assert_eq!(ask(front, "/new", 1), [200], "nothing is denied yet");

    let (done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                // A hundred requests a connection: old ones go on, and new ones are accepted.
                for _ in 0..requests / CLIENTS / 100 {
                    let statuses = ask(front, "/", 100);
                    failed.fetch_add(100 - statuses.iter().filter(|status| **status == 200).count(), Ordering::Relaxed);
                    done.fetch_add(100, Ordering::Relaxed);
                }
            });
        }
        while done.load(Ordering::Relaxed) < requests / 10 {
            sleep(Duration::from_millis(1));
        }
        let cookie = cookie_in_proc(server.id());
        let mut wrong =
            decision(1, Target::TreeAddress { cookie, to: to("127.0.0.3/32", &[(behind, behind)]) }, long());
        wrong.author = Author::Automatic;
        enforcer.apply(&[wrong], boot_now()).expect("applied");
        assert_eq!(ask(front, "/new", 3), [502, 502, 502], "the novel act is denied");
        assert!(done.load(Ordering::Relaxed) < requests, "while it is busy");
    });
    assert_eq!(ask(front, "/new", 1), [502], "and stays so");
    assert_eq!((done.into_inner(), failed.into_inner()), (requests, 0), "requests, and those that failed");
    assert!(enforcer.hits().expect("hits").get(&1).is_some_and(|hits| *hits >= 4));
    end(server);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn configuration(folder: &str, front: u16, behind: u16) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places: String = kinds.iter().map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).collect();
    format!(
        "daemon off; user root; worker_processes 2; pid {folder}/pid; events {{ }}\n\
         http {{ access_log off; {places}\n\
         server {{ listen 127.0.0.1:{front};\n\
         location / {{ proxy_pass http://127.0.0.2:{behind}; }} location /new {{ proxy_pass http://127.0.0.3:{behind}; }} }}\n\
         server {{ listen 127.0.0.2:{behind}; listen 127.0.0.3:{behind}; location / {{ return 200 ok; }} }} }}\n"
    )
}

/// The statuses of so many requests over one connection; those that got no answer are not among them.
fn ask(port: u16, path: &str, times: usize) -> Vec<u16> {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return Vec::new() };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10 * slowness())));
    let mut stream = BufReader::new(stream);
    (0..times).map_while(|_| answer(&mut stream, path)).collect()
}

fn answer(stream: &mut BufReader<TcpStream>, path: &str) -> Option<u16> {
    stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).ok()?;
    let mut lines = stream.by_ref().lines().map_while(Result::ok);
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = lines.take_while(|line| !line.is_empty());
    let length = header.filter_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).last()?;
    let mut body: Vec<u8> = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(status)
}
