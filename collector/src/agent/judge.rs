//! The judge: one thread that takes records and requests in order and carries out what follows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector_common::map::RowKey;
use collector_common::process::Exec;
use model::event::{Body, Time};
use tokio::sync::broadcast;

use super::chain::{Chain, Step};
use super::gates;
use super::inbox::Lane;
use super::loss::{LossWatch, Said};
use super::rows::{Change as RowChange, Normal, Rows};
use crate::api::protocol::WatchItem;
use crate::config::Config;
use crate::decision::Target;
use crate::decode::{Record, decode};
use crate::enforce::Enforcer;
use crate::enrich::clock::boot_now;
use crate::enrich::surroundings::{Live, Noting};
use crate::history::redo::Redo;
use crate::ledger::{Ledger, Reconciliation};
use crate::loader::Kernel;
use crate::loader::sensitive::HATCHES;
use crate::policy::mode::Mode;
use crate::policy::{DecisionChange, Outcome, commit};
use crate::record::{Note, Recorder};
use crate::sinks::{Change, Fanout, HealthReport, Message};
use crate::store::Store;

/// How often time passes when nothing comes.
pub const TICK: Duration = Duration::from_millis(200);
/// How often what was learnt is kept.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
const HEALTH_EVERY: Duration = Duration::from_secs(30);
/// How often sockets that isolation closes are looked for: a service that restarts binds a new one.
const HATCHES_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether evidence is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often threads that went idle in the middle of a window are looked for.
const IDLE_EVERY: Duration = Duration::from_secs(2);
const PRUNE_EVERY: Duration = Duration::from_secs(86_400);

/// One record as the ring gave it, and decoded.
pub struct Taken {
    /// The bytes, for a recording.
    pub bytes: Vec<u8>,
}

/// A recording in progress.
pub type FileRecorder = Recorder<BufWriter<File>>;

/// Everything behind the inbox.
pub struct Judge {
    pub(super) config: Config,
    pub(super) chain: Chain<Noting<Live>>,
    pub(super) store: Store,
    pub(super) enforcer: Box<dyn Enforcer + Send>,
    pub(super) kernel: Kernel,
    pub(super) fanout: Fanout,
    pub(super) ledger: Ledger,
    pub(super) rows: Rows,
    pub(super) watchers: broadcast::Sender<WatchItem>,
    pub(super) recorder: Option<FileRecorder>,
    pub(super) boot: String,
    pub(super) began: Instant,
    pub(super) latency: Latency,
    /// Why nothing can be denied on this kernel.
    pub(super) enforcement_off: Option<String>,
    last_tick: Instant,
    last_snapshot: Instant,
    last_health: Instant,
    last_prune: Instant,
    last_hatches: Instant,
    last_idle: Instant,
    last_look: Instant,
    losses: LossWatch,
    /// A model that is taken through the history again, for the mark of this number.
    pub(super) unlearning: Option<(u64, Redo)>,
}

/// How long an exec record took to become a deny entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Decisions measured.
    pub count: u64,
    /// The last one in nanoseconds, from the kernel's timestamp to the written entry.
    pub last_ns: u64,
    /// The longest.
    pub longest_ns: u64,
}

impl Judge {
    /// Puts the parts together.
    #[allow(clippy::too_many_arguments, reason = "called once, from the wiring")]
    pub(super) fn new(
        config: Config,
        chain: Chain<Noting<Live>>,
        store: Store,
        enforcer: Box<dyn Enforcer + Send>,
        kernel: Kernel,
        fanout: Fanout,
        watchers: broadcast::Sender<WatchItem>,
        boot: String,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            chain,
            store,
            enforcer,
            kernel,
            fanout,
            ledger: Ledger::default(),
            rows: Rows::default(),
            watchers,
            recorder: None,
            boot,
            began: now,
            latency: Latency::default(),
            enforcement_off: None,
            last_tick: now,
            last_snapshot: now,
            last_health: now,
            last_prune: now,
            last_hatches: now,
            last_idle: now,
            last_look: now,
            losses: LossWatch::default(),
            unlearning: None,
        }
    }

    /// The time now, on the clock that events have.
    pub fn now(&self) -> Time {
        self.chain.enricher.clock().at(boot_now())
    }

    /// Takes one record from a ring.
    pub fn take(&mut self, lane: Lane, taken: &Taken) {
        match decode(&taken.bytes) {
            Ok(record) => {
                self.ledger.decoded(&record);
                self.feed(&record, &taken.bytes);
            }
            Err(reject) => {
                self.ledger.rejected(&reject, &taken.bytes);
                self.write_record(&taken.bytes);
            }
        }
        if lane == Lane::Bulk {
            self.pass_time();
        }
    }

    /// Takes a process that is older than the agent.
    pub fn take_in(&mut self, exec: Exec, recorded: bool) {
        let record = Record::Exec(Box::new(exec));
        self.ledger.decoded(&record);
        let recorder = if recorded { None } else { self.recorder.take() };
        let bytes = record.bytes().to_vec();
        self.feed(&record, &bytes);
        if recorder.is_some() {
            self.recorder = recorder;
        }
    }

    fn feed(&mut self, record: &Record, bytes: &[u8]) {
        let Step { event, outcomes, .. } = self.chain.feed(record);
        for note in self.chain.enricher.drain_notes() {
            if let Note::Cgroup { id, path: Some(path) } = &note {
                self.chain.policy.protected_mut().note_cgroup(*id, path);
            }
            self.write_note(&note);
        }
        self.write_record(bytes);
        let Some(event) = event else { return };
        self.losses.note(&event.process);
        self.ledger.enriched(record.kind(), &*event.process.exe != crate::enrich::UNKNOWN_EXE);
        if let (Record::Exec(exec), Body::Exec(_)) = (record, &event.body) {
            let program = model::facts::program(&event.process.exe, event.process.script.as_ref());
            let key = RowKey { cgroup: exec.cgroup, exe: exec.exe };
            let changes = self.rows.on_exec(&event.process.workload, &program, key);
            self.tell_kernel(changes);
        }
        let made = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Decision(DecisionChange::Made, _)));
        if !outcomes.is_empty() {
            self.carry_out(outcomes, event.at);
        }
        if made {
            self.latency.last_ns = boot_now().saturating_sub(event.at.boot_ns);
            self.latency.longest_ns = self.latency.longest_ns.max(self.latency.last_ns);
            self.latency.count += 1;
        }
        if self.watchers.receiver_count() > 0 {
            let _ = self.watchers.send(WatchItem::Event(event.clone()));
        }
        self.fanout.send(&Message::Event(event));
    }

    /// Writes, denies, tells: in the order that [`commit`] fixes.
    pub(super) fn carry_out(&mut self, mut outcomes: Vec<Outcome>, at: Time) {
        for outcome in &mut outcomes {
            if let Outcome::Decision(DecisionChange::Made, decision) = outcome {
                gates::open(decision, &self.rows, self.chain.scorer.model());
                self.chain.policy.set_gates(decision.number, &decision.allowed_files);
            }
        }
        let enforcer = &mut self.enforcer;
        let mut apply = |live: &[crate::decision::Decision], now: u64| {
            enforcer.apply(live, now).map(|_| ()).map_err(|error| error.to_string())
        };
        let done = commit(&mut self.chain.policy, outcomes, &mut self.store, &mut apply, at);
        self.chain.follow(&done.told, at);
        for outcome in &done.told {
            self.tell(outcome, at);
        }
    }

    fn tell(&mut self, outcome: &Outcome, at: Time) {
        match outcome {
            Outcome::Finding(change, finding) => {
                let change = match change {
                    crate::policy::finding::Change::Created => Change::Created,
                    crate::policy::finding::Change::Updated => Change::Updated,
                    crate::policy::finding::Change::Closed => Change::Closed,
                };
                let finding = Arc::new(finding.clone());
                let _ = self.watchers.send(WatchItem::Finding(change, finding.clone()));
                self.fanout.send(&Message::Finding(change, finding));
            }
            Outcome::Decision(change, decision) => {
                let change = match change {
                    DecisionChange::Made => Change::Created,
                    DecisionChange::Extended | DecisionChange::Hit => Change::Updated,
                    DecisionChange::Ended => Change::Closed,
                };
                if let (Change::Created, Target::Tree { cookie }) = (change, &decision.target)
                    && let Err(error) = self.kernel.reach_deep(*cookie)
                {
                    tracing::error!(%error, "a decision may not reach members more than eight generations away");
                }
                match change {
                    Change::Created => self.contain(decision, at),
                    Change::Closed => self.uncontain(decision),
                    Change::Updated => (),
                }
                // As it is now: with what containment came to.
                let now = self.chain.policy.decisions().get(decision.number).unwrap_or(decision).clone();
                self.fanout.send(&Message::Decision(change, Arc::new(now)));
            }
            Outcome::Mode(row) => {
                let note = Note::Mode { workload: row.workload.to_string(), mode: row.mode };
                self.write_note(&note);
                self.follow_mode(&row.workload.clone(), row.mode, at);
            }
            Outcome::Mark(..) | Outcome::Audit(_) => (),
        }
    }

    /// The kernel's filter follows the mode, and a demo's clock runs normally from the first frozen baseline on.
    fn follow_mode(&mut self, workload: &Arc<str>, mode: Mode, at: Time) {
        let changes = if mode == Mode::Learning {
            self.rows.make_learning(workload)
        } else {
            let normal = self.normal(workload);
            self.rows.make_ready(workload, &normal)
        };
        self.tell_kernel(changes);
        let clock = self.chain.enricher.clock();
        if mode > Mode::Learning && clock.factor != 1.0 {
            let clock = clock.with_factor(at.boot_ns, 1.0);
            self.chain.enricher.set_clock(clock);
            self.write_note(&Note::Clock(clock));
        }
    }

    fn normal(&self, workload: &str) -> BTreeMap<Arc<str>, Normal> {
        let model = self.chain.scorer.model();
        let mut all: BTreeMap<Arc<str>, Normal> = BTreeMap::new();
        for exe in model.exes(workload) {
            let trigrams = model.seen_trigrams(workload, &exe);
            all.insert(exe, Normal { trigrams, destinations: Vec::new() });
        }
        for known in model.frozen_destinations(workload) {
            let whole = known.prefix_len == if known.net.is_ipv4() { 32 } else { 128 };
            if whole && let Some(normal) = all.get_mut(&known.exe) {
                normal.destinations.push((known.net, known.port, known.protocol));
            }
        }
        all
    }

    fn tell_kernel(&mut self, changes: Vec<RowChange>) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            let done = match &change {
                RowChange::Fill { row, bits } => self.kernel.fill_row(*row, bits),
                RowChange::Point { key, row } => self.kernel.point(*key, *row),
                RowChange::Ready { cgroup, ready } => self.kernel.mark_ready(*cgroup, *ready),
                RowChange::Destination(key) => self.kernel.know_destination(*key),
            };
            if let Err(error) = done {
                tracing::warn!(%error, ?change, "the kernel's filter could not be told; findings come later, not less");
            }
        }
        if let Err(error) = self.kernel.announce_rows() {
            tracing::warn!(%error, "the kernel's filter could not be switched on");
        }
    }

    /// Lets time pass, at most every [`TICK`].
    pub fn pass_time(&mut self) {
        if self.last_tick.elapsed() < TICK {
            return;
        }
        self.last_tick = Instant::now();
        let at = self.now();
        let outcomes = self.chain.tick(at);
        if !outcomes.is_empty() {
            self.carry_out(outcomes, at);
        }
        self.look_after_history(at);
        if is_due(&mut self.last_snapshot, SNAPSHOT_EVERY) {
            self.keep_snapshot();
        }
        if is_due(&mut self.last_health, HEALTH_EVERY) {
            self.report_health(at);
        }
        if is_due(&mut self.last_look, LOOK_EVERY) {
            self.look_for_loss(at);
        }
        if is_due(&mut self.last_idle, IDLE_EVERY)
            && let Err(error) = self.kernel.sweep_tasks()
        {
            tracing::debug!(%error, "idle threads are shown when they wake up");
        }
        if is_due(&mut self.last_hatches, HATCHES_EVERY) {
            self.close_hatches();
        }
        if is_due(&mut self.last_prune, PRUNE_EVERY)
            && let Err(error) = self.store.prune(at)
        {
            tracing::warn!(%error, "old findings could not be pruned");
        }
    }

    fn look_for_loss(&mut self, at: Time) {
        let stats = self.kernel.stats().unwrap_or_default();
        let lost = stats.iter().map(|(_, _, stats)| stats.ring_full + stats.missed + stats.no_storage).sum();
        let outcomes = match self.losses.look(lost) {
            Some(Said::Lasts(text)) => self.chain.policy.about_loss(text, at),
            Some(Said::Over) => self.chain.policy.loss_is_over(at),
            None => return,
        };
        self.carry_out(outcomes, at);
    }

    /// Tells the kernel which sockets isolation closes, as they are bound now.
    pub(super) fn close_hatches(&mut self) {
        let configured = self.config.kernel.hatches.iter().map(PathBuf::as_path);
        if let Err(error) = self.kernel.watch_hatches(HATCHES.iter().map(Path::new).chain(configured)) {
            tracing::warn!(%error, "isolation may leave a socket of a container runtime or the system bus open");
        }
    }

    fn report_health(&mut self, at: Time) {
        if let Ok(status) = serde_json::to_value(self.status()) {
            self.fanout.send(&Message::Health(Arc::new(HealthReport { at, status })));
        }
    }

    /// Keeps what a restart continues from.
    pub fn keep_snapshot(&mut self) {
        let at = self.now();
        let saved = self.chain.scorer.model().snapshot().map_err(|error| error.to_string()).and_then(|model| {
            let state = self.chain.policy.state();
            self.store.save_snapshot(&model, &state, &self.boot, at).map_err(|error| error.to_string())
        });
        if let Err(error) = saved {
            tracing::error!(error, "what was learnt could not be kept");
            let outcomes =
                self.chain.policy.about_agent("snapshot", format!("a snapshot could not be kept: {error}"), at);
            self.carry_out(outcomes, at);
        }
    }

    /// The ledger as it stands.
    pub fn reconcile(&self) -> Reconciliation {
        let mut both = self.ledger.reconcile(&self.kernel.stats().unwrap_or_default());
        both.storage.recursion = self.kernel.recursion_misses();
        both
    }

    fn write_note(&mut self, note: &Note) {
        let failed = self.recorder.as_mut().is_some_and(|recorder| recorder.note(note).is_err());
        self.stop_recording_if(failed);
    }

    fn write_record(&mut self, bytes: &[u8]) {
        let failed = self.recorder.as_mut().is_some_and(|recorder| recorder.record(bytes).is_err());
        self.stop_recording_if(failed);
    }

    fn stop_recording_if(&mut self, failed: bool) {
        if failed {
            tracing::error!("the recording cannot be written any more and was given up; what is there can be replayed");
            self.recorder = None;
        }
    }
}

/// Whether so much time has passed; then it begins anew.
fn is_due(last: &mut Instant, every: Duration) -> bool {
    let due = last.elapsed() >= every;
    if due {
        *last = Instant::now();
    }
    due
}
