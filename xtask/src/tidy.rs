//! The rules that a compiler does not check: who may use whom, where some names may stand, how long a file may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{cargo, told};

/// Longest source file in lines.
const LONGEST: usize = 500;

/// Our crates and whom of ours they may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("collector-common", &[]),
    ("model", &["collector-common"]),
    ("collector", &["collector-common", "model"]),
    ("stockade-trainer", &["collector-common", "model"]),
    ("xtask", &[]),
    ("collector-ebpf", &["collector-common"]),
];

/// Heavy dependencies of others, and which of our crates may have them. The agent's build knows no polars.
const HEAVY: &[(&str, &[&str])] = &[
    ("polars-core", &["stockade-trainer"]),
    ("polars-io", &["stockade-trainer"]),
    ("rdkafka", &["collector", "stockade-trainer"]),
    ("aya", &["collector", "collector-common"]),
];

/// Crates that forbid unsafe code.
const SAFE: &[&str] = &["model/src/lib.rs", "trainer/src/lib.rs", "trainer/src/main.rs"];

/// A name, and the only paths under which it may be used.
const NAMES: &[(&str, &[&str])] = &[
    ("rdkafka::", &["collector/src/sinks/kafka", "trainer/src/kafka.rs"]),
    ("aya::", &["collector/src/loader/", "collector/src/enforce/", "collector/src/ring.rs", "collector-common/src/"]),
];

/// Checks the whole tree.
pub fn tidy(root: &Path) -> anyhow::Result<()> {
    let mut faults = arrow_faults(&dependencies(root)?);
    for path in sources(root)? {
        let text = std::fs::read_to_string(root.join(&path))?;
        faults.extend(source_faults(&path.to_string_lossy(), &text));
    }
    for path in SAFE {
        if !std::fs::read_to_string(root.join(path))?.contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{path} does not forbid unsafe code"));
        }
    }
    if faults.is_empty() {
        println!("tidy     arrows, names and sizes are as they should be");
        return Ok(());
    }
    bail!("tidy: {}", faults.join("\n      "))
}

type Graph = BTreeMap<String, Vec<String>>;

fn dependencies(root: &Path) -> anyhow::Result<Graph> {
    let mut graph = Graph::new();
    for directory in [root.to_path_buf(), root.join("collector-ebpf")] {
        let arguments = ["metadata", "--format-version", "1", "--no-deps"];
        let text = told(cargo(&directory).args(arguments)).context("cargo metadata failed")?;
        let metadata: serde_json::Value = serde_json::from_str(&text)?;
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let name = package["name"].as_str().unwrap_or_default().to_owned();
            let used = package["dependencies"].as_array().into_iter().flatten();
            graph.insert(name, used.filter_map(|used| used["name"].as_str().map(str::to_owned)).collect());
        }
    }
    Ok(graph)
}

fn arrow_faults(graph: &Graph) -> Vec<String> {
    let ours = |name: &str| ARROWS.iter().any(|(crate_, _)| *crate_ == name);
    let mut faults = Vec::new();
    for (name, used) in graph {
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_, _)| crate_ == name) else {
            faults.push(format!("{name} is not in the table of crates"));
            continue;
        };
        let wrong = used.iter().filter(|used| ours(used) && !allowed.contains(&used.as_str()));
        faults.extend(wrong.map(|used| format!("{name} must not use {used}")));
        let heavy =
            HEAVY.iter().filter(|(of, who)| used.iter().any(|used| used == of) && !who.contains(&name.as_str()));
        faults.extend(heavy.map(|(of, _)| format!("{name} must not use {of}")));
    }
    faults
}

fn source_faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST {
        faults.push(format!("{path} has {lines} lines, more than {LONGEST}: two reasons to change?"));
    }
    for (name, places) in NAMES {
        let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(name));
        if used
            && ["collector", "trainer"].iter().any(|crate_| path.starts_with(crate_))
            && path.contains("/src/")
            && !places.iter().any(|place| path.starts_with(place))
        {
            faults.push(format!("{path} names {name}, which only {} may", places.join(" and ")));
        }
    }
    faults
}

/// Every Rust file under version control, below the root.
fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut open = vec![PathBuf::new()];
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = directory.join(&name);
            let hidden = name.to_string_lossy().starts_with('.') || name == "target";
            if entry.file_type()?.is_dir() && !hidden {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str, used: &[&str]) -> Graph {
        Graph::from([(name.to_owned(), used.iter().map(|used| (*used).to_owned()).collect())])
    }

    #[test]
    fn a_wrong_arrow_is_a_fault() {
        assert_eq!(arrow_faults(&graph("model", &["serde", "collector-common"])), Vec::<String>::new());
        assert_eq!(arrow_faults(&graph("model", &["collector"])), ["model must not use collector"]);
        assert_eq!(arrow_faults(&graph("stranger", &[])), ["stranger is not in the table of crates"]);
        assert_eq!(
            arrow_faults(&graph("stockade-trainer", &["polars-core", "collector"])),
            ["stockade-trainer must not use collector"]
        );
        assert_eq!(arrow_faults(&graph("collector", &["polars-core"])), ["collector must not use polars-core"]);
    }

    #[test]
    fn a_name_out_of_its_place_is_a_fault() {
        assert!(source_faults("collector/src/loader/mod.rs", "use aya::Ebpf;").is_empty());
        assert!(source_faults("collector/src/policy/mod.rs", "// aya::Ebpf is not used here").is_empty());
        assert_eq!(source_faults("collector/src/policy/mod.rs", "use aya::Ebpf;").len(), 1);
        assert_eq!(source_faults("collector/src/score.rs", "use rdkafka::config;").len(), 1);
        assert_eq!(source_faults("trainer/src/ingest.rs", "use rdkafka::config;").len(), 1);
        assert!(source_faults("trainer/src/kafka.rs", "use rdkafka::config;").is_empty());
    }

    #[test]
    fn a_file_that_is_too_long_is_a_fault() {
        assert_eq!(source_faults("model/src/x.rs", &"\n".repeat(LONGEST + 1)).len(), 1);
    }
}
