//! A thread beside the one that judges: what can wait until later, and what takes long, is done there.
//!
//! Each thread that judges has one of its own, begun with the first work for it: waking a thread takes less than starting one.
//! It ends with the thread that it works for.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::Builder;

type Work = Box<dyn FnOnce() + Send>;

/// Things that nobody needs any more. Giving their memory back takes longer than judging an event.
#[derive(Default)]
struct Leavings(Vec<Box<dyn Any + Send>>);

thread_local! {
    static BESIDE: RefCell<(Option<Sender<Work>>, Leavings)> = const { RefCell::new((None, Leavings(Vec::new()))) };
}

/// What work that was given away will tell.
#[derive(Debug)]
pub(crate) struct Coming<T>(Mutex<Receiver<T>>);

impl<T> Coming<T> {
    /// Waits for it. `None` when it ended without a word.
    pub fn wait(self) -> Option<T> {
        self.0.into_inner().ok()?.recv().ok()
    }
}

/// Gives work away. `None` when there is no thread for it.
pub(crate) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<Coming<T>> {
    let (tell, told) = mpsc::channel();
    BESIDE.with_borrow_mut(|(thread, leavings)| {
        let leavings = std::mem::take(leavings);
        let work: Work = Box::new(move || {
            // Whoever no longer listens needs no answer.
            _ = tell.send(work());
            drop(leavings);
        });
        if thread.is_none() {
            *thread = begun();
        }
        thread.as_ref()?.send(work).ok()
    })?;
    Some(Coming(Mutex::new(told)))
}

/// Leaves something behind, to be dropped beside the next work.
pub(crate) fn leave(thing: impl Any + Send) {
    BESIDE.with_borrow_mut(|(_, leavings)| leavings.0.push(Box::new(thing)));
}

fn begun() -> Option<Sender<Work>> {
    let (give, given) = mpsc::channel::<Work>();
    // What panics owned all that it worked on, and told nothing; the thread goes on, for one that is ending would still take
    // work and never do it.
    let survive = |work: Work| drop(catch_unwind(AssertUnwindSafe(work)));
    let thread = Builder::new().name("growth".to_owned()).spawn(move || given.iter().for_each(survive));
    thread.ok().map(|_| give)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn work_is_done_on_one_other_thread() {
        let [first, second] = [(); 2].map(|()| run(|| thread::current().id()).expect("a thread").wait());
        assert!(first.is_some() && first == second && first != Some(thread::current().id()));
    }

    #[test]
    fn what_panicked_tells_nothing_and_the_next_work_is_done_all_the_same() {
        assert_eq!(run(|| -> u32 { panic!("no matter") }).expect("a thread").wait(), None);
        assert_eq!(run(|| 7).and_then(Coming::wait), Some(7));
    }

    #[test]
    fn what_is_left_behind_is_dropped_with_the_next_work() {
        let thing = Arc::new(1);
        leave(Arc::clone(&thing));
        assert_eq!(Arc::strong_count(&thing), 2);
        run(|| ()).and_then(Coming::wait);
        run(|| ()).and_then(Coming::wait);
        assert_eq!(Arc::strong_count(&thing), 1, "the second work began after the first had ended");
    }
}
