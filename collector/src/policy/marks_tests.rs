//! Marks: what they cover, what they do not, and that they can be taken back.

use collector_common::process::EXEC_MEMORY;
use model::FactSurprise;

use super::*;
use crate::finding::FindingState;
use crate::policy::finding::Change;
use crate::policy::mode::Mode;
use crate::policy::tests::{
    HEALTHY, at, connect, edge, exec, exec_bits, finding, made, place, policy_in, process, shell, verdict,
};
use crate::policy::{Outcome, Policy};

fn with_facts(facts: impl IntoIterator<Item = Fact>) -> Verdict {
    let mut verdict = verdict(30, 20.0, 20.0, None);
    verdict.facts = facts
        .into_iter()
        .map(|fact| FactSurprise {
            class_a: fact.family().class_a,
            fact,
            bits: 10.0,
            novel: true,
            expected: false,
            usual: String::new(),
        })
        .collect();
    verdict
}

fn found(outcomes: &[Outcome]) -> Vec<FindingType> {
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Finding(Change::Created, finding) => Some(finding.kind),
        _ => None,
    };
    outcomes.iter().filter_map(kind).collect()
}

fn wish(word: Word) -> Wish {
    Wish { word, author: Author::Operator("ada".to_owned()), reason: "our own helper".to_owned(), until: None }
}

/// A policy in which a person said that the helper may start a shell.
fn marked(reach: Reach, mode: Mode) -> Policy {
    let mut policy = policy_in(mode);
    policy.on_event(&exec(100, &shell(), "/srv/helper"), Some(&verdict(30, 8.0, 10.0, edge())), &HEALTHY);
    let found = finding(&policy, FindingType::ExecNovel);
    let word = benign(&found, reach, vec![]).unwrap();
    let outcomes = policy.mark(&found, wish(word), at(101)).unwrap();
    let closes = |o: &Outcome| matches!(o, Outcome::Finding(Change::Closed, f) if f.state == FindingState::Closed);
    assert!(outcomes.iter().any(closes), "what is fine does not stay open");
    policy
}

/// Another subtree starts the same shell, which is worth a denial.
fn again(policy: &mut Policy, second: u64, facts: impl IntoIterator<Item = Fact>, bits: u32) -> Vec<Outcome> {
    let event = exec_bits(second, &process(second, "/bin/sh", &[20, 10, 1]), "/srv/helper", bits);
    let mut verdict = with_facts(facts);
    verdict.episode.anchor = second;
    policy.on_event(&event, Some(&verdict), &HEALTHY)
}

#[test]
fn what_is_marked_raises_no_finding_until_it_is_undone() {
    let mut policy = marked(Reach::Exact, Mode::Enforcing);
    let outcomes = again(&mut policy, 200, edge(), 0);
    assert!(found(&outcomes).is_empty() && made(&outcomes).is_empty(), "neither found nor denied: {outcomes:?}");
    assert_eq!(policy.marks().iter().last().map(|mark| mark.hits), Some(1), "but counted");
    // Another type from the same workload, and the same process.
    let home = connect(201, &process(200, "/bin/sh", &[20, 10, 1]), "203.0.113.7:4444");
    let mut verdict = with_facts(place());
    verdict.episode.anchor = 200;
    assert_eq!(found(&policy.on_event(&home, Some(&verdict), &HEALTHY)), [FindingType::EgressNovel]);
    policy.undo_mark("m-1", Author::Operator("bob".to_owned()), "it was not", at(202)).unwrap();
    assert_eq!(found(&again(&mut policy, 300, edge(), 0)), [FindingType::ExecNovel]);
    let twice = policy.undo_mark("M-1", Author::Automatic, "again", at(203));
    assert_eq!(twice, Err(MarkError::NotThere("M-1".to_owned())));
}

#[test]
fn an_exact_mark_is_about_that_and_nothing_else() {
    let mut policy = marked(Reach::Exact, Mode::Monitoring);
    let other = Fact::ExecEdge { parent: "/srv/helper".into(), child: "/bin/bash".into() };
    assert_eq!(found(&again(&mut policy, 200, [other.clone()], 0)), [FindingType::ExecNovel]);
    let mut policy = marked(Reach::Program, Mode::Monitoring);
    assert!(found(&again(&mut policy, 200, [other.clone()], 0)).is_empty(), "whatever the helper starts");
    let by_httpd = exec(201, &process(201, "/bin/bash", &[10, 1]), "/srv/httpd");
    assert_eq!(found(&policy.on_event(&by_httpd, Some(&with_facts([other])), &HEALTHY)), [FindingType::ExecNovel]);
}

#[test]
fn what_is_dangerous_anywhere_is_covered_only_by_name() {
    let socket = || Fact::StdioSocket { exe: "/bin/sh".into() };
    let memory = || Fact::MemoryExec { exe: "/bin/sh".into() };
    for reach in [Reach::Exact, Reach::Program, Reach::Workload] {
        let mut policy = marked(reach, Mode::Monitoring);
        let with_socket = again(&mut policy, 200, edge().into_iter().chain([socket()]), 0);
        assert_eq!(found(&with_socket), [FindingType::ExecNovel], "{reach:?}");
        let from_memory = again(&mut policy, 300, edge().into_iter().chain([memory()]), EXEC_MEMORY);
        assert_eq!(found(&from_memory), [FindingType::MemoryExec, FindingType::ExecNovel], "{reach:?}");
    }
    let mut policy = policy_in(Mode::Monitoring);
    again(&mut policy, 200, edge().into_iter().chain([memory()]), EXEC_MEMORY);
    let about = finding(&policy, FindingType::MemoryExec);
    let refused = benign(&about, Reach::Program, vec![]);
    assert_eq!(refused, Err(MarkError::HighImpact { finding: about.short(), what: "memory exec" }));
    let unknown = benign(&about, Reach::Program, vec!["everything".to_owned()]);
    assert_eq!(unknown, Err(MarkError::Unknown("everything".to_owned())));
    let word = benign(&about, Reach::Exact, vec!["memory exec".to_owned()]).unwrap();
    policy.mark(&about, wish(word), at(201)).unwrap();
    let from_memory = || edge().into_iter().chain([memory()]);
    assert_eq!(found(&again(&mut policy, 300, from_memory(), EXEC_MEMORY)), [FindingType::ExecNovel]);
    assert_eq!(HIGH_IMPACT.len(), 5);
    assert!([socket(), memory()].iter().all(|fact| HIGH_IMPACT.contains(&fact.what())));
}

#[test]
fn a_mark_expires_and_a_finding_without_facts_is_not_marked_exactly() {
    let mut policy = policy_in(Mode::Monitoring);
    again(&mut policy, 200, edge(), 0);
    let about = finding(&policy, FindingType::ExecNovel);
    let word = benign(&about, Reach::Exact, vec![]).unwrap();
    policy.mark(&about, Wish { until: Some(at(1_000)), ..wish(word) }, at(201)).unwrap();
    assert!(found(&again(&mut policy, 999, edge(), 0)).is_empty());
    assert_eq!(found(&again(&mut policy, 1_000, edge(), 0)), [FindingType::ExecNovel]);

    let bare = Finding { facts: vec![], ..about };
    assert_eq!(benign(&bare, Reach::Exact, vec![]), Err(MarkError::NoFacts(bare.short())));
    let silent = Wish { reason: " ".to_owned(), ..wish(benign(&bare, Reach::Program, vec![]).unwrap()) };
    assert_eq!(policy.mark(&bare, silent, at(5)), Err(MarkError::NoReason));
}

#[test]
fn marks_are_kept_with_their_line_in_the_audit() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = crate::store::Store::open(&directory.path().join("s.db")).unwrap();
    let mut policy = marked(Reach::Exact, Mode::Monitoring);
    let mark = policy.marks().iter().last().unwrap().clone();
    store.save_mark(MarkChange::Made, &mark).unwrap();
    let mut restored = policy_in(Mode::Monitoring).with_marks(store.marks().unwrap());
    assert!(found(&again(&mut restored, 200, edge(), 0)).is_empty(), "it holds after a restart");
    let Outcome::Mark(change, undone) =
        policy.undo_mark("M-1", Author::Operator("bob".to_owned()), "no", at(9)).unwrap().remove(0)
    else {
        panic!("a mark")
    };
    store.save_mark(change, &undone).unwrap();
    assert_eq!(store.marks().unwrap(), [undone]);
    let said: Vec<String> = store.audit_rows(9).unwrap().into_iter().map(|row| row.entry.what).collect();
    assert_eq!(said, ["marked benign", "mark undone"]);
}

#[test]
fn an_attack_is_to_be_unlearnt_until_that_is_done_or_taken_back() {
    let mut policy = policy_in(Mode::Monitoring);
    again(&mut policy, 200, edge(), 0);
    let about = finding(&policy, FindingType::ExecNovel);
    assert_eq!(about.began, at(100), "the incident is the whole episode");
    let incident = Incident { anchor: about.anchor, since: about.began, until: at(201) };
    let outcomes = policy.mark(&about, wish(Word::Malicious { incident }), at(201)).unwrap();
    assert_eq!(outcomes.len(), 1, "the finding stays: {outcomes:?}");
    assert!(found(&again(&mut policy, 300, edge(), 0)) == [FindingType::ExecNovel], "and hides nothing");
    assert_eq!(policy.marks().to_unlearn().map(|mark| mark.number), Some(1));
    policy.note_unlearnt(1, "done");
    assert_eq!(policy.marks().to_unlearn(), None);
    let stands = |policy: &Policy| policy.marks().iter().filter_map(Mark::incident).collect::<Vec<_>>();
    assert_eq!(stands(&policy), [incident], "it stays left out of what is told again later");
    policy.undo_mark("M-1", Author::Automatic, "it was a test", at(400)).unwrap();
    assert!(stands(&policy).is_empty());
}

#[test]
fn what_is_found_in_hindsight_is_told_once_and_denies_nothing() {
    let mut policy = policy_in(Mode::Enforcing);
    let process = process(30, "/bin/sh", &[20, 10, 1]);
    let event = exec(200, &process, "/srv/helper");
    let verdict = verdict(30, 20.0, 20.0, edge());
    let closed = policy.on_hindsight((&event, &verdict), &HEALTHY, |_| true, "M-1");
    assert_eq!(closed, [], "told then, and closed since");
    let outcomes = policy.on_hindsight((&event, &verdict), &HEALTHY, |_| false, "M-1");
    assert_eq!(found(&outcomes), [FindingType::ExecNovel]);
    let Outcome::Finding(_, finding) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(finding.reasons.iter().any(|reason| reason.now.contains("after M-1 was unlearnt")), "{finding:?}");
    assert!(policy.live(at(200)).is_empty(), "it may be a day old");
    assert_eq!(policy.on_hindsight((&event, &verdict), &HEALTHY, |_| false, "M-1"), []);
}
