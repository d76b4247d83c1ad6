//! `stockade events`: what happens, as it happens, or as it was recorded.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use collector_common::file::Why;
use model::event::{Body, Event};

use super::printable::printable;
use super::{Common, Exit, Output, table};
use crate::api::protocol::{Request, Watch};
use crate::decode::decode;
use crate::enrich::Enricher;
use crate::enrich::surroundings::Recorded;
use crate::replay::{self, Frame, Recording};

/// Which events.
#[derive(Debug, Args)]
pub struct Options {
    /// Only of this workload.
    #[arg(long)]
    workload: Option<String>,
    /// Stop after so many.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Those of a recording, plain or compressed by gzip; needs no agent.
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
}

impl Options {
    fn wants(&self, event: &Event) -> bool {
        self.workload.as_deref().is_none_or(|wanted| wanted == &*event.process.workload)
    }

    fn is_enough(&self, shown: usize) -> bool {
        self.count.is_some_and(|most| shown >= most)
    }
}

pub fn run(common: &Common, options: &Options) -> anyhow::Result<Exit> {
    if let Some(path) = &options.recorded {
        return recorded(common, options, path).with_context(|| format!("cannot show {}", path.display()));
    }
    let stream = common.client()?.watch(Request::Watch { what: Watch::Events })?;
    let mut shown = 0;
    for item in stream {
        let item = item?;
        if let Some(missed) = item["missed"].as_u64() {
            eprintln!("missed {missed} events: this terminal is too slow");
            continue;
        }
        let event: Event = serde_json::from_value(item["event"].clone())?;
        if !options.wants(&event) {
            continue;
        }
        match common.output {
            Output::Table => table::say(&line(&event))?,
            _ => table::json(Output::Jsonl, &item["event"])?,
        }
        shown += 1;
        if options.is_enough(shown) {
            break;
        }
    }
    Ok(Exit::Fine)
}

fn recorded(common: &Common, options: &Options, path: &Path) -> anyhow::Result<Exit> {
    let recording = Recording::open(replay::run::open(path)?)?;
    let mut enricher = Enricher::new(recording.info().clock, Recorded::default());
    let (mut shown, mut refused) = (0, 0u64);
    for frame in recording {
        let record = match frame? {
            Frame::Note(note) => {
                enricher.take_note(&note);
                continue;
            }
            Frame::Record(bytes) => decode(&bytes),
        };
        let Ok(record) = record else {
            refused += 1;
            continue;
        };
        let Some(event) = enricher.enrich(&record) else { continue };
        if !options.wants(&event) {
            continue;
        }
        match common.output {
            Output::Table => table::say(&line(&event))?,
            _ => table::json(Output::Jsonl, &event)?,
        }
        shown += 1;
        if options.is_enough(shown) {
            break;
        }
    }
    if refused > 0 {
        eprintln!("{refused} records could not be decoded and are not shown: `stockade replay` counts them by kind");
        return Ok(Exit::Attention);
    }
    Ok(Exit::Fine)
}

fn line(event: &Event) -> String {
    let process = &event.process;
    let what = match &event.body {
        Body::Fork(fork) => format!("fork   → {}", collector_common::header::tgid_of(fork.child)),
        Body::Exec(exec) => format!("exec   {} > {}  {}", exec.parent_exe, process.exe, exec.argv.join(" ")),
        Body::Exit(exit) => format!("exit   {}", exit.code >> 8),
        Body::Window(window) => {
            format!(
                "window {} calls, {} errors, {} new trigrams",
                window.trace.len(),
                window.errors,
                window.novel_trigrams.len()
            )
        }
        Body::Flow(flow) => {
            format!("flow   {} ↔ {}  out {} in {} bytes", flow.local, flow.remote, flow.tx_bytes, flow.rx_bytes)
        }
        Body::Deny(deny) => {
            let what = deny.file.as_deref().map_or_else(|| deny.remote.to_string(), str::to_owned);
            format!("deny   {what}{}", if deny.shadow { " (shadow)" } else { "" })
        }
        Body::File(file) if file.why == Why::Rate as u8 => {
            let [written, renamed, deleted] = file.touched;
            format!("file   {written} written, {renamed} renamed, {deleted} deleted in 10 s")
        }
        Body::File(file) => {
            let how = ["read", "write", "exec", "delete"].get(usize::from(file.mode)).copied().unwrap_or("use");
            format!("file   {how} {}/{}", file.directory.trim_end_matches('/'), file.name)
        }
    };
    let text =
        format!("{}  {}  {}({})  {what}", table::time(event.at.unix_ns), process.workload, process.exe, process.pid);
    printable(&text).into_owned()
}
