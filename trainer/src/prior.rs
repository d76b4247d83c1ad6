//! Would shipped counts help a host on its first day? Asked with one workload left out at a time.
//!
//! A prior `P(x|c) = (n + κ · 2^-base) / (N + κ)` is made of what all *other* workloads did in the training days, where `n` of
//! `N` counts workloads of a host that showed the value in the context of the same program. It is judged by the facts that the
//! left-out workload showed first: the fewer bits they cost, the less is new that is only new here. The same prior is asked
//! about the facts that only the attacks of the validation days stated: what makes those cheap hides them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Fact;
use model::facts::stated_by;

use crate::corpus::Corpus;
use crate::evaluate::{Labels, Part};
use crate::labels::Split;

/// A workload of a host.
type Place = (Arc<str>, Arc<str>);
type Context = (u8, Arc<str>);

/// What each workload showed in the training days, and what attacks alone showed in the validation days.
#[derive(Debug, Default)]
pub struct Shown {
    benign: BTreeMap<Place, BTreeSet<Fact>>,
    attacks: BTreeMap<Place, BTreeSet<Fact>>,
}

/// What a prior of one weight comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// κ; infinite = the families' base alone, as shipped.
    pub weight: f64,
    /// Mean bits of a fact that a left-out workload shows for the first time; lower = less false novelty.
    pub benign: f64,
    /// Mean bits of a fact that attacks alone show; higher = better seen.
    pub attack: f64,
    /// Share of the benign ones that some other workload showed, too.
    pub benign_known: f64,
    /// Share of the attacks' that some other workload showed.
    pub attack_known: f64,
}

impl Shown {
    /// Reads the training and validation days; the test days are not opened.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read.
    pub fn of(corpus: &Corpus) -> anyhow::Result<Self> {
        let mut shown = Self::default();
        for (number, day) in corpus.days().enumerate() {
            let labels = Labels::of(number, day);
            let host: Arc<str> = day.cycle.host.as_str().into();
            let split = day.cycle.split;
            for event in day.events().filter(|_| split != Split::Test) {
                let event = event?;
                let place = (host.clone(), event.process.workload.clone());
                let to = match (split, labels.part(&event)) {
                    (Split::Train, Part::Benign(_)) => &mut shown.benign,
                    (_, Part::Attack(_)) => &mut shown.attacks,
                    _ => continue,
                };
                to.entry(place).or_default().extend(stated_by(&event));
            }
        }
        for (place, facts) in &mut shown.attacks {
            let usual = shown.benign.get(place);
            facts.retain(|fact| usual.is_none_or(|usual| !usual.contains(fact)));
        }
        Ok(shown)
    }

    /// What a prior of this weight costs, each workload judged by the prior of all others, its namesakes on other hosts
    /// not among them.
    pub fn cost(&self, weight: f64) -> Cost {
        let (mut benign, mut attack) = (Mean::default(), Mean::default());
        let (mut benign_known, mut attack_known) = (Mean::default(), Mean::default());
        for (place, facts) in &self.benign {
            let prior = Prior::without(&self.benign, &place.1);
            for fact in facts {
                benign.take(prior.bits(fact, weight));
                benign_known.take(f64::from(u8::from(prior.knows(fact))));
            }
            for fact in self.attacks.get(place).into_iter().flatten() {
                attack.take(prior.bits(fact, weight));
                attack_known.take(f64::from(u8::from(prior.knows(fact))));
            }
        }
        Cost {
            weight,
            benign: benign.get(),
            attack: attack.get(),
            benign_known: benign_known.get(),
            attack_known: attack_known.get(),
        }
    }
}

/// Counts of workloads.
struct Prior<'a> {
    values: BTreeMap<&'a Fact, u32>,
    contexts: BTreeMap<Context, u32>,
}

impl<'a> Prior<'a> {
    fn without(shown: &'a BTreeMap<Place, BTreeSet<Fact>>, left_out: &str) -> Self {
        let mut prior = Self { values: BTreeMap::new(), contexts: BTreeMap::new() };
        for fact in shown.iter().filter(|(place, _)| &*place.1 != left_out).flat_map(|(_, facts)| facts) {
            *prior.values.entry(fact).or_default() += 1;
            *prior.contexts.entry(fact.context()).or_default() += 1;
        }
        prior
    }

    fn knows(&self, fact: &Fact) -> bool {
        self.values.contains_key(fact)
    }

    fn bits(&self, fact: &Fact, weight: f64) -> f64 {
        let base = fact.family().base_bits;
        let all = self.contexts.get(&fact.context()).map_or(0.0, |count| f64::from(*count));
        if weight.is_infinite() || all == 0.0 {
            return base;
        }
        let seen = self.values.get(fact).map_or(0.0, |count| f64::from(*count));
        -((seen + weight * (-base).exp2()) / (all + weight)).log2()
    }
}

#[derive(Default)]
struct Mean(f64, f64);

impl Mean {
    fn take(&mut self, value: f64) {
        self.0 += value;
        self.1 += 1.0;
    }

    fn get(&self) -> f64 {
        self.0 / self.1.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, workload: &str) -> Place {
        (host.into(), workload.into())
    }

    fn edge(child: &str) -> Fact {
        Fact::ExecEdge { parent: "/bin/sh".into(), child: child.into() }
    }

    #[test]
    fn a_workload_is_judged_by_the_others_and_not_by_its_namesake() {
        let mut shown = Shown::default();
        shown.benign.insert(place("a", "web"), BTreeSet::from([edge("/bin/ls"), edge("/bin/own")]));
        shown.benign.insert(place("b", "web"), BTreeSet::from([edge("/bin/own")]));
        shown.benign.insert(place("a", "db"), BTreeSet::from([edge("/bin/ls")]));
        shown.attacks.insert(place("a", "web"), BTreeSet::from([edge("/bin/nc")]));
        let base = shown.cost(f64::INFINITY);
        assert_eq!((base.benign, base.attack), (8.0, 8.0));
        let cost = shown.cost(1.0);
        // Of four benign facts the two /bin/ls are known elsewhere; /bin/own only to a namesake.
        assert_eq!((cost.benign_known, cost.attack_known), (0.5, 0.0));
        assert!(cost.benign < base.benign && cost.attack > base.attack, "{cost:?}");
    }
}
