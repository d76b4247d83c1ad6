//! The life of decisions.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(second: u64) -> Time {
    Time { unix_ns: (1_000_000 + second) * SECOND, boot_ns: second * SECOND }
}

fn proposal(cookie: u64) -> Proposal {
    Proposal {
        target: Target::Tree { cookie },
        action: DecisionAction::Isolate,
        shadow: false,
        allowed: vec![],
        author: Author::Automatic,
        finding: None,
        reason: "test".to_owned(),
        workload: Some("unit:web.service".into()),
        ttl_ns: 60 * SECOND,
    }
}

fn by_ada(cookie: u64) -> Proposal {
    Proposal { author: Author::Operator("ada".to_owned()), ttl_ns: 600 * SECOND, ..proposal(cookie) }
}

fn book(decisions: &mut Decisions, proposal: Proposal, when: Time) -> Result<Booked, DecisionError> {
    decisions.book(proposal, &Protected::new(1), &Config::default(), when)
}

fn number(booked: Result<Booked, DecisionError>) -> u64 {
    match booked.unwrap() {
        Booked::New(decision) => decision.number,
        other => panic!("not new: {other:?}"),
    }
}

#[test]
fn two_decisions_on_one_key_are_released_one_by_one() {
    let mut decisions = Decisions::default();
    let automatic = number(book(&mut decisions, proposal(7), at(1)));
    let manual = number(book(&mut decisions, by_ada(7), at(2)));
    assert_ne!(automatic, manual, "a person's decision stands beside the automatic one");
    decisions.release(automatic, "ada", "seen", at(3)).unwrap();
    let live: Vec<u64> = decisions.live(at(3)).iter().map(|decision| decision.number).collect();
    assert_eq!(live, [manual]);
    assert_eq!(decisions.release(automatic, "ada", "again", at(4)), Err(DecisionError::NotLive(automatic)));
    decisions.release(manual, "ada", "done", at(5)).unwrap();
    assert!(decisions.live(at(5)).is_empty());
}

#[test]
fn the_same_target_is_extended_not_doubled() {
    let mut decisions = Decisions::default();
    let first = number(book(&mut decisions, proposal(7), at(1)));
    assert_eq!(
        book(&mut decisions, proposal(7), at(10)).unwrap(),
        Booked::Covered(first),
        "nothing worth an audit row"
    );
    let Booked::Extended(longer) = book(&mut decisions, proposal(7), at(40)).unwrap() else { panic!("not extended") };
    assert_eq!((longer.number, longer.until.boot_ns), (first, 100 * SECOND));
}

#[test]
fn a_decision_lapses_at_its_deadline_on_the_boot_clock() {
    let mut decisions = Decisions::default();
    book(&mut decisions, proposal(7), at(1)).unwrap();
    let clock_stepped = Time { unix_ns: u64::MAX / 4, boot_ns: 60 * SECOND };
    assert!(decisions.lapse(clock_stepped).is_empty(), "a step of the calendar moves no deadline");
    let lapsed = decisions.lapse(at(61));
    assert_eq!(lapsed[0].state, DecisionState::Lapsed);
    assert_eq!(lapsed[0].ended, Some(lapsed[0].until));
}

#[test]
fn a_deadline_is_mandatory_and_bounded() {
    let mut decisions = Decisions::default();
    for ttl_ns in [0, u64::MAX] {
        let refused = book(&mut decisions, Proposal { ttl_ns, ..by_ada(7) }, at(1));
        assert!(matches!(refused, Err(DecisionError::Deadline { .. })));
    }
}

#[test]
fn a_persons_decision_needs_a_reason() {
    let wish = Proposal { reason: "  ".to_owned(), ..by_ada(7) };
    assert_eq!(book(&mut Decisions::default(), wish, at(1)), Err(DecisionError::NoReason));
}

#[test]
fn what_a_person_released_is_not_denied_again_automatically() {
    let mut decisions = Decisions::default();
    let first = number(book(&mut decisions, proposal(7), at(1)));
    decisions.release(first, "ada", "benign", at(2)).unwrap();
    assert_eq!(book(&mut decisions, proposal(7), at(3)), Err(DecisionError::Overruled(first)));
    assert!(book(&mut decisions, by_ada(7), at(3)).is_ok(), "but a person may");
}

#[test]
fn the_breaker_ends_only_the_decision_that_it_belongs_to() {
    let mut decisions = Decisions::default();
    let (one, other) =
        (number(book(&mut decisions, proposal(7), at(1))), number(book(&mut decisions, proposal(8), at(1))));
    let (tripped, ended) = decisions.hit(one, 3, true, at(2)).unwrap();
    assert!(ended && tripped.state == DecisionState::Tripped && tripped.hits == 3);
    assert_eq!(decisions.live(at(2)).iter().map(|d| d.number).collect::<Vec<_>>(), [other]);
    let manual = number(book(&mut decisions, by_ada(9), at(3)));
    assert!(!decisions.hit(manual, 1, true, at(4)).unwrap().1, "a person's decision has no breaker");
}

#[test]
fn automatic_decisions_are_bounded() {
    let mut decisions = Decisions::default();
    let max = Config::default().max_automatic as u64;
    for cookie in 1..=max {
        book(&mut decisions, proposal(cookie), at(1)).unwrap();
    }
    assert_eq!(book(&mut decisions, proposal(max + 1), at(2)), Err(DecisionError::TooMany(max as usize)));
    assert!(book(&mut decisions, by_ada(max + 1), at(2)).is_ok());
}

proptest! {
    /// Whatever is booked, released, lapsed and restored: a number names one decision for ever.
    #[test]
    fn numbers_are_never_used_twice(steps in prop::collection::vec((0u8..4, 1u64..6), 1..60)) {
        let mut decisions = Decisions::default();
        let mut given = std::collections::BTreeSet::new();
        for (second, (step, cookie)) in steps.into_iter().enumerate() {
            let now = at(1 + second as u64 * 20);
            match step {
                0 | 1 => if let Ok(Booked::New(made)) = book(&mut decisions, proposal(cookie), now) {
                    prop_assert!(given.insert(made.number), "{} was given out before", made.number);
                },
                2 => { let _ = decisions.release(cookie, "ada", "x", now); }
                _ => {
                    let next = decisions.next_number();
                    let active = decisions.live(now);
                    decisions = Decisions::restore(active, next);
                }
            }
        }
    }
}
