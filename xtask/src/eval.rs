//! `cargo xtask eval`: the scorecard, from the recorded corpus; and, beside it, what rivals reach.

mod rivals;
mod unseen;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::{cargo, must, run, told};

/// How much.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// With the passes without each coordinate, and the public sets that are there; writes docs/scorecard.md and a dated log.
    #[arg(long)]
    full: bool,
    /// Folder of recordings and labels, HOST/cycle-NN.stk.gz and .toml.
    #[arg(long, value_name = "DIR", default_value = "datasets/corpus")]
    corpus: PathBuf,
    /// Passes at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// What else can be evaluated.
#[derive(Subcommand)]
enum What {
    /// scikit-learn, river and the streaming forests of the literature beside us; writes docs/rivals.md.
    Rivals(rivals::Options),
    /// Attacks that were written after the model had been frozen, by somebody else; writes docs/unseen.md.
    Unseen(unseen::Options),
}

/// Makes the journals that are missing, evaluates, and writes the scorecard.
pub fn eval(root: &Path, options: &Options) -> anyhow::Result<()> {
    match &options.what {
        Some(What::Rivals(asked)) => return rivals::rivals(root, asked),
        Some(What::Unseen(asked)) => return unseen::unseen(root, asked),
        None => (),
    }
    let corpus = root.join(&options.corpus);
    let target = run::target(root)?;
    let journals = target.join("corpus");
    let programs = programs(root)?;
    journal(&programs, &corpus, &journals)?;
    let out = target.join("scorecard");
    let mut evaluate = Command::new(&programs.trainer);
    evaluate.current_dir(root).arg("evaluate").arg(&journals).arg("--labels").arg(&corpus);
    evaluate.arg("--out").arg(&out).args(["--jobs", &options.jobs.to_string()]);
    let much = if options.full { ["--seeds", "10", "--robustness"].as_slice() } else { &["--no-ablations"] };
    evaluate.args(much);
    must(&mut evaluate)?;
    if options.full { publish(root, &programs, &out, &target.join("datasets")) } else { Ok(()) }
}

/// What is run.
pub struct Programs {
    /// The agent.
    pub agent: PathBuf,
    /// The trainer.
    pub trainer: PathBuf,
}

/// Builds them as the tests do: built by themselves they would have other features, and everything would be built twice.
/// Only the trainer itself is optimised, which pays from the third day on.
pub fn programs(root: &Path) -> anyhow::Result<Programs> {
    let faster = "profile.dev.package.stockade-trainer.opt-level=2";
    let tests = ["--workspace", "--no-run", "--test", "all", "--test", "path"];
    must(cargo(root).args(["test", "-q", "--config", faster]).args(tests))?;
    let folder = run::target(root)?.join("debug");
    Ok(Programs { agent: folder.join("stockade"), trainer: folder.join("stockade-trainer") })
}

/// Recordings become journals, unless a journal is there that is younger.
fn journal(programs: &Programs, corpus: &Path, journals: &Path) -> anyhow::Result<()> {
    let hosts = std::fs::read_dir(corpus).with_context(|| {
        format!("there is no corpus at {}: `cargo xtask corpus record NAME` makes one", corpus.display())
    })?;
    let mut found = 0;
    for host in hosts {
        let host = host?.path();
        if !host.is_dir() {
            continue;
        }
        let out = journals.join(host.file_name().unwrap_or_default());
        for entry in std::fs::read_dir(&host).with_context(|| format!("cannot look into {}", host.display()))? {
            let recording = entry?.path();
            let name = recording.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".stk.gz") else { continue };
            found += 1;
            if !is_younger(&out.join(format!("{stem}.parquet")), &recording) {
                println!("journal  {}", recording.display());
                let mut replay = Command::new(&programs.agent);
                replay.arg("replay").arg(&recording);
                // A recording is cut off where its recorder was ended: what came before is there, and that is said.
                let output = replay.arg("--journal").arg(&out).output().context("cannot run stockade replay")?;
                if !out.join(format!("{stem}.parquet")).exists() {
                    bail!(
                        "{} gave no journal: {}",
                        recording.display(),
                        String::from_utf8_lossy(&output.stderr).trim()
                    );
                }
            }
        }
    }
    if found == 0 {
        bail!("{} holds no recordings: `cargo xtask corpus record NAME` makes them", corpus.display());
    }
    Ok(())
}

fn is_younger(file: &Path, than: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    matches!((time(file), time(than)), (Some(file), Some(than)) if file >= than)
}

/// docs/scorecard.md with its plots, and the same as a log of this day.
fn publish(root: &Path, programs: &Programs, out: &Path, sets: &Path) -> anyhow::Result<()> {
    let mut card = std::fs::read_to_string(out.join("scorecard.md")).context("the evaluation wrote no scorecard")?;
    let plots = root.join("docs/scorecard");
    std::fs::create_dir_all(&plots)?;
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            let name = path.file_name().unwrap_or_default();
            std::fs::copy(&path, plots.join(name))?;
            let name = name.to_string_lossy();
            card = card.replace(&format!("]({name})"), &format!("](scorecard/{name})"));
        }
    }
    if let Some(public) = public_sets(root, programs, sets) {
        card.push_str(&format!(
            "\n## Public sets\n\nThe trees of our forest alone, and on traces our sequence coordinate alone: checks against the literature, not our headline. Median and quartiles over seeds.\n\n{public}\n"
        ));
    }
    std::fs::write(root.join("docs/scorecard.md"), &card)?;
    let date = told(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_else(|| "undated".to_owned());
    let logs = root.join("docs/evaluations");
    std::fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{date}.md"));
    std::fs::write(&log, card.replace("](scorecard/", "](../scorecard/"))?;
    println!("wrote    docs/scorecard.md and {}", log.display());
    Ok(())
}

/// The table of the sets that were fetched; `None` without any.
fn public_sets(root: &Path, programs: &Programs, folder: &Path) -> Option<String> {
    std::fs::read_dir(folder).ok()?.next()?.ok()?;
    let mut table = Command::new(&programs.trainer);
    table.current_dir(root).args(["datasets", "--from"]).arg(folder);
    told(&mut table)
}
