//! What the kernel would say: the same look-ups as `collector-ebpf/src/deny.rs`, over an [`Effective`]. Used for would-deny
//! and to prove the entries against the decisions.

use std::net::IpAddr;

use collector_common::deny::{
    ACTIONS, ADDRESS_ACTIONS, Action, AddressEntry, ENTRY_LISTED, ENTRY_SHADOW, Entry, Match, PORT_RULES,
};
use collector_common::map::{LINEAGE_PROTECTED, Lineage};

use super::effective::Effective;
use super::prefix::Prefix;

/// Who wants to reach something.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The process and its ancestors.
    pub lineage: &'a Lineage,
    /// Its cgroup and that one's ancestors, by v2 id.
    pub cgroups: &'a [u64],
}

/// An operation that would meet an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What matched.
    pub matched: Match,
    /// The entry's slot.
    pub slot: u32,
    /// The decision that a record would name.
    pub decision: u64,
    /// Deadline in force, boot clock.
    pub until_ns: u64,
    /// It would only be counted.
    pub shadow: bool,
}

/// The first enforcing entry that denies the operation at `now_boot_ns`, else the first shadow entry that would.
///
/// The breaker is not part of this: it depends on hits.
pub fn verdict(
    effective: &Effective,
    now_boot_ns: u64,
    subject: Subject<'_>,
    action: Action,
    address: IpAddr,
    port: u16,
) -> Option<Denial> {
    let lineage = subject.lineage;
    if lineage.flags & LINEAGE_PROTECTED != 0 {
        return None;
    }
    let look = Look { effective, now: now_boot_ns, action, address: Prefix::host(address), port };
    let cookies = [lineage.cookie].into_iter().chain(lineage.near).chain([lineage.sticky, lineage.root]);
    let trees = cookies.filter_map(|cookie| look.scope(Match::Tree, effective.tree.get(&cookie)?));
    let cgroups = subject.cgroups.iter().filter_map(|id| look.scope(Match::Cgroup, effective.cgroup.get(id)?));
    let mut shadow = None;
    for denial in trees.chain(cgroups).chain(look.everybody()) {
        if !denial.shadow {
            return Some(denial);
        }
        shadow = shadow.or(Some(denial));
    }
    shadow
}

struct Look<'a> {
    effective: &'a Effective,
    now: u64,
    action: Action,
    address: Prefix,
    port: u16,
}

impl Look<'_> {
    fn scope(&self, matched: Match, entry: &Entry) -> Option<Denial> {
        let listed = if entry.flags & ENTRY_LISTED != 0 { self.rule(entry.slot) } else { None };
        let until_ns = listed.map_or(entry.until_ns[self.action as usize % ACTIONS], |(_, until)| until);
        let shadow = entry.flags & ENTRY_SHADOW != 0;
        (self.now < until_ns).then_some(Denial {
            matched,
            slot: entry.slot,
            decision: entry.decision,
            until_ns,
            shadow,
        })
    }

    fn everybody(&self) -> Option<Denial> {
        let (entry, until_ns) = self.rule(0)?;
        let shadow = entry.flags & ENTRY_SHADOW != 0;
        let matched = Match::Address;
        (self.now < until_ns).then_some(Denial {
            matched,
            slot: entry.slot,
            decision: entry.decision,
            until_ns,
            shadow,
        })
    }

    /// The longest prefix under the scope, and the deadline of its rule for the port, if it has one.
    fn rule(&self, scope: u32) -> Option<(&AddressEntry, u64)> {
        let wanted = self.address.key(scope);
        let entry = (32..=wanted.prefix_len).rev().find_map(|prefix_len| {
            let bits = u128::from_be_bytes(wanted.address);
            let mask = u128::MAX.checked_shl(160 - prefix_len).unwrap_or(0);
            let key = collector_common::deny::AddressKey { prefix_len, address: (bits & mask).to_be_bytes(), ..wanted };
            self.effective.address.get(&key)
        })?;
        let rules = &entry.rules[..(entry.count as usize).min(PORT_RULES)];
        let rule = rules.iter().find(|rule| (rule.first..=rule.last).contains(&self.port))?;
        Some((entry, rule.until_ns.get(self.action as usize).copied().unwrap_or(0)))
    }
}

const _: () = assert!(ADDRESS_ACTIONS <= ACTIONS);
