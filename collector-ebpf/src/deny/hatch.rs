//! Unix sockets through which others act on one's behalf: container runtimes, the system bus, the service manager.
//!
//! A fenced process that may ask them to start something for it is not fenced. Which sockets these are stands in `hatches`,
//! by the inode that their path is bound to.

use aya_ebpf::macros::{lsm, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::LsmContext;
use collector_common::ExeId;
use collector_common::deny::{Action, Hook};
use collector_common::map::MAX_HATCHES;

use super::lsm::{Subject, answer};
use crate::file_id;
use crate::offsets::{OFF_DENTRY_INODE, OFF_SOCKET_SK, OFF_UNIX_DENTRY, field};

const NO_PREALLOC: u32 = 1;

/// Inodes of the sockets. Written by user space, which looks again when a service made its socket anew.
#[map(name = "hatches")]
static HATCHES: HashMap<ExeId, u32> = HashMap::with_max_entries(MAX_HATCHES, NO_PREALLOC);

#[lsm(hook = "unix_stream_connect")]
pub fn deny_hatch(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's other end, a sock.
    unsafe { connecting(ctx.arg(1)) }
}

#[lsm(hook = "unix_may_send")]
pub fn deny_hatch_datagram(ctx: LsmContext) -> i32 {
    let other: *const u8 = ctx.arg(1);
    // SAFETY: the hook's other end, a socket; its sock is tested.
    unsafe {
        let sk: *const u8 = field(other, &OFF_SOCKET_SK);
        if sk.is_null() { 0 } else { connecting(sk) }
    }
}

/// # Safety
///
/// `other` is the sock of an AF_UNIX socket that the verifier knows to be a sock.
#[inline(always)]
unsafe fn connecting(other: *const u8) -> i32 {
    // A unix_sock begins with its sock, but the verifier knows only the sock: the rest is read by copies.
    let Some(dentry) = crate::task::copy_field::<*const u8>(other, &OFF_UNIX_DENTRY).filter(|dentry| !dentry.is_null())
    else {
        return 0;
    };
    let Some(inode) = crate::task::copy_field::<*const u8>(dentry, &OFF_DENTRY_INODE) else { return 0 };
    let mut file = file_id::copied(inode);
    file.generation = 0;
    // SAFETY: only its presence is asked for.
    if unsafe { HATCHES.get(&file) }.is_none() {
        return 0;
    }
    answer(Hook::Hatch, Action::Hatch, &Subject { file, ..Subject::NONE })
}
