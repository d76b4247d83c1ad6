//! Messages on disk until somebody has acknowledged them: one queue a [`Kind`], in segments that are only appended to.
//!
//! `<directory>/<kind>/<number>.seg` holds frames ([`super::frame`]); `<directory>/<kind>/cursor` says up to where they are
//! acknowledged. A segment is deleted when all of it is. After a crash reading goes on behind the cursor, so that a message
//! may come twice (with the same id) and none is lost. A new process never appends to an old segment: a torn tail stays where
//! it is, and only its own frame is lost, reported by [`Totals::damaged_bytes`].
//!
//! **Fsync**: [`Spool::sync`] brings decisions and findings to the disk; the other kinds are left to the page cache: they
//! survive the end of the process, not a power cut.
//!
//! **Bound**: when the cap is reached the oldest segment of the least important kind goes first and its messages are counted;
//! a kind is never evicted for a less important one.

mod queue;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use self::queue::{Queue, create};
use super::frame::{Frame, MAGIC};
use super::{KINDS, Kind, PerKind};

/// A segment is closed when it has grown to this.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// What could not be done with the spool.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}; the spool keeps what the broker has not taken: check the disk and the owner of the directory", path.display())]
pub struct SpoolError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the spool.
    Kept,
    /// There was no room, even after eviction, or it is too long: dropped and counted.
    Dropped,
}

/// Counters since the spool was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes on disk.
    pub bytes: u64,
    /// Messages evicted or refused, by kind.
    pub dropped: PerKind,
    /// Bytes that could not be read: torn or corrupt.
    pub damaged_bytes: u64,
}

/// Names a message that was taken and waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    kind: Kind,
    number: u64,
}

/// The spool of one sink.
pub struct Spool {
    cap: u64,
    /// Two processes would delete each other's messages.
    _lock: File,
    queues: [Queue; KINDS],
    totals: Totals,
}

impl Spool {
    /// Opens or makes a spool of at most `cap` bytes and counts what an earlier process left.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(directory: &Path, cap: u64) -> Result<Self, SpoolError> {
        let failed = |action| move |source| SpoolError { action, path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("make"))?;
        let lock = create(&directory.join("lock")).map_err(failed("make a lock in"))?;
        lock.try_lock().map_err(|error| failed("lock (another agent uses it)")(error.into()))?;
        let mut queues = Vec::with_capacity(KINDS);
        for kind in Kind::ALL {
            queues.push(Queue::open(directory.join(kind.name()))?);
        }
        let queues = queues.try_into().map_err(|_| failed("open")(io::Error::other("a kind is missing")))?;
        Ok(Self { cap, _lock: lock, queues, totals: Totals::default() })
    }

    /// Whether nothing of a kind is kept, taken messages included.
    pub fn is_empty(&self, kind: Kind) -> bool {
        self.queues[kind.index()].is_empty()
    }

    /// Whether [`Spool::take`] would find something.
    pub fn has_unread(&self, kind: Kind) -> bool {
        self.queues[kind.index()].unread()
    }

    /// What it holds and lost.
    pub fn totals(&self) -> Totals {
        Totals { bytes: self.bytes(), ..self.totals }
    }

    fn bytes(&self) -> u64 {
        self.queues.iter().map(Queue::bytes).sum()
    }

    /// Appends a message behind all others of its kind.
    ///
    /// # Errors
    /// The segment cannot be written: the message is not kept.
    pub fn append(&mut self, kind: Kind, frame: &Frame) -> Result<Appended, SpoolError> {
        let mut bytes = Vec::with_capacity(frame.stored_len());
        if !frame.append_to(&mut bytes) || !self.make_room(kind, bytes.len() as u64 + MAGIC.len() as u64) {
            self.totals.dropped.add(kind, 1);
            return Ok(Appended::Dropped);
        }
        self.queues[kind.index()].append(&bytes)?;
        Ok(Appended::Kept)
    }

    /// Puts messages, oldest first, *before* all others of their kind: those that were in memory when the spool began to
    /// fill. Only while nothing is taken; the cap does not apply.
    ///
    /// # Errors
    /// The segment cannot be written.
    pub fn put_first(&mut self, kind: Kind, frames: &[Frame]) -> Result<(), SpoolError> {
        let mut bytes = MAGIC.to_vec();
        let kept = frames.iter().filter(|frame| frame.append_to(&mut bytes)).count() as u64;
        self.totals.dropped.add(kind, frames.len() as u64 - kept);
        if kept == 0 {
            return Ok(());
        }
        self.queues[kind.index()].put_first(&bytes, kept)
    }

    /// Takes the oldest messages that were not taken yet, about `bytes` of them. They stay on disk until
    /// [`Spool::acknowledge`].
    ///
    /// # Errors
    /// The segment cannot be read.
    pub fn take(&mut self, kind: Kind, bytes: usize) -> Result<Vec<(Ticket, Frame)>, SpoolError> {
        let queue = &mut self.queues[kind.index()];
        let mut taken = Vec::new();
        while taken.is_empty() && queue.unread() {
            let (frames, lost) = queue.take_chunk(bytes)?;
            self.totals.damaged_bytes += lost;
            taken.extend(frames.into_iter().map(|(number, frame)| (Ticket { kind, number }, frame)));
        }
        queue.drop_acknowledged();
        Ok(taken)
    }

    /// Says that a taken message has arrived.
    pub fn acknowledge(&mut self, ticket: Ticket) {
        self.queues[ticket.kind.index()].acknowledge(ticket.number);
    }

    /// Whether a taken message is on disk: an eviction may have removed it.
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.queues[ticket.kind.index()].holds(ticket.number)
    }

    /// Gives everything taken and not acknowledged back: the next [`Spool::take`] begins there.
    pub fn give_back(&mut self, kind: Kind) {
        self.queues[kind.index()].give_back();
    }

    /// Brings decisions and findings to the disk and notes the cursors.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        for kind in Kind::ALL {
            self.queues[kind.index()].sync(kind.is_durable())?;
        }
        Ok(())
    }

    /// Evicts until `wanted` bytes fit; false when only more important kinds are left.
    fn make_room(&mut self, kind: Kind, wanted: u64) -> bool {
        while self.bytes() + wanted > self.cap {
            let victim = Kind::ALL.into_iter().rev().find(|kind| self.queues[kind.index()].has_segments());
            let Some(victim) = victim.filter(|victim| *victim >= kind) else { return false };
            let frames = self.queues[victim.index()].evict_oldest();
            self.totals.dropped.add(victim, frames);
        }
        true
    }
}

#[cfg(test)]
mod tests;
