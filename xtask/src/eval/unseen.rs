//! `cargo xtask eval unseen`: what the model finds of attacks that were written after it had been frozen, by somebody else, on a
//! host that it was never tuned on. Evaluated like the corpus, once; writes docs/unseen.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use super::{journal, programs};
use crate::{must, run, told};

/// False alarms a host-day that were allowed before anything was evaluated.
const BUDGET: f64 = 1.0;
/// The commit after which the attacks were written.
const FREEZE: &str = "40f5a48";
/// Everything that decides what is found.
const DETECTOR: [&str; 5] = ["model", "collector", "collector-common", "collector-ebpf", "trainer"];

/// What was seen to be wrong after the evaluation, and left as it was: a label that is put right later is a label that was tuned.
const FAULTS: &str = "One label is at fault, which was seen after the evaluation and left as it was. `ssh-tunnel` names the workload of sshd; what was carried through the tunnel belongs to `login`. So that half of it could not count as found, and whatever was said of it would count as a false alarm.";

/// On what.
#[derive(Args)]
pub struct Options {
    /// Folder of recordings and labels, HOST/cycle-NN.stk.gz and .toml.
    #[arg(long, value_name = "DIR", default_value = "datasets/unseen")]
    corpus: PathBuf,
    /// Seeds of the whole system.
    #[arg(long, default_value_t = 10)]
    seeds: usize,
    /// Passes at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only write the page anew, from the evaluation that was made before.
    #[arg(long)]
    page: bool,
}

/// The part of scorecard.json that is told in words here.
#[derive(Deserialize)]
struct Evaluation {
    budgets: Vec<f64>,
    /// The whole system first, then its rivals.
    rows: Vec<Row>,
    seeds: Option<Seeds>,
    attacks: Vec<Attack>,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Row {
    at: Vec<AtBudget>,
}

#[derive(Deserialize)]
struct AtBudget {
    false_a_day: f64,
}

/// What the whole system reaches over its seeds, a budget each.
#[derive(Deserialize)]
struct Seeds {
    seeds: Vec<u64>,
    found: Vec<Spread>,
    false_a_day: Vec<Spread>,
}

#[derive(Deserialize)]
struct Spread {
    median: f64,
}

#[derive(Deserialize)]
struct Attack {
    name: String,
    found_at: Vec<f64>,
}

#[derive(Deserialize)]
struct Change {
    name: String,
    times: usize,
    findings: Vec<usize>,
}

/// Makes the journals that are missing, evaluates, and writes the page.
pub fn unseen(root: &Path, options: &Options) -> anyhow::Result<()> {
    let (corpus, target) = (root.join(&options.corpus), run::target(root)?);
    let (journals, out) = (target.join("unseen"), target.join("unseen-scorecard"));
    if !options.page {
        evaluate(root, options, &corpus, &journals, &out)?;
    }
    let read = |name: &str| {
        let path = out.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("the evaluation wrote no {}", path.display()))
    };
    let evaluation = serde_json::from_str(&read("scorecard.json")?).context("scorecard.json is not as expected")?;
    let is_frozen = is_frozen(root);
    let page = page(&head(root, is_frozen), &evaluation, &explained(root)?, &read("scorecard.md")?);
    // What was unseen is so once: the page of that one evaluation stays.
    let path = root.join(if is_frozen { "docs/unseen.md" } else { "docs/unseen-since.md" });
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote    {}", path.display());
    Ok(())
}

fn evaluate(root: &Path, options: &Options, corpus: &Path, journals: &Path, out: &Path) -> anyhow::Result<()> {
    let programs = programs(root)?;
    journal(&programs, corpus, journals)?;
    let mut evaluate = Command::new(&programs.trainer);
    evaluate.current_dir(root).arg("evaluate").arg(journals).arg("--labels").arg(corpus).arg("--out").arg(out);
    evaluate.args(["--jobs", &options.jobs.to_string(), "--seeds", &options.seeds.to_string(), "--no-ablations"]);
    must(&mut evaluate)
}

/// What each attack does, in the words of whoever wrote it.
fn explained(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let attacker = root.join("datasets/scenarios/outside/attacker");
    let text = told(Command::new("python3").arg("-B").arg(&attacker).arg("--explain"))
        .with_context(|| format!("{} does not say what its attacks do", attacker.display()))?;
    Ok(text.lines().filter_map(|line| line.split_once('\t')).map(|(name, text)| (name.into(), text.into())).collect())
}

/// Whether the detector is still the one that the attacks were written after.
fn is_frozen(root: &Path) -> bool {
    let mut difference = Command::new("git");
    difference.current_dir(root).args(["diff", "--quiet", FREEZE, "--"]).args(DETECTOR);
    difference.status().is_ok_and(|status| status.success())
}

fn head(root: &Path, is_frozen: bool) -> String {
    let told = |command: &mut Command| told(command).unwrap_or_else(|| "unknown".to_owned());
    let date = told(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let detector = ["log", "-1", "--format=%h of %cs (“%s”)", "--"].into_iter().chain(DETECTOR);
    let detector = told(Command::new("git").current_dir(root).args(detector));
    let written = told(Command::new("git").current_dir(root).args([
        "log",
        "-1",
        "--diff-filter=A",
        "--format=%h",
        "--",
        "datasets/scenarios/outside/attacker/unseen.py",
    ]));
    let begin = "Generated by `cargo xtask eval unseen`; do not edit.";
    let thresholds = "Thresholds come from the validation days of the host itself; the budget, one false alarm a day, was fixed before.";
    if is_frozen {
        format!(
            "# Unseen\n\n{begin}\n\n{date}. The detector is that of commit {detector}. The attacks of the test days, and the changes that only they have, came to the repository in commit {written}: written after the model had been frozen at {FREEZE}, by a party that did not build it ([datasets](../datasets/README.md#the-unseen-host)). {thresholds} It was evaluated once, with every parameter as shipped, and nothing was changed for what came out.\n"
        )
    } else {
        format!(
            "# No longer unseen\n\n{begin}\n\n{date}. The detector is that of commit {detector}, which was changed after [unseen](unseen.md) had been read, because of what it says ([0020](decisions/0020-whose-episode-it-is.md)). So this page is no evidence about attacks that nobody has seen: it says what the same days come to now. {thresholds}\n"
        )
    }
}

/// Misses and costs by name, then the scorecard as it is.
fn page(head: &str, evaluation: &Evaluation, explained: &BTreeMap<String, String>, card: &str) -> String {
    let mut out = format!("{head}\n## Missed\n\n");
    // Writing to a string does not fail.
    let _ = missed(&mut out, evaluation, explained).and_then(|()| costly(&mut out, evaluation));
    // What stands before its first table are title and command of another page.
    let body = card.split_once("do not edit.\n").map_or(card, |(_, body)| body);
    let plots = body.find("\n![").unwrap_or(body.len());
    out.push_str(body[..plots].trim());
    out.push('\n');
    out
}

fn missed(out: &mut String, evaluation: &Evaluation, explained: &BTreeMap<String, String>) -> std::fmt::Result {
    let (found, missed): (Vec<&Attack>, Vec<&Attack>) =
        evaluation.attacks.iter().partition(|attack| attack.found_at.contains(&BUDGET));
    let total = found.len() + missed.len();
    let at = place(evaluation);
    let false_a_day = evaluation.rows.first().and_then(|row| row.at.get(at)).map_or(f64::NAN, |at| at.false_a_day);
    write!(
        out,
        "With the seed that is shipped, {} of {total} are found and {} are not, at {false_a_day:.2} false alarms a host-day where {BUDGET} was allowed",
        found.len(),
        missed.len()
    )?;
    if let Some(over) = &evaluation.seeds
        && let (Some(found), Some(false_a_day)) = (over.found.get(at), over.false_a_day.get(at))
    {
        write!(out, "; the median of {} seeds is {} at {:.2}", over.seeds.len(), found.median, false_a_day.median)?;
    }
    writeln!(out, ". Missed with the shipped one:\n")?;
    for attack in missed {
        let text = explained.get(&attack.name).map_or("", String::as_str);
        writeln!(out, "- **{}**: {text}", attack.name)?;
    }
    Ok(())
}

/// Where the budget stands among those that were evaluated.
fn place(evaluation: &Evaluation) -> usize {
    evaluation.budgets.iter().position(|budget| *budget == BUDGET).unwrap_or(0)
}

fn costly(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    let at = place(evaluation);
    let costs = |change: &&Change| change.findings.get(at).is_some_and(|findings| *findings > 0);
    writeln!(out, "\n{FAULTS}\n\n## Benign changes that cost findings\n\nAt the same budget, over the test days:\n")?;
    for change in evaluation.changes.iter().filter(costs) {
        writeln!(out, "- **{}**: {} of {} times", change.name, change.findings[at], change.times)?;
    }
    if !evaluation.changes.iter().any(|change| costs(&change)) {
        writeln!(out, "- none")?;
    }
    writeln!(out, "\n## What the evaluation says\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_what_is_missed_and_which_change_costs() {
        let evaluation: Evaluation = serde_json::from_str(
            r#"{"budgets": [10.0, 1.0], "rows": [{"at": [{"false_a_day": 9.0}, {"false_a_day": 3.75}]}],
                "seeds": {"seeds": [1, 2], "found": [{"median": 2.0}, {"median": 1.5}], "false_a_day": [{"median": 9.0}, {"median": 3.0}]}, "attacks": [{"name": "late", "found_at": [10.0]}, {"name": "seen", "found_at": [10.0, 1.0]}],
                "changes": [{"name": "hot-fix", "times": 2, "findings": [2, 1]}, {"name": "restart", "times": 3, "findings": [1, 0]}]}"#,
        )
        .expect("the scorecard's form");
        let explained = BTreeMap::from([("late".to_owned(), "It waits.".to_owned())]);
        let card = "# Scorecard\n\nGenerated by `cargo xtask eval`; do not edit.\n\nCommit.\n\n![plot](plot.svg)\n";
        let page = page("# Unseen\n", &evaluation, &explained, card);
        assert!(
            page.contains("1 of 2 are found and 1 are not, at 3.75 false alarms a host-day where 1 was allowed"),
            "{page}"
        );
        assert!(page.contains("the median of 2 seeds is 1.5 at 3.00"), "{page}");
        assert!(page.contains("- **late**: It waits.\n") && !page.contains("**seen**"), "{page}");
        assert!(page.contains("- **hot-fix**: 1 of 2 times\n") && !page.contains("**restart**"), "{page}");
        assert!(page.ends_with("Commit.\n") && !page.contains("# Scorecard"), "{page}");
    }
}
