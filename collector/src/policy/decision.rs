//! The book of decisions: who is denied what, until when, on whose word.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::event::Time;
use uuid::Uuid;

use super::Config;
use super::mode::later;
use super::protect::{Protected, Refusal};
use crate::decision::{Author, Decision, DecisionAction, DecisionState, Destination, FileId, Target};

/// Decisions kept in memory; those that ended are dropped first, the store keeps all.
const MAX_KEPT: usize = 4_096;

/// A wish to deny.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Whom.
    pub target: Target,
    /// What.
    pub action: DecisionAction,
    /// Only count.
    pub shadow: bool,
    /// Gates of the fence.
    pub allowed: Vec<Destination>,
    /// On whose word.
    pub author: Author,
    /// Finding that causes it.
    pub finding: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// Workload of the target.
    pub workload: Option<Arc<str>>,
    /// How long, nanoseconds of the boot clock.
    pub ttl_ns: u64,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub enum Booked {
    /// A new decision.
    New(Decision),
    /// A live one of the same target covers it; its deadline was moved.
    Extended(Decision),
    /// A live one covers it already.
    Covered(u64),
}

/// Why a decision was not made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// The protected set forbids it.
    #[error(transparent)]
    Protected(#[from] Refusal),
    /// No deadline, or one too far away.
    #[error(
        "a decision needs a deadline between 1 s and {max_s} s (policy.max_ttl_seconds); {asked_s} s was asked for"
    )]
    Deadline {
        /// Asked for.
        asked_s: u64,
        /// Allowed.
        max_s: u64,
    },
    /// There is no such live decision.
    #[error("no live decision has number {0}: `stockade decisions list --all` shows how it ended")]
    NotLive(u64),
    /// An operator's word stands.
    #[error("the same target was released or disarmed by decision {0}: it is not denied again automatically")]
    Overruled(u64),
    /// Too many.
    #[error("{0} automatic decisions are live already (policy.max_automatic): no further one is made by itself")]
    TooMany(usize),
    /// Only a cgroup can be frozen.
    #[error(
        "only a cgroup is frozen: a tree would have to be stopped by a signal, which it can undo; use --cgroup, or --kill, or isolate it"
    )]
    FreezeTree,
    /// An address has no processes.
    #[error("an address or a program has no processes to kill and no connections to cut: name a --tree or a --cgroup")]
    NoProcesses,
    /// A reason is part of the audit.
    #[error("say why: the reason is written to the audit")]
    NoReason,
}

/// All decisions that matter now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    book: BTreeMap<u64, Decision>,
    next: u64,
}

impl Decisions {
    /// From stored ones. `next` is the lowest number that was never given out.
    pub fn restore(decisions: Vec<Decision>, next: u64) -> Self {
        let above = decisions.iter().map(|decision| decision.number + 1).max().unwrap_or(1);
        Self {
            book: decisions.into_iter().map(|decision| (decision.number, decision)).collect(),
            next: next.max(above),
        }
    }

    /// The number that the next decision gets.
    pub fn next_number(&self) -> u64 {
        self.next.max(1)
    }

    /// Everything kept, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.book.values()
    }

    /// One.
    pub fn get(&self, number: u64) -> Option<&Decision> {
        self.book.get(&number)
    }

    /// Those in force.
    pub fn live(&self, at: Time) -> Vec<Decision> {
        self.book.values().filter(|decision| decision.is_live(at.boot_ns)).cloned().collect()
    }

    /// Makes a decision unless a live one on the same target says the same.
    ///
    /// # Errors
    ///
    /// A [`DecisionError`]; nothing was changed then.
    pub fn book(
        &mut self,
        proposal: Proposal,
        protected: &Protected,
        config: &Config,
        at: Time,
    ) -> Result<Booked, DecisionError> {
        let max_ns = config.max_ttl_seconds.saturating_mul(1_000_000_000);
        if !(1_000_000_000..=max_ns).contains(&proposal.ttl_ns) {
            let asked_s = proposal.ttl_ns / 1_000_000_000;
            return Err(DecisionError::Deadline { asked_s, max_s: config.max_ttl_seconds });
        }
        protected.check(&proposal.target)?;
        check_containment(proposal.action, &proposal.target)?;
        let automatic = proposal.author == Author::Automatic;
        if automatic {
            self.check_automatic(&proposal, config, at)?;
        } else if proposal.reason.trim().is_empty() {
            return Err(DecisionError::NoReason);
        }
        if let Some(number) = self.same(&proposal, at) {
            return Ok(self.prolong(number, later(at, proposal.ttl_ns), proposal.ttl_ns / 2));
        }
        let decision = Decision {
            number: self.next_number(),
            target: proposal.target,
            action: proposal.action,
            shadow: proposal.shadow,
            allowed: proposal.allowed,
            allowed_files: Vec::new(),
            contained: None,
            author: proposal.author,
            finding: proposal.finding,
            reason: proposal.reason,
            workload: proposal.workload,
            created: at,
            until: later(at, proposal.ttl_ns),
            state: DecisionState::Active,
            ended: None,
            release: None,
            hits: 0,
            breaker: if automatic { config.breaker } else { 0 },
            test: config.test,
        };
        self.next = decision.number + 1;
        self.book.insert(decision.number, decision.clone());
        self.forget_ended();
        Ok(Booked::New(decision))
    }

    fn check_automatic(&self, proposal: &Proposal, config: &Config, at: Time) -> Result<(), DecisionError> {
        let spoken = |decision: &&Decision| {
            decision.target == proposal.target
                && matches!(decision.state, DecisionState::Released | DecisionState::Tripped)
                && decision.until.boot_ns > at.boot_ns
        };
        if let Some(decision) = self.book.values().find(spoken) {
            return Err(DecisionError::Overruled(decision.number));
        }
        let live = self.book.values().filter(|d| d.author == Author::Automatic && d.is_live(at.boot_ns)).count();
        if live >= config.max_automatic && self.same(proposal, at).is_none() {
            return Err(DecisionError::TooMany(live));
        }
        Ok(())
    }

    fn same(&self, proposal: &Proposal, at: Time) -> Option<u64> {
        let same = |decision: &&Decision| {
            decision.target == proposal.target
                && decision.shadow == proposal.shadow
                && decision.action == proposal.action
                && decision.author == proposal.author
                && decision.is_live(at.boot_ns)
        };
        self.book.values().find(same).map(|decision| decision.number)
    }

    /// Moves the deadline only when less than `margin_ns` would be gained otherwise: each extension is an audit row.
    fn prolong(&mut self, number: u64, until: Time, margin_ns: u64) -> Booked {
        match self.book.get_mut(&number) {
            Some(decision) if until.boot_ns.saturating_sub(decision.until.boot_ns) >= margin_ns.max(1) => {
                decision.until = until;
                Booked::Extended(decision.clone())
            }
            _ => Booked::Covered(number),
        }
    }

    /// Whether a live decision of the same strength already covers the process with these ancestors.
    pub fn covering(&self, cookie: u64, ancestors: &[u64], shadow: bool, at: Time) -> Option<u64> {
        let covers = |decision: &&Decision| {
            decision.is_live(at.boot_ns)
                && decision.shadow == shadow
                && matches!(decision.target, Target::Tree { cookie: target } if target == cookie || ancestors.contains(&target))
        };
        self.book.values().find(covers).map(|decision| decision.number)
    }

    /// Enters what containment came to.
    pub fn set_contained(&mut self, number: u64, text: &str) {
        if let Some(decision) = self.book.get_mut(&number) {
            decision.contained = Some(text.to_owned());
        }
    }

    /// Enters the programs that a fence lets through.
    pub fn set_gates(&mut self, number: u64, files: &[FileId]) {
        if let Some(decision) = self.book.get_mut(&number) {
            decision.allowed_files = files.to_vec();
        }
    }

    /// Undoes a decision. Never waits for anything.
    ///
    /// # Errors
    ///
    /// When it is not in force.
    pub fn release(&mut self, number: u64, who: &str, why: &str, at: Time) -> Result<Decision, DecisionError> {
        let decision = self.live_mut(number, at)?;
        decision.state = DecisionState::Released;
        decision.ended = Some(at);
        decision.release = Some(format!("{who}: {why}"));
        Ok(decision.clone())
    }

    /// Moves a deadline to `ttl_ns` from now; may also shorten it.
    ///
    /// # Errors
    ///
    /// When it is not in force or the deadline is out of bounds.
    pub fn extend(&mut self, number: u64, ttl_ns: u64, config: &Config, at: Time) -> Result<Decision, DecisionError> {
        let max_ns = config.max_ttl_seconds.saturating_mul(1_000_000_000);
        if !(1_000_000_000..=max_ns).contains(&ttl_ns) {
            let asked_s = ttl_ns / 1_000_000_000;
            return Err(DecisionError::Deadline { asked_s, max_s: config.max_ttl_seconds });
        }
        let decision = self.live_mut(number, at)?;
        decision.until = later(at, ttl_ns);
        Ok(decision.clone())
    }

    fn live_mut(&mut self, number: u64, at: Time) -> Result<&mut Decision, DecisionError> {
        self.book.get_mut(&number).filter(|decision| decision.is_live(at.boot_ns)).ok_or(DecisionError::NotLive(number))
    }

    /// Counts denials; the decision as it is now, and whether the breaker ended it with this hit.
    pub fn hit(&mut self, number: u64, count: u64, breaker: bool, at: Time) -> Option<(Decision, bool)> {
        let decision = self.book.get_mut(&number)?;
        decision.hits = decision.hits.saturating_add(count);
        let tripped = breaker && decision.state == DecisionState::Active && decision.author == Author::Automatic;
        if tripped {
            decision.state = DecisionState::Tripped;
            decision.ended = Some(at);
            decision.release = Some("breaker: too many process trees were hit".to_owned());
        }
        Some((decision.clone(), tripped))
    }

    /// Decisions whose deadline passed.
    pub fn lapse(&mut self, at: Time) -> Vec<Decision> {
        let over =
            |decision: &&mut Decision| decision.state == DecisionState::Active && decision.until.boot_ns <= at.boot_ns;
        let end = |decision: &mut Decision| {
            decision.state = DecisionState::Lapsed;
            decision.ended = Some(decision.until);
            decision.clone()
        };
        self.book.values_mut().filter(over).map(end).collect()
    }

    /// The host was booted anew: processes are gone and the kernel's entries with them.
    pub fn end_all_by_reboot(&mut self, at: Time) -> Vec<Decision> {
        let active = |decision: &&mut Decision| decision.state == DecisionState::Active;
        let end = |decision: &mut Decision| {
            decision.state = DecisionState::Lapsed;
            decision.ended = Some(at);
            decision.release = Some("the host was restarted".to_owned());
            decision.clone()
        };
        self.book.values_mut().filter(active).map(end).collect()
    }

    /// Takes back a decision that never reached the kernel.
    pub fn retract(&mut self, number: u64, why: &str, at: Time) -> Option<Decision> {
        let decision = self.book.get_mut(&number)?;
        decision.state = DecisionState::Lapsed;
        decision.ended = Some(at);
        decision.release = Some(format!("never in force: {why}"));
        Some(decision.clone())
    }

    fn forget_ended(&mut self) {
        while self.book.len() > MAX_KEPT {
            let ended = self.book.values().find(|d| d.state != DecisionState::Active).map(|d| d.number);
            match ended {
                Some(number) => self.book.remove(&number),
                None => break,
            };
        }
    }
}

/// Containment acts on processes, so its target has to have some.
fn check_containment(action: DecisionAction, target: &Target) -> Result<(), DecisionError> {
    match (action, target) {
        (DecisionAction::Freeze | DecisionAction::Kill | DecisionAction::Cut, Target::Cgroup { .. }) => Ok(()),
        (DecisionAction::Kill | DecisionAction::Cut, Target::Tree { .. }) => Ok(()),
        (DecisionAction::Freeze, Target::Tree { .. }) => Err(DecisionError::FreezeTree),
        (DecisionAction::Freeze | DecisionAction::Kill | DecisionAction::Cut, _) => Err(DecisionError::NoProcesses),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
