//! STIDE (Forrest and others, 1996; Warrender and others, 1999) with n = 3: the share of a window's trigrams that the program
//! never made while it was trained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use collector_common::token;
use model::event::{Body, Event};

use super::{Detector, Seen};

/// Trigrams of one program.
const MAX_TRIGRAMS: usize = 65_536;
/// Programs.
const MAX_PROGRAMS: usize = 16_384;
/// A short window's share is taken of this many trigrams: one strange call among three is not a third of an attack.
const LEAST: usize = 18;

/// Trigrams by workload and program.
#[derive(Default)]
pub struct Stide {
    known: BTreeMap<(Arc<str>, Arc<str>), BTreeSet<u32>>,
}

fn key(event: &Event) -> (Arc<str>, Arc<str>) {
    let program = model::facts::program(&event.process.exe, event.process.script.as_ref());
    (event.process.workload.clone(), program)
}

fn trigrams(trace: &[u16]) -> impl Iterator<Item = u32> + '_ {
    trace.windows(3).map(|calls| match calls {
        [a, b, c] => token::trigram(token::number(*a), token::number(*b), token::number(*c)),
        _ => 0,
    })
}

impl Detector for Stide {
    fn name(&self) -> &str {
        "STIDE, n = 3"
    }

    fn learn(&mut self, seen: &Seen) {
        let Body::Window(window) = &seen.event.body else { return };
        let key = key(seen.event);
        if self.known.len() >= MAX_PROGRAMS && !self.known.contains_key(&key) {
            return;
        }
        let known = self.known.entry(key).or_default();
        for trigram in trigrams(&window.trace) {
            if known.len() < MAX_TRIGRAMS {
                known.insert(trigram);
            }
        }
    }

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        let Body::Window(window) = &seen.event.body else { return Ok(0.0) };
        let all = window.trace.len().saturating_sub(2);
        let known = self.known.get(&key(seen.event));
        let strange = trigrams(&window.trace).filter(|trigram| known.is_none_or(|known| !known.contains(trigram)));
        Ok(strange.count() as f64 / all.max(LEAST) as f64)
    }
}
