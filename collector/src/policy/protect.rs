//! What is never denied: checked before every decision, and marked in the kernel besides.
//!
//! A process is protected for what it is (pid 1, the agent, the sshd listener, systemd's daemons, container runtimes, the
//! kubelet, an operator's session), not for its name alone: it has to be root's or live in a system directory, so that a
//! web shell called `runc` is not.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use model::event::Process;

use super::Config;
use crate::decision::{Destination, FileId, Target};

/// Protected processes; more are not expected on any host, and the overflow is counted.
const MAX_PROCESSES: usize = 8_192;
const RUNTIMES: &[&str] = &[
    "containerd",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "dockerd",
    "docker-proxy",
    "crio",
    "conmon",
    "runc",
    "crun",
    "podman",
    "kubelet",
    "k3s",
    "rke2",
];
/// Programs without which nobody can log in and undo a decision.
const NEEDED: &[&str] =
    &["sh", "bash", "dash", "busybox", "sshd", "sshd-session", "login", "agetty", "sudo", "su", "stockade", "init"];
const SYSTEM_DIRECTORIES: &[&str] =
    &["/usr/bin/", "/usr/sbin/", "/usr/libexec/", "/usr/local/bin/", "/usr/local/sbin/", "/bin/", "/sbin/", "/opt/"];
const SYSTEMD_DIRECTORIES: &[&str] = &["/usr/lib/systemd/", "/lib/systemd/"];

/// An address that stays reachable for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedAddress {
    /// Address or prefix.
    pub net: IpNet,
    /// One port; `None` = every port.
    pub port: Option<u16>,
    /// What it is.
    pub why: String,
}

#[derive(Clone, Debug)]
struct ProtectedProcess {
    pid: u32,
    ancestors: Vec<u64>,
    cgroup: u64,
    why: String,
}

/// Why a decision was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tree is or holds a protected process.
    #[error("the tree below {target} is not denied: it holds {why} (pid {pid}); choose a smaller subtree")]
    Tree {
        /// Cookie.
        target: u64,
        /// What is protected.
        why: String,
        /// Its pid.
        pid: u32,
    },
    /// The root of the hierarchy.
    #[error("the root cgroup is not denied: that is the whole host; choose a unit's or container's cgroup")]
    RootCgroup,
    /// The cgroup holds a protected process.
    #[error("cgroup {path} is not denied: it holds {why} (pid {pid}); choose a cgroup below it")]
    Cgroup {
        /// Path.
        path: Arc<str>,
        /// What is protected.
        why: String,
        /// Its pid.
        pid: u32,
    },
    /// The address is protected.
    #[error(
        "{net} is not denied to everybody: it contains {why}; leave that address or port out, or deny one tree only"
    )]
    Address {
        /// Asked for.
        net: IpNet,
        /// What is protected.
        why: String,
    },
    /// The inode's number means nothing outside its mount.
    #[error(
        "{path} lies on a file system whose inode numbers are not unique (overlayfs, btrfs, tmpfs): deny it in a cgroup, with --cgroup"
    )]
    NoIdentity {
        /// Path.
        path: Arc<str>,
    },
    /// Nobody could log in or repair the host any more.
    #[error("{path} is not denied to everybody: logging in and repairing this host need it; deny it in a cgroup")]
    NeededProgram {
        /// Path.
        path: Arc<str>,
    },
    /// Much too wide.
    #[error("{0} is not denied to everybody: prefixes wider than /8 (IPv4) or /16 (IPv6) cut the host off")]
    TooWide(IpNet),
}

/// The protected set.
#[derive(Clone, Debug, Default)]
pub struct Protected {
    agent_pid: u32,
    processes: BTreeMap<u64, ProtectedProcess>,
    cgroup_paths: BTreeMap<u64, Arc<str>>,
    addresses: Vec<ProtectedAddress>,
    overflow: u64,
}

impl Protected {
    /// With the agent's own pid. Loopback is protected from the start.
    pub fn new(agent_pid: u32) -> Self {
        let loopback = |text: &str| ProtectedAddress {
            net: text.parse().unwrap_or_else(|_| IpNet::from(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            port: None,
            why: "loopback".to_owned(),
        };
        Self { agent_pid, addresses: vec![loopback("127.0.0.0/8"), loopback("::1/128")], ..Self::default() }
    }

    /// Adds addresses: resolvers, gateways, brokers, what the configuration names.
    pub fn add_addresses(&mut self, addresses: impl IntoIterator<Item = ProtectedAddress>) {
        for address in addresses {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
    }

    /// Tells where a cgroup is in the v2 hierarchy, so that a decision on one above it can be refused.
    pub fn note_cgroup(&mut self, id: u64, path: &str) {
        if self.cgroup_paths.len() < MAX_PROCESSES || self.cgroup_paths.contains_key(&id) {
            self.cgroup_paths.insert(id, path.into());
        }
    }

    /// Looks at a process; true when its cookie joined the set just now and the kernel has to be told.
    pub fn consider(&mut self, process: &Process, config: &Config) -> bool {
        let Some(why) = self.why_protected(process, config) else {
            // A new program in the same process: what made it special is gone.
            self.processes.remove(&process.cookie);
            return false;
        };
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&process.cookie) {
            self.overflow += 1;
            return false;
        }
        let entry =
            ProtectedProcess { pid: process.pid, ancestors: process.ancestors.clone(), cgroup: process.cgroup, why };
        self.processes.insert(process.cookie, entry).is_none()
    }

    /// The process ended.
    pub fn forget(&mut self, cookie: u64) {
        self.processes.remove(&cookie);
    }

    /// Cookies that the kernel must never deny (`LINEAGE_PROTECTED`).
    pub fn protected_cookies(&self) -> Vec<u64> {
        self.processes.keys().copied().collect()
    }

    /// Protected processes that did not fit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Whether a decision may be made.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names what would have been hit.
    pub fn check(&self, target: &Target) -> Result<(), Refusal> {
        match target {
            Target::Tree { cookie } => self.check_tree(*cookie),
            Target::TreeAddress { cookie, .. } => self.check_tree(*cookie),
            Target::Cgroup { id, level, path } => self.check_cgroup(*id, *level, path),
            Target::Address { to } => self.check_address(to),
            // One program is not started any more: what runs goes on, so nobody protected is hit.
            Target::CgroupExecutable { level: 0, .. } => Err(Refusal::RootCgroup),
            Target::CgroupExecutable { file, .. } => self.check_executable(file, false),
            Target::Executable { file } => self.check_executable(file, true),
        }
    }

    fn check_tree(&self, target: u64) -> Result<(), Refusal> {
        let hit = self.processes.iter().find(|(cookie, entry)| **cookie == target || entry.ancestors.contains(&target));
        hit.map_or(Ok(()), |(_, entry)| Err(Refusal::Tree { target, why: entry.why.clone(), pid: entry.pid }))
    }

    fn check_cgroup(&self, id: u64, level: u32, path: &Arc<str>) -> Result<(), Refusal> {
        if level == 0 || path.trim_matches('/').is_empty() {
            return Err(Refusal::RootCgroup);
        }
        // A protected process whose cgroup's place is unknown might be below: better refuse than guess.
        let below = |cgroup: u64| match self.cgroup_paths.get(&cgroup) {
            Some(other) => cgroup == id || is_below(other, path),
            None => true,
        };
        let hit = self.processes.values().find(|entry| below(entry.cgroup));
        hit.map_or(Ok(()), |entry| Err(Refusal::Cgroup { path: path.clone(), why: entry.why.clone(), pid: entry.pid }))
    }

    fn check_executable(&self, file: &FileId, everywhere: bool) -> Result<(), Refusal> {
        if everywhere && file.dev >> 20 == 0 {
            return Err(Refusal::NoIdentity { path: file.path.clone() });
        }
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let is_system = SYSTEM_DIRECTORIES.iter().chain(SYSTEMD_DIRECTORIES).any(|dir| file.path.starts_with(dir));
        let is_needed =
            is_system && (NEEDED.contains(&name) || RUNTIMES.contains(&name) || name.starts_with("systemd"));
        if everywhere && is_needed {
            return Err(Refusal::NeededProgram { path: file.path.clone() });
        }
        Ok(())
    }

    fn check_address(&self, to: &Destination) -> Result<(), Refusal> {
        let widest = if matches!(to.net, IpNet::V4(_)) { 8 } else { 16 };
        if to.net.prefix_len() < widest {
            return Err(Refusal::TooWide(to.net));
        }
        let overlaps = |net: &IpNet| net.contains(&to.net) || to.net.contains(net);
        let ports_meet = |port: Option<u16>| match port {
            None => true,
            Some(port) => to.ports.is_empty() || to.ports.iter().any(|(low, high)| (*low..=*high).contains(&port)),
        };
        let hit = self.addresses.iter().find(|known| overlaps(&known.net) && ports_meet(known.port));
        hit.map_or(Ok(()), |known| {
            let port = known.port.map_or(String::new(), |port| format!(" port {port}"));
            Err(Refusal::Address { net: to.net, why: format!("{} ({}{port})", known.why, known.net) })
        })
    }

    fn why_protected(&self, process: &Process, config: &Config) -> Option<String> {
        let exe = process.exe.as_ref();
        let name = exe.rsplit('/').next().unwrap_or(exe);
        let in_container = process.workload.starts_with("k8s:") || process.workload.starts_with("container:");
        let system = process.uid == 0 && !in_container && SYSTEM_DIRECTORIES.iter().any(|dir| exe.starts_with(dir));
        if process.pid == 1 {
            return Some("pid 1".to_owned());
        }
        if self.agent_pid != 0 && process.pid == self.agent_pid {
            return Some("the agent".to_owned());
        }
        if name == "sshd" && system && process.ancestors.len() <= 1 {
            return Some("the sshd listener".to_owned());
        }
        if name.starts_with("systemd") && !in_container && SYSTEMD_DIRECTORIES.iter().any(|dir| exe.starts_with(dir)) {
            return Some(name.to_owned());
        }
        if RUNTIMES.contains(&name) && system {
            return Some(format!("container runtime {name}"));
        }
        if config.protected_exes.iter().any(|protected| protected == exe) {
            return Some(format!("{exe}, protected by the configuration"));
        }
        let operator = process.loginuid.filter(|uid| config.operators.contains(uid))?;
        Some(format!("a session of operator {operator}"))
    }
}

fn is_below(path: &str, above: &str) -> bool {
    let (path, above) = (path.trim_matches('/'), above.trim_matches('/'));
    path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Resolvers named in the text of a resolv.conf: port 53 of each stays reachable.
pub fn resolvers(resolv_conf: &str) -> Vec<ProtectedAddress> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().split('%').next()?.parse::<IpAddr>().ok())
        .map(|address| ProtectedAddress { net: IpNet::from(address), port: Some(53), why: "a resolver".to_owned() })
        .collect()
}

/// Default gateways in the text of /proc/net/route.
pub fn gateways(route: &str) -> Vec<ProtectedAddress> {
    route
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (destination, gateway) = (fields.next()?, fields.next()?);
            let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
            // The kernel prints the big-endian address as a host-order number.
            (destination == "00000000").then(|| Ipv4Addr::from(gateway.swap_bytes()))
        })
        .map(|gateway| ProtectedAddress {
            net: IpNet::from(IpAddr::V4(gateway)),
            port: None,
            why: "the default gateway".to_owned(),
        })
        .collect()
}

#[cfg(test)]
#[path = "protect_tests.rs"]
mod tests;
