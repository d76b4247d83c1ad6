//! `shop-implant`: what the intrusion leaves running. Calls home twenty times a second and writes down how each call ended.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ATTACKER_WEB, Layout, boot_ns};

/// One call home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Boot clock before the call.
    pub boot_ns: u64,
    /// 0 = connected, 1 = EPERM, any other errno as it is.
    pub errno: i32,
}

/// It gives up by itself, should the demo die without ending it.
const LIFE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(20);

pub fn run(layout: &Layout) -> anyhow::Result<()> {
    let mut journal = OpenOptions::new().create(true).append(true).open(layout.journal("shop-implant"))?;
    for _ in 0..LIFE.as_millis() / PAUSE.as_millis() {
        let boot_ns = boot_ns();
        let errno = match TcpStream::connect_timeout(&ATTACKER_WEB, Duration::from_secs(1)) {
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(-1),
        };
        writeln!(journal, "{}", serde_json::to_string(&Attempt { boot_ns, errno })?)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
