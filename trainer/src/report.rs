//! The evaluation as Markdown for people, JSON for programs, and plots. Each says seed, commit and data hash.

mod budget;
mod markdown;
mod plots;
mod robustness;
mod seeds;

use std::path::Path;

use anyhow::Context;

use crate::evaluate::Evaluation;

pub use markdown::{markdown, rows};

/// Writes `scorecard.md`, `scorecard.json` and the plots into a folder, each whole or not at all.
///
/// # Errors
///
/// When a file cannot be written or a plot cannot be drawn.
pub fn write(folder: &Path, evaluation: &Evaluation) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut files = vec![("scorecard.json".to_owned(), serde_json::to_string_pretty(evaluation)? + "\n")];
    files.extend(plots::all(evaluation)?);
    let plots: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).filter(|name| name.ends_with(".svg")).collect();
    files.push(("scorecard.md".to_owned(), markdown(evaluation, &plots)));
    for (name, text) in &files {
        whole(&folder.join(name), text)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// Writes a file beside its name and renames it.
///
/// # Errors
///
/// When it cannot be written.
pub fn whole(path: &Path, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    std::fs::write(&part, text).with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}
