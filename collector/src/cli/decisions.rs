//! `stockade decisions`

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::findings::name;
use super::{Common, Exit, table};
use crate::api::protocol::{NewDecision, Request};
use crate::decision::{Author, Decision, DecisionAction, Destination, Target};
use crate::enrich::clock::boot_now;

/// What is denied.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decisions in force.
    List {
        /// Those that ended too.
        #[arg(long)]
        all: bool,
    },
    /// Deny something, with a deadline.
    Add(Add),
    /// Undo a decision.
    Release {
        /// `D-…`.
        name: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
}

/// A new decision.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true).args(["tree", "cgroup", "to", "exe"]))]
#[command(group = clap::ArgGroup::new("what").args(["connect_only", "exec", "open_write", "tamper", "freeze", "kill", "cut"]))]
pub struct Add {
    /// A process and all its descendants, by pid.
    #[arg(long, value_name = "PID")]
    tree: Option<u32>,
    /// A cgroup and its descendants, by its directory.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tree", "to"])]
    cgroup: Option<std::path::PathBuf>,
    /// An address or prefix; with --tree only for that tree.
    #[arg(long, value_name = "NET", value_parser = net)]
    to: Option<IpNet>,
    /// Ports of --to: `443` or `8000-8080`; may be given up to four times.
    #[arg(long = "port", value_name = "PORTS", requires = "to", value_parser = ports)]
    ports: Vec<(u16, u16)>,
    /// An executable, by its path: nobody starts it; with --cgroup nobody there.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["tree", "to"])]
    exe: Option<std::path::PathBuf>,
    /// New connections only; sockets that are already open go on.
    #[arg(long)]
    connect_only: bool,
    /// Starting programs, instead of the network. Needs LSM.
    #[arg(long)]
    exec: bool,
    /// Opening files for writing, creating, renaming, unlinking, truncating. Needs LSM; what is open stays writable.
    #[arg(long)]
    open_write: bool,
    /// Attaching to other processes, kernel modules, bpf(2). Needs LSM.
    #[arg(long)]
    tamper: bool,
    /// Contain: freeze every process of --cgroup until the decision ends.
    #[arg(long)]
    freeze: bool,
    /// Contain: kill every process of the tree or cgroup. Cannot be undone.
    #[arg(long)]
    kill: bool,
    /// Contain: end open TCP connections now; new ones are not denied.
    #[arg(long)]
    cut: bool,
    /// Only count what would be denied; say what containment would hit.
    #[arg(long)]
    dry_run: bool,
    /// For how long: `90s`, `10m`, `4h`, `2d`.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    ttl: u64,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
}

pub fn run(common: &Common, command: Command) -> anyhow::Result<Exit> {
    let mut client = common.client()?;
    match command {
        Command::List { all } => {
            let decisions: Vec<Decision> = client.ask(Request::Decisions { all })?;
            list(common, &decisions)?;
        }
        Command::Add(add) => {
            let new = NewDecision {
                target: target(&add)?,
                action: action(&add),
                shadow: add.dry_run,
                ttl_seconds: add.ttl,
                reason: add.reason,
            };
            let decision: Decision = client.ask(Request::AddDecision(Box::new(new)))?;
            list(common, &[decision])?;
        }
        Command::Release { name, reason } => {
            client.ask::<serde_json::Value>(Request::Release { name, reason })?;
        }
    }
    Ok(Exit::Fine)
}

fn list(common: &Common, decisions: &[Decision]) -> anyhow::Result<()> {
    let now = boot_now();
    let header = ["DECISION", "STATE", "ACTION", "TARGET", "LEFT", "HITS", "BY", "REASON"];
    table::list(common.output, decisions, header, |decision| {
        let left = decision.until.boot_ns.saturating_sub(now) / 1_000_000_000;
        [
            decision.short(),
            name(&decision.state),
            format!("{}{}", name(&decision.action), if decision.shadow { " (shadow)" } else { "" }),
            described(&decision.target),
            if decision.is_live(now) { table::span(left) } else { "-".to_owned() },
            decision.hits.to_string(),
            match &decision.author {
                Author::Automatic => "automatic".to_owned(),
                Author::Operator(name) => name.clone(),
            },
            match &decision.contained {
                Some(contained) => format!("{} ({contained})", decision.reason),
                None => decision.reason.clone(),
            },
        ]
    })
}

/// Whom a decision is about, in words.
pub fn described(target: &Target) -> String {
    let place = |to: &Destination| {
        let ports: Vec<_> = to
            .ports
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        if ports.is_empty() { to.net.to_string() } else { format!("{} port {}", to.net, ports.join(",")) }
    };
    let pid = |cookie: &u64| collector_common::header::tgid_of(*cookie);
    match target {
        Target::Tree { cookie } => format!("tree of {}", pid(cookie)),
        Target::Cgroup { path, .. } => format!("cgroup {path}"),
        Target::Address { to } => place(to),
        Target::TreeAddress { cookie, to } => format!("tree of {} to {}", pid(cookie), place(to)),
        Target::Executable { file } => file.path.to_string(),
        Target::CgroupExecutable { path, file, .. } => format!("{} in cgroup {path}", file.path),
    }
}

fn action(add: &Add) -> DecisionAction {
    match add {
        Add { connect_only: true, .. } => DecisionAction::DenyConnect,
        Add { exec: true, .. } | Add { exe: Some(_), .. } => DecisionAction::DenyExec,
        Add { open_write: true, .. } => DecisionAction::DenyOpenWrite,
        Add { tamper: true, .. } => DecisionAction::DenyTamper,
        Add { freeze: true, .. } => DecisionAction::Freeze,
        Add { kill: true, .. } => DecisionAction::Kill,
        Add { cut: true, .. } => DecisionAction::Cut,
        _ => DecisionAction::Isolate,
    }
}

fn target(add: &Add) -> anyhow::Result<Target> {
    let identify = |path: &std::path::Path| {
        crate::loader::identify(path).with_context(|| format!("cannot read {} to identify it", path.display()))
    };
    let file = add.exe.as_deref().map(identify).transpose()?;
    let to = add.to.map(|net| Destination { net: net.trunc(), ports: add.ports.clone() });
    Ok(match (add.tree, &add.cgroup, to) {
        (Some(pid), _, None) => Target::Tree { cookie: pid.into() },
        (Some(pid), _, Some(to)) => Target::TreeAddress { cookie: pid.into(), to },
        (None, None, Some(to)) => Target::Address { to },
        (None, Some(directory), _) => {
            let mount = crate::loader::mount_of_cgroup2().unwrap_or_default();
            let directory = std::fs::canonicalize(directory)?;
            let below = directory.strip_prefix(&mount)?;
            let id = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&directory)?);
            let level = below.components().count() as u32;
            let path = format!("/{}", below.display()).into();
            match file {
                Some(file) => Target::CgroupExecutable { id, level, path, file },
                None => Target::Cgroup { id, level, path },
            }
        }
        (None, None, None) => match file {
            Some(file) => Target::Executable { file },
            None => anyhow::bail!("whom? give --tree, --cgroup, --to or --exe"),
        },
    })
}

/// `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/32`.
fn net(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "an address or prefix looks like 203.0.113.7 or 10.0.0.0/8".to_owned())
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err("ports look like 443 or 8000-8080".to_owned()),
    }
}

/// `90s`, `10m`, `4h`, `2d`.
pub fn seconds(text: &str) -> Result<u64, String> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err("a time looks like 90s, 10m, 4h or 2d".to_owned()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| "a time looks like 90s, 10m, 4h or 2d".to_owned())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(|| "this is no time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        assert_eq!(net("203.0.113.7").map(|net| net.to_string()), Ok("203.0.113.7/32".to_owned()));
        assert_eq!(net("2001:db8::/32").map(|net| net.prefix_len()), Ok(32));
        assert!(net("example.org").is_err());
        assert_eq!(ports("443"), Ok((443, 443)));
        assert_eq!(ports("8000-8080"), Ok((8000, 8080)));
        assert!(ports("8080-8000").is_err() && ports("70000").is_err());
        assert_eq!((seconds("90s"), seconds("2d")), (Ok(90), Ok(172_800)));
        assert!(seconds("0s").is_err() && seconds("10").is_err() && seconds("").is_err() && seconds("5€").is_err());
    }
}
