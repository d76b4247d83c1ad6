//! Scenarios with hand-made events and verdicts.

use collector_common::process::EXEC_MEMORY;
use ipnet::IpNet;
use model::event::{Deny, Exec, Flow, Process, Window};
use model::{AnomalyScore, Fact, FactSurprise, FeatureVector, Health, HealthState};

use super::decision::Proposal;
use super::mode::ModeRequest;
use super::*;
use crate::decision::{DecisionAction, Destination, Target};
use crate::finding::FindingState;

const SECOND: u64 = 1_000_000_000;
const WEB: &str = "unit:web.service";

pub(super) struct Known {
    healthy: bool,
}

impl Knowledge for Known {
    fn threshold(&self) -> (f64, bool) {
        (24.0, true)
    }

    fn health(&self, _: &str) -> Health {
        let state = if self.healthy { HealthState::Healthy } else { HealthState::Untrained { rows: 3, needed: 64 } };
        Health { state, since: Time::default(), rows: 3, trees: 64, unmodelled: 0, dropped: 0, given_up: 0 }
    }

    fn frozen(&self, _: &str) -> Vec<(IpNet, u16)> {
        vec![("10.0.8.2/32".parse().unwrap(), 5432)]
    }
}

pub(super) const HEALTHY: Known = Known { healthy: true };

pub(super) fn at(second: u64) -> Time {
    Time { unix_ns: (1_000_000 + second) * SECOND, boot_ns: second * SECOND }
}

pub(super) fn process(cookie: u64, exe: &str, ancestors: &[u64]) -> Arc<Process> {
    Arc::new(Process {
        cookie,
        pid: cookie as u32,
        workload: WEB.into(),
        exe: exe.into(),
        script: None,
        cmdline: exe.into(),
        uid: 33,
        loginuid: None,
        cgroup: 77,
        ancestors: ancestors.to_vec(),
        pre_existing: false,
    })
}

pub(super) fn exec_bits(second: u64, process: &Arc<Process>, parent: &str, bits: u32) -> Event {
    let exec = Exec {
        parent: 0,
        parent_exe: parent.into(),
        parent_script: None,
        argv: vec![],
        argv_full: 0,
        bits,
        euid: 33,
        gid: 33,
        netns: 0,
    };
    Event { at: at(second), process: process.clone(), body: Body::Exec(exec) }
}

pub(super) fn exec(second: u64, process: &Arc<Process>, parent: &str) -> Event {
    exec_bits(second, process, parent, 0)
}

pub(super) fn connect(second: u64, process: &Arc<Process>, remote: &str) -> Event {
    let flow = Flow {
        socket: 1,
        opener: process.cookie,
        why: 1,
        direction: 1,
        protocol: 6,
        tcp_flags: 2,
        local: "10.0.0.2:40000".parse().unwrap(),
        remote: remote.parse().unwrap(),
        tx_bytes: 0,
        rx_bytes: 0,
        tx_packets: 0,
        rx_packets: 0,
        first_ns: 0,
        last_ns: 0,
        gaps: Default::default(),
        sizes: Default::default(),
    };
    Event { at: at(second), process: process.clone(), body: Body::Flow(flow) }
}

pub(super) fn calls(second: u64, process: &Arc<Process>) -> Event {
    let window = Window {
        tid: 1,
        why: 1,
        missed: 0,
        start_boot_ns: 0,
        errors: 0,
        permission_errors: 0,
        read_bytes: 0,
        write_bytes: 0,
        class: Default::default(),
        novel_trigrams: vec![],
        trace: vec![1],
    };
    Event { at: at(second), process: process.clone(), body: Body::Window(window) }
}

fn deny(second: u64, process: &Arc<Process>, decision: u64) -> Event {
    let deny = Deny {
        decision,
        slot: 1,
        hook: 1,
        action: 0,
        matched: 1,
        protocol: 6,
        suppressed: 0,
        remote: "203.0.113.7:4444".parse().unwrap(),
        file: None,
        shadow: false,
        breaker: false,
    };
    Event { at: at(second), process: process.clone(), body: Body::Deny(deny) }
}

/// A verdict of the episode of `anchor` that began at second 100.
pub(super) fn verdict(anchor: u64, forest: f64, facts: f64, fact: Option<Fact>) -> Verdict {
    let mut contributions = [0.0; 8];
    contributions[0] = forest;
    let score = AnomalyScore { value: forest, depth: 1.9, median_depth: 8.4, gap: 0.0, contributions };
    let facts_list = fact.into_iter().map(|fact| FactSurprise {
        class_a: fact.family().class_a,
        fact,
        bits: 10.0,
        novel: true,
        expected: false,
        usual: "7 edges, none to a shell".to_owned(),
    });
    Verdict {
        vector: FeatureVector { bits: contributions },
        score,
        facts: facts_list.collect(),
        explanation: Default::default(),
        episode: EpisodeView {
            anchor,
            workload: WEB.into(),
            started: at(100),
            last: at(100),
            score: forest + facts,
            forest_sum: forest,
            fact_sum: facts,
            call_sum: 0.0,
            evidence: 1,
            over_threshold: forest + facts >= 24.0,
            peak: Some(score),
        },
        trigrams: vec![],
        complete: true,
        lost: 0.0,
        stale: false,
    }
}

pub(super) fn edge() -> Option<Fact> {
    Some(Fact::ExecEdge { parent: "/srv/helper".into(), child: "/bin/sh".into() })
}

pub(super) fn place() -> Option<Fact> {
    let address = "203.0.113.7".parse().unwrap();
    Some(Fact::Destination { exe: "/bin/sh".into(), address, port: 4444, protocol: 6 })
}

/// systemd(1) > httpd(10) > helper(20) > sh(30)
pub(super) fn policy_in(mode: Mode) -> Policy {
    let row = |mode| ModeRow {
        workload: WEB.into(),
        mode,
        author: Author::Operator("ada".to_owned()),
        reason: "test".to_owned(),
        since: at(1),
        until: None,
        before: Mode::Learning,
    };
    let mut policy = Policy::new(
        Config::default(),
        "web-014".into(),
        Protected::new(4242),
        State::default(),
        vec![row(mode)],
        vec![],
    );
    let init = Process { workload: "unit:init.scope".into(), ..(*process(1, "/sbin/init", &[])).clone() };
    for process in [Arc::new(init), process(10, "/srv/httpd", &[1]), process(20, "/srv/helper", &[10, 1])] {
        policy.note(&exec(2, &process, "?"));
    }
    policy
}

pub(super) fn shell() -> Arc<Process> {
    process(30, "/bin/sh", &[20, 10, 1])
}

pub(super) fn made(outcomes: &[Outcome]) -> Vec<Decision> {
    let decision = |outcome: &Outcome| match outcome {
        Outcome::Decision(DecisionChange::Made, decision) => Some(decision.clone()),
        _ => None,
    };
    outcomes.iter().filter_map(decision).collect()
}

pub(super) fn finding(policy: &Policy, kind: FindingType) -> Finding {
    policy.findings().find(|finding| finding.kind == kind).cloned().unwrap_or_else(|| panic!("no {kind:?}"))
}

fn attack(policy: &mut Policy) -> Vec<Outcome> {
    policy.on_event(&exec(100, &shell(), "/srv/helper"), Some(&verdict(30, 8.0, 10.0, edge())), &HEALTHY);
    policy.on_event(&connect(101, &shell(), "203.0.113.7:4444"), Some(&verdict(30, 16.0, 20.0, place())), &HEALTHY)
}

#[test]
fn a_lone_novelty_is_low_and_denies_nothing() {
    let mut policy = policy_in(Mode::Enforcing);
    let outcomes =
        policy.on_event(&exec(100, &shell(), "/srv/helper"), Some(&verdict(30, 8.0, 10.0, edge())), &HEALTHY);
    let found = finding(&policy, FindingType::ExecNovel);
    assert_eq!(found.severity, Severity::Low);
    assert!(made(&outcomes).is_empty());
    assert_eq!(found.title, "helper started /bin/sh, which unit:web.service never did");
    let names: Vec<&str> = found.tree.iter().map(|process| process.exe.as_ref()).collect();
    assert_eq!(names, ["/sbin/init", "/srv/httpd", "/srv/helper", "/bin/sh"]);
    assert_eq!(found.reasons[0].now, "/srv/helper > /bin/sh");
    assert_eq!(found.depth, Some((1.9, 8.4)));
}

#[test]
fn two_sensors_over_the_threshold_are_high_and_fence_the_subtree() {
    let mut policy = policy_in(Mode::Enforcing);
    let outcomes = attack(&mut policy);
    let decision = &made(&outcomes)[0];
    assert_eq!(decision.target, Target::Tree { cookie: 30 });
    assert_eq!(decision.action, DecisionAction::Fence);
    assert!(!decision.shadow && decision.until.boot_ns == (101 + 600) * SECOND);
    let gate = Destination { net: "10.0.8.2/32".parse().unwrap(), ports: vec![(5432, 5432)] };
    assert_eq!(decision.allowed, [gate], "what the frozen baseline holds stays allowed");
    for kind in [FindingType::ExecNovel, FindingType::EgressNovel] {
        let found = finding(&policy, kind);
        assert_eq!(found.severity, Severity::High);
        assert_eq!(found.decisions, [decision.number]);
        assert_eq!(found.happened, ["exec sh", "connect 203.0.113.7:4444/tcp"]);
        assert!(
            found.reasons.iter().any(|reason| reason.now.contains("process and flow agree")),
            "{:?}",
            found.reasons
        );
    }
    assert_eq!(decision.finding, Some(finding(&policy, FindingType::ExecNovel).id));
}

#[test]
fn monitoring_only_counts() {
    let outcomes = attack(&mut policy_in(Mode::Monitoring));
    assert!(made(&outcomes).iter().all(|decision| decision.shadow));
    assert_eq!(made(&outcomes).len(), 1);
}

#[test]
fn learning_speaks_of_nothing_but_code_in_memory() {
    let mut policy = policy_in(Mode::Learning);
    assert!(attack(&mut policy).is_empty());
    assert_eq!(policy.findings().count(), 0);
    let memory = process(40, "memfd:x", &[20, 10, 1]);
    let fact = Some(Fact::MemoryExec { exe: "memfd:x".into() });
    policy.on_event(
        &exec_bits(100, &memory, "/srv/helper", EXEC_MEMORY),
        Some(&verdict(40, 0.0, 20.0, fact)),
        &HEALTHY,
    );
    let found = finding(&policy, FindingType::MemoryExec);
    assert_eq!((found.severity, found.mode), (Severity::High, Mode::Learning));
}

#[test]
fn nothing_is_denied_when_one_condition_is_missing() {
    let with = |change: &dyn Fn(&mut Verdict), known: &Known| {
        let mut policy = policy_in(Mode::Enforcing);
        policy.on_event(&exec(100, &shell(), "/srv/helper"), Some(&verdict(30, 8.0, 10.0, edge())), &HEALTHY);
        let mut second = verdict(30, 16.0, 20.0, place());
        change(&mut second);
        let outcomes = policy.on_event(&connect(101, &shell(), "203.0.113.7:4444"), Some(&second), known);
        (made(&outcomes).len(), outcomes)
    };
    assert_eq!(with(&|_| (), &HEALTHY).0, 1, "with all of them it is");
    assert_eq!(with(&|v| v.complete = false, &HEALTHY).0, 0, "evidence was lost");
    assert_eq!(with(&|v| v.episode.over_threshold = false, &HEALTHY).0, 0, "below the threshold");
    assert_eq!(with(&|v| v.episode.forest_sum = 0.0, &HEALTHY).0, 0, "the forest does not agree");
    let (none, outcomes) = with(&|_| (), &Known { healthy: false });
    assert_eq!(none, 0, "the model is not healthy");
    let said = |outcome: &Outcome| matches!(outcome, Outcome::Audit(entry) if entry.text.contains("untrained"));
    assert!(outcomes.iter().any(said), "and the audit says so: {outcomes:?}");
}

#[test]
fn sequences_alone_deny_nothing() {
    let mut policy = policy_in(Mode::Enforcing);
    let mut all = Vec::new();
    for second in 100..110 {
        let event = calls(second, &process(20, "/srv/helper", &[10, 1]));
        all.extend(policy.on_event(&event, Some(&verdict(20, 40.0, 0.0, None)), &HEALTHY));
    }
    assert_eq!(finding(&policy, FindingType::Sequence).severity, Severity::Medium, "one sensor is never High");
    assert!(made(&all).is_empty(), "without a never-seen exec edge or destination");
}

#[test]
fn without_an_exec_edge_only_that_process_to_that_destination() {
    let mut policy = policy_in(Mode::Enforcing);
    let main = process(10, "/srv/httpd", &[1]);
    let outcomes =
        policy.on_event(&connect(100, &main, "203.0.113.7:4444"), Some(&verdict(10, 16.0, 20.0, place())), &HEALTHY);
    let to = Destination { net: "203.0.113.7/32".parse().unwrap(), ports: vec![(4444, 4444)] };
    assert_eq!(made(&outcomes)[0].target, Target::TreeAddress { cookie: 10, to });
}

#[test]
fn whoever_starts_one_strange_program_after_another_is_fenced_itself() {
    let mut policy = policy_in(Mode::Enforcing);
    let mut targets = Vec::new();
    for cookie in 30..36 {
        let child = process(cookie, "memfd:x", &[20, 10, 1]);
        let event = exec(100 + cookie, &child, "/srv/helper");
        targets.extend(made(&policy.on_event(&event, Some(&verdict(20, 16.0, 20.0, edge())), &HEALTHY)));
    }
    let targets: Vec<Target> = targets.into_iter().map(|decision| decision.target).collect();
    let tree = |cookie| Target::Tree { cookie };
    assert_eq!(targets, [tree(30), tree(31), tree(32), tree(20)], "each child, then the process behind them");
}

#[test]
fn a_scan_is_fenced_after_a_few_destinations_but_not_out_of_the_main_process() {
    let scan = |anchor: u64, exe: &str, ancestors: &[u64]| {
        let mut policy = policy_in(Mode::Enforcing);
        let scanner = process(anchor, exe, ancestors);
        let probe = |port: u64| {
            let event = connect(100 + port, &scanner, &format!("10.0.8.2:{port}"));
            made(&policy.on_event(&event, Some(&verdict(anchor, 16.0, 20.0, place())), &HEALTHY))
        };
        let targets: Vec<Target> = (1..20).flat_map(probe).map(|decision| decision.target).collect();
        targets
    };
    let by_the_helper = scan(20, "/srv/helper", &[10, 1]);
    assert_eq!(by_the_helper.len(), 4);
    assert_eq!(by_the_helper.last(), Some(&Target::Tree { cookie: 20 }));
    let by_the_server = scan(10, "/srv/httpd", &[1]);
    assert!(by_the_server.iter().all(|target| matches!(target, Target::TreeAddress { .. })), "{by_the_server:?}");
    assert_eq!(by_the_server.len(), 16, "as many as may be live at once");
}

#[test]
fn a_services_main_process_is_never_taken_out_automatically() {
    let mut policy = policy_in(Mode::Enforcing);
    let main = process(11, "/srv/httpd-new", &[1]);
    let outcomes = policy.on_event(&exec(100, &main, "/sbin/init"), Some(&verdict(11, 16.0, 20.0, edge())), &HEALTHY);
    assert!(made(&outcomes).is_empty());
    assert!(outcomes.iter().any(|o| matches!(o, Outcome::Audit(entry) if entry.text.contains("main process"))));
}

#[test]
fn a_protected_process_below_the_target_refuses_it() {
    let mut policy = policy_in(Mode::Enforcing);
    let mut runtime = (*process(50, "/usr/bin/containerd-shim", &[30, 20, 10, 1])).clone();
    runtime.uid = 0;
    policy.note(&exec(90, &Arc::new(runtime), "?"));
    let outcomes = attack(&mut policy);
    assert!(made(&outcomes).is_empty());
    assert!(outcomes.iter().any(|o| matches!(o, Outcome::Audit(entry) if entry.text.contains("container runtime"))));
}

#[test]
fn more_of_the_same_makes_no_second_decision() {
    let mut policy = policy_in(Mode::Enforcing);
    attack(&mut policy);
    let child = process(31, "/usr/bin/curl", &[30, 20, 10, 1]);
    let again = policy.on_event(&exec(102, &child, "/bin/sh"), Some(&verdict(30, 16.0, 30.0, edge())), &HEALTHY);
    assert!(made(&again).is_empty());
    let other_episode =
        policy.on_event(&exec(103, &child, "/bin/sh"), Some(&verdict(31, 16.0, 30.0, edge())), &HEALTHY);
    assert!(made(&other_episode).is_empty(), "the tree above is denied already");
}

#[test]
fn denials_count_but_our_own_do_not_corroborate() {
    let mut policy = policy_in(Mode::Enforcing);
    let mut lone = verdict(30, 20.0, 10.0, edge());
    lone.episode.over_threshold = true;
    let number = made(&policy.on_event(&exec(100, &shell(), "/srv/helper"), Some(&lone), &HEALTHY))[0].number;
    policy.on_event(&deny(101, &shell(), number), None, &HEALTHY);
    let found = finding(&policy, FindingType::ExecNovel);
    assert_eq!((found.denied, found.severity), (1, Severity::Medium));
    let by_ada = Proposal {
        target: Target::Tree { cookie: 30 },
        action: DecisionAction::DenyConnect,
        shadow: false,
        allowed: vec![],
        author: Author::Operator("ada".to_owned()),
        finding: None,
        reason: "looks bad".to_owned(),
        workload: None,
        ttl_ns: 60 * SECOND,
    };
    let ordered = made(&policy.add_decision(by_ada, at(102)).unwrap())[0].number;
    policy.on_event(&deny(103, &shell(), ordered), None, &HEALTHY);
    assert_eq!(finding(&policy, FindingType::ExecNovel).severity, Severity::High);
}

#[test]
fn what_happened_stops_at_the_first_denial() {
    let mut policy = policy_in(Mode::Enforcing);
    let number = made(&attack(&mut policy))[0].number;
    policy.on_event(&deny(102, &shell(), number), None, &HEALTHY);
    policy.on_event(&connect(103, &shell(), "203.0.113.9:80"), Some(&verdict(30, 16.0, 20.0, place())), &HEALTHY);
    assert_eq!(finding(&policy, FindingType::ExecNovel).happened.len(), 2);
}

#[test]
fn a_closed_episode_closes_its_findings_and_a_new_one_has_another_id() {
    let mut policy = policy_in(Mode::Monitoring);
    attack(&mut policy);
    let first = finding(&policy, FindingType::ExecNovel);
    let closed = policy.on_tick(at(500), &[verdict(30, 0.0, 0.0, None).episode]);
    let ended =
        closed.iter().filter(|o| matches!(o, Outcome::Finding(Change::Closed, f) if f.state == FindingState::Closed));
    assert_eq!(ended.count(), 2);
    let mut later = verdict(30, 8.0, 10.0, edge());
    later.episode.started = at(600);
    policy.on_event(&exec(600, &shell(), "/srv/helper"), Some(&later), &HEALTHY);
    assert_ne!(finding(&policy, FindingType::ExecNovel).id, first.id);
}

#[test]
fn the_same_events_give_the_same_ids() {
    let run = || {
        let mut policy = policy_in(Mode::Enforcing);
        attack(&mut policy)
    };
    assert_eq!(run(), run());
}

#[test]
fn leaving_enforcing_undoes_automatic_denials() {
    let mut policy = policy_in(Mode::Enforcing);
    attack(&mut policy);
    assert_eq!(policy.live(at(102)).len(), 1);
    let back = ModeRequest {
        workload: WEB.into(),
        mode: Mode::Monitoring,
        author: Author::Operator("ada".to_owned()),
        reason: "calm".to_owned(),
        expires_ns: None,
        force: false,
    };
    policy.set_mode(back, &Readiness::default(), at(103)).unwrap();
    assert!(policy.live(at(103)).is_empty());
}

#[path = "commit_tests.rs"]
mod commit;

#[path = "readiness_tests.rs"]
mod readiness;

#[path = "prior_tests.rs"]
mod prior;

#[path = "storm_tests.rs"]
mod storm;
