//! Measures, as ratios within one run: the machine's noise is larger than most effects.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use crate::{bpf, cargo, must};

/// Name and what it measures.
const BENCHES: &[(&str, &str)] = &[
    ("syscall_cost", "ns a syscall above an empty program on the same hook"),
    ("deny_latency", "exec record to deny entry; map update to first denied connect"),
    ("ledger_loss", "records lost against the rate offered and the size of the ring"),
    ("operations", "fork, exec, open and connect with and without every program"),
    ("applications", "redis, nginx, postgres and a build: alone, watched, and under bpftrace and strace"),
    ("scenarios", "ten attacks: from the first malicious operation to the first denied one"),
    ("memory", "agent and kernel memory with many models and processes"),
    ("replay", "a recorded week through decode, enrich, score and policy: records/s and the factor to real time"),
    ("model", "ns a row to scale, score, learn and explain, against plain trees; the judge's p50 and p99"),
];

/// Those that need no kernel.
const MODEL: &str = "model";
const REPLAY: &str = "replay";
/// Agent and model are optimised and, as in a release, do not check for overflow. Nothing else is built anew: the whole release takes
/// many times as long.
const FAST: [&str; 2] = ["collector", "model"];

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// One benchmark; all without.
    name: Option<String>,
    /// Optimised user space; takes minutes to build.
    #[arg(long)]
    release: bool,
}

/// Runs benchmarks.
pub fn bench(root: &Path, options: &Options) -> anyhow::Result<()> {
    let chosen: Vec<_> =
        BENCHES.iter().filter(|(name, _)| options.name.as_deref().is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = BENCHES.iter().map(|(name, _)| *name).collect();
        bail!("no benchmark is called that; there are {}", names.join(", "));
    }
    if chosen.iter().any(|(name, _)| ![MODEL, REPLAY].contains(name)) {
        bpf::build(root)?;
    }
    for (name, what) in chosen {
        println!("bench    {name}: {what}");
        let package = if *name == MODEL { "model" } else { "collector" };
        // The kernel side does not depend on the profile, and the development one is built already. Maths does depend on it,
        // and is quick to build.
        let profile = if options.release || *name == MODEL { "release" } else { "dev" };
        let mut bench = cargo(root);
        bench.args(["bench", "--quiet", "--profile", profile, "--bench", name]);
        if *name == REPLAY && profile == "dev" {
            // With all packages, so that their dependencies are those of the tests.
            bench.arg("--workspace");
            for package in FAST {
                for setting in ["opt-level=3", "overflow-checks=false", "debug-assertions=false"] {
                    bench.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
                }
            }
        } else {
            bench.args(["--package", package]);
        }
        must(&mut bench)?;
    }
    Ok(())
}
