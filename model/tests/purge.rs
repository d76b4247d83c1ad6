//! Acceptance 9: after a purge the model is, byte for byte, one that never saw the incident.

mod support;

use std::sync::Arc;

use collector_common::flow::{Direction, Why};
use model::event::{Exit, Fork, Process};
use model::purge::{Incident, Purge, Said};
use model::{Body, Event, Model, Params, Standing};
use support::{HTTPD, SHOP, World, exec, flow, in_process_attack, process, window_of};

/// What the model is told, and which process began the incident.
struct Story {
    said: Vec<Said>,
    /// Up to here nobody attacked.
    before: usize,
    incident: Incident,
}

/// Learning, judged days with traffic, an intrusion in the middle of it, and days afterwards: A, incident, B.
fn story(seed: u64, intrude: impl Fn(&mut World) -> (u64, Vec<Event>)) -> Story {
    let (mut world, mut said) = (World::new(seed), Vec::new());
    let second = |world: &mut World, said: &mut Vec<Said>, standing| {
        said.extend(world.second().into_iter().map(|event| Said::Event(event, standing)));
        said.push(Said::Time(world.now()));
    };
    (0..90).for_each(|_| second(&mut world, &mut said, Standing::Learning));
    said.push(Said::Freeze(SHOP.into(), world.now()));
    world.factor = 1;
    for _ in 0..40 {
        second(&mut world, &mut said, Standing::Ready);
        world.pass(120.0);
    }
    let (before, since) = (said.len(), world.now());
    let (anchor, events) = intrude(&mut world);
    for event in events {
        said.push(Said::Event(event, Standing::Ready));
        second(&mut world, &mut said, Standing::Ready);
    }
    let until = world.now();
    // Long enough that rows are admitted, trees are replaced and facts of the incident are admitted.
    for day in 0..3 {
        for _ in 0..120 {
            second(&mut world, &mut said, Standing::Ready);
            world.pass(300.0);
        }
        let shell = process(40_000 + day, "/bin/sh", &[101, 100]);
        said.push(Said::Event(world.event(&shell, Body::Exec(exec(HTTPD, 0))), Standing::Ready));
        world.pass(20_000.0);
    }
    said.push(Said::Time(world.now()));
    Story { said, before, incident: Incident { anchor, since, until } }
}

fn told(said: &[Said]) -> Model {
    let mut model = support::model(Params::default());
    said.iter().for_each(|one| drop(model.hear(one)));
    model
}

/// A shell that a worker starts, its children down to a depth at which an event names the shell no more, and what they do.
fn shell_with_descendants(world: &mut World) -> (u64, Vec<Event>) {
    let mut ancestors = vec![101, 100];
    let shell = world.process("/bin/sh", &ancestors);
    let mut events = vec![world.event(&shell, Body::Exec(exec(HTTPD, 0)))];
    let mut last = shell.clone();
    for _ in 0..24 {
        ancestors.insert(0, last.cookie);
        ancestors.truncate(16);
        let child = world.process("/bin/sh", &ancestors);
        let fork = Fork { child: child.cookie, clone_flags: 0 };
        events.push(world.event(&last, Body::Fork(fork)));
        events.push(world.event(&child, Body::Exec(exec("/bin/sh", 0))));
        events.push(world.event(&child, Body::Window(window_of(&[41, 42, 33, 33, 33, 59, 0, 1, 41, 42, 87], 900))));
        last = child;
    }
    events.push(world.event(&last, Body::Flow(flow(Direction::Out, "198.51.100.7:4444", Why::Close, 70_000))));
    events.push(world.event(&last, Body::Exit(Exit { code: 0 })));
    (shell.cookie, events)
}

/// Code inside a worker, whose process was there before and goes on afterwards.
fn in_process(world: &mut World) -> (u64, Vec<Event>) {
    let worker: Arc<Process> = process(102, HTTPD, &[100]);
    let attack = |bytes| world.event(&worker, Body::Window(in_process_attack(bytes)));
    (worker.cookie, vec![attack(9_000_000), attack(50), attack(400_000)])
}

#[test]
fn a_purged_model_is_one_that_never_saw_the_incident() {
    let stories = [story(1, shell_with_descendants), story(2, shell_with_descendants), story(3, in_process)];
    for Story { said, before, incident } in stories {
        let saw = told(&said);
        let mut purge = Purge::of([incident]);
        let clean: Vec<Said> = said.iter().filter(|one| !purge.leaves_out(one)).cloned().collect();
        assert!(clean.len() < said.len());
        let never_saw = told(&clean);

        // From a checkpoint before the incident, as an agent does it: through bytes, and the log through bytes.
        for from in [before, before / 2] {
            let checkpoint = told(&said[..from]).snapshot().expect("bytes");
            let mut purged = Model::restore(&checkpoint).expect("the same model");
            let mut purge = Purge::of([incident]);
            for one in &said[from..] {
                let one = Said::from_bytes(&one.to_bytes().expect("bytes")).expect("the same");
                if !purge.leaves_out(&one) {
                    purged.hear(&one);
                }
            }
            assert!(purged.snapshot().expect("bytes") == never_saw.snapshot().expect("bytes"));
            assert!(purged.snapshot().expect("bytes") != saw.snapshot().expect("bytes"), "it had taught something");
        }
    }
}

#[test]
fn what_was_said_is_written_and_read_back() {
    let Story { said, .. } = story(4, shell_with_descendants);
    for one in said.iter().chain([&Said::Thaw(SHOP.into())]) {
        assert_eq!(&Said::from_bytes(&one.to_bytes().expect("bytes")).expect("the same"), one);
    }
    assert!(Said::from_bytes(&[9, 9, 9]).is_err());
}
