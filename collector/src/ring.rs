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

impl<S: RingSink> Reader<S> {
    fn run(&mut self, stop: &AtomicBool) {
        loop {
            // Read the flag first: what was written before it was set is then drained below.
            let last = stop.load(Ordering::Relaxed);
            let mut busy = false;
            loop {
                let Some(urgent) = drain(&mut self.ctrl, Lane::Ctrl, usize::MAX, &mut self.sink, &self.counts) else {
                    return;
                };
                let batch = if self.sink.bulk_must_wait() { 0 } else { BATCH };
                let Some(more) = drain(&mut self.bulk, Lane::Bulk, batch, &mut self.sink, &self.counts) else { return };
                busy |= urgent + more > 0;
                if urgent + more == 0 || (batch > 0 && more < batch && urgent == 0) {
                    break;
                }
            }
            if last && !busy {
                return;
            }
            let _ = poll(&mut [PollFd::new(&self.ctrl.as_fd(), PollFlags::IN)], Some(&PERIOD));
        }
    }
}

/// Hands on at most `most` records; how many there were, `None` when the sink wants no more.
fn drain(
    ring: &mut RingBuf<MapData>,
    lane: Lane,
    most: usize,
    sink: &mut impl RingSink,
    counts: &RingCounts,
) -> Option<usize> {
    let mut records = 0;
    let mut bytes = 0;
    while records < most {
        let Some(item) = ring.next() else { break };
        records += 1;
        bytes += item.len() as u64;
        if !sink.take(lane, &item) {
            return None;
        }
    }
    let counter = if lane == Lane::Ctrl { &counts.ctrl } else { &counts.bulk };
    counter.fetch_add(records as u64, Ordering::Relaxed);
    counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    Some(records)
}
