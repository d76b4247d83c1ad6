//! One thread and one set of bounded queues a sink.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{KINDS, Kind, Message, Opener, PerKind, Report, Sink, SinkConfig, SinkError};

/// Messages of one kind that may wait for one sink.
pub const QUEUE: usize = 8192;

/// Handed to a sink between two looks at the more important queues.
const BATCH: usize = 64;

/// A sink that has been in one call for longer is called stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A sink's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the thread of sink {name}: {source}; raise the limit of threads (TasksMax, ulimit -u)")]
pub struct FanoutError {
    name: String,
    source: std::io::Error,
}

/// How a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being opened.
    Starting,
    /// It takes messages.
    Ok,
    /// It takes messages and cannot hand them on; see the last error.
    Degraded,
    /// It has been busy with one call for more than five seconds.
    Stalled,
    /// It could not be opened, or it is closed.
    Stopped,
}

/// A sink, for `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Type and target.
    pub name: String,
    /// State.
    pub state: State,
    /// Messages in its queues or in flight.
    pub queued: u64,
    /// Bytes on disk that wait.
    pub spooled_bytes: u64,
    /// Messages that arrived.
    pub sent: u64,
    /// Messages lost for this sink.
    pub dropped: u64,
    /// The same by kind, in the order of [`Kind::ALL`].
    pub dropped_by_kind: PerKind,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

#[derive(Default)]
struct Inbox {
    queues: [VecDeque<Message>; KINDS],
    /// Kinds that it takes.
    wanted: [bool; KINDS],
    /// No room in the queue, or the sink failed.
    dropped: PerKind,
    report: Report,
    last_error: Option<String>,
    busy_since: Option<Instant>,
    opened: bool,
    stopped: bool,
    /// Set once: finish until then.
    close_by: Option<Instant>,
}

struct Lane {
    name: String,
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

/// All sinks.
pub struct Fanout {
    lanes: Vec<(Arc<Lane>, Option<JoinHandle<()>>)>,
}

impl Fanout {
    /// Starts the sinks of a configuration. A sink that cannot be opened is shown as stopped and hinders nobody.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(sinks: Vec<SinkConfig>, host: Arc<str>) -> Result<Self, FanoutError> {
        Self::with(sinks.into_iter().map(|sink| (sink.name(), sink.opener(host.clone()))).collect())
    }

    /// Starts sinks by name and opener.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn with(sinks: Vec<(String, Opener)>) -> Result<Self, FanoutError> {
        let mut lanes = Vec::with_capacity(sinks.len());
        for (index, (name, opener)) in sinks.into_iter().enumerate() {
            let inbox = Inbox { wanted: [true; KINDS], ..Inbox::default() };
            let lane = Arc::new(Lane { name, inbox: Mutex::new(inbox), wake: Condvar::new() });
            let worker = lane.clone();
            let thread = thread::Builder::new()
                .name(format!("sink-{index}"))
                .spawn(move || worker.run(opener))
                .map_err(|source| FanoutError { name: lane.name.clone(), source })?;
            lanes.push((lane, Some(thread)));
        }
        Ok(Self { lanes })
    }

    /// Tells everybody. Never waits for a sink; what does not fit into a sink's queue is counted there.
    pub fn send(&self, message: &Message) {
        let Some(kind) = message.kind() else { return };
        for (lane, _) in &self.lanes {
            lane.put(kind, message);
        }
    }

    /// Every sink, in the order of the configuration.
    pub fn status(&self) -> Vec<SinkStatus> {
        self.lanes.iter().map(|(lane, _)| lane.status()).collect()
    }

    /// Lets the sinks finish what they have, the important first, within `patience` for all of them together. Gives the names
    /// of those that did not; their threads are left behind.
    pub fn close(mut self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        for (lane, _) in &self.lanes {
            lane.lock().close_by = Some(deadline);
            lane.wake.notify_all();
        }
        let mut late = Vec::new();
        for (lane, thread) in &mut self.lanes {
            let mut inbox = lane.lock();
            while !inbox.stopped {
                // A sink gets a moment more than its deadline: it is writing what it could not hand on.
                let left = (deadline + Duration::from_millis(500)).saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                inbox = lane.wake.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let stopped = inbox.stopped;
            drop(inbox);
            match thread.take() {
                Some(thread) if stopped => drop(thread.join()),
                _ => late.push(lane.name.clone()),
            }
        }
        late
    }
}

impl Lane {
    /// The lock is only ever held for moments: never while a sink works.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: Kind, message: &Message) {
        let mut inbox = self.lock();
        if !inbox.wanted[kind.index()] {
            return;
        }
        if inbox.stopped || inbox.queues[kind.index()].len() >= QUEUE {
            inbox.dropped.add(kind, 1);
            return;
        }
        inbox.queues[kind.index()].push_back(message.clone());
        drop(inbox);
        self.wake.notify_all();
    }

    fn run(&self, opener: Opener) {
        match opener() {
            Ok(mut sink) => {
                let mut inbox = self.lock();
                inbox.opened = true;
                for kind in Kind::ALL {
                    inbox.wanted[kind.index()] = sink.wants(kind);
                    if !sink.wants(kind) {
                        inbox.queues[kind.index()].clear();
                    }
                }
                drop(inbox);
                self.work(sink.as_mut());
            }
            Err(error) => {
                tracing::error!(sink = %self.name, %error, "the sink cannot be opened");
                self.lock().last_error = Some(error.to_string());
            }
        }
        let mut inbox = self.lock();
        inbox.stopped = true;
        for kind in Kind::ALL {
            let left = inbox.queues[kind.index()].len() as u64;
            inbox.dropped.add(kind, left);
            inbox.queues[kind.index()].clear();
        }
        drop(inbox);
        self.wake.notify_all();
    }

    fn work(&self, sink: &mut dyn Sink) {
        loop {
            let (batch, close_by) = self.next();
            let done = batch.is_empty();
            if let Some(deadline) = close_by.filter(|deadline| done || Instant::now() >= *deadline) {
                let patience = deadline.saturating_duration_since(Instant::now());
                let closed = sink.close(patience);
                let mut lost = PerKind::default();
                batch.iter().for_each(|(kind, _)| lost.add(*kind, 1));
                self.note(sink, lost, closed.err());
                return;
            }
            self.lock().busy_since = Some(Instant::now());
            let mut lost = PerKind::default();
            let mut problem = None;
            for (kind, message) in &batch {
                if let Err(error) = sink.deliver(*kind, message) {
                    lost.add(*kind, 1);
                    problem = Some(error);
                }
            }
            let ticked = sink.tick();
            self.note(sink, lost, ticked.err().or(problem));
        }
    }

    /// Waits at most 50 ms for messages; the most important come first.
    fn next(&self) -> (Vec<(Kind, Message)>, Option<Instant>) {
        let mut inbox = self.lock();
        if inbox.queues.iter().all(VecDeque::is_empty) && inbox.close_by.is_none() {
            let wait = Duration::from_millis(50);
            inbox = self.wake.wait_timeout(inbox, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut batch = Vec::new();
        for kind in Kind::ALL {
            let room = BATCH - batch.len();
            let queue = &mut inbox.queues[kind.index()];
            let count = room.min(queue.len());
            batch.extend(queue.drain(..count).map(|message| (kind, message)));
        }
        (batch, inbox.close_by)
    }

    fn note(&self, sink: &dyn Sink, lost: PerKind, error: Option<SinkError>) {
        let report = sink.report();
        let mut inbox = self.lock();
        inbox.busy_since = None;
        inbox.dropped = inbox.dropped.plus(&lost);
        if let Some(error) = error {
            inbox.last_error = Some(error.to_string());
        } else if report.trouble.is_some() {
            inbox.last_error.clone_from(&report.trouble);
        }
        inbox.report = report;
    }

    fn status(&self) -> SinkStatus {
        let inbox = self.lock();
        let stalled = inbox.busy_since.is_some_and(|since| since.elapsed() > STALLED_AFTER);
        let state = match (inbox.stopped, inbox.opened, stalled, &inbox.report.trouble) {
            (true, ..) => State::Stopped,
            (_, false, ..) => State::Starting,
            (_, _, true, _) => State::Stalled,
            (_, _, _, Some(_)) => State::Degraded,
            _ => State::Ok,
        };
        let dropped = inbox.dropped.plus(&inbox.report.dropped);
        SinkStatus {
            name: self.name.clone(),
            state,
            queued: inbox.queues.iter().map(|queue| queue.len() as u64).sum::<u64>() + inbox.report.in_flight,
            spooled_bytes: inbox.report.spooled_bytes,
            sent: inbox.report.sent.total(),
            dropped: dropped.total(),
            dropped_by_kind: dropped,
            last_error: inbox.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
