//! This machine's own kernel, as one more row beside the guests.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use super::guest::{Cell, Cgroups, Report};
use super::image::Binaries;
use super::outcome::{self, outcomes};
use super::page::HERE;

/// What the doctor says here, as JSON.
///
/// # Errors
/// `stockade` does not start.
pub fn doctor(binaries: &Binaries) -> anyhow::Result<String> {
    let output = Command::new(binaries.agent()?).args(["doctor", "-o", "json"]).output().context("stockade doctor")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the tests here; all when `only` names none. They confine themselves to cgroups of their own.
///
/// # Errors
/// Not root, or a binary does not start.
pub fn run_tests(binaries: &Binaries, doctor: &Value, only: &[&str]) -> anyhow::Result<Report> {
    if crate::told(Command::new("id").arg("-u")).as_deref() != Some("0") {
        bail!("tests on this machine's own kernel need root");
    }
    let mut text = String::new();
    for name in binaries.names().filter(|name| only.is_empty() || only.contains(name)) {
        let output = Command::new(binaries.path(name)?)
            .args(["--test-threads", "1", "--color", "never"])
            .env("RUST_BACKTRACE", "0")
            .output()
            .with_context(|| format!("cannot run {name}"))?;
        let code = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        text += &format!("{}\n{said}\n{complained}\n@@ end {code}\n", outcome::begin(name));
    }
    let cgroups = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { Cgroups::V2 } else { Cgroups::Hybrid };
    let mut programs = doctor["programs"].as_array().into_iter().flatten();
    let lsm = programs.any(|program| program["hook"]["type"] == "lsm" && program["state"] == "on");
    let release = doctor["kernel"].as_str().unwrap_or("?");
    let cell = Cell { kernel: "this machine".to_owned(), lsm, lockdown: false, cgroups };
    Ok(Report { cell, release: format!("{release}{HERE}"), outcomes: outcomes(&text), text })
}
