//! Finds the root processes of attacks in the recording itself, by what their command lines hold.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::attacks;
use super::labels::{Kind, Span};

/// Fills in pid and cookie of every attack that has a root process of its own.
pub fn find(stockade: &Path, recording: &Path, spans: &mut [Span]) -> anyhow::Result<()> {
    let mut child = Command::new(stockade)
        .args(["events", "-o", "jsonl", "--recorded"])
        .arg(recording)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot read the events back")?;
    let output = BufReader::new(child.stdout.take().context("no output")?);
    for line in output.lines() {
        let line = line?;
        // Execs are few; windows are many and long.
        if !line.contains("\"kind\":\"exec\"") {
            continue;
        }
        let event: serde_json::Value = serde_json::from_str(&line)?;
        let at = event["at"]["unix_ns"].as_u64().unwrap_or(0);
        let text = format!("{} {}", event["process"]["exe"], event["process"]["cmdline"]);
        let during = |span: &&mut Span| (span.start_unix_ns..=span.end_unix_ns).contains(&at);
        for span in spans.iter_mut().filter(|span| span.kind == Kind::Attack).filter(during) {
            let marker = attacks::named(&span.name).and_then(|attack| attack.root);
            if marker.is_some_and(|marker| text.contains(marker)) {
                take_root(span, &event["process"]);
            }
        }
    }
    if !child.wait()?.success() {
        bail!("the recording {} cannot be read back", recording.display());
    }
    for span in spans.iter_mut().filter(|span| is_missing(span)) {
        if attacks::named(&span.name).is_some_and(|attack| attack.root.is_some()) {
            span.note.push_str("root process not found in the recording");
        }
    }
    Ok(())
}

/// The first process that is found is the root, others are too unless they are below one.
fn take_root(span: &mut Span, process: &serde_json::Value) {
    let cookie = process["cookie"].as_u64().unwrap_or(0);
    let is_root = |cookie: u64| cookie == span.root_cookie || span.other_roots.contains(&cookie);
    if span.root_cookie == 0 {
        span.root_pid = process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        span.root_cookie = cookie;
        return;
    }
    let mut line = process["ancestors"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64);
    if !is_root(cookie) && !line.any(is_root) {
        span.other_roots.push(cookie);
    }
}

fn is_missing(span: &Span) -> bool {
    span.kind == Kind::Attack && span.root_cookie == 0
}
