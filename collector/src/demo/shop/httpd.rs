//! `shop-httpd`: a pre-forking web server.
//!
//! The master listens and starts two workers that accept on the same socket. SIGHUP reloads (new workers first, then the
//! old ones finish their requests), SIGUSR1 reopens the log. A worker's descriptor 0 is the listening socket, descriptor 1
//! its end of a control channel: a byte says "reopen the log", the end of it "finish".

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::{Layout, SITE};

const WORKERS: usize = 2;
const THREADS: usize = 4;
/// Largest stored upload.
const MAX_BODY: usize = 1 << 20;

pub fn run(layout: &Layout) -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => work(layout),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(supervise(layout)),
    }
}

struct Worker {
    child: Child,
    control: UnixStream,
}

async fn supervise(layout: &Layout) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SITE).with_context(|| format!("cannot listen on {SITE}"))?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut workers = start_workers(layout, &listener)?;
    loop {
        tokio::select! {
            _ = reload.recv() => {
                let old = std::mem::replace(&mut workers, start_workers(layout, &listener)?);
                std::thread::spawn(move || old.into_iter().for_each(finish));
            }
            _ = reopen.recv() => {
                for worker in &mut workers {
                    worker.control.write_all(b"r")?;
                }
            }
            _ = stop.recv() => break,
        }
    }
    workers.into_iter().for_each(finish);
    Ok(())
}

fn start_workers(layout: &Layout, listener: &TcpListener) -> anyhow::Result<Vec<Worker>> {
    (0..WORKERS)
        .map(|_| {
            let (control, theirs) = UnixStream::pair()?;
            let child = Command::new(layout.bin("shop-httpd"))
                .arg("worker")
                .stdin(OwnedFd::from(listener.try_clone()?))
                .stdout(OwnedFd::from(theirs))
                .spawn()
                .context("cannot start a worker")?;
            Ok(Worker { child, control })
        })
        .collect()
}

/// Closes the control channel, which the worker takes as the order to finish, and waits for it.
fn finish(worker: Worker) {
    let Worker { mut child, control } = worker;
    drop(control);
    let _ = child.wait();
}

fn work(layout: &Layout) -> anyhow::Result<()> {
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let control = UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let log = Arc::new(Mutex::new(open_log(&layout.access_log())?));
    let stopping = Arc::new(AtomicBool::new(false));

    let (reopen, stop, path) = (log.clone(), stopping.clone(), layout.access_log());
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!((&control).read(&mut byte), Ok(1)) {
            if let (Ok(file), Ok(mut slot)) = (open_log(&path), reopen.lock()) {
                *slot = file;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| accept_until(&stopping, &listener, layout, &log));
        }
    });
    Ok(())
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn accept_until(stopping: &AtomicBool, listener: &TcpListener, layout: &Layout, log: &Mutex<File>) {
    while !stopping.load(Ordering::Relaxed) {
        let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&wait));
        let Ok((stream, peer)) = listener.accept() else { continue };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let line = match answer(&stream, layout) {
            Ok((request, status)) => format!("{peer} \"{request}\" {status}\n"),
            Err(error) => format!("{peer} error {error}\n"),
        };
        if let Ok(mut log) = log.lock() {
            let _ = log.write_all(line.as_bytes());
        }
    }
}

/// Reads one request, answers it, closes. Returns the request line and the status for the log.
fn answer(stream: &TcpStream, layout: &Layout) -> anyhow::Result<(String, u16)> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse::<usize>()?.min(MAX_BODY);
        }
    }
    let mut parts = request.split_whitespace();
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { bail!("not a request") };
    let (status, body) = match (method, target.split_once('?').unwrap_or((target, ""))) {
        ("GET", ("/", _)) => (200, std::fs::read(layout.htdocs().join("index.html"))?),
        ("GET", ("/report", query)) => (200, report(layout, query)?),
        ("PUT", (path, _)) if path.starts_with("/upload/") => {
            let name = Path::new(path).file_name().context("no file name")?;
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            std::fs::write(layout.htdocs().join("upload").join(name), body)?;
            (200, b"stored\n".to_vec())
        }
        _ => (404, b"no such page\n".to_vec()),
    };
    let head =
        format!("HTTP/1.1 {status} {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", phrase(status), body.len());
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    Ok((request.trim().to_owned(), status))
}

fn phrase(status: u16) -> &'static str {
    if status == 200 { "OK" } else { "Not Found" }
}

/// Runs the helper the CGI way: the query in the environment, the page on its standard output.
fn report(layout: &Layout, query: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(layout.bin("shop-report"))
        .env_clear()
        .env("QUERY_STRING", query)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("cannot run shop-report")?;
    Ok(output.stdout)
}
