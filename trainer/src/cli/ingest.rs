//! `stockade-trainer ingest`

use std::path::PathBuf;

use clap::Args;

use crate::ingest::{Ingested, ingest, ingest_topics};
use crate::kafka::Topics;

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
    /// First offset of each partition.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Further settings of the Kafka client, KEY=VALUE.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Where checked journals go, and NAME.rejects.jsonl beside each.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take files in again whose journal is there already.
    #[arg(long)]
    again: bool,
}

/// Topics of the agent that hold events.
const TOPICS: [&str; 2] = ["stockade.windows.v1", "stockade.flows.v1"];

fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("a setting is KEY=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be taken in at all; those before it stay.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(brokers) = &options.kafka {
        let topics = Topics {
            brokers: brokers.clone(),
            names: options.topics.clone(),
            from: options.from,
            settings: options.settings.clone(),
        };
        for Ingested { rows, rejected, journal } in ingest_topics(&topics, &options.out)? {
            println!("took in  {rows} events: {} ({rejected} messages of all hosts set aside)", journal.display());
        }
    }
    for file in &options.files {
        match ingest(file, &options.out, options.again)? {
            Some(Ingested { rows, rejected, journal }) => {
                println!("took in  {rows} events, set aside {rejected}: {}", journal.display());
            }
            None => println!("there    {} was taken in before; --again does it anew", file.display()),
        }
    }
    Ok(())
}
