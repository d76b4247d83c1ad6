//! Public sets, one loader a file, and the manifest that says where they come from and what must be in them.

pub mod adbench;
mod adfa_ld;
mod lid_ds;
mod lines;
mod manifest;
mod nsl_kdd;
mod public;
mod traces;
mod zeek;

use std::path::{Path, PathBuf};

use ndarray::Array2;
use thiserror::Error;

pub use lid_ds::{Recording, Year, recordings};
pub use lines::Lines;
pub use manifest::{Entry, Manifest, SetFile};
pub use public::{PublicResult, evaluate_set, markdown};
pub(crate) use public::{Scored, frozen, summarised};

/// Why a set cannot be loaded.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// A file.
    #[error(
        "cannot read {path}: `cargo xtask datasets fetch NAME` brings what can be fetched, --from DIR names where else it is"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A line or number that cannot be.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1 on.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The file as a whole.
    #[error("{path} is not {wanted}: {what}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
        /// What is wrong.
        what: String,
    },
    /// Other counts than published.
    #[error(
        "{set} has {rows} rows and {positives} positives, published are {want_rows} and {want_positives}: another edition?"
    )]
    Counts {
        /// Set.
        set: String,
        /// Rows found.
        rows: usize,
        /// Positives found.
        positives: usize,
        /// Rows published.
        want_rows: usize,
        /// Positives published.
        want_positives: usize,
    },
}

/// Rows of numbers with a label each.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// One row an observation.
    pub rows: Array2<f64>,
    /// Anomalous.
    pub labels: Vec<bool>,
}

impl Table {
    /// Checks that every number is one, and that there is a label for each row.
    pub(crate) fn checked(path: &Path, rows: Array2<f64>, labels: Vec<bool>) -> Result<Self, DatasetError> {
        let wrong = |what| DatasetError::Format { path: path.to_path_buf(), wanted: "a table of numbers", what };
        if rows.nrows() == 0 {
            return Err(wrong("it has no rows".to_owned()));
        }
        if rows.nrows() != labels.len() {
            return Err(wrong(format!("{} rows, but {} labels", rows.nrows(), labels.len())));
        }
        if let Some(((row, column), value)) = rows.indexed_iter().find(|(_, value)| !value.is_finite()) {
            return Err(wrong(format!("row {row}, column {column} is {value}")));
        }
        Ok(Self { rows, labels })
    }

    /// Anomalous rows.
    pub fn positives(&self) -> usize {
        self.labels.iter().filter(|label| **label).count()
    }
}

/// What a sequence of calls is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Normal, to learn from.
    Training,
    /// Normal, to measure false alarms with.
    Validation,
    /// Of an attack of this name.
    Attack(String),
}

/// A sequence of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where it comes from.
    pub origin: Origin,
    /// Numbers of the calls.
    pub calls: Vec<u16>,
}

/// What a loader gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// A table.
    Table(Table),
    /// A table to learn from and one to be tested on.
    Split(Table, Table),
    /// Traces.
    Traces(Vec<Trace>),
}

impl Loaded {
    /// Rows or traces, and how many of them are anomalous.
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Self::Table(table) => (table.labels.len(), table.positives()),
            Self::Split(train, test) => (train.labels.len() + test.labels.len(), train.positives() + test.positives()),
            Self::Traces(traces) => {
                let attacks = traces.iter().filter(|trace| matches!(trace.origin, Origin::Attack(_)));
                (traces.len(), attacks.count())
            }
        }
    }
}

/// Loads a set from the folder that holds its files, and checks its counts against those published.
///
/// # Errors
///
/// When a file is missing or damaged, or the counts differ.
pub fn load(entry: &Entry, folder: &Path) -> anyhow::Result<Loaded> {
    let file = |at: usize| {
        let file = entry.files.get(at);
        file.map(|file| folder.join(&file.name)).ok_or_else(|| anyhow::anyhow!("{} names no file {at}", entry.name))
    };
    let loaded = match entry.loader.as_str() {
        "adfa-ld" => Loaded::Traces(adfa_ld::load(&file(0)?)?),
        "nsl-kdd" => {
            let (train, test) = nsl_kdd::load(&file(0)?, &file(1)?)?;
            Loaded::Split(train, test)
        }
        "adbench" => Loaded::Table(adbench::load(&file(0)?)?),
        "zeek-conn" => Loaded::Table(zeek::load(&folder.join("conn.log"))?),
        "lid-ds-2019" | "lid-ds-2021" => anyhow::bail!(
            "{} is recordings of calls, which this command does not score: its loader is for programs \
             (stockade_trainer::datasets::recordings)",
            entry.name
        ),
        other => anyhow::bail!("the manifest names a loader {other} for {}, which there is not", entry.name),
    };
    let (rows, positives) = loaded.counts();
    if entry.rows.is_some_and(|want| want != rows) || entry.positives.is_some_and(|want| want != positives) {
        let (want_rows, want_positives) = (entry.rows.unwrap_or(rows), entry.positives.unwrap_or(positives));
        return Err(DatasetError::Counts { set: entry.name.clone(), rows, positives, want_rows, want_positives }.into());
    }
    Ok(loaded)
}
