//! `stockade-trainer rivals`: the parts that `cargo xtask eval rivals` puts together.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use model::Params;

use crate::corpus::Corpus;
use crate::datasets::{Loaded, Manifest, PublicResult, load, markdown};
use crate::detectors::{Recorder, Vectors};
use crate::evaluate::{Options as Asked, Plan, evaluate, numbered, pass_beside};
use crate::{report, rivals};

/// Which part.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// What a detector is shown of every event, one Parquet file a host, for rivals outside of this program.
    Vectors {
        #[command(flatten)]
        corpus: Days,
        /// Folder that the files go to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The evaluation of every row beside the scores that came back.
    Own {
        #[command(flatten)]
        corpus: Days,
        /// Folder of the scores, one Parquet file a host.
        #[arg(long, value_name = "DIR")]
        scores: PathBuf,
    },
    /// The rows of the public streams in the order in which they are met.
    Streams {
        #[command(flatten)]
        sets: Sets,
        /// Folder that the files go to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Our forest and its rivals on the public sets.
    Public {
        #[command(flatten)]
        sets: Sets,
        /// Folder of `streams`, with the scores that came back.
        #[arg(long, value_name = "DIR")]
        streams: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Days {
    /// Folder of journals, HOST/cycle-NN.parquet.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Seed of the model and of everything random.
    #[arg(long, default_value_t = Params::default().seed)]
    seed: u64,
}

#[derive(Debug, Args)]
struct Sets {
    /// The manifest.
    #[arg(long, value_name = "FILE", default_value = "datasets/manifest.toml")]
    manifest: PathBuf,
    /// Folder with one folder a set, as `cargo xtask datasets fetch` makes it.
    #[arg(long, value_name = "DIR", default_value = "target/datasets")]
    from: PathBuf,
    /// Seeds of each.
    #[arg(long, default_value_t = 10)]
    seeds: usize,
}

/// Runs the command.
///
/// # Errors
///
/// When something cannot be read or written, or a score is missing.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.part {
        Part::Vectors { corpus, out } => vectors(corpus, out),
        Part::Own { corpus, scores } => own(corpus, scores),
        Part::Streams { sets, out } => streams(sets, out),
        Part::Public { sets, streams } => public(sets, streams.as_deref()),
    }
}

impl Days {
    /// As the evaluation opens them: with another clock the vectors would be others.
    fn open(&self) -> anyhow::Result<Corpus> {
        let mut corpus = Corpus::open(&self.journals, self.labels.as_deref())?;
        corpus.stretch(None)?;
        Ok(corpus)
    }

    fn params(&self) -> Params {
        Params { seed: self.seed, ..Params::default() }
    }
}

fn vectors(days: &Days, out: &Path) -> anyhow::Result<()> {
    let corpus = days.open()?;
    let plan = Plan::alone(days.params());
    for host in numbered(&corpus) {
        let Some((_, day)) = host.first() else { continue };
        let path = out.join(format!("{}.parquet", day.cycle.host));
        let passed = pass_beside(&host, &plan, vec![Box::new(Recorder::new(Vectors::create(&path)?))])?;
        if let Some(note) = passed.notes.first() {
            anyhow::bail!("{}: {note}", path.display());
        }
        eprintln!("wrote    {}", path.display());
    }
    Ok(())
}

fn own(days: &Days, scores: &Path) -> anyhow::Result<()> {
    let corpus = days.open()?;
    let asked = Asked {
        params: days.params(),
        seed: days.seed,
        outside: Some(scores.to_path_buf()),
        ablations: false,
        progress: |pass| eprintln!("passed   {pass}"),
        ..Asked::default()
    };
    let evaluation = evaluate(&corpus, &asked, &super::commit())?;
    println!("{}", report::rows(&evaluation));
    Ok(())
}

impl Sets {
    /// Every set that is there.
    fn each(&self, mut take: impl FnMut(&str, Loaded) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let manifest = Manifest::read(&self.manifest)?;
        let mut found = 0;
        for set in manifest.sets.iter().filter(|set| !set.files.is_empty()) {
            let folder = self.from.join(&set.name);
            if folder.is_dir() {
                let loaded = load(set, &folder).with_context(|| format!("{} cannot be evaluated", set.name))?;
                take(&set.name, loaded)?;
                found += 1;
            }
        }
        anyhow::ensure!(
            found > 0,
            "{} holds no set: `cargo xtask datasets fetch all` brings them",
            self.from.display()
        );
        Ok(())
    }
}

fn streams(sets: &Sets, out: &Path) -> anyhow::Result<()> {
    sets.each(|name, loaded| match &loaded {
        Loaded::Table(table) => rivals::write_streams(name, table, sets.seeds, out),
        Loaded::Split(..) | Loaded::Traces(_) => Ok(()),
    })
}

fn public(sets: &Sets, streams: Option<&Path>) -> anyhow::Result<()> {
    let (mut tables, mut splits, mut traces): (Vec<PublicResult>, Vec<PublicResult>, Vec<PublicResult>) =
        Default::default();
    sets.each(|name, loaded| {
        let into = match &loaded {
            Loaded::Table(_) => &mut tables,
            Loaded::Split(..) => &mut splits,
            Loaded::Traces(_) => &mut traces,
        };
        into.extend(rivals::evaluate(name, &loaded, sets.seeds, streams)?);
        eprintln!("passed   {name}");
        Ok(())
    })?;
    println!("## Streams: score, then learn\n\n{STREAMS}\n\n{}", rivals::matrix(&tables));
    println!("Medians over seeds, with quartiles:\n\n{}", markdown(&tables));
    println!("## NSL-KDD: learnt on normal rows, then frozen\n\n{SPLIT}\n\n{}", markdown(&splits));
    println!("## ADFA-LD: whole traces\n\n{TRACES}\n\n{}", markdown(&traces));
    Ok(())
}

const STREAMS: &str = "AUC / AP. Rows in an order drawn by the seed, at most 50,000; each is scored, then learnt; the first 256 are learnt and not evaluated, since some methods say a constant there. Every method meets the same rows in the same order. Numbers are fed as they are: who needs a scale brings its own.";
const SPLIT: &str = "The normal rows of `KDDTrain+_20Percent` in an order drawn by the seed; then `KDDTest+` without learning. The trivial row, the largest robust z of any column (its spread the larger of quartile distance and standard deviation, which is the best of nine such scales by these labels), stands beside the forests.";
const TRACES: &str = "Learnt on the 833 training traces; judged are the 4,372 normal and 746 attack traces. Our forest sees two rates of a trace, each in bits a call: the surprise of a call after the three before it (Witten–Bell back-off), and the share of training traces in which a call is at all; training traces are scored by what four other fifths taught; less surprise than the median counts as the median. The two rates were chosen among thirteen combinations of seventeen such rates with the labels of these very traces in sight, so the forest's row is too good by an amount that this set cannot tell; beside it stands the one rate by itself, and the reader sees how much of the result is that rate. STIDE, and our sequence coordinate as the agent has it, were chosen by nothing here.";
