//! Sets up and runs every test. A test that was left out is named, never counted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::setup::{Options, Purpose, setup};
use crate::{bpf, cargo, kafka, must, notebooks, tidy, told, vm};

/// Runs every test.
pub fn test(root: &Path) -> anyhow::Result<()> {
    let mut skipped: Vec<String> = Vec::new();
    if let Err(error) = setup(&Options { purpose: Purpose::Test, yes: false }) {
        skipped.push(format!("setup was not complete: {error:#}"));
    }
    // A fault of style must not hide what the tests say; it fails the whole all the same.
    let mut faults: Vec<String> = tidy::tidy(root).err().map(|error| error.to_string()).into_iter().collect();
    if told(cargo(root).args(["fmt", "--version"])).is_some() {
        let formatted = must(cargo(root).args(["fmt", "--all", "--check"]));
        faults.extend(formatted.err().map(|error| error.to_string()));
    } else {
        skipped.push("format check: rustfmt is not installed".to_owned());
    }
    if told(cargo(root).args(["deny", "--version"])).is_some() {
        let allowed = must(cargo(root).args(["deny", "check", "licenses", "bans", "sources"]));
        faults.extend(allowed.err().map(|error| error.to_string()));
    } else {
        skipped.push("licences and sources of dependencies: cargo-deny is not installed".to_owned());
    }
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    let is_root = told(Command::new("id").arg("-u")).as_deref() == Some("0");
    match bpf::build(root) {
        Err(error) => {
            command.env("STOCKADE_SKIP_KERNEL_TESTS", format!("the kernel object was not built: {error:#}"));
        }
        Ok(_) if !is_root => {
            command.env("STOCKADE_SKIP_KERNEL_TESTS", "not root");
        }
        Ok(_) => (),
    }
    if kafka::are_there() {
        command.env("STOCKADE_KAFKA_LIBS", kafka::libs()?);
    }
    // Test harnesses keep the output of tests that pass; this is how they say that they were left out.
    let notes = std::env::temp_dir().join(format!("stockade-skipped-{}", std::process::id()));
    command.env("STOCKADE_SKIP_NOTES", &notes);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with("skipped:") {
            skipped.push(line.clone());
        }
        println!("{line}");
    }
    let status = child.wait()?;
    skipped.extend(std::fs::read_to_string(&notes).unwrap_or_default().lines().map(str::to_owned));
    let _ = std::fs::remove_file(&notes);
    skipped.sort();
    skipped.dedup();
    if skipped.is_empty() {
        println!("skipped  nothing");
    }
    for line in &skipped {
        println!("skipped  {}", line.trim_start_matches("skipped:").trim());
    }
    if !status.success() {
        faults.push(format!("cargo test: {status}"));
    }
    println!();
    // Recorded days that the trainer's tests hold too: four of thirty, so that this takes a minute.
    let days = notebooks::Options::of(root.join("trainer/tests/data/corpus"));
    match notebooks::missing() {
        Some(why) => println!("skipped  notebooks: {why}"),
        None => faults.extend(notebooks::notebooks(root, &days).err().map(|error| format!("notebooks: {error:#}"))),
    }
    match vm::gate(root) {
        Ok(None) => (),
        Ok(Some(why)) => println!("skipped  other kernels: {why}"),
        Err(error) => faults.push(format!("{error:#}")),
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}
