//! Episodes through the whole model: what adds up, what does not, what may be learnt from them afterwards.

mod support;

use std::net::IpAddr;

use collector_common::deny::{Action, Hook, Match};
use collector_common::flow::{Direction, Why};
use collector_common::process::EXEC_MEMORY;
use model::conduct::Conduct;
use model::event::Deny;
use model::{Body, Event, Fact, Model, Params, Standing};
use support::{HELPER, HTTPD, SHOP, World, exec, flow, in_process_attack, judge, learnt, process, window_of, worker};

const DAY: f64 = 86_400.0;

fn shop(seed: u64) -> (World, Model) {
    let mut world = World::new(seed);
    let model = learnt(Params { seed, ..Params::default() }, &mut world);
    (world, model)
}

#[test]
fn one_fact_repeated_ten_thousand_times_counts_once() {
    let (mut world, mut model) = shop(1);
    let shell = world.process("/bin/sh", &[101, 100]);
    let event = world.event(&shell, Body::Exec(exec(HTTPD, 0)));
    let first = judge(&mut model, &event).episode.score;
    for _ in 0..10_000 {
        world.pass(0.001);
        let again = Event { at: world.now(), ..event.clone() };
        let score = judge(&mut model, &again).episode.score;
        assert!(score <= first + 1.0, "{score} after {first}");
    }
}

#[test]
fn padding_takes_little_away() {
    let attack = in_process_attack(400_000_000);
    let (world, mut model) = shop(2);
    let alone = judge(&mut model, &world.event(&worker(), Body::Window(attack.clone()))).episode.score;

    // The attack spread over as many windows as it has runs of four calls, with ordinary ones in and between them.
    let (mut world, mut model) = shop(2);
    let mut padded: f64 = 0.0;
    for chunk in attack.trace.windows(4) {
        for _ in 0..100 / 4 {
            let window = world.ordinary();
            judge(&mut model, &world.event(&worker(), Body::Window(window)));
        }
        let mut window = world.ordinary();
        window.trace.splice(60..64, chunk.iter().copied());
        (window.read_bytes, window.write_bytes) = (attack.read_bytes / 17, attack.write_bytes / 17);
        padded = padded.max(judge(&mut model, &world.event(&worker(), Body::Window(window))).episode.score);
    }
    assert!(padded >= 0.75 * alone, "padded {padded} against {alone}");
}

#[test]
fn benign_variation_yields_no_episode_over_the_threshold() {
    for seed in [1, 2, 3] {
        let (mut world, mut model) = shop(seed);
        let check = |model: &mut Model, event: Event, what: &str| {
            let episode = judge(model, &event).episode;
            assert!(!episode.over_threshold, "seed {seed}, {what}: {episode:?}");
        };
        // A reload: workers start helpers anew, as they did while learning.
        for n in 0..3 {
            let helper = process(20_000 + n, HELPER, &[101, 100]);
            check(&mut model, world.event(&helper, Body::Exec(exec(HTTPD, 0))), "reload");
        }
        // Load times five: the same things more often.
        for _ in 0..60 {
            for event in (0..5).flat_map(|_| world.second()).collect::<Vec<_>>() {
                check(&mut model, event, "load");
            }
        }
        // An upgraded helper: another inode under the same path is the same program, with a few calls more.
        let helper = process(30_000, HELPER, &[101, 100]);
        check(&mut model, world.event(&helper, Body::Exec(exec(HTTPD, 0))), "upgrade");
        let calls = window_of(&[12, 257, 5, 9, 3, 0, 0, 1, 3, 231], 250);
        check(&mut model, world.event(&helper, Body::Window(calls)), "upgraded helper");
        // Clients from anywhere are never news.
        for client in ["198.51.100.1:1024", "203.0.113.99:65535", "[2001:db8::1]:4444"] {
            let flow = flow(Direction::In, client, Why::Close, 9_000);
            let event = world.event(&worker(), Body::Flow(flow));
            assert!(judge(&mut model, &event).facts.iter().all(|fact| !fact.novel), "{client}");
        }
    }
}

#[test]
fn decoys_shield_neither_what_came_before_them_nor_what_comes_after() {
    let (mut world, mut model) = shop(8);
    let mut conduct = Conduct::default();
    for decoy in 0..60 {
        let started = process(900 + decoy, &format!("/tmp/{decoy}"), &[101, 100]);
        for body in [Body::Exec(exec(HTTPD, 0)), connects(&world, HTTPD, 101, decoy as u8, Why::Close).body] {
            let by = if matches!(body, Body::Exec(_)) { started.clone() } else { worker() };
            let event = world.event(&by, body);
            let verdict = judge(&mut model, &event);
            conduct.follow(&event, &verdict);
        }
        world.pass(0.1);
    }
    let culprits: Vec<u64> = conduct.culprits.iter().map(|culprit| culprit.cookie).collect();
    assert_eq!((culprits.first(), culprits.last()), (Some(&900), Some(&959)));
    let reached: Vec<String> = conduct.reached.iter().map(|(_, to)| to.to_string()).collect();
    assert_eq!(reached.first().map(String::as_str), Some("203.0.113.0:443"));
    assert_eq!(reached.last().map(String::as_str), Some("203.0.113.59:443"));
    assert!(conduct.culprits.len().max(conduct.reached.len()) <= 16, "and it stays bounded");
}

#[test]
fn an_executable_from_memory_speaks_while_learning_and_nothing_else_does() {
    let mut world = World::new(4);
    let mut model = support::model(Params::default());
    let ordinary = world.process("/usr/bin/tool", &[]);
    let started = model.observe(&world.event(&ordinary, Body::Exec(exec("/bin/sh", 0))), Standing::Learning);
    assert_eq!(started.map(|verdict| verdict.episode.score), Some(0.0), "everything is new in the first second");
    let hidden = world.process("/memfd:x (deleted)", &[]);
    let verdict = model.observe(&world.event(&hidden, Body::Exec(exec("/bin/sh", EXEC_MEMORY))), Standing::Learning);
    let verdict = verdict.expect("evidence");
    assert!(verdict.episode.fact_sum >= 20.0, "{:?}", verdict.episode);
    assert!(matches!(verdict.facts[0].fact, Fact::MemoryExec { .. }), "{:?}", verdict.facts);
}

/// A program that the shop never ran.
const TOOL: &str = "/usr/bin/tool";

fn connects(world: &World, exe: &str, cookie: u64, last: u8, why: Why) -> Event {
    let to = format!("203.0.113.{last}:443");
    world.event(&process(cookie, exe, &[]), Body::Flow(flow(Direction::Out, &to, why, 300)))
}

fn address_of(exe: &str, last: u8) -> Fact {
    Fact::Destination { exe: exe.into(), address: IpAddr::from([203, 0, 113, last]), port: 443, protocol: 6 }
}

/// A shop whose helper goes to so many addresses that a new one is nothing special.
fn browsing(seed: u64) -> (World, Model) {
    let mut world = World::new(seed);
    let mut model = support::model(Params { seed, ..Params::default() });
    for n in 0..90 {
        world.second().iter().for_each(|event| drop(model.observe(event, Standing::Learning)));
        model.observe(&connects(&world, HELPER, 5_000 + n, n as u8, Why::Close), Standing::Learning);
    }
    model.freeze(SHOP, world.now());
    world.factor = 1;
    // Not around midnight.
    world.pass(3_600.0);
    (world, model)
}

/// Lets an episode become quiet and close.
fn settle(world: &mut World, model: &mut Model) {
    world.pass(400.0);
    model.tick(world.now());
}

#[test]
fn a_fact_enters_the_frozen_baseline_by_two_subtrees_on_two_days() {
    // Surprising enough for an episode, and hardly surprising at all.
    for (exe, keeps_episode) in [(TOOL, true), (HELPER, false)] {
        let (mut world, mut model) = browsing(5);
        let new = address_of(exe, 200);
        let verdict = judge(&mut model, &connects(&world, exe, 9_001, 200, Why::Close));
        assert!(verdict.facts[0].novel && !verdict.episode.over_threshold, "{exe}: {verdict:?}");
        assert_eq!(verdict.episode.fact_sum > 0.0, keeps_episode, "{exe}: {:?}", verdict.episode);
        settle(&mut world, &mut model);
        assert!(!model.frozen_holds(SHOP, &new), "{exe}: once is not enough");
        judge(&mut model, &connects(&world, exe, 9_002, 200, Why::Close));
        settle(&mut world, &mut model);
        assert!(!model.frozen_holds(SHOP, &new), "{exe}: nor is another subtree on the same day");
        world.pass(DAY);
        judge(&mut model, &connects(&world, exe, 9_003, 200, Why::Close));
        settle(&mut world, &mut model);
        assert!(model.frozen_holds(SHOP, &new), "{exe}");
        assert!(!judge(&mut model, &connects(&world, exe, 9_004, 200, Why::Close)).facts[0].novel);
        assert!(model.frozen_destinations(SHOP).iter().any(|gate| gate.net == IpAddr::from([203, 0, 113, 200])));
    }
}

#[test]
fn the_same_subtree_on_many_days_is_one_witness() {
    for exe in [TOOL, HELPER] {
        let (mut world, mut model) = browsing(6);
        for _ in 0..5 {
            judge(&mut model, &connects(&world, exe, 9_001, 201, Why::Close));
            settle(&mut world, &mut model);
            world.pass(DAY);
        }
        assert!(!model.frozen_holds(SHOP, &address_of(exe, 201)), "{exe}");
    }
}

fn denied(world: &World, exe: &str, cookie: u64) -> Event {
    let deny = Deny {
        decision: 1,
        slot: 0,
        hook: Hook::Connect4 as u8,
        action: Action::Connect as u8,
        matched: Match::Tree as u8,
        protocol: 6,
        suppressed: 0,
        remote: "203.0.113.202:443".parse().expect("an address"),
        file: None,
        shadow: false,
        breaker: false,
    };
    world.event(&process(cookie, exe, &[]), Body::Deny(deny))
}

#[test]
fn what_was_denied_lost_or_found_teaches_nothing() {
    let (mut world, mut model) = browsing(7);
    for day in 0..4 {
        // The kernel tells of the attempt, then denies it: no flow follows.
        for (exe, cookie) in [(HELPER, 9_000 + day), (TOOL, 9_050 + day)] {
            judge(&mut model, &connects(&world, exe, cookie, 202, Why::Novel));
            assert_eq!(model.observe(&denied(&world, exe, cookie), Standing::Ready), None);
        }

        let lossy = process(9_100 + day, TOOL, &[]);
        judge(&mut model, &connects(&world, TOOL, 9_100 + day, 203, Why::Close));
        let mut window = window_of(&[0, 1, 0, 1], 100);
        window.missed = 3;
        assert!(!judge(&mut model, &world.event(&lossy, Body::Window(window))).complete);

        // Over the threshold: a shell of the server that calls home.
        let shell = process(9_200 + day, "/bin/sh", &[101, 100]);
        judge(&mut model, &world.event(&shell, Body::Exec(exec(HTTPD, 0))));
        let home = flow(Direction::Out, "198.51.100.7:4444", Why::Close, 300);
        assert!(judge(&mut model, &world.event(&shell, Body::Flow(home))).episode.over_threshold, "day {day}");

        settle(&mut world, &mut model);
        world.pass(DAY);
    }
    for exe in [HELPER, TOOL] {
        assert!(!model.frozen_holds(SHOP, &address_of(exe, 202)), "denied to {exe}");
    }
    assert!(!model.frozen_holds(SHOP, &address_of(TOOL, 203)), "lossy");
    assert!(!model.frozen_holds(SHOP, &Fact::ExecEdge { parent: HTTPD.into(), child: "/bin/sh".into() }), "found");
}
