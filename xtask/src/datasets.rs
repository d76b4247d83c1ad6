//! `cargo xtask datasets`: public sets by name, checked by size and hash. Nothing of them is in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::run;

/// What to do with public sets.
#[derive(Subcommand)]
pub enum Datasets {
    /// What there is: terms, sizes, and whom to cite.
    List,
    /// Bring a set to target/datasets/NAME.
    Fetch {
        /// Name as in datasets/manifest.toml, or `all`.
        name: String,
        /// Take the files from this folder, at any depth, instead of the network.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
}

#[derive(Deserialize)]
struct Manifest {
    set: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    title: String,
    terms: String,
    citation: String,
    #[serde(default)]
    note: String,
    files: Vec<SetFile>,
}

#[derive(Deserialize)]
struct SetFile {
    name: String,
    bytes: u64,
    sha256: String,
    url: String,
}

/// Runs the chore.
pub fn datasets(root: &Path, what: &Datasets) -> anyhow::Result<()> {
    let path = root.join("datasets/manifest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("{} is no manifest", path.display()))?;
    match what {
        Datasets::List => {
            for set in &manifest.set {
                let size: u64 = set.files.iter().map(|file| file.bytes).sum();
                let size = if set.files.is_empty() { "not fetched".to_owned() } else { format!("{} KB", size / 1000) };
                println!(
                    "{:<12} {size:>12}  {}\n{:27}{}\n{:27}{}",
                    set.name, set.title, "", set.terms, "", set.citation
                );
                if !set.note.is_empty() {
                    println!("{:27}{}", "", set.note);
                }
            }
            Ok(())
        }
        Datasets::Fetch { name, from } => {
            let wanted: Vec<&Set> = manifest.set.iter().filter(|set| name == "all" || set.name == *name).collect();
            if wanted.is_empty() {
                let known: Vec<&str> = manifest.set.iter().map(|set| set.name.as_str()).collect();
                bail!("there is no data set {name}: {}", known.join(", "));
            }
            let folder = run::target(root)?.join("datasets");
            wanted.into_iter().try_for_each(|set| fetch(&folder.join(&set.name), set, from.as_deref()))
        }
    }
}

fn fetch(folder: &Path, set: &Set, from: Option<&Path>) -> anyhow::Result<()> {
    if set.files.is_empty() {
        println!("skipped  {}: too large to fetch; the loader reads what you have ({})", set.name, set.citation);
        return Ok(());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    println!("terms    {}: {}", set.name, set.terms);
    for file in &set.files {
        let (target, part) = (folder.join(&file.name), folder.join(format!("{}.part", file.name)));
        if check(&target, file).is_ok() {
            println!("there    {}", target.display());
            continue;
        }
        let brought = match from {
            Some(from) => copy(from, &file.name, &part),
            None => download(&file.url, &part),
        };
        if let Err(error) = brought.and_then(|()| check(&part, file)) {
            let _ = std::fs::remove_file(&part);
            return Err(error.context(format!("{} cannot be fetched", set.name)));
        }
        std::fs::rename(&part, &target).with_context(|| format!("cannot write {}", target.display()))?;
        println!("fetched  {}", target.display());
    }
    Ok(())
}

fn copy(from: &Path, name: &str, to: &Path) -> anyhow::Result<()> {
    let source = find(from, name)?.with_context(|| format!("{name} is nowhere below {}", from.display()))?;
    std::fs::copy(&source, to).with_context(|| format!("cannot copy {}", source.display()))?;
    Ok(())
}

fn download(url: &str, to: &Path) -> anyhow::Result<()> {
    let patience = ["--connect-timeout", "20", "--max-time", "900", "--retry", "3", "--retry-max-time", "60"];
    let mut curl = Command::new("curl");
    let output = curl.arg("-fsSL").args(patience).arg("-o").arg(to).arg(url).output();
    let output = output.context("cannot run curl, which downloads: `apt-get install curl`")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let last = why.lines().last().unwrap_or("it does not say why").trim();
        bail!("{url} cannot be downloaded: {last}; who has the file gives its folder by --from DIR");
    }
    Ok(())
}

fn check(path: &Path, file: &SetFile) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 != file.bytes {
        bail!(
            "{} has {} bytes, not the {} of the manifest: cut off, or another edition",
            path.display(),
            bytes.len(),
            file.bytes
        );
    }
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if hash != file.sha256 {
        bail!("{} has the hash {hash}, not {}: it is not what was evaluated", path.display(), file.sha256);
    }
    Ok(())
}

fn find(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot look into {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|own| own == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_and_another_hash_are_refused() {
        let path = std::env::temp_dir().join(format!("stockade-datasets-{}", std::process::id()));
        std::fs::write(&path, b"abc").unwrap();
        let good = SetFile {
            name: "x".into(),
            bytes: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
            url: String::new(),
        };
        assert!(check(&path, &good).is_ok());
        assert!(
            check(&path, &SetFile { bytes: 4, ..good }).unwrap_err().to_string().contains("not the 4 of the manifest")
        );
        std::fs::write(&path, b"abd").unwrap();
        let other = SetFile { name: "x".into(), bytes: 3, sha256: "ba78".into(), url: String::new() };
        assert!(check(&path, &other).unwrap_err().to_string().contains("it is not what was evaluated"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_fetched_is_whole_or_not_there() {
        let folder = std::env::temp_dir().join(format!("stockade-fetch-{}", std::process::id()));
        let (shelf, into) = (folder.join("shelf"), folder.join("into"));
        std::fs::create_dir_all(&shelf).unwrap();
        std::fs::write(shelf.join("x"), b"abc").unwrap();
        let set = |bytes, name: &str| Set {
            name: "letters".into(),
            title: String::new(),
            terms: String::new(),
            citation: String::new(),
            note: String::new(),
            files: vec![SetFile {
                name: "x".into(),
                bytes,
                sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
                url: format!("file://{}", shelf.join(name).display()),
            }],
        };
        let files = || std::fs::read_dir(&into).unwrap().count();
        let refused = |set: &Set, from: Option<&Path>| format!("{:#}", fetch(&into, set, from).unwrap_err());
        let missing = refused(&set(3, "y"), None);
        assert!(missing.contains("shelf/y cannot be downloaded: curl:") && missing.contains("--from DIR"), "{missing}");
        assert!(refused(&set(4, "x"), None).contains("not the 4 of the manifest"));
        assert!(refused(&set(3, "x"), Some(&into)).contains("x is nowhere below"));
        assert_eq!(files(), 0, "nothing half-fetched is left");
        fetch(&into, &set(3, "x"), None).unwrap();
        std::fs::remove_file(into.join("x")).unwrap();
        fetch(&into, &set(3, "x"), Some(&shelf)).unwrap();
        assert_eq!(files(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_manifest_says_everything_of_every_set() {
        let text = include_str!("../../datasets/manifest.toml");
        let manifest: Manifest = toml::from_str(text).unwrap();
        assert!(manifest.set.len() >= 10);
        for set in &manifest.set {
            assert!(!set.terms.is_empty() && !set.citation.is_empty(), "{}", set.name);
            assert!(
                set.files.iter().all(|file| file.sha256.len() == 64 && file.url.starts_with("https://")),
                "{}",
                set.name
            );
        }
    }
}
