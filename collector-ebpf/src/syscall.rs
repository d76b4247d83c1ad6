//! The syscall window: one hook, one storage look-up a call, everything else once a window.
//!
//! The window lies in task storage and goes to the ring straight from there. When the ring is full it stays, goes on as a
//! ring of the last 128 calls, says how many it lost, and is tried again every 16 calls.

use core::ptr::read_volatile;

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_task_storage_get,
};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::BtfTracePointContext;
use collector_common::map::{MAX_ROWS, RowKey, THREAD_EARLY_SENT, THREAD_INTERRUPTED, THREAD_SHOWN, Thread};
use collector_common::stats::{Program, Stats};
use collector_common::syscall::{
    CLASS_MASK, EARLY_NOVEL, HAS_ARGUMENT_CLASS, MAY_TRIGGER, NOVEL, READS, TOLD_ELSEWHERE, WINDOW, WINDOW_TRIGGER,
    WRITES, Why, Window,
};
use collector_common::token::{self, OTHER, Outcome, arg};
use collector_common::{ExeId, Kind};

use crate::abi::{self, Entry};
use crate::control::control;
use crate::maps::{ROWS, SEEN, THREADS};
use crate::offsets::{MAX_AGE_JIFFIES, value};
use crate::rings::{BULK, CTRL, NO_WAKEUP, WAKEUP};
use crate::task::Task;
use crate::{arch, argument, file, scope, stats};

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`.
const CREATE: u64 = 1;
/// Calls between two attempts to write a window that did not fit.
const RETRY: u32 = 16;
/// Early windows of one row a second and CPU.
const EARLY_PER_SECOND: u64 = 20;
/// Second and early windows in it, by row.
#[map(name = "early_budget")]
static EARLY_BUDGET: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(MAX_ROWS, 0);
/// No call before this one.
const NO_HISTORY: u32 = u32::MAX;
/// One call before this one: not yet two numbers.
const ONE_CALL: u32 = 1 << 31;

/// One call, taken apart.
struct Call {
    token: u16,
    read: u64,
    written: u64,
}

#[btf_tracepoint(function = "sys_exit")]
pub fn syscall(ctx: BtfTracePointContext) -> i32 {
    observe(&ctx);
    0
}

#[inline(always)]
fn observe(ctx: &BtfTracePointContext) {
    let Some(stats) = stats::of(Program::Syscall) else { return };
    let task = Task::current();
    if !scope::includes(task.tgid()) {
        stats.seen += 1;
        stats.skipped += 1;
        return;
    }
    stats.seen += 1;
    let registers: arch::Registers = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    // SAFETY: the tracepoint's first argument is a pt_regs that the verifier knows.
    let (entry, number) = abi::door_of(task, unsafe { arch::number(registers) });
    let traits = if entry == Entry::Native { traits_of(number) } else { 0 };
    if (result >= 0 || may_restart(result)) && is_told_elsewhere(entry, number, traits) {
        stats.skipped += 1;
        return;
    }
    let Some(thread) = thread_of(task, CREATE) else {
        stats.no_storage += 1;
        return;
    };
    let was_interrupted = thread.flags & THREAD_INTERRUPTED != 0;
    thread.flags &= !THREAD_INTERRUPTED;
    if number < 0 {
        // Back from a signal handler: the call that it interrupted is over.
        stats.skipped += 1;
        return;
    }
    // SAFETY: as above.
    let arguments = unsafe { arch::arguments(registers) };
    let call = take_apart(task, entry, number, traits, result, arguments);
    if may_restart(result) {
        thread.flags |= THREAD_INTERRUPTED;
    }
    if was_interrupted && goes_on_with_the_last(thread, entry, number, &call) {
        finish_the_last(&mut thread.window, thread.next, &call, result);
        stats.skipped += 1;
    } else if abi::restarts(entry, number) {
        // What it restarts was not seen.
        stats.skipped += 1;
    } else {
        append(task, thread, stats, &call);
    }
    if result >= 0 && abi::opens_a_file(entry, number) {
        file::opened(result as u64);
    }
}

/// `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`: the kernel makes the call again, or EINTR of it when a handler runs first.
#[inline(always)]
fn may_restart(result: i64) -> bool {
    (-516..=-512).contains(&result)
}

/// Calls that task_newtask and sched_process_exec report when they succeed.
#[inline(always)]
fn is_told_elsewhere(entry: Entry, number: i64, traits: u8) -> bool {
    match entry {
        Entry::Native => number >= 0 && traits & TOLD_ELSEWHERE != 0,
        Entry::Compat => abi::is_told_elsewhere_in_compat(number),
        Entry::Foreign => false,
    }
}

/// Whether a call is the interrupted one before, made again: then it is one call, not two.
#[inline(always)]
fn goes_on_with_the_last(thread: &Thread, entry: Entry, number: i64, call: &Call) -> bool {
    let last = thread.window.trace[(thread.next as usize).wrapping_sub(1) & (WINDOW - 1)];
    abi::restarts(entry, number) || token::number(last) == token::number(call.token)
}

/// Gives the interrupted call the outcome that it had in the end. It keeps the first one when its window is written already.
#[inline(always)]
fn finish_the_last(window: &mut Window, next: u32, call: &Call, result: i64) {
    const OUTCOME: u16 = 7 << 10;
    if window.n == 0 || may_restart(result) {
        return;
    }
    let at = (next as usize).wrapping_sub(1) & (WINDOW - 1);
    window.trace[at] = window.trace[at] & !OUTCOME | call.token & OUTCOME;
    let outcome = token::outcome(call.token);
    let failed = (outcome != Outcome::Ok as u16 && outcome != Outcome::Again as u16) as u16;
    window.errors = window.errors.saturating_add(failed);
    window.permission_errors = window.permission_errors.saturating_add((outcome == Outcome::Permission as u16) as u16);
    window.read_bytes += call.read;
    window.write_bytes += call.written;
}

/// What the table says of a number; nothing of a foreign one.
#[inline(always)]
fn traits_of(number: i64) -> u8 {
    if (0..1024).contains(&number) { TRAITS[number as usize & 1023] } else { 0 }
}

/// The window of a thread; with [`CREATE`] it is made when it is not there.
#[inline(always)]
pub fn thread_of(task: Task, flags: u64) -> Option<&'static mut Thread> {
    let map = (&raw const THREADS).cast_mut().cast::<c_void>();
    // SAFETY: a task storage map and a task that the verifier knows; the value is zero when new.
    let thread = unsafe { bpf_task_storage_get(map, task.raw(), core::ptr::null_mut(), flags) }.cast::<Thread>();
    // SAFETY: only this thread's programs touch its value.
    if thread.is_null() { None } else { Some(unsafe { &mut *thread }) }
}

#[inline(always)]
fn take_apart(task: Task, entry: Entry, number: i64, traits: u8, result: i64, arguments: [u64; 3]) -> Call {
    let foreign = entry != Entry::Native;
    let number = if foreign { OTHER } else { number as u16 & token::NUMBER };
    let class = if foreign {
        if task.is_32_bit() { arg::PLAIN } else { arg::FOREIGN_IN_NATIVE }
    } else if traits & HAS_ARGUMENT_CLASS != 0 {
        argument::class_of(number, result, arguments)
    } else {
        arg::PLAIN
    };
    if result < 0 && result >= -4095 {
        return Call { token: token::token(number, token::outcome_of(-result as u32), class), read: 0, written: 0 };
    }
    let bytes = result as u64;
    let read = if traits & READS != 0 { bytes } else { 0 };
    let written = if traits & WRITES != 0 { bytes } else { 0 };
    Call { token: token::token(number, Outcome::Ok, class), read, written }
}

/// Adds a call that another program saw: clone at task_newtask, execve at sched_process_exec.
#[inline(always)]
pub fn synthesise(task: Task, number: u16, class: u16) {
    let Some(stats) = stats::of(Program::Syscall) else { return };
    stats.seen += 1;
    let Some(thread) = thread_of(task, CREATE) else {
        stats.no_storage += 1;
        return;
    };
    let token = token::token(number, Outcome::Ok, class);
    append(task, thread, stats, &Call { token, read: 0, written: 0 });
}

#[inline(always)]
fn append(task: Task, thread: &mut Thread, stats: &mut Stats, call: &Call) {
    // SAFETY: a helper without arguments that is inlined to a load.
    let now = unsafe { bpf_jiffies64() };
    if thread.window.n != 0 && now.wrapping_sub(thread.opened) > value(&MAX_AGE_JIFFIES) {
        close(thread, stats, Why::Age);
    }
    if thread.window.n == 0 {
        open(task, thread, now);
    }
    let window = &mut thread.window;
    let at = thread.next as usize & (WINDOW - 1);
    window.trace[at] = call.token;
    // Read back, so that the verifier knows nothing about the value: it would follow every class and outcome of every call
    // through the rest of the program one by one (seconds of verification) where one path is enough.
    // SAFETY: the element that was just written.
    let token = unsafe { read_volatile(&raw const window.trace[at]) };
    let (number, outcome) = (token::number(token), token::outcome(token));
    thread.next = (at as u32 + 1) & (WINDOW as u32 - 1);
    if (window.n as usize) < WINDOW {
        window.n += 1;
    } else {
        window.missed += 1;
        stats.missed += 1;
    }
    let failed = (outcome != Outcome::Ok as u16 && outcome != Outcome::Again as u16) as u16;
    window.errors = window.errors.saturating_add(failed);
    window.permission_errors = window.permission_errors.saturating_add((outcome == Outcome::Permission as u16) as u16);
    window.read_bytes += call.read;
    window.write_bytes += call.written;
    window.arch |= (number == OTHER) as u8;
    let traits = TRAITS[number as usize];
    let class = (traits & CLASS_MASK) as usize;
    window.class[class] = window.class[class].saturating_add(1);
    let trigram = remember(&mut thread.history, number);
    if thread.window.row != 0 {
        compare(thread, stats, token, traits, trigram);
    }
    if thread.window.n as usize == WINDOW {
        if thread.retry == 0 {
            close(thread, stats, Why::Full);
        } else {
            thread.retry -= 1;
        }
    }
}

/// Begins a window: everything that is looked up once.
#[inline(always)]
fn open(task: Task, thread: &mut Thread, jiffies: u64) {
    let window = &mut thread.window;
    // SAFETY: helpers without arguments.
    let (start, cgroup) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_current_cgroup_id()) };
    if thread.opened == 0 {
        thread.history = NO_HISTORY;
    }
    thread.opened = jiffies;
    window.start_boot_ns = start;
    window.header.cookie = task.cookie();
    window.tid = task.tid();
    window.exe = task.exe();
    window.cgroup = cgroup;
    window.row = row_of(cgroup, window.exe);
}

#[inline(always)]
fn row_of(cgroup: u64, exe: ExeId) -> u32 {
    if control().is_none_or(|control| control.row_generation == 0) {
        return 0;
    }
    let key = RowKey { cgroup, exe };
    // SAFETY: a copy of four bytes; user space replaces values whole.
    unsafe { ROWS.get(&key) }.copied().unwrap_or(0)
}

/// Moves the history on; the trigram that ends with this call, or zero when there are not three calls yet.
#[inline(always)]
fn remember(history: &mut u32, number: u16) -> u32 {
    let before = *history;
    let number = number as u32;
    if before == NO_HISTORY {
        *history = ONE_CALL | number;
        0
    } else {
        *history = (before << 10 | number) & 0xf_ffff;
        if before & ONE_CALL != 0 { 0 } else { (before << 10 | number) & 0x3fff_ffff }
    }
}

/// Compares with what is normal for this executable, and speaks early when it is not.
#[inline(always)]
fn compare(thread: &mut Thread, stats: &mut Stats, token: u16, traits: u8, trigram: u32) {
    let (number, class) = (token::number(token), token::class(token));
    let Some(seen) = SEEN.get_ptr(thread.window.row) else { return };
    // SAFETY: a value of the array; user space sets bits by whole words.
    let seen = unsafe { &*seen };
    let mut speak = false;
    if trigram != 0 && !holds(seen, trigram) {
        thread.window.novel = thread.window.novel.saturating_add(1);
        speak |= note(&mut thread.window, trigram);
    }
    if traits & MAY_TRIGGER != 0
        && token::is_trigger(number, class)
        && !holds(seen, token::trigger_trigram(number, class))
    {
        thread.window.header.flags |= WINDOW_TRIGGER;
        speak = true;
    }
    if speak && thread.flags & THREAD_EARLY_SENT == 0 {
        thread.flags |= THREAD_EARLY_SENT;
        write_early(thread, stats);
    }
}

#[inline(always)]
fn holds(seen: &[u64; 512], trigram: u32) -> bool {
    let bit = token::trigram_bit(trigram);
    seen[(bit >> 6) as usize & 511] >> (bit & 63) & 1 != 0
}

/// Keeps a novel trigram if it is not there yet; whether there are now enough of them to speak.
#[inline(always)]
fn note(window: &mut Window, trigram: u32) -> bool {
    let mut at = 0;
    while at < NOVEL {
        let slot = &mut window.novel_trigrams[at];
        if *slot == trigram {
            return false;
        }
        if *slot == 0 {
            *slot = trigram;
            window.novel_distinct += 1;
            return window.novel_distinct == EARLY_NOVEL;
        }
        at += 1;
    }
    false
}

/// Whether a row has something left of this second's budget. Without one, a thousand novel threads of one workload would fill
/// the ctrl ring and blind the host to another's attack.
#[inline(always)]
fn may_speak(row: u32) -> bool {
    let Some(budget) = EARLY_BUDGET.get_ptr_mut(row) else { return false };
    // SAFETY: a per-CPU value; helper without arguments.
    let (budget, second) = unsafe { (&mut *budget, bpf_ktime_get_boot_ns() / 1_000_000_000) };
    if budget[0] != second {
        *budget = [second, 0];
    }
    budget[1] += 1;
    budget[1] <= EARLY_PER_SECOND
}

/// Sends a copy of the unfinished window on the ctrl ring; its calls are counted when the window itself is written.
#[inline(always)]
fn write_early(thread: &mut Thread, stats: &mut Stats) {
    if !may_speak(thread.window.row) {
        stats.throttled += 1;
        return;
    }
    let window = &mut thread.window;
    fill_header(window, thread.next, stats, Why::Early);
    if !output(CTRL_RING, window, WAKEUP) {
        stats.ring_full += 1;
    }
}

/// Sends a copy of an idle thread's unfinished window; the thread goes on with it when it wakes up.
#[inline(always)]
pub fn show(thread: &mut Thread, stats: &mut Stats) {
    thread.flags |= THREAD_SHOWN;
    let window = &mut thread.window;
    fill_header(window, thread.next, stats, Why::Idle);
    if !output(BULK_RING, window, NO_WAKEUP) {
        stats.ring_full += 1;
    }
}

/// Writes the window and empties it; when the ring is full it stays.
#[inline(always)]
pub fn close(thread: &mut Thread, stats: &mut Stats, why: Why) {
    let window = &mut thread.window;
    if window.n == 0 {
        return;
    }
    fill_header(window, thread.next, stats, why);
    if !output(BULK_RING, window, NO_WAKEUP) {
        stats.ring_full += 1;
        thread.retry = RETRY;
        return;
    }
    stats.recorded += window.n as u64;
    empty(thread);
}

/// Gives a window up that cannot be written any more.
#[inline(always)]
pub fn abandon(thread: &mut Thread, stats: &mut Stats) {
    stats.missed += thread.window.n as u64;
    empty(thread);
}

#[inline(always)]
fn empty(thread: &mut Thread) {
    let window = &mut thread.window;
    window.header.flags = 0;
    window.n = 0;
    window.missed = 0;
    window.novel = 0;
    window.novel_distinct = 0;
    window.errors = 0;
    window.permission_errors = 0;
    window.read_bytes = 0;
    window.write_bytes = 0;
    window.arch = 0;
    window.class = [0; 8];
    window.novel_trigrams = [0; NOVEL];
    thread.next = 0;
    thread.retry = 0;
    // What follows may still be the interrupted call that this window ended with.
    thread.flags &= THREAD_INTERRUPTED;
}

#[inline(always)]
fn fill_header(window: &mut Window, next: u32, stats: &mut Stats, why: Why) {
    // A full window's oldest call stands where the next one would go.
    let start = if window.n as usize == WINDOW { next as u16 & (WINDOW as u16 - 1) } else { 0 };
    let flags = (window.header.flags & 0xff) | start << 8;
    window.why = why as u8;
    window.header = stats::header(stats, Kind::Window, size_of::<Window>(), flags, window.header.cookie);
}

#[derive(Clone, Copy)]
enum Ring {
    Ctrl,
    Bulk,
}
const CTRL_RING: Ring = Ring::Ctrl;
const BULK_RING: Ring = Ring::Bulk;

#[inline(always)]
fn output(ring: Ring, window: &mut Window, flags: u64) -> bool {
    let map = match ring {
        Ring::Ctrl => (&raw const CTRL).cast_mut().cast::<c_void>(),
        Ring::Bulk => (&raw const BULK).cast_mut().cast::<c_void>(),
    };
    // SAFETY: a ring buffer map and a window inside a map value.
    unsafe { bpf_ringbuf_output(map, (window as *mut Window).cast(), size_of::<Window>() as u64, flags) == 0 }
}

/// What is the same for all calls of a number.
static TRAITS: [u8; 1024] = collector_common::syscall::traits();
