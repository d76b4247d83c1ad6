//! `shop-attacker`: the other end of the reverse shell, and a web server that offers a download.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ATTACKER_SHELL, ATTACKER_WEB, Layout, boot_ns};

/// One thing that reached the attacker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Heard {
    /// A shell called.
    ShellOpen {
        /// Boot clock.
        boot_ns: u64,
    },
    /// A shell sent bytes.
    ShellBytes {
        /// Boot clock.
        boot_ns: u64,
        /// How many.
        bytes: usize,
    },
    /// A command was sent to the shell.
    ShellCommand {
        /// Boot clock.
        boot_ns: u64,
    },
    /// Somebody reached the web server.
    Web {
        /// Boot clock.
        boot_ns: u64,
    },
}

pub fn run(layout: &Layout) -> anyhow::Result<()> {
    let journal = Mutex::new(File::create(layout.journal("shop-attacker"))?);
    let shell = TcpListener::bind(ATTACKER_SHELL)?;
    let web = TcpListener::bind(ATTACKER_WEB)?;
    let note = |heard: Heard| {
        if let (Ok(line), Ok(mut journal)) = (serde_json::to_string(&heard), journal.lock()) {
            let _ = writeln!(journal, "{line}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((stream, _)) = shell.accept() {
                note(Heard::ShellOpen { boot_ns: boot_ns() });
                // One that was cut off stays open for long, and must not keep the next one waiting.
                scope.spawn(|| talk_to_shell(&{ stream }, &note));
            }
        });
        while let Ok((mut stream, _)) = web.accept() {
            note(Heard::Web { boot_ns: boot_ns() });
            let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\npayload\n");
        }
    });
    Ok(())
}

/// Asks "who am I" ten times a second, as an impatient intruder does, and writes down what comes back.
fn talk_to_shell(stream: &TcpStream, note: &impl Fn(Heard)) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut answer = [0; 4096];
    let mut stream = stream;
    loop {
        stream.write_all(b"id\n")?;
        note(Heard::ShellCommand { boot_ns: boot_ns() });
        match stream.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => note(Heard::ShellBytes { boot_ns: boot_ns(), bytes }),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
