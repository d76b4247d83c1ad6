//! `stockade events`: what happens, as it happens.

use clap::Args;
use collector_common::file::Why;
use model::event::{Body, Event};

use super::printable::printable;
use super::{Common, Exit, Output, table};
use crate::api::protocol::{Request, Watch};

/// Which events.
#[derive(Debug, Args)]
pub struct Options {
    /// Only of this workload.
    #[arg(long)]
    workload: Option<String>,
    /// Stop after so many.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

pub fn run(common: &Common, options: &Options) -> anyhow::Result<Exit> {
    let stream = common.client()?.watch(Request::Watch { what: Watch::Events })?;
    let mut shown = 0;
    for item in stream {
        let item = item?;
        if let Some(missed) = item["missed"].as_u64() {
            eprintln!("missed {missed} events: this terminal is too slow");
            continue;
        }
        let event: Event = serde_json::from_value(item["event"].clone())?;
        if options.workload.as_deref().is_some_and(|wanted| wanted != &*event.process.workload) {
            continue;
        }
        match common.output {
            Output::Table => table::say(&line(&event))?,
            _ => table::json(Output::Jsonl, &item["event"])?,
        }
        shown += 1;
        if options.count.is_some_and(|most| shown >= most) {
            break;
        }
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
