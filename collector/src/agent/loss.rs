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
/// Producers that are told apart, workloads and programs each.
const PRODUCERS: usize = 64;

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
    workloads: Heaviest<Arc<str>>,
    programs: Heaviest<(Arc<str>, Arc<str>)>,
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
        self.workloads.count(process.workload.clone());
        self.programs.count((process.workload.clone(), process.exe.clone()));
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
        self.workloads.0.clear();
        self.programs.0.clear();
        self.total = 0;
        said
    }

    fn text(&self, new: u64) -> String {
        let share = |count: u64| 100 * count / self.total.max(1);
        // A workload may be many programs, each of them quiet: it is what has to be slowed down, and what is named first.
        let who = self.workloads.first(|_| true).map_or_else(
            || "nothing arrived at all".to_owned(),
            |(workload, sent)| match self.programs.first(|(of, _)| of == workload) {
                Some(((_, exe), by_it)) => {
                    format!("{workload} sent {} % of what arrived, its program {exe} {} %", share(sent), share(by_it))
                }
                None => format!("{workload} sent {} % of what arrived", share(sent)),
            },
        );
        format!("evidence is lost for seconds on end, {new} records and calls in the last one: {who}")
    }
}

/// Counts of the most frequent, at most [`PRODUCERS`] of them. Space-saving (Metwally et al. 2005): a new one takes over the
/// smallest count, so the largest are never lost and never counted too low.
#[derive(Debug)]
struct Heaviest<K>(BTreeMap<K, u64>);

impl<K> Default for Heaviest<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Heaviest<K> {
    fn count(&mut self, key: K) {
        if let Some(count) = self.0.get_mut(&key) {
            *count += 1;
            return;
        }
        let mut count = 1;
        if self.0.len() >= PRODUCERS {
            let smallest = self.0.iter().min_by_key(|(_, count)| **count).map(|(key, count)| (key.clone(), *count));
            if let Some((key, smallest)) = smallest {
                self.0.remove(&key);
                count += smallest;
            }
        }
        self.0.insert(key, count);
    }

    /// The most frequent of those that are meant.
    fn first(&self, is_meant: impl Fn(&K) -> bool) -> Option<(&K, u64)> {
        let meant = self.0.iter().filter(|(key, _)| is_meant(key));
        meant.max_by_key(|(_, count)| **count).map(|(key, count)| (key, *count))
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
        assert!(
            matches!(&said[0], Said::Lasts(text) if text.contains("container:batch sent 83 %") && text.contains("/bin/noisy")),
            "{said:?}"
        );
        let after: Vec<_> = (0..20).filter_map(|_| watch.look(lost)).collect();
        assert_eq!(after, [Said::Over], "it closes once");
    }

    #[test]
    fn a_workload_of_many_quiet_programs_is_named_before_the_loudest_program() {
        let mut watch = LossWatch::default();
        let mut said = None;
        for second in 1..=SUSTAINED.into() {
            (0..100).for_each(|n| watch.note(&process("unit:build.service", &format!("/usr/bin/cc{n}"))));
            (0..50).for_each(|_| watch.note(&process("unit:web.service", "/usr/sbin/nginx")));
            said = watch.look(10 * second);
        }
        let Some(Said::Lasts(text)) = said else { panic!("it is told: {said:?}") };
        assert!(text.contains("unit:build.service sent 66 %"), "{text}");
    }
}
