//! Which attack or benign change an event belongs to. Only the evaluation knows; no detector does.

use model::event::Event;

use super::track::{DayNumber, SpanNumber};
use crate::corpus::Day;
use crate::labels::{Kind, Span};

/// Real time after an attack's last operation in which its records still arrive: a window is written when it is a second
/// old or its thread idle for two. Longer would give chance more to find.
const GRACE_NS: f64 = 3e9;

/// What an event is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of an attack: its process is below the attack's root, or is the attacked service itself while it lasts.
    Attack(SpanNumber),
    /// Of the attacked workload while the attack lasts, but not of its subtree, or later in the attack's episode: an alarm
    /// there is neither found nor false.
    Beside,
    /// Benign, and during which change.
    Benign(Option<SpanNumber>),
}

/// The labels of a day.
pub struct Labels {
    day: DayNumber,
    attacks: Vec<Span>,
    changes: Vec<Span>,
    grace: u64,
}

impl Labels {
    /// Of a day.
    pub fn of(number: DayNumber, day: &Day) -> Self {
        Self {
            day: number,
            attacks: day.spans(Kind::Attack).collect(),
            changes: day.spans(Kind::Benign).collect(),
            grace: (GRACE_NS * day.cycle.clock_factor) as u64,
        }
    }

    /// Its attacks.
    pub fn attacks(&self) -> &[Span] {
        &self.attacks
    }

    /// Its benign changes.
    pub fn changes(&self) -> &[Span] {
        &self.changes
    }

    /// Whether an attack is in the service's own processes, among what they do anyway.
    pub fn is_in_service(&self, attack: SpanNumber) -> bool {
        self.attacks.get(attack.span).is_some_and(|span| span.root_cookie == 0)
    }

    /// What an event is part of.
    pub fn part(&self, event: &Event) -> Part {
        let now = event.at.unix_ns;
        let during = |span: &Span| (span.start_unix_ns..=span.end_unix_ns.saturating_add(self.grace)).contains(&now);
        let here = |span: &Span| span.workload.is_empty() || *span.workload == *event.process.workload;
        let number = |span| SpanNumber { day: self.day, span };
        let is_at_or_below = |root: &u64| event.process.cookie == *root || event.process.ancestors.contains(root);
        let owns = |span: &Span| match span.root_cookie {
            0 => during(span) && here(span),
            root => std::iter::once(&root).chain(&span.other_roots).any(is_at_or_below),
        };
        if let Some(attack) = self.attacks.iter().position(owns) {
            return Part::Attack(number(attack));
        }
        if self.attacks.iter().any(|span| during(span) && here(span)) {
            return Part::Beside;
        }
        Part::Benign(self.changes.iter().position(|span| during(span) && here(span)).map(number))
    }
}
