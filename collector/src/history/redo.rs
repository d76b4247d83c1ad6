//! Tells a model everything again, without some incidents, on a thread of its own: a day takes minutes.

use std::path::PathBuf;
use std::thread::JoinHandle;

use model::Model;
use model::event::Time;
use model::purge::{Incident, Purge, Said};

use super::hindsight::Hindsight;
use super::log::{self, Reader};
use super::{History, HistoryError};

/// So many entries are told at once, while everything else waits: a tenth of a second.
const FEW: u64 = 4_000;

/// A stretch of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Segment.
    pub number: u64,
    /// Its checkpoint.
    pub checkpoint: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// First entry.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

/// How far a model was taken.
struct Progress {
    /// `None` before the first checkpoint is read.
    model: Option<Model>,
    purge: Purge,
    /// Segment and entry that come next.
    next: (u64, u64),
    /// Checkpoints that were made anew, beside the old ones.
    anew: Vec<PathBuf>,
    told: u64,
    left_out: u64,
    hindsight: Hindsight,
}

/// A model that is being taken through the history again.
pub struct Redo {
    thread: JoinHandle<Result<Progress, HistoryError>>,
}

/// A model that never saw some incidents.
pub struct Redone {
    /// The model.
    pub model: Model,
    /// Things that it was told.
    pub told: u64,
    /// Events that were left out.
    pub left_out: u64,
    /// What it finds in the last day.
    pub hindsight: Hindsight,
}

impl Redo {
    /// Begins before `since`, and leaves the incidents out.
    ///
    /// # Errors
    ///
    /// When the history does not reach back so far; nothing was begun then.
    pub fn begin(
        history: &mut History,
        since: Time,
        incidents: impl IntoIterator<Item = Incident>,
        now: Time,
    ) -> Result<Self, HistoryError> {
        let parts = history.since(since, now)?;
        let purge = Purge::of(incidents);
        let hindsight = Hindsight::before(now);
        let progress = Progress { model: None, purge, next: (0, 0), anew: Vec::new(), told: 0, left_out: 0, hindsight };
        Self::go_on(progress, parts)
    }

    fn go_on(progress: Progress, parts: Vec<Part>) -> Result<Self, HistoryError> {
        let thread = std::thread::Builder::new().name("unlearn".to_owned());
        let thread = thread.spawn(move || progress.through(&parts));
        Ok(Self { thread: thread.map_err(|error| HistoryError::Broken(error.to_string()))? })
    }

    /// Looks whether it is done; call it between two events. `Err(self)` while it goes on.
    ///
    /// What was told in the meantime is told as well, until so little is left that nobody has to wait for it.
    ///
    /// # Errors
    ///
    /// The inner one when the history cannot be read; the model in use stays as it is then.
    pub fn look(self, history: &mut History) -> Result<Result<Redone, HistoryError>, Self> {
        if !self.thread.is_finished() {
            return Err(self);
        }
        match self.thread.join() {
            Ok(Ok(progress)) => Self::catch_up(progress, history),
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Ok(Err(HistoryError::Broken("the thread that unlearns panicked".to_owned()))),
        }
    }

    fn catch_up(progress: Progress, history: &mut History) -> Result<Result<Redone, HistoryError>, Self> {
        let parts = match history.rest(progress.next) {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(error)),
        };
        if parts.iter().map(|part| part.to - part.from).sum::<u64>() > FEW {
            return match Self::go_on(progress, parts) {
                Ok(further) => Err(further),
                Err(error) => Ok(Err(error)),
            };
        }
        Ok(progress.through(&parts).and_then(Progress::done))
    }
}

impl Progress {
    fn through(mut self, parts: &[Part]) -> Result<Self, HistoryError> {
        for part in parts {
            let failed = |why: String| HistoryError::Read { path: part.log.clone(), why };
            let mut model = match self.model.take() {
                None => log::read_checkpoint(&part.checkpoint)?,
                Some(model) if part.from == 0 && self.next.0 != part.number => {
                    let anew = beside(&part.checkpoint);
                    log::write_checkpoint(&anew, &model).map_err(failed)?;
                    self.anew.push(part.checkpoint.clone());
                    model
                }
                Some(model) => model,
            };
            let mut reader = Reader::open(&part.log).map_err(|error| failed(error.to_string()))?;
            for entry in 0..part.to {
                let bytes = reader.next().map_err(|error| failed(error.to_string()))?;
                if entry < part.from {
                    continue;
                }
                let said = log::said(&bytes).map_err(failed)?;
                if self.purge.leaves_out(&said) {
                    self.left_out += 1;
                } else {
                    let heard = model.hear(&said);
                    if let Said::Event(event, standing) = &said {
                        self.hindsight.take(event, *standing, heard.verdict);
                    }
                    self.told += 1;
                }
            }
            self.next = (part.number, part.to);
            self.model = Some(model);
        }
        Ok(self)
    }

    /// From here on the history leads to this model.
    fn done(self) -> Result<Redone, HistoryError> {
        for checkpoint in &self.anew {
            let failed = |why: std::io::Error| HistoryError::Read { path: checkpoint.clone(), why: why.to_string() };
            std::fs::rename(beside(checkpoint), checkpoint).map_err(failed)?;
        }
        let model = self.model.ok_or_else(|| HistoryError::Broken("there is no segment".to_owned()))?;
        Ok(Redone { model, told: self.told, left_out: self.left_out, hindsight: self.hindsight })
    }
}

/// Where a checkpoint is made anew.
fn beside(checkpoint: &std::path::Path) -> PathBuf {
    checkpoint.with_extension("anew")
}
