//! Carries out what acts on processes and connections that already are, and says what came of it.

use std::path::PathBuf;

use collector_common::header::tgid_of;
use model::event::Time;

use super::judge::Judge;
use crate::contain::{cut, freeze, kill, processes_in};
use crate::decision::{Decision, DecisionAction, Target};
use crate::loader::mount_of_cgroup2;
use crate::policy::Entry;

impl Judge {
    /// Contains what a new decision is about; its report goes to the audit and into the decision.
    pub(super) fn contain(&mut self, decision: &Decision, at: Time) {
        let said = match (decision.action, &decision.target) {
            (DecisionAction::Freeze, Target::Cgroup { path, .. }) => freeze_cgroup(decision, path),
            (DecisionAction::Kill, Target::Cgroup { path, .. }) => kill_cgroup(decision, path),
            (DecisionAction::Kill, Target::Tree { cookie }) => self.kill_tree(decision, *cookie),
            (DecisionAction::Cut | DecisionAction::Isolate, target) if decision.allowed.is_empty() => {
                let pids = match target {
                    Target::Tree { cookie } => self.kernel.members_of(*cookie).into_iter().map(tgid_of).collect(),
                    Target::Cgroup { path, .. } => processes_in(&directory_of(path)),
                    _ => return,
                };
                Some(cut_connections(pids, decision.shadow))
            }
            _ => return,
        };
        let Some(text) = said else { return };
        self.chain.policy.set_contained(decision.number, &text);
        let entry = Entry {
            at,
            author: decision.author.clone(),
            what: "contained".to_owned(),
            subject: decision.short(),
            text: text.clone(),
        };
        if let Err(error) = self.store.audit(&entry) {
            tracing::error!(%error, text, "containment was done and its audit row could not be written");
        }
        if let Some(decision) = self.chain.policy.decisions().get(decision.number)
            && let Err(error) = self.store.save_decision(decision)
        {
            tracing::error!(%error, text, "what containment came to could not be kept");
        }
        tracing::warn!(decision = decision.short(), text, "contained");
    }

    /// Thaws what an ended decision froze.
    pub(super) fn uncontain(&mut self, decision: &Decision) {
        if let (DecisionAction::Freeze, Target::Cgroup { path, .. }) = (decision.action, &decision.target)
            && let Err(error) = freeze::thaw(&directory_of(path))
        {
            tracing::error!(%error, %path, "a cgroup could not be thawed: write 0 to its cgroup.freeze");
        }
    }

    fn kill_tree(&self, decision: &Decision, cookie: u64) -> Option<String> {
        if decision.shadow {
            return Some(format!("would kill {} processes", self.kernel.members_of(cookie).len()));
        }
        let killed = kill::tree(|| self.kernel.members_of(cookie));
        Some(match killed.left {
            0 => format!("contained: {} processes killed", killed.killed),
            left => format!("contained in part: {} processes killed, {left} are still there", killed.killed),
        })
    }
}

fn directory_of(path: &str) -> PathBuf {
    mount_of_cgroup2().unwrap_or_default().join(path.trim_start_matches('/'))
}

fn freeze_cgroup(decision: &Decision, path: &str) -> Option<String> {
    let directory = directory_of(path);
    let count = processes_in(&directory).len();
    if decision.shadow {
        return Some(format!("would freeze {count} processes"));
    }
    Some(match freeze::freeze(&directory, decision.number) {
        Ok(()) => format!("contained: {count} processes frozen"),
        Err(error) => format!("not contained: cannot freeze {}: {error}", directory.display()),
    })
}

fn kill_cgroup(decision: &Decision, path: &str) -> Option<String> {
    let directory = directory_of(path);
    if decision.shadow {
        return Some(format!("would kill {} processes", processes_in(&directory).len()));
    }
    Some(match kill::cgroup(&directory) {
        Ok(killed) if killed.left == 0 => format!("contained: {} processes killed", killed.killed),
        Ok(killed) => format!("contained: {} processes killed, {} are still ending", killed.killed, killed.left),
        Err(error) => format!("not contained: cannot kill {}: {error}", directory.display()),
    })
}

fn cut_connections(pids: std::collections::BTreeSet<u32>, dry: bool) -> String {
    let cut = cut::connections_of(pids, dry);
    let failed: Vec<_> = cut.failed.into_iter().take(3).collect();
    let verb = if dry { "would end" } else { "contained: ended" };
    match failed.is_empty() {
        true => format!("{verb} {} open connections", cut.ended),
        false => format!("{verb} {} open connections; not ended: {}", cut.ended, failed.join("; ")),
    }
}
