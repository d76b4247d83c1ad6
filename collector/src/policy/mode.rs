//! The mode of a workload: learning → monitoring → enforcing. Nothing enforces on install.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::event::Time;
use serde::{Deserialize, Serialize};

use super::readiness::Readiness;
use crate::decision::Author;

/// Workloads with a mode of their own; every other one learns.
pub const MAX_WORKLOADS: usize = 4_096;

/// What the agent does about a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything it does teaches the baseline; only shipped knowledge (the prior) is judged.
    #[default]
    Learning,
    /// Judged against the frozen baseline; what would be denied is counted by shadow entries.
    Monitoring,
    /// Judged, and automatic decisions deny.
    Enforcing,
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Learning => "learning",
            Self::Monitoring => "monitoring",
            Self::Enforcing => "enforcing",
        })
    }
}

/// The mode of one workload, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeRow {
    /// Workload.
    pub workload: Arc<str>,
    /// Mode in force.
    pub mode: Mode,
    /// On whose word.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Time,
    /// When it falls back to `before` by itself; the boot clock counts.
    pub until: Option<Time>,
    /// What it falls back to.
    pub before: Mode,
}

/// A wish to change a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeRequest {
    /// Workload.
    pub workload: Arc<str>,
    /// Wanted.
    pub mode: Mode,
    /// Who wants it.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// Falls back after that many nanoseconds unless it is confirmed (`mode confirm`).
    pub expires_ns: Option<u64>,
    /// Do it although the baseline is not ready.
    pub force: bool,
}

/// Why a mode was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// The baseline is not ready.
    #[error("{workload} stays {mode}: its baseline is not ready: {why}; wait, or repeat with --force")]
    NotReady {
        /// Workload.
        workload: Arc<str>,
        /// Mode that it keeps.
        mode: Mode,
        /// Reasons.
        why: String,
    },
    /// Enforcing is a person's step.
    #[error("{0} is not set to enforcing by itself: an operator has to say `stockade mode set {0} enforcing`")]
    OnlyOperators(Arc<str>),
    /// A step was left out.
    #[error("{0} is learning: set it to monitoring first, look at what would have been denied, then to enforcing")]
    TwoSteps(Arc<str>),
    /// Sessions of people are never denied automatically.
    #[error("{0} holds people's sessions: these are monitored but never denied automatically")]
    Sessions(Arc<str>),
    /// Too many.
    #[error("no room for another workload's mode: {MAX_WORKLOADS} have one already; set one of them back to learning")]
    Full,
    /// There is nothing to confirm.
    #[error("{0} has no mode that waits for confirmation")]
    NothingToConfirm(Arc<str>),
}

/// Every workload's mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modes {
    rows: BTreeMap<Arc<str>, ModeRow>,
}

impl Modes {
    /// From stored rows.
    pub fn from_rows(rows: Vec<ModeRow>) -> Self {
        Self { rows: rows.into_iter().map(|row| (row.workload.clone(), row)).collect() }
    }

    /// The mode in force; a workload that nobody spoke about learns.
    pub fn of(&self, workload: &str) -> Mode {
        self.rows.get(workload).map_or(Mode::Learning, |row| row.mode)
    }

    /// Rows, by workload.
    pub fn rows(&self) -> impl Iterator<Item = &ModeRow> {
        self.rows.values()
    }

    /// Changes a mode as asked.
    ///
    /// # Errors
    ///
    /// A [`ModeError`] that says what has to be done first; nothing was changed then.
    pub fn set(&mut self, request: ModeRequest, readiness: &Readiness, at: Time) -> Result<ModeRow, ModeError> {
        let before = self.of(&request.workload);
        check(&request, before, readiness)?;
        if !self.rows.contains_key(&request.workload) && self.rows.len() >= MAX_WORKLOADS {
            return Err(ModeError::Full);
        }
        let row = ModeRow {
            workload: request.workload.clone(),
            mode: request.mode,
            author: request.author,
            reason: request.reason,
            since: at,
            until: request.expires_ns.map(|ns| later(at, ns)),
            before,
        };
        self.rows.insert(request.workload, row.clone());
        Ok(row)
    }

    /// Makes a mode that would fall back stay.
    ///
    /// # Errors
    ///
    /// When the workload has no mode with a deadline.
    pub fn confirm(&mut self, workload: &str, author: Author) -> Result<ModeRow, ModeError> {
        match self.rows.get_mut(workload) {
            Some(row) if row.until.is_some() => {
                row.until = None;
                row.author = author;
                Ok(row.clone())
            }
            _ => Err(ModeError::NothingToConfirm(workload.into())),
        }
    }

    /// Modes whose deadline passed fall back; the changed rows.
    pub fn lapse(&mut self, at: Time) -> Vec<ModeRow> {
        let over = |row: &&mut ModeRow| row.until.is_some_and(|until| until.boot_ns <= at.boot_ns);
        self.rows
            .values_mut()
            .filter(over)
            .map(|row| {
                let was = row.mode;
                row.mode = row.before.min(Mode::Monitoring);
                row.before = was;
                row.reason = format!("{was} was not confirmed before its deadline");
                row.author = Author::Automatic;
                row.since = at;
                row.until = None;
                row.clone()
            })
            .collect()
    }

    /// The boot clock began anew: deadlines are carried over by the calendar.
    pub fn carry_over(&mut self, at: Time) {
        for until in self.rows.values_mut().filter_map(|row| row.until.as_mut()) {
            until.boot_ns = at.boot_ns.saturating_add(until.unix_ns.saturating_sub(at.unix_ns));
        }
    }
}

fn check(request: &ModeRequest, before: Mode, readiness: &Readiness) -> Result<(), ModeError> {
    let workload = request.workload.clone();
    if request.mode == Mode::Enforcing {
        if !matches!(request.author, Author::Operator(_)) {
            return Err(ModeError::OnlyOperators(workload));
        }
        if workload.starts_with("login") {
            return Err(ModeError::Sessions(workload));
        }
        if before == Mode::Learning {
            return Err(ModeError::TwoSteps(workload));
        }
    }
    let forced = request.force && matches!(request.author, Author::Operator(_));
    if request.mode > Mode::Learning && before == Mode::Learning && !readiness.ready && !forced {
        return Err(ModeError::NotReady { workload, mode: before, why: readiness.reasons.join("; ") });
    }
    Ok(())
}

/// A moment later on both clocks.
pub fn later(at: Time, ns: u64) -> Time {
    Time { unix_ns: at.unix_ns.saturating_add(ns), boot_ns: at.boot_ns.saturating_add(ns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time { unix_ns: (1_000 + second) * 1_000_000_000, boot_ns: second * 1_000_000_000 }
    }

    fn request(mode: Mode) -> ModeRequest {
        ModeRequest {
            workload: "unit:web.service".into(),
            mode,
            author: Author::Operator("ada".to_owned()),
            reason: "test".to_owned(),
            expires_ns: None,
            force: false,
        }
    }

    fn ready() -> Readiness {
        Readiness { ready: true, ..Readiness::default() }
    }

    #[test]
    fn an_unknown_workload_learns() {
        assert_eq!(Modes::default().of("unit:x.service"), Mode::Learning);
    }

    #[test]
    fn monitoring_needs_readiness_or_an_operators_force() {
        let mut modes = Modes::default();
        let not_ready = Readiness { reasons: vec!["new fact 3 min ago; wait 27 s".to_owned()], ..Readiness::default() };
        let refused = modes.set(request(Mode::Monitoring), &not_ready, at(1)).unwrap_err().to_string();
        assert!(refused.contains("new fact 3 min ago; wait 27 s"), "{refused}");
        let automatic = ModeRequest { force: true, author: Author::Automatic, ..request(Mode::Monitoring) };
        assert!(modes.set(automatic, &not_ready, at(1)).is_err(), "force is an operator's word only");
        let forced = ModeRequest { force: true, ..request(Mode::Monitoring) };
        assert_eq!(modes.set(forced, &not_ready, at(1)).unwrap().mode, Mode::Monitoring);
    }

    #[test]
    fn enforcing_takes_two_steps_by_a_person() {
        let mut modes = Modes::default();
        assert!(matches!(modes.set(request(Mode::Enforcing), &ready(), at(1)), Err(ModeError::TwoSteps(_))));
        modes.set(ModeRequest { author: Author::Automatic, ..request(Mode::Monitoring) }, &ready(), at(1)).unwrap();
        let automatic = ModeRequest { author: Author::Automatic, ..request(Mode::Enforcing) };
        assert!(matches!(modes.set(automatic, &ready(), at(2)), Err(ModeError::OnlyOperators(_))));
        assert_eq!(modes.set(request(Mode::Enforcing), &ready(), at(3)).unwrap().mode, Mode::Enforcing);
    }

    #[test]
    fn sessions_never_enforce() {
        let mut modes = Modes::default();
        let wish = |mode| ModeRequest { workload: "login:ada".into(), ..request(mode) };
        modes.set(wish(Mode::Monitoring), &ready(), at(1)).unwrap();
        assert!(matches!(modes.set(wish(Mode::Enforcing), &ready(), at(2)), Err(ModeError::Sessions(_))));
    }

    #[test]
    fn an_unconfirmed_mode_falls_back_to_monitoring() {
        let mut modes = Modes::default();
        modes.set(request(Mode::Monitoring), &ready(), at(1)).unwrap();
        let brief = ModeRequest { expires_ns: Some(60_000_000_000), ..request(Mode::Enforcing) };
        modes.set(brief.clone(), &ready(), at(10)).unwrap();
        assert!(modes.lapse(at(69)).is_empty());
        assert_eq!(modes.lapse(at(70))[0].mode, Mode::Monitoring);
        modes.set(brief, &ready(), at(100)).unwrap();
        modes.confirm("unit:web.service", Author::Operator("bob".to_owned())).unwrap();
        assert!(modes.lapse(at(1_000)).is_empty());
        assert_eq!(modes.of("unit:web.service"), Mode::Enforcing);
        assert!(modes.confirm("unit:web.service", Author::Automatic).is_err());
    }

    #[test]
    fn enforcing_twice_with_a_deadline_still_falls_back_to_monitoring() {
        let mut modes = Modes::default();
        modes.set(request(Mode::Monitoring), &ready(), at(1)).unwrap();
        let brief = ModeRequest { expires_ns: Some(60_000_000_000), ..request(Mode::Enforcing) };
        modes.set(brief.clone(), &ready(), at(10)).unwrap();
        modes.set(brief, &ready(), at(20)).unwrap();
        assert_eq!(modes.lapse(at(80))[0].mode, Mode::Monitoring);
    }

    #[test]
    fn a_reboot_carries_the_deadline_over() {
        let mut modes = Modes::default();
        modes.set(request(Mode::Monitoring), &ready(), at(1)).unwrap();
        modes
            .set(ModeRequest { expires_ns: Some(60_000_000_000), ..request(Mode::Enforcing) }, &ready(), at(500))
            .unwrap();
        modes.carry_over(Time { unix_ns: at(530).unix_ns, boot_ns: 2_000_000_000 });
        assert!(modes.lapse(Time { unix_ns: at(559).unix_ns, boot_ns: 31_000_000_000 }).is_empty());
        assert_eq!(modes.lapse(Time { unix_ns: at(560).unix_ns, boot_ns: 32_000_000_000 }).len(), 1);
    }
}
