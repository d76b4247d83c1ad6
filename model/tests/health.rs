//! The model's health: each state is reached by what a model can live through, and only a healthy one may deny.

mod support;

use std::sync::Arc;

use collector_common::flow::{Direction, Why};
use collector_common::process::EXEC_MEMORY;
use collector_common::token::{self, Outcome, arg, x86_64 as nr};
use model::{Body, DetectorKind, HealthState, Model, Params, Process, Standing};
use support::{HTTPD, SHOP, World, exec, flow, judge, learnt, process, window_of, worker};

const DAY: f64 = 86_400.0;

fn shop(params: Params) -> (World, Model) {
    let mut world = World::new(params.seed);
    let model = learnt(params, &mut world);
    (world, model)
}

#[test]
fn a_model_that_never_saw_rows_is_untrained() {
    let model = support::model(Params::default());
    assert_eq!(model.health().state, HealthState::Untrained { rows: 0, needed: 64 });
    assert!(!model.health().state.may_deny());
    assert!(!model.health().state.is_fault(), "it only has to be waited for");
}

#[test]
fn a_detector_or_a_forest_that_says_the_same_about_everything_is_constant() {
    let (_, model) = shop(Params { detector: DetectorKind::Constant, ..Params::default() });
    assert!(matches!(model.health().state, HealthState::Constant { asked: 0, .. }));

    // One process that starts itself every minute: all rows are one point, and no tree can split.
    let mut world = World::new(1);
    world.factor = 1;
    let mut model = support::model(Params::default());
    for _ in 0..200 {
        let event = world.event(&process(100, HTTPD, &[]), Body::Exec(exec(HTTPD, 0)));
        model.observe(&event, Standing::Learning);
        model.tick(event.at);
        world.pass(60.0);
    }
    let health = model.health();
    assert!(matches!(health.state, HealthState::Constant { asked: 9, .. }), "{health}");
    assert!(!health.state.may_deny() && health.state.is_fault());
    let hour = 3_600_000_000_000;
    assert!(health.since.unix_ns > hour && world.now().unix_ns - health.since.unix_ns > hour, "since it was grown");
}

#[test]
fn a_detector_that_draws_lots_is_seen_through_whatever_the_seed() {
    for seed in 0..200 {
        let mut model = support::model(Params { seed, detector: DetectorKind::Random, ..Params::default() });
        model.tick(World::new(seed).now());
        let state = model.health().state;
        assert!(matches!(state, HealthState::Saturated { .. }) && !state.may_deny() && state.is_fault(), "{state}");
    }
}

#[test]
fn a_trained_forest_is_healthy_and_says_since_when() {
    let (mut world, mut model) = shop(Params::default());
    model.tick(world.now());
    let since = model.health().since;
    assert_eq!((model.health().state, since), (HealthState::Healthy, world.now()));
    world.pass(DAY);
    model.tick(world.now());
    assert_eq!(model.health().since, since);
    let told = model.health().to_string();
    assert!(told.starts_with("healthy, 64 trees over "), "{told}");
}

/// A program that starts itself every quarter of an hour, day after day: its own rows are one point, and that is no fault.
#[test]
fn a_service_that_always_does_the_same_is_not_sick() {
    const BEAT: &str = "unit:beat.service";
    let mut world = World::new(5);
    let mut model = support::model(Params::default());
    let beat = Arc::new(Process { workload: BEAT.into(), ..Process::clone(&process(7, "/usr/bin/beat", &[])) });
    for second in 0..600 {
        let standing = if second < 500 { Standing::Learning } else { Standing::Ready };
        for event in world.second() {
            model.observe(&event, standing);
        }
        model.observe(&world.event(&beat, Body::Exec(exec("/usr/bin/beat", 0))), standing);
        model.tick(world.now());
        if second == 499 {
            [SHOP, BEAT].iter().for_each(|workload| model.freeze(workload, world.now()));
        }
    }
    for workload in [SHOP, BEAT] {
        assert!(model.own_forests().share(workload) > 0.5, "{workload} is scored by its own forest");
        assert_eq!(model.health_of(workload).state, HealthState::Healthy, "{workload}");
    }
    assert_eq!(model.all_sick(), []);
    let other = flow(Direction::Out, "203.0.113.9:9000", Why::Close, 400);
    let found = judge(&mut model, &world.event(&beat, Body::Flow(other)));
    assert!(found.score.value > 8.0, "and what it never did stands out: {:?}", found.score);
}

/// Acceptance 12: for every published threshold a constructible input exceeds it; otherwise the state says so and disarms.
#[test]
fn every_threshold_that_can_be_had_is_reached_or_called_unreachable() {
    for start_threshold in [1.0, 12.0, 30.0, 60.0, 90.0, 120.0, 150.0, 200.0, 400.0, 1_000.0] {
        for seed in [1, 2, 3] {
            let (mut world, mut model) = shop(Params { start_threshold, seed, ..Params::default() });
            let health = model.health();
            let reached = strangest(&mut world, &mut model);
            match health.state {
                HealthState::Healthy => assert!(reached >= start_threshold, "{start_threshold}: {reached}"),
                HealthState::Unreachable { level, most } => {
                    assert!(level == start_threshold && most < level, "{health}");
                    assert!(!health.state.may_deny() && health.state.is_fault());
                    assert!(reached >= most, "what it promises can be had: {reached} of {most}");
                }
                // With the lowest threshold of all, an ordinary vector may lie over it.
                other => assert!(start_threshold == 1.0, "{start_threshold}: {other}"),
            }
        }
    }
}

/// The most that anybody could do within ten seconds who knows how the model works. Bits of the episode.
fn strangest(world: &mut World, model: &mut Model) -> f64 {
    let root = world.process("/memfd:0 (deleted)", &[]);
    let mut score: f64 = 0.0;
    for n in 0..6 {
        let exe = format!("/memfd:{n} (deleted)");
        let child: Arc<Process> = world.process(&exe, &[root.cookie]);
        let start = world.event(&child, Body::Exec(exec(&exe, EXEC_MEMORY)));
        score = score.max(judge(model, &start).episode.score);
        // Calls of which the server makes none, in an order that nobody makes; two of them are rare anywhere.
        let calls: Vec<u16> = (0..120).map(|call| 100 + (call * 7 + n * 13) % 90).collect();
        let mut window = window_of(&calls, 1 << 40);
        window.trace.push(token::token(nr::PTRACE, Outcome::Ok, arg::PTRACE_ATTACH));
        window.trace.push(token::token(nr::BPF, Outcome::Ok, arg::BPF_PROGRAM));
        score = score.max(judge(model, &world.event(&child, Body::Window(window))).episode.score);
        let home = flow(Direction::Out, "198.51.100.7:4444", Why::Close, 1 << 40);
        score = score.max(judge(model, &world.event(&child, Body::Flow(home))).episode.score);
        world.pass(0.5);
    }
    score
}

/// Days of a shop whose workers send so many times more each day than on the day before.
fn days(world: &mut World, model: &mut Model, days: usize, growth: f64) -> Option<usize> {
    let mut first = None;
    for day in 0..days {
        for _ in 0..40 {
            let bytes = 4_000.0 * (3.0 * world.random.unit()).exp2() * growth.powi(day as i32);
            let sent = flow(Direction::In, "192.0.2.9:40000", Why::Close, bytes as u64);
            let verdict = judge(model, &world.event(&worker(), Body::Flow(sent)));
            assert!(!verdict.episode.over_threshold, "day {day}: each step is too small to be found");
            let window = world.ordinary();
            judge(model, &world.event(&worker(), Body::Window(window)));
            world.pass(DAY / 40.0);
            model.tick(world.now());
        }
        if !model.drifted(SHOP).is_empty() {
            first.get_or_insert(day);
        }
    }
    first
}

#[test]
fn a_slow_ramp_is_a_drift_with_its_coordinate_and_numbers() {
    for seed in [1, 2, 3] {
        let (mut world, mut model) = shop(Params { seed, ..Params::default() });
        let noticed = days(&mut world, &mut model, 30, 1.05);
        assert!(noticed.is_some_and(|day| (8..=21).contains(&day)), "seed {seed}: {noticed:?}");
        let drifted = model.drifted(SHOP);
        let volume = drifted.iter().find(|one| one.gauge.coordinate() == model::Coordinate::Volume);
        assert!(volume.is_some_and(|one| one.now > 2.0 * one.usual && one.usual > 1_000.0), "{drifted:?}");
        let health = model.health_of(SHOP);
        assert!(matches!(health.state, HealthState::Drifted { .. }) && !health.state.may_deny());
        assert_eq!(health.since, drifted[0].since);
        assert!(model.health().state.may_deny(), "the other workloads have not drifted");
        let restored = Model::restore(&model.snapshot().expect("bytes")).expect("the same");
        assert_eq!(restored.drifted(SHOP), drifted);
        model.freeze(SHOP, world.now());
        assert!(model.drifted(SHOP).is_empty(), "a person who freezes it anew has seen it");
    }
}

#[test]
fn thirty_days_of_the_same_are_no_drift() {
    for seed in [1, 2, 3, 4, 5] {
        let (mut world, mut model) = shop(Params { seed, ..Params::default() });
        let noticed = days(&mut world, &mut model, 31, 1.0);
        assert_eq!(noticed, None, "seed {seed}: {:?}", model.drifted(SHOP));
    }
}
