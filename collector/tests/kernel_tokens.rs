//! What a trace says of calls that are not simply made and returned from: io_uring, 32-bit entries, exits, descriptors that
//! land on standard input and output.
//!
//! The binary is its own child: `--child ACTION`.

mod support;

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use collector::decode::Record;
use collector_common::map::RowKey;
use collector_common::process::Exec;
use collector_common::syscall::{WINDOW_TRIGGER, Why, Window};
use collector_common::token::{self, OTHER, Outcome, URING, arg, x86_64 as nr};
use io_uring::{IoUring, opcode};
use support::{Watch, run};

/// `IORING_OP_NOP`.
const NOP: u16 = URING;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--child") {
        act(&args.next().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let (no_ring, no_entry) = (on && !gives_rings(), on && !has_32_bit_entry());
    let tests: [support::Case; 10] = [
        ("operations_of_a_ring_are_calls_of_whoever_submits", no_ring, operations_of_a_ring_are_calls),
        ("the_polling_thread_of_a_ring_is_in_the_tree", no_ring, the_polling_thread_of_a_ring_is_in_the_tree),
        ("a_32_bit_call_in_a_64_bit_program_is_told_at_once", no_entry, a_32_bit_call_is_told_at_once),
        ("a_32_bit_number_is_not_taken_for_a_64_bit_one", no_entry, a_32_bit_number_is_not_taken_for_a_64_bit_one),
        ("an_interrupted_call_appears_once", false, an_interrupted_call_appears_once),
        ("a_handler_stands_between_a_call_and_its_restart", false, a_handler_stands_between_a_call_and_its_restart),
        ("a_call_that_was_stopped_and_went_on_appears_once", false, a_stopped_call_appears_once),
        ("the_last_call_is_the_exit_unless_killed", false, the_last_call_is_the_exit_unless_killed),
        ("descriptors_that_land_on_stdio_are_told_by_their_number", false, descriptors_that_land_on_stdio_are_told),
        ("the_leaders_exit_is_not_the_end_of_the_process", false, the_leaders_exit_is_not_the_end),
    ];
    support::run_one_by_one(on, tests)
}

fn gives_rings() -> bool {
    let ring = IoUring::new(1);
    if let Err(error) = &ring {
        support::skipped(&format!("io_uring: this kernel gives no ring ({error})"));
    }
    ring.is_ok()
}

fn has_32_bit_entry() -> bool {
    let mut child = std::process::Command::new("/proc/self/exe");
    let tried = child.args(["--child", "int80"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        support::skipped("32-bit calls: this kernel has no 32-bit entry (CONFIG_IA32_EMULATION)");
    }
    works
}

// ---- What the children do ------------------------------------------------------------------------------------------

fn act(action: &str) {
    match action {
        "ring" => submit(IoUring::new(8)),
        "polled" => submit(IoUring::builder().setup_sqpoll(200).build(8)),
        "int80" => {
            println!("{}", getpid_by_int80());
            quiet();
        }
        // The numbers of getpid and of setpgid, which is that of fork by the other door.
        "int80-numbers" => marked(|| {
            call_by_int80(20, 0);
            call_by_int80(57, 0);
        }),
        "interrupted" => {
            on_alarm(nothing, 0);
            marked(|| {
                sleep_ms(900);
                getppid();
            });
        }
        "restarted" => {
            let [out, into] = pipe();
            INTO.store(into, Ordering::Relaxed);
            on_alarm(feed, libc::SA_RESTART);
            marked(|| read_byte(out));
        }
        "stopped" => stopped(),
        "native" => quiet(),
        "exit" => (),
        "abort" => std::process::abort(),
        "stdio" => {
            // SAFETY: plain descriptor calls; nothing else uses descriptor 0 here.
            unsafe {
                libc::close(0);
                libc::dup(1);
                libc::close(0);
                libc::fcntl(1, libc::F_DUPFD, 0);
            }
        }
        "leader" => {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                // SAFETY: ends the process.
                unsafe { libc::syscall(libc::SYS_exit_group, 7) };
            });
            // SAFETY: ends this thread only, which is the leader.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        other => panic!("no child action {other}"),
    }
}

/// Three no-ops; prints how many were done, or why there is no ring.
fn submit(ring: std::io::Result<IoUring>) {
    let mut ring = match ring {
        Ok(ring) => ring,
        Err(error) => return println!("none {}", error.raw_os_error().unwrap_or(0)),
    };
    for n in 0..3 {
        // SAFETY: a no-op has no buffer.
        unsafe { ring.submission().push(&opcode::Nop::new().build().user_data(n)).expect("room") };
    }
    ring.submit_and_wait(3).expect("submitted");
    println!("done {}", ring.completion().count());
    std::thread::sleep(Duration::from_millis(100));
}

fn getpid_by_int80() -> i64 {
    call_by_int80(20, 0)
}

/// By the 32-bit entry, with one number as the second argument and zero as the first.
#[cfg(target_arch = "x86_64")]
fn call_by_int80(number: i64, second: i64) -> i64 {
    let result: i64;
    // SAFETY: calls without pointers; r8–r11 may be lost, and rbx, which the compiler keeps for itself, is put back.
    unsafe {
        asm!("xchg {first}, rbx", "int 0x80", "xchg {first}, rbx", first = inout(reg) 0i64 => _,
            inlateout("rax") number => result, in("rcx") second,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    result
}

/// Other architectures know a 32-bit program, not a 32-bit call in a 64-bit one.
#[cfg(not(target_arch = "x86_64"))]
fn call_by_int80(_: i64, _: i64) -> i64 {
    std::process::exit(1)
}

/// Nothing else calls it: setregid(-1, -1) changes nothing.
const MARK: u16 = nr::SETREGID;

fn marked(deed: impl FnOnce()) {
    // SAFETY: as said.
    unsafe { libc::syscall(libc::SYS_setregid, -1, -1) };
    deed();
    // SAFETY: as said.
    unsafe { libc::syscall(libc::SYS_setregid, -1, -1) };
}

static INTO: AtomicI32 = AtomicI32::new(-1);

fn on_alarm(handler: extern "C" fn(i32), flags: i32) {
    // SAFETY: a handler that makes async-signal-safe calls only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let once = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 200_000 },
        };
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const once, 0);
    }
}

extern "C" fn nothing(_: i32) {}

extern "C" fn feed(_: i32) {
    // SAFETY: one byte into the pipe of this process.
    unsafe { libc::syscall(libc::SYS_write, INTO.load(Ordering::Relaxed), c"x".as_ptr(), 1) };
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

fn getppid() {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn sleep_ms(ms: i64) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
    // SAFETY: a time that outlives the call.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0) };
}

fn read_byte(from: i32) {
    let mut byte = 0u8;
    // SAFETY: room for one byte.
    unsafe { libc::syscall(libc::SYS_read, from, &raw mut byte, 1) };
}

/// A child stops this process for a moment, in a sleep and in a read that it then feeds.
fn stopped() {
    let [out, into] = pipe();
    // SAFETY: the child makes calls only and leaves at once.
    unsafe {
        let own = libc::getpid();
        if libc::fork() == 0 {
            for _ in 0..2 {
                libc::usleep(200_000);
                libc::kill(own, libc::SIGSTOP);
                libc::usleep(100_000);
                libc::kill(own, libc::SIGCONT);
                libc::usleep(500_000);
            }
            libc::write(into, c"x".as_ptr().cast(), 1);
            libc::_exit(0);
        }
    }
    marked(|| {
        sleep_ms(600);
        read_byte(out);
    });
}

/// Calls that any run of this program makes.
fn quiet() {
    for _ in 0..200 {
        // SAFETY: no arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

// ---- What the kernel must have seen --------------------------------------------------------------------------------

fn windows(watch: &Watch) -> Vec<Window> {
    let windows = watch.records().into_iter().filter_map(|record| match record {
        Record::Window(window) if window.why != Why::Early as u8 => Some(*window),
        _ => None,
    });
    windows.collect()
}

fn tokens(windows: &[Window]) -> Vec<u16> {
    windows.iter().flat_map(|window| collector::decode::trace(window).collect::<Vec<_>>()).collect()
}

fn first_exec(watch: &Watch) -> Exec {
    match watch.wait_for("exec", |record| matches!(record, Record::Exec(_))) {
        Record::Exec(exec) => *exec,
        _ => unreachable!(),
    }
}

fn finished(watch: Watch) -> Vec<Record> {
    std::thread::sleep(Duration::from_millis(50));
    watch.finish().records.into_iter().map(|(_, record)| record).collect()
}

/// Runs a ring with three operations.
fn with_ring(watch: &Watch, action: &str) {
    let output = run(&mut watch.child(action));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "done 3");
}

fn operations_of_a_ring_are_calls() {
    let watch = Watch::new("ring");
    with_ring(&watch, "ring");
    let cookie = first_exec(&watch).header.cookie;
    std::thread::sleep(Duration::from_millis(50));
    let own: Vec<Window> = windows(&watch).into_iter().filter(|window| window.header.cookie == cookie).collect();
    let all = tokens(&own);
    let operations = all.iter().filter(|call| token::number(**call) == NOP).count();
    assert_eq!(operations, 3, "each operation is a call, although none was a syscall");
    assert!(all.iter().any(|call| token::number(*call) == nr::IO_URING_SETUP));
}

fn the_polling_thread_of_a_ring_is_in_the_tree() {
    let watch = Watch::new("polled");
    with_ring(&watch, "polled");
    let cookie = first_exec(&watch).header.cookie;
    std::thread::sleep(Duration::from_millis(50));
    // The thread's windows carry the process's cookie, and another thread id than the process's own.
    let pid = collector_common::header::tgid_of(cookie);
    let of_the_thread: Vec<Window> =
        windows(&watch).into_iter().filter(|window| window.header.cookie == cookie && window.tid != pid).collect();
    let operations = tokens(&of_the_thread).iter().filter(|call| token::number(**call) == NOP).count();
    assert_eq!(operations, 3, "what the kernel's thread submitted is the process's");
}

fn a_32_bit_call_is_told_at_once() {
    let mut watch = Watch::new("int80");
    run(&mut watch.child("native"));
    let exec = first_exec(&watch);
    run(&mut watch.child("native"));
    std::thread::sleep(Duration::from_millis(50));
    // Everything is normal in this row, but for a 32-bit call.
    let mut bits: Vec<u32> = (0..collector_common::map::SEEN_BITS).collect();
    let foreign = token::trigram_bit(token::trigger_trigram(OTHER, arg::FOREIGN_IN_NATIVE));
    bits.retain(|bit| *bit != foreign);
    watch.kernel.fill_row(1, &bits).expect("a row");
    watch.kernel.point(RowKey { cgroup: watch.cgroup.id(), exe: exec.exe }, 1).expect("a key");
    watch.kernel.announce_rows().expect("control");
    run(&mut watch.child("native"));
    run(&mut watch.child("int80"));
    let is_early = |record: &Record| matches!(record, Record::Window(window) if window.why == Why::Early as u8);
    let early = watch.wait_for("early window", is_early);
    let Record::Window(early) = early else { unreachable!() };
    assert_ne!(early.header.flags & WINDOW_TRIGGER, 0);
    assert_eq!(early.arch, 1);
    let told: Vec<u16> = collector::decode::trace(&early).collect();
    assert_eq!(told.last(), Some(&token::token(OTHER, Outcome::Ok, arg::FOREIGN_IN_NATIVE)), "told at the call itself");
    let records = finished(watch);
    assert_eq!(records.iter().filter(|record| is_early(record)).count(), 1, "the native run told nothing");
}

/// The calls between the two marks of a child.
fn between_the_marks(action: &str) -> Vec<u16> {
    let watch = Watch::new("marks");
    run(&mut watch.child(action));
    let cookie = first_exec(&watch).header.cookie;
    std::thread::sleep(Duration::from_millis(50));
    let mut own: Vec<Window> = windows(&watch).into_iter().filter(|window| window.header.cookie == cookie).collect();
    own.sort_by_key(|window| window.start_boot_ns);
    let calls = tokens(&own);
    let is_mark = |call: &&u16| token::number(**call) == MARK;
    calls.iter().skip_while(|call| !is_mark(call)).skip(1).take_while(|call| !is_mark(call)).copied().collect()
}

fn ok(number: u16) -> u16 {
    token::token(number, Outcome::Ok, arg::PLAIN)
}

fn a_32_bit_number_is_not_taken_for_a_64_bit_one() {
    let foreign = token::token(OTHER, Outcome::Ok, arg::FOREIGN_IN_NATIVE);
    assert_eq!(between_the_marks("int80-numbers"), [foreign, foreign]);
}

fn an_interrupted_call_appears_once() {
    assert_eq!(
        between_the_marks("interrupted"),
        [token::token(nr::NANOSLEEP, Outcome::Again, arg::PLAIN), ok(nr::GETPPID)]
    );
}

fn a_handler_stands_between_a_call_and_its_restart() {
    let again = token::token(nr::READ, Outcome::Again, arg::PLAIN);
    assert_eq!(between_the_marks("restarted"), [again, ok(nr::WRITE), ok(nr::READ)]);
}

fn a_stopped_call_appears_once() {
    // A sleep goes on by restart_syscall, a read is called again; in the end both did what they were asked to.
    assert_eq!(between_the_marks("stopped"), [ok(nr::NANOSLEEP), ok(nr::READ)]);
}

fn the_last_call_is_the_exit_unless_killed() {
    let last_calls = |action: &str| {
        let watch = Watch::new("exit");
        let _ = watch.child(action).stderr(Stdio::null()).status().expect("a child");
        let cookie = first_exec(&watch).header.cookie;
        std::thread::sleep(Duration::from_millis(50));
        let mut own: Vec<Window> = windows(&watch).into_iter().filter(|w| w.header.cookie == cookie).collect();
        own.sort_by_key(|window| window.start_boot_ns);
        token::number(*tokens(&own).last().expect("some calls"))
    };
    assert_eq!(last_calls("exit"), nr::EXIT_GROUP);
    assert_ne!(last_calls("abort"), nr::EXIT_GROUP, "who was killed made no such call");
}

fn descriptors_that_land_on_stdio_are_told() {
    let watch = Watch::new("stdio");
    run(&mut watch.child("stdio"));
    std::thread::sleep(Duration::from_millis(50));
    let all = tokens(&windows(&watch));
    for number in [nr::DUP, nr::FCNTL] {
        let wanted = token::token(number, Outcome::Ok, arg::DUP_STDIO);
        assert!(all.contains(&wanted), "call {number}");
    }
}

fn the_leaders_exit_is_not_the_end() {
    let watch = Watch::new("leader");
    let status = watch.child("leader").status().expect("a child");
    assert_eq!(status.code(), Some(7));
    let cookie = first_exec(&watch).header.cookie;
    let records = finished(watch);
    let ends: Vec<u64> = records
        .iter()
        .filter_map(|record| match record {
            Record::Exit(exit) if exit.header.cookie == cookie => Some(exit.header.boot_ns),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 1, "one end of the process");
    let began = records.iter().find_map(|record| match record {
        Record::Exec(exec) if exec.header.cookie == cookie => Some(exec.header.boot_ns),
        _ => None,
    });
    assert!(ends[0] - began.expect("its exec") >= 250_000_000, "it ended with its last thread, not with its leader");
}
