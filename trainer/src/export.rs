//! Verdicts as a table, for notebooks: one row a judged event, with its coordinates, scores, reasons and label.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use model::replay::Replay;
use model::{Body, Coordinate, Event, Model, Params, Standing, Verdict};
use polars_core::prelude::{Column, DataFrame, NamedFrom, PolarsResult, Series};
use polars_io::parquet::write::BatchedWriter;
use polars_io::prelude::{ParquetCompression, ParquetWriter};

use crate::corpus::Day;
use crate::evaluate::{DayNumber, Labels, Part, lane};
use crate::journal::GROUP;
use crate::labels::{Kind, Split};

/// Below this an event without new facts is not worth a row.
const LEAST_BITS: f64 = 1.0;

/// Writes the table, a batch in memory at a time.
pub struct Exporter {
    path: PathBuf,
    part: PathBuf,
    writer: BatchedWriter<File>,
    batch: Batch,
    all: bool,
    rows: u64,
    whole: bool,
}

#[derive(Default)]
struct Batch {
    texts: [Vec<String>; 10],
    times: [Vec<u64>; 4],
    numbers: [Vec<f64>; 6],
    coordinates: [Vec<f64>; 8],
}

const TEXTS: [&str; 10] = ["host", "split", "workload", "exe", "kind", "standing", "lane", "part", "span", "why"];
const TIMES: [&str; 4] = ["unix_ns", "boot_ns", "cookie", "anchor"];
const NUMBERS: [&str; 6] = ["score", "episode", "forest_sum", "fact_sum", "call_sum", "new_facts"];

impl Batch {
    fn len(&self) -> usize {
        self.times[0].len()
    }

    fn frame(self) -> PolarsResult<DataFrame> {
        let rows = self.len();
        let texts = TEXTS.into_iter().zip(self.texts).map(|(name, values)| Series::new(name.into(), values));
        let times = TIMES.into_iter().zip(self.times).map(|(name, values)| Series::new(name.into(), values));
        let numbers = NUMBERS.into_iter().zip(self.numbers).map(|(name, values)| Series::new(name.into(), values));
        let bits = Coordinate::ALL.into_iter().zip(self.coordinates);
        let bits = bits.map(|(coordinate, values)| Series::new(coordinate.name().into(), values));
        DataFrame::new(rows, texts.chain(times).chain(numbers).chain(bits).map(Column::from).collect())
    }
}

impl Exporter {
    /// Begins a table.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path, all: bool) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let part = path.with_extension("parquet.part");
        let file = File::create(&part).with_context(|| format!("cannot make {}", part.display()))?;
        let nothing = Batch::default().frame()?;
        let writer =
            ParquetWriter::new(file).with_compression(ParquetCompression::Zstd(None)).batched(nothing.schema())?;
        Ok(Self { path: path.to_path_buf(), part, writer, batch: Batch::default(), all, rows: 0, whole: false })
    }

    /// Takes a host's days through the model and writes what it says.
    ///
    /// # Errors
    ///
    /// When a journal is damaged or the table cannot be written.
    pub fn host(&mut self, days: &[(DayNumber, &Day)], params: &Params) -> anyhow::Result<()> {
        let mut replay = Replay::new(Model::new(params.clone())?);
        let mut last = model::Time::default();
        let mut frozen = false;
        for (number, day) in days {
            if day.cycle.split != Split::Train && !frozen {
                replay.freeze_all(last);
                frozen = true;
            }
            let labels = Labels::of(*number, day);
            for event in day.events() {
                let event = event?;
                last = event.at;
                let step = replay.feed(&event);
                if let Some(verdict) = step.verdict {
                    self.take(&event, &verdict, step.standing, day, &labels)?;
                }
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        event: &Event,
        verdict: &Verdict,
        standing: Standing,
        day: &Day,
        labels: &Labels,
    ) -> anyhow::Result<()> {
        let new_facts = verdict.facts.iter().filter(|fact| fact.novel).count();
        let part = labels.part(event);
        let plain = matches!(part, Part::Benign(None)) && new_facts == 0 && verdict.score.value < LEAST_BITS;
        if plain && !self.all {
            return Ok(());
        }
        let (name, span) = match part {
            Part::Attack(number) => ("attack", labels.attacks().get(number.span)),
            Part::Beside => ("beside", None),
            Part::Benign(number) => ("benign", number.and_then(|number| labels.changes().get(number.span))),
        };
        debug_assert!(span.is_none_or(|span| (span.kind == Kind::Attack) == (name == "attack")));
        let why = verdict.facts.iter().filter(|fact| fact.novel).map(|fact| fact.fact.to_string());
        let why = why.chain([verdict.explanation.to_string()]).collect::<Vec<_>>().join("; ");
        let split = format!("{:?}", day.cycle.split).to_lowercase();
        let standing = format!("{standing:?}").to_lowercase();
        let texts: [&str; 10] = [
            &day.name(),
            &split,
            &event.process.workload,
            &event.process.exe,
            kind(&event.body),
            &standing,
            lane(event, verdict).name(),
            name,
            span.map_or("", |span| &span.name),
            &why,
        ];
        let times = [event.at.unix_ns, event.at.boot_ns, event.process.cookie, verdict.episode.anchor];
        let episode = &verdict.episode;
        let numbers = [
            verdict.score.value,
            episode.score,
            episode.forest_sum,
            episode.fact_sum,
            episode.call_sum,
            new_facts as f64,
        ];
        self.batch.texts.iter_mut().zip(texts).for_each(|(column, value)| column.push(value.to_owned()));
        self.batch.times.iter_mut().zip(times).for_each(|(column, value)| column.push(value));
        self.batch.numbers.iter_mut().zip(numbers).for_each(|(column, value)| column.push(value));
        self.batch.coordinates.iter_mut().zip(verdict.vector.bits).for_each(|(column, value)| column.push(value));
        self.rows += 1;
        if self.batch.len() >= GROUP { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> anyhow::Result<()> {
        let frame = std::mem::take(&mut self.batch).frame()?;
        self.writer.write_batch(&frame).with_context(|| format!("cannot write {}", self.part.display()))
    }

    /// Writes what is left and gives the file its name. How many rows it holds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        if self.batch.len() > 0 {
            self.write_batch()?;
        }
        self.writer.finish()?;
        std::fs::rename(&self.part, &self.path).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.whole = true;
        Ok(self.rows)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if !self.whole {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Fork(_) => "fork",
        Body::Exec(_) => "exec",
        Body::Exit(_) => "exit",
        Body::Window(_) => "window",
        Body::Flow(_) => "flow",
        Body::Deny(_) => "deny",
        Body::File(_) => "file",
    }
}
