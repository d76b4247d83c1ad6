//! What waits for the judge: requests, ctrl records, bulk records, in that order of precedence, each bounded.
//!
//! A full queue makes the ring thread wait, so records stay in the kernel's ring and what does not fit there is counted by
//! the kernel: user space has no second place where records get lost. Bulk never delays ctrl.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Records of the ctrl ring that may wait.
pub const CTRL_BOUND: usize = 16_384;
/// Records of the bulk ring that may wait.
pub const BULK_BOUND: usize = 8_192;
/// Requests of the command line that may wait.
pub const REQUEST_BOUND: usize = 256;

/// From which ring a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Process, deny, early windows, first-seen destinations.
    Ctrl,
    /// Windows and flows.
    Bulk,
}

/// One thing for the judge to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<R, Q> {
    /// A kernel record.
    Record(Lane, R),
    /// A request of the command line.
    Request(Q),
    /// Nothing came within the time-out.
    Idle,
    /// Closed and empty.
    End,
}

struct Queues<R, Q> {
    requests: VecDeque<Q>,
    ctrl: VecDeque<R>,
    bulk: VecDeque<R>,
    closed: bool,
}

/// The three queues.
pub struct Inbox<R, Q> {
    queues: Mutex<Queues<R, Q>>,
    arrived: Condvar,
    room: Condvar,
}

impl<R, Q> Default for Inbox<R, Q> {
    fn default() -> Self {
        let queues = Queues { requests: VecDeque::new(), ctrl: VecDeque::new(), bulk: VecDeque::new(), closed: false };
        Self { queues: Mutex::new(queues), arrived: Condvar::new(), room: Condvar::new() }
    }
}

impl<R, Q> Inbox<R, Q> {
    /// Adds a record; waits while its queue is full. `false` when the inbox was closed.
    pub fn push(&self, lane: Lane, record: R) -> bool {
        let mut queues = self.lock();
        loop {
            if queues.closed {
                return false;
            }
            let (queue, bound) = match lane {
                Lane::Ctrl => (&mut queues.ctrl, CTRL_BOUND),
                Lane::Bulk => (&mut queues.bulk, BULK_BOUND),
            };
            if queue.len() < bound {
                queue.push_back(record);
                self.arrived.notify_one();
                return true;
            }
            queues = self.room.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a bulk record would have to wait: then the ring thread leaves it in the ring and looks after ctrl.
    pub fn bulk_is_full(&self) -> bool {
        self.lock().bulk.len() >= BULK_BOUND
    }

    /// Adds a request; gives it back when too many wait or the inbox was closed.
    pub fn request(&self, request: Q) -> Result<(), Q> {
        let mut queues = self.lock();
        if queues.closed || queues.requests.len() >= REQUEST_BOUND {
            return Err(request);
        }
        queues.requests.push_back(request);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes what is most urgent; waits at most `patience`.
    pub fn take(&self, patience: Duration) -> Item<R, Q> {
        let mut queues = self.lock();
        if queues.is_empty() && !queues.closed {
            queues = self.arrived.wait_timeout(queues, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let item = if let Some(request) = queues.requests.pop_front() {
            Item::Request(request)
        } else if let Some(record) = queues.ctrl.pop_front() {
            Item::Record(Lane::Ctrl, record)
        } else if let Some(record) = queues.bulk.pop_front() {
            Item::Record(Lane::Bulk, record)
        } else if queues.closed {
            Item::End
        } else {
            Item::Idle
        };
        drop(queues);
        self.room.notify_all();
        item
    }

    /// Nothing more comes in; what is there can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.room.notify_all();
    }

    /// Records that wait, per lane.
    pub fn waiting(&self) -> (usize, usize) {
        let queues = self.lock();
        (queues.ctrl.len(), queues.bulk.len())
    }

    fn lock(&self) -> MutexGuard<'_, Queues<R, Q>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R, Q> Queues<R, Q> {
    fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.ctrl.is_empty() && self.bulk.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn requests_come_before_ctrl_and_ctrl_before_bulk() {
        let inbox = Inbox::default();
        inbox.push(Lane::Bulk, 1);
        inbox.push(Lane::Ctrl, 2);
        inbox.request("status").expect("room");
        let taken: Vec<_> = (0..4).map(|_| inbox.take(SOON)).collect();
        assert_eq!(
            taken,
            [Item::Request("status"), Item::Record(Lane::Ctrl, 2), Item::Record(Lane::Bulk, 1), Item::Idle]
        );
    }

    #[test]
    fn a_full_bulk_queue_holds_back_bulk_only() {
        let inbox = Arc::new(Inbox::<usize, ()>::default());
        (0..BULK_BOUND).for_each(|n| assert!(inbox.push(Lane::Bulk, n)));
        assert!(inbox.bulk_is_full());
        let late = inbox.clone();
        let pusher = std::thread::spawn(move || late.push(Lane::Bulk, BULK_BOUND));
        assert!(inbox.push(Lane::Ctrl, 7), "ctrl has room");
        assert_eq!(inbox.take(SOON), Item::Record(Lane::Ctrl, 7));
        assert_eq!(inbox.take(SOON), Item::Record(Lane::Bulk, 0));
        assert!(pusher.join().expect("pusher"), "room was made for it");
    }

    #[test]
    fn a_closed_inbox_hands_out_what_it_holds_and_ends() {
        let inbox = Inbox::<u8, ()>::default();
        inbox.push(Lane::Bulk, 1);
        inbox.close();
        assert!(!inbox.push(Lane::Ctrl, 2));
        assert_eq!(inbox.take(SOON), Item::Record(Lane::Bulk, 1));
        assert_eq!(inbox.take(SOON), Item::End);
    }
}
