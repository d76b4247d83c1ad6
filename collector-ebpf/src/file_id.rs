//! The identity of a file from its inode.

use collector_common::ExeId;

use crate::offsets::{OFF_INODE_GENERATION, OFF_INODE_INO, OFF_INODE_SB, OFF_SB_DEV, field};
use crate::task::copy_field;

const NONE: ExeId = ExeId { ino: 0, dev: 0, generation: 0 };

/// Of an inode that the verifier knows to be one; all zero for a null pointer.
///
/// # Safety
///
/// `inode` is null or an inode by a typed load.
#[inline(always)]
pub unsafe fn of(inode: *const u8) -> ExeId {
    if inode.is_null() {
        return NONE;
    }
    // SAFETY: by the contract; the super block is tested.
    unsafe {
        let sb: *const u8 = field(inode, &OFF_INODE_SB);
        let dev = if sb.is_null() { 0 } else { field(sb, &OFF_SB_DEV) };
        ExeId { ino: field(inode, &OFF_INODE_INO), dev, generation: field(inode, &OFF_INODE_GENERATION) }
    }
}

/// Of an inode at an address that the verifier knows nothing about; all zero when it cannot be read.
#[inline(always)]
pub fn copied(inode: *const u8) -> ExeId {
    let Some(ino) = copy_field(inode, &OFF_INODE_INO) else { return NONE };
    let generation = copy_field(inode, &OFF_INODE_GENERATION).unwrap_or(0);
    let sb: *const u8 = copy_field(inode, &OFF_INODE_SB).unwrap_or(core::ptr::null());
    ExeId { ino, dev: copy_field(sb, &OFF_SB_DEV).unwrap_or(0), generation }
}
