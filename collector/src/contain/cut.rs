//! Ending open TCP connections of processes: both ends learn of it at once, where dropped packets only keep them waiting.
//!
//! Sockets are destroyed through sock_diag in the network namespace that they live in (`SOCK_DESTROY`, needs
//! `CONFIG_INET_DIAG_DESTROY`). A socket that several processes hold is ended for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What a cut came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Connections that ended.
    pub ended: usize,
    /// Why others did not; empty when all ended.
    pub failed: BTreeSet<String>,
}

/// Ends the open TCP connections of processes, in whatever network namespace they are. With `dry` nothing is ended, only
/// counted.
pub fn connections_of(pids: impl IntoIterator<Item = u32>, dry: bool) -> Cut {
    let mut inodes: BTreeMap<u64, (u32, BTreeSet<u32>)> = BTreeMap::new();
    for pid in pids {
        let Some(namespace) = namespace_of(pid) else { continue };
        inodes.entry(namespace).or_insert_with(|| (pid, BTreeSet::new())).1.extend(sockets_of(pid));
    }
    let mut cut = Cut::default();
    for (pid, sockets) in inodes.into_values().filter(|(_, sockets)| !sockets.is_empty()) {
        match in_namespace_of(pid, move || end(&sockets, dry)) {
            Ok(done) => {
                cut.ended += done.ended;
                cut.failed.extend(done.failed);
            }
            Err(error) => {
                cut.failed.insert(format!("the network namespace of pid {pid}: {error}"));
            }
        }
    }
    cut
}

fn namespace_of(pid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    inode_in(&link.to_string_lossy(), "net:[")
}

/// Inodes of the sockets that a process holds.
fn sockets_of(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| inode_in(&link.to_string_lossy(), "socket:[")).map(|inode| inode as u32).collect()
}

fn inode_in(text: &str, prefix: &str) -> Option<u64> {
    text.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// Runs something on a thread that is in a process's network namespace; the thread ends with it.
fn in_namespace_of<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let thread = std::thread::Builder::new().name("cut".to_owned()).spawn(move || {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?;
        work()
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

fn end(inodes: &BTreeSet<u32>, dry: bool) -> io::Result<Cut> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    let mut found: Vec<InetResponse> = Vec::new();
    for family in [AF_INET, AF_INET6] {
        found.extend(connections(&socket, family)?.into_iter().filter(|open| inodes.contains(&open.header.inode)));
    }
    let mut cut = Cut::default();
    for open in found {
        match if dry { Ok(()) } else { destroy(&socket, &open) } {
            Ok(()) => cut.ended += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => {
                let to = open.header.socket_id.destination_address;
                cut.failed.insert(format!("the connection to {to}: {error}"));
            }
        }
    }
    Ok(cut)
}

fn connections(socket: &Socket, family: u8) -> io::Result<Vec<InetResponse>> {
    let any = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    // What has ended already or only listens has nothing to lose.
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT - StateFlags::CLOSE;
    let request = request(family, states, any);
    send(socket, NLM_F_REQUEST | NLM_F_DUMP, NetlinkPayload::from(SockDiagMessage::InetRequest(request)))?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut at = 0;
        while at < bytes.len() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes[at..]).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(open)) => found.push(*open),
                _ => (),
            }
            at += (message.header.length as usize).next_multiple_of(4).max(16);
        }
    }
}

fn destroy(socket: &Socket, open: &InetResponse) -> io::Result<()> {
    let request = request(open.header.family, StateFlags::all(), open.header.socket_id.clone());
    let payload = NetlinkPayload::from(SockDiagDestroy::new(SockDiagMessage::InetRequest(request)));
    send(socket, NLM_F_REQUEST | NLM_F_ACK, payload)?;
    let (bytes, _) = socket.recv_from_full()?;
    match NetlinkMessage::<SockDiagDestroy>::deserialize(&bytes).map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

fn request(family: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id }
}

fn send<T>(socket: &Socket, flags: u16, payload: NetlinkPayload<T>) -> io::Result<()>
where
    T: netlink_packet_core::NetlinkSerializable + std::fmt::Debug,
{
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map(|_| ())
}
