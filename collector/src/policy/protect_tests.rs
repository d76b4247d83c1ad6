//! Must not happen: each of these would cut a host or its people off.

use super::*;

fn process(pid: u32, exe: &str) -> Process {
    Process {
        cookie: u64::from(pid) << 32 | 7,
        pid,
        workload: "unit:x.service".into(),
        exe: exe.into(),
        script: None,
        cmdline: exe.into(),
        uid: 0,
        loginuid: None,
        cgroup: 100 + u64::from(pid),
        ancestors: vec![],
        pre_existing: true,
    }
}

fn set_of(processes: &[Process]) -> Protected {
    let mut protected = Protected::new(4242);
    for process in processes {
        protected.consider(process, &Config { operators: vec![1000], ..Config::default() });
    }
    protected
}

fn tree(process: &Process) -> Target {
    Target::Tree { cookie: process.cookie }
}

fn address(net: &str, ports: Vec<(u16, u16)>) -> Target {
    Target::Address { to: Destination { net: net.parse().unwrap(), ports } }
}

#[test]
fn no_tree_of_the_hosts_own_machinery() {
    for (pid, exe) in [
        (1, "/sbin/init"),
        (4242, "/usr/bin/stockade"),
        (700, "/usr/sbin/sshd"),
        (300, "/usr/lib/systemd/systemd-journald"),
        (301, "/lib/systemd/systemd-resolved"),
        (800, "/usr/bin/containerd"),
        (801, "/usr/bin/kubelet"),
    ] {
        let process = process(pid, exe);
        let refused = set_of(std::slice::from_ref(&process)).check(&tree(&process)).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {pid}")), "{exe}: {refused}");
    }
}

#[test]
fn no_tree_above_a_protected_process() {
    let shim = Process { ancestors: vec![55, 44], ..process(900, "/usr/bin/containerd-shim-runc-v2") };
    let protected = set_of(&[shim]);
    assert!(protected.check(&Target::Tree { cookie: 44 }).is_err());
    assert!(protected.check(&Target::Tree { cookie: 45 }).is_ok());
}

#[test]
fn an_operators_session_is_named() {
    let shell = Process { uid: 1000, loginuid: Some(1000), ..process(950, "/bin/bash") };
    let refused = set_of(std::slice::from_ref(&shell)).check(&tree(&shell)).unwrap_err().to_string();
    assert!(refused.contains("operator 1000"), "{refused}");
}

#[test]
fn a_name_alone_protects_nobody() {
    let fake = Process { uid: 33, ..process(960, "/tmp/systemd-journald") };
    let runc = Process { uid: 33, ..process(961, "/usr/bin/runc") };
    let inside = Process { workload: "k8s:prod/deployment/web/app".into(), ..process(962, "/usr/bin/runc") };
    let session = Process { ancestors: vec![1, 2, 3], ..process(963, "/usr/sbin/sshd") };
    for process in [fake, runc, inside, session] {
        assert!(set_of(std::slice::from_ref(&process)).check(&tree(&process)).is_ok(), "{}", process.exe);
    }
}

#[test]
fn protection_ends_with_the_program_that_earned_it() {
    let listener = process(700, "/usr/sbin/sshd");
    let mut protected = set_of(std::slice::from_ref(&listener));
    assert_eq!(protected.protected_cookies(), [listener.cookie]);
    protected.consider(&Process { exe: "/bin/sh".into(), ..listener.clone() }, &Config::default());
    assert!(protected.check(&tree(&listener)).is_ok());
}

#[test]
fn no_cgroup_that_is_the_root_or_holds_a_protected_process() {
    let sshd = process(700, "/usr/sbin/sshd");
    let mut protected = set_of(std::slice::from_ref(&sshd));
    let cgroup = |id, level, path: &str| Target::Cgroup { id, level, path: path.into() };
    assert_eq!(protected.check(&cgroup(1, 0, "/")), Err(Refusal::RootCgroup));
    assert!(protected.check(&cgroup(5, 1, "/web.slice")).is_err(), "its place is unknown: refuse");
    protected.note_cgroup(sshd.cgroup, "/system.slice/ssh.service");
    assert!(protected.check(&cgroup(2, 1, "/system.slice")).is_err());
    assert!(protected.check(&cgroup(sshd.cgroup, 2, "/system.slice/ssh.service")).is_err());
    assert!(protected.check(&cgroup(3, 1, "/system")).is_ok(), "a prefix of the name is not a parent");
    assert!(protected.check(&cgroup(5, 1, "/web.slice")).is_ok());
}

#[test]
fn no_address_that_everybody_needs() {
    let mut protected = Protected::new(1);
    protected.add_addresses(resolvers("# x\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\noptions edns0\n"));
    protected.add_addresses(gateways(
        "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t0100000A\t0003\neth0\t0000000A\t00000000\t0001\n",
    ));
    let broker =
        ProtectedAddress { net: "10.0.9.9/32".parse().unwrap(), port: Some(9092), why: "a Kafka broker".to_owned() };
    protected.add_addresses([broker]);
    for (net, ports) in [
        ("10.0.0.53/32", vec![]),
        ("10.0.0.0/24", vec![(1, 100)]),
        ("10.0.0.1/32", vec![(443, 443)]),
        ("fe80::1/128", vec![(53, 53)]),
        ("10.0.9.0/24", vec![(9000, 9100)]),
        ("127.0.0.1/32", vec![(80, 80)]),
        ("0.0.0.0/0", vec![(4444, 4444)]),
        ("::/0", vec![]),
    ] {
        assert!(protected.check(&address(net, ports.clone())).is_err(), "{net} {ports:?}");
    }
    for (net, ports) in [("10.0.0.53/32", vec![(80, 443)]), ("203.0.113.7/32", vec![]), ("10.0.9.9/32", vec![(22, 22)])]
    {
        assert!(protected.check(&address(net, ports.clone())).is_ok(), "{net} {ports:?}");
    }
}
