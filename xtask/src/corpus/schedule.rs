//! When what happens on which day: from the seed alone.

use anyhow::bail;

use super::attacks::{ATTACKS, Attack};
use super::changes::{self, Change};
use super::labels::Split;
use super::unseen;

/// How long a day takes in real time, in seconds.
pub const SECONDS: u64 = 200;
/// Event time per real time: a cycle is one day.
pub const FACTOR: f64 = 86_400.0 / SECONDS as f64;
/// Days of one host.
pub const CYCLES: u32 = 15;
/// Changes of a day besides log rotation and backup, which every night has.
const CHANGES_A_DAY: u32 = 3;

/// A host that is recorded.
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Its number on the recording machine.
    pub number: u8,
    /// Of everything about it.
    pub seed: u64,
    /// Requests a second at the evening's peak.
    pub base: f64,
    /// Its test days hold what was written after the model had been frozen: other attacks, and changes that are new besides the usual.
    pub unseen: bool,
}

impl Profile {
    /// Where its recordings are.
    pub fn folder(&self) -> &'static str {
        if self.unseen { "datasets/unseen" } else { "datasets/corpus" }
    }

    /// Every attack that it suffers.
    fn attacks(&self) -> impl Iterator<Item = &'static Attack> {
        let usual = ATTACKS.iter().filter(|attack| !self.unseen || attack.split != Split::Test);
        usual.chain(if self.unseen { unseen::ATTACKS.as_slice() } else { &[] })
    }
}

/// The hosts.
pub const HOSTS: [Profile; 3] = [
    Profile { name: "orchid", number: 1, seed: 20_260, base: 28.0, unseen: false },
    Profile { name: "sorrel", number: 2, seed: 77_031, base: 19.0, unseen: false },
    Profile { name: "maple", number: 3, seed: 51_463, base: 24.0, unseen: true },
];

/// For what a day is used: earlier days teach, later ones test.
pub fn split_of(cycle: u32) -> Split {
    match cycle {
        ..=8 => Split::Train,
        9..=11 => Split::Validation,
        _ => Split::Test,
    }
}

/// What is done at a moment.
#[derive(Clone, Copy)]
pub enum What {
    /// An attack.
    Attack(&'static Attack),
    /// A change.
    Change(&'static Change),
    /// A person's session.
    Person(&'static str),
    /// A build.
    Build,
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Attack(attack) => attack.name,
            Self::Change(change) => change.name,
            Self::Person(name) => name,
            Self::Build => "build",
        }
    }
}

/// Something and when, in seconds of real time from the beginning of the day.
pub struct Act {
    /// When.
    pub at: f64,
    /// What.
    pub what: What,
}

/// The day's acts in order.
pub fn day(host: &Profile, cycle: u32) -> anyhow::Result<Vec<Act>> {
    let mut dice = Dice(host.seed ^ u64::from(cycle).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut acts = vec![
        Act { at: 9.0 + dice.unit() * 3.0, what: What::Change(changes::named("log-rotation")?) },
        Act { at: 14.0 + dice.unit() * 3.0, what: What::Change(changes::named("backup")?) },
    ];
    let others: Vec<&Change> =
        changes::CHANGES.iter().filter(|change| !["log-rotation", "backup"].contains(&change.name)).collect();
    let first = cycle * CHANGES_A_DAY + u32::from(host.number) * 5;
    let mut slots: Vec<What> =
        (first..first + CHANGES_A_DAY).map(|at| What::Change(others[at as usize % others.len()])).collect();
    let news = new_changes_of(host, cycle).into_iter().map(What::Change);
    for what in attacks_of(host, cycle).into_iter().map(What::Attack).chain(news) {
        // They wait for cron, up to a minute, and so go on beside the others.
        if ["cron-script-hijack", "new-cron-job"].contains(&what.name()) {
            acts.push(Act { at: 24.0, what });
        } else {
            slots.push(what);
        }
    }
    dice.shuffle(&mut slots);
    let width = (SECONDS as f64 - 42.0) / slots.len() as f64;
    for (at, what) in slots.into_iter().enumerate() {
        acts.push(Act { at: 27.0 + width * at as f64 + dice.unit() * (width * 0.15), what });
    }
    acts.extend((0..3).map(|at| Act {
        at: 40.0 + 45.0 * f64::from(at) + dice.unit() * 30.0,
        what: What::Person(["alice", "bob"][(dice.next() % 2) as usize]),
    }));
    acts.extend((0..5).map(|at| Act { at: 10.0 + 36.0 * f64::from(at) + dice.unit() * 30.0, what: What::Build }));
    acts.sort_by(|one, other| one.at.total_cmp(&other.at));
    Ok(acts)
}

/// The attacks and changes of its test days, or those of them that are named.
pub fn of_test_days(host: &Profile, names: &[String]) -> anyhow::Result<Vec<What>> {
    let mut found = Vec::new();
    for cycle in (1..=CYCLES).filter(|cycle| split_of(*cycle) == Split::Test) {
        found.extend(day(host, cycle)?.into_iter().map(|act| act.what));
    }
    found.retain(|what| match what {
        What::Attack(_) | What::Change(_) => names.is_empty() || names.iter().any(|name| name == what.name()),
        What::Person(_) | What::Build => false,
    });
    for name in names {
        if !found.iter().any(|what| what.name() == name) {
            bail!("no test day of {} holds {name}", host.name);
        }
    }
    Ok(found)
}

/// The attacks of a day: each attack of a split once, spread over its days in an order of the host's own.
fn attacks_of(host: &Profile, cycle: u32) -> Vec<&'static Attack> {
    let split = split_of(cycle);
    spread(host, host.attacks().filter(|attack| attack.split == split).collect(), cycle)
}

/// The changes of a day that its host has never had: each once, over the test days.
fn new_changes_of(host: &Profile, cycle: u32) -> Vec<&'static Change> {
    let is_new = host.unseen && split_of(cycle) == Split::Test;
    spread(host, unseen::CHANGES.iter().filter(|_| is_new).collect(), cycle)
}

/// What of all this falls on one day of its split.
fn spread<T>(host: &Profile, mut all: Vec<T>, cycle: u32) -> Vec<T> {
    Dice(host.seed).shuffle(&mut all);
    let days: Vec<u32> = (1..=CYCLES).filter(|day| split_of(*day) == split_of(cycle)).collect();
    let today = days.iter().position(|day| *day == cycle).unwrap_or(0);
    all.into_iter().skip(today).step_by(days.len().max(1)).collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(host: &Profile, cycles: std::ops::RangeInclusive<u32>) -> BTreeSet<&'static str> {
        cycles
            .flat_map(|cycle| day(host, cycle).expect("a day"))
            .filter_map(|act| match act.what {
                What::Attack(attack) => Some(attack.name),
                What::Change(change) => Some(change.name),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn every_attack_happens_once_and_only_in_its_split() {
        for host in &HOSTS {
            for cycle in 1..=CYCLES {
                for attack in attacks_of(host, cycle) {
                    assert_eq!(attack.split, split_of(cycle), "{}", attack.name);
                }
            }
            let all: Vec<&str> =
                (1..=CYCLES).flat_map(|cycle| attacks_of(host, cycle)).map(|attack| attack.name).collect();
            let expected: BTreeSet<&str> = host.attacks().map(|attack| attack.name).collect();
            assert_eq!(all.len(), expected.len());
            assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    #[test]
    fn every_change_is_in_training_and_nothing_lies_outside_the_day() {
        for host in &HOSTS {
            let training = names(host, 1..=8);
            assert!(changes::CHANGES.iter().all(|change| training.contains(change.name)), "{training:?}");
            for cycle in 1..=CYCLES {
                let acts = day(host, cycle).expect("a day");
                assert!(acts.iter().all(|act| (0.0..SECONDS as f64).contains(&act.at)));
            }
        }
    }

    #[test]
    fn an_unseen_host_shares_only_validation_and_meets_new_changes_only_in_test() {
        let (known, unseen): (Vec<&Profile>, Vec<&Profile>) = HOSTS.iter().partition(|host| !host.unseen);
        let new: BTreeSet<&str> = unseen::CHANGES.iter().map(|change| change.name).collect();
        for host in unseen {
            assert!(names(host, 1..=11).is_disjoint(&new));
            let test = names(host, 12..=15);
            assert!(test.is_superset(&new), "{test:?}");
            for other in &known {
                let attacked: BTreeSet<&str> =
                    (12..=15).flat_map(|cycle| attacks_of(other, cycle)).map(|attack| attack.name).collect();
                assert!(test.is_disjoint(&attacked));
                assert!(names(other, 1..=CYCLES).is_disjoint(&new));
            }
        }
    }

    #[test]
    fn the_days_of_the_recorded_hosts_are_those_of_their_labels() {
        for (host, day_) in [(&HOSTS[0], "orchid/cycle-12.toml"), (&HOSTS[1], "sorrel/cycle-13.toml")] {
            let path = crate::root().join(host.folder()).join(day_);
            let recorded = super::super::labels::Cycle::read(&path).expect("labels");
            let spans: BTreeSet<&str> = recorded.spans.iter().map(|span| span.name.as_str()).collect();
            assert_eq!(names(host, recorded.cycle..=recorded.cycle), spans);
        }
    }

    #[test]
    fn a_day_follows_from_the_seed() {
        let times = |cycle| day(&HOSTS[0], cycle).expect("a day").iter().map(|act| act.at).collect::<Vec<_>>();
        assert_eq!(times(12), times(12));
        assert_ne!(times(12), times(13));
    }
}
