//! Names that mean the same in every directory, and sockets through which others act on one's behalf.

use collector_common::file::{NAME, Sensitive};

/// File names and what they are for. The kernel compares the last component only, so a container's files count too.
const NAMES: &[(&str, Sensitive)] = &[
    ("shadow", Sensitive::Credentials),
    ("gshadow", Sensitive::Credentials),
    ("sudoers", Sensitive::Credentials),
    (".git-credentials", Sensitive::Credentials),
    (".netrc", Sensitive::Credentials),
    (".pgpass", Sensitive::Credentials),
    (".my.cnf", Sensitive::Credentials),
    ("credentials", Sensitive::Credentials),
    ("kubeconfig", Sensitive::Credentials),
    ("admin.conf", Sensitive::Credentials),
    ("krb5.keytab", Sensitive::Credentials),
    ("id_rsa", Sensitive::Keys),
    ("id_ecdsa", Sensitive::Keys),
    ("id_ed25519", Sensitive::Keys),
    ("authorized_keys", Sensitive::Keys),
    ("ssh_host_rsa_key", Sensitive::Keys),
    ("ssh_host_ecdsa_key", Sensitive::Keys),
    ("ssh_host_ed25519_key", Sensitive::Keys),
    ("crontab", Sensitive::Schedule),
    ("anacrontab", Sensitive::Schedule),
    ("rc.local", Sensitive::Schedule),
    ("ld.so.preload", Sensitive::Preload),
    ("docker.sock", Sensitive::Runtime),
    ("containerd.sock", Sensitive::Runtime),
    ("crio.sock", Sensitive::Runtime),
    ("mem", Sensitive::Memory),
    ("kcore", Sensitive::Memory),
];

/// Sockets of container runtimes, the system bus and the service manager.
pub const HATCHES: &[&str] = &[
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/snapd.socket",
    "/run/libvirt/libvirt-sock",
];

/// The names as the kernel compares them: padded with zeros.
pub(super) fn names() -> impl Iterator<Item = ([u8; NAME], u8)> {
    NAMES.iter().map(|(name, class)| {
        let mut key = [0; NAME];
        key[..name.len()].copy_from_slice(name.as_bytes());
        (key, *class as u8)
    })
}
