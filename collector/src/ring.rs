//! Reads the two rings: sleeps on ctrl, looks after bulk every millisecond, hands the bytes on.
//!
//! ctrl is drained before and between batches of bulk, so a flood of windows delays an exec record by one batch at most.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::agent::inbox::Lane;

/// Bulk records between two looks at ctrl.
const BATCH: usize = 64;
/// How often bulk is looked after when nothing comes.
const PERIOD: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Who gets the records.
pub trait RingSink: Send {
    /// One record's bytes. `false` ends the reading.
    fn take(&mut self, lane: Lane, bytes: &[u8]) -> bool;

    /// Whether bulk records have to stay in the ring for now, where the kernel counts what does not fit.
    fn bulk_must_wait(&self) -> bool {
        false
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct RingCounts {
    /// Records of ctrl.
    pub ctrl: AtomicU64,
    /// Records of bulk.
    pub bulk: AtomicU64,
    /// Bytes of both.
    pub bytes: AtomicU64,
}

/// The thread that reads.
pub struct Rings {
    stop: Arc<AtomicBool>,
    counts: Arc<RingCounts>,
    thread: JoinHandle<()>,
}

impl Rings {
    /// Starts reading.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(
        ctrl: RingBuf<MapData>,
        bulk: RingBuf<MapData>,
        sink: impl RingSink + 'static,
    ) -> std::io::Result<Self> {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(RingCounts::default()));
        let mut reader = Reader { ctrl, bulk, sink, counts: counts.clone() };
        let told = stop.clone();
        let thread = std::thread::Builder::new().name("ring".to_owned()).spawn(move || reader.run(&told))?;
        Ok(Self { stop, counts, thread })
    }

    /// What was read so far.
    pub fn counts(&self) -> &Arc<RingCounts> {
        &self.counts
    }

    /// Reads what is left in the rings, then ends.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of the sink has been reported by its thread already.
        let _ = self.thread.join();
    }
}

struct Reader<S> {
    ctrl: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    sink: S,
    counts: Arc<RingCounts>,
}

/// A batch of bulk records, read but not yet handed on.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl<S: RingSink> Reader<S> {
    fn run(&mut self, stop: &AtomicBool) {
        let mut batch = Batch::default();
        loop {
            // Read the flag first: what was written before it was set is then drained below.
            let last = stop.load(Ordering::Relaxed);
            // A window is written after the exec record of its program. Reading bulk first and handing ctrl on first keeps
            // that order, whatever arrives in between.
            if !self.sink.bulk_must_wait() {
                batch.fill(&mut self.bulk);
            }
            let Some(urgent) = self.hand_on_ctrl() else { return };
            let full = batch.ends.len() == BATCH;
            if !self.hand_on(&mut batch) {
                return;
            }
            if urgent || full {
                continue;
            }
            if last {
                return;
            }
            let _ = poll(&mut [PollFd::new(&self.ctrl.as_fd(), PollFlags::IN)], Some(&PERIOD));
        }
    }

    /// Whether there was anything; `None` when the sink wants no more.
    fn hand_on_ctrl(&mut self) -> Option<bool> {
        let mut any = false;
        while let Some(item) = self.ctrl.next() {
            any = true;
            self.counts.ctrl.fetch_add(1, Ordering::Relaxed);
            self.counts.bytes.fetch_add(item.len() as u64, Ordering::Relaxed);
            if !self.sink.take(Lane::Ctrl, &item) {
                return None;
            }
        }
        Some(any)
    }

    fn hand_on(&mut self, batch: &mut Batch) -> bool {
        self.counts.bulk.fetch_add(batch.ends.len() as u64, Ordering::Relaxed);
        self.counts.bytes.fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        let mut start = 0;
        for end in batch.ends.drain(..) {
            if !self.sink.take(Lane::Bulk, &batch.bytes[start..end]) {
                return false;
            }
            start = end;
        }
        batch.bytes.clear();
        true
    }
}

impl Batch {
    fn fill(&mut self, ring: &mut RingBuf<MapData>) {
        while self.ends.len() < BATCH {
            let Some(item) = ring.next() else { break };
            self.bytes.extend_from_slice(&item);
            self.ends.push(self.bytes.len());
        }
    }
}
