//! Takes a recording through the chain: decode, enrich, score, policy. Nothing of this host is looked at or changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use model::Model;
use model::event::Event;
use model::replay::Fingerprint;
use serde::Serialize;

use super::{Frame, Recording, ReplayError};
use crate::agent::chain::Chain;
use crate::config::Config;
use crate::decision::{Author, Decision};
use crate::decode::decode;
use crate::enforce::{Enforcer, NoEnforcer};
use crate::enrich::Enricher;
use crate::enrich::surroundings::Recorded;
use crate::finding::Finding;
use crate::journal::JournalWriter;
use crate::ledger::Ledger;
use crate::policy::mode::{Mode, ModeRequest};
use crate::policy::protect::Protected;
use crate::policy::{Outcome, Policy, State};
use crate::record::{Info, Note};

/// First bytes of a file that gzip wrote.
const GZIP: [u8; 2] = [0x1f, 0x8b];

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
    /// Rows of the journal, if one was asked for.
    pub journal_rows: Option<u64>,
    /// Why the recording ends early.
    pub cut_off: Option<String>,
}

/// Opens a recording, compressed by gzip or not.
///
/// # Errors
///
/// When it cannot be opened or read.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut file = BufReader::new(file);
    let start = file.fill_buf().with_context(|| format!("cannot read {}", path.display()))?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

/// What a replay does beside judging.
#[derive(Clone, Copy, Debug, Default)]
pub struct Play<'a> {
    /// Take the modes that workloads had in the recording.
    pub modes: bool,
    /// Write the events here, as a Parquet journal.
    pub journal: Option<&'a Path>,
    /// Begin with this snapshot instead of an empty model.
    pub model: Option<&'a Path>,
}

/// Replays a file.
///
/// # Errors
///
/// When it cannot be opened or is no recording, the snapshot is none, or the journal cannot be written. A recording that is
/// cut off is replayed up to there.
pub fn replay(path: &Path, config: &Config, play: Play) -> anyhow::Result<Replayed> {
    let model = match play.model {
        Some(path) => restored(path)?,
        None => Model::new(config.params())?,
    };
    replay_into(open(path)?, config, model, play).with_context(|| format!("cannot replay {}", path.display()))
}

/// A model from a snapshot file, as `stockade-trainer train` writes it.
///
/// # Errors
///
/// When the file cannot be read or is no snapshot of this version.
pub fn restored(path: &Path) -> anyhow::Result<Model> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the model {}", path.display()))?;
    Model::restore(&bytes).with_context(|| format!("cannot begin with the model {}", path.display()))
}

/// Replays whatever can be read, with an empty model.
///
/// # Errors
///
/// As [`replay`].
pub fn replay_from(input: impl Read, config: &Config, params: model::Params, modes: bool) -> anyhow::Result<Replayed> {
    replay_into(input, config, Model::new(params)?, Play { modes, ..Play::default() })
}

/// Replays whatever can be read, with a model.
///
/// # Errors
///
/// As [`replay`].
pub fn replay_into(input: impl Read, config: &Config, model: Model, play: Play) -> anyhow::Result<Replayed> {
    let began = Instant::now();
    let recording = Recording::open(input)?;
    let info = recording.info().clone();
    let host: std::sync::Arc<str> = info.hostname.as_str().into();
    let journal = play.journal.map(|path| JournalWriter::create(path, about(&info))).transpose()?;
    let policy = Policy::new(config.policy.clone(), host, Protected::new(0), State::default(), Vec::new(), Vec::new());
    let enricher = Enricher::new(info.clock, Recorded::default());
    let mut player = Player {
        chain: Chain::new(enricher, model, policy),
        enforcer: NoEnforcer::default(),
        ledger: Ledger::default(),
        findings: BTreeMap::new(),
        decisions: BTreeMap::new(),
        fingerprint: Fingerprint::default(),
        last_tick: 0,
        last_event: 0,
        now: 0,
        modes: play.modes,
        journal,
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
    let journal_rows = player.journal.take().map(JournalWriter::finish).transpose()?;
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
        fingerprint: player.fingerprint.0,
        journal_rows,
        cut_off,
    })
}

fn about(info: &Info) -> model::journal::Meta {
    model::journal::Meta {
        host: info.hostname.clone(),
        kernel: info.kernel.clone(),
        agent: info.agent.clone(),
        modes: Vec::new(),
    }
}

struct Player {
    chain: Chain<Recorded>,
    enforcer: NoEnforcer,
    ledger: Ledger,
    findings: BTreeMap<(u64, uuid::Uuid), Finding>,
    decisions: BTreeMap<u64, Decision>,
    fingerprint: Fingerprint,
    last_tick: u64,
    last_event: u64,
    now: u64,
    modes: bool,
    journal: Option<JournalWriter>,
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
            self.now = self.now.max(record.header().boot_ns);
        }
        let Some(event) = self.chain.enricher.enrich(&record) else { return Ok(()) };
        let at = event.at;
        self.pass_time(&event)?;
        if let Some(journal) = &mut self.journal {
            journal.append(&event)?;
        }
        let step = self.chain.judge(event);
        if let Some(verdict) = &step.verdict {
            self.fingerprint.take(verdict);
        }
        self.keep(step.outcomes, Some(at))
    }

    /// Time passes with events only, so that a journal, which holds nothing else, can be taken the same way.
    fn pass_time(&mut self, event: &Event) -> anyhow::Result<()> {
        self.last_event = self.last_event.max(event.at.boot_ns);
        if self.last_event < self.last_tick + model::replay::TICK_NS {
            return Ok(());
        }
        self.last_tick = self.last_event;
        let outcomes = self.chain.tick(event.at);
        self.keep(outcomes, Some(event.at))
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
                Outcome::Mode(row) => {
                    if let Some(journal) = &mut self.journal {
                        journal.note_mode(&row.workload, row.mode > Mode::Learning, at);
                    }
                }
                Outcome::Mark(..) | Outcome::Audit(_) => (),
            }
        }
        self.enforcer.apply(&self.chain.policy.live(at), at.boot_ns)?;
        Ok(())
    }
}
