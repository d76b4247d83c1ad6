//! Training needs the same memory for a journal of any size: a batch is held at a time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use stockade_trainer::journal::BATCH;
use stockade_trainer::labels::Split;

use crate::support::{corpus, day, shop::World, write};

/// What an agent's day may cost beyond the memory of a short one.
const MORE_KIB: u64 = 48 << 10;

/// Peak of resident memory in KiB of training on one day of so many events.
fn peak_of_training(folder: &Path, batches: usize) -> u64 {
    let journals = folder.join(batches.to_string());
    corpus(&journals, "web", 5, &[(Split::Train, vec![])]);
    let (events, _) = day(&mut World::new(5), &[]);
    let many: Vec<model::Event> = events.iter().cycle().take(batches * BATCH).cloned().collect();
    write(&journals.join("web/cycle-00.parquet"), "web", &many);
    let mut child = Command::new(env!("CARGO_BIN_EXE_stockade-trainer"))
        .args(["train".as_ref(), journals.as_os_str(), "--out".as_ref(), journals.join("model").as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the trainer");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().expect("a child").success());
    peak
}

#[test]
fn training_needs_no_more_memory_for_a_longer_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let (short, long) = (peak_of_training(folder.path(), 2), peak_of_training(folder.path(), 12));
    assert!(long < short + MORE_KIB, "{short} KiB for 2 batches, {long} KiB for 12");
}
