//! A journal that is larger than the memory is trained from all the same: a batch is held at a time.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use model::Event;
use model::event::Process;
use model::journal::{Meta, Row};
use model::random::Random;
use stockade_trainer::journal::{GROUP, Writer};
use stockade_trainer::labels::Split;

use crate::support::{corpus, day, shop::World};

/// What training may hold, in KiB: the stated limit, for rows of about two KiB.
const LIMIT_KIB: u64 = 72 << 10;
/// What no training fits into: without this the test would not know whether the limit is one.
const TOO_LITTLE_KIB: u64 = 12 << 10;
/// Row groups of the journal.
const GROUPS: usize = 7;

/// A day whose command lines nothing can compress, so that the file is as large as what it says.
fn large_day(path: &Path) {
    let (events, _) = day(&mut World::new(5), &[]);
    let mut random = Random::new(5);
    let mut writer = Writer::create(path, &Meta { host: "web".to_owned(), ..Meta::default() }).expect("a journal");
    for event in events.iter().cycle().take(GROUPS * GROUP) {
        let letters = (0..2_000).map(|_| char::from(b'0' + random.below(64) as u8));
        let process = Process { cmdline: letters.collect::<String>().into(), ..(*event.process).clone() };
        let event = Event { process: Arc::new(process), ..event.clone() };
        writer.append(&Row::from(&event)).expect("a row");
    }
    writer.finish().expect("a whole journal");
}

/// Trains with so much memory to write to; the kernel refuses more. What is mapped from the file does not count.
fn train_within(kib: u64, journals: &Path) -> Output {
    let script = format!("ulimit -d {kib}; exec \"$0\" train \"$1\" --out \"$1/model\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_stockade-trainer")]).arg(journals);
    // Each of its threads has a stack, which counts: on a machine with many cores they would be most of it.
    command.env("POLARS_MAX_THREADS", "2").env("RAYON_NUM_THREADS", "2").output().expect("a shell")
}

#[test]
fn a_journal_larger_than_the_memory_is_trained_from() {
    let folder = tempfile::tempdir().expect("a folder");
    corpus(folder.path(), "web", 5, &[(Split::Train, vec![])]);
    let journal = folder.path().join("web/cycle-00.parquet");
    large_day(&journal);
    let size = std::fs::metadata(&journal).expect("the journal").len();
    assert!(size > (2 * LIMIT_KIB) << 10, "the journal's {size} bytes are not twice the memory");
    let done = train_within(LIMIT_KIB, folder.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(told.contains(&format!("learnt   {} events", GROUPS * GROUP)), "{told}");
    let refused = train_within(TOO_LITTLE_KIB, folder.path());
    assert!(!refused.status.success(), "the limit is none");
}
