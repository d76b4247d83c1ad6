//! Ten attacks on the demo's shop: how long from the first malicious operation to the first one that is denied, and what
//! succeeded before.
//!
//! The shop learns and is enforced as in `stockade demo`, in a cgroup and a network namespace of its own. This binary is the
//! agent, its command line and the shop's programs. The times hold unoptimised code.

#[path = "scenarios/attack.rs"]
mod attack;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use attack::{ATTACKS, JOURNAL, Step};
use clap::Parser;
use collector::cli::{Cli, Exit};
use collector::decision::Decision;
use collector::demo::handle::Agent;
use collector::demo::play::Play;
use collector::demo::shop::{self, Heard, Layout, SITE};
use collector::demo::stage::Stage;
use collector::demo::{CLOCK_FACTOR, LEARNING_PATIENCE, disarm, write_config};
use collector::loader::mount_of_cgroup2;

const EPERM: i32 = 1;
const ROUNDS: usize = 3;
/// The parameter by which the helper is told what to do.
const PARAMETER: &str = "attack=";

fn main() -> ExitCode {
    collector::loader::canary::act_if_asked();
    let argv0 = std::env::args_os().next();
    let done = match attack_of(argv0.as_deref()) {
        Some((layout, name)) => attack::run(&layout, &name).map_err(Into::into),
        None => match (shop::run_if_named(argv0.as_deref()), std::env::args().nth(1).as_deref()) {
            (Some(done), _) => done,
            (None, None | Some("--bench")) => bench(),
            (None, _) => match Cli::parse().run() {
                Ok(exit) => return exit.into(),
                Err(error) => {
                    eprintln!("stockade: {error:#}");
                    return Exit::of(&error).into();
                }
            },
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scenarios: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The attack that a request asks the helper for.
fn attack_of(argv0: Option<&OsStr>) -> Option<(Layout, String)> {
    if Path::new(argv0?).file_name()? != "shop-report" {
        return None;
    }
    let query = std::env::var("QUERY_STRING").ok()?;
    let name = query.split('&').find_map(|pair| pair.strip_prefix(PARAMETER))?.to_owned();
    let root = std::env::current_exe().ok()?.parent()?.parent()?.to_path_buf();
    Some((Layout { root }, name))
}

fn bench() -> anyhow::Result<()> {
    let mount = mount_of_cgroup2().context("no cgroup v2 hierarchy is mounted")?;
    let mut stage = Stage::build(&mount)?;
    let root = stage.layout.root.clone();
    let told = measure(&mut stage);
    if told.is_err() {
        let log = std::fs::read_to_string(root.join("agent.log")).unwrap_or_default();
        eprintln!("{}", log.lines().rev().take(8).collect::<Vec<_>>().join("\n"));
    }
    disarm(&root);
    let left = stage.dismantle();
    if !left.is_empty() {
        bail!("left behind: {}", left.join(" "));
    }
    print(&told?);
    Ok(())
}

/// What one run of one attack came to, in ns from its first step.
#[derive(Default)]
struct Run {
    decided: Option<u64>,
    denied: Option<u64>,
    /// Steps that worked before, by name.
    before: BTreeMap<String, u64>,
    found: String,
}

fn measure(stage: &mut Stage) -> anyhow::Result<BTreeMap<&'static str, Vec<Run>>> {
    let config = write_config(stage, None)?;
    let agent = Agent::start(&config, &stage.layout.root.join("agent.log"))?;
    let mut play = Play::begin(stage, agent)?;
    play.learn(CLOCK_FACTOR, LEARNING_PATIENCE)?;
    play.monitor()?;
    play.enforce()?;
    let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, _) in ATTACKS {
            runs.entry(name).or_default().push(attack_once(&play, name)?);
        }
    }
    Ok(runs)
}

fn attack_once(play: &Play<'_>, name: &str) -> anyhow::Result<Run> {
    let layout = &play.stage.layout;
    let _ = std::fs::remove_file(layout.journal(JOURNAL));
    let known: Vec<u64> = play.agent.decisions()?.iter().map(|decision| decision.number).collect();
    let url = format!("http://{SITE}/report?name=x&{PARAMETER}{name}");
    let status = request(play, &url)?;
    let steps: Vec<Step> = lines(&layout.journal(JOURNAL))?;
    let first = steps.first().with_context(|| format!("{name} did nothing (curl ended with {status:?})"))?.boot_ns;
    // The shell on the socket writes nothing down: the attacker does.
    let denied = if name == "reverse-shell" {
        first_silence(layout, first)?
    } else {
        steps.iter().find(|step| step.errno == EPERM).map(|step| step.over_ns)
    };
    let mut before = BTreeMap::new();
    for step in steps.iter().filter(|step| step.errno == 0 && denied.is_none_or(|denied| step.over_ns < denied)) {
        *before.entry(step.step.clone()).or_default() += 1;
    }
    std::thread::sleep(Duration::from_millis(300));
    let new = |decision: &&Decision| !known.contains(&decision.number) && !decision.shadow;
    let decisions = play.agent.decisions()?;
    let decision = decisions.iter().filter(new).min_by_key(|decision| decision.created.boot_ns);
    let findings = play.agent.findings()?;
    if let Some(folder) = std::env::var_os("STOCKADE_SCENARIOS_TOLD") {
        let told = serde_json::json!({ "steps": steps, "decisions": decisions, "findings": findings });
        std::fs::write(Path::new(&folder).join(format!("{name}-{first}.json")), serde_json::to_string_pretty(&told)?)?;
    }
    let of_it = findings.iter().filter(|finding| finding.updated.boot_ns >= first);
    let kinds: std::collections::BTreeSet<String> =
        of_it.filter_map(|finding| serde_json::to_value(finding.kind).ok()?.as_str().map(str::to_owned)).collect();
    let since = |at: u64| at.saturating_sub(first);
    let run = Run {
        decided: decision.map(|decision| since(decision.created.boot_ns)),
        denied: denied.map(since),
        before,
        found: kinds.into_iter().collect::<Vec<_>>().join(", "),
    };
    // The next round finds the field as this one did.
    for decision in decisions.iter().filter(new) {
        play.agent.text(&["decisions", "release", &decision.short(), "--reason", "bench"])?;
    }
    Ok(run)
}

fn request(play: &Play<'_>, url: &str) -> anyhow::Result<Option<i32>> {
    let mut command: Command = play.stage.as_public("curl");
    command.args(["-s", "-m", "6", url]).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.status()?.code())
}

/// When the attacker asked a shell and got no answer any more; `None` when it was answered to the end.
fn first_silence(layout: &Layout, after: u64) -> anyhow::Result<Option<u64>> {
    let heard: Vec<Heard> = lines(&layout.journal("shop-attacker"))?;
    let (mut opened, mut unanswered) = (false, None);
    for heard in &heard {
        match heard {
            Heard::ShellOpen { boot_ns } => opened |= *boot_ns > after,
            Heard::ShellCommand { boot_ns } if opened && unanswered.is_none() => unanswered = Some(*boot_ns),
            Heard::ShellBytes { boot_ns, .. } if *boot_ns > after => unanswered = None,
            _ => {}
        }
    }
    Ok(unanswered)
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn print(runs: &BTreeMap<&str, Vec<Run>>) {
    println!("\nms from the first malicious operation, median (largest) of {ROUNDS} runs\n");
    println!(
        "| attack | what it does | to the decision | to the first denial | what worked before, in the median run | found as |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, what) in ATTACKS {
        let Some(of_it) = runs.get(name) else { continue };
        let times = |pick: fn(&Run) -> Option<u64>| {
            let mut values: Vec<u64> = of_it.iter().filter_map(pick).collect();
            values.sort_unstable();
            match (values.get(values.len() / 2), values.last()) {
                (Some(median), Some(largest)) => {
                    let missed = of_it.len() - values.len();
                    let missed = if missed > 0 { format!(", {missed} of {ROUNDS} never") } else { String::new() };
                    format!("{:.1} ({:.1}){missed}", *median as f64 / 1e6, *largest as f64 / 1e6)
                }
                _ => "never".to_owned(),
            }
        };
        let mut sorted: Vec<&Run> = of_it.iter().collect();
        sorted.sort_by_key(|run| run.denied.unwrap_or(u64::MAX));
        let median = sorted[sorted.len() / 2];
        let before: Vec<String> = median.before.iter().map(|(step, times)| format!("{times} × {step}")).collect();
        let (decided, denied) = (times(|run| run.decided), times(|run| run.denied));
        println!("| {name} | {what} | {decided} | {denied} | {} | {} |", before.join(", "), median.found);
    }
}
