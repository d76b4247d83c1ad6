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

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::frame::{End, Frame, MAGIC, MAX_BODY, PREFIX, parse};
use super::{KINDS, Kind, PerKind};

/// A segment is closed when it has grown to this.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// Read at once; a longer frame is read on its own.
const CHUNK: usize = 128 << 10;

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

struct Segment {
    length: u64,
    /// Frames appended or found by the scan at the start.
    frames: u64,
    /// Of these, taken by the reader.
    taken: u64,
}

/// Taken, not yet behind the cursor.
struct Taken {
    number: u64,
    segment: u64,
    end: u64,
    acknowledged: bool,
}

struct Queue {
    directory: PathBuf,
    segments: BTreeMap<u64, Segment>,
    writer: Option<(u64, File)>,
    unsynced: bool,
    /// A segment was made since the directory was synced.
    unlisted: bool,
    next_segment: u64,
    reader: Option<(u64, File)>,
    /// The next frame to take: segment and offset.
    read: (u64, u64),
    /// Everything before it is acknowledged.
    cursor: (u64, u64),
    cursor_written: (u64, u64),
    taken: VecDeque<Taken>,
    next_ticket: u64,
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
        let queue = &self.queues[kind.index()];
        queue.taken.is_empty() && !queue.unread()
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
        self.queues.iter().flat_map(|queue| queue.segments.values()).map(|segment| segment.length).sum()
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
        let queue = &mut self.queues[ticket.kind.index()];
        if let Ok(index) = queue.taken.binary_search_by_key(&ticket.number, |taken| taken.number) {
            queue.taken[index].acknowledged = true;
        }
        queue.drop_acknowledged();
    }

    /// Whether a taken message is on disk: an eviction may have removed it.
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.queues[ticket.kind.index()].taken.binary_search_by_key(&ticket.number, |taken| taken.number).is_ok()
    }

    /// Gives everything taken and not acknowledged back: the next [`Spool::take`] begins there.
    pub fn give_back(&mut self, kind: Kind) {
        let queue = &mut self.queues[kind.index()];
        queue.taken.clear();
        queue.read = queue.cursor;
        queue.reader = None;
        for (number, segment) in &mut queue.segments {
            // Only approximate in the segment of the cursor: it serves the count of what an eviction loses.
            if *number >= queue.cursor.0 {
                segment.taken = 0;
            }
        }
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
            let victim = Kind::ALL.into_iter().rev().find(|kind| !self.queues[kind.index()].segments.is_empty());
            let Some(victim) = victim.filter(|victim| *victim >= kind) else { return false };
            let frames = self.queues[victim.index()].evict_oldest();
            self.totals.dropped.add(victim, frames);
        }
        true
    }
}

impl Queue {
    fn open(directory: PathBuf) -> Result<Self, SpoolError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError { action, path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed("make", &directory))?;
        let cursor = read_cursor(&directory.join("cursor"));
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let path = entry.map_err(failed("list", &directory))?.path();
            let Some(number) = segment_number(&path) else { continue };
            if number < cursor.0 {
                // Acknowledged, and the process ended before it could delete it.
                fs::remove_file(&path).map_err(failed("delete", &path))?;
                continue;
            }
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            let from = if number == cursor.0 { cursor.1.max(MAGIC.len() as u64) as usize } else { MAGIC.len() };
            let (frames, _) = parse(bytes.get(from..).unwrap_or_default());
            segments.insert(number, Segment { length: bytes.len() as u64, frames: frames.len() as u64, taken: 0 });
        }
        let first = segments.keys().next().copied().unwrap_or(1 << 32);
        let next_segment = segments.keys().last().map_or(first.max(cursor.0 + 1), |last| last + 1);
        let start = if first == cursor.0 { cursor } else { (first, 0) };
        Ok(Self {
            directory,
            segments,
            writer: None,
            unsynced: false,
            unlisted: false,
            next_segment,
            reader: None,
            read: start,
            cursor: start,
            cursor_written: cursor,
            taken: VecDeque::new(),
            next_ticket: 0,
        })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016x}.seg"))
    }

    fn error(&self, action: &'static str, number: u64) -> impl FnOnce(io::Error) -> SpoolError + use<> {
        let path = self.path(number);
        move |source| SpoolError { action, path, source }
    }

    fn unread(&self) -> bool {
        self.segments.range(self.read.0..).any(|(number, segment)| {
            let at = if *number == self.read.0 { self.read.1.max(MAGIC.len() as u64) } else { MAGIC.len() as u64 };
            at < segment.length
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let full = |segment: &Segment| segment.length + bytes.len() as u64 > SEGMENT_BYTES;
        let current = self.writer.as_ref().map(|(number, _)| *number);
        if current.is_none_or(|number| self.segments.get(&number).is_none_or(full)) {
            self.sync_writer()?;
            self.start_segment()?;
        }
        let Some((number, file)) = &mut self.writer else { return Ok(()) };
        let number = *number;
        if let Err(source) = file.write_all(bytes) {
            // Part of the frame may be there: this segment ends here, its tail reads as torn.
            self.writer = None;
            return Err(self.error("append to", number)(source));
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.length += bytes.len() as u64;
            segment.frames += 1;
        }
        self.unsynced = true;
        Ok(())
    }

    fn start_segment(&mut self) -> Result<(), SpoolError> {
        let number = self.next_segment;
        let mut file = create(&self.path(number)).map_err(self.error("make", number))?;
        file.write_all(&MAGIC).map_err(self.error("write", number))?;
        self.next_segment += 1;
        self.unlisted = true;
        self.segments.insert(number, Segment { length: MAGIC.len() as u64, frames: 0, taken: 0 });
        self.writer = Some((number, file));
        Ok(())
    }

    fn put_first(&mut self, bytes: &[u8], frames: u64) -> Result<(), SpoolError> {
        let number = match self.segments.keys().next() {
            Some(first) => first - 1,
            None => self.next_segment,
        };
        self.next_segment = self.next_segment.max(number + 1);
        // A segment in which reading stands in the middle holds newer messages still: reading comes back to it.
        let file = create(&self.path(number)).map_err(self.error("make", number))?;
        file.write_all_at(bytes, 0).map_err(self.error("write", number))?;
        file.sync_data().map_err(self.error("sync", number))?;
        self.segments.insert(number, Segment { length: bytes.len() as u64, frames, taken: 0 });
        self.read = (number, 0);
        self.cursor = (number, 0);
        self.reader = None;
        Ok(())
    }

    fn take_chunk(&mut self, wanted: usize) -> Result<(Vec<(u64, Frame)>, u64), SpoolError> {
        if !self.find_segment() {
            return Ok((Vec::new(), 0));
        }
        let (number, at) = self.read;
        let length = self.segments.get(&number).map_or(0, |segment| segment.length);
        let left = (length - at) as usize;
        let mut bytes = self.read_at(number, at, left.min(wanted.clamp(PREFIX, CHUNK)))?;
        let (mut frames, end) = parse(&bytes);
        if frames.is_empty() && end == End::Truncated && bytes.len() < left {
            bytes = self.read_at(number, at, left.min(PREFIX + MAX_BODY))?;
            frames = parse(&bytes).0;
        }
        let behind = frames.last().map_or(0, |(_, end)| *end);
        let mut lost = 0;
        if frames.is_empty() {
            // Torn or corrupt from here on: what follows in this segment cannot be found.
            lost = left as u64;
        }
        self.read.1 = at + behind as u64 + lost;
        let mut taken = Vec::with_capacity(frames.len());
        for (frame, end) in frames {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.taken.push_back(Taken { number: ticket, segment: number, end: at + end as u64, acknowledged: false });
            taken.push((ticket, frame));
        }
        if lost > 0 {
            // The damaged rest is behind everybody as soon as what stands before it is.
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.taken.push_back(Taken { number: ticket, segment: number, end: length, acknowledged: true });
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.taken += taken.len() as u64;
        }
        Ok((taken, lost))
    }

    /// Moves reading to the next segment that has something behind it.
    fn find_segment(&mut self) -> bool {
        loop {
            let Some((&number, segment)) = self.segments.range(self.read.0..).next() else { return false };
            let at = if number == self.read.0 { self.read.1.max(MAGIC.len() as u64) } else { MAGIC.len() as u64 };
            if at < segment.length {
                self.read = (number, at);
                return true;
            }
            if self.segments.range(number + 1..).next().is_none() {
                return false;
            }
            self.read = (number + 1, 0);
        }
    }

    fn read_at(&mut self, number: u64, at: u64, length: usize) -> Result<Vec<u8>, SpoolError> {
        if self.reader.as_ref().is_none_or(|(open, _)| *open != number) {
            let file = File::open(self.path(number)).map_err(self.error("open", number))?;
            self.reader = Some((number, file));
        }
        let mut bytes = vec![0; length];
        if let Some((_, file)) = &self.reader {
            file.read_exact_at(&mut bytes, at).map_err(self.error("read", number))?;
        }
        Ok(bytes)
    }

    /// Moves the cursor over what is acknowledged without a gap and deletes segments behind it.
    fn drop_acknowledged(&mut self) {
        while let Some(taken) = self.taken.front().filter(|taken| taken.acknowledged) {
            self.cursor = (taken.segment, taken.end);
            self.taken.pop_front();
        }
        while let Some((&number, segment)) = self.segments.first_key_value() {
            let done = number < self.cursor.0 || (number == self.cursor.0 && self.cursor.1 >= segment.length);
            if !done {
                break;
            }
            self.delete(number);
        }
    }

    /// Deletes the oldest segment; gives the number of messages that nobody had taken.
    fn evict_oldest(&mut self) -> u64 {
        let Some((&number, segment)) = self.segments.first_key_value() else { return 0 };
        let untaken = segment.frames.saturating_sub(segment.taken);
        self.delete(number);
        self.taken.retain(|taken| taken.segment != number);
        if self.read.0 <= number {
            self.read = (number + 1, 0);
        }
        if self.cursor.0 <= number {
            self.cursor = (number + 1, 0);
        }
        untaken
    }

    fn delete(&mut self, number: u64) {
        if self.writer.as_ref().is_some_and(|(current, _)| *current == number) {
            self.writer = None;
        }
        if self.reader.as_ref().is_some_and(|(current, _)| *current == number) {
            self.reader = None;
        }
        // A file that cannot be deleted is read again by the next process: its messages come twice, with the same ids.
        if let Err(error) = fs::remove_file(self.path(number)) {
            tracing::warn!(%error, path = %self.path(number).display(), "cannot delete a spool segment that is done");
        }
        self.segments.remove(&number);
    }

    fn sync_writer(&mut self) -> Result<(), SpoolError> {
        if let Some((number, file)) = self.writer.as_ref().filter(|_| self.unsynced) {
            file.sync_data().map_err(self.error("sync", *number))?;
        }
        self.unsynced = false;
        Ok(())
    }

    fn sync(&mut self, durable: bool) -> Result<(), SpoolError> {
        if durable {
            self.sync_writer()?;
            if std::mem::take(&mut self.unlisted) {
                let failed = |source| SpoolError { action: "sync", path: self.directory.clone(), source };
                File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
            }
        }
        if self.cursor != self.cursor_written {
            let path = self.directory.join("cursor");
            write_cursor(&path, self.cursor).map_err(|source| SpoolError { action: "write", path, source })?;
            self.cursor_written = self.cursor;
        }
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn segment_number(path: &Path) -> Option<u64> {
    (path.extension()? == "seg").then(|| u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok())?
}

/// A cursor that is missing or damaged is the beginning: everything comes again.
fn read_cursor(path: &Path) -> (u64, u64) {
    let read = || -> Option<(u64, u64)> {
        let bytes = fs::read(path).ok()?;
        let (body, sum) = bytes.split_at_checked(16)?;
        (sum == crc32c::crc32c(body).to_le_bytes()).then_some(())?;
        Some((u64::from_le_bytes(body[..8].try_into().ok()?), u64::from_le_bytes(body[8..].try_into().ok()?)))
    };
    read().unwrap_or((0, 0))
}

fn write_cursor(path: &Path, (segment, offset): (u64, u64)) -> io::Result<()> {
    let mut bytes = segment.to_le_bytes().to_vec();
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let file = path.with_extension("new");
    fs::write(&file, bytes)?;
    fs::rename(&file, path)
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
