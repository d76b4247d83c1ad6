//! Attacks among what is learnt as normal.
//!
//! A share of all events of the training is attack evidence: what the labels call an attack's own, everything at and below
//! its root, and of an attack inside a service all that the service did while it lasted, most of which is usual. It comes
//! from days that are never judged for these attacks: of other kinds than those of the test from the validation days of every
//! host, of the same kinds from the test days of the other hosts. Whole attacks in an order drawn by lot, each as a subtree
//! of its own at a moment drawn by lot, over and over until the share is reached; the last one is cut off.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::random::Random;
use model::{Event, Time};
use serde::{Deserialize, Serialize};

use super::middle;
use crate::corpus::{Corpus, Day};
use crate::evaluate::belongs::{Labels, Part};
use crate::evaluate::copies::{by_another, moved};
use crate::evaluate::seeds::{Spread, alone};
use crate::evaluate::{DayNumber, Evaluation, HostDays, Options, SpanNumber, at_once, evaluate, numbered};
use crate::labels::Split;

/// Which attacks are taught, and the share of the training that they are.
const ROWS: [(Kinds, f64); 3] = [(Kinds::Other, 0.01), (Kinds::Other, 0.05), (Kinds::Same, 0.05)];
/// Events of one attack that are taught at most: a flood would leave no room for the others.
const MAX_EVENTS: usize = 400;

/// Which attacks are taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kinds {
    /// Of kinds that the test does not have.
    Other,
    /// Of the kinds of the test, from another host.
    Same,
}

/// What is found after that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contaminated {
    /// Which attacks; `None`: none.
    pub kinds: Option<Kinds>,
    /// Share of the events learnt that are theirs, 0–1.
    pub share: f64,
    /// Attacks that were taught, of every seed and host on average, copies included.
    pub taught: f64,
    /// Attacks found.
    pub found: Spread,
    /// Attacks.
    pub of: usize,
    /// False alarms a host-day.
    pub false_a_day: Spread,
    /// Level in bits.
    pub level: Spread,
    /// Average precision.
    pub ap: Spread,
    /// Attacks that most seeds find without it, and fewer than half with it.
    pub lost: Vec<String>,
}

/// An attack's own events, in order.
type Attack = Vec<Event>;

/// Without attacks, and each of [`ROWS`]; kinds that no day can teach are left out.
pub(super) fn contamination(
    corpus: &Corpus,
    options: &Options,
    each: &[Evaluation],
) -> anyhow::Result<Vec<Contaminated>> {
    let mut rows = vec![row(None, 0.0, 0.0, each, each)];
    let hosts = numbered(corpus);
    for (kinds, share) in ROWS {
        let pools = pools(&hosts, kinds)?;
        if pools.iter().any(Vec::is_empty) {
            continue;
        }
        let done = at_once(options.jobs, each.len(), |at| {
            let seed = each[at].seed;
            let (taught, attacks) = taught(&hosts, &pools, share, seed)?;
            let asked = Options { taught: Arc::new(taught), jobs: 1, progress: |_| (), ..alone(options, seed) };
            let evaluation = evaluate(corpus, &asked, &each[at].commit)?;
            (options.progress)(&format!("seed {seed}, {:.0} % {kinds:?} attacks learnt", share * 100.0));
            Ok((attacks as f64 / hosts.len() as f64, evaluation))
        })?;
        let (attacks, with): (Vec<f64>, Vec<Evaluation>) = done.into_iter().unzip();
        let mean = attacks.iter().sum::<f64>() / attacks.len().max(1) as f64;
        rows.push(row(Some(kinds), share, mean, &with, each));
    }
    Ok(rows)
}

fn row(kinds: Option<Kinds>, share: f64, taught: f64, with: &[Evaluation], without: &[Evaluation]) -> Contaminated {
    let at = || with.iter().filter_map(middle);
    let (before, after) = (missed(without), missed(with));
    let often = |missed: &BTreeMap<String, usize>, name: &str| 2 * missed.get(name).copied().unwrap_or(0) > with.len();
    let lost = after.keys().filter(|name| often(&after, name) && !often(&before, name)).cloned();
    Contaminated {
        kinds,
        share,
        taught,
        found: Spread::of(at().map(|at| at.found as f64)),
        of: at().next().map_or(0, |at| at.of),
        false_a_day: Spread::of(at().map(|at| at.false_a_day)),
        level: Spread::of(at().map(|at| at.threshold)),
        ap: Spread::of(with.iter().filter_map(|evaluation| super::seeds::full(evaluation)?.ap)),
        lost: lost.collect(),
    }
}

/// How often each attack was missed.
fn missed(each: &[Evaluation]) -> BTreeMap<String, usize> {
    let mut missed = BTreeMap::new();
    each.iter()
        .filter_map(middle)
        .flat_map(|at| &at.missed)
        .for_each(|name| *missed.entry(name.clone()).or_insert(0) += 1);
    missed
}

/// Of each host, what it may be taught.
fn pools(hosts: &[HostDays], kinds: Kinds) -> anyhow::Result<Vec<Vec<Attack>>> {
    let split = match kinds {
        Kinds::Other => Split::Validation,
        Kinds::Same => Split::Test,
    };
    let of_each: Vec<Vec<Attack>> = hosts
        .iter()
        .map(|days| {
            let days = days.iter().filter(|(_, day)| day.cycle.split == split);
            Ok(days.map(|(number, day)| attacks(*number, day)).collect::<anyhow::Result<Vec<_>>>()?.concat())
        })
        .collect::<anyhow::Result<_>>()?;
    let may_teach = |teacher: usize, pupil: usize| kinds == Kinds::Other || teacher != pupil;
    let pool = |pupil: usize| {
        let teachers = of_each.iter().enumerate().filter(move |(teacher, _)| may_teach(*teacher, pupil));
        teachers.flat_map(|(_, attacks)| attacks.iter().cloned()).collect()
    };
    Ok((0..hosts.len()).map(pool).collect())
}

/// The attacks of a day.
fn attacks(number: DayNumber, day: &Day) -> anyhow::Result<Vec<Attack>> {
    let labels = Labels::of(number, day);
    let mut all: BTreeMap<SpanNumber, Attack> = BTreeMap::new();
    for event in day.events() {
        let event = event?;
        if let Part::Attack(attack) = labels.part(&event) {
            let own = all.entry(attack).or_default();
            if own.len() < MAX_EVENTS {
                own.push(event);
            }
        }
    }
    Ok(all.into_values().collect())
}

/// What all hosts are taught with this seed, and how many attacks that are.
fn taught(
    hosts: &[HostDays],
    pools: &[Vec<Attack>],
    share: f64,
    seed: u64,
) -> anyhow::Result<(BTreeMap<DayNumber, Vec<Event>>, usize)> {
    let (mut all, mut attacks) = (BTreeMap::new(), 0);
    for (host, pool) in hosts.iter().zip(pools) {
        let days: Vec<_> = host.iter().filter(|(_, day)| day.cycle.split == Split::Train).collect();
        let rows: usize = days.iter().map(|(_, day)| day.journal.rows()).sum();
        let lasts = days.iter().map(|(number, day)| Ok((*number, day.lasts()?))).collect::<anyhow::Result<Vec<_>>>()?;
        let room = (rows as f64 * share / (1.0 - share)).round() as usize;
        attacks += teach(&mut all, &lasts, pool, room, &mut Random::new(seed ^ 0x7461_696e_74));
    }
    all.values_mut().for_each(|events| events.sort_by_key(|event| event.at.unix_ns));
    Ok((all, attacks))
}

/// Fills the room with attacks; says how many.
fn teach(
    all: &mut BTreeMap<DayNumber, Vec<Event>>,
    days: &[(DayNumber, (Time, Time))],
    pool: &[Attack],
    room: usize,
    random: &mut Random,
) -> usize {
    let (mut left, mut copies) = (room, 0);
    let mut order: Vec<usize> = Vec::new();
    while left > 0 && !days.is_empty() {
        if order.is_empty() {
            order = (0..pool.len()).collect();
        }
        let attack = &pool[order.swap_remove(random.below(order.len()))];
        let own = &attack[..attack.len().min(left)];
        let (Some(first), Some(last)) = (own.first(), own.last()) else { continue };
        let (number, lasts) = days[random.below(days.len())];
        let begin = moment(lasts, last.at.unix_ns.saturating_sub(first.at.unix_ns), random.unit());
        copies += 1;
        let events = own.iter().map(|event| by_another(moved(event.clone(), first.at, begin), copies));
        all.entry(number).or_default().extend(events);
        left -= own.len();
    }
    copies as usize
}

/// A moment of a day after which there is still so much time, on both clocks.
fn moment((first, last): (Time, Time), needed_unix_ns: u64, share: f64) -> Time {
    let (unix, boot) = (last.unix_ns - first.unix_ns, last.boot_ns - first.boot_ns);
    let most = 1.0 - (needed_unix_ns as f64 / unix.max(1) as f64).min(1.0);
    let at = share * most;
    Time { unix_ns: first.unix_ns + (at * unix as f64) as u64, boot_ns: first.boot_ns + (at * boot as f64) as u64 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::event::{Body, Exit};

    use super::*;
    use crate::evaluate::copies::tests::event;

    const HOUR: u64 = 3_600_000_000_000;

    fn attack(cookie: u64, events: u64) -> Attack {
        let at = |n: u64| Time { unix_ns: 1_000 * HOUR + n * HOUR / 60, boot_ns: 1_000 * HOUR + n * 1_000_000_000 };
        (0..events).map(|n| Event { at: at(n), ..event(0, cookie, Body::Exit(Exit { code: 0 })) }).collect()
    }

    #[test]
    fn so_much_is_taught_as_was_asked_for_in_order_and_by_subtrees_of_their_own() {
        let day = |n: u64| {
            let at = |hours: u64| Time { unix_ns: hours * HOUR, boot_ns: hours * HOUR / 24 };
            (n as usize, (at(24 * n), at(24 * n + 24)))
        };
        let (days, pool) = ([day(3), day(4)], [attack(11, 30), attack(12, 50)]);
        let mut all = BTreeMap::new();
        let copies = teach(&mut all, &days, &pool, 200, &mut Random::new(1));
        assert_eq!(all.values().map(Vec::len).sum::<usize>(), 200);
        assert!((5..=6).contains(&copies), "30 and 50, twice, and 40 that are left: {copies}");
        let cookies: BTreeSet<u64> = all.values().flatten().map(|event| event.process.cookie).collect();
        assert_eq!(cookies.len(), copies, "each copy by others");
        for (number, events) in &all {
            let within = |event: &Event| event.at.unix_ns / (24 * HOUR) == *number as u64;
            assert!(events.iter().all(within), "an attack ends on the day on which it began");
        }
        let mut again = BTreeMap::new();
        teach(&mut again, &days, &pool, 200, &mut Random::new(2));
        assert_ne!(all, again, "another seed teaches at other moments");
    }
}
