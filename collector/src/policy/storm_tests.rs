//! More findings than people will be disturbed about.

use super::super::*;
use super::{HEALTHY, at, calls, finding, policy_in, process, verdict};

fn strange_calls(policy: &mut Policy, second: u64, cookie: u64) -> Vec<Outcome> {
    let event = calls(second, &process(cookie, "/srv/helper", &[10, 1]));
    policy.on_event(&event, Some(&verdict(cookie, 30.0, 0.0, None)), &HEALTHY)
}

#[test]
fn a_storm_is_one_finding_that_says_how_much_was_held_back_and_ends_with_the_day() {
    let mut policy = policy_in(Mode::Monitoring);
    let told: Vec<Outcome> = (0..40).flat_map(|n| strange_calls(&mut policy, 100 + n, 1_000 + n)).collect();
    let medium = policy.findings().filter(|found| found.kind == FindingType::Sequence);
    assert_eq!(medium.filter(|found| found.severity == Severity::Medium).count(), 2, "a third of five");
    let storm = finding(&policy, FindingType::Storm);
    assert!(storm.title.contains("held back at Low today") && storm.title.contains("unit:web.service"), "{storm:?}");
    let of_storm =
        |outcome: &&Outcome| matches!(outcome, Outcome::Finding(_, found) if found.kind == FindingType::Storm);
    let told = told.iter().filter(of_storm).count();
    assert!((2..=6).contains(&told), "it is told again as it doubles, not each time: {told}");
    assert_eq!(policy.losses().0, 38);
    assert!(policy.on_tick(at(200), &[]).iter().filter(of_storm).count() == 0, "it lasts");
    let tomorrow = policy.on_tick(at(86_400), &[]);
    let closed = |outcome: &&Outcome| matches!(outcome, Outcome::Finding(Change::Closed, found) if found.kind == FindingType::Storm);
    assert_eq!(tomorrow.iter().filter(closed).count(), 1);
}
