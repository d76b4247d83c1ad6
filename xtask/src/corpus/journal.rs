//! Turns recordings into journals: one Parquet file a cycle.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::{cargo, must, run};

/// Every recording that is newer than its journal.
pub fn journal(root: &Path) -> anyhow::Result<()> {
    must(cargo(root).args(["build", "--package", "collector", "--bin", "stockade"]))?;
    let target = run::target(root)?;
    let stockade = target.join("debug/stockade");
    for host in folders(&root.join("datasets/corpus"))? {
        let name = host.file_name().context("a host without a name")?.to_owned();
        let folder = target.join("corpus").join(&name);
        fs::create_dir_all(&folder)?;
        for recording in files(&host)? {
            let cycle =
                recording.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".stk.gz"));
            let Some(cycle) = cycle else { continue };
            let journal = folder.join(format!("{cycle}.parquet"));
            if is_newer(&journal, &recording) {
                continue;
            }
            convert(&stockade, &recording, &journal)?;
            // The trainer looks for labels beside a journal.
            let labels = format!("{cycle}.toml");
            fs::copy(host.join(&labels), folder.join(&labels)).with_context(|| format!("cannot copy {labels}"))?;
            println!("corpus   {}", journal.display());
        }
    }
    Ok(())
}

fn convert(stockade: &Path, recording: &Path, journal: &Path) -> anyhow::Result<()> {
    let scratch = journal.with_extension("journal");
    let _ = fs::remove_dir_all(&scratch);
    must(
        Command::new(stockade)
            .arg("replay")
            .arg(recording)
            .arg("--journal")
            .arg(&scratch)
            .stdout(std::process::Stdio::null()),
    )?;
    let parts: Vec<_> =
        files(&scratch)?.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "parquet")).collect();
    let [part] = &parts[..] else { bail!("{} holds {} Parquet files, not one", scratch.display(), parts.len()) };
    fs::rename(part, journal)?;
    Ok(fs::remove_dir_all(&scratch)?)
}

fn is_newer(one: &Path, other: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    time(one).zip(time(other)).is_some_and(|(one, other)| one > other)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn folders(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn files(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_file()).collect())
}
