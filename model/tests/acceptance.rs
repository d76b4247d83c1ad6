//! Tests that a toy does not pass, by number. Others stand elsewhere: 7 in `reservoir.rs` and `crossfit.rs`, 9 in
//! `purge.rs`, 12 in `health.rs`.

mod support;

use std::sync::Arc;

use collector_common::flow::{Direction, Why};
use collector_common::process::{EXEC_MEMORY, EXEC_RENEWED};
use model::conduct::{is_news, is_novel_exec, novel_destination};
use model::event::Process;
use model::online::{Detector, PooledForest};
use model::random::Random;
use model::threshold::{Calibration, Past, Recall};
use model::{Body, Coordinate, Event, FeatureVector, Model, Params, Standing, Time};
use support::{HTTPD, SHOP, World, exec, flow, in_process_attack, judge, learnt, process, window_of, worker};

const DAY: f64 = 86_400.0;
/// A program that every workload has.
const CLIENT: &str = "/usr/bin/client";

fn shop(seed: u64) -> (World, Model) {
    let mut world = World::new(seed);
    let model = learnt(Params { seed, ..Params::default() }, &mut world);
    (world, model)
}

fn of_workload(process: &Process, workload: &str) -> Arc<Process> {
    Arc::new(Process { workload: workload.into(), ..process.clone() })
}

/// 2. Who did it matters: with the workloads' labels dealt anew, what one of them never does is not strange any more.
#[test]
fn item_02_without_the_labels_of_workloads_lineage_and_net_collapse() {
    let bits = |shuffles: bool| {
        let (mut world, mut random) = (World::new(2), Random::new(3));
        let mut model = support::model(Params::default());
        for n in 0..4_000_u64 {
            let own = n % 8;
            let (exe, child) = (format!("/srv/server{own}"), format!("/srv/helper{own}"));
            let label = format!("unit:{}.service", if shuffles { random.below(8) as u64 } else { own });
            let started = of_workload(&process(10_000 + n, &child, &[own + 1]), &label);
            model.observe(&world.event(&started, Body::Exec(exec(&exe, 0))), Standing::Learning);
            let to = flow(Direction::Out, &format!("10.0.{own}.5:5432"), Why::Close, 400);
            let client = of_workload(&process(10_000 + n, CLIENT, &[]), &label);
            model.observe(&world.event(&client, Body::Flow(to)), Standing::Learning);
            world.pass(0.05);
        }
        (0..8).for_each(|n| model.freeze(&format!("unit:{n}.service"), world.now()));
        // The first workload does what the second one always does.
        let stranger = of_workload(&process(90_000, "/srv/helper1", &[2]), "unit:0.service");
        let started = judge(&mut model, &world.event(&stranger, Body::Exec(exec("/srv/server1", 0))));
        let client = of_workload(&process(90_001, CLIENT, &[]), "unit:0.service");
        let to = flow(Direction::Out, "10.0.1.5:5432", Why::Close, 400);
        let called = judge(&mut model, &world.event(&client, Body::Flow(to)));
        (started.vector.get(Coordinate::Lineage), called.vector.get(Coordinate::Net), started.facts[0].novel)
    };
    let (labelled, shuffled) = (bits(false), bits(true));
    assert!(labelled.2 && !shuffled.2, "{labelled:?} {shuffled:?}");
    assert!(labelled.0 > 8.0 && labelled.1 > 8.0, "{labelled:?}");
    assert!(shuffled.0 < 0.6 * labelled.0 && shuffled.1 < 0.6 * labelled.1, "{labelled:?} {shuffled:?}");
}

/// 3. One fact, and everything else as always: named first where it is news, and nothing where news is daily bread.
#[test]
fn item_03_one_new_port_is_news_for_a_server_and_none_for_a_build_job() {
    let (mut world, mut model) = shop(3);
    for _ in 0..20 {
        world.second().iter().for_each(|event| drop(judge(&mut model, event)));
    }
    let quiet = process(101, HTTPD, &[100]);
    world.pass(60.0);
    let new = flow(Direction::Out, "10.0.0.5:9200", Why::Novel, 0);
    let verdict = judge(&mut model, &world.event(&quiet, Body::Flow(new)));
    assert!(verdict.facts[0].novel && verdict.facts[0].class_a && verdict.facts[0].bits >= 6.0, "{:?}", verdict.facts);
    assert!(is_news(&world.event(&quiet, Body::Flow(flow(Direction::Out, "10.0.0.5:9200", Why::Novel, 0))), &verdict));
    let first = &verdict.explanation.parts[0];
    assert!(first.coordinate == Coordinate::Net && first.because.contains("10.0.0.5:9200"), "{}", verdict.explanation);
    let found = verdict.episode.score;

    let mut model = support::model(Params::default());
    let build = |cookie| of_workload(&process(cookie, "/usr/bin/curl", &[]), "unit:build.service");
    let mut world = World::new(4);
    for n in 0..600_u64 {
        let to = flow(Direction::Out, &format!("192.0.{}.{}:{}", n % 200, n % 250, 1_024 + n * 7), Why::Close, 400);
        model.observe(&world.event(&build(n + 1), Body::Flow(to)), Standing::Learning);
        world.pass(0.5);
    }
    model.freeze("unit:build.service", world.now());
    world.factor = 1;
    let fetch = world.event(&build(5_000), Body::Flow(flow(Direction::Out, "198.51.100.9:9200", Why::Novel, 0)));
    let verdict = judge(&mut model, &fetch);
    assert!(verdict.episode.score < 0.5 * found && !verdict.episode.over_threshold, "{:?}", verdict.episode);
    assert!(verdict.facts[0].novel && !is_news(&fetch, &verdict), "never seen, and no finding: {:?}", verdict.facts);
}

/// Sparse bits: mostly nothing, now and then a few in one coordinate; in every fiftieth, a deploy, in four at once.
fn row(random: &mut Random, with_deploys: bool) -> FeatureVector {
    let mut row = FeatureVector::default();
    let deploy = with_deploys && random.unit() < 0.02;
    for (at, bits) in row.bits.iter_mut().enumerate() {
        if random.unit() < 0.1 || (deploy && at < 4) {
            *bits = if deploy && at < 4 { 2.5 + 2.5 * random.unit() } else { -1.3 * (1.0 - random.unit()).ln() };
        }
    }
    row
}

fn grown(seed: u64, with_deploys: bool) -> PooledForest {
    let mut forest = PooledForest::new(&Params { seed, ..Params::default() });
    let (mut random, host) = (Random::new(seed + 1), model::counts::Counts::default());
    for n in 0..4_000 {
        let at = Time { unix_ns: n * 60_000_000_000, boot_ns: n * 60_000_000_000 };
        forest.offer(n % 7, at, row(&mut random, with_deploys), &[]);
        forest.publish(at);
        forest.begin_what_is_due(at, &host, Recall::default);
    }
    forest
}

/// 4. Seven quiet coordinates do not drown the eighth.
#[test]
fn item_04_one_strange_coordinate_outranks_the_benign() {
    for seed in 1..=5 {
        let (forest, mut random) = (grown(seed, false), Random::new(seed + 100));
        let mut strange = FeatureVector::default();
        strange.raise(Coordinate::Net, forest.limits()[Coordinate::Net as usize] + 8.0);
        let score = forest.score(&strange).value;
        let above = (0..5_000).filter(|_| forest.score(&row(&mut random, false)).value > score).count();
        assert!(above <= 10, "seed {seed}: {above} of 5,000 lie above it");
    }
}

/// 4. What rises together at every deploy outranks one strange coordinate three times less often than by the sum of bits.
#[test]
fn item_04_the_forest_knows_deploys() {
    let (mut forest_above, mut sum_above) = (0, 0);
    for seed in 1..=5 {
        let (forest, mut random) = (grown(seed, true), Random::new(seed + 100));
        let mut strange = FeatureVector::default();
        strange.raise(Coordinate::Net, 15.0);
        let score = forest.score(&strange).value;
        for row in (0..5_000).map(|_| row(&mut random, true)) {
            forest_above += u32::from(forest.score(&row).value > score);
            sum_above += u32::from(row.bits.iter().sum::<f64>() > 15.0);
        }
    }
    assert!(sum_above > 100, "the sum of bits is fooled by deploys: {sum_above}");
    assert!(3 * forest_above <= sum_above, "forest {forest_above}, sum of bits {sum_above}, of 25,000");
}

/// 5. Thirty stationary days: as many pages as the budget says, and in the last ten no more than in the first ten.
#[test]
fn item_05_thirty_days_of_thresholds_do_not_ratchet() {
    const SEEDS: u64 = 200;
    // Episodes come one by one, or in modes that last for a third of a day and share their scale.
    for mode in [1, 10] {
        let (mut early, mut late) = (0_u32, 0_u32);
        for seed in 0..SEEDS {
            let (mut calibration, mut random) = (Calibration::default(), Random::new(seed));
            let at = |day: f64| Time { unix_ns: 1 + (day * 86_400e9) as u64, boot_ns: 0 };
            calibration.begin(at(0.0));
            let mut scale = 1.0;
            for n in 0..30 * 30 {
                let day = f64::from(n) / 30.0;
                if n % mode == 0 {
                    scale = if mode == 1 { 1.0 } else { 0.5 + random.unit() };
                }
                let score = 15.0 - 6.0 * scale * (1.0 - random.unit()).ln();
                let level = calibration.threshold(at(day), 1.0, 1_000.0);
                let pages = u32::from(level.calibrated && score >= level.level);
                early += if (10.0..20.0).contains(&day) { pages } else { 0 };
                late += if day >= 20.0 { pages } else { 0 };
                // Everything counts, what paged as well.
                calibration.add(Past::new("a".into(), at(day), score, Vec::new()), score, 1.0);
            }
        }
        let a_day = |pages: u32| f64::from(pages) / 10.0 / SEEDS as f64;
        let (early, late) = (a_day(early), a_day(late));
        assert!((0.7..1.4).contains(&early) && (0.7..1.4).contains(&late), "modes of {mode}: {early} {late} a day");
        assert!(late < 1.15 * early, "modes of {mode}: {early} {late} a day");
    }
}

/// 6. An attack of ten minutes at a hundred windows a second does not become the model.
#[test]
fn item_06_a_burst_is_as_strange_in_its_last_minute_as_in_its_first() {
    let (mut world, mut model) = shop(6);
    let mut minutes = Vec::new();
    for _ in 0..10 {
        let mut sum = 0.0;
        for _ in 0..6_000 {
            let window = world.event(&worker(), Body::Window(in_process_attack(4_000)));
            sum += judge(&mut model, &window).score.value;
            world.pass(0.01);
        }
        model.tick(world.now());
        minutes.push(sum / 6_000.0);
    }
    assert!(minutes[0] > 10.0 && minutes[9] >= 0.9 * minutes[0], "{minutes:?}");
}

/// What a backup does at night.
fn backup() -> [Body; 3] {
    let copies: Vec<u16> = [257, 5, 40, 40, 3].into_iter().cycle().take(120).collect();
    [
        Body::Exec(exec("/usr/sbin/cron", 0)),
        Body::Window(window_of(&copies, 90_000_000)),
        Body::Flow(flow(Direction::Out, "10.0.0.77:873", Why::Close, 90_000_000)),
    ]
}

/// 6. What came three nights while the baseline was learnt raises nothing on the fourth, and nothing after a restart.
#[test]
fn item_06_a_nightly_job_is_no_news_on_the_fourth_night() {
    let (mut world, mut model) = shop(7);
    model.thaw(SHOP);
    for night in 0..3 {
        let job = process(50_000 + night, "/usr/bin/backup", &[1]);
        for body in backup() {
            model.observe(&world.event(&job, body), Standing::Learning);
        }
        for _ in 0..20 {
            world.second().iter().for_each(|event| drop(model.observe(event, Standing::Learning)));
            world.pass(DAY / 20.0 - 1.0);
        }
    }
    model.freeze(SHOP, world.now());
    for night in 3..5 {
        let job = process(50_000 + night, "/usr/bin/backup", &[1]);
        for body in backup() {
            let verdict = judge(&mut model, &world.event(&job, body));
            assert!(!verdict.episode.over_threshold, "night {night}: {:?}", verdict.episode);
            assert!(verdict.facts.iter().all(|fact| !fact.novel) && verdict.trigrams.is_empty(), "{verdict:?}");
        }
        model = Model::restore(&model.snapshot().expect("bytes")).expect("the same");
        world.pass(DAY);
        model.tick(world.now());
    }
}

/// A shell that a worker starts and that calls home, within two seconds. Whether that is over the threshold.
fn reverse_shell(world: &mut World, model: &mut Model, cookie: u64) -> bool {
    let shell = process(cookie, "/bin/sh", &[101, 100]);
    judge(model, &world.event(&shell, Body::Exec(exec(HTTPD, 0))));
    world.pass(1.0);
    let home = flow(Direction::Out, "198.51.100.7:4444", Why::Novel, 0);
    judge(model, &world.event(&shell, Body::Flow(home))).episode.over_threshold
}

/// 8. Ten thousand weak anomalies of as many processes hide nothing.
#[test]
fn item_08_a_flood_hides_no_shell() {
    let (mut world, mut model) = shop(8);
    for n in 0..10_000 {
        let other = process(100_000 + n, "/usr/bin/helper", &[]);
        let odd = flow(Direction::Out, &format!("203.0.{}.{}:443", n % 250, n % 199), Why::Close, 300);
        judge(&mut model, &world.event(&other, Body::Flow(odd)));
        world.pass(0.002);
    }
    assert!(reverse_shell(&mut world, &mut model, 900_000));
}

/// 10. A cold workload: code that runs from memory speaks at once, twenty images that start up do not.
#[test]
fn item_10_a_cold_workload_is_quiet_unless_code_runs_from_memory() {
    let (mut world, mut model) = shop(10);
    let mut pages = 0;
    for image in 0..20_u64 {
        let workload = format!("image:{image}");
        for n in 0..30 {
            let exe = format!("/opt/{image}/program{}", n % 6);
            let started = of_workload(&process(200_000 + image * 100 + n, &exe, &[]), &workload);
            let parent = format!("/opt/{image}/init");
            let window = window_of(&[(n * 17 % 300) as u16, (n * 29 % 300) as u16, 3, 1, 0, 257, 9, 10, 12], 4_000);
            let to = flow(Direction::Out, &format!("10.{image}.{n}.9:{}", 1_000 + n), Why::Close, 10_000);
            for body in [Body::Exec(exec(&parent, 0)), Body::Window(window), Body::Flow(to)] {
                let verdict = model.observe(&world.event(&started, body), Standing::Learning);
                pages += u32::from(verdict.is_some_and(|verdict| verdict.episode.over_threshold));
            }
            world.pass(0.6);
        }
    }
    assert!(pages <= 1, "{pages} pages");
    let hidden = of_workload(&process(300_000, "/memfd:x (deleted)", &[]), "image:3");
    let verdict =
        model.observe(&world.event(&hidden, Body::Exec(exec("/opt/3/init", EXEC_MEMORY))), Standing::Learning);
    let verdict = verdict.expect("evidence");
    assert!(verdict.episode.fact_sum >= 20.0 && verdict.facts[0].bits >= 20.0, "{:?}", verdict.episode);
}

/// 11. The same calls a hundred times as many ordinary ones between them, or dealt out to thirty-two threads.
#[test]
fn item_11_padding_and_threads_take_at_most_a_quarter() {
    let attack = in_process_attack(400_000_000);
    let most = |spread: &dyn Fn(&mut World) -> Vec<Event>| {
        let (mut world, mut model) = shop(11);
        let events = spread(&mut world);
        events.iter().map(|event| judge(&mut model, event).episode.score).fold(0.0, f64::max)
    };
    let alone = most(&|world| vec![world.event(&worker(), Body::Window(attack.clone()))]);
    let chunks: Vec<Vec<u16>> = attack.trace.windows(4).map(<[u16]>::to_vec).collect();
    let with_chunk = |world: &mut World, chunk: &[u16], tid: u32| {
        let mut window = world.ordinary();
        window.tid = tid;
        window.trace.splice(60..64, chunk.iter().copied());
        (window.read_bytes, window.write_bytes) = (attack.read_bytes / 17, attack.write_bytes / 17);
        world.event(&worker(), Body::Window(window))
    };
    let padded = most(&|world| {
        let mut events = Vec::new();
        for chunk in &chunks {
            for _ in 0..25 {
                let window = world.ordinary();
                events.push(world.event(&worker(), Body::Window(window)));
                world.pass(0.01);
            }
            events.push(with_chunk(world, chunk, 1));
        }
        events
    });
    let split = most(&|world| {
        (0..32).map(|thread| with_chunk(world, &chunks[thread % chunks.len()], 100 + thread as u32)).collect()
    });
    assert!(padded >= 0.75 * alone && split >= 0.75 * alone, "{padded} and {split} of {alone}");
}

/// What the new version of the server calls: it looks at the clock and locks more often, in places where the old one did not.
fn as_deployed(events: &mut [Event], second: usize) {
    for event in events {
        if let Body::Window(window) = &mut event.body {
            let extra = window_of(&[228, 202], 0).trace;
            let calls = window
                .trace
                .iter()
                .enumerate()
                .flat_map(|(at, call)| [Some(*call), (at % 9 == second % 9).then_some(extra[at % 2])]);
            window.trace = calls.flatten().take(128).collect();
        }
    }
}

/// 14. A deploy under load: another file with calls more is at most one finding and nothing to deny, is said for a day, and the
/// shell is found right after it.
#[test]
fn item_14_a_deploy_is_at_most_one_finding_and_blinds_nobody() {
    for seed in [1, 2, 3] {
        let (mut world, mut model) = shop(seed);
        model.thaw(SHOP);
        let started =
            |world: &World, bits| world.event(&process(100, HTTPD, &[1]), Body::Exec(exec("/sbin/init", bits)));
        model.observe(&started(&world, EXEC_RENEWED), Standing::Learning);
        model.freeze(SHOP, world.now());
        assert!(model.summary(SHOP).is_some_and(|summary| summary.stale.is_empty()), "it has learnt from this one");

        let to =
            |world: &World| world.event(&worker(), Body::Flow(flow(Direction::Out, "10.0.0.5:9200", Why::Novel, 0)));
        let before = judge(&mut model.clone(), &to(&world)).facts[0].bits;
        assert!(judge(&mut model, &started(&world, EXEC_RENEWED)).stale);
        let inherited = judge(&mut model.clone(), &to(&world)).facts[0].bits;
        assert!(inherited < before && inherited > before - 1.0, "half the counts: {inherited} of {before} bits");

        let mut found = std::collections::BTreeSet::new();
        for second in 0..60 {
            let mut events = world.second();
            as_deployed(&mut events, second);
            for event in events {
                let verdict = judge(&mut model, &event);
                assert!(!is_novel_exec(&event, &verdict) && novel_destination(&event, &verdict).is_none());
                assert_eq!(verdict.stale, &*event.process.exe == HTTPD, "the helper is the old one");
                if verdict.episode.over_threshold {
                    found.insert(verdict.episode.anchor);
                }
            }
        }
        assert!(found.len() <= 1, "seed {seed}: {found:?}");
        assert_eq!(model.summary(SHOP).expect("known").stale, [HTTPD.into()]);
        let restored = Model::restore(&model.snapshot().expect("bytes")).expect("the same");
        assert_eq!(restored.summary(SHOP), model.summary(SHOP));
        assert!(reverse_shell(&mut world, &mut model, 900_000), "seed {seed}");
        world.pass(DAY);
        let window = world.ordinary();
        assert!(!judge(&mut model, &world.event(&worker(), Body::Window(window))).stale, "a day later it is its own");
    }
}
