//! What the judge answers to the command line.

use std::sync::Arc;

use collector_common::deny::Action;
use collector_common::header::tgid_of;
use model::event::Time;
use serde_json::Value;

use super::judge::Judge;
use crate::api::protocol::{ApiError, BaselineRow, ErrorCode, NewDecision, Request, Status, TopRow};
use crate::api::server::Caller;
use crate::decision::{Author, Decision, Target};
use crate::enrich::clock::boot_now;
use crate::finding::{Finding, FindingState, Severity};
use crate::loader::reason;
use crate::policy::decision::Proposal;
use crate::policy::mode::{Mode, ModeRequest, ModeRow};
use crate::policy::readiness::Readiness;
use crate::policy::would::WouldDeny;

/// Findings and decisions that a list shows at most.
const LISTED: u32 = 1_000;
const SECOND: u64 = 1_000_000_000;

pub(super) type Answered = Result<Value, ApiError>;

impl Judge {
    /// Answers one request.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn answer(&mut self, caller: &Caller, request: Request) -> Answered {
        let at = self.now();
        match request {
            Request::Status => to_value(&self.status()),
            Request::Findings { all } => to_value(&self.findings(all)?),
            Request::Finding { name } => to_value(&self.finding(&name)?),
            Request::Decisions { all } => to_value(&self.decisions(all, at)?),
            Request::AddDecision(new) => self.add_decision(caller, *new, at),
            Request::Release { name, reason } => self.release(caller, &name, &reason, at),
            Request::Marks { all } => self.marks(all, at),
            Request::MarkBenign(new) => self.mark_benign(caller, *new, at),
            Request::MarkMalicious { finding, reason } => self.mark_malicious(caller, &finding, reason, at),
            Request::UndoMark { name, reason } => self.undo_mark(caller, &name, &reason, at),
            Request::Modes | Request::BaselineStatus => to_value(&self.baseline_rows(at)),
            Request::SetMode { workload, mode, reason, for_seconds, force } => {
                let request = ModeRequest {
                    workload: workload.into(),
                    mode,
                    author: Author::Operator(caller.name.clone()),
                    reason,
                    expires_ns: for_seconds.map(|seconds| seconds.saturating_mul(SECOND)),
                    force,
                };
                self.set_mode(request, at)
            }
            Request::Baseline { workload } => to_value(&self.chain.scorer.model().baseline(&workload)),
            Request::Top => to_value(&self.top()),
            Request::Disarm => self.disarm(caller, at),
            Request::Watch { .. } => Err(ApiError::new(ErrorCode::Failed, "a stream is not one answer")),
        }
    }

    /// How the agent is.
    pub fn status(&self) -> Status {
        let now = boot_now();
        let now_utc = self.now().unix_ns;
        let model = self.chain.scorer.model();
        let (health, threshold) = (model.health(), model.threshold());
        let mut workloads = [0; 3];
        for name in model.workloads() {
            workloads[self.chain.policy.modes().of(&name) as usize] += 1;
        }
        let mut findings = [0; 3];
        for finding in self.chain.policy.findings() {
            findings[finding.severity as usize] += 1;
        }
        let mut decisions = [0; 2];
        for decision in self.chain.policy.live(self.chain.enricher.clock().at(now)) {
            decisions[usize::from(decision.shadow)] += 1;
        }
        let attached = self.kernel.attached();
        let works = |program: &str| attached.iter().any(|row| row.row.program == program && row.off.is_none());
        let reconciliation = self.reconcile();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host_name(),
            up_seconds: self.began.elapsed().as_secs(),
            can_deny_programs: self.kernel.denies(Action::Exec) && self.enforcement_off.is_none(),
            can_deny_files: self.kernel.denies(Action::OpenWrite) && self.enforcement_off.is_none(),
            can_deny_network: works("deny_connect4") && works("deny_connect6") && self.enforcement_off.is_none(),
            off: attached
                .iter()
                .filter(|row| !row.is_covered())
                .filter_map(|row| Some(format!("{}: {}", row.row.program, reason(row.off.as_deref()?))))
                .chain(self.enforcement_off.clone())
                .collect(),
            ledger_text: reconciliation.to_string(),
            ledger: serde_json::to_value(&reconciliation).unwrap_or_default(),
            workloads,
            health,
            drifted: model.all_drifted(),
            sick: model.all_sick(),
            unlearns_s: self.chain.scorer.reaches().map(|since| now_utc.saturating_sub(since.unix_ns) / SECOND),
            threshold: threshold.level,
            calibrated: threshold.calibrated,
            promise: threshold.calibrated.then(|| (threshold.independent, model.promised_a_day())),
            findings,
            held_back: self.chain.policy.losses().0,
            decisions,
            sinks: self.fanout.status(),
            latency_us: (self.latency.count, self.latency.last_ns / 1_000, self.latency.longest_ns / 1_000),
            memory_mib: resident_mib(),
            clock_factor: self.chain.enricher.clock().factor,
        }
    }

    fn findings(&self, all: bool) -> Result<Vec<Finding>, ApiError> {
        let mut findings = self.store.findings(LISTED).map_err(failed)?;
        findings.retain(|finding| all || finding.state == FindingState::Open || finding.severity > Severity::Low);
        findings.reverse();
        Ok(findings)
    }

    pub(super) fn finding(&self, name: &str) -> Result<Finding, ApiError> {
        let found = self.store.finding(name).map_err(failed)?;
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(ApiError::new(
                ErrorCode::Usage,
                format!("no finding is called {name}; see `stockade findings list`"),
            )),
            more => Err(ApiError::new(
                ErrorCode::Usage,
                format!("{} findings are called {name}: use the whole id", more.len()),
            )),
        }
    }

    fn decisions(&self, all: bool, at: Time) -> Result<Vec<Decision>, ApiError> {
        if all { self.store.decisions(LISTED).map_err(failed) } else { Ok(self.chain.policy.live(at)) }
    }

    fn add_decision(&mut self, caller: &Caller, new: NewDecision, at: Time) -> Answered {
        let action = new.action.forbids().first();
        if new.action.needs_lsm() && !action.is_some_and(|action| self.kernel.denies(*action)) {
            let text = "this kernel does not ask LSM programs, so this would deny nothing: boot with bpf in lsm= \
                        (`stockade doctor`), or deny the network (leave --exec, --open-write, --tamper out)";
            return Err(ApiError::new(ErrorCode::Refused, text));
        }
        let proposal = Proposal {
            target: self.whole(new.target)?,
            action: new.action,
            shadow: new.shadow,
            allowed: Vec::new(),
            author: Author::Operator(caller.name.clone()),
            finding: None,
            reason: new.reason,
            workload: None,
            ttl_ns: new.ttl_seconds.saturating_mul(SECOND),
        };
        let outcomes = self.chain.policy.add_decision(proposal, at).map_err(refused)?;
        self.carry_out(outcomes, at);
        let newest = self.chain.policy.live(at).into_iter().max_by_key(|decision| decision.number);
        match newest {
            Some(decision) => to_value(&decision),
            None => {
                Err(ApiError::new(ErrorCode::Refused, "the kernel refused the decision; see `stockade findings list`"))
            }
        }
    }

    /// A person names a process by its pid.
    fn whole(&self, target: Target) -> Result<Target, ApiError> {
        let cookie_of = |named: u64| {
            if tgid_of(named) as u64 != named {
                return Ok(named);
            }
            let known = self.chain.enricher.table().by_pid(named as u32).map(|process| process.cookie);
            known.ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("no process has pid {named}")))
        };
        Ok(match target {
            Target::Tree { cookie } => Target::Tree { cookie: cookie_of(cookie)? },
            Target::TreeAddress { cookie, to } => Target::TreeAddress { cookie: cookie_of(cookie)?, to },
            other => other,
        })
    }

    fn release(&mut self, caller: &Caller, name: &str, reason: &str, at: Time) -> Answered {
        let found = self.store.decision(name).map_err(failed)?;
        let number = found
            .map(|decision| decision.number)
            .or_else(|| self.chain.policy.live(at).iter().find(|live| live.short() == name).map(|live| live.number))
            .ok_or_else(|| {
                ApiError::new(ErrorCode::Usage, format!("no decision is called {name}; see `stockade decisions list`"))
            })?;
        let outcomes = self.chain.policy.release(number, &caller.name, reason, at).map_err(refused)?;
        self.carry_out(outcomes, at);
        Ok(Value::Null)
    }

    fn set_mode(&mut self, request: ModeRequest, at: Time) -> Answered {
        let readiness = self.readiness(&request.workload, at).ok_or_else(|| {
            let text = format!("no workload is called {}; see `stockade baseline status`", request.workload);
            ApiError::new(ErrorCode::Usage, text)
        })?;
        let before = self.chain.policy.modes().rows().find(|row| row.workload == request.workload);
        let known = before.and_then(|row| self.would_deny(row, at)).filter(|_| request.mode == Mode::Enforcing);
        let outcomes = self.chain.policy.set_mode(request, &readiness, at).map_err(refused)?;
        self.carry_out(outcomes, at);
        self.keep_snapshot();
        to_value(&known)
    }

    fn disarm(&mut self, caller: &Caller, at: Time) -> Answered {
        // The kernel first: whatever the books say, nothing is denied from here on.
        let disarmed = self.enforcer.disarm().map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
        let outcomes = self.chain.policy.release_all(false, &caller.name, "disarm", at);
        self.carry_out(outcomes, at);
        to_value(&disarmed.total())
    }

    fn readiness(&self, workload: &Arc<str>, at: Time) -> Option<Readiness> {
        let summary = self.chain.scorer.model().summary(workload)?;
        let lost = summary.lossy as f64 / summary.windows.max(1) as f64;
        Some(self.chain.policy.readiness(workload, &summary, lost, at))
    }

    fn baseline_rows(&self, at: Time) -> Vec<BaselineRow> {
        let model = self.chain.scorer.model();
        let names = model.workloads();
        let rows = names.iter().filter_map(|name| Some((name, self.readiness(name, at)?, model.summary(name)?)));
        rows.map(|(name, readiness, summary)| {
            let mode = self.chain.policy.modes().rows().find(|row| row.workload == *name);
            let flags = readiness.flags;
            let named = [
                (flags.partial, "partial"),
                (flags.tainted, "tainted"),
                (flags.too_quiet, "too-quiet"),
                (flags.stale, "stale"),
            ];
            BaselineRow {
                workload: name.to_string(),
                mode: mode.map_or(Mode::Learning, |row| row.mode),
                author: mode.map_or_else(String::new, |row| match &row.author {
                    Author::Automatic => "automatic".to_owned(),
                    Author::Operator(name) => name.clone(),
                }),
                falls_back_in: mode
                    .and_then(|row| row.until)
                    .map(|until| until.boot_ns.saturating_sub(at.boot_ns) / SECOND),
                ready: readiness.ready,
                reasons: readiness.reasons,
                flags: named.into_iter().filter(|(is, _)| *is).map(|(_, name)| name.to_owned()).collect(),
                windows: readiness.windows,
                execs: readiness.execs,
                flows: readiness.flows,
                exes: readiness.exes,
                exec_edges: readiness.exec_edges,
                destinations: readiness.destinations,
                trigrams: readiness.trigrams,
                singleton_share: summary.singleton_share,
                would_deny: mode.and_then(|row| self.would_deny(row, at)),
            }
        })
        .collect()
    }

    /// What would have been denied to a monitored workload. A store that cannot be read is told elsewhere.
    fn would_deny(&self, row: &ModeRow, at: Time) -> Option<WouldDeny> {
        let denials = match row.mode {
            Mode::Monitoring => self.store.shadows_since(&row.workload, row.since.unix_ns).ok()?,
            Mode::Learning | Mode::Enforcing => return None,
        };
        Some(WouldDeny::over(denials, at.unix_ns.saturating_sub(row.since.unix_ns)))
    }

    fn top(&self) -> Vec<TopRow> {
        let model = self.chain.scorer.model();
        let running: Vec<_> = self.chain.enricher.table().running().collect();
        let row = |name: &Arc<str>| {
            let summary = model.summary(name)?;
            let processes = running.iter().filter(|image| image.process.workload == *name).count();
            let (windows, execs, flows) = (summary.windows, summary.execs, summary.flows);
            Some(TopRow { workload: name.to_string(), windows, execs, flows, processes })
        };
        model.workloads().iter().filter_map(row).collect()
    }
}

/// Name of this host.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

pub(super) fn to_value(value: &impl serde::Serialize) -> Answered {
    serde_json::to_value(value).map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))
}

pub(super) fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Failed, error.to_string())
}

pub(super) fn refused(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Refused, error.to_string())
}
