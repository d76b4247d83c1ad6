//! The demo's workload: a small web shop whose programs are this binary under other names, as in busybox.
//!
//! `shop-httpd` is a pre-forking web server; each report runs `shop-report` the CGI way; that asks `shop-db`. `shop-load`
//! is the public, `shop-attacker` the other side of the intrusion, and `shop-implant` what the intrusion leaves running.
//! Every one is a real program with its own file, its own process and real sockets. The hole is real too: `shop-report`
//! still honours a debugging parameter.

mod attacker;
mod db;
mod httpd;
mod implant;
mod load;
mod report;
mod start;

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

pub use attacker::Heard;
pub use implant::Attempt;
pub use load::Served;
pub use report::encode_percent;

/// The web server's address.
pub const SITE: SocketAddr = address([10, 77, 0, 10], 8080);
/// The database's address: the one destination that reports need.
pub const DATABASE: SocketAddr = address([10, 77, 0, 20], 5432);
/// Where the reverse shell calls (198.51.100.0/24 is reserved for documentation, RFC 5737).
pub const ATTACKER_SHELL: SocketAddr = address([198, 51, 100, 7], 4444);
/// Where downloads and the implant go.
pub const ATTACKER_WEB: SocketAddr = address([198, 51, 100, 7], 80);

const fn address(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port))
}

/// The programs of the shop.
pub const PROGRAMS: [&str; 7] =
    ["shop-start", "shop-httpd", "shop-report", "shop-db", "shop-load", "shop-attacker", "shop-implant"];

/// The folders of one demo run, below one directory that it removes at the end.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The directory.
    pub root: PathBuf,
}

impl Layout {
    /// Executables.
    pub fn bin(&self, program: &str) -> PathBuf {
        self.root.join("bin").join(program)
    }

    /// What the web server serves and stores.
    pub fn htdocs(&self) -> PathBuf {
        self.root.join("htdocs")
    }

    /// Access log of the web server.
    pub fn access_log(&self) -> PathBuf {
        self.root.join("log/access.log")
    }

    /// What a program tells the demo: one JSON document a line.
    pub fn journal(&self, program: &str) -> PathBuf {
        self.root.join("log").join(format!("{program}.jsonl"))
    }
}

/// Runs as one of the shop's programs if the executable has such a name. Called first thing in `main`.
pub fn run_if_named(argv0: Option<&OsStr>) -> Option<anyhow::Result<()>> {
    let name = Path::new(argv0?).file_name()?.to_str()?;
    let run: fn(&Layout) -> anyhow::Result<()> = match name {
        "shop-start" => start::run,
        "shop-httpd" => httpd::run,
        "shop-report" => report::run,
        "shop-db" => db::run,
        "shop-load" => load::run,
        "shop-attacker" => attacker::run,
        "shop-implant" => implant::run,
        _ => return None,
    };
    // The shop knows its folder from its own path: …/bin/<program>.
    let own = std::env::current_exe().ok()?;
    let root = own.parent()?.parent()?.to_path_buf();
    Some(run(&Layout { root }))
}

/// Nanoseconds on the boot clock, to compare with kernel records.
pub fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
