//! What is learnt when: idle threads, calls that come back day after day, rows of a busy server, and what is forgotten.

mod support;

use collector_common::flow::{Direction, Why};
use collector_common::syscall;
use model::event::Window;
use model::random::Random;
use model::{Body, Coordinate, Model, Params, Standing, Verdict};
use support::{DATABASE, HTTPD, SHOP, World, flow, judge, learnt, process, window_of, worker};

const DAY: f64 = 86_400.0;

fn shop(seed: u64) -> (World, Model) {
    let mut world = World::new(seed);
    let model = learnt(Params { seed, ..Params::default() }, &mut world);
    (world, model)
}

/// Ordinary requests with a corner of code that no request ever ran: strange, but by far no finding.
fn corner() -> Window {
    let request = [288, 0, 4, 257, 5, 40, 3, 1, 232];
    let odd = [288, 0, 4, 257, 5, 0, 5, 40, 3, 1, 232];
    let calls: Vec<u16> = request.into_iter().chain(odd).chain(request).cycle().take(116).collect();
    window_of(&calls, 4_000)
}

fn settle(world: &mut World, model: &mut Model) {
    world.pass(301.0);
    model.tick(world.now());
}

#[test]
fn an_idle_threads_window_is_learnt_although_it_comes_again() {
    let mut world = World::new(1);
    let mut model = support::model(Params::default());
    // A main thread that sets up the server once and then waits for as long as it runs.
    let start = Window { why: syscall::Why::Idle as u8, ..window_of(&[41, 49, 50, 56, 56, 56, 61], 0) };
    let main = process(100, HTTPD, &[]);
    model.observe(&world.event(&main, Body::Window(start.clone())), Standing::Learning);
    for event in (0..90).flat_map(|_| world.second()).collect::<Vec<_>>() {
        model.observe(&event, Standing::Learning);
    }
    model.freeze(SHOP, world.now());
    let restarted = process(200, HTTPD, &[]);
    let verdict = judge(&mut model, &world.event(&restarted, Body::Window(start)));
    assert!(verdict.trigrams.is_empty(), "{:?}", verdict.trigrams);
}

#[test]
fn calls_are_admitted_once_two_subtrees_have_shown_them_on_two_days() {
    let (mut world, mut model) = shop(2);
    // The learning ends at midnight: well into the day, so that it does not turn between two shows.
    world.pass(DAY / 2.0);
    let mut show = |world: &mut World, cookie: u64| -> Verdict {
        let verdict = judge(&mut model, &world.event(&process(cookie, HTTPD, &[]), Body::Window(corner())));
        settle(world, &mut model);
        verdict
    };
    let first = show(&mut world, 501);
    assert!(!first.trigrams.is_empty() && !first.episode.over_threshold, "{first:?}");
    assert!(!show(&mut world, 502).trigrams.is_empty(), "another subtree, but the same day");
    world.pass(DAY);
    assert!(!show(&mut world, 501).trigrams.is_empty(), "another day: judged first, learnt afterwards");
    world.pass(DAY);
    assert!(!show(&mut world, 501).trigrams.is_empty(), "one subtree alone teaches on no number of days");
    assert!(!show(&mut world, 503).trigrams.is_empty(), "judged first, learnt afterwards");
    assert!(show(&mut world, 504).trigrams.is_empty(), "two subtrees on two days have shown them");
}

#[test]
fn calls_that_are_strange_by_their_order_alone_are_not_strange_where_order_is_gone() {
    let judged = |shuffles: bool| {
        let mut world = World::new(6);
        let mut random = Random::new(7);
        let mut model = support::model(Params::default());
        let mut prepared = |mut window: Window| {
            if shuffles {
                (1..window.trace.len()).rev().for_each(|at| window.trace.swap(at, random.below(at + 1)));
            }
            Body::Window(window)
        };
        for _ in 0..400 {
            let window = world.ordinary();
            let event = world.event(&worker(), prepared(window));
            model.observe(&event, Standing::Learning);
            world.pass(0.2);
        }
        model.freeze(SHOP, world.now());
        // The calls of ordinary requests, backwards.
        let backwards: Vec<u16> = [232, 1, 3, 40, 5, 257, 4, 0, 288].into_iter().cycle().take(128).collect();
        judge(&mut model, &world.event(&worker(), prepared(window_of(&backwards, 4_000))))
    };
    let (ordered, shuffled) = (judged(false), judged(true));
    let seq = |verdict: &Verdict| verdict.vector.get(Coordinate::Seq);
    assert!(seq(&ordered) > 8.0 && ordered.episode.call_sum > 2.0, "{ordered:?}");
    assert!(seq(&shuffled) < 0.7 * seq(&ordered), "{} after {}", seq(&shuffled), seq(&ordered));
    assert!(shuffled.episode.call_sum < 0.5 * ordered.episode.call_sum, "{shuffled:?}");
}

#[test]
fn a_program_that_was_not_frozen_is_not_let_in_by_its_calls() {
    let (mut world, mut model) = shop(8);
    let programs = model.exes(SHOP);
    for day in 0..4 {
        // Started before anybody looked: nothing but its calls is seen, and they are ordinary ones.
        let stranger = process(700 + day, "/opt/stranger", &[]);
        for _ in 0..3 {
            let window = world.ordinary();
            judge(&mut model, &world.event(&stranger, Body::Window(window)));
        }
        settle(&mut world, &mut model);
        world.pass(DAY);
    }
    assert_eq!(model.exes(SHOP), programs, "a fence lets these start");
}

#[test]
fn what_was_found_never_becomes_a_habit() {
    let (mut world, mut model) = shop(3);
    for day in 0..5 {
        // A shell that calls home, and the odd calls that it makes on the way.
        let shell = process(600 + day, "/bin/sh", &[]);
        judge(&mut model, &world.event(&shell, Body::Exec(support::exec(HTTPD, 0))));
        let home = flow(Direction::Out, "198.51.100.7:4444", Why::Close, 300);
        assert!(judge(&mut model, &world.event(&shell, Body::Flow(home))).episode.over_threshold, "day {day}");
        let calls = judge(&mut model, &world.event(&shell, Body::Window(support::in_process_attack(1_000))));
        assert!(!calls.trigrams.is_empty(), "day {day}");
        settle(&mut world, &mut model);
        world.pass(DAY);
    }
}

#[test]
fn what_a_subtree_showed_is_forgotten_although_it_goes_on() {
    let (mut world, mut model) = shop(4);
    let busy = worker();
    let database = flow(Direction::Out, DATABASE, Why::Close, 400);
    let strange = flow(Direction::Out, "203.0.113.9:9000", Why::Close, 400);
    let net = |verdict: Verdict| verdict.vector.get(Coordinate::Net);
    let at_first = net(judge(&mut model, &world.event(&busy, Body::Flow(strange))));
    let mut next = |world: &mut World| {
        world.pass(4.0);
        net(judge(&mut model, &world.event(&busy, Body::Flow(database.clone()))))
    };
    assert!(at_first > 10.0 && next(&mut world) == at_first, "four seconds later both count together");
    (0..5).for_each(|_| _ = next(&mut world));
    assert!(next(&mut world) < 2.0, "half a minute later it does not");
}

#[test]
fn a_busy_server_is_not_found_stranger_from_day_to_day() {
    let (mut world, mut model) = shop(5);
    let mut medians = Vec::new();
    for _ in 0..12 {
        let mut scores = Vec::new();
        for second in 0..60 {
            for event in world.second() {
                let score = judge(&mut model, &event).score.value;
                scores.push(score);
            }
            // Something is always a little odd: an episode of the server is open all day.
            if second % 20 == 0 {
                judge(&mut model, &world.event(&worker(), Body::Window(corner())));
            }
            world.pass(60.0);
        }
        scores.sort_by(f64::total_cmp);
        medians.push(scores[scores.len() / 2]);
        world.pass(DAY / 2.0);
    }
    assert!(medians.iter().all(|median| *median < 1.0), "the median lies at or below that of the rows: {medians:?}");
}
