//! `stockade-trainer ingest`

use std::path::PathBuf;

use clap::Args;

use crate::ingest::{Ingested, Run, ingest, ingest_topics};
use crate::kafka::{Partition, Topics};

/// What to take in.
#[derive(Debug, Args)]
pub struct Options {
    /// Journals (`.parquet`) or events as JSON, one a line (`.jsonl`).
    #[arg(required_unless_present = "kafka")]
    files: Vec<PathBuf>,
    /// Brokers whose topics are read, `host:port`, separated by commas.
    #[arg(long, value_name = "BROKERS", conflicts_with = "files")]
    kafka: Option<String>,
    /// Topics, read to where they end now.
    #[arg(long, value_delimiter = ',', default_values_t = TOPICS.map(str::to_owned))]
    topics: Vec<String>,
    /// First offset of each partition, or of one; may be given several times. Later runs into the same folder go on where
    /// the last one ended.
    #[arg(long, value_name = "[TOPIC/PARTITION=]OFFSET", value_parser = start)]
    from: Vec<Start>,
    /// Further settings of the Kafka client, KEY=VALUE.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Where checked journals go, and NAME.rejects.jsonl beside each; from topics, HOST/run-NNNN.parquet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take files in again whose journal is there already.
    #[arg(long, conflicts_with = "kafka")]
    again: bool,
}

/// Of all partitions, or of one.
type Start = (Option<Partition>, i64);

/// Topics of the agent that hold events.
const TOPICS: [&str; 2] = ["stockade.windows.v1", "stockade.flows.v1"];

fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("a setting is KEY=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

fn start(text: &str) -> Result<Start, String> {
    let wanted = "a first offset is a number, for one partition TOPIC/PARTITION=NUMBER";
    let (partition, offset) = match text.split_once('=') {
        Some((partition, offset)) => (Some(partition.rsplit_once('/').ok_or(wanted)?), offset),
        None => (None, text),
    };
    let offset = offset.parse().ok().filter(|offset| *offset >= 0).ok_or(wanted)?;
    let Some((topic, number)) = partition else { return Ok((None, offset)) };
    Ok((Some((topic.to_owned(), number.parse().map_err(|_| wanted)?)), offset))
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be taken in at all; those before it stay.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(brokers) = &options.kafka {
        let starts = options.from.iter().filter_map(|(partition, offset)| Some((partition.clone()?, *offset)));
        let topics = Topics {
            brokers: brokers.clone(),
            names: options.topics.clone(),
            from: options.from.iter().rfind(|(partition, _)| partition.is_none()).map_or(0, |(_, offset)| *offset),
            starts: starts.collect(),
            settings: options.settings.clone(),
        };
        told(&ingest_topics(&topics, &options.out)?);
    }
    for file in &options.files {
        match ingest(file, &options.out, options.again)? {
            Some(Ingested { rows, rejected, journal }) => {
                say!("took in  {rows} events, set aside {rejected}: {}", journal.display());
            }
            None => say!("there    {} was taken in before; --again does it anew", file.display()),
        }
    }
    Ok(())
}

/// What was taken from topics, by offsets.
fn told(run: &Run) {
    for taken in &run.taken {
        let ((topic, number), gone) = (&taken.partition, taken.gone);
        let gone = if gone > 0 { format!("; {gone} of them the broker keeps no more") } else { String::new() };
        say!("read     {topic}/{number} from offset {} to {}{gone}", taken.from, taken.until);
    }
    for Ingested { rows, journal, .. } in &run.journals {
        say!("took in  {rows} events: {}", journal.display());
    }
    if run.journals.is_empty() {
        say!("took in  nothing: there are no events that an earlier run had not taken");
    }
    if run.rejected + run.repeated > 0 {
        say!("left out {} messages set aside, {} sent again by the agent", run.rejected, run.repeated);
    }
    if run.traceless > 0 {
        say!(
            "note     {} windows came without their calls, of which nothing can be learnt: `raw_trace = true` in the agent's sink sends them",
            run.traceless
        );
    }
}
