//! What an incident had hidden: told the last day again without it, a model may find what it had taken for usual.

use std::collections::BTreeMap;

use model::event::{Event, Time};
use model::{Standing, Verdict};

/// How far back it is looked.
const DAY_NS: u64 = 86_400 * 1_000_000_000;
/// Episodes kept; those with the highest scores.
const MOST: usize = 64;

/// Episodes over the threshold, each with the event at which its score was highest.
#[derive(Debug, Default)]
pub struct Hindsight {
    since_unix_ns: u64,
    episodes: BTreeMap<u64, (Event, Verdict)>,
    /// How often the lowest one made room for another.
    pub dropped: u64,
}

impl Hindsight {
    /// Of the day before `now`.
    pub fn before(now: Time) -> Self {
        Self { since_unix_ns: now.unix_ns.saturating_sub(DAY_NS), ..Self::default() }
    }

    /// Takes what the model says now of an event of then.
    pub fn take(&mut self, event: &Event, standing: Standing, verdict: Option<Verdict>) {
        let Some(verdict) = verdict.filter(|verdict| verdict.episode.over_threshold) else { return };
        if standing != Standing::Ready || event.at.unix_ns < self.since_unix_ns {
            return;
        }
        let (anchor, score) = (verdict.episode.anchor, verdict.episode.score);
        match self.episodes.get_mut(&anchor) {
            Some((_, known)) if known.episode.score >= score => {}
            Some(known) => *known = (event.clone(), verdict),
            None => {
                self.episodes.insert(anchor, (event.clone(), verdict));
            }
        }
        if self.episodes.len() > MOST {
            let score = |(_, verdict): &(Event, Verdict)| verdict.episode.score;
            let least = self.episodes.iter().min_by(|one, other| score(one.1).total_cmp(&score(other.1)));
            let least = least.map(|(anchor, _)| *anchor);
            self.episodes.retain(|anchor, _| Some(*anchor) != least);
            self.dropped += 1;
        }
    }

    /// The episodes, the oldest first.
    pub fn into_episodes(self) -> Vec<(Event, Verdict)> {
        let mut episodes: Vec<_> = self.episodes.into_values().collect();
        episodes.sort_by_key(|(event, _)| event.at.unix_ns);
        episodes
    }
}
