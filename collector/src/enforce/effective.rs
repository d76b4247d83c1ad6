//! The sum of the live decisions: one entry per key, as the kernel wants it. Pure.
//!
//! A key (a tree, a cgroup, a prefix) may be the target of several decisions at once. Its entry denies what at least one
//! of them denies, for as long as one of them does, so undoing one leaves the others as they were. Enforcing decisions hide
//! the shadow decisions of the same key; user space counts those (see [`super::evaluate`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use collector_common::ExeId;
use collector_common::deny::{
    ACTIONS, ADDRESS_ACTIONS, Action, AddressEntry, AddressKey, ENTRY_AUTOMATIC, ENTRY_FILES, ENTRY_LISTED,
    ENTRY_SHADOW, Entry, FileEntry, FileKey, PORT_RULES, PortRule,
};
use collector_common::map::MAX_DENY;

use super::EnforceError;
use super::prefix::Prefix;
use super::slots::{SlotKey, Slots};
use crate::decision::{Author, Decision, Destination, FileId, Target};

/// Levels below the v2 root that the kernel can look up (bits of `Control::cgroup_levels`).
const CGROUP_LEVELS: u32 = 32;

/// What the deny maps shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// `deny_tree`, by cookie.
    pub tree: BTreeMap<u64, Entry>,
    /// `deny_cgroup`, by cgroup v2 id.
    pub cgroup: BTreeMap<u64, Entry>,
    /// `deny_address`: scope 0 and the addresses listed under trees and cgroups.
    pub address: HashMap<AddressKey, AddressEntry>,
    /// `deny_file`: scope 0 and the executables listed under trees and cgroups.
    pub file: BTreeMap<FileKey, FileEntry>,
    /// Bit n: a cgroup of level n has an entry.
    pub cgroup_levels: u32,
    /// Numbers of the decisions behind each slot: who gets its hits.
    pub shares: BTreeMap<u32, Vec<u64>>,
}

impl Effective {
    /// Sums up the decisions of `live` that are in force at `now_boot_ns`, and releases the slots of keys that have none.
    ///
    /// # Errors
    ///
    /// When a map or the slots would overflow, a cgroup is the root or too deep, or the decisions on one prefix need more
    /// than four different ranges of ports. Nothing is left out silently: the newest decision has to be refused.
    pub fn of(live: &[Decision], now_boot_ns: u64, slots: &mut Slots) -> Result<Self, EnforceError> {
        let mut keys = Keys::default();
        for decision in live.iter().filter(|decision| decision.is_live(now_boot_ns)) {
            keys.add(decision)?;
        }
        let mut effective = Self { cgroup_levels: keys.levels, ..Self::default() };
        for (cookie, claims) in keys.tree {
            let entry = effective.add_scope(SlotKey::Tree(cookie), &in_force(&claims), slots)?;
            effective.tree.insert(cookie, entry);
        }
        for (id, claims) in keys.cgroup {
            let entry = effective.add_scope(SlotKey::Cgroup(id), &in_force(&claims), slots)?;
            effective.cgroup.insert(id, entry);
        }
        effective.add_addresses(&keys.address, slots)?;
        effective.add_files(&keys.file, slots)?;
        effective.check_bounds()?;
        slots.keep_only(&effective.shares.keys().copied().collect());
        Ok(effective)
    }

    /// Entries of scope 0, which `Control::active_address` counts.
    pub fn addresses_for_everybody(&self) -> usize {
        self.address.keys().filter(|key| key.scope == [0; 4]).count()
    }

    /// Entries of scope 0, which `Control::active_file` counts.
    pub fn files_for_everybody(&self) -> usize {
        self.file.keys().filter(|key| key.scope == 0).count()
    }

    fn add_scope(&mut self, key: SlotKey, claims: &[&Claim<'_>], slots: &mut Slots) -> Result<Entry, EnforceError> {
        let slot = slots.slot_of(key)?;
        let default = deadlines(claims.iter().filter(|claim| claim.listed.is_none() && claim.file.is_none()).copied());
        let whole = |action| default[action as usize];
        let nets: BTreeSet<Prefix> = claims.iter().flat_map(|claim| claim.destinations()).map(Prefix::of).collect();
        let (mut flags, breaker) = kind_of(claims);
        if !nets.is_empty() {
            flags |= ENTRY_LISTED;
        }
        let decision = newest(claims);
        for net in nets {
            let mut entry = AddressEntry { decision, slot, flags: plain(flags), breaker, ..Default::default() };
            set_rules(&mut entry, net, claims, [whole(Action::Connect), whole(Action::Egress)])?;
            self.address.insert(net.key(slot), entry);
        }
        let files: BTreeSet<ExeId> = claims.iter().flat_map(|claim| claim.files()).map(exe_id).collect();
        if !files.is_empty() {
            flags |= ENTRY_FILES;
        }
        for file in files {
            let denying = claims.iter().filter(|claim| claim.denies_file(file)).copied();
            let exec = denying.map(|claim| claim.until(Action::Exec)).max().unwrap_or(0);
            let entry =
                FileEntry { until_ns: [exec, whole(Action::OpenWrite)], decision, slot, flags: plain(flags), breaker };
            self.file.insert(FileKey { scope: slot, pad: 0, file }, entry);
        }
        self.shares.insert(slot, claims.iter().map(|claim| claim.decision.number).collect());
        Ok(Entry { until_ns: default, slot, flags, breaker, decision })
    }

    fn add_files(&mut self, all: &[Claim<'_>], slots: &mut Slots) -> Result<(), EnforceError> {
        let files: BTreeSet<ExeId> = all.iter().flat_map(|claim| claim.file).map(exe_id).collect();
        for file in files {
            let denying: Vec<Claim<'_>> = all.iter().filter(|claim| claim.denies_file(file)).copied().collect();
            let claims = in_force(&denying);
            let slot = slots.slot_of(SlotKey::File(file))?;
            let (flags, breaker) = kind_of(&claims);
            let exec = claims.iter().map(|claim| claim.until(Action::Exec)).max().unwrap_or(0);
            let entry = FileEntry { until_ns: [exec, 0], decision: newest(&claims), slot, flags, breaker };
            self.file.insert(FileKey { scope: 0, pad: 0, file }, entry);
            self.shares.insert(slot, claims.iter().map(|claim| claim.decision.number).collect());
        }
        Ok(())
    }

    fn add_addresses(&mut self, all: &[Claim<'_>], slots: &mut Slots) -> Result<(), EnforceError> {
        let nets: BTreeSet<Prefix> = all.iter().flat_map(|claim| claim.destinations()).map(Prefix::of).collect();
        for net in nets {
            let covering: Vec<Claim<'_>> = all.iter().filter(|claim| claim.reaches(net)).copied().collect();
            let claims = in_force(&covering);
            let key = net.key(0);
            let slot = slots.slot_of(SlotKey::Address(key))?;
            let (flags, breaker) = kind_of(&claims);
            let mut entry = AddressEntry { decision: newest(&claims), slot, flags, breaker, ..Default::default() };
            set_rules(&mut entry, net, &claims, [0; ADDRESS_ACTIONS])?;
            self.address.insert(key, entry);
            self.shares.insert(slot, claims.iter().map(|claim| claim.decision.number).collect());
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), EnforceError> {
        let sizes = [
            ("deny_tree", self.tree.len()),
            ("deny_cgroup", self.cgroup.len()),
            ("deny_address", self.address.len()),
            ("deny_file", self.file.len()),
        ];
        match sizes.into_iter().find(|(_, len)| *len > MAX_DENY as usize) {
            Some((map, _)) => Err(EnforceError::Full { map, limit: MAX_DENY }),
            None => Ok(()),
        }
    }
}

/// One decision as seen from its key.
#[derive(Clone, Copy)]
struct Claim<'a> {
    decision: &'a Decision,
    /// The only destination that it denies; `None` = everything that is not allowed.
    listed: Option<&'a Destination>,
    /// The only executable that it denies; `None` = every one that is not allowed.
    file: Option<&'a FileId>,
}

impl<'a> Claim<'a> {
    fn destinations(self) -> impl Iterator<Item = &'a Destination> {
        self.listed.into_iter().chain(&self.decision.allowed)
    }

    fn until(self, action: Action) -> u64 {
        if self.decision.action.forbids().contains(&action) { self.decision.until.boot_ns } else { 0 }
    }

    fn files(self) -> impl Iterator<Item = &'a FileId> {
        self.file.into_iter().chain(&self.decision.allowed_files)
    }

    fn denies_file(self, file: ExeId) -> bool {
        let is = |known: &FileId| exe_id(known) == file;
        self.listed.is_none() && self.file.is_none_or(is) && !self.decision.allowed_files.iter().any(is)
    }

    /// Whether the decision's own destination contains the whole prefix.
    fn reaches(self, net: Prefix) -> bool {
        self.listed.is_none_or(|to| Prefix::of(to).contains(net))
    }

    fn denies(self, net: Prefix, port: u16) -> bool {
        let covers = |to: &Destination| Prefix::of(to).contains(net) && has_port(to, port);
        self.file.is_none() && self.listed.is_none_or(covers) && !self.decision.allowed.iter().any(covers)
    }
}

/// Whether the destination's ports include `port`; none given = all.
pub(super) fn has_port(to: &Destination, port: u16) -> bool {
    to.ports.is_empty() || to.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
}

/// Decisions by key.
#[derive(Default)]
struct Keys<'a> {
    tree: BTreeMap<u64, Vec<Claim<'a>>>,
    cgroup: BTreeMap<u64, Vec<Claim<'a>>>,
    address: Vec<Claim<'a>>,
    file: Vec<Claim<'a>>,
    levels: u32,
}

impl<'a> Keys<'a> {
    fn add(&mut self, decision: &'a Decision) -> Result<(), EnforceError> {
        let claim = Claim { decision, listed: None, file: None };
        match &decision.target {
            Target::Tree { cookie } => self.tree.entry(*cookie).or_default().push(claim),
            Target::TreeAddress { cookie, to } => {
                self.tree.entry(*cookie).or_default().push(Claim { listed: Some(to), ..claim });
            }
            Target::Cgroup { id, level, path } => self.add_cgroup(*id, *level, path, claim)?,
            Target::CgroupExecutable { id, level, path, file } => {
                self.add_cgroup(*id, *level, path, Claim { file: Some(file), ..claim })?;
            }
            Target::Address { to } => self.address.push(Claim { listed: Some(to), ..claim }),
            Target::Executable { file } => self.file.push(Claim { file: Some(file), ..claim }),
        }
        Ok(())
    }

    fn add_cgroup(&mut self, id: u64, level: u32, path: &str, claim: Claim<'a>) -> Result<(), EnforceError> {
        if level == 0 || level >= CGROUP_LEVELS {
            return Err(EnforceError::CgroupLevel { path: path.to_owned(), level });
        }
        self.levels |= 1 << level;
        self.cgroup.entry(id).or_default().push(claim);
        Ok(())
    }
}

/// The enforcing claims, or the shadow ones when there are no others.
fn in_force<'b, 'a>(claims: &'b [Claim<'a>]) -> Vec<&'b Claim<'a>> {
    let enforcing: Vec<_> = claims.iter().filter(|claim| !claim.decision.shadow).collect();
    if enforcing.is_empty() { claims.iter().collect() } else { enforcing }
}

/// Flags and breaker that claims have in common. One operator's word is enough to keep the breaker off the entry.
fn kind_of(claims: &[&Claim<'_>]) -> (u16, u16) {
    let shadow = claims.iter().all(|claim| claim.decision.shadow);
    let automatic = claims.iter().all(|claim| claim.decision.author == Author::Automatic);
    let flags = if shadow { ENTRY_SHADOW } else { 0 } | if automatic { ENTRY_AUTOMATIC } else { 0 };
    let breaker = claims.iter().map(|claim| claim.decision.breaker).filter(|limit| *limit > 0).min().unwrap_or(0);
    (flags, if automatic { breaker } else { 0 })
}

fn newest(claims: &[&Claim<'_>]) -> u64 {
    claims.iter().map(|claim| claim.decision.number).max().unwrap_or(0)
}

/// The latest deadline of each action.
fn deadlines<'a: 'b, 'b>(claims: impl Iterator<Item = &'b Claim<'a>>) -> [u64; ACTIONS] {
    let mut until_ns = [0; ACTIONS];
    for claim in claims {
        for action in claim.decision.action.forbids() {
            let slot = &mut until_ns[*action as usize];
            *slot = (*slot).max(claim.decision.until.boot_ns);
        }
    }
    until_ns
}

/// Flags of what is listed under an entry: its kind, not its lists.
fn plain(flags: u16) -> u16 {
    flags & !(ENTRY_LISTED | ENTRY_FILES)
}

/// What the kernel knows a file by.
pub(super) fn exe_id(file: &FileId) -> ExeId {
    ExeId { ino: file.ino, dev: file.dev, generation: file.generation }
}

/// Writes the deadlines of every port at `net` that differ from `default`.
fn set_rules(
    entry: &mut AddressEntry,
    net: Prefix,
    claims: &[&Claim<'_>],
    default: [u64; ADDRESS_ACTIONS],
) -> Result<(), EnforceError> {
    let mut rules: Vec<PortRule> = Vec::new();
    for (first, last) in port_ranges(net, claims) {
        let denied = deadlines(claims.iter().filter(|claim| claim.denies(net, first)).copied());
        let until_ns = [denied[Action::Connect as usize], denied[Action::Egress as usize]];
        match rules.last_mut() {
            Some(rule) if rule.until_ns == until_ns => rule.last = last,
            _ => rules.push(PortRule { first, last, pad: 0, until_ns }),
        }
    }
    rules.retain(|rule| rule.until_ns != default);
    if rules.len() > PORT_RULES {
        return Err(EnforceError::TooManyPortRanges { net: net.to_string(), decision: entry.decision });
    }
    entry.count = rules.len() as u32;
    entry.rules[..rules.len()].copy_from_slice(&rules);
    Ok(())
}

/// All ports, cut where some claim on a prefix that contains `net` begins or ends.
fn port_ranges(net: Prefix, claims: &[&Claim<'_>]) -> Vec<(u16, u16)> {
    let mut starts = BTreeSet::from([0]);
    let covering = claims.iter().flat_map(|claim| claim.destinations()).filter(|to| Prefix::of(to).contains(net));
    for (first, last) in covering.flat_map(|to| &to.ports) {
        starts.insert(*first);
        starts.extend(last.checked_add(1));
    }
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([u16::MAX]);
    starts.iter().copied().zip(ends).collect()
}
