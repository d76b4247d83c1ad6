//! `stockade findings`

use clap::Subcommand;

use super::printable::printable;
use super::{Common, Exit, Output, table};
use crate::api::protocol::{Request, Watch};
use crate::decision::short_number;
use crate::finding::{Finding, FindingState, Severity};

/// What was found.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The open ones, and closed ones that were more than low.
    List {
        /// Closed low ones too.
        #[arg(long)]
        all: bool,
    },
    /// Why, since when, how sure, what was done, how to undo it.
    Show {
        /// `F-…`, or the whole id.
        name: String,
    },
    /// As they change, until interrupted.
    Watch,
}

/// Runs the command.
///
/// # Errors
///
/// When there is no answer, or nothing can be printed.
pub fn run(common: &Common, command: Command) -> anyhow::Result<Exit> {
    let mut client = common.client()?;
    match command {
        Command::List { all } => {
            let findings: Vec<Finding> = client.ask(Request::Findings { all })?;
            let header = ["FINDING", "SEVERITY", "TYPE", "STATE", "WORKLOAD", "SINCE", "SEEN", "TITLE"];
            table::list(common.output, &findings, header, |finding| {
                [
                    finding.short(),
                    name(&finding.severity).to_uppercase(),
                    name(&finding.kind),
                    name(&finding.state),
                    finding.workload.to_string(),
                    table::time(finding.created.unix_ns),
                    format!("{}x", finding.count),
                    finding.title.clone(),
                ]
            })?;
            let open = |finding: &Finding| finding.state == FindingState::Open && finding.severity > Severity::Low;
            Ok(if findings.iter().any(open) { Exit::Attention } else { Exit::Fine })
        }
        Command::Show { name } => {
            let finding: Finding = client.ask(Request::Finding { name })?;
            table::one(common.output, &finding, show)?;
            Ok(Exit::Fine)
        }
        Command::Watch => {
            for item in client.watch(Request::Watch { what: Watch::Findings })? {
                let item = item?;
                if let Some(missed) = item["missed"].as_u64() {
                    eprintln!("missed {missed} changes: this terminal is too slow; `stockade findings list` has them");
                    continue;
                }
                match (common.output, serde_json::from_value::<(String, Finding)>(item["finding"].clone())) {
                    (Output::Table, Ok((change, finding))) => table::say(&format!(
                        "{}  {:<7} {}  {:<6} {:<12} {}  {}",
                        table::time(finding.updated.unix_ns),
                        change,
                        finding.short(),
                        self::name(&finding.severity).to_uppercase(),
                        self::name(&finding.kind),
                        printable(&finding.workload),
                        printable(&finding.title),
                    ))?,
                    _ => table::json(Output::Jsonl, &item)?,
                }
            }
            Ok(Exit::Fine)
        }
    }
}

/// A finding for people.
pub fn show(finding: &Finding) -> String {
    let line = |label: &str, text: String| format!("{label:<8}{}", printable(&text));
    let mut out = vec![
        format!(
            "{}  {}  {}  {}  {} – {}  seen {}x{}",
            finding.short(),
            name(&finding.severity).to_uppercase(),
            name(&finding.kind),
            name(&finding.state),
            table::time(finding.created.unix_ns),
            table::time(finding.updated.unix_ns),
            finding.count,
            if finding.test { "  (a test: no feed pages anybody)" } else { "" },
        ),
        line(
            "Where",
            format!(
                "{} on {}, {}; evidence lost {:.1} %{}",
                finding.workload,
                finding.host,
                name(&finding.mode),
                100.0 * finding.lost,
                if finding.stale { "; stale: its program's file is new since less than a day" } else { "" }
            ),
        ),
        line("What", finding.title.clone()),
    ];
    for (at, reason) in finding.reasons.iter().enumerate() {
        let label = if at == 0 { "Why" } else { "" };
        out.push(line(
            label,
            format!("{:<13} {}   usual: {}   {:.1} bits", reason.what, reason.now, reason.usual, reason.bits),
        ));
    }
    let calibrated = if finding.calibrated { "" } else { ", not calibrated" };
    let depth = finding
        .depth
        .map_or_else(String::new, |(now, usual)| format!("; isolated after {now:.1} cuts, usually {usual:.1}"));
    out.push(line(
        "",
        format!("score         {:.1} bits, threshold {:.1}{calibrated}{depth}", finding.score, finding.threshold),
    ));
    for part in &finding.parts {
        out.push(line("", format!("{:<13} {part}", part.coordinate.name())));
    }
    if let Some(last) = finding.tree.last() {
        let login = last.loginuid.map_or_else(|| "none (daemon)".to_owned(), |uid| uid.to_string());
        out.push(line("Who", format!("uid {}, login {login}", last.uid)));
    }
    let tree: Vec<_> = finding.tree.iter().map(|process| format!("{}({})", process.exe, process.pid)).collect();
    out.push(line("Tree", tree.join(" > ")));
    if let Some(last) = finding.tree.last() {
        out.push(line("", format!("runs: {}", last.cmdline)));
    }
    for (at, done) in finding.happened.iter().enumerate() {
        out.push(line(if at == 0 { "Before" } else { "" }, done.clone()));
    }
    for number in &finding.decisions {
        let short = short_number(*number);
        out.push(line("Done", format!("{short}; {} operations denied so far", finding.denied)));
        out.push(line("Next", format!("stockade decisions release {short} --reason \"…\"")));
    }
    if finding.decisions.is_empty() {
        out.push(line("Done", "nothing was denied".to_owned()));
    }
    if finding.anchor != 0 {
        out.push(line("Say", format!("stockade marks benign|malicious {} --reason \"…\"", finding.short())));
    }
    out.join("\n")
}

/// The name that something has in JSON.
pub fn name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
