//! The order of audit and kernel, and what a restart continues from.

use super::super::*;
use super::{HEALTHY, SECOND, WEB, at, attack, connect, made, place, policy_in, shell, verdict};
use crate::decision::DecisionState;
use crate::store::Store;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("stockade.db")).unwrap();
    (directory, store)
}

#[test]
fn the_audit_row_is_there_before_the_kernel_entry() {
    let (_directory, mut store) = store();
    let path = store.path().to_owned();
    let mut policy = policy_in(Mode::Enforcing);
    let outcomes = attack(&mut policy);
    let mut rows_at_entry = None;
    let mut apply = |live: &[Decision], _: u64| {
        let other = rusqlite::Connection::open(&path).unwrap();
        let rows: i64 =
            other.query_row("SELECT count(*) FROM audit WHERE what = 'decision made'", [], |row| row.get(0)).unwrap();
        rows_at_entry = Some((live.len(), rows));
        Ok(())
    };
    let done = commit(&mut policy, outcomes, &mut store, &mut apply, at(101));
    assert_eq!(rows_at_entry, Some((1, 1)));
    assert!(done.applied && done.store_errors == 0);
}

#[test]
fn a_store_that_fails_means_no_entry_but_a_finding() {
    let (_directory, mut store) = store();
    let mut policy = policy_in(Mode::Enforcing);
    let outcomes = attack(&mut policy);
    store.refuse_writes(true);
    let mut entries = 0;
    let done = commit(
        &mut policy,
        outcomes,
        &mut store,
        &mut |live, _| {
            entries += live.len();
            Ok(())
        },
        at(101),
    );
    assert_eq!(entries, 0, "nothing reached the kernel");
    assert!(policy.live(at(101)).is_empty() && made(&done.told).is_empty());
    assert!(done.told.iter().any(|o| matches!(o, Outcome::Finding(_, f) if f.kind == FindingType::Agent)));
}

#[test]
fn releases_wait_for_nothing() {
    let (_directory, mut store) = store();
    let mut policy = policy_in(Mode::Enforcing);
    let outcomes = attack(&mut policy);
    commit(&mut policy, outcomes, &mut store, &mut |_, _| Ok(()), at(101));
    store.refuse_writes(true);
    let number = policy.live(at(102))[0].number;
    let released = policy.release(number, "ada", "benign", at(102)).unwrap();
    let mut left = None;
    commit(
        &mut policy,
        released,
        &mut store,
        &mut |live, _| {
            left = Some(live.len());
            Ok(())
        },
        at(102),
    );
    assert_eq!(left, Some(0), "the kernel was told although the store is broken");
}

#[test]
fn what_the_kernel_refuses_is_not_shown_as_in_force() {
    let (_directory, mut store) = store();
    let mut policy = policy_in(Mode::Enforcing);
    let outcomes = attack(&mut policy);
    let mut refuse =
        |live: &[Decision], _: u64| if live.is_empty() { Ok(()) } else { Err("deny_tree is full".to_owned()) };
    let done = commit(&mut policy, outcomes, &mut store, &mut refuse, at(101));
    assert!(policy.live(at(101)).is_empty());
    let agent = done.told.iter().find_map(|o| match o {
        Outcome::Finding(_, finding) if finding.kind == FindingType::Agent => Some(finding.title.clone()),
        _ => None,
    });
    assert!(agent.is_some_and(|title| title.contains("deny_tree is full")));
    assert_eq!(store.decisions(10).unwrap()[0].state, DecisionState::Lapsed, "the store knows that it never was");
}

#[test]
fn a_restart_continues_where_it_stopped() {
    let (_directory, mut store) = store();
    let mut policy = policy_in(Mode::Enforcing);
    let rows: Vec<ModeRow> = policy.modes().rows().cloned().collect();
    for row in &rows {
        store.save_mode(row).unwrap();
    }
    let outcomes = attack(&mut policy);
    commit(&mut policy, outcomes, &mut store, &mut |_, _| Ok(()), at(101));
    store.save_snapshot(b"model", &policy.state(), "boot-1", at(101)).unwrap();
    let saved = store.snapshot(0).unwrap();
    let state = store.policy_state(saved.as_ref()).unwrap();
    assert_eq!(state, policy.state());
    let mut restarted = Policy::new(
        Config::default(),
        "web-014".into(),
        Protected::new(4242),
        state,
        store.modes().unwrap(),
        store.decisions_to_restore().unwrap(),
    );
    assert_eq!(restarted.modes(), policy.modes());
    assert_eq!(restarted.decisions(), policy.decisions());
    let next = connect(110, &shell(), "203.0.113.8:443");
    let verdict = verdict(30, 17.123_456_789_012_345, 21.1, place());
    assert_eq!(restarted.on_event(&next, Some(&verdict), &HEALTHY), policy.on_event(&next, Some(&verdict), &HEALTHY));
    assert_eq!(restarted.state(), policy.state());
}

#[test]
fn a_reboot_ends_decisions_and_findings_of_processes_that_are_gone() {
    let mut policy = policy_in(Mode::Enforcing);
    attack(&mut policy);
    let now = Time { unix_ns: at(200).unix_ns, boot_ns: SECOND };
    policy.on_reboot(now);
    assert!(policy.live(now).is_empty());
    assert_eq!(policy.findings().count(), 0);
    assert_eq!(policy.modes().of(WEB), Mode::Enforcing);
}

#[test]
fn what_would_have_been_denied_is_counted_from_a_time_on() {
    let (_directory, mut store) = store();
    let mut policy = policy_in(Mode::Monitoring);
    let outcomes = attack(&mut policy);
    assert!(made(&outcomes).iter().all(|decision| decision.shadow));
    commit(&mut policy, outcomes, &mut store, &mut |_, _| Ok(()), at(101));
    let since = |second| store.shadows_since(WEB, at(second).unix_ns).unwrap();
    assert_eq!((since(1), since(102)), (1, 0));
    assert_eq!(store.shadows_since("unit:other.service", 0).unwrap(), 0);
}
