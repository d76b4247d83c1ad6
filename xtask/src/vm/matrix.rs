//! The matrix: every kernel, with and without LSM, on both cgroup layouts; written down in docs/kernels.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::arch::Arch;
use super::guest::{Cell, Cgroups, Report, run_command, run_tests};
use super::host;
use super::image::Binaries;
use super::kernel::Kernel;
use super::{NATIVE, side_by_side};

/// Where verified instructions are kept.
const GOLDEN: &str = "docs/verifier.json";
/// The kernel that is tried on the other architecture.
const FOREIGN: &str = "6.12";
/// A program may need so many times more or less instructions than it was blessed with.
const BAND: f64 = 1.5;

/// Runs the matrix and, when `bless`, writes docs/kernels.md.
pub fn run(root: &Path, binaries: &Binaries, names: &[&str], only: Option<&str>, bless: bool) -> anyhow::Result<()> {
    let mut kernels = names.iter().map(|name| Kernel::get(name, NATIVE)).collect::<anyhow::Result<Vec<_>>>()?;
    let foreign = foreign(root, &mut kernels)?;
    let built = |kernel: &Kernel| if kernel.arch == NATIVE { binaries } else { foreign.as_ref().unwrap_or(binaries) };
    // A guest that dies costs its own rows only.
    let results = side_by_side(&kernels, |kernel| Ok(column(kernel, built(kernel), only)))?;
    let own = doctor(&host::doctor(binaries)?)?;
    let mut reports = Vec::new();
    // After the guests: with the processors to themselves these tests are quickest.
    match host::run_tests(binaries, &own, only.as_slice()) {
        Ok(report) => {
            report.print();
            reports.push(report);
        }
        Err(error) => println!("vm       this machine's row is left out: {error:#}"),
    }
    let mut doctors = vec![own];
    let mut lost = Vec::new();
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
        std::fs::create_dir_all(root.join("docs"))?;
        std::fs::write(root.join("docs/kernels.md"), page(&reports, &doctors, only))?;
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

fn page(reports: &[Report], doctors: &[Value], only: Option<&str>) -> String {
    let command = only.map_or_else(|| "--bless".to_owned(), |only| format!("all {only} --bless"));
    let scope = match only {
        Some(only) => {
            format!(" Of the tests, this run made only `{only}`; without its name the command runs them all.")
        }
        None => String::new(),
    };
    let mut page = format!(
        "# Kernels\n\nGenerated by `cargo xtask vm {command}`.{scope} The first column of programs is the machine that ran \
         it; the others are guests under software emulation.\n\n## Tests\n\n| kernel | bpf LSM | cgroups | test | outcome \
         |\n|---|---|---|---|---|\n",
    );
    for report in reports {
        let lsm = match (report.cell.lsm, report.cell.lockdown) {
            (_, true) => "locked down",
            (true, false) => "yes",
            (false, false) => "no",
        };
        for outcome in &report.outcomes {
            let told = outcome.told().replace('|', "\\|");
            let _ = writeln!(
                page,
                "| {} | {lsm} | {:?} | {} | {told} |",
                report.release, report.cell.cgroups, outcome.test
            );
        }
    }
    page += "\n## Programs\n\nWhat the doctor found: whether a program is on, and the instructions that the verifier \
             looked at.\n\n| program | lost without it |";
    for doctor in doctors {
        let _ = write!(page, " {} |", doctor["kernel"].as_str().unwrap_or("?"));
    }
    page += "\n|---|---|";
    page += &"---|".repeat(doctors.len());
    page.push('\n');
    let programs: Vec<&Value> =
        doctors.iter().rev().flat_map(|doctor| doctor["programs"].as_array()).flatten().collect();
    let mut seen = std::collections::BTreeSet::new();
    for program in programs {
        let name = program["program"].as_str().unwrap_or("?");
        if !seen.insert(name) {
            continue;
        }
        let _ = write!(page, "| {name} | {} |", program["lost"].as_str().unwrap_or_default());
        for doctor in doctors {
            let _ = write!(page, " {} |", state_of(doctor, name));
        }
        page.push('\n');
    }
    page
}

fn state_of(doctor: &Value, name: &str) -> String {
    let programs = doctor["programs"].as_array().into_iter().flatten();
    let Some(program) = programs.into_iter().find(|program| program["program"] == name) else {
        return "not needed".to_owned();
    };
    let state = program["state"].as_str().unwrap_or("?");
    match program["instructions"].as_u64() {
        Some(count) if state == "on" => format!("on, {count}"),
        _ => state.to_owned(),
    }
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
    if bless {
        std::fs::write(&path, serde_json::to_string_pretty(&now)? + "\n")?;
        return Ok(Vec::new());
    }
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Vec::new()) };
    let golden: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_str(&text)?;
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
