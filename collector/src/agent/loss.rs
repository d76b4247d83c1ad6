//! Sustained loss is a finding of its own, which names whoever produced most of what was sent meanwhile.
//!
//! A moment's overflow is counted and shown and nothing more. Loss in [`SUSTAINED`] looks in a row opens a finding; it is
//! closed when nothing was lost for [`QUIET`] looks. It never denies anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::event::Process;

/// Looks in a row with loss before it is told; one look a second.
const SUSTAINED: u32 = 3;
/// Looks in a row without loss before it is over.
const QUIET: u32 = 10;
/// Producers that are told apart. Space-saving (Metwally et al. 2005): a new one takes over the smallest count, so the
/// largest are never lost and never counted too low.
const PRODUCERS: usize = 64;

type Producer = (Arc<str>, Arc<str>);

/// What has to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Loss lasts; said again while it does.
    Lasts(String),
    /// It is over.
    Over,
}

/// Watches the counters.
#[derive(Debug, Default)]
pub struct LossWatch {
    produced: BTreeMap<Producer, u64>,
    total: u64,
    lost_before: u64,
    lossy: u32,
    quiet: u32,
    told: bool,
}

impl LossWatch {
    /// A record of this process arrived.
    pub fn note(&mut self, process: &Process) {
        self.total += 1;
        let key = (process.workload.clone(), process.exe.clone());
        if let Some(count) = self.produced.get_mut(&key) {
            *count += 1;
            return;
        }
        let mut count = 1;
        if self.produced.len() >= PRODUCERS {
            let smallest =
                self.produced.iter().min_by_key(|(_, count)| **count).map(|(key, count)| (key.clone(), *count));
            if let Some((key, smallest)) = smallest {
                self.produced.remove(&key);
                count += smallest;
            }
        }
        self.produced.insert(key, count);
    }

    /// Looks at how much was lost so far, records and calls together. Call it once a second.
    pub fn look(&mut self, lost: u64) -> Option<Said> {
        let new = lost.saturating_sub(self.lost_before);
        self.lost_before = lost;
        if new > 0 {
            (self.lossy, self.quiet) = (self.lossy.saturating_add(1), 0);
        } else {
            (self.lossy, self.quiet) = (0, self.quiet.saturating_add(1));
        }
        let said = match self.told {
            _ if self.lossy >= SUSTAINED => {
                self.told = true;
                Some(Said::Lasts(self.text(new)))
            }
            true if self.quiet >= QUIET => {
                self.told = false;
                Some(Said::Over)
            }
            _ => None,
        };
        self.produced.clear();
        self.total = 0;
        said
    }

    fn text(&self, new: u64) -> String {
        let most = self.produced.iter().max_by_key(|(_, count)| **count);
        let who = most.map_or_else(
            || "nothing arrived at all".to_owned(),
            |((workload, exe), count)| {
                let share = 100 * count / self.total.max(1);
                format!("{exe} of {workload} sent {share} % of what arrived")
            },
        );
        format!("evidence is lost for seconds on end, {new} records and calls in the last one: {who}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(workload: &str, exe: &str) -> Process {
        Process {
            cookie: 1,
            pid: 1,
            workload: workload.into(),
            exe: exe.into(),
            script: None,
            cmdline: "".into(),
            uid: 0,
            loginuid: None,
            cgroup: 1,
            ancestors: Vec::new(),
            pre_existing: false,
        }
    }

    #[test]
    fn a_moments_loss_is_not_told_and_lasting_loss_names_its_producer() {
        let mut watch = LossWatch::default();
        assert_eq!(watch.look(5), None);
        assert_eq!(watch.look(5), None, "a moment");
        let mut lost = 5;
        let mut said = Vec::new();
        for _ in 0..4 {
            lost += 10;
            // Two hundred quiet ones come and go beside the noisy one.
            for n in 0..200 {
                watch.note(&process("unit:web.service", &format!("/bin/{n}")));
                (0..5).for_each(|_| watch.note(&process("container:batch", "/bin/noisy")));
            }
            said.extend(watch.look(lost));
        }
        assert_eq!(said.len(), 2, "from the third look on: {said:?}");
        assert!(matches!(&said[0], Said::Lasts(text) if text.contains("/bin/noisy of container:batch")), "{said:?}");
        let after: Vec<_> = (0..20).filter_map(|_| watch.look(lost)).collect();
        assert_eq!(after, [Said::Over], "it closes once");
    }
}
