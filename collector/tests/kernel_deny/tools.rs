//! What the denial tests look at: a server, a dialer's log, a BPF file system of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use collector::loader::Pins;

/// A listener that accepts everything, on every loopback address.
pub struct Server {
    pub port: u16,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || while listener.accept().is_ok() {});
        Self { port }
    }

    pub fn at(&self, ip: [u8; 4]) -> String {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), self.port).to_string()
    }

    pub fn local(&self) -> String {
        self.at([127, 0, 0, 1])
    }
}

/// A BPF file system of the test's own; everything pinned in it goes with it.
pub struct Bpffs(pub PathBuf);

impl Bpffs {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stockade-bpffs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Pins::at(&self.0).remove_all();
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::empty());
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Who called when, and how it ended.
pub struct Log(pub PathBuf);

impl Log {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stockade-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    /// Who, when it began, errno, when it was over.
    pub fn lines(&self) -> Vec<(String, u64, i32, u64)> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| {
            let mut parts = line.split(' ');
            let who = parts.next().expect("who").to_owned();
            let began = parts.next().expect("when").parse().expect("ns");
            let errno = parts.next().expect("how").parse().expect("errno");
            (who, began, errno, parts.next().expect("until when").parse().expect("ns"))
        };
        complete.lines().map(parse).collect()
    }

    /// How somebody's calls after a moment ended.
    pub fn of(&self, who: &str, after: u64) -> Vec<i32> {
        self.lines()
            .into_iter()
            .filter(|(name, at, ..)| name == who && *at > after)
            .map(|(_, _, errno, _)| errno)
            .collect()
    }

    /// The same, as soon as there are ten: on a slow machine that takes a while, and it says nothing about a denial.
    pub fn enough_of(&self, who: &str, after: u64) -> Vec<i32> {
        self.at_least(10, who, after)
    }

    /// The same, as soon as there are so many; what there is after half a minute.
    pub fn at_least(&self, count: usize, who: &str, after: u64) -> Vec<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.of(who, after);
            if found.len() >= count || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
