//! `stockade-trainer datasets`

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::datasets::{Manifest, evaluate_set, load, markdown};

/// Which sets.
#[derive(Debug, Args)]
pub struct Options {
    /// Names as in the manifest; all that are there, when none is named.
    names: Vec<String>,
    /// The manifest.
    #[arg(long, value_name = "FILE", default_value = "datasets/manifest.toml")]
    manifest: PathBuf,
    /// Folder with one folder a set, as `cargo xtask datasets fetch` makes it.
    #[arg(long, value_name = "DIR", default_value = "target/datasets")]
    from: PathBuf,
    /// Seeds of each.
    #[arg(long, default_value_t = 10)]
    seeds: usize,
    /// Where the table goes as Markdown; else it is printed only.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command: counts are checked against those published, then each set is scored.
///
/// # Errors
///
/// When a named set is missing or damaged.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let manifest = Manifest::read(&options.manifest)?;
    for name in &options.names {
        manifest.named(name)?;
    }
    let mut results = Vec::new();
    for set in &manifest.sets {
        let folder = options.from.join(&set.name);
        let named = options.names.contains(&set.name);
        if !named && (!options.names.is_empty() || !folder.is_dir() || set.files.is_empty()) {
            continue;
        }
        let loaded = load(set, &folder)?;
        let (rows, positives) = loaded.counts();
        let counted = if set.rows.is_some() { "as published" } else { "which nothing published was compared with" };
        eprintln!("loaded   {}: {rows} rows, {positives} positive, {counted}", set.name);
        results.extend(evaluate_set(&set.name, &loaded, options.seeds)?);
    }
    if results.is_empty() {
        bail!("{} holds no set: `cargo xtask datasets fetch all` brings them there", options.from.display());
    }
    let table = markdown(&results);
    if let Some(out) = &options.out {
        crate::report::whole(out, &table)?;
    }
    say!("{table}");
    Ok(())
}
