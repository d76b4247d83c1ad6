//! Who has a forest of its own, what it says, and who loses its seat.

use proptest::prelude::*;

use super::*;
use crate::Model;
use crate::features::{COORDINATES, Coordinate};
use crate::online::AnyDetector;
use crate::random::Random;
use crate::threshold::Past;

const MINUTE: u64 = 60_000_000_000;

fn at(minutes: u64) -> Time {
    Time { unix_ns: minutes * MINUTE, boot_ns: minutes * MINUTE }
}

fn named(name: &str) -> Arc<str> {
    name.into()
}

/// A few bits of one coordinate, more than `most` never.
fn row(random: &mut Random, coordinate: Coordinate, most: f64) -> FeatureVector {
    let mut row = FeatureVector::default();
    row.raise(coordinate, random.unit() * most);
    row
}

/// One row every ten minutes.
fn taught(own: &mut OwnForests, workload: &str, rows: u64, most: f64) {
    let mut random = Random::new(rows);
    teach(own, workload, (0..rows).map(|n| (10 * n, row(&mut random, Coordinate::Net, most))));
}

/// Rows at these minutes.
fn teach(own: &mut OwnForests, workload: &str, rows: impl Iterator<Item = (u64, FeatureVector)>) {
    let (mut last, host) = (0, Counts::default());
    for (minute, row) in rows {
        own.offer(&named(workload), 1, at(minute), row, &[]);
        own.publish(at(minute));
        own.begin_one(at(minute), &host);
        last = minute;
    }
    own.publish(at(last + 10));
}

fn forests() -> OwnForests {
    OwnForests::new(&Params::default())
}

fn strange() -> FeatureVector {
    let mut vector = FeatureVector::default();
    vector.raise(Coordinate::Net, 9.0);
    vector
}

fn pooled() -> AnomalyScore {
    let mut contributions = [0.0; COORDINATES];
    contributions[Coordinate::Net as usize] = 7.1;
    AnomalyScore { value: 7.1, depth: 4.0, median_depth: 8.1, gap: 3.0, contributions }
}

#[test]
fn without_enough_evidence_the_pool_scores_bit_for_bit() {
    let mut own = forests();
    taught(&mut own, "few rows", LEAST_ROWS as u64 - 1, 1.0);
    let mut random = Random::new(2);
    teach(&mut own, "two days", (0..1_440).map(|n| (n * 2, row(&mut random, Coordinate::Net, 1.0))));
    assert!(own.seats["two days"].rows > 2 * LEAST_ROWS);
    for workload in ["few rows", "two days", "never heard of"] {
        assert_eq!(own.share(workload), 0.0, "{workload}");
        let (mixed, pool) = (own.mixed(workload, &strange(), pooled()), pooled());
        assert_eq!(mixed.value.to_bits(), pool.value.to_bits(), "{workload}");
        assert_eq!(mixed, pool, "{workload}");
    }
    assert!(["few rows", "two days"].iter().all(|name| own.seats[*name].forest.size().1 == 0), "nor are trees grown");
    taught(&mut own, "enough", LEAST_ROWS as u64, 1.0);
    assert_eq!(own.share("enough"), 0.5);
    assert_ne!(own.mixed("enough", &strange(), pooled()), pooled());
}

/// By the formula, part by part: the more rows, the more its own forest's.
#[test]
fn a_score_is_mixed_by_the_rows_that_the_own_forest_holds() {
    for (rows, share) in [(512, 0.5), (768, 0.6), (1_536, 0.75)] {
        let mut own = forests();
        taught(&mut own, "it", rows, 1.0);
        assert!((own.share("it") - share).abs() < 1e-12, "{rows} rows: {}", own.share("it"));
        let pool = AnomalyScore { median_depth: 6.1, ..pooled() };
        let alone = own.seats["it"].forest.score(&strange());
        let mixed = own.mixed("it", &strange(), pool);
        type Part = fn(&AnomalyScore) -> f64;
        let parts: [Part; 4] = [|it| it.value, |it| it.depth, |it| it.median_depth, |it| it.gap];
        for part in parts {
            let expected = share * part(&alone) + (1.0 - share) * part(&pool);
            assert!((part(&mixed) - expected).abs() < 1e-9, "{rows} rows: {mixed:?} of {alone:?} and {pool:?}");
            assert!((part(&alone) - part(&pool)).abs() > 0.1, "they differ: {alone:?}");
        }
    }
}

/// A burst adds no rows and so no say: the size that counts is an effective one.
#[test]
fn a_burst_gives_a_forest_no_more_say() {
    let (mut calm, mut bursts) = (forests(), forests());
    let mut random = Random::new(4);
    let rows: Vec<(u64, FeatureVector)> = (0..600).map(|n| (10 * n, row(&mut random, Coordinate::Net, 1.0))).collect();
    teach(&mut calm, "it", rows.iter().copied());
    teach(&mut bursts, "it", rows.iter().flat_map(|row| [*row; 20]));
    assert!(calm.share("it") > 0.5 && bursts.share("it") == calm.share("it"));
}

#[test]
fn what_one_workload_does_all_day_is_strange_of_another() {
    let mut own = forests();
    taught(&mut own, "busy", 2_000, 10.0);
    taught(&mut own, "quiet", 2_000, 1.0);
    let [busy, quiet] = ["busy", "quiet"].map(|workload| own.mixed(workload, &strange(), pooled()).value);
    assert!(busy < pooled().value - 3.0, "{busy}");
    assert!(quiet > busy + 5.0, "{quiet} against {busy}");
}

/// Minutes of a day.
const DAYLONG: u64 = 24 * 60;

/// The seats are full of workloads with so many rows each from the first minutes on; who is there after a newcomer came.
fn after_a_newcomer(rows: impl Fn(usize) -> u64, minute: u64) -> Vec<usize> {
    let mut own = forests();
    let name = |n: usize| named(&format!("{n}"));
    for n in 0..MAX_OWN {
        (0..rows(n)).for_each(|minute| own.offer(&name(n), 1, at(minute), FeatureVector::default(), &[]));
    }
    own.offer(&named("newcomer"), 1, at(minute), FeatureVector::default(), &[]);
    assert_eq!(own.seats.contains_key("newcomer"), own.size() == (MAX_OWN, 0));
    (0..MAX_OWN).filter(|n| !own.seats.contains_key(&name(*n))).collect()
}

#[test]
fn a_seat_is_given_away_by_who_has_the_fewest_rows_and_not_before_a_day() {
    let rows = |n: usize| if n == 40 { 3 } else { 10 + n as u64 % 5 };
    assert_eq!(after_a_newcomer(rows, DAYLONG - 1), [] as [usize; 0]);
    assert_eq!(after_a_newcomer(rows, DAYLONG + 1), [40]);
    // 74 rows a day make 512 in a week: who shows as many may stay for it, and no longer.
    let rows = |n: usize| if n == 7 { 72 } else { 75 };
    assert_eq!(after_a_newcomer(rows, DAYLONG + 1), [7]);
    assert_eq!(after_a_newcomer(|_| 75, DAYLONG + 1), [] as [usize; 0]);
    assert_eq!(after_a_newcomer(|n| 300 - n as u64, 7 * DAYLONG), [63]);
    // A burst of rows on one day is no three days of them: a week later it has had its chance.
    let rows = |n: usize| if n == 9 { 600 } else { 640 };
    assert_eq!(after_a_newcomer(rows, 6 * DAYLONG), [] as [usize; 0]);
    assert_eq!(after_a_newcomer(rows, 7 * DAYLONG), [9]);
}

#[test]
fn who_is_heard_keeps_its_seat_for_a_month_of_silence() {
    let mut own = forests();
    taught(&mut own, "heard", 600, 1.0);
    for n in 0..MAX_OWN {
        own.offer(&named(&format!("{n}")), 1, at(6_000), FeatureVector::default(), &[]);
    }
    let last = 5_990;
    for (days, is_there) in [(34, true), (36, false)] {
        // Everybody else has shown something lately.
        let others: Vec<Arc<str>> = own.seats.keys().filter(|name| &***name != "heard").cloned().collect();
        others.iter().for_each(|name| own.offer(name, 1, at(last + days * DAYLONG), FeatureVector::default(), &[]));
        let fresh = |n: usize| named(&format!("fresh {days} {n}"));
        (0..MAX_OWN).for_each(|n| own.offer(&fresh(n), 1, at(last + days * DAYLONG), FeatureVector::default(), &[]));
        assert_eq!(own.seats.contains_key("heard"), is_there, "after {days} days");
    }
}

/// Two hundred workloads with a row every ten minutes for two weeks. When a seat was given away after a day to whoever came next,
/// none of them ever had a forest.
#[test]
fn of_more_workloads_than_seats_as_many_get_a_forest_as_there_are_seats() {
    let (mut own, mut random, host) = (forests(), Random::new(6), Counts::default());
    for minute in (0..14 * DAYLONG).step_by(10) {
        for n in 0..200 {
            own.offer(&named(&format!("{n}")), 1, at(minute), row(&mut random, Coordinate::Net, 1.0), &[]);
            own.publish(at(minute));
            own.begin_one(at(minute), &host);
        }
    }
    own.publish(at(14 * DAYLONG));
    let heard = own.seats.values().filter(|seat| seat.share() > 0.0).count();
    assert_eq!((heard, own.size().0), (MAX_OWN, MAX_OWN));
}

#[test]
fn seats_are_few_and_those_who_are_heard_keep_theirs() {
    let mut own = forests();
    taught(&mut own, "heard", 600, 1.0);
    let share = own.share("heard");
    for n in 0..300 {
        let late = at(6_000 + n / 100 * 2 * 24 * 60);
        own.offer(&named(&format!("{n}")), 1, late, FeatureVector::default(), &[]);
    }
    assert_eq!(own.size().0, MAX_OWN);
    assert!(own.size().1 > 0, "who found no seat is counted");
    assert!(own.seats.contains_key("200"), "who came after a day found one");
    assert_eq!(own.share("heard"), share);
    own.offer(&named("later"), 1, at(6_000 + 60 * 24 * 60), FeatureVector::default(), &[]);
    assert!(own.seats.contains_key("later") && own.seats.len() == MAX_OWN);
}

/// Whoever asks every seat at every event begins and publishes at the same times.
#[test]
fn nobody_waits_longer_because_not_everybody_is_asked() {
    let (mut told, mut asked) = (forests(), forests());
    let (mut random, host) = (Random::new(9), Counts::default());
    let mut waited = 0;
    for n in 0..9_000u64 {
        let name = named(&format!("{}", random.below(9)));
        let now = Time { unix_ns: n * MINUTE, boot_ns: n * 5_000_000 };
        let row = row(&mut random, Coordinate::Net, 4.0);
        for own in [&mut told, &mut asked] {
            own.offer(&name, n, now, row, &[]);
            own.publish(now);
            own.begin_one(now, &host);
        }
        asked.agenda = Agenda::default();
        waited += u32::from(told.seats.values().any(|seat| seat.due_from() <= now.unix_ns));
        let growing = [&told, &asked].map(|own| growing_in(&own.seats));
        assert_eq!(growing[0], growing[1], "after {n} rows");
    }
    assert!(told == asked);
    assert!(waited > 100, "trees waited for others only {waited} times");
}

#[test]
fn a_sick_forest_is_named_and_the_pool_scores_alone_bit_for_bit() {
    let mut own = forests();
    taught(&mut own, "well", 600, 1.0);
    taught(&mut own, "constant", 600, 3.0);
    // Whose rows are all the same is not sick: its range tells what its trees cannot.
    teach(&mut own, "monotonous", (0..600).map(|n| (10 * n, FeatureVector { bits: [1.0; COORDINATES] })));
    let alike = own.seats["monotonous"].forest.clone();
    own.seats.get_mut("constant").expect("a seat").forest.take_trees_of(&alike);
    for (name, median_depth) in [("saturated", 60.0), ("non-finite", f64::NAN)] {
        taught(&mut own, name, 600, 1.0);
        assert!(own.share(name) > 0.5);
        own.seats.get_mut(name).expect("a seat").forest.misjudge(median_depth);
    }
    let states: BTreeMap<Arc<str>, HealthState> = own.faults().collect();
    assert_eq!(states.keys().map(|name| &**name).collect::<Vec<_>>(), ["constant", "non-finite", "saturated"]);
    for (name, state) in &states {
        assert_eq!(state.name(), &**name, "{state}");
        assert_eq!(own.share(name), 0.0);
        let (mixed, pool) = (own.mixed(name, &strange(), pooled()), pooled());
        assert!(mixed == pool && mixed.value.to_bits() == pool.value.to_bits(), "{name}");
        assert_eq!(own.fault_of(name).map(|(state, _)| state), Some(state.clone()));
    }
    assert!(["well", "monotonous"].iter().all(|name| own.share(name) > 0.5 && own.fault_of(name).is_none()));
    assert!(own.mixed("monotonous", &strange(), pooled()).value > 7.5 && own.fault_of("never heard of").is_none());
    let says = own.says();
    assert!(says.contains_key("well") && states.keys().all(|name| !says.contains_key(name)), "nor is it asked later");

    // As soon as other trees are grown, it is well.
    let mut random = Random::new(5);
    teach(&mut own, "constant", (600..1_700).map(|n| (10 * n, row(&mut random, Coordinate::Net, 3.0))));
    assert!(own.fault_of("constant").is_none() && own.share("constant") > 0.6);
}

/// A row every ten minutes, in the pool and of one workload; what the model looks like after each.
fn teach_both(model: &mut Model, workload: &str, rows: std::ops::Range<u64>, mut look: impl FnMut(&Model)) {
    let mut random = Random::new(rows.start + 3);
    for n in rows {
        let vector = FeatureVector { bits: std::array::from_fn(|_| -0.7 * (1.0 - random.unit()).ln()) };
        model.detector.offer(n % 7, at(10 * n), vector, &[]);
        model.own.offer(&named(workload), 1, at(10 * n), vector, &[]);
        model.tick(at(10 * n));
        look(model);
    }
}

fn model_with(workload: &str) -> Model {
    let mut model = Model::new(Params::default()).expect("good parameters");
    teach_both(&mut model, workload, 0..700, |_| ());
    model.tick(at(7_001));
    model
}

#[test]
fn the_pool_grows_first() {
    let mut model = Model::new(Params::default()).expect("good parameters");
    let (mut pool_alone, mut own_alone, mut both) = (0, 0, 0);
    teach_both(&mut model, "it", 0..1_400, |model| {
        let AnyDetector::Forest(pool) = &model.detector else { return };
        match (pool.is_growing(), model.own.is_growing("it")) {
            (true, false) => pool_alone += 1,
            (false, true) => own_alone += 1,
            (true, true) => both += 1,
            _ => (),
        }
    });
    assert!(pool_alone >= 6 && own_alone >= 3 && both == 0, "{pool_alone} {own_alone} {both}");
}

/// The level after the pool has grown anew, with twenty closed episodes of a workload behind it, two a day.
fn level_by(model: &mut Model) -> f64 {
    model.calibration.begin(at(1));
    for half in 1..=20 {
        let mut vector = FeatureVector::default();
        vector.raise(Coordinate::Net, 20.0 + half as f64 / 4.0);
        let past = Past::new(named("it"), at(half * DAYLONG / 2), 0.0, vec![(half * 12, vector)]);
        model.calibration.add(past, 0.0, 1.0);
    }
    teach_both(model, "it", 1_000..1_600, |_| ());
    assert!(model.threshold().calibrated);
    model.threshold().level
}

#[test]
fn a_level_is_of_the_own_forest_as_well() {
    let mut heard = model_with("it");
    let mut alone = heard.clone();
    alone.own = forests();
    let [heard, alone] = [&mut heard, &mut alone].map(level_by);
    assert!((heard - alone).abs() > 0.1, "{heard} with its forest, {alone} by the pool alone");
}

#[test]
fn nothing_is_denied_where_an_own_forest_is_sick_and_a_restart_forgets_nothing() {
    let mut model = model_with("it");
    assert_eq!((model.health().state, model.health_of("it").state), (HealthState::Healthy, HealthState::Healthy));
    model.own.seats.get_mut("it").expect("a seat").forest.misjudge(60.0);
    let restored = Model::restore(&model.snapshot().expect("bytes")).expect("the same");
    for model in [&model, &restored] {
        let health = model.health_of("it");
        assert!(matches!(health.state, HealthState::Saturated { .. }) && !health.state.may_deny(), "{health}");
        assert!(health.state.is_fault() && health.since.unix_ns > 0);
        assert_eq!(model.all_sick(), [(named("it"), health.state)]);
        assert_eq!(model.own_forests().share("it"), 0.0);
        assert_eq!(model.health_of("other").state, HealthState::Healthy, "nobody else suffers for it");
        assert_eq!(model.health().state, HealthState::Healthy);
    }
}

#[test]
fn a_growth_of_the_pool_that_panics_is_told_until_one_succeeds() {
    let mut model = model_with("it");
    let mut random = Random::new(4);
    let mut grow = |model: &mut Model, rows: std::ops::Range<u64>, spoils: bool| {
        for n in rows {
            let vector = FeatureVector { bits: std::array::from_fn(|_| -0.7 * (1.0 - random.unit()).ln()) };
            model.detector.offer(n % 7, at(10 * n), vector, &[]);
            model.tick(at(10 * n));
            if let AnyDetector::Forest(forest) = &mut model.detector
                && spoils
            {
                forest.spoil();
            }
        }
    };
    grow(&mut model, 701..1_300, true);
    let health = model.health();
    assert!(matches!(health.state, HealthState::Stunted { in_a_row: 3, .. }), "{health}");
    assert!(!health.state.may_deny() && health.state.is_fault() && health.given_up == 3);
    assert!(health.to_string().contains("3 growths of trees given up"), "{health}");
    assert!(!model.health_of("it").state.may_deny());
    let mut restored = Model::restore(&model.snapshot().expect("bytes")).expect("the same");
    assert!(matches!(restored.health().state, HealthState::Stunted { in_a_row: 1, .. }), "{}", restored.health());
    assert_eq!(restored.health().since, health.since);
    for model in [&mut model, &mut restored] {
        grow(model, 1_300..1_900, false);
        assert_eq!(model.health().state, HealthState::Healthy);
    }
    assert_eq!((model.health().given_up, restored.health().given_up), (3, 0), "counted since the start");
}

#[test]
fn a_growth_that_panics_is_told_and_the_trees_before_it_are_heard() {
    let (mut own, mut random, host) = (forests(), Random::new(8), Counts::default());
    taught(&mut own, "it", 600, 1.0);
    taught(&mut own, "other", 600, 1.0);
    let (before, share) = (own.seats["it"].forest.score(&strange()), own.share("it"));
    for n in 600..1_200 {
        for name in ["it", "other"] {
            own.offer(&named(name), 1, at(10 * n), row(&mut random, Coordinate::Net, 1.0), &[]);
        }
        own.publish(at(10 * n));
        own.begin_one(at(10 * n), &host);
        own.seats.get_mut("it").expect("a seat").forest.spoil();
    }
    own.publish(at(12_000));
    assert_eq!(own.given_up(), 2, "one tree in 256 rows");
    let state = own.fault_of("it").map(|(state, _)| state);
    assert!(matches!(state, Some(HealthState::Stunted { in_a_row: 2, .. })), "{state:?}");
    assert_eq!(own.seats["it"].forest.score(&strange()), before);
    assert!(own.share("it") > share, "its rows are still counted, and it is heard");
    assert!(own.fault_of("other").is_none(), "nobody else waits for it");
    assert_eq!(own.seats["other"].forest.given_up().all, 0);
}

#[test]
fn a_full_seat_is_small() {
    let mut own = forests();
    let (mut random, host) = (Random::new(1), Counts::default());
    for minute in 0..4 * 24 * 60 {
        let row = FeatureVector { bits: std::array::from_fn(|_| random.unit() * 9.0) };
        own.offer(&named("full"), 1, at(minute), row, &[]);
        own.publish(at(minute));
        own.begin_one(at(minute), &host);
    }
    own.publish(at(5 * 24 * 60));
    assert_eq!(own.seats["full"].rows, crate::reservoir::MAX_ROWS);
    let bytes = postcard::to_stdvec(&own).expect("bytes").len();
    assert!(bytes < 256 << 10, "{bytes} bytes, and there may be {MAX_OWN} of them");
}

#[test]
fn a_constant_detector_has_none() {
    let mut own = OwnForests::new(&Params { detector: DetectorKind::Constant, ..Params::default() });
    taught(&mut own, "busy", 600, 1.0);
    assert_eq!(own.size(), (0, 0));
}

#[test]
fn impossible_forests_are_told() {
    let params = Params::default();
    let mut good = forests();
    taught(&mut good, "busy", 600, 1.0);
    assert_eq!(good.fault(&params), None);
    assert!(good.fault(&Params { sample: 128, ..params.clone() }).is_some(), "of other parameters");
    let mut rows = good.clone();
    rows.seats.values_mut().for_each(|seat| seat.rows += 1);
    assert!(rows.fault(&params).is_some(), "rows that are not there");
    let mut broken = good.clone();
    broken.seats.values_mut().for_each(|seat| seat.forest.misjudge(f64::NAN));
    assert!(broken.fault(&params).is_some(), "a forest of numbers that are none");
    let mut many = good.clone();
    let seat = good.seats["busy"].clone();
    many.seats.extend((0..MAX_OWN).map(|n| (named(&format!("{n}")), seat.clone())));
    assert!(many.fault(&params).is_some(), "more than there are seats");
}

fn score() -> impl Strategy<Value = AnomalyScore> {
    let parts = proptest::array::uniform8(0.0..20.0f64);
    (parts, -5.0..40.0f64, 0.0..9.0f64).prop_map(|(parts, value, depth)| {
        let sum: f64 = parts.iter().sum::<f64>().max(1e-3);
        let contributions = parts.map(|part| part * f64::max(value, 0.0) / sum);
        AnomalyScore { value, depth, median_depth: depth, gap: 0.0, contributions }
    })
}

proptest! {
    #[test]
    fn contributions_of_a_mix_add_up(own in score(), pool in score(), rows in 0usize..5_000) {
        let share = rows as f64 / (rows as f64 + HALF_ROWS);
        let mixed = mix(share, &own, &pool);
        prop_assert!((mixed.contributions.iter().sum::<f64>() - mixed.value.max(0.0)).abs() < 1e-9);
        prop_assert!(mixed.contributions.iter().all(|part| *part >= 0.0));
        let (low, high) = (own.value.min(pool.value), own.value.max(pool.value));
        prop_assert!((low - 1e-9..=high + 1e-9).contains(&mixed.value));
    }
}
