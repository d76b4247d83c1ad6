//! What people said about findings: that something is fine, within a scope, or that it was an attack.
//!
//! A benign mark keeps later events of its kind within its scope from raising findings and from causing denials. They are
//! still scored, kept in the journal and added to their episode. The scope is what a person chose and never becomes wider; what
//! is dangerous anywhere is covered only if the mark names it. A malicious mark is the incident that the model unlearns.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::event::{Body, Event, Time};
use model::purge::Incident;
use model::{Fact, Verdict};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decision::Author;
use crate::finding::{Finding, FindingType};

/// Marks in force at once.
const MAX_MARKS: usize = 1_024;
/// Marks kept in all: those that are over make room.
const MAX_KEPT: usize = 4_096;

/// How far a benign mark reaches: the kind and workload of its finding, and of these …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Exactly these facts.
    Facts(Vec<Fact>),
    /// Whatever this program does of the kind; with its script.
    Program(Arc<str>),
    /// Whatever anybody does of the kind.
    Workload,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It is fine.
    Benign {
        /// How far.
        scope: Scope,
        /// Families of facts that are dangerous anywhere and are meant too, as [`Fact::what`] names them.
        naming: Vec<String>,
    },
    /// It was an attack: this is unlearnt.
    Malicious {
        /// What.
        incident: Incident,
    },
}

/// A person's word about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Number.
    pub number: u64,
    /// What was said.
    pub word: Word,
    /// Kind of the finding.
    pub kind: FindingType,
    /// Its workload.
    pub workload: Arc<str>,
    /// Its short name.
    pub finding: String,
    /// Who said it.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// When.
    pub since: Time,
    /// Until when it holds; `None` = until it is undone. UTC counts: a mark outlives a restart.
    pub until: Option<Time>,
    /// Who took it back, when and why.
    pub undone: Option<(Author, Time, String)>,
    /// What unlearning came to, once it is done.
    #[serde(default)]
    pub unlearnt: Option<String>,
    /// Events that it kept from raising a finding.
    pub hits: u64,
    /// The last one.
    pub last_hit: Option<Time>,
}

/// What happened to a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkChange {
    /// It was made.
    Made,
    /// It kept something from being found, or unlearning is done.
    Noted,
    /// It was taken back.
    Undone,
}

/// Why a mark is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MarkError {
    /// No facts to be exact about.
    #[error("{0} rests on no single fact: say how far you mean it, with --scope program or --scope workload")]
    NoFacts(String),
    /// The finding is about what is dangerous anywhere.
    #[error("{finding} holds what is dangerous anywhere ({what}): say that you mean it, with --naming \"{what}\"")]
    HighImpact {
        /// Finding.
        finding: String,
        /// Family.
        what: &'static str,
    },
    /// A name that is no family of dangerous facts.
    #[error(
        "nothing dangerous is called \"{0}\"; these are: memory exec, socket on stdio, user change, trigger call, sensitive file"
    )]
    Unknown(String),
    /// Not about a process.
    #[error("{0} is about no process: there is nothing to mark")]
    NoProcess(String),
    /// Too many.
    #[error("{0} marks are in force already: undo one (`stockade marks list`)")]
    Full(usize),
    /// No such mark.
    #[error("no mark in force is called {0}; see `stockade marks list`")]
    NotThere(String),
    /// A reason is part of the audit.
    #[error("say why: the reason is written to the audit")]
    NoReason,
}

/// Names of what is dangerous anywhere.
const HIGH_IMPACT: [&str; 5] = ["memory exec", "socket on stdio", "user change", "trigger call", "sensitive file"];

/// A mark that a person wishes.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What is said.
    pub word: Word,
    /// Who.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Option<Time>,
}

impl Mark {
    /// The name that people type.
    pub fn short(&self) -> String {
        format!("M-{}", self.number)
    }

    /// Whether it holds at a time.
    pub fn is_in_force(&self, at: Time) -> bool {
        self.undone.is_none() && self.until.is_none_or(|until| at.unix_ns < until.unix_ns)
    }

    /// The incident, if it was one and nobody took that back.
    pub fn incident(&self) -> Option<Incident> {
        match self.word {
            Word::Malicious { incident } if self.undone.is_none() => Some(incident),
            _ => None,
        }
    }

    fn covers(&self, kind: FindingType, event: &Event, verdict: &Verdict, at: Time) -> bool {
        let Word::Benign { scope, naming } = &self.word else { return false };
        if self.kind != kind || self.workload != event.process.workload || !self.is_in_force(at) {
            return false;
        }
        let of_kind: Vec<&Fact> = facts_of(kind, verdict).collect();
        let within = match scope {
            Scope::Facts(facts) => !of_kind.is_empty() && of_kind.iter().all(|fact| facts.contains(fact)),
            Scope::Program(program) => *program_of(event) == **program,
            Scope::Workload => true,
        };
        let is_named = |fact: &Fact| naming.iter().any(|name| name == fact.what());
        within && dangerous(verdict).all(is_named)
    }
}

/// The facts that a finding of a kind rests on.
pub(super) fn facts_of(kind: FindingType, verdict: &Verdict) -> impl Iterator<Item = &Fact> {
    let belongs = move |fact: &Fact| match kind {
        FindingType::ExecNovel => matches!(fact, Fact::ExecEdge { .. }),
        FindingType::MemoryExec => matches!(fact, Fact::MemoryExec { .. }),
        FindingType::EgressNovel => matches!(fact, Fact::Destination { .. }),
        FindingType::FileNovel => {
            matches!(fact, Fact::Directory { .. } | Fact::SensitiveFile { .. } | Fact::FileRate { .. })
        }
        FindingType::Sequence => matches!(fact, Fact::Trigger { .. }),
        FindingType::Volume | FindingType::Drift | FindingType::Loss | FindingType::Storm | FindingType::Agent => false,
    };
    let stated = verdict.facts.iter().filter(|fact| fact.novel || matches!(fact.fact, Fact::MemoryExec { .. }));
    stated.map(|fact| &fact.fact).filter(move |fact| belongs(fact))
}

/// What is dangerous anywhere and new here. Code that runs from memory always is.
fn dangerous(verdict: &Verdict) -> impl Iterator<Item = &Fact> {
    let stated = verdict.facts.iter().filter(|fact| fact.novel || matches!(fact.fact, Fact::MemoryExec { .. }));
    stated.map(|fact| &fact.fact).filter(|fact| fact.is_high_impact())
}

/// The program that does it, with its script: for an exec the one that starts the other.
pub(super) fn program_of(event: &Event) -> Arc<str> {
    match &event.body {
        Body::Exec(exec) => model::facts::program(&exec.parent_exe, exec.parent_script.as_ref()),
        _ => model::facts::program(&event.process.exe, event.process.script.as_ref()),
    }
}

/// The scope that a person names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// [`Scope::Facts`].
    #[default]
    Exact,
    /// [`Scope::Program`].
    Program,
    /// [`Scope::Workload`].
    Workload,
}

/// A benign word about a finding, as far as a person wants it to reach.
///
/// # Errors
///
/// When the finding gives no such scope, or holds what is dangerous anywhere and was not named.
pub fn benign(finding: &Finding, reach: Reach, naming: Vec<String>) -> Result<Word, MarkError> {
    if let Some(name) = naming.iter().find(|name| !HIGH_IMPACT.contains(&name.as_str())) {
        return Err(MarkError::Unknown(name.clone()));
    }
    let unnamed = finding.facts.iter().find(|fact| fact.is_high_impact() && !naming.iter().any(|n| n == fact.what()));
    if let Some(fact) = unnamed {
        return Err(MarkError::HighImpact { finding: finding.short(), what: fact.what() });
    }
    let scope = match reach {
        Reach::Exact if finding.facts.is_empty() => return Err(MarkError::NoFacts(finding.short())),
        Reach::Exact => Scope::Facts(finding.facts.clone()),
        Reach::Program => Scope::Program(finding.program.clone()),
        Reach::Workload => Scope::Workload,
    };
    Ok(Word::Benign { scope, naming })
}

/// All marks that matter now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    book: BTreeMap<u64, Mark>,
}

impl Marks {
    /// From stored ones.
    pub fn restore(marks: Vec<Mark>) -> Self {
        Self { book: marks.into_iter().map(|mark| (mark.number, mark)).collect() }
    }

    /// Everything kept, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.book.values()
    }

    /// Enters a person's word about a finding.
    ///
    /// # Errors
    ///
    /// A [`MarkError`].
    pub fn make(&mut self, finding: &Finding, wish: Wish, at: Time) -> Result<Mark, MarkError> {
        if finding.anchor == 0 {
            return Err(MarkError::NoProcess(finding.short()));
        }
        if wish.reason.trim().is_empty() {
            return Err(MarkError::NoReason);
        }
        let in_force = self.book.values().filter(|mark| mark.is_in_force(at)).count();
        if in_force >= MAX_MARKS {
            return Err(MarkError::Full(in_force));
        }
        let mark = Mark {
            number: self.book.last_key_value().map_or(0, |(last, _)| *last) + 1,
            word: wish.word,
            kind: finding.kind,
            workload: finding.workload.clone(),
            finding: finding.short(),
            author: wish.author,
            reason: wish.reason,
            since: at,
            until: wish.until,
            undone: None,
            unlearnt: None,
            hits: 0,
            last_hit: None,
        };
        self.book.insert(mark.number, mark.clone());
        while self.book.len() > MAX_KEPT {
            let Some(over) = self.book.values().find(|mark| !mark.is_in_force(at)).map(|mark| mark.number) else {
                break;
            };
            self.book.remove(&over);
        }
        Ok(mark)
    }

    /// Takes a mark back.
    ///
    /// # Errors
    ///
    /// When none of that name is in force.
    pub fn undo(&mut self, name: &str, author: Author, reason: &str, at: Time) -> Result<Mark, MarkError> {
        if reason.trim().is_empty() {
            return Err(MarkError::NoReason);
        }
        let named = |mark: &&mut Mark| mark.short().eq_ignore_ascii_case(name) && mark.is_in_force(at);
        let mark = self.book.values_mut().find(named).ok_or_else(|| MarkError::NotThere(name.to_owned()))?;
        mark.undone = Some((author, at, reason.to_owned()));
        Ok(mark.clone())
    }

    /// Enters what unlearning came to.
    pub fn note_unlearnt(&mut self, number: u64, text: &str) -> Option<Mark> {
        let mark = self.book.get_mut(&number)?;
        mark.unlearnt = Some(text.to_owned());
        Some(mark.clone())
    }

    /// A malicious mark whose incident is still to be unlearnt: just made, or the agent was restarted meanwhile.
    pub fn to_unlearn(&self) -> Option<&Mark> {
        self.book.values().find(|mark| mark.incident().is_some() && mark.unlearnt.is_none())
    }

    /// Takes those kinds away that a mark covers. Marks whose count is worth telling.
    pub fn sift(&mut self, kinds: &mut Vec<FindingType>, event: &Event, verdict: &Verdict) -> Vec<Mark> {
        let mut hit = Vec::new();
        let book = &mut self.book;
        kinds.retain(|kind| {
            let Some(mark) = book.values_mut().find(|mark| mark.covers(*kind, event, verdict, event.at)) else {
                return true;
            };
            mark.hits = mark.hits.saturating_add(1);
            mark.last_hit = Some(event.at);
            if mark.hits.is_power_of_two() {
                hit.push(mark.clone());
            }
            false
        });
        hit
    }
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
