//! What a person can do about a program that the kernel refused.

use super::Hook;

/// Where a program may not read the kernel, nothing that names a process or a file can run.
pub const LOCKED_DOWN: &str = "boot without lockdown=confidentiality; integrity is enough for signed modules and kexec";

/// Where the kernel asks no LSM programs.
pub const NOT_ASKED: &str = "boot with bpf in lsm=, e.g. lsm=lockdown,capability,landlock,yama,apparmor,bpf";

/// The line of a refusal in which the reason stands: a verifier's log ends with statistics, and then comes the kernel's error
/// number, which only says something where there is no log.
pub fn reason(refusal: &str) -> &str {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let says_something = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|of| line.starts_with(of));
    let mut said = refusal.lines().map(|line| line.trim_start_matches([':', ' '])).filter(says_something);
    let number = said.next_back().unwrap_or_default();
    said.next_back().filter(|_| number.contains("(os error ")).unwrap_or(number)
}

/// What to do about a refusal at a hook.
pub fn remedy(hook: Hook, refusal: &str) -> &'static str {
    if reads_are_forbidden(refusal) {
        return LOCKED_DOWN;
    }
    match hook {
        Hook::Tracepoint("sock_send_length" | "sock_recv_length") => "a kernel of 6.3 or newer",
        Hook::Function(_) => {
            "a kernel that lets BPF programs attach to functions (CONFIG_FUNCTION_TRACER, no lockdown)"
        }
        Hook::Ingress | Hook::Egress | Hook::Cgroup(_) => "CONFIG_CGROUP_BPF=y and a cgroup v2 mount",
        Hook::Lsm(_) => NOT_ASKED,
        Hook::Tracepoint(_) if refusal.contains("Operation not permitted") => {
            "permit bpf(2) and tracing programs: no seccomp filter and no security policy of a container in between"
        }
        Hook::Tracepoint(_) | Hook::Iterator(_) => {
            "a kernel of 6.1 or newer with CONFIG_BPF_EVENTS=y and CONFIG_FTRACE_SYSCALLS=y"
        }
    }
}

/// The verifier does not say "locked down": it says that there is no such helper (`bpf_base_func_proto` in
/// `kernel/bpf/helpers.c`, Linux 6.12).
fn reads_are_forbidden(refusal: &str) -> bool {
    refusal.lines().any(|line| {
        line.contains("bpf_probe_read") && (line.contains("unknown func") || line.contains("cannot use helper"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_read_is_told_as_lockdown_whatever_the_hook() {
        for refusal in [
            "unknown func bpf_probe_read_kernel#113\nprocessed 41 insns (limit 1000000)\nInvalid argument (os error 22)",
            "program of this type cannot use helper bpf_probe_read#4\nprocessed 9 insns (limit 1000000)\nInvalid argument (os error 22)",
        ] {
            assert_eq!(remedy(Hook::Tracepoint("task_newtask"), refusal), LOCKED_DOWN);
            assert!(reason(refusal).contains("bpf_probe_read"), "{}", reason(refusal));
        }
        let other = "call bpf_probe_read_kernel#113\nR1 invalid mem access 'scalar'";
        assert_ne!(remedy(Hook::Tracepoint("task_newtask"), other), LOCKED_DOWN);
        assert_eq!(reason(other), "R1 invalid mem access 'scalar'");
        assert_eq!(reason("Operation not permitted (os error 1)"), "Operation not permitted (os error 1)");
    }
}
