//! A decision: what is forbidden to whom, until when, why, on whose word. The kernel gets [`collector_common::deny::Entry`]s
//! made from the live ones.

use std::net::SocketAddr;
use std::sync::Arc;

use collector_common::deny::Action;
use ipnet::IpNet;
use model::event::Time;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::short::short_name;

/// Addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination {
    /// Address or prefix.
    pub net: IpNet,
    /// Inclusive port ranges, at most four; empty = every port.
    #[serde(default)]
    pub ports: Vec<(u16, u16)>,
}

impl From<SocketAddr> for Destination {
    fn from(to: SocketAddr) -> Self {
        Self { net: IpNet::from(to.ip()), ports: vec![(to.port(), to.port())] }
    }
}

/// A file by what the kernel knows it by, and its path for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// Inode number.
    pub ino: u64,
    /// Device as the kernel numbers it: `major << 20 | minor`.
    pub dev: u32,
    /// Generation of the inode; 0 on file systems that have none.
    pub generation: u32,
    /// Path when the decision was made.
    pub path: Arc<str>,
}

/// Whom a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "scope")]
pub enum Target {
    /// A process and all its descendants, born before or after the decision.
    Tree {
        /// Cookie of the process.
        cookie: u64,
    },
    /// A cgroup and its descendants.
    Cgroup {
        /// cgroup v2 id.
        id: u64,
        /// Level below the v2 root (0 = the root itself, refused).
        level: u32,
        /// Path, for people.
        path: Arc<str>,
    },
    /// An address or prefix, for everybody below the guarded cgroup.
    Address {
        /// Where to.
        to: Destination,
    },
    /// One tree to one destination.
    TreeAddress {
        /// Cookie of the process.
        cookie: u64,
        /// Where to.
        to: Destination,
    },
    /// One executable, whoever starts it below the guarded cgroup. Only on devices whose inode numbers mean something to
    /// everybody (not on overlayfs or btrfs).
    Executable {
        /// Which.
        file: FileId,
    },
    /// One executable in a cgroup and its descendants.
    CgroupExecutable {
        /// cgroup v2 id.
        id: u64,
        /// Level below the v2 root.
        level: u32,
        /// Path, for people.
        path: Arc<str>,
        /// Which.
        file: FileId,
    },
}

/// What is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionAction {
    /// New connections and datagrams.
    DenyConnect,
    /// `DenyConnect`, everything that sockets which are already open would send, and connecting to sockets of services
    /// that act on others' behalf (the last where LSM programs work).
    Isolate,
    /// Starting programs.
    DenyExec,
    /// Opening files for writing, creating, renaming, unlinking and truncating them by path. What is open stays writable.
    DenyOpenWrite,
    /// `Isolate` and `DenyExec`: the fence of an automatic decision; what the frozen baseline holds stays allowed.
    Fence,
    /// Attaching to other processes, loading kernel modules, bpf(2).
    DenyTamper,
    /// Containment: every process of a cgroup stops until the decision ends.
    Freeze,
    /// Containment: every process is killed; what is born of one that was missed may not connect or start anything.
    Kill,
    /// Containment: open TCP connections end now; new ones are not denied.
    Cut,
}

impl DecisionAction {
    /// What the kernel is to forbid.
    pub fn forbids(self) -> &'static [Action] {
        match self {
            Self::DenyConnect => &[Action::Connect],
            Self::Isolate => &[Action::Connect, Action::Egress, Action::Hatch],
            Self::DenyExec => &[Action::Exec],
            Self::DenyOpenWrite => &[Action::OpenWrite],
            Self::Fence => &[Action::Connect, Action::Egress, Action::Hatch, Action::Exec],
            Self::DenyTamper => &[Action::Tamper],
            Self::Kill => &[Action::Connect, Action::Egress, Action::Hatch, Action::Exec],
            Self::Freeze | Self::Cut => &[],
        }
    }

    /// Whether it does nothing at all where LSM programs are refused.
    pub fn needs_lsm(self) -> bool {
        matches!(self, Self::DenyExec | Self::DenyOpenWrite | Self::DenyTamper)
    }
}

/// On whose word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "name")]
pub enum Author {
    /// The agent, because of a finding.
    Automatic,
    /// A person, by login name.
    Operator(String),
}

/// The life of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionState {
    /// In force.
    Active,
    /// Its deadline passed.
    Lapsed,
    /// Undone by somebody.
    Released,
    /// The breaker disarmed it.
    Tripped,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Counts up from 1 on this host; what kernel records name.
    pub number: u64,
    /// Whom.
    pub target: Target,
    /// What.
    pub action: DecisionAction,
    /// Only count what would have been denied.
    pub shadow: bool,
    /// The fence: destinations that the workload's frozen facts hold and that stay allowed.
    #[serde(default)]
    pub allowed: Vec<Destination>,
    /// The fence: executables of the frozen baseline, which stay allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_files: Vec<FileId>,
    /// What containment came to: what was killed, frozen or cut, and what could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contained: Option<String>,
    /// On whose word.
    pub author: Author,
    /// Finding that caused it.
    pub finding: Option<Uuid>,
    /// Why, in words.
    pub reason: String,
    /// Workload of the target, where it has one.
    pub workload: Option<Arc<str>>,
    /// When it was made.
    pub created: Time,
    /// When it lapses. The boot clock counts.
    pub until: Time,
    /// State.
    pub state: DecisionState,
    /// When it stopped being active.
    pub ended: Option<Time>,
    /// Who released it and why.
    pub release: Option<String>,
    /// Operations denied so far (would have been, for a shadow).
    pub hits: u64,
    /// Process trees that may be hit before an automatic decision is disarmed; 0 = no breaker.
    pub breaker: u16,
    /// Made by the demo or a test.
    pub test: bool,
}

impl Decision {
    /// The short name that people type: `D-…`.
    pub fn short(&self) -> String {
        short_number(self.number)
    }

    /// Active and not past its deadline.
    pub fn is_live(&self, boot_ns: u64) -> bool {
        self.state == DecisionState::Active && boot_ns < self.until.boot_ns
    }
}

/// The short name of a decision's number. The multiplier is odd, so numbers below 2^25 stay distinct while neighbours look
/// different.
pub fn short_number(number: u64) -> String {
    short_name('D', number.wrapping_mul(0x0131_4c2d))
}
