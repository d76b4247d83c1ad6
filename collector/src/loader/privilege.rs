//! What the kernel asks of whoever loads programs: capabilities, held in the kernel's own namespaces.
//!
//! Asked before anything is loaded. A refused attach alone would leave an agent that runs and sees half.

use rustix::thread::{CapabilitySet, capabilities};
use serde::Serialize;

/// One capability and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Privilege {
    /// As `capabilities(7)` names it.
    pub name: &'static str,
    /// What does not work without it.
    pub lost: &'static str,
    /// Without it nothing is loaded.
    pub required: bool,
}

/// Each capability that is used. Linux 5.8 split the first three from `CAP_SYS_ADMIN`, which stands in for them
/// (`bpf_token_capable` in `kernel/bpf/token.c`, Linux 6.12).
const USED: &[(CapabilitySet, Privilege)] = &[
    (CapabilitySet::BPF, required("CAP_BPF", "everything but replay: nothing can be loaded")),
    (CapabilitySet::PERFMON, required("CAP_PERFMON", "everything but replay: no program may read the kernel")),
    (CapabilitySet::NET_ADMIN, required("CAP_NET_ADMIN", "flows, network denials, cutting connections")),
    (
        CapabilitySet::SYS_PTRACE,
        wanted("CAP_SYS_PTRACE", "names of programs that other users started before the agent"),
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        wanted("CAP_DAC_READ_SEARCH", "paths and hashes of files that only others may read"),
    ),
    (CapabilitySet::KILL, wanted("CAP_KILL", "ending trees")),
    (
        CapabilitySet::SYS_ADMIN,
        wanted("CAP_SYS_ADMIN", "mounting a BPF file system, cutting connections in containers"),
    ),
];

const fn required(name: &'static str, lost: &'static str) -> Privilege {
    Privilege { name, lost, required: true }
}

const fn wanted(name: &'static str, lost: &'static str) -> Privilege {
    Privilege { name, lost, required: false }
}

/// What to do when one is missing.
pub const REMEDY: &str = "run as root, or give the service AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_KILL CAP_SYS_ADMIN";

/// What this thread lacks, in the order of the table.
pub fn lacking() -> Vec<Privilege> {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    lacking_in(held)
}

fn lacking_in(held: CapabilitySet) -> Vec<Privilege> {
    let stands_in = |of: &Privilege| of.required && held.contains(CapabilitySet::SYS_ADMIN);
    let missing = USED.iter().filter(|(flag, privilege)| !held.contains(*flag) && !stands_in(privilege));
    missing.map(|(_, privilege)| *privilege).collect()
}

/// Those without which nothing is loaded, by name; empty when all are there.
pub fn required_and_lacking() -> Vec<&'static str> {
    lacking().into_iter().filter(|privilege| privilege.required).map(|privilege| privilege.name).collect()
}

/// A namespace whose numbers the kernel programs do not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// `user` or `pid`.
    pub kind: &'static str,
    /// What does not work in it.
    pub lost: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// The kernel's own namespaces have these inodes on every machine (`include/linux/proc_ns.h`, Linux 6.12).
const INITIAL: &[(u64, Foreign)] = &[
    (
        0xEFFF_FFFD,
        Foreign {
            kind: "user",
            lost: "everything but replay: capabilities count in the initial user namespace only",
            fix: "a container without user remapping, or the host itself",
        },
    ),
    (
        0xEFFF_FFFC,
        Foreign {
            kind: "pid",
            lost: "everything but replay: programs and /proc would number processes differently",
            fix: "a container in the host's pid namespace (--pid=host, hostPID: true), or the host itself",
        },
    ),
];

/// Which of this process's namespaces are not the kernel's own. What cannot be read is taken for the kernel's own: then the
/// self-check finds out.
pub fn foreign_namespaces() -> Vec<Foreign> {
    let inode = |kind: &str| std::fs::metadata(format!("/proc/self/ns/{kind}")).map(|about| inode_of(&about)).ok();
    let foreign = INITIAL.iter().filter(|(initial, of)| inode(of.kind).is_some_and(|inode| inode != *initial));
    foreign.map(|(_, foreign)| *foreign).collect()
}

fn inode_of(about: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(about)
}

/// Why this process can load nothing, in words; `None` when it has what is asked for.
pub fn obstacle() -> Option<String> {
    if let Some(foreign) = foreign_namespaces().first() {
        return Some(format!("in a {} namespace of its own: it takes {}", foreign.kind, foreign.fix));
    }
    let missing = required_and_lacking();
    if missing.is_empty() { None } else { Some(format!("no {}", missing.join(", "))) }
}

/// Whether the kernel is locked down so far that programs may not read it (`lockdown=confidentiality`). `None` when the
/// kernel does not say: no lockdown module, or no securityfs.
pub fn is_confidential() -> Option<bool> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    Some(text.contains("[confidentiality]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(held: CapabilitySet) -> Vec<&'static str> {
        lacking_in(held).into_iter().map(|privilege| privilege.name).collect()
    }

    #[test]
    fn sys_admin_stands_in_for_what_was_split_from_it_and_for_nothing_else() {
        assert_eq!(names(CapabilitySet::all()), [""; 0]);
        assert_eq!(names(CapabilitySet::SYS_ADMIN), ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_KILL"]);
        let without = |gone: CapabilitySet| names(CapabilitySet::all() - CapabilitySet::SYS_ADMIN - gone);
        assert_eq!(without(CapabilitySet::PERFMON), ["CAP_PERFMON", "CAP_SYS_ADMIN"]);
        assert_eq!(without(CapabilitySet::empty()), ["CAP_SYS_ADMIN"]);
    }
}
