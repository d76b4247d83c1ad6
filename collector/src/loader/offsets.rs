//! Where the running kernel keeps the fields that the programs read: from its own BTF, never from a table by version.

use std::fs;
use std::path::Path;

use super::LoadError;
use super::btf::Types;

/// Where the kernel shows its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A global of the kernel object and the field that fills it.
struct Field {
    global: &'static str,
    of: &'static str,
    path: &'static str,
    /// Without it the programs would lie; otherwise one thing is not known and said so.
    required: bool,
}

const fn required(global: &'static str, of: &'static str, path: &'static str) -> Field {
    Field { global, of, path, required: true }
}

/// Every field that the programs read. The names of the globals are those in `collector-ebpf/src/offsets.rs`.
const FIELDS: &[Field] = &[
    required("OFF_TASK_TGID", "task_struct", "tgid"),
    required("OFF_TASK_PID", "task_struct", "pid"),
    required("OFF_TASK_LEADER", "task_struct", "group_leader"),
    required("OFF_TASK_START", "task_struct", "start_boottime"),
    required("OFF_TASK_MM", "task_struct", "mm"),
    required("OFF_TASK_CRED", "task_struct", "cred"),
    required("OFF_TASK_SIGNAL", "task_struct", "signal"),
    required("OFF_TASK_EXIT_CODE", "task_struct", "exit_code"),
    required("OFF_TASK_NSPROXY", "task_struct", "nsproxy"),
    required("OFF_TASK_FILES", "task_struct", "files"),
    required("OFF_MM_TASK_SIZE", "mm_struct", "task_size"),
    required("OFF_URING_OPCODE", "io_kiocb", "opcode"),
    required("OFF_SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    required("OFF_TASK_CGROUPS", "task_struct", "cgroups"),
    required("OFF_CSS_SET_DFL", "css_set", "dfl_cgrp"),
    required("OFF_CGROUP_KN", "cgroup", "kn"),
    required("OFF_KN_ID", "kernfs_node", "id"),
    Field {
        global: "OFF_TASK_STATUS",
        of: "task_struct",
        path: "thread_info.status",
        // Elsewhere a program is a 32-bit one for good, and its address space says so.
        required: cfg!(target_arch = "x86_64"),
    },
    Field { global: "OFF_TASK_LOGINUID", of: "task_struct", path: "loginuid", required: false },
    required("OFF_MM_EXE", "mm_struct", "exe_file"),
    required("OFF_MM_ARG_START", "mm_struct", "arg_start"),
    required("OFF_MM_ARG_END", "mm_struct", "arg_end"),
    required("OFF_FILE_INODE", "file", "f_inode"),
    required("OFF_INODE_INO", "inode", "i_ino"),
    required("OFF_INODE_SB", "inode", "i_sb"),
    required("OFF_INODE_GENERATION", "inode", "i_generation"),
    required("OFF_INODE_NLINK", "inode", "i_nlink"),
    required("OFF_INODE_MODE", "inode", "i_mode"),
    required("OFF_SB_DEV", "super_block", "s_dev"),
    required("OFF_SB_MAGIC", "super_block", "s_magic"),
    required("OFF_BPRM_FILENAME", "linux_binprm", "filename"),
    required("OFF_BPRM_INTERP", "linux_binprm", "interp"),
    required("OFF_BPRM_FILE", "linux_binprm", "file"),
    required("OFF_FILE_DENTRY", "file", "f_path.dentry"),
    required("OFF_FILE_MNT", "file", "f_path.mnt"),
    required("OFF_FILE_MODE", "file", "f_mode"),
    required("OFF_PATH_DENTRY", "path", "dentry"),
    required("OFF_DENTRY_PARENT", "dentry", "d_parent"),
    required("OFF_DENTRY_INODE", "dentry", "d_inode"),
    required("OFF_DENTRY_NAME", "dentry", "d_name.name"),
    required("OFF_MOUNT_MNT", "mount", "mnt"),
    required("OFF_MOUNT_PARENT", "mount", "mnt_parent"),
    required("OFF_MOUNT_POINT", "mount", "mnt_mountpoint"),
    required("OFF_SOCKET_SK", "socket", "sk"),
    required("OFF_UNIX_DENTRY", "unix_sock", "path.dentry"),
    required("OFF_CRED_UID", "cred", "uid"),
    required("OFF_CRED_GID", "cred", "gid"),
    required("OFF_CRED_EUID", "cred", "euid"),
    required("OFF_SIGNAL_LIVE", "signal_struct", "live"),
    required("OFF_NSPROXY_NET", "nsproxy", "net_ns"),
    required("OFF_NSPROXY_MNT", "nsproxy", "mnt_ns"),
    required("OFF_NSPROXY_PID", "nsproxy", "pid_ns_for_children"),
    required("OFF_NET_INUM", "net", "ns.inum"),
    required("OFF_MNT_INUM", "mnt_namespace", "ns.inum"),
    required("OFF_PIDNS_INUM", "pid_namespace", "ns.inum"),
    required("OFF_FILES_FDT", "files_struct", "fdt"),
    required("OFF_FDT_FD", "fdtable", "fd"),
];

/// Global and value, and what the kernel does not have.
#[derive(Debug, Default)]
pub struct Offsets {
    /// For `EbpfLoader::override_global`.
    pub globals: Vec<(&'static str, u64)>,
    /// Optional fields that are missing, as `struct.field`.
    pub missing: Vec<String>,
}

impl Offsets {
    /// Reads the kernel's BTF.
    ///
    /// # Errors
    ///
    /// When the kernel has no BTF, or a required field has gone.
    pub fn of_kernel() -> Result<Self, LoadError> {
        Self::read(Path::new(KERNEL_BTF))
    }

    fn read(path: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(path).map_err(|source| LoadError::NoBtf { path: path.to_path_buf(), source })?;
        let types = Types::new(&bytes).map_err(|error| LoadError::BadBtf(error.to_string()))?;
        let mut offsets = Self::default();
        for field in FIELDS {
            match types.offset_of(field.of, field.path) {
                Some(offset) => offsets.globals.push((field.global, offset)),
                None if field.required => {
                    return Err(LoadError::NoField { field: format!("{}.{}", field.of, field.path) });
                }
                None => {
                    offsets.globals.push((field.global, 0));
                    offsets.missing.push(format!("{}.{}", field.of, field.path));
                }
            }
        }
        // A program that only names the helper for such sockets is refused where there are none.
        offsets.globals.push(("HAS_MPTCP", types.offset_of("mptcp_sock", "sk").is_some().into()));
        Ok(offsets)
    }
}
