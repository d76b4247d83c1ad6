//! What was recorded: one line a day, and how often each change and attack occurs in each split.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::labels::{Cycle, Kind, Split};

/// Prints it.
pub fn list(corpus: &Path) -> anyhow::Result<()> {
    let mut occurrences: BTreeMap<(bool, String), [u32; 3]> = BTreeMap::new();
    let mut bytes = 0;
    for labels in files(corpus)?.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "toml")) {
        let cycle = Cycle::read(&labels)?;
        let recording = labels.with_extension("stk.gz");
        let size = fs::metadata(&recording).with_context(|| format!("{} has no recording", labels.display()))?.len();
        bytes += size;
        let attacks = cycle.spans.iter().filter(|span| span.kind == Kind::Attack).count();
        println!(
            "{:<8} {:>2}  {:<10?} {:>6} records {:>3} lost {:>4} kB  {:>2} changes {:>2} attacks  {:?} requests",
            cycle.host,
            cycle.cycle,
            cycle.split,
            cycle.records,
            cycle.lost,
            size / 1000,
            cycle.spans.len() - attacks,
            attacks,
            cycle.requests
        );
        for span in cycle.spans {
            let counts = occurrences.entry((span.kind == Kind::Attack, span.name)).or_default();
            counts[match cycle.split {
                Split::Train => 0,
                Split::Validation => 1,
                Split::Test => 2,
            }] += 1;
        }
    }
    for ((is_attack, name), [train, validation, test]) in occurrences {
        let kind = if is_attack { "attack" } else { "change" };
        println!("{kind} {name:<26} train {train:>2}  validation {validation:>2}  test {test:>2}");
    }
    println!("{} kB in all", bytes / 1000);
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())?) } else { found.push(entry.path()) }
    }
    found.sort();
    Ok(found)
}
