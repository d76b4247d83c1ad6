//! How fast recorded records go through decode, enrich, score and policy, on one core beside the thread that grows trees.
//!
//! A host of the corpus: eight days are learnt, every workload becomes enforcing if it may, and the week that follows is replayed,
//! attacks included; once from its files, as `stockade replay` reads them, and once from memory, again and again with later
//! times, for as many hours as are asked for. A recorded day is 200 s of traffic whose event clock runs 432 times faster. So
//! there are two factors to real time: by the event clock the week is a week, with few records; by the boot clock it is 23
//! minutes as dense as they were recorded. The repetitions go by the boot clock: the event clock runs with it there.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use collector::agent::chain::Chain;
use collector::config::Config;
use collector::decision::Author;
use collector::decode::{Record, decode};
use collector::enrich::Enricher;
use collector::enrich::clock::Clock;
use collector::enrich::surroundings::Recorded;
use collector::policy::finding::Change;
use collector::policy::mode::{Mode, ModeRequest};
use collector::policy::protect::Protected;
use collector::policy::{DecisionChange, Outcome, Policy, State};
use collector::replay::run::open;
use collector::replay::{Frame, Recording};
use model::event::Time;
use model::replay::TICK_NS;

const HOST: &str = "datasets/corpus/orchid";
const LEARNT: std::ops::RangeInclusive<u32> = 1..=8;
const WEEK: std::ops::RangeInclusive<u32> = 9..=15;
/// Hours of repetitions, unless this variable says how many: 168 are a week.
const HOURS: (&str, f64) = ("STOCKADE_REPLAY_HOURS", 6.0);
/// Where the boot time stands in every record.
const BOOT_NS: std::ops::Range<usize> = 16..24;
const WEEK_SECONDS: f64 = 7.0 * 86_400.0;

fn main() {
    let mut pipeline = Pipeline::new();
    LEARNT.for_each(|cycle| pipeline.file(cycle));
    pipeline.judge_everything();
    println!("learnt: {} records; all workloads are judged from here", pipeline.counted.records);
    let week = recorded_week(&mut pipeline);
    let hours = std::env::var(HOURS.0).ok().and_then(|hours| hours.parse().ok()).unwrap_or(HOURS.1);
    over_and_over(&mut pipeline, (hours * 3_600.0 / week.seconds()).ceil() as u64);
}

/// From its files, as `stockade replay` reads them.
fn recorded_week(pipeline: &mut Pipeline) -> Counted {
    pipeline.counted = Counted::default();
    let began = Instant::now();
    WEEK.for_each(|cycle| pipeline.file(cycle));
    let (week, took) = (pipeline.counted, began.elapsed().as_secs_f64());
    let (records, seconds) = (week.records as f64, week.seconds());
    println!(
        "a recorded week from its files: {records} records, {:.1} MB, in {took:.2} s: {:.0} records/s; {} findings, {} decisions",
        week.bytes as f64 / 1e6,
        records / took,
        week.findings,
        week.decisions
    );
    println!(
        "  by the event clock {:.0} times real time, at {:.2} records/s",
        WEEK_SECONDS / took,
        records / WEEK_SECONDS
    );
    println!(
        "  by the boot clock {:.0} times real time, at {:.0} records/s and {:.0} syscalls/s",
        seconds / took,
        records / seconds,
        week.calls as f64 / seconds
    );
    week
}

/// From memory, with later times.
fn over_and_over(pipeline: &mut Pipeline, rounds: u64) {
    let days: Vec<Vec<Frame>> =
        WEEK.map(|cycle| recording(cycle).map(|frame| frame.expect("a frame")).collect()).collect();
    pipeline.go_by_the_boot_clock();
    let (mut all, mut spent) = (Counted::default(), 0.0);
    for round in 1..=rounds {
        pipeline.counted = Counted::default();
        let began = Instant::now();
        for day in &days {
            let (from, to) = (first_moment(day), pipeline.now);
            for frame in day {
                match frame {
                    Frame::Note(note) => pipeline.chain.enricher.take_note(note),
                    Frame::Record(bytes) => pipeline.later(bytes, from, to),
                }
            }
        }
        let took = began.elapsed().as_secs_f64();
        spent += took;
        all.records += pipeline.counted.records;
        all.real_ns += pipeline.counted.real_ns;
        if round == 1 || round == rounds {
            println!("  round {round} of {rounds}: {:.0} records/s", pipeline.counted.records as f64 / took);
        }
    }
    println!(
        "the same over and over, {:.1} h at {:.0} records/s: {} records in {spent:.1} s: {:.0} records/s, **{:.0} times real time**",
        all.seconds() / 3_600.0,
        all.records as f64 / all.seconds(),
        all.records,
        all.records as f64 / spent,
        all.seconds() / spent
    );
}

fn recording(cycle: u32) -> Recording<Box<dyn Read>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(HOST).join(format!("cycle-{cycle:02}.stk.gz"));
    Recording::open(open(&path).expect("the corpus is in the repository")).expect("a recording")
}

/// Boot clock of the first record that the kernel wrote: those of processes that ran before have their times.
fn first_moment(day: &[Frame]) -> u64 {
    let written = |frame: &Frame| match frame {
        Frame::Record(bytes) => decode(bytes).ok().filter(|record| !record.is_synthesised()),
        Frame::Note(_) => None,
    };
    day.iter().find_map(written).map_or(0, |record| record.header().boot_ns)
}

/// What went through.
#[derive(Clone, Copy, Default)]
struct Counted {
    records: u64,
    bytes: u64,
    calls: u64,
    findings: u64,
    decisions: u64,
    real_ns: u64,
}

impl Counted {
    fn seconds(&self) -> f64 {
        self.real_ns as f64 / 1e9
    }
}

/// From the bytes of a record to what the policy makes of it.
struct Pipeline {
    chain: Chain<Recorded>,
    last_tick: u64,
    /// Boot clock of the last record.
    now: u64,
    counted: Counted,
}

impl Pipeline {
    fn new() -> Self {
        let config = Config::default();
        let protected = Protected::new(0);
        let policy =
            Policy::new(config.policy.clone(), HOST.into(), protected, State::default(), Vec::new(), Vec::new());
        let enricher = Enricher::new(Clock::real(0, 0), Recorded::default());
        let model = model::Model::new(config.params()).expect("parameters");
        let chain = Chain::new(enricher, model, policy);
        Self { chain, last_tick: 0, now: 0, counted: Counted::default() }
    }

    fn file(&mut self, cycle: u32) {
        let recording = recording(cycle);
        self.chain.enricher.set_clock(recording.info().clock);
        let begin = self.now;
        let mut first = None;
        for frame in recording {
            match frame.expect("a whole recording") {
                Frame::Note(note) => self.chain.enricher.take_note(&note),
                Frame::Record(bytes) => self.take(&bytes),
            }
            if self.now > begin {
                first.get_or_insert(self.now);
            }
        }
        self.counted.real_ns += self.now - first.unwrap_or(self.now);
    }

    fn take(&mut self, bytes: &[u8]) {
        let record = decode(bytes).expect("a good record");
        self.counted.records += 1;
        self.counted.bytes += bytes.len() as u64;
        if let Record::Window(window) = &record {
            self.counted.calls += u64::from(window.n);
        }
        if !record.is_synthesised() {
            self.now = self.now.max(record.header().boot_ns);
        }
        let Some(event) = self.chain.enricher.enrich(&record) else { return };
        if event.at.boot_ns >= self.last_tick + TICK_NS {
            self.last_tick = event.at.boot_ns;
            let outcomes = self.chain.tick(event.at);
            self.keep(outcomes, event.at);
        }
        let at = event.at;
        let outcomes = self.chain.judge(event).outcomes;
        self.keep(outcomes, at);
    }

    fn keep(&mut self, outcomes: Vec<Outcome>, at: Time) {
        self.chain.follow(&outcomes, at);
        for outcome in outcomes {
            match outcome {
                Outcome::Finding(Change::Created, _) => self.counted.findings += 1,
                Outcome::Decision(DecisionChange::Made, _) => self.counted.decisions += 1,
                _ => (),
            }
        }
    }

    /// Every workload is taken from learning to enforcing, as people do it but without being ready.
    fn judge_everything(&mut self) {
        let at = self.chain.enricher.clock().at(self.now);
        for workload in self.chain.scorer.model().workloads() {
            let Some(summary) = self.chain.scorer.model().summary(&workload) else { continue };
            let readiness = self.chain.policy.readiness(&workload, &summary, 0.0, at);
            for mode in [Mode::Monitoring, Mode::Enforcing] {
                let (author, reason) = (Author::Operator("bench".to_owned()), "bench".to_owned());
                let workload = workload.clone();
                let request = ModeRequest { workload, mode, author, reason, expires_ns: None, force: true };
                // People's sessions are never enforced: they stay monitored.
                if let Ok(outcomes) = self.chain.policy.set_mode(request, &readiness, at) {
                    self.keep(outcomes, at);
                }
            }
        }
    }

    fn go_by_the_boot_clock(&mut self) {
        let now = self.chain.enricher.clock().at(self.now);
        self.chain.enricher.set_clock(Clock::real(now.boot_ns, now.unix_ns));
    }

    /// The same record as if what began at one boot time had begun at another. Other times in it stay as they are: no stage asks them.
    fn later(&mut self, bytes: &[u8], from: u64, to: u64) {
        let mut bytes = bytes.to_vec();
        let stamp: &mut [u8; 8] = (&mut bytes[BOOT_NS]).try_into().expect("eight bytes");
        *stamp = (u64::from_ne_bytes(*stamp) + (to - from)).to_ne_bytes();
        let before = self.now;
        self.take(&bytes);
        self.counted.real_ns += self.now - before;
    }
}
