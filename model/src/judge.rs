//! From an event to a verdict: judge first, learn afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use collector_common::flow::Why;
use collector_common::process::EXEC_RENEWED;
use collector_common::syscall;
use serde::{Deserialize, Serialize};

use crate::counts::{self, Counts};
use crate::episode::Evidence;
use crate::event::{Body, Event, Time};
use crate::facts::{self, Fact};
use crate::features::{Coordinate, FeatureVector};
use crate::grams::Grams;
use crate::names;
use crate::online::Detector;
use crate::quantities::Quantities;
use crate::reservoir::FACTS_PER_ROW;
use crate::sequence::{SETTLED_WINDOWS, Sequences, Surprise};
use crate::workload::{Measures, Workload};
use crate::{Explanation, FactSurprise, MAX_WORKLOADS, Model, Standing, Verdict};

/// Subtrees whose last vectors are remembered.
const MAX_RECENT: usize = 8_192;
/// For so long the coordinates of one subtree count together; boot clock.
const TOGETHER_NS: u64 = 10_000_000_000;
/// For so long the destinations of one subtree are counted; boot clock.
const MINUTE_NS: u64 = 60_000_000_000;
/// Destinations that are counted apart.
const MAX_DESTINATIONS: usize = 256;
/// Trigrams that a verdict names.
const NAMED_TRIGRAMS: usize = 8;
/// See [`crate::Process::exe`].
const UNKNOWN: &str = "?";
/// A quantity of a workload is judged once it was seen this often.
const SETTLED_NUMBERS: u32 = 30;

/// What one subtree did lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    at: Time,
    /// The spell that began at `since`, and the one before it.
    spells: [Spell; 2],
    since: u64,
    minute: u64,
    destinations: BTreeSet<(IpAddr, u16)>,
}

/// The vectors of ten seconds, joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Spell {
    /// As they were scored.
    own: FeatureVector,
    /// As they may become a row.
    row: Lesson,
}

/// A vector without what its novel facts contribute, and those facts: how new they are is judged again when a tree is grown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lesson {
    settled: FeatureVector,
    novel: Vec<(Fact, f64)>,
}

impl Lesson {
    fn join(&mut self, other: &Self) {
        self.settled = self.settled.joined(&other.settled);
        for (fact, bits) in &other.novel {
            if self.novel.len() < FACTS_PER_ROW && !self.novel.iter().any(|(known, _)| known == fact) {
                self.novel.push((fact.clone(), *bits));
            }
        }
    }
}

impl Spell {
    fn join(&mut self, other: &Self) {
        self.own = self.own.joined(&other.own);
        self.row.join(&other.row);
    }
}

impl Recent {
    /// Whether it still matters.
    pub fn is_fresh(&self, now: Time) -> bool {
        now.boot_ns.saturating_sub(self.at.boot_ns) < MINUTE_NS
    }

    /// Whether what was read from a snapshot is within its bounds.
    fn is_sound(&self) -> bool {
        let sound = |spell: &Spell| {
            let bits = spell.row.novel.iter().all(|(_, bits)| bits.is_finite());
            spell.own.is_finite() && spell.row.settled.is_finite() && bits && spell.row.novel.len() <= FACTS_PER_ROW
        };
        self.spells.iter().all(sound) && self.destinations.len() <= MAX_DESTINATIONS
    }

    /// Joins what the subtree showed in the last ten seconds, or up to twice as long ago: two spells are kept, not every
    /// vector.
    fn join_into(&self, at: Time, spell: &mut Spell) {
        match at.boot_ns.saturating_sub(self.since) / TOGETHER_NS {
            0 => self.spells.iter().for_each(|known| spell.join(known)),
            1 => spell.join(&self.spells[0]),
            _ => (),
        }
    }

    /// Takes an event's own vector. What was joined is not taken again, or nothing would ever be forgotten.
    fn take(&mut self, at: Time, own: Spell) {
        self.at = at;
        let age = at.boot_ns.saturating_sub(self.since) / TOGETHER_NS;
        if age > 0 {
            let before = std::mem::take(&mut self.spells[0]);
            self.spells[1] = if age == 1 { before } else { Spell::default() };
            self.since = at.boot_ns;
        }
        self.spells[0].join(&own);
    }

    /// Different destinations in this minute.
    pub(crate) fn reach(&mut self, at: Time, to: (IpAddr, u16)) -> usize {
        if at.boot_ns.saturating_sub(self.minute) >= MINUTE_NS {
            self.minute = at.boot_ns;
            self.destinations.clear();
        }
        if self.destinations.len() < MAX_DESTINATIONS {
            self.destinations.insert(to);
        }
        self.destinations.len()
    }
}

/// Whether the subtrees that were read from a snapshot are within their bounds.
pub(crate) fn are_sound(recent: &BTreeMap<u64, Recent>) -> bool {
    recent.len() <= MAX_RECENT && recent.values().all(Recent::is_sound)
}

impl Model {
    /// Judges an event against what was learnt before it, then learns it if the rules admit it.
    ///
    /// `None` for events that are no evidence: births, ends, denials, and workloads beyond [`MAX_WORKLOADS`].
    ///
    /// The learning rules: evidence that lost calls teaches nothing. While a workload is ready, no fact or call of an open
    /// episode is learnt, and what is learnt goes beside the frozen baseline, not into it, until two subtrees have taught it
    /// on two days ([`Model::tick`]). Rows of the forest and quantities are admitted from everything but findings: a busy
    /// server always has some episode open, and a forest that is grown from the quiet alone finds every day stranger than
    /// the one before.
    pub fn observe(&mut self, event: &Event, standing: Standing) -> Option<Verdict> {
        self.now = event.at;
        if let Body::Deny(deny) = &event.body
            && !deny.shadow
        {
            self.episodes.spoil(self.episodes.anchor_of(&event.process));
        }
        if matches!(event.body, Body::Fork(_) | Body::Exit(_) | Body::Deny(_)) {
            return None;
        }
        let name = &event.process.workload;
        if !self.workloads.contains_key(name) && self.workloads.len() >= MAX_WORKLOADS {
            self.unmodelled = self.unmodelled.saturating_add(1);
            return None;
        }
        let exe = facts::program(&event.process.exe, event.process.script.as_ref());
        self.workloads.entry(name.clone()).or_default().note(event, &exe);
        let early = is_early(&event.body);
        let lost = share_lost(&event.body);
        let complete = lost == 0.0;
        let anchor = self.episodes.anchor_of(&event.process);
        let quantities = self.quantities(event, anchor);
        let stated = facts::stated_by(event);

        let known = self.workloads.get(name)?;
        let surprises = weigh(&stated, known, &self.host, standing, event.at);
        let stale = known.stale(event.at).any(|program| *program == exe);
        let grams = grams_of(event);
        let sequence =
            grams.as_ref().map_or_else(Surprise::default, |grams| surprise_of(grams, known, &exe, &self.pool));
        let mut own = vector_of(&surprises, &sequence, &quantities, known, &self.measures);
        if let Some(coordinate) = self.without {
            own.bits[coordinate as usize] = 0.0;
        }
        let alone = Spell { own, row: lesson_of(own, &surprises) };
        let mut together = alone.clone();
        if let Some(recent) = self.recent.get(&anchor) {
            recent.join_into(event.at, &mut together);
        }
        let vector = together.own;
        let pool = self.detector.score(&vector);
        let score = self.vigil.checked(self.own.mixed(name, &vector, pool), pool, event.at);

        let level = self.threshold().level;
        let mut evidence = evidence(&surprises, standing);
        evidence.retain(|(fact, _)| Some(fact.family().coordinate) != self.without);
        let ready = standing == Standing::Ready;
        let evidence = Evidence {
            vector,
            score: if ready { score } else { Default::default() },
            facts: evidence,
            calls: if ready { &sequence.novel } else { &[] },
        };
        let episode = self.episodes.add(anchor, name, event.at, &evidence, level);
        let trigrams =
            sequence.novel.iter().take(NAMED_TRIGRAMS).map(|(trigram, _)| names::trigram(*trigram)).collect();
        let because = |coordinate| because(coordinate, &surprises, &sequence);
        let explanation = Explanation::of(&vector, &score, &self.detector.usual(), because);

        if !complete {
            self.episodes.spoil(anchor);
        }
        self.remember(anchor, event.at, alone);
        let learning = standing == Standing::Learning;
        if complete && !early && (learning || !episode.over_threshold) {
            self.offer_row(event, &exe, &together.row);
            self.learn_quantities(event, &quantities);
            if ready {
                self.follow_drift(event, &own, &quantities);
            }
        }
        if complete && !early && (learning || !self.episodes.is_open(anchor)) {
            self.learn(event, &exe, &stated, grams.as_ref());
        } else if let Body::Window(window) = &event.body
            && complete
            && !early
            && !sequence.novel.is_empty()
        {
            self.episodes.keep_window(anchor, &exe, &window.trace);
        }
        self.tend_forest(event.at);
        let mut facts = reported(surprises);
        facts.sort_by(|a, b| b.bits.total_cmp(&a.bits).then_with(|| a.fact.cmp(&b.fact)));
        Some(Verdict { vector, score, facts, explanation, episode, trigrams, complete, lost, stale })
    }

    pub(crate) fn has_room_for(&self, anchor: u64) -> bool {
        self.recent.len() < MAX_RECENT || self.recent.contains_key(&anchor)
    }

    fn remember(&mut self, anchor: u64, at: Time, own: Spell) {
        if self.has_room_for(anchor) {
            self.recent.entry(anchor).or_default().take(at, own);
        }
    }

    /// Offers what was scored as a row, once its program is known well enough that its surprise means something.
    fn offer_row(&mut self, event: &Event, exe: &Arc<str>, row: &Lesson) {
        let Some(known) = self.workloads.get(&event.process.workload) else { return };
        let windows = known.learned.sequences.get(exe).map_or(0, Sequences::windows);
        if matches!(event.body, Body::Window(_)) && windows < SETTLED_WINDOWS {
            return;
        }
        let kind = match event.body {
            Body::Exec(_) => 1,
            Body::Window(_) => 2,
            Body::File(_) => 4,
            _ => 3,
        };
        let cell = cell(&event.process.workload, exe, kind);
        self.own.offer(&event.process.workload, cell, event.at, row.settled, &row.novel);
        self.detector.offer(cell, event.at, row.settled, &row.novel);
    }

    fn learn(&mut self, event: &Event, exe: &Arc<str>, stated: &[Fact], grams: Option<&Grams>) {
        let process = event.process.cookie;
        let Some(known) = self.workloads.get_mut(&event.process.workload) else { return };
        for fact in stated {
            known.learned.facts.learn(fact, event.at, process);
            known.admit(fact);
            self.host.learn(fact, event.at, process);
        }
        if let Some(grams) = grams {
            known.learn_window(exe, grams, event.at, process);
            self.pool.learn_grams(grams);
        }
    }
}

impl Workload {
    fn note(&mut self, event: &Event, exe: &Arc<str>) {
        if matches!(&event.body, Body::Exec(exec) if exec.bits & EXEC_RENEWED != 0) {
            self.renew(exe, event.at);
        }
        let tally = &mut self.tally;
        tally.first.get_or_insert(event.at);
        tally.last = event.at;
        let kind = match &event.body {
            Body::Window(window) => {
                tally.lossy = tally.lossy.saturating_add(u64::from(window.missed > 0));
                &mut tally.windows
            }
            Body::Exec(_) => &mut tally.execs,
            Body::Flow(_) => &mut tally.flows,
            Body::File(_) => &mut tally.files,
            Body::Fork(_) | Body::Exit(_) | Body::Deny(_) => return,
        };
        *kind = kind.saturating_add(1);
    }
}

/// What an event's own vector teaches: novel facts are kept apart.
fn lesson_of(own: FeatureVector, surprises: &[FactSurprise]) -> Lesson {
    let mut settled = own;
    for new in surprises.iter().filter(|surprise| surprise.novel) {
        let coordinate = new.fact.family().coordinate;
        let others = surprises.iter().filter(|other| !other.novel && other.fact.family().coordinate == coordinate);
        settled.bits[coordinate as usize] = others.map(|other| other.bits).fold(0.0, f64::max);
    }
    let novel = surprises.iter().filter(|surprise| surprise.novel).take(FACTS_PER_ROW);
    Lesson { settled, novel: novel.map(|surprise| (surprise.fact.clone(), surprise.bits)).collect() }
}

/// Share of an event's calls that were overwritten before they could be told.
fn share_lost(body: &Body) -> f64 {
    match body {
        Body::Window(window) if window.missed > 0 => {
            let missed = f64::from(window.missed);
            missed / (missed + window.trace.len() as f64)
        }
        _ => 0.0,
    }
}

/// Whether the kernel reports it before it is over: a window that goes on filling, a connection that may yet be denied. It
/// comes again when it is, and only then teaches. The window of an idle thread teaches at once, although it comes again: a
/// daemon's main thread may wait in it for months, and what it did at its start would be new at every start.
fn is_early(body: &Body) -> bool {
    match body {
        Body::Window(window) => window.why == syscall::Why::Early as u8,
        Body::Flow(flow) => flow.why == Why::Novel as u8,
        _ => false,
    }
}

/// Each fact's bits against what the workload is judged by.
fn weigh(stated: &[Fact], known: &Workload, host: &Counts, standing: Standing, at: Time) -> Vec<FactSurprise> {
    let reference = match standing {
        Standing::Ready => known.reference(),
        Standing::Learning => &known.learned,
    };
    let bits = |fact: &Fact| match known.stale(at).any(|program| fact.is_of(program)) {
        true => counts::inherited_bits(fact, &reference.facts, host),
        false => counts::bits(fact, Some(&reference.facts), host),
    };
    let mut surprises: Vec<FactSurprise> = stated
        .iter()
        .map(|fact| FactSurprise {
            fact: fact.clone(),
            bits: bits(fact),
            novel: is_new(fact, &reference.facts),
            expected: is_expected(fact, &reference.facts),
            usual: usual(fact, &reference.facts),
            class_a: fact.family().class_a,
        })
        .collect();
    // A new address of a known network on a known port is as surprising as both together, not more.
    let part = |is: fn(&Fact) -> bool| surprises.iter().find(|surprise| is(&surprise.fact)).map(|part| part.bits);
    let port = part(|fact| matches!(fact, Fact::Port { .. }));
    let prefix = part(|fact| matches!(fact, Fact::Prefix { .. }));
    if let (Some(port), Some(prefix)) = (port, prefix)
        && let Some(to) = surprises.iter_mut().find(|surprise| matches!(surprise.fact, Fact::Destination { .. }))
    {
        to.bits = to.bits.min(port + prefix);
    }
    surprises
}

/// Whether a baseline lacks a fact. A program whose start was lost has no name: what any other of the workload reaches is not
/// new for it, or each lost record would be somebody's finding.
fn is_new(fact: &Fact, reference: &Counts) -> bool {
    match fact {
        Fact::Destination { exe, address, port, protocol } if &**exe == UNKNOWN => {
            let wanted = (address, port, protocol);
            let is_it = |known: &Fact| matches!(known, Fact::Destination { address, port, protocol, .. } if (address, port, protocol) == wanted);
            !reference.facts().any(|(known, _)| is_it(known))
        }
        _ => reference.get(fact).is_none(),
    }
}

/// Whether a fact is new where all that is new about it is daily bread: whoever reaches new addresses all day, always on the
/// same port, has not reached new ports.
fn is_expected(fact: &Fact, reference: &Counts) -> bool {
    let parts = fact.parts();
    let mut new = std::iter::once(fact).chain(&parts).filter(|fact| reference.get(fact).is_none()).peekable();
    new.peek().is_some() && new.all(|fact| reference.is_used_to_news(fact))
}

fn usual(fact: &Fact, reference: &Counts) -> String {
    let (values, times) = reference.context(fact);
    match reference.get(fact) {
        Some(count) => format!("seen {} times on {} days", count.n, count.days),
        None if values == 0 => format!("no {} was ever seen here", fact.what()),
        None => format!("{values} others in {times} observations, never this one"),
    }
}

/// Ports and networks are parts of a destination: they feed coordinates, but are not told apart from it.
fn is_part(fact: &Fact) -> bool {
    matches!(fact, Fact::Port { .. } | Fact::Prefix { .. })
}

fn reported(surprises: Vec<FactSurprise>) -> Vec<FactSurprise> {
    surprises.into_iter().filter(|surprise| !is_part(&surprise.fact)).collect()
}

/// What goes into the episode: new facts of a ready workload, and what is dangerous anywhere.
fn evidence(surprises: &[FactSurprise], standing: Standing) -> Vec<(Fact, f64)> {
    let counts = |surprise: &&FactSurprise| {
        surprise.novel
            && !is_part(&surprise.fact)
            && (standing == Standing::Ready || matches!(surprise.fact, Fact::MemoryExec { .. }))
    };
    surprises.iter().filter(counts).map(|surprise| (surprise.fact.clone(), surprise.bits)).collect()
}

fn grams_of(event: &Event) -> Option<Grams> {
    match &event.body {
        Body::Window(window) => Some(Grams::of(&window.trace)),
        _ => None,
    }
}

fn surprise_of(grams: &Grams, known: &Workload, exe: &Arc<str>, pool: &Sequences) -> Surprise {
    // A program that the workload never ran is judged by what the host's programs call.
    known.reference().sequences.get(exe).unwrap_or(pool).surprise_of(grams, pool)
}

fn vector_of(
    surprises: &[FactSurprise],
    sequence: &Surprise,
    quantities: &Quantities,
    known: &Workload,
    pool: &Measures,
) -> FeatureVector {
    let mut vector = FeatureVector::default();
    vector.raise(Coordinate::Seq, sequence.bits);
    let mut rare_calls = 0.0;
    for surprise in surprises {
        match &surprise.fact {
            Fact::Trigger { .. } => rare_calls += surprise.bits,
            // Their destination already carries them.
            fact if is_part(fact) => (),
            fact => vector.raise(fact.family().coordinate, surprise.bits),
        }
    }
    vector.raise(Coordinate::Priv, rare_calls);
    let own = &known.measures;
    let rows = [
        (Coordinate::Volume, quantities.flow_bytes, &own.flow_bytes, &pool.flow_bytes),
        (Coordinate::Volume, quantities.window_bytes, &own.window_bytes, &pool.window_bytes),
        (Coordinate::Error, quantities.errors, &own.errors, &pool.errors),
        (Coordinate::Error, quantities.permission_errors, &own.permission_errors, &pool.permission_errors),
        (Coordinate::Fanout, quantities.destinations, &own.destinations, &pool.destinations),
    ];
    for (coordinate, value, own, pool) in rows {
        if let Some(value) = value.filter(|_| own.len() >= SETTLED_NUMBERS) {
            vector.raise(coordinate, own.bits(value, pool));
        }
    }
    vector
}

fn because(coordinate: Coordinate, surprises: &[FactSurprise], sequence: &Surprise) -> String {
    if coordinate == Coordinate::Seq {
        return sequence
            .novel
            .first()
            .map_or_else(String::new, |(trigram, _)| format!("{} never seen", names::trigram(*trigram)));
    }
    let of = |surprise: &&FactSurprise| surprise.fact.family().coordinate == coordinate && !is_part(&surprise.fact);
    let most = surprises.iter().filter(of).max_by(|a, b| a.bits.total_cmp(&b.bits));
    most.map_or_else(String::new, |surprise| {
        format!("{}{}", surprise.fact, if surprise.novel { " never seen" } else { "" })
    })
}

/// A stable number for a (workload, program, kind of event): FNV-1a.
fn cell(workload: &str, exe: &str, kind: u8) -> u64 {
    let bytes = workload.bytes().chain([0]).chain(exe.bytes()).chain([0, kind]);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
