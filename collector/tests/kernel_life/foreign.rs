//! Somebody else's BPF programs on the hooks that Stockade uses: a proxy that sends connections elsewhere, a packet filter as
//! systemd's `IPAddressDeny=` attaches one. A few instructions each, loaded by bpf(2) as any other owner would.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
/// Beside the programs of others.
const ALLOW_MULTI: u32 = 2;

/// What somebody attaches.
#[derive(Clone, Copy)]
pub enum Foreign {
    /// Whoever calls the first port reaches the second.
    Proxy(u16, u16),
    /// No segment to this port leaves.
    Filter(u16),
}

impl Foreign {
    /// `BPF_PROG_TYPE_*`, `BPF_CGROUP_*` of include/uapi/linux/bpf.h.
    fn kind(self) -> (u32, u32) {
        match self {
            Self::Proxy(..) => (18, 10),
            Self::Filter(_) => (8, 1),
        }
    }

    fn code(self) -> Vec<u64> {
        match self {
            Self::Proxy(from, to) => vec![
                ins(0x61, 2, 1, 24, 0),                      // r2 = ctx->user_port
                ins(0x55, 2, 0, 2, i32::from(from.to_be())), // if r2 != from: two further
                ins(0xb7, 3, 0, 0, i32::from(to.to_be())),   // r3 = to
                ins(0x63, 1, 3, 24, 0),                      // ctx->user_port = r3
                ins(0xb7, 0, 0, 0, 1),
                ins(0x95, 0, 0, 0, 0),
            ],
            Self::Filter(port) => vec![
                ins(0xb7, 2, 0, 0, 22), // the destination port of TCP over IPv4
                ins(0xbf, 3, 10, 0, 0),
                ins(0x07, 3, 0, 0, -8),
                ins(0xb7, 4, 0, 0, 2),
                ins(0x85, 0, 0, 0, 26), // bpf_skb_load_bytes
                ins(0x55, 0, 0, 4, 0),
                ins(0x69, 1, 10, -8, 0),
                ins(0x55, 1, 0, 2, i32::from(port.to_be())),
                ins(0xb7, 0, 0, 0, 0),
                ins(0x95, 0, 0, 0, 0),
                ins(0xb7, 0, 0, 0, 1),
                ins(0x95, 0, 0, 0, 0),
            ],
        }
    }

    /// Attaches it to a cgroup until it is dropped.
    pub fn attach(self, cgroup: &Path) -> Attached {
        let (program_type, attach_type) = self.kind();
        let code = self.code();
        let licence = c"GPL";
        let mut load = [0u32; 32];
        load[0] = program_type;
        load[1] = code.len() as u32;
        put(&mut load, 2, code.as_ptr() as u64);
        put(&mut load, 4, licence.as_ptr() as u64);
        load[17] = attach_type;
        let program = bpf(PROG_LOAD, &mut load).expect("a program of two instructions loads");
        // SAFETY: a descriptor that the kernel has just given us.
        let program = unsafe { OwnedFd::from_raw_fd(program) };
        let cgroup = File::open(cgroup).expect("the cgroup");
        let attached = Attached { program, cgroup, attach_type };
        attached.change(PROG_ATTACH).expect("attached beside others");
        attached
    }
}

/// A program of somebody else's.
pub struct Attached {
    program: OwnedFd,
    cgroup: File,
    attach_type: u32,
}

impl Attached {
    fn change(&self, command: libc::c_long) -> io::Result<i32> {
        let mut words = [0u32; 32];
        words[0] = self.cgroup.as_raw_fd() as u32;
        words[1] = self.program.as_raw_fd() as u32;
        words[2] = self.attach_type;
        words[3] = if command == PROG_ATTACH { ALLOW_MULTI } else { 0 };
        bpf(command, &mut words)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.change(PROG_DETACH);
    }
}

/// One instruction: opcode, destination, source, offset, immediate.
fn ins(code: u64, to: u64, from: u64, offset: i16, immediate: i32) -> u64 {
    code | to << 8 | from << 12 | u64::from(offset as u16) << 16 | u64::from(immediate as u32) << 32
}

fn put(words: &mut [u32], at: usize, value: u64) {
    (words[at], words[at + 1]) = (value as u32, (value >> 32) as u32);
}

fn bpf(command: libc::c_long, attributes: &mut [u32; 32]) -> io::Result<i32> {
    // SAFETY: attributes of the size that is told; what they point to lives until the call is over.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}
