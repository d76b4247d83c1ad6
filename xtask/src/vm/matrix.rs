//! The matrix: every kernel, with and without LSM, on both cgroup layouts; written down in docs/kernels.md.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::arch::Arch;
use super::guest::{Cell, Cgroups, Report, run_command, run_tests};
use super::host;
use super::image::Binaries;
use super::kernel::Kernel;
use super::page::Page;
use super::{NATIVE, side_by_side};

/// Where verified instructions are kept.
const GOLDEN: &str = "docs/verifier.json";
/// The kernel that is tried on the other architecture.
const FOREIGN: &str = "6.12";
/// A program may need so many times more or less instructions than it was blessed with.
const BAND: f64 = 1.5;

/// What of the matrix is to be run.
pub struct Part<'a> {
    /// Of guests; this machine has rows only beside those of its own.
    pub arch: Arch,
    /// Kernels by name.
    pub names: &'a [&'a str],
    /// One test; all when none is named.
    pub only: Option<&'a str>,
    /// Every kernel, so one of the other architecture too.
    pub whole: bool,
}

/// Runs it and, when `bless`, writes its rows into docs/kernels.md.
pub fn run(root: &Path, binaries: &Binaries, part: &Part, bless: bool) -> anyhow::Result<()> {
    let only = part.only;
    let get = |name: &&str| Kernel::get(name, part.arch);
    let mut kernels = part.names.iter().map(get).collect::<anyhow::Result<Vec<_>>>()?;
    let foreign = if part.whole { foreign(root, &mut kernels)? } else { None };
    let built =
        |kernel: &Kernel| if kernel.arch == part.arch { binaries } else { foreign.as_ref().unwrap_or(binaries) };
    // A guest that dies costs its own rows only.
    let results = side_by_side(&kernels, |kernel| Ok(column(kernel, built(kernel), only)))?;
    let (mut reports, mut doctors, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    if part.arch == NATIVE {
        let own = doctor(&host::doctor(binaries)?)?;
        // After the guests: with the processors to themselves these tests are quickest.
        match host::run_tests(binaries, &own, only.as_slice()) {
            Ok(report) => {
                report.print();
                reports.push(report);
            }
            Err(error) => println!("vm       this machine's row is left out: {error:#}"),
        }
        doctors.push(own);
    }
    for (kernel, result) in kernels.iter().zip(results) {
        match result {
            Ok((of_kernel, doctor)) => {
                reports.extend(of_kernel);
                doctors.push(doctor);
            }
            Err(error) => lost.push(format!("{} has no rows: {error:#}", kernel.release)),
        }
    }
    let mut outliers = check_verifier(root, &doctors, bless)?;
    outliers.extend(lost);
    if bless {
        let path = root.join("docs/kernels.md");
        let mut page = Page::read(&std::fs::read_to_string(&path).unwrap_or_default());
        reports.iter().for_each(|report| page.take_report(report));
        doctors.iter().for_each(|doctor| page.take_doctor(doctor));
        std::fs::write(&path, page.write())?;
        println!("vm       wrote docs/kernels.md and {GOLDEN}");
    }
    let failed: usize = reports.iter().map(Report::failed).sum();
    if failed > 0 || !outliers.is_empty() {
        bail!("{failed} tests failed; {}", outliers.join("; "));
    }
    Ok(())
}

/// Adds one kernel of the other architecture, and what was built for it; says so when that cannot be had here.
fn foreign(root: &Path, kernels: &mut Vec<Kernel>) -> anyhow::Result<Option<Binaries>> {
    let arch = if NATIVE == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 };
    if let Some(program) = arch.missing() {
        println!("skipped: guests of {}: there is no {program} (`cargo xtask setup --for arch`)", arch.name());
        return Ok(None);
    }
    kernels.push(Kernel::get(FOREIGN, arch)?);
    Binaries::build(root, arch).map(Some)
}

/// How a guest differs from the usual one, and the tests that could come out differently there; all when none is named.
struct Variant {
    lsm: bool,
    lockdown: bool,
    cgroups: Cgroups,
    tests: &'static [&'static str],
}

const USUAL: Variant = Variant { lsm: true, lockdown: false, cgroups: Cgroups::V2, tests: &[] };
const VARIANTS: &[Variant] = &[
    USUAL,
    Variant { lsm: false, tests: &["kernel_lsm"], ..USUAL },
    Variant { cgroups: Cgroups::Hybrid, tests: &["kernel_contain", "kernel_bypass"], ..USUAL },
    Variant { cgroups: Cgroups::V1, tests: &["kernel_v1"], ..USUAL },
    Variant { lockdown: true, tests: &["kernel_refused"], ..USUAL },
];

fn column(kernel: &Kernel, binaries: &Binaries, only: Option<&str>) -> anyhow::Result<(Vec<Report>, Value)> {
    let cell = |Variant { lsm, lockdown, cgroups, .. }: &Variant| Cell {
        kernel: kernel.name.clone(),
        lsm: *lsm,
        lockdown: *lockdown,
        cgroups: *cgroups,
    };
    // The doctor's exit code says that something is off, which is what is asked here.
    let (told, _) = run_command(kernel, &cell(&USUAL), binaries, &words("stockade doctor -o json"))?;
    let mut reports = Vec::new();
    let concerned = |tests: &&[&str]| tests.is_empty() || only.is_none_or(|only| tests.contains(&only));
    let variants = if kernel.arch == NATIVE { VARIANTS } else { &VARIANTS[..1] };
    for variant in variants.iter().filter(|variant| concerned(&variant.tests)) {
        let tests: Vec<&str> = only.map_or_else(|| variant.tests.to_vec(), |only| vec![only]);
        let report = run_tests(kernel, &cell(variant), binaries, &tests)?;
        report.print();
        reports.push(report);
    }
    Ok((reports, doctor(&told)?))
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn doctor(text: &str) -> anyhow::Result<Value> {
    let start = text.find('{').context("the doctor said nothing")?;
    Ok(serde_json::from_str(text[start..].trim())?)
}

/// Compares what the verifier looked at with what was blessed; what left its band.
fn check_verifier(root: &Path, doctors: &[Value], bless: bool) -> anyhow::Result<Vec<String>> {
    let mut now: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for doctor in doctors {
        let kernel = doctor["kernel"].as_str().unwrap_or("?").to_owned();
        let counts = now.entry(kernel).or_default();
        for program in doctor["programs"].as_array().into_iter().flatten() {
            if let (Some(name), Some(count)) = (program["program"].as_str(), program["instructions"].as_u64()) {
                counts.insert(name.to_owned(), count);
            }
        }
    }
    let path = root.join(GOLDEN);
    let mut golden: BTreeMap<String, BTreeMap<String, u64>> = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => BTreeMap::new(),
    };
    if bless {
        golden.extend(now);
        std::fs::write(&path, serde_json::to_string_pretty(&golden)? + "\n")?;
        return Ok(Vec::new());
    }
    let mut outliers = Vec::new();
    for (kernel, counts) in &now {
        for (program, count) in counts {
            let Some(blessed) = golden.get(kernel).and_then(|known| known.get(program)) else { continue };
            let ratio = *count as f64 / (*blessed).max(1) as f64;
            if !(1.0 / BAND..=BAND).contains(&ratio) {
                outliers.push(format!("{program} on {kernel}: {count} verified instructions, blessed {blessed}"));
            }
        }
    }
    Ok(outliers)
}
