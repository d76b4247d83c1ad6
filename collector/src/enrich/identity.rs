//! Workload identity: what a baseline belongs to, as a pure function of the cgroup path and the runtime's state.
//!
//! The order is container → systemd unit → login session → cron → cgroup path. A name that changes at every start (ids,
//! template instances, transient units) is folded, because a baseline that starts anew every time never learns. The table
//! `tests/golden/identity.tsv` is the contract: changing a line there voids the baselines of whoever runs that workload.
//!
//! | form | example |
//! |---|---|
//! | `k8s:namespace/kind/name/container` | `k8s:prod/Deployment/cart/app` |
//! | `container:image/name` | `container:nginx/web` |
//! | `unit:name` | `unit:nginx.service`, `unit:getty@.service` |
//! | `user:name` (a unit or container of a user's own manager) | `user:syncthing.service` |
//! | `login`, `cron`, `kernel`, `host` (no cgroup of its own) | |
//! | `cgroup:/path` | `cgroup:/batch/nightly` |

use super::runtime::ContainerInfo;
use super::unit;

/// Workload of kernel threads.
pub const KERNEL: &str = "kernel";
/// Workload of processes in the root cgroup.
pub const HOST: &str = "host";
/// Workload of a process whose cgroup could not be found out.
pub const UNKNOWN: &str = "unknown";

/// Workload of containers and processes of pods that no runtime knows (yet).
const UNIDENTIFIED_POD: &str = "k8s:unidentified";
/// Longest workload name in bytes; what is longer is cut, so that a hostile cgroup name cannot fill the tables.
const LONGEST: usize = 200;

/// A container that a cgroup path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The runtime as the path spells it: `docker`, `containerd`, `cri-o`, `podman`, `lxc`, `nspawn`, …
    pub runtime: &'static str,
    /// Container id; for lxc and nspawn the name.
    pub id: &'a str,
    /// Below a Kubernetes pod.
    pub in_pod: bool,
    /// Below a service or scope that is not the container's own.
    pub below_unit: bool,
}

/// What [`identify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the workload.
    pub workload: String,
    /// False when the path names a container that no runtime knows yet: asking again later may give another answer.
    pub settled: bool,
}

/// The workload of a process in the cgroup `path`; `container` looks up a container's state by id.
///
/// Whoever owns a cgroup chooses the names below it, so names further out win: of several containers the outermost one that
/// the host's runtimes know, and a service before anything that only looks like a container below it.
pub fn identify(path: &str, mut container: impl FnMut(&str) -> Option<ContainerInfo>) -> Identity {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let candidates = candidates(path);
    if let Some(info) = candidates.iter().find_map(|candidate| container(candidate.id)) {
        // A user may give a container of their own the name of anybody's.
        let prefix = if unit::is_below_user_manager(path) { "user:" } else { "" };
        return Identity { workload: printable(format!("{prefix}{}", info.workload())), settled: true };
    }
    let named = candidates.first().filter(|outermost| !outermost.below_unit).map(without_state);
    let mut outside_units = components(path).take_while(|component| !unit::is_unit(component));
    let in_pod = || outside_units.any(is_pod).then(|| UNIDENTIFIED_POD.to_owned());
    let workload = named.or_else(in_pod).or_else(|| unit::workload(path)).unwrap_or_else(|| plain_cgroup(path));
    let settled = candidates.iter().all(|candidate| matches!(candidate.runtime, "lxc" | "nspawn"));
    Identity { workload: printable(workload), settled }
}

/// The containers that a cgroup path names, outermost first.
pub fn candidates(path: &str) -> Vec<Candidate<'_>> {
    let mut found = Vec::new();
    let (mut in_pod, mut below_unit) = (false, false);
    let mut before = "";
    for (depth, component) in components(path).enumerate() {
        in_pod |= is_pod(component);
        let container = match system_container(component, before, depth) {
            Some(named) if !below_unit => Some(named),
            _ => container_of(component, before, in_pod),
        };
        if let Some((runtime, id)) = container {
            found.push(Candidate { runtime, id, in_pod, below_unit });
        }
        below_unit |= unit::is_unit(component) && container.is_none();
        before = component;
    }
    found
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}

/// `pod<uid>` of the cgroupfs driver, `kubepods-burstable-pod<uid>.slice` of the systemd driver.
fn is_pod(component: &str) -> bool {
    let name = component.split(':').next().unwrap_or(component);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.strip_prefix("kubepods").or_else(|| name.strip_prefix("kubelet-kubepods")) {
        Some(rest) => rest.rsplit_once("-pod").map(|(_, uid)| uid),
        None => name.strip_prefix("pod"),
    };
    uid.is_some_and(|uid| uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(&byte)))
}

/// Runtime and id, if this component of a path (whose parent is `before`) is a container's.
fn container_of<'a>(component: &'a str, before: &str, in_pod: bool) -> Option<(&'static str, &'a str)> {
    // The cgroupfs driver given a path in systemd's spelling makes `slice:prefix:id` one directory.
    if let Some((rest, id)) = component.rsplit_once(':')
        && is_id(id)
    {
        let prefix = rest.rsplit_once(':').map_or(rest, |(_, prefix)| prefix);
        return runtime_of(prefix).map(|runtime| (runtime, id));
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    match name.rsplit_once('-') {
        Some((prefix, id)) if is_id(id) => runtime_of(prefix).map(|runtime| (runtime, id)),
        _ if is_id(name) => Some((runtime_above(before, in_pod), name)),
        _ if before_is_ecs_task(before, name) => Some(("ecs", name)),
        _ => None,
    }
}

/// Container ids are 64 hexadecimal digits in every runtime that Kubernetes can use, and in docker and podman.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn runtime_of(prefix: &str) -> Option<&'static str> {
    match prefix {
        "docker" => Some("docker"),
        "cri-containerd" | "containerd" => Some("containerd"),
        "crio" | "cri-o" => Some("cri-o"),
        "libpod" => Some("podman"),
        "nerdctl" => Some("nerdctl"),
        // conmon watches a container from outside and is part of the runtime.
        "crio-conmon" | "libpod-conmon" => None,
        _ => Some("other"),
    }
}

fn runtime_above(before: &str, in_pod: bool) -> &'static str {
    match before {
        "docker" => "docker",
        "libpod_parent" | "libpod" => "podman",
        _ if in_pod => "containerd",
        _ => "other",
    }
}

/// `<task>/<task>-<number>` of Amazon's container service, where task is 32 hexadecimal digits.
fn before_is_ecs_task(before: &str, name: &str) -> bool {
    before.len() == 32
        && before.bytes().all(|byte| byte.is_ascii_hexdigit())
        && name.strip_prefix(before).and_then(|rest| rest.strip_prefix('-')).is_some_and(unit::is_number)
}

/// A container that runs a whole system and that its manager places near the root of the hierarchy.
fn system_container<'a>(component: &'a str, before: &str, depth: usize) -> Option<(&'static str, &'a str)> {
    if let Some(machine) = component.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service")) {
        return Some(("nspawn", machine));
    }
    match (depth, before) {
        (0, _) => component.strip_prefix("lxc.payload.").map(|name| ("lxc", name)),
        (1, "lxc" | "lxc.payload") => Some(("lxc", component)),
        _ => None,
    }
}

fn without_state(candidate: &Candidate<'_>) -> String {
    match candidate.runtime {
        named @ ("lxc" | "nspawn") => format!("container:{named}/{}", candidate.id),
        _ if candidate.in_pod => UNIDENTIFIED_POD.to_owned(),
        runtime => format!("container:{runtime}/unidentified"),
    }
}

fn plain_cgroup(path: &str) -> String {
    let changes = |component: &str| unit::is_id(component) || (component.len() >= 3 && unit::is_number(component));
    let mut folded = String::new();
    for component in components(path) {
        folded.push('/');
        folded.push_str(if changes(component) { "*" } else { component });
    }
    if folded.is_empty() { HOST.to_owned() } else { format!("cgroup:{folded}") }
}

/// Bounded, and without characters that would act on a terminal.
fn printable(name: String) -> String {
    let mut name = name.replace(|letter: char| letter.is_control(), "\u{fffd}");
    name.truncate(name.floor_char_boundary(LONGEST));
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cgroup_cannot_write_to_a_terminal() {
        assert_eq!(identify("/batch/a\x1b[2Jb", |_| None).workload, "cgroup:/batch/a\u{fffd}[2Jb");
    }

    #[test]
    fn a_container_that_nobody_knows_may_become_known() {
        let path = format!("/docker/{}", "0a".repeat(32));
        assert!(!identify(&path, |_| None).settled);
        assert!(identify(&path, |_| Some(ContainerInfo::default())).settled);
        assert!(identify("/system.slice/nginx.service", |_| None).settled);
        assert!(identify("/lxc/web", |_| None).settled);
    }

    #[test]
    fn a_users_own_container_is_named_apart() {
        let of = |path: &str| identify(&format!("{path}/libpod-{}.scope", "0a".repeat(32)), |_| Some(info())).workload;
        fn info() -> ContainerInfo {
            ContainerInfo { name: Some("web".into()), image: Some("nginx".into()), ..ContainerInfo::default() }
        }
        assert_eq!(of("/machine.slice"), "container:nginx/web");
        assert_eq!(of("/user.slice/user-1000.slice/user@1000.service/user.slice"), "user:container:nginx/web");
    }

    proptest! {
        #[test]
        fn any_path_has_a_short_name(parts in proptest::collection::vec("(pod|docker-|lxc|user@|run-r|session-)?[a-f0-9.:@\\\\x-]{0,70}(\\.scope|\\.service|\\.slice)?", 0..8)) {
            let identity = identify(&format!("/{}", parts.join("/")), |_| None);
            prop_assert!(!identity.workload.is_empty());
            prop_assert!(identity.workload.len() <= LONGEST);
        }
    }
}
