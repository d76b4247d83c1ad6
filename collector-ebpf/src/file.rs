//! Files: the first time that an executable uses a directory in a way, and processes that touch many files at once.
//!
//! What is looked at is the opened file, never a path argument: an argument may be relative, a link, or changed by another
//! thread meanwhile. open and its kin are seen at their return, inside the syscall program, so that they need no hook of
//! their own and work where LSM programs are refused; unlink and rename have no file at their return and are seen at the
//! entry of the security checks, where the kernel lets programs attach there.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns, bpf_loop, bpf_probe_read_kernel_str,
};
use aya_ebpf::macros::{fentry, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::FEntryContext;
use collector_common::file::*;
use collector_common::map::{MAX_FILE_RATES, MAX_FILES_SEEN, MAX_SENSITIVE};
use collector_common::stats::{Program, Stats};
use collector_common::{ExeId, Kind};

use crate::offsets::*;
use crate::rings::{BULK, CTRL, NO_WAKEUP, WAKEUP};
use crate::task::{Task, copy_field};
use crate::{file_id, scope, stats};

const NO_PREALLOC: u32 = 1;
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;
/// `FMODE_WRITE`.
const FMODE_WRITE: u32 = 2;
/// Bytes of one directory's name that are kept, its final zero included.
const LONGEST_NAME: usize = 64;

/// When a use was told last, by executable, directory, mode and class.
#[map(name = "files_seen")]
static FILES_SEEN: LruHashMap<SeenKey, u64> = LruHashMap::with_max_entries(MAX_FILES_SEEN, 0);
/// Names that mean the same in every directory. Written by user space.
#[map(name = "sensitive_names")]
static SENSITIVE_NAMES: HashMap<[u8; NAME], u8> = HashMap::with_max_entries(MAX_SENSITIVE, NO_PREALLOC);
/// How many different files a process touched lately.
#[map(name = "file_rates")]
static FILE_RATES: LruHashMap<u64, Rate> = LruHashMap::with_max_entries(MAX_FILE_RATES, 0);
/// Where a record is put together: too large for the stack.
#[map(name = "file_scratch")]
static SCRATCH: PerCpuArray<File> = PerCpuArray::with_max_entries(1, 0);

/// The way from a file up to the root. On the stack: older kernels pass nothing else to a loop's body.
#[repr(C)]
struct Walk {
    /// Address of the present dentry; 0 = the walk reached the root of all.
    dentry: u64,
    /// Address of the vfsmount that it lies in; 0 = not known.
    mount: u64,
    /// Bytes of the path so far.
    len: u64,
}

/// A use of a file.
struct Use {
    dentry: *const u8,
    /// `path.mnt` of the opened file; null when only the dentry is known.
    mount: *const u8,
    ino: u64,
    mode: Mode,
    touch: usize,
}

/// A descriptor was returned by open or one of its kin.
#[inline(never)]
pub fn opened(descriptor: u64) {
    let Some(stats) = stats::of(Program::File) else { return };
    stats.seen += 1;
    let task = Task::current();
    let Some(file) = task.file_of(descriptor) else { return };
    let Some(inode) = copy_field::<*const u8>(file, &OFF_FILE_INODE) else { return };
    if copy_field::<u16>(inode, &OFF_INODE_MODE).is_none_or(|mode| mode & S_IFMT != S_IFREG) {
        stats.skipped += 1;
        return;
    }
    let (Some(dentry), Some(mount), Some(fmode), Some(ino)) = (
        copy_field(file, &OFF_FILE_DENTRY),
        copy_field(file, &OFF_FILE_MNT),
        copy_field::<u32>(file, &OFF_FILE_MODE),
        copy_field(inode, &OFF_INODE_INO),
    ) else {
        return;
    };
    let mode = if fmode & FMODE_WRITE != 0 { Mode::Write } else { Mode::Read };
    notice(stats, task, &Use { dentry, mount, ino, mode, touch: TOUCH_WRITTEN });
}

#[fentry(function = "security_inode_unlink")]
pub fn file_unlink(ctx: FEntryContext) -> i32 {
    removed(ctx.arg(1), TOUCH_DELETED);
    0
}

#[fentry(function = "security_inode_rename")]
pub fn file_rename(ctx: FEntryContext) -> i32 {
    removed(ctx.arg(1), TOUCH_RENAMED);
    0
}

#[inline(always)]
fn removed(dentry: *const u8, touch: usize) {
    let Some(stats) = stats::of(Program::FileRemoved) else { return };
    stats.seen += 1;
    let task = Task::current();
    if !scope::includes(task.tgid()) {
        stats.skipped += 1;
        return;
    }
    let inode: *const u8 = copy_field(dentry, &OFF_DENTRY_INODE).unwrap_or(core::ptr::null());
    let ino = copy_field(inode, &OFF_INODE_INO).unwrap_or(0);
    notice(stats, task, &Use { dentry, mount: core::ptr::null(), ino, mode: Mode::Delete, touch });
}

/// Tells a use if it is new, and a rate if it is high.
#[inline(always)]
fn notice(stats: &mut Stats, task: Task, of: &Use) {
    let Some(parent) = copy_field::<*const u8>(of.dentry, &OFF_DENTRY_PARENT) else { return };
    let Some(inode) = copy_field::<*const u8>(parent, &OFF_DENTRY_INODE) else { return };
    let directory = file_id::copied(inode);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let cookie = task.cookie();
    let exe = task.exe();
    if of.mode as u8 != Mode::Read as u8
        && let Some(touched) = touch(stats, cookie, of, now)
    {
        tell(stats, task, cookie, exe, directory, of, Why::Rate, Sensitive::No as u8, Some(&touched));
    }
    let sensitive = class_of(of.dentry);
    let how = of.mode as u32 | (sensitive as u32) << 8;
    let key = SeenKey { exe, ino: directory.ino, dev: directory.dev, how };
    // SAFETY: a copy of eight bytes.
    let told = unsafe { FILES_SEEN.get(&key) }.copied();
    if told.is_some_and(|at| now.wrapping_sub(at) < value(&FILE_AGAIN_NS)) {
        stats.skipped += 1;
        return;
    }
    if FILES_SEEN.insert(&key, &now, 0).is_err() {
        stats.map_full += 1;
    }
    tell(stats, task, cookie, exe, directory, of, Why::First, sensitive, None);
}

/// What the file's name says.
#[inline(always)]
fn class_of(dentry: *const u8) -> u8 {
    let mut name = [0u8; NAME];
    let Some(text) = copy_field::<*const c_void>(dentry, &OFF_DENTRY_NAME) else { return 0 };
    // SAFETY: the helper checks the address and writes at most the buffer.
    unsafe { bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), NAME as u32, text) };
    // SAFETY: a copy of a byte.
    unsafe { SENSITIVE_NAMES.get(&name) }.copied().unwrap_or(0)
}

/// Counts a file that a process wrote, renamed or deleted; the counts when they are to be told.
#[inline(always)]
fn touch(stats: &mut Stats, cookie: u64, of: &Use, now: u64) -> Option<[u32; 3]> {
    let Some(rate) = FILE_RATES.get_ptr_mut(&cookie) else {
        let mut fresh = Rate { since_ns: now, next: RATE_FIRST, touched: [0; 3], bloom: [0; 8] };
        let bit = of.ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
        fresh.touched[of.touch & 1] = (of.touch < 2) as u32;
        fresh.touched[TOUCH_DELETED] = (of.touch == TOUCH_DELETED) as u32;
        fresh.bloom[(bit >> 6) as usize & 7] = 1 << (bit & 63);
        if FILE_RATES.insert(&cookie, &fresh, 0).is_err() {
            stats.map_full += 1;
        }
        return None;
    };
    // SAFETY: a map value of this process; two threads may lose a count to each other.
    let rate = unsafe { &mut *rate };
    if now.wrapping_sub(rate.since_ns) > RATE_INTERVAL_NS {
        *rate = Rate { since_ns: now, next: RATE_FIRST, touched: [0; 3], bloom: [0; 8] };
    }
    let bit = of.ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
    let word = &mut rate.bloom[(bit >> 6) as usize & 7];
    if *word >> (bit & 63) & 1 != 0 {
        return None;
    }
    *word |= 1 << (bit & 63);
    if of.touch == TOUCH_WRITTEN {
        rate.touched[TOUCH_WRITTEN] += 1;
    } else if of.touch == TOUCH_RENAMED {
        rate.touched[TOUCH_RENAMED] += 1;
    } else {
        rate.touched[TOUCH_DELETED] += 1;
    }
    let sum = rate.touched[0] + rate.touched[1] + rate.touched[2];
    if sum < rate.next {
        return None;
    }
    rate.next *= 4;
    Some(rate.touched)
}

#[allow(clippy::too_many_arguments, reason = "a record has that many fields, and the verifier wants them inline")]
#[inline(always)]
fn tell(
    stats: &mut Stats,
    task: Task,
    cookie: u64,
    exe: ExeId,
    directory: ExeId,
    of: &Use,
    why: Why,
    sensitive: u8,
    touched: Option<&[u32; 3]>,
) {
    let Some(record) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: a per-CPU value; the programs that use it run in process context and do not interrupt each other.
    let record = unsafe { &mut *record };
    record.exe = exe;
    record.directory = directory;
    record.tid = task.tid();
    record.why = why as u8;
    record.mode = of.mode as u8;
    record.sensitive = sensitive;
    record.flags = 0;
    record.touched = match touched {
        Some(touched) => *touched,
        None => [0; 3],
    };
    record.path = [0; PATH];
    record.path_len = 0;
    record.name = [0; NAME];
    record.name_len = 0;
    // SAFETY: helpers; the address is checked and at most the buffer is written.
    unsafe {
        record.cgroup = bpf_get_current_cgroup_id();
        if let Some(text) = copy_field::<*const c_void>(of.dentry, &OFF_DENTRY_NAME) {
            let len = bpf_probe_read_kernel_str(record.name.as_mut_ptr().cast(), NAME as u32, text);
            record.name_len = if len > 0 { len as u16 - 1 } else { 0 };
        }
    }
    let mut walk =
        Walk { dentry: copy_field(of.dentry, &OFF_DENTRY_PARENT).unwrap_or(0), mount: of.mount as u64, len: 0 };
    let context = (&raw mut walk).cast::<c_void>();
    // SAFETY: the callback gets the index and this frame's walk, which outlives the call.
    unsafe { bpf_loop(DEPTH, step_up as *const () as *mut c_void, context, 0) };
    record.path_len = walk.len as u16;
    if walk.dentry != 0 {
        record.flags |= FILE_PATH_CUT;
    }
    record.header = stats::header(stats, Kind::File, size_of::<File>(), 0, cookie);
    let urgent = sensitive != 0 || why as u8 == Why::Rate as u8;
    let failed = if urgent {
        CTRL.output::<File>(&*record, WAKEUP).is_err()
    } else {
        BULK.output::<File>(&*record, NO_WAKEUP).is_err()
    };
    if failed {
        stats.ring_full += 1;
    }
}

/// `bpf_loop` body: appends the name of the present directory and goes to the one above it.
extern "C" fn step_up(_: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `tell` passes its own walk.
    let walk = unsafe { &mut *walk };
    let dentry = walk.dentry as *const u8;
    let parent: u64 = copy_field(dentry, &OFF_DENTRY_PARENT).unwrap_or(0);
    if parent == 0 {
        walk.dentry = 0;
        return 1;
    }
    if parent == walk.dentry {
        return climb_out_of_mount(walk);
    }
    let at = walk.len as usize;
    if at >= PATH - LONGEST_NAME {
        return 1;
    }
    let Some(record) = SCRATCH.get_ptr_mut(0) else { return 1 };
    let Some(text) = copy_field::<*const c_void>(dentry, &OFF_DENTRY_NAME) else { return 1 };
    // SAFETY: `at` leaves room for the longest name; the helper checks the address and writes at most so many bytes.
    let len = unsafe {
        let to = (&raw mut (*record).path).cast::<u8>().add(at);
        bpf_probe_read_kernel_str(to.cast(), LONGEST_NAME as u32, text)
    };
    if len <= 0 || len > LONGEST_NAME as i64 {
        return 1;
    }
    walk.len = (at + len as usize) as u64;
    walk.dentry = parent;
    0
}

/// The root of a file system: goes on at the directory that it is mounted on, or ends at the root of all.
#[inline(always)]
fn climb_out_of_mount(walk: &mut Walk) -> i64 {
    // `struct mount` holds the vfsmount that the file points to.
    let mount = walk.mount.wrapping_sub(value(&OFF_MOUNT_MNT));
    let above: u64 = copy_field(mount as *const u8, &OFF_MOUNT_PARENT).unwrap_or(0);
    if walk.mount == 0 || above == 0 || above == mount {
        walk.dentry = 0;
        return 1;
    }
    walk.dentry = copy_field(mount as *const u8, &OFF_MOUNT_POINT).unwrap_or(0);
    walk.mount = above.wrapping_add(value(&OFF_MOUNT_MNT));
    (walk.dentry == 0) as i64
}
