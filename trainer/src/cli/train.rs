//! `stockade-trainer train`

use std::path::PathBuf;

use clap::Args;
use model::replay::Replay;
use model::{Model, Params, Time};
use serde::{Deserialize, Serialize};

use crate::corpus::Corpus;
use crate::labels::Split;
use crate::report;

/// What to train from.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet, with their labels.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Host whose baselines are learnt; may be left out when there is one only.
    #[arg(long)]
    host: Option<String>,
    /// Where the snapshot goes: the agent begins with it by `model.start`, a replay by `--model`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the model.
    #[arg(long, default_value_t = Params::default().seed)]
    seed: u64,
    /// Leave the baselines open, so that the agent goes on learning before it judges.
    #[arg(long)]
    open: bool,
    /// Take the validation days, too: they calibrate the threshold.
    #[arg(long)]
    calibrate: bool,
}

/// How far a training came. It lies beside the snapshot to be, after each day, with the model behind it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// What is learnt from, and how: another training does not go on from it.
    of: String,
    days: usize,
    events: u64,
    last: Time,
    frozen: bool,
}

/// Runs the command. What was broken off goes on after the last whole day, to the same snapshot.
///
/// # Errors
///
/// When a journal cannot be read or the snapshot not be written; nothing is left half-written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let corpus = Corpus::open(&options.journals, options.labels.as_deref())?;
    let all = super::host_days(&corpus, options.host.as_deref())?;
    let wanted = |split| split == Split::Train || (options.calibrate && split == Split::Validation);
    let days: Vec<_> = all.iter().filter(|day| wanted(day.cycle.split)).collect();
    let host = all.first().map_or("", |day| day.cycle.host.as_str());
    let of = format!("{host} {} {} {} {}", corpus.hash, options.seed, options.open, options.calibrate);
    let begun = begun(options, &of);
    if let Some((done, _)) = &begun {
        eprintln!("goes on  after {} of {} days", done.days, days.len());
    }
    let (mut done, model) = match begun {
        Some(begun) => begun,
        None => {
            let params = Params { seed: options.seed, ..Params::default() };
            (Progress { of, frozen: options.open, ..Progress::default() }, Model::new(params)?)
        }
    };
    let mut replay = Replay::new(model);
    let bar = super::progress(days.iter().skip(done.days).map(|day| day.journal.rows()).sum());
    for day in days.iter().skip(done.days) {
        if day.cycle.split != Split::Train && !done.frozen {
            replay.freeze_all(done.last);
            done.frozen = true;
        }
        for event in day.events() {
            let event = event?;
            done.last = event.at;
            replay.feed(&event);
            done.events += 1;
            bar.inc(1);
        }
        done.days += 1;
        let mut bytes = serde_json::to_vec(&done)?;
        bytes.push(b'\n');
        bytes.extend(replay.model().snapshot()?);
        report::whole(&unfinished(options), &bytes)?;
    }
    bar.finish_and_clear();
    if !done.frozen {
        replay.freeze_all(done.last);
    }
    let bytes = replay.model().snapshot()?;
    report::whole(&options.out, &bytes)?;
    let _ = std::fs::remove_file(unfinished(options));
    let model = replay.model();
    say!(
        "learnt   {} events of {} workloads; {}; {} bytes in {}",
        done.events,
        model.workloads().len(),
        model.health(),
        bytes.len(),
        options.out.display()
    );
    Ok(())
}

/// What a training of the same was broken off with; one that is damaged begins anew.
fn begun(options: &Options, of: &str) -> Option<(Progress, Model)> {
    let bytes = std::fs::read(unfinished(options)).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let done: Progress = serde_json::from_slice(&bytes[..end]).ok()?;
    let model = Model::restore(&bytes[end + 1..]).ok()?;
    (done.of == of).then_some((done, model))
}

fn unfinished(options: &Options) -> PathBuf {
    let mut name = options.out.file_name().unwrap_or_default().to_os_string();
    name.push(".unfinished");
    options.out.with_file_name(name)
}
