//! Carries outcomes out in the order that matters: releases at once; the audit row of a new denial before its kernel entry.

use model::event::Time;

use super::{DecisionChange, Entry, Outcome, Policy};
use crate::decision::{Author, Decision, DecisionState};
use crate::store::Store;

/// Makes the kernel's entries equal to the live decisions that it is given, at a boot time in nanoseconds; its error is one
/// sentence.
pub type Apply<'a> = &'a mut dyn FnMut(&[Decision], u64) -> Result<(), String>;

/// What became of the outcomes.
#[derive(Debug, Default)]
pub struct Committed {
    /// What has to be told: the outcomes as they turned out, new ones included.
    pub told: Vec<Outcome>,
    /// The kernel's entries were written anew.
    pub applied: bool,
    /// Writes to the store that failed.
    pub store_errors: u32,
}

/// Writes the outcomes to the store and the kernel.
///
/// An automatic decision whose audit row cannot be written is taken back and never reaches the kernel. So is one that the
/// kernel's tables refuse. What ends a decision waits for nothing: not for the store, and not for another decision.
pub fn commit(policy: &mut Policy, outcomes: Vec<Outcome>, store: &mut Store, apply: Apply, at: Time) -> Committed {
    let mut done = Committed::default();
    let changes = |outcome: &Outcome, wanted: DecisionChange| matches!(outcome, Outcome::Decision(change, _) if *change == wanted);
    let ends = outcomes.iter().any(|outcome| changes(outcome, DecisionChange::Ended));
    let made: Vec<Decision> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Decision(DecisionChange::Made, decision) => Some(decision.clone()),
            _ => None,
        })
        .collect();
    let moved = outcomes.iter().any(|outcome| changes(outcome, DecisionChange::Extended));
    if ends {
        let unwritten = |decision: &Decision| made.iter().any(|new| new.number == decision.number);
        let live: Vec<Decision> = policy.live(at).into_iter().filter(|decision| !unwritten(decision)).collect();
        apply_or_report(policy, &live, apply, at, &mut done);
    }
    let mut taken_back = Vec::new();
    for decision in &made {
        if let Err(error) = store.record_made(decision) {
            done.store_errors += 1;
            taken_back.extend(refuse_unaudited(policy, decision, &error.to_string(), at, &mut done));
        }
    }
    if made.len() > taken_back.len() || moved {
        let live = policy.live(at);
        if let Err(error) = apply(&live, at.boot_ns) {
            let kept = made.iter().filter(|decision| !taken_back.contains(&decision.number)).collect::<Vec<_>>();
            for decision in kept {
                taken_back.push(decision.number);
                done.told.extend(policy.retract(decision.number, &error, at));
            }
            done.told.extend(policy.about_agent("kernel-entries", format!("the kernel refused a denial: {error}"), at));
            let live = policy.live(at);
            apply_or_report(policy, &live, apply, at, &mut done);
        } else {
            done.applied = true;
        }
    }
    let stands = |outcome: &Outcome| !matches!(outcome, Outcome::Decision(DecisionChange::Made, decision) if taken_back.contains(&decision.number));
    let added = std::mem::take(&mut done.told);
    done.told = outcomes.into_iter().filter(stands).chain(added).collect();
    keep(policy, store, at, &mut done);
    done
}

fn apply_or_report(policy: &mut Policy, live: &[Decision], apply: Apply, at: Time, done: &mut Committed) {
    match apply(live, at.boot_ns) {
        Ok(()) => done.applied = true,
        Err(error) => {
            let text = format!("the kernel's deny entries could not be brought up to date: {error}");
            done.told.extend(policy.about_agent("kernel-entries", text, at));
        }
    }
}

/// A person's decision goes on without its row: somebody is there to know. Ours does not.
fn refuse_unaudited(
    policy: &mut Policy,
    decision: &Decision,
    error: &str,
    at: Time,
    done: &mut Committed,
) -> Option<u64> {
    let text = format!("the audit cannot be written, so nothing is denied automatically: {error}");
    done.told.extend(policy.about_agent("audit", text, at));
    if decision.author != Author::Automatic {
        return None;
    }
    done.told.extend(policy.retract(decision.number, "its audit row could not be written", at));
    Some(decision.number)
}

fn keep(policy: &mut Policy, store: &mut Store, at: Time, done: &mut Committed) {
    let mut failed = None;
    for outcome in &done.told {
        let written = match outcome {
            Outcome::Finding(_, finding) => store.save_finding(finding),
            Outcome::Decision(DecisionChange::Made, _) => Ok(()),
            Outcome::Decision(DecisionChange::Hit, decision) => store.save_decision(decision),
            Outcome::Decision(change, decision) => {
                store.save_decision(decision).and_then(|()| store.audit(&audit_entry(*change, decision, at)))
            }
            Outcome::Mode(row) => store.save_mode(row),
            Outcome::Mark(change, mark) => store.save_mark(*change, mark),
            Outcome::Audit(entry) => store.audit(entry),
        };
        if let Err(error) = written {
            done.store_errors += 1;
            failed = Some(error);
        }
    }
    if let Some(error) = failed {
        done.told.extend(policy.about_agent("store", format!("the store cannot be written: {error}"), at));
    }
}

/// The audit row of a changed decision.
pub(crate) fn audit_entry(change: DecisionChange, decision: &Decision, at: Time) -> Entry {
    let ended = match decision.state {
        DecisionState::Released => "decision released",
        DecisionState::Tripped => "decision disarmed",
        _ => "decision lapsed",
    };
    let what = match change {
        DecisionChange::Made if decision.shadow => "shadow decision made",
        DecisionChange::Made => "decision made",
        DecisionChange::Extended => "decision extended",
        DecisionChange::Hit => "decision hit",
        DecisionChange::Ended => ended,
    };
    Entry {
        at,
        author: decision.author.clone(),
        what: what.to_owned(),
        subject: decision.short(),
        text: decision.release.clone().unwrap_or_else(|| decision.reason.clone()),
    }
}
