//! Takes a recording through the chain: decode, enrich, score, policy. Nothing of this host is looked at or changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use super::{Frame, Recording, ReplayError};
use crate::agent::chain::Chain;
use crate::config::Config;
use crate::decision::{Author, Decision};
use crate::decode::{Record, decode};
use crate::enforce::{Enforcer, NoEnforcer};
use crate::enrich::Enricher;
use crate::enrich::surroundings::Recorded;
use crate::finding::Finding;
use crate::ledger::Ledger;
use crate::policy::mode::{Mode, ModeRequest};
use crate::policy::protect::Protected;
use crate::policy::{Outcome, Policy, State};
use crate::record::Note;

/// Boot time between two ticks, as in a running agent.
const TICK_NS: u64 = 200_000_000;

/// What a replay came to.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// Host that was recorded.
    pub host: String,
    /// Records replayed.
    pub records: u64,
    /// Seconds that it took.
    pub took_seconds: f64,
    /// Seconds that the records span.
    pub span_seconds: f64,
    /// User half of the ledger, in words.
    pub ledger: String,
    /// Findings in their last state, oldest first.
    pub findings: Vec<Finding>,
    /// Decisions that would have been made, oldest first.
    pub decisions: Vec<Decision>,
    /// Scores of all verdicts as bits, folded into one number: equal for equal runs.
    pub fingerprint: u64,
    /// Why the recording ends early.
    pub cut_off: Option<String>,
}

/// Replays a file.
///
/// # Errors
///
/// When it cannot be opened or is no recording. One that is cut off is replayed up to there.
pub fn replay(path: &Path, config: &Config, modes: bool) -> anyhow::Result<Replayed> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    replay_from(BufReader::new(file), config, config.params(), modes)
        .with_context(|| format!("cannot replay {}", path.display()))
}

/// Replays whatever can be read.
///
/// # Errors
///
/// As [`replay`].
pub fn replay_from(input: impl Read, config: &Config, params: model::Params, modes: bool) -> anyhow::Result<Replayed> {
    let began = Instant::now();
    let recording = Recording::open(input)?;
    let info = recording.info().clone();
    let host: std::sync::Arc<str> = info.hostname.as_str().into();
    let policy = Policy::new(config.policy.clone(), host, Protected::new(0), State::default(), Vec::new(), Vec::new());
    let enricher = Enricher::new(info.clock, Recorded::default());
    let mut player = Player {
        chain: Chain::new(enricher, model::Model::new(params)?, policy),
        enforcer: NoEnforcer::default(),
        ledger: Ledger::default(),
        findings: BTreeMap::new(),
        decisions: BTreeMap::new(),
        fingerprint: 0xcbf2_9ce4_8422_2325,
        last_tick: 0,
        now: 0,
        modes,
    };
    let (mut records, mut first, mut cut_off) = (0, None, None);
    for frame in recording {
        match frame {
            Ok(Frame::Note(note)) => player.note(&note)?,
            Ok(Frame::Record(bytes)) => {
                records += 1;
                player.record(&bytes)?;
                if player.now != 0 {
                    first.get_or_insert(player.now);
                }
            }
            Err(error @ (ReplayError::Truncated { .. } | ReplayError::BadChecksum { .. })) => {
                cut_off = Some(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let counts = player.ledger.reconcile(&[]).total();
    Ok(Replayed {
        host: info.hostname,
        records,
        took_seconds: began.elapsed().as_secs_f64(),
        span_seconds: player.now.saturating_sub(first.unwrap_or(player.now)) as f64 / 1e9,
        ledger: format!(
            "records  read {records} = decoded {} + rejected {}",
            counts.decoded + counts.synthesised,
            counts.rejected
        ),
        findings: player.findings.into_values().collect(),
        decisions: player.decisions.into_values().collect(),
        fingerprint: player.fingerprint,
        cut_off,
    })
}

struct Player {
    chain: Chain<Recorded>,
    enforcer: NoEnforcer,
    ledger: Ledger,
    findings: BTreeMap<(u64, uuid::Uuid), Finding>,
    decisions: BTreeMap<u64, Decision>,
    fingerprint: u64,
    last_tick: u64,
    now: u64,
    modes: bool,
}

impl Player {
    fn record(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let record = match decode(bytes) {
            Ok(record) => record,
            Err(reject) => {
                self.ledger.rejected(&reject, bytes);
                return Ok(());
            }
        };
        self.ledger.decoded(&record);
        if !record.is_synthesised() {
            self.pass_time(&record)?;
        }
        let step = self.chain.feed(&record);
        if let Some(verdict) = &step.verdict {
            let bits = verdict.score.value.to_bits() ^ verdict.episode.score.to_bits().rotate_left(17);
            self.fingerprint = (self.fingerprint ^ bits).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let at = step.event.as_ref().map(|event| event.at);
        self.keep(step.outcomes, at)
    }

    fn pass_time(&mut self, record: &Record) -> anyhow::Result<()> {
        self.now = self.now.max(record.header().boot_ns);
        if self.now < self.last_tick + TICK_NS {
            return Ok(());
        }
        self.last_tick = self.now;
        let at = self.chain.enricher.clock().at(self.now);
        let outcomes = self.chain.tick(at);
        self.keep(outcomes, Some(at))
    }

    fn note(&mut self, note: &Note) -> anyhow::Result<()> {
        self.chain.enricher.take_note(note);
        let Note::Mode { workload, mode } = note else { return Ok(()) };
        if !self.modes {
            return Ok(());
        }
        let at = self.chain.enricher.clock().at(self.now);
        let workload: std::sync::Arc<str> = workload.as_str().into();
        let Some(summary) = self.chain.scorer.model().summary(&workload) else { return Ok(()) };
        let readiness = self.chain.policy.readiness(&workload, &summary, 0.0, at);
        // A mode is reached one step at a time, as people do it.
        let steps = [Mode::Learning, Mode::Monitoring, Mode::Enforcing];
        let now = self.chain.policy.modes().of(&workload);
        for step in steps
            .into_iter()
            .filter(|step| (*step > now && *step <= *mode) || (*mode == Mode::Learning && *step == *mode))
        {
            let author = Author::Operator("recording".to_owned());
            let reason = "as recorded".to_owned();
            let request =
                ModeRequest { workload: workload.clone(), mode: step, author, reason, expires_ns: None, force: true };
            if let Ok(outcomes) = self.chain.policy.set_mode(request, &readiness, at) {
                self.keep(outcomes, Some(at))?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, outcomes: Vec<Outcome>, at: Option<model::event::Time>) -> anyhow::Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let at = at.unwrap_or_else(|| self.chain.enricher.clock().at(self.now));
        self.chain.follow(&outcomes, at);
        for outcome in outcomes {
            match outcome {
                Outcome::Finding(_, finding) => {
                    self.findings.insert((finding.created.boot_ns, finding.id), finding);
                }
                Outcome::Decision(_, decision) => {
                    self.decisions.insert(decision.number, decision);
                }
                Outcome::Mode(_) | Outcome::Audit(_) => (),
            }
        }
        self.enforcer.apply(&self.chain.policy.live(at), at.boot_ns)?;
        Ok(())
    }
}
