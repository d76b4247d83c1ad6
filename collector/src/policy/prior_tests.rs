//! What speaks before anything is learnt, and what is not worth a word although it was never seen.

use collector_common::process::{EXEC_MEMORY, EXEC_UNLINKED};
use model::event::{Event, Process};
use model::{Model, Params, Standing};

use super::*;

fn of(workload: &str, process: &Arc<Process>) -> Arc<Process> {
    Arc::new(Process { workload: workload.into(), ..(**process).clone() })
}

/// The model and the policy, as the agent chains them, for a workload that learns.
fn feed(policy: &mut Policy, model: &mut Model, event: &Event) {
    let verdict = model.observe(event, Standing::Learning);
    policy.on_event(event, verdict.as_ref(), &HEALTHY);
}

/// Acceptance 10.
#[test]
fn in_a_container_of_twenty_seconds_code_from_memory_is_high_and_its_start_is_nothing() {
    let (mut policy, mut model) = (policy_in(Mode::Learning), Model::new(Params::default()).unwrap());
    for image in 0..20 {
        let workload = format!("container:image{image}/one");
        for second in 0..20 {
            let cookie = 1_000 * (image + 1) + second;
            let started = of(&workload, &process(cookie, &format!("/opt/{image}/program{}", second % 7), &[10, 1]));
            feed(&mut policy, &mut model, &exec(second, &started, &format!("/opt/{image}/init")));
            feed(
                &mut policy,
                &mut model,
                &connect(second, &started, &format!("10.{image}.{second}.9:{}", 80 + second)),
            );
        }
    }
    assert_eq!(policy.findings().count(), 0, "twenty images that nobody has seen, and no page");
    let hidden = of("container:image7/one", &process(90_000, "memfd:x", &[10, 1]));
    feed(&mut policy, &mut model, &exec_bits(20, &hidden, "/opt/7/init", EXEC_MEMORY));
    assert_eq!(finding(&policy, FindingType::MemoryExec).severity, Severity::High);
}

#[test]
fn code_from_memory_that_the_host_knows_and_deleted_files_are_medium() {
    for (bits, prior, severity) in [
        (EXEC_MEMORY, 20.0, Severity::High),
        (EXEC_MEMORY, 1.0, Severity::Medium),
        (EXEC_UNLINKED, 20.0, Severity::Medium),
    ] {
        let mut policy = policy_in(Mode::Learning);
        let mut known = verdict(40, 0.0, prior, Some(Fact::MemoryExec { exe: "memfd:x".into() }));
        known.facts[0].bits = prior;
        let started = exec_bits(100, &process(40, "memfd:x", &[20, 10, 1]), "/srv/helper", bits);
        policy.on_event(&started, Some(&known), &HEALTHY);
        assert_eq!(finding(&policy, FindingType::MemoryExec).severity, severity, "{bits} {prior}");
    }
}

/// Acceptance 3.
#[test]
fn one_new_port_is_told_at_once_and_first_and_daily_bread_not_at_all() {
    let told = |expected: bool, forest: f64| {
        let mut policy = policy_in(Mode::Monitoring);
        let mut one = verdict(30, forest, 10.0, place());
        one.facts[0].expected = expected;
        policy.on_event(&connect(100, &shell(), "203.0.113.7:4444"), Some(&one), &HEALTHY);
        policy.findings().next().cloned()
    };
    let found = told(false, 8.0).expect("a finding");
    assert_eq!((found.kind, found.created), (FindingType::EgressNovel, at(100)));
    assert_eq!((&*found.reasons[0].what, &*found.reasons[0].now), ("destination", "/bin/sh to 203.0.113.7:4444/tcp"));
    assert_eq!(told(true, 8.0), None, "a build job reaches new places all day");
    assert!(told(true, 16.0).is_some(), "but over the threshold all of it is told");
}

#[test]
fn a_finding_says_that_its_program_is_new() {
    let mut policy = policy_in(Mode::Monitoring);
    for stale in [true, false] {
        let said = Verdict { stale, lost: if stale { 0.5 } else { 0.0 }, ..verdict(30, 8.0, 10.0, edge()) };
        policy.on_event(&exec(100, &shell(), "/srv/helper"), Some(&said), &HEALTHY);
    }
    let found = finding(&policy, FindingType::ExecNovel);
    assert!(found.stale && found.lost == 0.25, "half of the calls behind one of two verdicts: {}", found.lost);
}
