//! Sockets of multipath TCP on loopback. Go listens so since 1.24, whoever calls.

use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A listener on a port of the kernel's choice. The error is an errno: a kernel may have no such protocol.
pub fn listener() -> Result<TcpListener, i32> {
    let socket = socket()?;
    // SAFETY: a descriptor of our own; one that was not bound gets a port when it listens.
    if unsafe { libc::listen(socket.as_raw_fd(), 16) } < 0 { Err(errno()) } else { Ok(TcpListener::from(socket)) }
}

/// A connection, by MPTCP as far as the other end speaks it.
#[allow(dead_code, reason = "not every test calls")]
pub fn caller(port: u16) -> TcpStream {
    let to = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port);
    let socket = socket().expect("a kernel with MPTCP");
    // SAFETY: a plain structure of numbers; a descriptor of our own and an address of the size that is told.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = to.port().to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        let size = size_of_val(&address) as u32;
        assert_eq!(libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size), 0, "connected: {}", errno());
    }
    TcpStream::from(socket)
}

fn socket() -> Result<OwnedFd, i32> {
    // SAFETY: a new descriptor, which is owned from here on.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        if socket < 0 { Err(errno()) } else { Ok(OwnedFd::from_raw_fd(socket)) }
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}
