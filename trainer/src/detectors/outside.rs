//! Rivals of other programs: what each event looks like goes out as a Parquet table, their scores come back as another, and
//! are judged by the same evaluation as everything else. No label is in the first, and no score is made up: an event that the
//! second lacks is an error.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use model::Coordinate;
use polars_core::prelude::{Column, DataFrame, DataType, NamedFrom, PolarsResult, Series};
use polars_io::SerReader;
use polars_io::parquet::write::BatchedWriter;
use polars_io::prelude::{ParquetCompression, ParquetReader, ParquetWriter};

use super::features::{RAW, RAW_NAMES};
use super::{Detector, EventKey, Seen};
use crate::journal::BATCH;

/// Columns of the key.
const KEY: [&str; 2] = ["day", "place"];
/// A training event, and one of a baseline that exists.
const FLAGS: [&str; 2] = ["train", "late"];

/// The vectors of a host, on their way into a file.
pub struct Vectors {
    path: PathBuf,
    part: PathBuf,
    writer: BatchedWriter<File>,
    keys: [Vec<u32>; 2],
    flags: [Vec<bool>; 2],
    numbers: Vec<Vec<f64>>,
}

impl Vectors {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let part = path.with_extension("parquet.part");
        let file = File::create(&part).with_context(|| format!("cannot make {}", part.display()))?;
        let numbers = vec![Vec::new(); Coordinate::ALL.len() + RAW];
        let nothing = frame(Default::default(), Default::default(), numbers.clone())?;
        let writer =
            ParquetWriter::new(file).with_compression(ParquetCompression::Zstd(None)).batched(nothing.schema())?;
        let (keys, flags) = Default::default();
        Ok(Self { path: path.to_path_buf(), part, writer, keys, flags, numbers })
    }

    fn take(&mut self, seen: &Seen, train: bool) -> anyhow::Result<()> {
        for (column, value) in self.keys.iter_mut().zip([seen.key.day, seen.key.place]) {
            column.push(value);
        }
        for (column, value) in self.flags.iter_mut().zip([train, train && seen.late]) {
            column.push(value);
        }
        let numbers = seen.verdict.vector.bits.into_iter().chain(seen.raw);
        self.numbers.iter_mut().zip(numbers).for_each(|(column, value)| column.push(value));
        if self.keys[0].len() >= BATCH { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let numbers = self.numbers.iter_mut().map(std::mem::take).collect();
        let frame = frame(std::mem::take(&mut self.keys), std::mem::take(&mut self.flags), numbers)?;
        self.writer.write_batch(&frame).with_context(|| format!("cannot write {}", self.part.display()))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if !self.keys[0].is_empty() {
            self.write()?;
        }
        self.writer.finish()?;
        std::fs::rename(&self.part, &self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        // Without its name it is not whole; with it there is nothing to remove.
        let _ = std::fs::remove_file(&self.part);
    }
}

fn frame(keys: [Vec<u32>; 2], flags: [Vec<bool>; 2], numbers: Vec<Vec<f64>>) -> PolarsResult<DataFrame> {
    let rows = keys[0].len();
    let names = Coordinate::ALL.into_iter().map(Coordinate::name).chain(RAW_NAMES);
    let keys = KEY.into_iter().zip(keys).map(|(name, values)| Series::new(name.into(), values));
    let flags = FLAGS.into_iter().zip(flags).map(|(name, values)| Series::new(name.into(), values));
    let numbers = names.zip(numbers).map(|(name, values)| Series::new(name.into(), values));
    DataFrame::new(rows, keys.chain(flags).chain(numbers).map(Column::from).collect())
}

/// Writes what a rival is shown, in the order in which it is shown, and judges nothing.
pub struct Recorder {
    vectors: Vectors,
    failed: Option<anyhow::Error>,
}

impl Recorder {
    /// Into this file.
    pub fn new(vectors: Vectors) -> Self {
        Self { vectors, failed: None }
    }
}

impl Detector for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn learn(&mut self, seen: &Seen) {
        if self.failed.is_none() {
            self.failed = self.vectors.take(seen, true).err();
        }
    }

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.vectors.take(seen, false)?;
        Ok(0.0)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.vectors.finish()
    }
}

/// Scores of one rival; the keys are shared by all.
struct Outside {
    name: String,
    path: PathBuf,
    keys: Arc<Vec<(EventKey, usize)>>,
    scores: Vec<f64>,
    asked: usize,
}

/// Every rival of a file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Box<dyn Detector>>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let frame = ParquetReader::new(file).finish().with_context(|| format!("{} is not whole", path.display()))?;
    let keys = keys(&frame).with_context(|| format!("{} holds no scores", path.display()))?;
    let mut rivals: Vec<Box<dyn Detector>> = Vec::new();
    for column in frame.columns().iter().filter(|column| !KEY.contains(&column.name().as_str())) {
        let name = column.name().to_string();
        let scores: Vec<f64> = column.f64()?.iter().map(|score| score.unwrap_or(f64::NAN)).collect();
        if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
            bail!("{}: {name} has no finite score in row {row}", path.display());
        }
        rivals.push(Box::new(Outside { name, path: path.to_path_buf(), keys: keys.clone(), scores, asked: 0 }));
    }
    ensure!(!rivals.is_empty(), "{} holds keys but no scores", path.display());
    Ok(rivals)
}

/// Keys in order, each with its row.
fn keys(frame: &DataFrame) -> anyhow::Result<Arc<Vec<(EventKey, usize)>>> {
    let numbers = |name: &str| -> anyhow::Result<Vec<u32>> {
        let column = frame.column(name)?.cast(&DataType::UInt32)?;
        column.u32()?.iter().map(|key| key.context("a key is missing")).collect()
    };
    let pairs = numbers(KEY[0])?.into_iter().zip(numbers(KEY[1])?).enumerate();
    let mut keys: Vec<_> = pairs.map(|(row, (day, place))| (EventKey { day, place }, row)).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        bail!("{:?} is scored twice", twice[0].0);
    }
    Ok(Arc::new(keys))
}

impl Detector for Outside {
    fn name(&self) -> &str {
        &self.name
    }

    fn learn(&mut self, _: &Seen) {}

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        self.asked += 1;
        let found = self.keys.binary_search_by_key(&seen.key, |(key, _)| *key).ok();
        let score = found.and_then(|at| self.scores.get(self.keys[at].1));
        score
            .copied()
            .with_context(|| format!("{} has no score of {} for {:?}", self.path.display(), self.name, seen.key))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let held = self.keys.len();
        ensure!(
            self.asked == held,
            "{} holds scores of {held} events, the host has {}: they are of another corpus",
            self.path.display(),
            self.asked
        );
        Ok(())
    }
}
