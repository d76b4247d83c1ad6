//! What the model was told, kept on disk so that an incident can be unlearnt.
//!
//! The history is a row of segments, each a checkpoint of the model and a log of everything that it was told from there on.
//! A purge goes back to the last checkpoint before the incident and tells the rest again without it ([`redo`]); the checkpoints
//! on the way are written anew, so that the history itself never saw the incident's lessons. How far that reaches is bounded by
//! disk space, and said plainly: what the history does not reach is not unlearnt.
//!
//! An agent that stopped in order goes on where it stopped. One that was killed begins anew: what its model was told last was
//! not kept, so that the logs would lead to another model.

pub mod hindsight;
mod log;
pub mod redo;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use model::event::{Event, Time};
use model::purge::Said;
use model::{Model, Standing};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::readiness::span;
use log::Writer;
use redo::Part;

/// A segment ends once its log is as large as its checkpoint, but not before this many bytes, …
const SEGMENT_BYTES: u64 = 16 << 20;
/// … or after this long.
const SEGMENT_NS: u64 = 6 * 3_600 * 1_000_000_000;
/// After a failure it is tried again so much later.
const RETRY_NS: u64 = 600 * 1_000_000_000;

/// Why something cannot be unlearnt. Nothing was changed.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// It is switched off.
    #[error("nothing can be unlearnt: the history is off (model.history_mib = 0)")]
    Off,
    /// It could not be written.
    #[error("nothing can be unlearnt: the history cannot be written: {0}")]
    Broken(String),
    /// It happened before the oldest checkpoint.
    #[error(
        "the history reaches back {} and this began {} ago: what it taught before that cannot be taken back, so nothing was. \
         `stockade mode set WORKLOAD learning` lets a workload learn anew",
        span(*.reaches_ns),
        span(*.asked_ns)
    )]
    TooLongAgo {
        /// How far it reaches.
        reaches_ns: u64,
        /// How long ago it was.
        asked_ns: u64,
    },
    /// A file of it cannot be read back.
    #[error("the history in {path} cannot be read: {why}; nothing was unlearnt")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        why: String,
    },
}

/// A checkpoint and the log from there on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Segment {
    number: u64,
    began: Time,
    /// Bytes of both files.
    bytes: u64,
    /// Things told.
    entries: u64,
}

/// What is kept about the segments when the agent stops.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    segments: VecDeque<Segment>,
    /// Checksum of the model that the last log leads to.
    leads_to: u32,
}

/// The history of one model.
pub struct History {
    directory: PathBuf,
    most_bytes: u64,
    /// Oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    writer: Option<Writer>,
    checkpoint_bytes: u64,
    failure: Option<(String, Time)>,
    untold: Option<String>,
}

impl History {
    /// Opens the history of a model, whatever is there of an earlier one.
    pub fn open(directory: &Path, most_bytes: u64, model: &Model, at: Time) -> Self {
        let mut history = Self {
            directory: directory.to_owned(),
            most_bytes,
            segments: VecDeque::new(),
            writer: None,
            checkpoint_bytes: 0,
            failure: None,
            untold: None,
        };
        history.segments = history.kept(model).unwrap_or_default();
        history.tidy();
        history.begin(model, at);
        history
    }

    /// The segments of an agent that stopped in order, if they lead to this model.
    fn kept(&self, model: &Model) -> Option<VecDeque<Segment>> {
        let bytes = std::fs::read(self.index()).ok()?;
        let index: Index = serde_json::from_slice(&bytes).ok()?;
        // Only once: whoever is killed from here on leaves none.
        std::fs::remove_file(self.index()).ok()?;
        (index.leads_to == log::checksum(&model.snapshot().ok()?)).then_some(index.segments)
    }

    /// Removes what belongs to no segment.
    fn tidy(&self) {
        let known =
            |name: &str| self.segments.iter().any(|segment| name.starts_with(&format!("{:08}.", segment.number)));
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !known(name)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Notes an event that the model is told.
    pub fn note_event(&mut self, event: &Event, standing: Standing) {
        self.note_bytes(Said::event_to_bytes(event, standing), event.at);
    }

    /// Notes something else that the model is told.
    pub fn note(&mut self, said: &Said, at: Time) {
        self.note_bytes(said.to_bytes(), at);
    }

    fn note_bytes<E: std::fmt::Display>(&mut self, bytes: Result<Vec<u8>, E>, at: Time) {
        let Some(writer) = &mut self.writer else { return };
        let noted = bytes
            .map_err(|error| error.to_string())
            .and_then(|bytes| writer.note(&bytes).map_err(|error| error.to_string()));
        match noted {
            Ok(()) => {
                if let Some(segment) = self.segments.back_mut() {
                    segment.entries += 1;
                    segment.bytes = self.checkpoint_bytes + writer.bytes();
                }
            }
            Err(error) => self.fail(error, at),
        }
    }

    /// Ends a segment that is large or old enough. The model has to have heard everything that was noted.
    pub fn pass_time(&mut self, model: &Model, at: Time) {
        let due = match (&self.writer, &self.failure, self.segments.back()) {
            (Some(writer), _, Some(segment)) => {
                writer.bytes() >= SEGMENT_BYTES.max(self.checkpoint_bytes)
                    || at.boot_ns.saturating_sub(segment.began.boot_ns) >= SEGMENT_NS
            }
            (None, Some((_, failed)), _) => at.boot_ns.saturating_sub(failed.boot_ns) >= RETRY_NS,
            _ => false,
        };
        if due {
            self.begin(model, at);
        }
    }

    /// Begins a segment with a checkpoint.
    fn begin(&mut self, model: &Model, at: Time) {
        let number = self.segments.back().map_or(0, |segment| segment.number + 1);
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.finish()
        {
            return self.fail(error.to_string(), at);
        }
        let begun = std::fs::create_dir_all(&self.directory)
            .map_err(|error| error.to_string())
            .and_then(|()| log::write_checkpoint(&self.checkpoint(number), model))
            .and_then(|bytes| Ok((bytes, Writer::create(&self.log(number)).map_err(|error| error.to_string())?)));
        match begun {
            Ok((bytes, writer)) => {
                self.checkpoint_bytes = bytes;
                self.writer = Some(writer);
                self.failure = None;
                self.segments.push_back(Segment { number, began: at, bytes, entries: 0 });
            }
            Err(error) => return self.fail(error, at),
        }
        while self.segments.len() > 1
            && self.segments.iter().map(|segment| segment.bytes).sum::<u64>() > self.most_bytes
        {
            if let Some(oldest) = self.segments.pop_front() {
                self.remove(oldest.number);
            }
        }
    }

    fn remove(&self, number: u64) {
        let _ = std::fs::remove_file(self.checkpoint(number));
        let _ = std::fs::remove_file(self.log(number));
    }

    /// A log with a hole leads nowhere: nothing of it is kept.
    fn fail(&mut self, error: String, at: Time) {
        self.writer = None;
        for segment in std::mem::take(&mut self.segments) {
            self.remove(segment.number);
        }
        self.untold = Some(error.clone());
        self.failure = Some((error, at));
    }

    /// A failure that nobody was told of yet.
    pub fn take_failure(&mut self) -> Option<String> {
        self.untold.take()
    }

    /// Since when something can be unlearnt.
    pub fn reaches(&self) -> Option<Time> {
        Some(self.segments.front()?.began)
    }

    /// What has to be told again to a model that goes back to before `since`.
    ///
    /// # Errors
    ///
    /// When the history does not reach so far, or cannot be written.
    pub fn since(&mut self, since: Time, now: Time) -> Result<Vec<Part>, HistoryError> {
        if let Some((why, _)) = &self.failure {
            return Err(HistoryError::Broken(why.clone()));
        }
        let began_before = |segment: &&Segment| segment.began.unix_ns <= since.unix_ns;
        let first = self.segments.iter().rev().find(began_before).map(|segment| segment.number);
        let ago = |time: Time| now.unix_ns.saturating_sub(time.unix_ns);
        let too_long_ago =
            || HistoryError::TooLongAgo { reaches_ns: self.reaches().map_or(0, ago), asked_ns: ago(since) };
        let first = first.ok_or_else(too_long_ago)?;
        self.rest((first, 0))
    }

    /// What was told after a place.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn rest(&mut self, (number, entry): (u64, u64)) -> Result<Vec<Part>, HistoryError> {
        if let Some(writer) = &mut self.writer {
            writer.flush().map_err(|error: io::Error| HistoryError::Broken(error.to_string()))?;
        }
        let part = |segment: &Segment| Part {
            number: segment.number,
            checkpoint: self.checkpoint(segment.number),
            log: self.log(segment.number),
            from: if segment.number == number { entry } else { 0 },
            to: segment.entries,
        };
        Ok(self.segments.iter().filter(|segment| segment.number >= number).map(part).collect())
    }

    /// Keeps what the next agent goes on from. The model has to be the one that is kept.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the next agent begins a new history then.
    pub fn end(mut self, model: &Model) -> Result<(), HistoryError> {
        let broken = |error: String| HistoryError::Broken(error);
        if let Some(writer) = self.writer.take() {
            writer.finish().map_err(|error| broken(error.to_string()))?;
        }
        let model = model.snapshot().map_err(|error| broken(error.to_string()))?;
        let index = Index { segments: std::mem::take(&mut self.segments), leads_to: log::checksum(&model) };
        let bytes = serde_json::to_vec(&index).map_err(|error| broken(error.to_string()))?;
        std::fs::write(self.index(), bytes).map_err(|error| broken(error.to_string()))
    }

    fn index(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    fn checkpoint(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:08}.model.gz"))
    }

    fn log(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:08}.said.gz"))
    }
}

#[cfg(test)]
mod tests;
