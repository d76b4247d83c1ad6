//! Whom the programs look at: everybody, or one cgroup and its descendants; never the agent itself.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;

use crate::offsets::{SCOPE_CGROUP, SCOPE_LEVEL, SELF_TGID, value};

/// Whether the current task is in scope.
#[inline(always)]
pub fn includes(tgid: u32) -> bool {
    if tgid as u64 == value(&SELF_TGID) {
        return false;
    }
    let scope = value(&SCOPE_CGROUP);
    // SAFETY: a helper on the current task.
    scope == 0 || unsafe { bpf_get_current_ancestor_cgroup_id(value(&SCOPE_LEVEL) as i32) } == scope
}
