//! The golden table of workload identity: `path<TAB>runtime state or -<TAB>workload`.
//!
//! A changed line voids the baselines of whoever runs that workload, so it is changed on purpose only:
//! `STOCKADE_BLESS=1 cargo test -p collector --test identity` rewrites the third column.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use collector::enrich::cgroup::Membership;
use collector::enrich::identity::identify;
use collector::enrich::kubernetes;
use collector::enrich::runtime::{ContainerInfo, PodInfo};

fn table() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/identity.tsv")
}

/// `key=value` pairs: `id` (only this container is known; default any), `name`, `image`, `pod`, `ns`, `container`.
fn container(state: &str, id: &str) -> Option<ContainerInfo> {
    if state == "-" {
        return None;
    }
    let value = |key: &str| {
        let pair = state.split(' ').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key));
        pair.map(|(_, value)| value.to_owned())
    };
    if value("id").is_some_and(|known| known != id) {
        return None;
    }
    let pod = value("pod").map(|pod| {
        let (kind, name) = kubernetes::owner(&pod, |_| None);
        PodInfo {
            namespace: value("ns").unwrap(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            container: value("container").unwrap_or("pause".to_owned()),
        }
    });
    Some(ContainerInfo { name: value("name"), image: value("image"), digest: None, pod })
}

/// The first column is a path, or a whole line of `/proc/PID/cgroup`.
fn path(column: &str) -> String {
    let is_line = column.starts_with("0::") || column.contains(":name=systemd:");
    if is_line { Membership::parse(column).telling().unwrap().to_owned() } else { column.to_owned() }
}

#[test]
fn every_golden_path_has_its_workload() {
    let golden = fs::read_to_string(table()).unwrap();
    let mut blessed = String::new();
    let mut checked = 0;
    for line in golden.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [cgroup, state, _expected] = columns[..] else {
            assert!(line.starts_with('#'), "neither a row nor a comment: {line}");
            blessed += &format!("{line}\n");
            continue;
        };
        let found = identify(&path(cgroup), |id| container(state, id)).workload;
        blessed += &format!("{cgroup}\t{state}\t{found}\n");
        checked += 1;
    }
    assert!(checked >= 100, "only {checked} rows");
    if std::env::var_os("STOCKADE_BLESS").is_some() {
        fs::write(table(), &blessed).unwrap();
        return;
    }
    for (expected, found) in golden.lines().zip(blessed.lines()) {
        assert_eq!(expected, found);
    }
}

#[test]
fn no_workload_name_holds_what_changes_at_every_start() {
    let golden = fs::read_to_string(table()).unwrap();
    let workloads: HashSet<&str> = golden.lines().filter_map(|line| line.split('\t').nth(2)).collect();
    for workload in workloads {
        // UUIDs of pods are spelt with underscores, so they count as one piece.
        let longest = workload.replace('_', "0").split(|letter: char| !letter.is_ascii_hexdigit()).map(str::len).max();
        assert!(longest < Some(12), "{workload} holds an id");
        assert!(!workload.contains("4711"), "{workload} holds a pid");
        assert!(workload.len() <= 200);
    }
}
