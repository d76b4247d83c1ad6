//! Snapshots: the restored model continues bit for bit, and no bytes make it panic.

mod support;

use std::cell::Cell;
use std::sync::Arc;

use model::event::{Process, Window};
use model::{AnomalyScore, Body, Event, Model, Params, Standing};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use support::{HTTPD, SHOP, World, exec, in_process_attack, learnt, process};

/// Bytes before the content: magic, version, checksum.
const HEADER: usize = 10;

/// Scores, facts and thresholds of what follows, as bits.
fn continued(model: &mut Model, events: &[Event]) -> Vec<u64> {
    let mut bits = Vec::new();
    for event in events {
        if let Some(verdict) = model.observe(event, Standing::Ready) {
            bits.extend([verdict.score.value, verdict.score.gap, verdict.episode.score].map(f64::to_bits));
            bits.extend(verdict.facts.iter().map(|fact| fact.bits.to_bits()));
        }
        bits.extend(model.tick(event.at).iter().map(|episode| episode.score.to_bits()));
    }
    bits
}

fn story() -> (Model, Vec<Event>) {
    let mut world = World::new(11);
    let model = learnt(Params::default(), &mut world);
    let mut events: Vec<Event> = (0..60).flat_map(|_| world.second()).collect();
    events.push(world.event(&process(102, HTTPD, &[100]), Body::Window(in_process_attack(9_000_000))));
    let shell = world.process("/bin/sh", &[101, 100]);
    events.push(world.event(&shell, Body::Exec(exec(HTTPD, 0))));
    world.pass(400.0);
    events.extend((0..20).flat_map(|_| world.second()));
    (model, events)
}

#[test]
fn a_restored_model_continues_bit_for_bit() {
    let (model, events) = story();
    let uninterrupted = continued(&mut model.clone(), &events);
    for cut in [0, events.len() / 3, events.len() - 5] {
        let mut first = model.clone();
        let mut bits = continued(&mut first, &events[..cut]);
        let mut second = Model::restore(&first.snapshot().expect("bytes")).expect("the same model");
        assert_eq!(second, first);
        bits.extend(continued(&mut second, &events[cut..]));
        assert!(bits == uninterrupted, "cut after {cut} events");
    }
}

/// Four days of the shop and of another server, then judged: the second one has a handful of rows, the shop a forest of its own.
fn days() -> Vec<(Event, Standing)> {
    let mut world = World::new(13);
    let mut events = Vec::new();
    for second in 0..450 {
        let standing = if second < 360 { Standing::Learning } else { Standing::Ready };
        events.extend(world.second().into_iter().map(|event| (event, standing)));
        if second % 20 == 0 {
            let other = Process { workload: OTHER.into(), ..Process::clone(&process(7, HTTPD, &[])) };
            let window = world.ordinary();
            events.push((world.event(&Arc::new(other), Body::Window(window)), standing));
        }
    }
    events
}

const OTHER: &str = "unit:other.service";

/// One event and what time brings, as bits.
fn one_of(model: &mut Model, (event, standing): &(Event, Standing)) -> Vec<u64> {
    let mut bits = Vec::new();
    if let Some(verdict) = model.observe(event, *standing) {
        let AnomalyScore { value, depth, median_depth, gap, contributions } = verdict.score;
        bits.extend([value, depth, median_depth, gap, verdict.episode.score].map(f64::to_bits));
        bits.extend(contributions.map(f64::to_bits));
        bits.extend(verdict.facts.iter().map(|fact| fact.bits.to_bits()));
    }
    bits.extend(model.tick(event.at).iter().map(|episode| episode.score.to_bits()));
    bits.extend([model.threshold().level, model.own_forests().share(SHOP)].map(f64::to_bits));
    bits
}

/// A restart is invisible to a workload that has a forest of its own: before its first trees, while they grow, while others are grown
/// in their place, and between.
#[test]
fn an_own_forest_goes_on_bit_for_bit_after_a_restart() {
    let events = days();
    let mut model = support::model(Params::default());
    let (mut bits, mut is_growing, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for (at, event) in events.iter().enumerate() {
        if at == events.len() - 400 {
            model.freeze(SHOP, event.0.at);
        }
        bits.push(one_of(&mut model, event));
        is_growing.push(model.own_forests().is_growing(SHOP));
        share.push(model.own_forests().share(SHOP));
    }
    assert_eq!(model.own_forests().share(OTHER), 0.0);
    let first = |from: usize, growing: bool, heard: bool| {
        let found = (from..events.len()).find(|at| is_growing[*at] == growing && (share[*at] > 0.5) == heard);
        found.expect("such a moment")
    };
    let growing_first = first(0, true, false);
    let heard = first(growing_first, false, true);
    let growing_again = first(heard, true, true);
    let late = first(events.len() - 300, true, true);
    for cut in [growing_first - 1, growing_first, growing_first + 2, heard, growing_again, late, events.len() - 9] {
        let mut model = support::model(Params::default());
        for (at, event) in events.iter().enumerate() {
            if at == events.len() - 400 {
                model.freeze(SHOP, event.0.at);
            }
            let now = one_of(&mut model, event);
            assert!(now == bits[at], "event {at} after a restart behind event {cut}");
            if at == cut {
                let again = Model::restore(&model.snapshot().expect("bytes")).expect("the same model");
                assert_eq!(again, model);
                model = again;
            }
        }
    }
}

/// What the agent is told of such a workload is the mix, not the pool's word alone.
#[test]
fn a_verdict_is_mixed_of_the_own_forest_and_the_pool() {
    let mut model = support::model(Params::default());
    let (mut pool, mut mixed) = (None, 0);
    for (event, standing) in days() {
        // Right after the other one, by the same pooled forest.
        let own = pool.is_some().then(|| model.own_forests().clone());
        let Some(verdict) = model.observe(&event, standing) else { continue };
        if &*event.process.workload == OTHER {
            pool = Some(verdict.score.median_depth);
        } else if let (Some(pool), Some(own), Standing::Ready) = (pool.take(), own, standing) {
            // Mixed with nothing, its own part is left.
            let (share, part) = (own.share(SHOP), own.mixed(SHOP, &verdict.vector, AnomalyScore::default()));
            let (told, part) = (verdict.score.median_depth, part.median_depth);
            assert!((told - part - (1.0 - share) * pool).abs() < 1e-9, "{told}, {part} with {share}, {pool}");
            assert!((part / share - pool).abs() > 1e-3 && share > 0.5, "they differ: {part} with {share}, {pool}");
            mixed += 1;
        }
    }
    assert!(mixed >= 4, "{mixed}");
}

#[test]
fn snapshots_of_equal_models_are_equal_bytes() {
    let (one, two) = (story().0, story().0);
    assert!(one.snapshot().expect("bytes") == two.snapshot().expect("bytes"));
}

#[test]
fn cut_and_flipped_bytes_are_refused() {
    let bytes = story().0.snapshot().expect("bytes");
    for at in (0..bytes.len()).step_by(bytes.len() / 300 + 1).chain(0..HEADER) {
        assert!(Model::restore(&bytes[..at]).is_err(), "cut at {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Model::restore(&flipped).is_err(), "flipped in {at}");
    }
}

/// A snapshot whose checksum is right and whose content is not what was written.
fn forged(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut forged = bytes.to_vec();
    let at = HEADER + at % (forged.len() - HEADER);
    for (slot, byte) in forged[at..].iter_mut().zip(with) {
        *slot = *byte;
    }
    let checksum = crc32c::crc32c(&forged[HEADER..]);
    forged[HEADER - 4..HEADER].copy_from_slice(&checksum.to_le_bytes());
    forged
}

/// Does everything that a model can do.
fn exercise(model: &mut Model, events: &[Event]) {
    for event in events {
        model.observe(event, Standing::Ready);
        model.observe(event, Standing::Learning);
        model.tick(event.at);
    }
    for workload in model.workloads() {
        model.summary(&workload);
        model.baseline(&workload);
        model.frozen_destinations(&workload);
        model.seen_trigrams(&workload, HTTPD);
        model.exes(&workload);
        model.freeze(&workload, events[0].at);
    }
    model.health();
    model.snapshot().expect("bytes");
}

fn small() -> (Vec<u8>, Vec<Event>) {
    let mut world = World::new(12);
    // One tree, so that what is not the forest makes up most of the bytes.
    let model = learnt(Params { trees: 1, ..Params::default() }, &mut world);
    let window = Window { permission_errors: u16::MAX, read_bytes: u64::MAX, ..in_process_attack(u64::MAX) };
    let mut events = world.second();
    events.push(world.event(&process(102, HTTPD, &[100]), Body::Window(window)));
    (model.snapshot().expect("bytes"), events)
}

#[test]
fn forged_content_is_refused_or_harmless() {
    let (bytes, events) = small();
    let strategy =
        (any::<usize>(), proptest::collection::vec(prop_oneof![Just(0xffu8), Just(0u8), any::<u8>()], 1..12));
    let restored = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 1_500, rng_seed: RngSeed::Fixed(1), ..Config::default() });
    let outcome = runner.run(&strategy, |(at, with)| {
        if let Ok(mut model) = Model::restore(&forged(&bytes, at, &with)) {
            restored.set(restored.get() + 1);
            exercise(&mut model, &events);
        }
        Ok(())
    });
    outcome.expect("no forged snapshot makes the model panic");
    let restored = restored.get();
    assert!(restored > 100, "some forgeries are only other numbers: {restored}");
    assert!(Model::restore(&bytes).is_ok_and(|model| model.summary(SHOP).is_some()));
}
