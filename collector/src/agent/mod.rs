//! Wires the stages together: threads, bounded queues, start and ordered shutdown.
//!
//! ```text
//! ring thread ─► inbox (requests, ctrl, bulk) ─► judge thread ─► sinks' threads
//!                  ▲
//! tokio: socket ───┘
//! ```

mod alone;
mod answers;
pub mod chain;
mod containment;
mod gates;
pub mod inbox;
mod judge;
pub mod loss;
mod marks;
pub mod rows;
pub mod take_in;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use collector_common::deny::Action;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, oneshot};

use alone::Alone;
pub use answers::host_name;
use chain::Chain;
use inbox::{Inbox, Item, Lane};
use judge::{Judge, TICK, Taken};

use crate::api::protocol::{ApiError, ErrorCode, Request, WatchItem};
use crate::api::server::{Backend, Caller, serve};
use crate::config::{Config, OnExit};
use crate::contain::freeze;
use crate::enforce::{Enforcer, KernelEnforcer, KernelMaps, NoEnforcer};
use crate::enrich::Enricher;
use crate::enrich::clock::{Clock, boot_now};
use crate::enrich::surroundings::{Live, Noting};
use crate::ledger::Reconciliation;
use crate::loader::{Kernel, KernelOptions, Pins, mount_of_cgroup2};
use crate::policy::protect::{Protected, ProtectedAddress, gateways, resolvers};
use crate::policy::{Policy, State};
use crate::record::{Info, Note, Recorder};
use crate::ring::{RingSink, Rings};
use crate::sinks::Fanout;
use crate::store::{Store, write_back};

/// Items that a slow watcher may be behind before it misses some.
const WATCH_BOUND: usize = 4_096;
/// How often the store's log is written back, on a thread that nobody waits for.
const WRITE_BACK_EVERY: Duration = Duration::from_secs(10);
/// How long sinks may take to send what they hold at the end.
const SINK_PATIENCE: Duration = Duration::from_secs(10);

struct Question {
    caller: Caller,
    request: Request,
    answer: oneshot::Sender<Result<Value, ApiError>>,
}

type Box_ = Inbox<Taken, Question>;

struct IntoInbox(Arc<Box_>);

impl RingSink for IntoInbox {
    fn take(&mut self, lane: Lane, bytes: &[u8]) -> bool {
        self.0.push(lane, Taken { bytes: bytes.to_vec() })
    }

    fn bulk_must_wait(&self) -> bool {
        self.0.bulk_is_full()
    }
}

struct Socket {
    inbox: Arc<Box_>,
    watchers: broadcast::Sender<WatchItem>,
}

impl Backend for Socket {
    fn answer(&self, caller: Caller, request: Request) -> Result<Value, ApiError> {
        let gone = || ApiError::new(ErrorCode::Failed, "the agent is stopping, or too many requests wait");
        let (answer, waiting) = oneshot::channel();
        self.inbox.request(Question { caller, request, answer }).map_err(|_| gone())?;
        waiting.blocking_recv().map_err(|_| gone())?
    }

    fn watch(&self) -> broadcast::Receiver<WatchItem> {
        self.watchers.subscribe()
    }
}

/// Runs the agent until it is told to stop (SIGTERM, SIGINT). Returns the ledger.
///
/// # Errors
///
/// When it cannot start: no kernel programs, no state directory, another agent on the socket.
pub fn run(config: Config) -> anyhow::Result<Reconciliation> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // From here on: whoever ends an agent that is still starting leaves no half of it in the kernel.
    let ends = Ends::listen(&runtime)?;
    let mut alone = Alone::in_state(&config.agent.state_dir)?;
    let bpffs = config.kernel.bpffs.clone();
    let was_mounted = Pins::is_mounted(&bpffs);
    if was_mounted {
        alone.on_bpffs(&bpffs)?;
    }
    let mut kernel = Kernel::load(&options_of(&config))?.seeing()?;
    if !was_mounted {
        // Loading has mounted one, which nobody had before.
        alone.on_bpffs(&bpffs)?;
    }
    let (ctrl, bulk) = kernel.take_rings()?;
    let (watchers, _) = broadcast::channel(WATCH_BOUND);
    let new_pins = kernel.new_pins();
    let started = start(config, kernel, watchers.clone());
    let mut judge = started.inspect_err(|_| new_pins.iter().for_each(Pins::give_up))?;

    let inbox = Arc::new(Box_::default());
    let rings = Rings::start(ctrl, bulk, IntoInbox(inbox.clone())).context("cannot start the ring thread")?;
    let socket_path = judge.config.agent.socket.clone();
    let on_exit = judge.config.agent.on_exit;
    let store_path = judge.config.store();
    let backend = Arc::new(Socket { inbox: inbox.clone(), watchers });
    let (fail, failed) = oneshot::channel();
    let (path, group) = (socket_path.clone(), judge.config.agent.group.clone());
    runtime.spawn(async move {
        if let Err(error) = serve(&path, group.as_deref(), backend).await {
            let _ = fail.send(error);
        }
    });
    let judging = std::thread::Builder::new().name("judge".to_owned()).spawn({
        let inbox = inbox.clone();
        move || {
            work(&mut judge, &inbox);
            judge
        }
    })?;
    std::thread::Builder::new().name("write-back".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(WRITE_BACK_EVERY);
            if let Err(error) = write_back(&store_path) {
                tracing::warn!(%error, "the store's log grows until it can be written back");
            }
        }
    })?;
    tracing::info!("running");
    let stopped = runtime.block_on(ends.wait(failed));

    // In the order of the flow: no new records, then none waiting, then what was learnt is kept, then the sinks.
    rings.finish();
    inbox.close();
    let Ok(mut judge) = judging.join() else { anyhow::bail!("the judge thread panicked; see the log above") };
    judge.keep_snapshot();
    if let Err(error) = judge.chain.scorer.end_history() {
        tracing::warn!(%error, "an incident of before the restart cannot be unlearnt");
    }
    if on_exit == OnExit::Release {
        judge.enforcer.disarm()?;
        freeze::thaw_all_but(&mount_of_cgroup2().unwrap_or_default(), &[]);
    }
    let at = judge.now();
    let nothing_denied = on_exit == OnExit::Release || judge.chain.policy.live(at).is_empty();
    if nothing_denied && let Some(pins) = judge.kernel.pins() {
        // What is pinned only serves denials that outlive the agent.
        pins.remove_all().context("cannot remove the pinned programs; `stockade disarm` does")?;
    }
    let ledger = judge.reconcile();
    if let Some(recorder) = judge.recorder.take() {
        recorder.finish()?;
    }
    for late in judge.fanout.close(SINK_PATIENCE) {
        tracing::warn!(sink = late, "did not finish in time; what it holds is lost unless it has a spool");
    }
    let _ = std::fs::remove_file(&socket_path);
    stopped?;
    Ok(ledger)
}

/// Everything that has to stand before the first record is taken.
fn start(config: Config, mut kernel: Kernel, watchers: broadcast::Sender<WatchItem>) -> anyhow::Result<Judge> {
    prove_denials(&mut kernel, &config);
    let mut judge = assemble(config, kernel, watchers)?;
    take_in::processes(&mut judge);
    judge.close_hatches();
    // Only now: the protected are marked.
    judge.kernel.harden(judge.config.harden.switches())?;
    Ok(judge)
}

fn work(judge: &mut Judge, inbox: &Box_) {
    loop {
        match inbox.take(TICK) {
            Item::Record(lane, taken) => judge.take(lane, &taken),
            Item::Request(Question { caller, request, answer }) => {
                // A client that did not wait is no reason to stop.
                let _ = answer.send(judge.answer(&caller, request));
            }
            Item::Idle => judge.pass_time(),
            Item::End => return,
        }
    }
}

/// The signals that end the agent in order.
struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    /// One that comes from now on is kept until somebody waits.
    fn listen(runtime: &Runtime) -> anyhow::Result<Self> {
        let _inside = runtime.enter();
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(mut self, failed: oneshot::Receiver<anyhow::Error>) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.term.recv() => Ok(()),
            _ = self.int.recv() => Ok(()),
            error = failed => error.map_or_else(|_| Ok(()), Err),
        }
    }
}

/// Says which denials the kernel does not ask for, before anybody relies on them.
fn prove_denials(kernel: &mut Kernel, config: &Config) {
    match kernel.prove() {
        Ok(0) => {
            tracing::warn!("this kernel asks no LSM programs: programs and files are not denied; `stockade doctor`")
        }
        Ok(proven) => tracing::info!(proven, "denials of programs and files are proven"),
        Err(why) => tracing::error!(why, "denials of programs and files could not be proven and are off"),
    }
    if config.harden.switches() != 0 && !kernel.denies(Action::Tamper) {
        tracing::error!("[harden] asks for what this kernel cannot deny: boot with bpf in lsm=; `stockade doctor`");
    }
}

/// How the kernel side is to be loaded.
pub fn options_of(config: &Config) -> KernelOptions {
    KernelOptions {
        scope: config.scope.cgroup.clone(),
        cgroup_mount: mount_of_cgroup2(),
        bpffs: Some(config.kernel.bpffs.clone()),
        ctrl_bytes: config.kernel.ctrl_bytes,
        bulk_bytes: config.kernel.bulk_bytes,
        window_age: Duration::from_millis(config.kernel.window_age_ms),
        file_again: Duration::from_millis(config.kernel.file_again_ms),
        skip_tgid: std::process::id(),
        map_entries: &[],
        only: None,
    }
}

fn assemble(config: Config, kernel: Kernel, watchers: broadcast::Sender<WatchItem>) -> anyhow::Result<Judge> {
    let directory = &config.agent.state_dir;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory, private).with_context(|| format!("cannot protect {}", directory.display()))?;
    let store = Store::open(&config.store())?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let host: Arc<str> = host_name().into();

    let (model, state, same_boot) = restore(&config, &store, &boot)?;
    let policy = Policy::new(
        config.policy.clone(),
        host.clone(),
        protected(&config),
        state,
        store.modes()?,
        store.decisions_to_restore()?,
    )
    .with_marks(store.marks()?);
    let now = Clock::now();
    let clock =
        if config.agent.clock_factor == 1.0 { now } else { now.with_factor(now.boot_ns, config.agent.clock_factor) };
    let chain = Chain::new(Enricher::new(clock, Noting::new(Live::new())), model, policy);
    let (enforcer, enforcement_off) = enforcer_for(&kernel)?;
    let fanout = Fanout::start(config.sinks.clone(), host)?;
    let record = config.agent.record.clone();
    let seed = config.model.seed;
    let mut judge = Judge::new(config, chain, store, enforcer, kernel, fanout, watchers, boot);
    judge.enforcement_off = enforcement_off;
    let history = (judge.config.agent.state_dir.join("history"), judge.config.model.history_mib << 20);
    if history.1 > 0 {
        let at = judge.now();
        judge.chain.scorer.keep_history(&history.0, history.1, at);
    }
    if let Some(path) = record {
        judge.recorder = Some(begin_recording(&path, clock, seed)?);
    }
    let at = judge.now();
    let outcomes = if same_boot { Vec::new() } else { judge.chain.policy.on_reboot(at) };
    judge.carry_out(outcomes, at);
    // Decisions that are still in force are put back: an agent that was killed left them in the kernel, but not in us.
    let live = judge.chain.policy.live(at);
    judge.enforcer.apply(&live, at.boot_ns)?;
    // Only now: what another version pinned goes on denying until what is to be denied stands in our own maps.
    for older in judge.kernel.pins().map(Pins::others).unwrap_or_default() {
        match older.remove_all() {
            Ok((links, maps)) => {
                let directory = older.directory().display().to_string();
                tracing::warn!(directory, links, maps, "removed what another version of Stockade had pinned");
            }
            Err(error) => {
                tracing::error!(%error, "what another version of Stockade pinned could not be removed: `stockade disarm`")
            }
        }
    }
    // What an earlier agent froze and nobody decided to keep frozen goes on.
    let kept: Vec<u64> = live.iter().map(|decision| decision.number).collect();
    let thawed = freeze::thaw_all_but(&mount_of_cgroup2().unwrap_or_default(), &kept);
    if thawed > 0 {
        tracing::warn!(thawed, "cgroups that an earlier agent froze were thawed: their decisions are over");
    }
    Ok(judge)
}

/// Who writes deny entries: nobody, when the programs do not read this kernel as `/proc` does.
fn enforcer_for(kernel: &Kernel) -> anyhow::Result<(Box<dyn Enforcer + Send>, Option<String>)> {
    match kernel.self_check() {
        Ok(text) => {
            tracing::info!(text, "self-check");
            Ok((Box::new(KernelEnforcer::new(KernelMaps::of(kernel)?)), None))
        }
        Err(why) => {
            tracing::error!(why, "the self-check failed: nothing will be denied");
            Ok((Box::<NoEnforcer>::default(), Some(format!("enforcement: the self-check failed: {why}"))))
        }
    }
}

fn restore(config: &Config, store: &Store, boot: &str) -> anyhow::Result<(model::Model, State, bool)> {
    for age in 0..2 {
        let Some(saved) = store.snapshot(age)? else { break };
        match model::Model::restore(&saved.model) {
            Ok(model) => return Ok((model, store.policy_state(Some(&saved))?, saved.boot == boot)),
            Err(error) => tracing::error!(%error, age, "a model snapshot cannot be used; trying the one before it"),
        }
    }
    let model = match &config.model.start {
        Some(path) => crate::replay::run::restored(path)?,
        None => model::Model::new(config.params())?,
    };
    Ok((model, store.policy_state(None)?, true))
}

/// Who and what is never denied, besides what the policy finds by itself.
fn protected(config: &Config) -> Protected {
    let mut protected = Protected::new(std::process::id());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    protected.add_addresses(resolvers(&read("/etc/resolv.conf")));
    protected.add_addresses(gateways(&read("/proc/net/route")));
    let named = config.policy.protected_addresses.iter();
    protected.add_addresses(named.map(|net| ProtectedAddress { net: *net, port: None, why: "configured".to_owned() }));
    protected
}

fn begin_recording(path: &Path, clock: Clock, seed: u64) -> anyhow::Result<judge::FileRecorder> {
    let file = File::create(path).with_context(|| format!("cannot make the recording {}", path.display()))?;
    let mut recorder = Recorder::new(BufWriter::new(file), &Info::of_this_host(clock))?;
    recorder.note(&Note::Seed(seed))?;
    recorder.note(&Note::Clock(clock))?;
    tracing::info!(path = %path.display(), boot_ns = boot_now(), "recording");
    Ok(recorder)
}
