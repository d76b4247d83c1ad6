//! `shop-load`: the public. Asks for pages, reports and stores files at a steady rate; the rate can be changed by the demo.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Layout, SITE};

/// What was served so far; the last line of the journal counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Requests answered 200.
    pub ok: u64,
    /// Requests that failed or were answered otherwise.
    pub failed: u64,
}

const THREADS: u64 = 4;

pub fn run(layout: &Layout) -> anyhow::Result<()> {
    let (ok, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut journal = File::create(layout.journal("shop-load"))?;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ok, failed) = (&ok, &failed);
            scope.spawn(move || {
                for turn in 0u64.. {
                    let began = Instant::now();
                    let served = request(thread, turn).unwrap_or(false);
                    (if served { ok } else { failed }).fetch_add(1, Ordering::Relaxed);
                    let pace = Duration::from_micros(1_000_000 * THREADS / rate(layout));
                    std::thread::sleep(pace.saturating_sub(began.elapsed()));
                }
            });
        }
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let served = Served { ok: ok.load(Ordering::Relaxed), failed: failed.load(Ordering::Relaxed) };
            if serde_json::to_string(&served).ok().and_then(|line| writeln!(journal, "{line}").ok()).is_none() {
                std::process::exit(1);
            }
        }
    })
}

/// Requests a second: what stands in the file `rate` beside the journals.
fn rate(layout: &Layout) -> u64 {
    let text = std::fs::read_to_string(layout.root.join("rate")).unwrap_or_default();
    text.trim().parse().unwrap_or(40).clamp(1, 10_000)
}

fn request(thread: u64, turn: u64) -> std::io::Result<bool> {
    let head = match (thread + turn) % 8 {
        0..=3 => "GET / HTTP/1.1\r\n\r\n".to_owned(),
        4..=6 => format!("GET /report?name=customer{} HTTP/1.1\r\n\r\n", turn % 97),
        _ => format!("PUT /upload/photo{}.jpg HTTP/1.1\r\nContent-Length: 4096\r\n\r\n", turn % 16),
    };
    let mut stream = TcpStream::connect_timeout(&SITE, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(head.as_bytes())?;
    if head.starts_with("PUT") {
        stream.write_all(&[0x5a; 4096])?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
