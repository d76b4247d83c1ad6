//! An attack that grows slowly: whether it is found, how soon, and how much larger than usual its pieces are by then.
//!
//! A piece is a connection to outside that the attacked workload opened; its size is what was sent over it. What is usual is
//! said by the same of the training days. Nothing is judged here: the evaluations have told when the attack was found.

use model::Body;
use model::event::{Event, Flow};
use serde::{Deserialize, Serialize};

use super::middle;
use crate::corpus::{Corpus, Day};
use crate::evaluate::belongs::{Labels, Part};
use crate::evaluate::seeds::Spread;
use crate::evaluate::{AttackResult, DayNumber, Evaluation, HostDays, numbered};
use crate::labels::{Span, Split};
use crate::stats::quantile;
use collector_common::flow::{Direction, Why};

/// How the names of such attacks begin.
const RAMP: &str = "ramp";

/// What became of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Host and cycle.
    pub day: String,
    /// Name.
    pub name: String,
    /// Bytes that usual connections to outside send: half of them at most so many, and all.
    pub usual: (f64, f64),
    /// Bytes of its smallest and its largest piece.
    pub pieces: (f64, f64),
    /// Seeds that found it.
    pub found: usize,
    /// Seeds.
    pub of: usize,
    /// Real seconds from its beginning to the finding, of those seeds.
    pub seconds: Option<Spread>,
    /// How many times as large as half of the usual ones the largest piece was by then.
    pub times_usual: Option<Spread>,
    /// The same at its end, found or not.
    pub at_most: f64,
    /// Its highest score in bits.
    pub peak: Spread,
    /// The level that it had to pass.
    pub level: Spread,
}

/// All of the test days.
pub(super) fn ramps(corpus: &Corpus, each: &[Evaluation]) -> anyhow::Result<Vec<Ramp>> {
    let mut all = Vec::new();
    for days in numbered(corpus) {
        for (number, day) in days.iter().filter(|(_, day)| day.cycle.split == Split::Test) {
            let labels = Labels::of(*number, day);
            for (at, span) in labels.attacks().iter().enumerate().filter(|(_, span)| span.name.starts_with(RAMP)) {
                all.extend(ramp(&days, *number, day, at, span, each)?);
            }
        }
    }
    Ok(all)
}

/// `None` when it made no connection, or nothing is usual.
fn ramp(
    days: &HostDays,
    number: DayNumber,
    day: &Day,
    place: usize,
    span: &Span,
    each: &[Evaluation],
) -> anyhow::Result<Option<Ramp>> {
    let mut usual = usual(days, &span.workload)?;
    let pieces = pieces(number, day, place)?;
    if usual.is_empty() || pieces.is_empty() {
        return Ok(None);
    }
    let by = |unix_ns: u64| pieces.iter().filter(|(at, _)| *at <= unix_ns).map(|(_, bytes)| *bytes).fold(0.0, f64::max);
    let (half, all) = (quantile(&mut usual, 0.5), quantile(&mut usual, 1.0));
    let name = day.name().to_string();
    let is_it = |attack: &&AttackResult| attack.name == span.name && attack.day == name;
    let told: Vec<&AttackResult> = each.iter().filter_map(|evaluation| evaluation.attacks.iter().find(is_it)).collect();
    let seconds: Vec<f64> = told.iter().filter_map(|attack| attack.seconds_to_finding).collect();
    let moment = |seconds: &f64| span.start_unix_ns + (seconds * 1e9 * day.cycle.clock_factor) as u64;
    let spread = |values: Vec<f64>| (!values.is_empty()).then(|| Spread::of(values.into_iter()));
    Ok(Some(Ramp {
        name: span.name.clone(),
        usual: (half, all),
        pieces: pieces.iter().fold((f64::INFINITY, 0.0), |(least, most), (_, x)| (least.min(*x), most.max(*x))),
        found: seconds.len(),
        of: told.len(),
        times_usual: spread(seconds.iter().map(|seconds| by(moment(seconds)) / half).collect()),
        seconds: spread(seconds),
        at_most: by(u64::MAX) / half,
        peak: Spread::of(told.iter().map(|attack| attack.peak)),
        level: Spread::of(each.iter().filter_map(middle).map(|at| at.threshold)),
        day: name,
    }))
}

/// What the workload's connections to outside send on the training days.
fn usual(days: &HostDays, workload: &str) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    for (_, day) in days.iter().filter(|(_, day)| day.cycle.split == Split::Train) {
        for event in day.events() {
            let event = event?;
            if *event.process.workload == *workload {
                all.extend(sent(&event));
            }
        }
    }
    Ok(all)
}

/// When the pieces of an attack were over, and how large they were.
fn pieces(number: DayNumber, day: &Day, place: usize) -> anyhow::Result<Vec<(u64, f64)>> {
    let labels = Labels::of(number, day);
    let mut all = Vec::new();
    for event in day.events() {
        let event = event?;
        if matches!(labels.part(&event), Part::Attack(attack) if attack.span == place) {
            all.extend(sent(&event).map(|bytes| (event.at.unix_ns, bytes)));
        }
    }
    Ok(all)
}

/// Bytes of a connection to outside that is over.
fn sent(event: &Event) -> Option<f64> {
    let is_out = |flow: &&Flow| {
        flow.direction == Direction::Out as u8 && flow.why == Why::Close as u8 && !flow.remote.ip().is_loopback()
    };
    match &event.body {
        Body::Flow(flow) => Some(flow).filter(is_out).map(|flow| flow.tx_bytes as f64),
        _ => None,
    }
}
