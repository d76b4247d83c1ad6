//! Acceptance 7, second half: rows that are not spared what their own hour taught cost detection.
//!
//! The other half, that leaving the own hour out by its owner is leaving it out, stands in `reservoir.rs`.

mod support;

use model::{Body, Event, Model, Params, Standing};
use support::{HTTPD, SHOP, World, exec, in_process_attack, worker};

/// False alarms that are allowed, of all benign events.
const ALLOWED: f64 = 0.01;
const ATTACKS: usize = 200;

/// A second of a shop that ships: now and then a worker starts a program that has never been there and never comes again.
fn second(world: &mut World) -> Vec<Event> {
    let mut events = world.second();
    if world.random.unit() < 0.25 {
        let name = format!("/srv/release/{}/migrate", world.boot_ns);
        let job = world.process(&name, &[101, 100]);
        events.push(world.event(&job, Body::Exec(exec(HTTPD, 0))));
    }
    events
}

fn learnt(world: &mut World, params: Params) -> Model {
    let mut model = support::model(params);
    for _ in 0..300 {
        second(world).iter().for_each(|event| drop(model.observe(event, Standing::Learning)));
        model.tick(world.now());
    }
    model.freeze(SHOP, world.now());
    world.factor = 1;
    model
}

/// Code inside a worker: an ordinary window of which so many calls are replaced by its own.
fn attack(world: &mut World, calls: usize) -> Body {
    let mut window = world.ordinary();
    let own = in_process_attack(0).trace;
    let at = world.random.below(100);
    window.trace.splice(at..at + calls, own[..calls].iter().copied());
    Body::Window(window)
}

/// Share of the attacks that score above the level that one benign event in a hundred reaches.
fn detected(seed: u64, leaks: bool) -> f64 {
    let mut world = World::new(seed);
    let model = learnt(&mut world, Params { seed, leaks, ..Params::default() });
    let mut benign = Vec::new();
    for _ in 0..300 {
        // What was judged and not yet taught would be new to the next trees either way: so nothing is taught any more.
        let mut model = model.clone();
        benign.extend(second(&mut world).iter().map(|event| support::judge(&mut model, event).score.value));
    }
    benign.sort_by(f64::total_cmp);
    let level = benign[benign.len() - 1 - (ALLOWED * benign.len() as f64) as usize];
    let mut found = 0;
    for n in 0..ATTACKS {
        world.pass(30.0);
        let attack = attack(&mut world, 1 + n % 20);
        // Each is the first that the model sees.
        let verdict = support::judge(&mut model.clone(), &world.event(&worker(), attack));
        found += usize::from(verdict.score.value > level);
    }
    found as f64 / ATTACKS as f64
}

/// Where what is new is daily bread, rows that hold it make room for it. Rows that lose it, because the hour that brought it has
/// taught it since, leave it beyond the range for ever: what is benign then outranks what is not. The band was fixed with
/// seeds 1 to 20 and is asked of others ([0017](../../docs/decisions/0017-what-the-cross-fit-is-worth.md)).
#[test]
fn without_the_cross_fit_fewer_attacks_are_found() {
    for seed in 21..=25 {
        let (with, without) = (detected(seed, false), detected(seed, true));
        assert!(with >= 0.6, "seed {seed}: {with}");
        assert!(without <= with - 0.1, "seed {seed}: {without} without, {with} with");
    }
}
