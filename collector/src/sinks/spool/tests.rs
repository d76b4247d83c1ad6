use proptest::prelude::*;

use super::*;

fn frame(number: u64, length: usize) -> Frame {
    Frame { id: format!("id-{number}"), key: "host|w".into(), value: vec![b'x'; length] }
}

fn ids(taken: &[(Ticket, Frame)]) -> Vec<String> {
    taken.iter().map(|(_, frame)| frame.id.clone()).collect()
}

fn take_all(spool: &mut Spool, kind: Kind) -> Vec<(Ticket, Frame)> {
    let mut all = Vec::new();
    while spool.has_unread(kind) {
        all.extend(spool.take(kind, 4096).unwrap());
    }
    all
}

fn expected(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("id-{number}")).collect()
}

#[test]
fn what_is_appended_is_taken_in_order_and_gone_when_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 64 << 20).unwrap();
    for number in 0..5000 {
        spool.append(Kind::Window, &frame(number, 3000)).unwrap();
    }
    let taken = take_all(&mut spool, Kind::Window);
    assert_eq!(ids(&taken), expected(0..5000));
    assert!(!spool.is_empty(Kind::Window), "taken is not acknowledged");
    taken.iter().rev().for_each(|(ticket, _)| spool.acknowledge(*ticket));
    assert!(spool.is_empty(Kind::Window));
    assert_eq!(spool.totals(), Totals::default());
    let left = fs::read_dir(directory.path().join("windows")).unwrap().count();
    assert_eq!(left, 0, "no segment is left");
}

#[test]
fn a_new_process_goes_on_behind_the_acknowledged_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    (0..10).for_each(|number| assert_eq!(spool.append(Kind::Finding, &frame(number, 10)).unwrap(), Appended::Kept));
    let taken = take_all(&mut spool, Kind::Finding);
    // 0–3 are a prefix; 6 arrived too, and has to come again.
    [0, 1, 2, 3, 6].iter().for_each(|index| spool.acknowledge(taken[*index].0));
    spool.sync().unwrap();
    drop(spool);
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    spool.append(Kind::Finding, &frame(10, 10)).unwrap();
    assert_eq!(ids(&take_all(&mut spool, Kind::Finding)), expected(4..11));
}

#[test]
fn without_a_cursor_everything_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    (0..3).for_each(|number| assert_eq!(spool.append(Kind::Decision, &frame(number, 10)).unwrap(), Appended::Kept));
    let taken = take_all(&mut spool, Kind::Decision);
    spool.acknowledge(taken[0].0);
    spool.sync().unwrap();
    drop(spool);
    fs::write(directory.path().join("decisions/cursor"), b"garbage").unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(ids(&take_all(&mut spool, Kind::Decision)), expected(0..3));
}

#[test]
fn the_cap_evicts_the_oldest_of_the_least_important_and_counts_it() {
    let directory = tempfile::tempdir().unwrap();
    let cap = 3 * SEGMENT_BYTES;
    let mut spool = Spool::open(directory.path(), cap).unwrap();
    for number in 0..2000 {
        spool.append(Kind::Finding, &frame(number, 2000)).unwrap();
        spool.append(Kind::Window, &frame(number, 8000)).unwrap();
        assert!(spool.totals().bytes <= cap);
    }
    let totals = spool.totals();
    assert!(totals.dropped.get(Kind::Window) > 0);
    assert_eq!(totals.dropped.get(Kind::Finding), 0);
    assert_eq!(ids(&take_all(&mut spool, Kind::Finding)), expected(0..2000));
    let windows = ids(&take_all(&mut spool, Kind::Window));
    assert_eq!(windows, expected(totals.dropped.get(Kind::Window)..2000), "the newest are kept, the rest is counted");
}

#[test]
fn a_kind_is_never_evicted_for_a_less_important_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 10_000).unwrap();
    while spool.append(Kind::Finding, &frame(0, 1000)).unwrap() == Appended::Kept && spool.totals().bytes < 8900 {}
    assert_eq!(spool.append(Kind::Window, &frame(1, 4000)).unwrap(), Appended::Dropped);
    assert_eq!(spool.totals().dropped.get(Kind::Window), 1);
    assert_eq!(spool.totals().dropped.get(Kind::Finding), 0);
}

#[test]
fn two_processes_cannot_use_one_spool() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert!(Spool::open(directory.path(), 1 << 20).is_err_and(|error| error.to_string().contains("another agent")));
    drop(spool);
    assert!(Spool::open(directory.path(), 1 << 20).is_ok());
}

#[test]
fn a_torn_tail_is_reported_and_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    (0..4).for_each(|number| assert_eq!(spool.append(Kind::Flow, &frame(number, 100)).unwrap(), Appended::Kept));
    drop(spool);
    let path = fs::read_dir(directory.path().join("flows")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    spool.append(Kind::Flow, &frame(4, 100)).unwrap();
    let taken = take_all(&mut spool, Kind::Flow);
    assert_eq!(ids(&taken), ["id-0", "id-1", "id-2", "id-4"]);
    assert_eq!(spool.totals().damaged_bytes, frame(3, 100).stored_len() as u64 - 7);
    taken.iter().for_each(|(ticket, _)| spool.acknowledge(*ticket));
    assert_eq!(spool.totals().bytes, 0, "the damaged rest does not stay for ever");
}

#[test]
fn what_was_in_memory_goes_before_what_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    (3..6).for_each(|number| assert_eq!(spool.append(Kind::Window, &frame(number, 100)).unwrap(), Appended::Kept));
    spool.take(Kind::Window, 4096).unwrap();
    spool.give_back(Kind::Window);
    spool.put_first(Kind::Window, &[frame(0, 1), frame(1, 1), frame(2, 1)]).unwrap();
    drop(spool);
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(ids(&take_all(&mut spool, Kind::Window)), expected(0..6));
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Take,
    Acknowledge(prop::sample::Index),
    GiveBack,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..3000).prop_map(Step::Append),
        2 => Just(Step::Take),
        3 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        1 => Just(Step::GiveBack),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the order of appends, acknowledgements, crashes and retries: at the end every message that was not
    /// acknowledged can be taken, in order.
    #[test]
    fn nothing_unacknowledged_is_lost(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 64 << 20).unwrap();
        let (mut appended, mut acknowledged) = (0, std::collections::BTreeSet::new());
        let mut taken: Vec<(Ticket, Frame)> = Vec::new();
        for step in steps {
            match step {
                Step::Append(length) => {
                    spool.append(Kind::Finding, &frame(appended, length)).unwrap();
                    appended += 1;
                }
                Step::Take => taken.extend(spool.take(Kind::Finding, 2048).unwrap()),
                Step::Acknowledge(index) if !taken.is_empty() => {
                    let (ticket, frame) = taken.remove(index.index(taken.len()));
                    spool.acknowledge(ticket);
                    acknowledged.insert(frame.id);
                }
                Step::Acknowledge(_) => {}
                Step::GiveBack => {
                    taken.clear();
                    spool.give_back(Kind::Finding);
                }
                Step::Reopen => {
                    taken.clear();
                    spool.sync().unwrap();
                    drop(spool);
                    spool = Spool::open(directory.path(), 64 << 20).unwrap();
                }
            }
        }
        spool.give_back(Kind::Finding);
        let left = ids(&take_all(&mut spool, Kind::Finding));
        prop_assert!(left.is_sorted_by_key(|id| id[3..].parse::<u64>().unwrap()));
        for id in expected(0..appended) {
            prop_assert!(acknowledged.contains(&id) || left.contains(&id), "{} is lost", id);
        }
        prop_assert_eq!(spool.totals().damaged_bytes, 0);
    }
}
