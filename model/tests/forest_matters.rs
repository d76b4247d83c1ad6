//! The forest has to matter: what it finds, a constant in its place does not, and facts alone do not either.

mod support;

use collector_common::flow::{Direction, Why};
use model::{Body, Coordinate, DetectorKind, EpisodeView, Params, Standing, Verdict};
use support::{HTTPD, World, exec, flow, in_process_attack, judge, learnt, worker};

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

fn params(seed: u64, detector: DetectorKind) -> Params {
    Params { seed, detector, ..Params::default() }
}

/// The last verdict of code that runs inside the server: no new program, no new address, no trigger call.
fn attacked(seed: u64, detector: DetectorKind) -> Verdict {
    let mut world = World::new(seed);
    let mut model = learnt(params(seed, detector), &mut world);
    for _ in 0..30 {
        for event in world.second() {
            judge(&mut model, &event);
        }
    }
    let reads = world.event(&worker(), Body::Window(in_process_attack(400_000_000)));
    judge(&mut model, &reads)
}

#[test]
fn an_attack_inside_a_process_is_found_by_the_forest_and_by_nothing_else() {
    for seed in SEEDS {
        let (forest, constant) = (attacked(seed, DetectorKind::Forest), attacked(seed, DetectorKind::Constant));
        assert!(forest.facts.iter().all(|fact| !fact.novel), "{:?}", forest.facts);
        assert!(forest.episode.over_threshold, "seed {seed}: {:?}", forest.episode);
        let EpisodeView { score, forest_sum, fact_sum, .. } = forest.episode;
        assert!(fact_sum == 0.0 && forest_sum > 0.7 * score, "{:?}", forest.episode);
        let told = forest.explanation.to_string();
        assert!(told.contains("seq") && told.contains("volume") && told.contains("never seen"), "{told}");
        assert!(!constant.episode.over_threshold, "seed {seed}: {:?}", constant.episode);
        assert_eq!((constant.episode.score, constant.score.value), (0.0, 0.0));
    }
}

/// Whether a detector is one: it finds the attack with every seed, and nothing in two minutes without it.
fn detects(detector: DetectorKind) -> bool {
    SEEDS.into_iter().all(|seed| {
        let mut world = World::new(seed);
        let mut model = learnt(params(seed, detector), &mut world);
        let mut quiet = true;
        for _ in 0..120 {
            quiet &= !world.second().iter().any(|event| judge(&mut model, event).episode.over_threshold);
        }
        quiet && attacked(seed, detector).episode.over_threshold
    })
}

/// Acceptance 1: who knows nothing fails detection, and health says so (`health.rs`).
#[test]
fn a_constant_and_a_lot_are_no_detectors() {
    let each = [DetectorKind::Forest, DetectorKind::Constant, DetectorKind::Random].map(detects);
    assert_eq!(each, [true, false, false]);
}

#[test]
fn the_same_server_without_the_attack_stays_far_below() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        let mut model = learnt(params(seed, DetectorKind::Forest), &mut world);
        let level = model.threshold().level;
        let mut worst: f64 = 0.0;
        for _ in 0..120 {
            for event in world.second() {
                worst = worst.max(judge(&mut model, &event).episode.score);
            }
        }
        assert!(worst < 0.75 * level, "seed {seed}: {worst} of {level} bits");
    }
}

#[test]
fn a_shell_that_calls_home_is_over_the_threshold_after_minutes_of_learning() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        let mut model = learnt(params(seed, DetectorKind::Forest), &mut world);
        let shell = world.process("/bin/sh", &[101, 100]);
        let started = judge(&mut model, &world.event(&shell, Body::Exec(exec(HTTPD, 0))));
        assert!(started.facts[0].novel && started.facts[0].class_a);
        assert!(started.facts[0].bits > 10.0, "well above the six bits that make evidence: {:?}", started.facts[0]);
        let home = flow(Direction::Out, "198.51.100.7:4444", Why::Novel, 0);
        let called = judge(&mut model, &world.event(&shell, Body::Flow(home)));
        assert!(called.episode.over_threshold, "seed {seed}: {:?}", called.episode);
        assert_eq!(called.episode.anchor, shell.cookie);
        let told = called.explanation.to_string();
        assert!(told.starts_with("isolated after") && told.contains("198.51.100.7:4444"), "{told}");
        assert!(called.vector.get(Coordinate::Lineage) > 6.0, "what the subtree did just now counts together");
    }
}

#[test]
fn the_mixed_up_trace_is_what_makes_the_sequence_surprising() {
    // Shuffling what an ordinary window calls takes the order away and nothing else.
    let mut world = World::new(9);
    let mut model = learnt(params(9, DetectorKind::Forest), &mut world);
    let ordinary = world.ordinary();
    let mut shuffled = ordinary.clone();
    for at in (1..shuffled.trace.len()).rev() {
        let other = world.random.below(at + 1);
        shuffled.trace.swap(at, other);
    }
    let (in_order, mixed) = [ordinary, shuffled]
        .map(|window| {
            let event = world.event(&worker(), Body::Window(window));
            model.observe(&event, Standing::Ready).expect("evidence").vector.get(Coordinate::Seq)
        })
        .into();
    assert!(mixed > in_order + 2.0, "{mixed} against {in_order} bits");
}
