//! The same events have the same bits on every machine: whatever its C library, and whether or not its processor fuses
//! multiplications with additions.
//!
//! On another machine: `cargo test --package model --test machines --target aarch64-unknown-linux-gnu`, with a linker for it in
//! `CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER` and an emulator in `…_RUNNER` (`qemu-aarch64-static -L /usr/aarch64-linux-gnu`).

mod support;

use model::replay::Fingerprint;
use model::{Body, Params, Verdict};
use support::{World, in_process_attack, judge, learnt, worker};

#[test]
fn verdicts_and_snapshot_are_those_on_file() {
    let mut world = World::new(11);
    let mut model = learnt(Params::default(), &mut world);
    let mut fingerprint = Fingerprint::default();
    let mut take = |verdict: Verdict| {
        fingerprint.take(&verdict);
        verdict.score
    };
    for event in (0..60).flat_map(|_| world.second()).collect::<Vec<_>>() {
        take(judge(&mut model, &event));
        model.tick(event.at);
    }
    let attack = world.event(&worker(), Body::Window(in_process_attack(4_000)));
    let score = take(judge(&mut model, &attack));
    let snapshot = crc32c::crc32c(&model.snapshot().expect("a snapshot"));
    let told = format!(
        "all verdicts {:016x}\nthe last one {:016x}, {:.3} bits\nsnapshot {snapshot:08x}\n",
        fingerprint.0,
        score.value.to_bits(),
        score.value
    );
    assert_eq!(told, include_str!("golden/machines.txt"), "if this is meant, put the left side on file");
}
