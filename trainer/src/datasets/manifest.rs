//! `datasets/manifest.toml`: source, terms, size, hash, and the meaning of the labels.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// Every public set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The sets.
    #[serde(rename = "set")]
    pub sets: Vec<Entry>,
}

/// A set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// Who reads it.
    pub loader: String,
    /// Licence or terms.
    pub terms: String,
    /// What the labels mean.
    pub label: String,
    /// Whom to cite.
    pub citation: String,
    /// What else there is to know.
    #[serde(default)]
    pub note: String,
    /// Its files; none when it is too large to fetch.
    pub files: Vec<SetFile>,
    /// Rows or traces published.
    #[serde(default)]
    pub rows: Option<usize>,
    /// Anomalous ones published.
    #[serde(default)]
    pub positives: Option<usize>,
}

/// A file of a set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFile {
    /// Name.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Hash.
    pub sha256: String,
    /// Source.
    pub url: String,
}

impl Manifest {
    /// Reads the manifest.
    ///
    /// # Errors
    ///
    /// When it cannot be read or says something unknown.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no manifest of data sets", path.display()))
    }

    /// A set by name.
    ///
    /// # Errors
    ///
    /// Names those that there are.
    pub fn named(&self, name: &str) -> anyhow::Result<&Entry> {
        self.sets.iter().find(|set| set.name == name).with_context(|| {
            let known: Vec<&str> = self.sets.iter().map(|set| set.name.as_str()).collect();
            format!("there is no data set {name}: {}", known.join(", "))
        })
    }
}
