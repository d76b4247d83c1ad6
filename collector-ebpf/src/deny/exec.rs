//! Starting a program. Asked for the script and again for its interpreter.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use collector_common::deny::{Action, Hook};

use super::lsm::{Subject, answer};
use crate::file_id;
use crate::offsets::{OFF_BPRM_FILE, OFF_FILE_DENTRY, OFF_FILE_INODE, field};

#[lsm(hook = "bprm_check_security")]
pub fn deny_exec(ctx: LsmContext) -> i32 {
    let bprm: *const u8 = ctx.arg(0);
    // SAFETY: the hook's linux_binprm; it always has a file here.
    let subject = unsafe {
        let file: *const u8 = field(bprm, &OFF_BPRM_FILE);
        Subject { file: file_id::of(field(file, &OFF_FILE_INODE)), dentry: field(file, &OFF_FILE_DENTRY) }
    };
    answer(Hook::Exec, Action::Exec, &subject)
}
