//! What the LSM hooks have in common: who asks, about which file.
//!
//! The hooks do not look at what an earlier program answered: a refusal ends the chain before the next program is asked
//! (kernel/bpf/trampoline.c, `BPF_TRAMP_MODIFY_RETURN`).

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use collector_common::ExeId;
use collector_common::deny::{Action, Hook, Match, NAME};
use collector_common::map::Control;
use collector_common::stats::Program;

use super::{Wish, begin, hit, identify, judge};
use crate::control::control;
use crate::offsets::{OFF_DENTRY_INODE, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, field};
use crate::{file_id, scope, stats};

/// What a hook returns to refuse.
const EPERM: i32 = 1;

/// A file that somebody wants to do something with.
pub struct Subject {
    pub file: ExeId,
    /// Its dentry, or null: for the name in the report.
    pub dentry: *const u8,
}

impl Subject {
    pub const NONE: Self = Self { file: ExeId { ino: 0, dev: 0, generation: 0 }, dentry: core::ptr::null() };

    /// A file by the directory that holds it.
    ///
    /// # Safety
    ///
    /// `dentry` is a dentry that the verifier knows to be one.
    #[inline(always)]
    pub unsafe fn in_directory(dentry: *const u8) -> Self {
        // SAFETY: by the contract; a dentry always has a parent.
        let file = unsafe {
            let parent: *const u8 = field(dentry, &OFF_DENTRY_PARENT);
            file_id::of(field(parent, &OFF_DENTRY_INODE))
        };
        Self { file, dentry }
    }
}

/// Asks whether the current process may; the value that the hook returns.
#[inline(always)]
pub fn answer(hook: Hook, action: Action, subject: &Subject) -> i32 {
    let (Some(control), Some(stats)) = (control(), stats::of(Program::DenyLsm)) else { return 0 };
    stats.seen += 1;
    if control.disarmed != 0 {
        return 0;
    }
    let hardened = is_hardened(control, hook);
    if super::is_idle(control) && !hardened {
        return 0;
    }
    let wish = Wish { hook, action, address: [0; 16], port: 0, protocol: 0, file: subject.file };
    let mut search = begin(control, &wish, core::ptr::null_mut());
    if !identify(&mut search, stats) {
        return 0;
    }
    if !subject.dentry.is_null() {
        // SAFETY: a dentry; the helper checks the address and writes at most the buffer.
        unsafe {
            let name: *const c_void = field(subject.dentry, &OFF_DENTRY_NAME);
            bpf_probe_read_kernel_str(search.name.as_mut_ptr().cast(), NAME as u32, name);
        }
    }
    if judge(control, stats, &mut search) == 0 {
        return -EPERM;
    }
    if hardened && is_in_scope() {
        search.matched = Match::Harden as u8;
        search.flags = 0;
        search.slot = 0;
        search.breaker = 0;
        search.decision = 0;
        search.until = u64::MAX;
        if hit(stats, &search) {
            return -EPERM;
        }
    }
    0
}

#[inline(always)]
fn is_hardened(control: &Control, hook: Hook) -> bool {
    use collector_common::deny::{HARDEN_BPF, HARDEN_MODULE, HARDEN_PTRACE};
    let switch = match hook {
        Hook::Ptrace => HARDEN_PTRACE,
        Hook::Module => HARDEN_MODULE,
        Hook::Bpf => HARDEN_BPF,
        _ => 0,
    };
    control.harden & switch != 0
}

#[inline(always)]
fn is_in_scope() -> bool {
    scope::includes((aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32)
}
