//! The queue of one kind: its segments, where reading stands, what is taken and what is acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{SEGMENT_BYTES, SpoolError};
use crate::sinks::frame::{End, Frame, MAGIC, MAX_BODY, PREFIX, parse};

/// Read at once; a longer frame is read on its own.
const CHUNK: usize = 128 << 10;

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

/// The messages of one kind, oldest first.
pub(super) struct Queue {
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

impl Queue {
    pub(super) fn open(directory: PathBuf) -> Result<Self, SpoolError> {
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

    pub(super) fn unread(&self) -> bool {
        self.segments.range(self.read.0..).any(|(number, segment)| {
            let at = if *number == self.read.0 { self.read.1.max(MAGIC.len() as u64) } else { MAGIC.len() as u64 };
            at < segment.length
        })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
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

    pub(super) fn put_first(&mut self, bytes: &[u8], frames: u64) -> Result<(), SpoolError> {
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

    pub(super) fn take_chunk(&mut self, wanted: usize) -> Result<(Vec<(u64, Frame)>, u64), SpoolError> {
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
    pub(super) fn drop_acknowledged(&mut self) {
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
    pub(super) fn evict_oldest(&mut self) -> u64 {
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

    pub(super) fn sync(&mut self, durable: bool) -> Result<(), SpoolError> {
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

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && !self.unread()
    }

    pub(super) fn has_segments(&self) -> bool {
        !self.segments.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.length).sum()
    }

    pub(super) fn holds(&self, ticket: u64) -> bool {
        self.taken.binary_search_by_key(&ticket, |taken| taken.number).is_ok()
    }

    pub(super) fn acknowledge(&mut self, ticket: u64) {
        if let Ok(index) = self.taken.binary_search_by_key(&ticket, |taken| taken.number) {
            self.taken[index].acknowledged = true;
        }
        self.drop_acknowledged();
    }

    pub(super) fn give_back(&mut self) {
        self.taken.clear();
        self.read = self.cursor;
        self.reader = None;
        for (number, segment) in &mut self.segments {
            // Only approximate in the segment of the cursor: it serves the count of what an eviction loses.
            if *number >= self.cursor.0 {
                segment.taken = 0;
            }
        }
    }
}

pub(super) fn create(path: &Path) -> io::Result<File> {
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
