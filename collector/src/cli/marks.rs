//! `stockade marks`

use clap::{Subcommand, ValueEnum};

use super::decisions::seconds;
use super::findings::name;
use super::{Common, Exit, table};
use crate::api::protocol::{NewMark, Request};
use crate::decision::Author;
use crate::policy::marks::{Mark, Reach, Scope, Word};

/// What people said about findings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The marks in force, and how often each kept something from being found.
    List {
        /// Those that are over or were undone, too.
        #[arg(long)]
        all: bool,
    },
    /// This is fine: nothing of its kind within the scope is found or denied any more. It is still scored and kept.
    Benign {
        /// `F-…`.
        finding: String,
        /// How far you mean it.
        #[arg(long, value_enum, default_value_t = ScopeName::Exact)]
        scope: ScopeName,
        /// What is dangerous anywhere is found all the same, unless it is named: `memory exec`, `socket on stdio`, …
        #[arg(long, value_name = "WHAT")]
        naming: Vec<String>,
        /// For how long: `8h`, `30d`. Without it until it is undone.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        for_seconds: Option<u64>,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// This was an attack: the model becomes one that never saw what this subtree did since the finding began.
    Malicious {
        /// `F-…`.
        finding: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Take a mark back.
    Undo {
        /// `M-…`.
        name: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
}

/// A scope by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScopeName {
    /// This very program, destination or directory.
    Exact,
    /// Whatever the same program does of this kind in this workload.
    Program,
    /// Whatever anybody does of this kind in this workload.
    Workload,
}

/// Runs the command.
///
/// # Errors
///
/// When there is no answer, the agent refuses, or nothing can be printed.
pub fn run(common: &Common, command: Command) -> anyhow::Result<Exit> {
    let mut client = common.client()?;
    match command {
        Command::List { all } => {
            let marks: Vec<Mark> = client.ask(Request::Marks { all })?;
            let header = ["MARK", "FINDING", "SAID", "CAME TO", "UNTIL", "BY", "REASON"];
            table::list(common.output, &marks, header, cells)?;
        }
        Command::Benign { finding, scope, naming, for_seconds, reason } => {
            let reach = match scope {
                ScopeName::Exact => Reach::Exact,
                ScopeName::Program => Reach::Program,
                ScopeName::Workload => Reach::Workload,
            };
            let new = NewMark { finding, reach, naming, for_seconds, reason };
            let mark: Mark = client.ask(Request::MarkBenign(Box::new(new)))?;
            table::one(common.output, &mark, said)?;
        }
        Command::Malicious { finding, reason } => {
            let mark: Mark = client.ask(Request::MarkMalicious { finding, reason })?;
            table::one(common.output, &mark, said)?;
        }
        Command::Undo { name, reason } => {
            client.ask::<serde_json::Value>(Request::UndoMark { name, reason })?;
        }
    }
    Ok(Exit::Fine)
}

/// One row of the list.
pub fn cells(mark: &Mark) -> [String; 7] {
    let until = match (&mark.undone, mark.until) {
        (Some((_, at, _)), _) => format!("undone {}", table::time(at.unix_ns)),
        (None, Some(until)) => table::time(until.unix_ns),
        (None, None) => "no end".to_owned(),
    };
    let by = |author: &Author| match author {
        Author::Automatic => "automatic".to_owned(),
        Author::Operator(name) => name.clone(),
    };
    let came_to = match (&mark.word, &mark.unlearnt) {
        (Word::Benign { .. }, _) => format!("kept {} from being found", mark.hits),
        (Word::Malicious { .. }, Some(unlearnt)) => unlearnt.clone(),
        (Word::Malicious { .. }, None) => "being unlearnt".to_owned(),
    };
    [mark.short(), mark.finding.clone(), said(mark), came_to, until, by(&mark.author), mark.reason.clone()]
}

/// A mark in one line.
pub fn said(mark: &Mark) -> String {
    let (kind, workload) = (name(&mark.kind), &mark.workload);
    match &mark.word {
        Word::Malicious { .. } => format!("{} was an attack in {workload}", mark.finding),
        Word::Benign { scope, naming } => {
            let what = match scope {
                Scope::Facts(facts) => facts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                Scope::Program(program) => format!("whatever {program} does"),
                Scope::Workload => "whatever anybody does".to_owned(),
            };
            let too = if naming.is_empty() { String::new() } else { format!(", {} too", naming.join(" and ")) };
            format!("{kind} in {workload} is fine: {what}{too}")
        }
    }
}
