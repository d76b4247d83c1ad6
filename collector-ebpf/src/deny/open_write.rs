//! Changing files by their paths: opened for writing, created, renamed, unlinked, truncated.
//!
//! Descriptors that were open before, and memory mapped from them, can still be written: that is why the action is called
//! `deny-open-write`. Regular files only, so that terminals, pipes and /dev/null stay usable.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use collector_common::deny::{Action, Hook};

use super::lsm::{Subject, answer};
use crate::offsets::{OFF_FILE_DENTRY, OFF_FILE_INODE, OFF_FILE_MODE, OFF_INODE_MODE, OFF_PATH_DENTRY, field};

/// `FMODE_WRITE`.
const FMODE_WRITE: u32 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;

#[lsm(hook = "file_open")]
pub fn deny_open(ctx: LsmContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    // SAFETY: the hook's file; it has an inode and a dentry.
    unsafe {
        if field::<u32>(file, &OFF_FILE_MODE) & FMODE_WRITE == 0 || !is_regular(file) {
            return 0;
        }
        answer(Hook::Open, Action::OpenWrite, &Subject::in_directory(field(file, &OFF_FILE_DENTRY)))
    }
}

/// # Safety
///
/// `file` is a file that the verifier knows to be one.
#[inline(always)]
unsafe fn is_regular(file: *const u8) -> bool {
    // SAFETY: by the contract.
    unsafe {
        let inode: *const u8 = field(file, &OFF_FILE_INODE);
        field::<u16>(inode, &OFF_INODE_MODE) & S_IFMT == S_IFREG
    }
}

#[lsm(hook = "inode_create")]
pub fn deny_create(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's dentry.
    answer(Hook::Create, Action::OpenWrite, &unsafe { Subject::in_directory(ctx.arg(1)) })
}

#[lsm(hook = "inode_rename")]
pub fn deny_rename(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's old dentry.
    answer(Hook::Rename, Action::OpenWrite, &unsafe { Subject::in_directory(ctx.arg(1)) })
}

#[lsm(hook = "inode_unlink")]
pub fn deny_unlink(ctx: LsmContext) -> i32 {
    // SAFETY: the hook's dentry.
    answer(Hook::Unlink, Action::OpenWrite, &unsafe { Subject::in_directory(ctx.arg(1)) })
}

#[lsm(hook = "path_truncate")]
pub fn deny_truncate(ctx: LsmContext) -> i32 {
    let path: *const u8 = ctx.arg(0);
    // SAFETY: the hook's path.
    answer(Hook::Truncate, Action::OpenWrite, &unsafe { Subject::in_directory(field(path, &OFF_PATH_DENTRY)) })
}

#[lsm(hook = "file_truncate")]
pub fn deny_ftruncate(ctx: LsmContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    // SAFETY: the hook's file.
    answer(Hook::Truncate, Action::OpenWrite, &unsafe { Subject::in_directory(field(file, &OFF_FILE_DENTRY)) })
}
