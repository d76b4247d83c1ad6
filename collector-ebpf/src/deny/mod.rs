//! Denials, one file a kind of operation: what is refused gets EPERM, packets of open sockets are dropped.
//!
//! User space writes the entries, and each is the complete answer for its key; the kernel looks up who it is, asks until
//! somebody denies, counts, and reports the first hit at once and then one a second. The deadline stands in the entry, so
//! nothing here needs the agent.

pub mod connect;
mod exec;
mod hatch;
mod lsm;
mod open_write;
mod socket;
mod tamper;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns, bpf_loop,
    bpf_skb_ancestor_cgroup_id,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{HashMap, LpmTrie, PerCpuArray};
use collector_common::deny::*;
use collector_common::map::*;
use collector_common::stats::Stats;
use collector_common::{ExeId, Kind};

use crate::control::control;
use crate::maps::LINEAGE;
use crate::rings::{CTRL, WAKEUP};
use crate::stats;

const NO_PREALLOC: u32 = 1;
/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;
/// Records of one process and entry are at least this far apart.
const SECOND: u64 = 1_000_000_000;
/// Deepest level of a cgroup that can be denied; the root, level 0, cannot.
const LEVELS: u32 = 31;
/// Keys of a lineage: itself, the nearest ancestors, the sticky one, the root.
const KEYS: usize = ANCESTORS + 3;

#[map(name = "deny_tree")]
static DENY_TREE: HashMap<u64, Entry> = HashMap::with_max_entries(MAX_DENY, NO_PREALLOC);
#[map(name = "deny_cgroup")]
static DENY_CGROUP: HashMap<u64, Entry> = HashMap::with_max_entries(MAX_DENY, NO_PREALLOC);
#[map(name = "deny_address")]
static DENY_ADDRESS: LpmTrie<[u8; 20], AddressEntry> = LpmTrie::with_max_entries(MAX_DENY, NO_PREALLOC);
#[map(name = "deny_file")]
static DENY_FILE: HashMap<FileKey, FileEntry> = HashMap::with_max_entries(MAX_DENY, NO_PREALLOC);
#[map(name = "hits")]
static HITS: PerCpuArray<Hits> = PerCpuArray::with_max_entries(MAX_DENY, 0);
#[map(name = "deny_seen")]
static DENY_SEEN: HashMap<SeenKey, SeenHits> = HashMap::with_max_entries(MAX_DENY_SEEN, NO_PREALLOC);
/// Trees that an automatic entry has hit; the key with cookie 0 counts them.
#[map(name = "breaker_seen")]
static BREAKER_SEEN: HashMap<SeenKey, u64> = HashMap::with_max_entries(MAX_DENY_SEEN, NO_PREALLOC);

/// An operation that somebody wants to do, who wants it, and the entry that has an answer.
///
/// The keys are tried by `bpf_loop`: its body is verified once, where an unrolled search of eleven ancestors and thirty-one
/// cgroup levels is more than the verifier follows.
#[repr(C)]
struct Search {
    keys: [u64; KEYS],
    cookie: u64,
    root: u64,
    cgroup: u64,
    now: u64,
    /// The packet, for the cgroups of its socket; null in process context.
    skb: *mut __sk_buff,
    levels: u32,
    port: u16,
    protocol: u8,
    hook: u8,
    action: u8,
    /// A [`Match`] of what was found; 0 = nothing.
    matched: u8,
    flags: u16,
    slot: u32,
    breaker: u32,
    decision: u64,
    until: u64,
    address: [u8; 16],
    /// The executable, or the directory of the file.
    file: ExeId,
    name: [u8; NAME],
}

/// What somebody wants to do.
struct Wish {
    hook: Hook,
    action: Action,
    address: [u8; 16],
    port: u16,
    protocol: u8,
    file: ExeId,
}

/// Nothing is denied at all.
#[inline(always)]
fn is_idle(control: &Control) -> bool {
    let active = control.active_tree | control.active_cgroup | control.active_address | control.active_file;
    control.disarmed != 0 || active == 0
}

#[inline(always)]
fn begin(control: &Control, wish: &Wish, skb: *mut __sk_buff) -> Search {
    Search {
        keys: [0; KEYS],
        cookie: 0,
        root: 0,
        cgroup: 0,
        // SAFETY: a helper without arguments.
        now: unsafe { bpf_ktime_get_boot_ns() },
        skb,
        levels: control.cgroup_levels,
        port: wish.port,
        protocol: wish.protocol,
        hook: wish.hook as u8,
        action: wish.action as u8,
        matched: 0,
        flags: 0,
        slot: 0,
        breaker: 0,
        decision: 0,
        until: 0,
        address: wish.address,
        file: wish.file,
        name: [0; NAME],
    }
}

/// Enters who the current process is. `false` when it is never denied.
#[inline(always)]
fn identify(search: &mut Search, stats: &mut Stats) -> bool {
    // SAFETY: a helper without arguments.
    search.cgroup = unsafe { bpf_get_current_cgroup_id() };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: read only, and freed after a grace period at the earliest.
    match unsafe { LINEAGE.get(&tgid) } {
        Some(lineage) if lineage.flags & LINEAGE_PROTECTED != 0 => return false,
        Some(lineage) => fill_keys(search, lineage.cookie, lineage.root, &lineage.near, lineage.sticky),
        None => stats.unattributed += 1,
    }
    true
}

#[inline(always)]
fn fill_keys(search: &mut Search, cookie: u64, root: u64, near: &[u64; ANCESTORS], sticky: u64) {
    search.cookie = cookie;
    search.root = root;
    search.keys[0] = cookie;
    let mut at = 0;
    while at < ANCESTORS {
        search.keys[1 + at] = near[at];
        at += 1;
    }
    search.keys[ANCESTORS + 1] = sticky;
    search.keys[ANCESTORS + 2] = root;
}

/// Asks trees, then cgroups, then what is denied to everybody, until an entry refuses; 1 = go on, 0 = refused.
#[inline(always)]
fn judge(control: &Control, stats: &mut Stats, search: &mut Search) -> i32 {
    judge_by(control, stats, search, try_current_level)
}

/// The same for a packet: the cgroups are those of its socket. Kernels before 6.8 do not even let a program for packets name
/// the helper that asks for the current process's.
#[inline(always)]
fn judge_packet(control: &Control, stats: &mut Stats, search: &mut Search) -> i32 {
    judge_by(control, stats, search, try_packet_level)
}

#[inline(always)]
fn judge_by(
    control: &Control,
    stats: &mut Stats,
    search: &mut Search,
    try_level: extern "C" fn(u32, *mut Search) -> i64,
) -> i32 {
    let context = core::ptr::from_mut(search).cast::<c_void>();
    if control.active_tree != 0 && search.cookie != 0 {
        // SAFETY: the callback gets the index and this frame's search, which outlives the call.
        unsafe { bpf_loop(KEYS as u32, try_tree as *const () as *mut c_void, context, 0) };
    }
    if control.active_cgroup != 0 && !is_final(search) {
        // SAFETY: as above.
        unsafe { bpf_loop(LEVELS, try_level as *const () as *mut c_void, context, 0) };
    }
    if !is_final(search) {
        if is_of_files(search) {
            if control.active_file != 0 {
                try_file_for_everybody(search);
            }
        } else if control.active_address != 0 {
            try_address_for_everybody(search);
        }
    }
    if search.matched != 0 && hit(stats, search) { 0 } else { 1 }
}

/// Whether the entry that was found refuses; a shadow entry only counts, so the search goes on behind it.
#[inline(always)]
fn is_final(search: &Search) -> bool {
    search.matched != 0 && search.flags & ENTRY_SHADOW == 0
}

/// `bpf_loop` body: does an entry for the process or this ancestor refuse?
extern "C" fn try_tree(index: u32, search: *mut Search) -> i64 {
    // SAFETY: `judge` passes its own search.
    let search = unsafe { &mut *search };
    let Some(key) = search.keys.get(index as usize).copied() else { return 1 };
    if key == 0 {
        return 0;
    }
    // SAFETY: user space replaces entries whole; the old one lives until the program ends.
    if let Some(entry) = unsafe { DENY_TREE.get(&key) } {
        consider(search, entry, Match::Tree);
    }
    is_final(search) as i64
}

/// `bpf_loop` body: does an entry for this level's cgroup of the current process refuse?
extern "C" fn try_current_level(index: u32, search: *mut Search) -> i64 {
    // SAFETY: as above.
    let search = unsafe { &mut *search };
    let level = index + 1;
    if search.levels >> (level & 31) & 1 == 0 {
        return 0;
    }
    // SAFETY: a level that the helper checks.
    let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
    try_cgroup(search, id)
}

/// `bpf_loop` body: does an entry for this level's cgroup of the packet's socket refuse?
extern "C" fn try_packet_level(index: u32, search: *mut Search) -> i64 {
    // SAFETY: as above.
    let search = unsafe { &mut *search };
    let level = index + 1;
    if search.levels >> (level & 31) & 1 == 0 {
        return 0;
    }
    // SAFETY: the program's context, and a level that the helper checks.
    let id = unsafe { bpf_skb_ancestor_cgroup_id(search.skb, level as i32) };
    try_cgroup(search, id)
}

#[inline(always)]
fn try_cgroup(search: &mut Search, id: u64) -> i64 {
    // SAFETY: as for trees.
    if id != 0
        && let Some(entry) = unsafe { DENY_CGROUP.get(&id) }
    {
        consider(search, entry, Match::Cgroup);
    }
    is_final(search) as i64
}

/// Keeps an entry if it has an answer: the rule of a listed address, else the entry's own deadline.
#[inline(always)]
fn consider(search: &mut Search, entry: &Entry, matched: Match) {
    let mut until = entry.until_ns[search.action as usize & (ACTIONS - 1)];
    if is_of_files(search) {
        if entry.flags & ENTRY_FILES != 0
            && let Some(file) = listed_file(entry.slot, search)
        {
            until = file_deadline(file, search);
        }
    } else if entry.flags & ENTRY_LISTED != 0
        && let Some(own) = listed(entry.slot, &search.address).and_then(|listed| rule(listed, search))
    {
        until = own;
    }
    if until > search.now {
        search.matched = matched as u8;
        search.flags = entry.flags;
        search.slot = entry.slot;
        search.breaker = entry.breaker as u32;
        search.decision = entry.decision;
        search.until = until;
    }
}

/// Whether files, not addresses, are listed for what is asked.
#[inline(always)]
fn is_of_files(search: &Search) -> bool {
    search.action >= Action::Exec as u8
}

#[inline(always)]
fn listed_file(scope: u32, search: &Search) -> Option<&'static FileEntry> {
    let mut key = FileKey { scope, pad: 0, file: search.file };
    // SAFETY: user space replaces entries whole; the old one lives until the program ends.
    if let Some(exact) = unsafe { DENY_FILE.get(&key) } {
        return Some(exact);
    }
    // Generation 0: whoever made the entry could not find it out.
    key.file.generation = 0;
    // SAFETY: as above.
    unsafe { DENY_FILE.get(&key) }
}

/// The file's own deadline; hatches and tampering are not listed, so only the entry of the scope forbids them.
#[inline(always)]
fn file_deadline(file: &FileEntry, search: &Search) -> u64 {
    file.until_ns[(search.action - Action::Exec as u8) as usize & (FILE_ACTIONS - 1)]
}

#[inline(always)]
fn try_file_for_everybody(search: &mut Search) {
    let Some(entry) = listed_file(0, search) else { return };
    let until = file_deadline(entry, search);
    if until > search.now {
        search.matched = Match::File as u8;
        search.flags = entry.flags;
        search.slot = entry.slot;
        search.breaker = entry.breaker as u32;
        search.decision = entry.decision;
        search.until = until;
    }
}

#[inline(always)]
fn try_address_for_everybody(search: &mut Search) {
    let Some(entry) = listed(0, &search.address) else { return };
    if let Some(until) = rule(entry, search)
        && until > search.now
    {
        search.matched = Match::Address as u8;
        search.flags = entry.flags;
        search.slot = entry.slot;
        search.breaker = entry.breaker as u32;
        search.decision = entry.decision;
        search.until = until;
    }
}

#[inline(always)]
fn listed(scope: u32, remote: &[u8; 16]) -> Option<&'static AddressEntry> {
    #[repr(C)]
    struct Data {
        scope: [u8; 4],
        address: [u8; 16],
    }
    let data = Data { scope: scope.to_be_bytes(), address: *remote };
    // SAFETY: both are twenty bytes.
    let data: [u8; 20] = unsafe { core::mem::transmute(data) };
    DENY_ADDRESS.get(&Key::new(160, data))
}

/// The deadline of the rule that names the port; `None` when none does.
#[inline(always)]
fn rule(entry: &AddressEntry, search: &Search) -> Option<u64> {
    let mut at = 0;
    while at < PORT_RULES {
        if at as u32 >= entry.count {
            return None;
        }
        let rule = &entry.rules[at];
        if rule.first <= search.port && search.port <= rule.last {
            return Some(rule.until_ns[search.action as usize & (ADDRESS_ACTIONS - 1)]);
        }
        at += 1;
    }
    None
}

/// Counts and reports the hit of what was found. `true` when the operation is to be refused.
#[inline(always)]
fn hit(stats: &mut Stats, search: &Search) -> bool {
    let mut last = 0;
    if let Some(hits) = HITS.get_ptr_mut(search.slot) {
        // SAFETY: a per-CPU value.
        let hits = unsafe { &mut *hits };
        last = hits.last_ns;
        hits.count += 1;
        hits.last_ns = search.now;
    }
    let mut told = if search.flags & ENTRY_SHADOW != 0 { DENY_SHADOW } else { 0 };
    if search.flags & ENTRY_AUTOMATIC != 0 && search.breaker != 0 {
        let (trees, is_new) = trees_hit(stats, search);
        if trees > search.breaker as u64 {
            if !is_new {
                return false;
            }
            told |= DENY_BREAKER;
        }
    }
    if let Some(suppressed) = is_to_be_told(stats, search, last, told & DENY_BREAKER != 0) {
        let header = stats::header(stats, Kind::Deny, size_of::<Deny>(), told, search.cookie);
        match CTRL.reserve::<Deny>(0) {
            Some(mut entry) => {
                entry.write(Deny {
                    header,
                    decision: search.decision,
                    slot: search.slot,
                    hook: search.hook,
                    action: search.action,
                    matched: search.matched,
                    protocol: search.protocol,
                    suppressed,
                    remote_port: search.port,
                    pad: 0,
                    remote: search.address,
                    cgroup: search.cgroup,
                    until_ns: search.until,
                    file: search.file,
                    name: search.name,
                });
                entry.submit(WAKEUP);
            }
            None => stats.ring_full += 1,
        }
    }
    told == 0
}

/// How many different trees the entry has hit, and whether this is a new one. One tree counts once, however it hammers.
#[inline(always)]
fn trees_hit(stats: &mut Stats, search: &Search) -> (u64, bool) {
    let count_key = SeenKey { cookie: 0, slot: search.slot, decision: search.decision as u32 };
    let tree = SeenKey { cookie: if search.root != 0 { search.root } else { search.cookie }, ..count_key };
    let count = BREAKER_SEEN.get_ptr_mut(&count_key);
    // SAFETY: a map value. Two CPUs may lose one count to each other: the breaker then opens one tree later.
    let before = count.map_or(0, |count| unsafe { *count });
    if tree.cookie == 0 || BREAKER_SEEN.insert(&tree, &1, NOEXIST).is_err() {
        return (before, false);
    }
    match count {
        // SAFETY: as above.
        Some(count) => unsafe { *count = before + 1 },
        None if BREAKER_SEEN.insert(&count_key, &1, 0).is_err() => stats.map_full += 1,
        None => (),
    }
    (before + 1, true)
}

/// Whether this hit is reported: the first of a process at once, then one a second. Returns how many were not.
#[inline(always)]
fn is_to_be_told(stats: &mut Stats, search: &Search, last: u64, always: bool) -> Option<u32> {
    let key = SeenKey { cookie: search.cookie, slot: search.slot, decision: search.decision as u32 };
    if let Some(seen) = DENY_SEEN.get_ptr_mut(&key) {
        // SAFETY: a map value of this process and entry.
        let seen = unsafe { &mut *seen };
        if !always && search.now.wrapping_sub(seen.reported_ns) < SECOND {
            seen.suppressed += 1;
            return None;
        }
        let suppressed = seen.suppressed as u32;
        seen.reported_ns = search.now;
        seen.suppressed = 0;
        return Some(suppressed);
    }
    let fresh = SeenHits { reported_ns: search.now, suppressed: 0 };
    if DENY_SEEN.insert(&key, &fresh, NOEXIST).is_err() {
        stats.map_full += 1;
        // No room to tell processes apart: one record a second and CPU for the whole entry.
        return if search.now.wrapping_sub(last) < SECOND { None } else { Some(0) };
    }
    Some(0)
}

/// The denied ancestor that a new process is about to lose sight of: the outermost of its creator's nearest ones, or the one
/// that its creator already carries. 0 = none.
#[inline(always)]
pub fn sticky_for(creator: &Lineage) -> u64 {
    if creator.sticky != 0 || control().is_none_or(|control| control.active_tree == 0) {
        return creator.sticky;
    }
    let lost = creator.near[ANCESTORS - 1];
    // SAFETY: only its presence is asked for.
    if lost != 0 && unsafe { DENY_TREE.get(&lost) }.is_some() { lost } else { 0 }
}
