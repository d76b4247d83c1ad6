//! The process and syscall programs on the running kernel: lineage, exec records, traces and the ledger.
//!
//! The binary is its own child: `--child ACTION` does one thing with raw system calls, so that a test knows exactly what the
//! kernel must have seen.

mod support;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use collector::agent::inbox::Lane;
use collector::decode::Record;
use collector_common::map::RowKey;
use collector_common::process::{EXEC_MEMORY, EXEC_NON_LEADER, EXEC_SCRIPT, EXEC_STDIO_SOCKET, EXEC_UNLINKED};
use collector_common::stats::Program;
use collector_common::syscall::{Why, Window};
use collector_common::token::{self, Outcome, arg, trigram_bit, x86_64 as nr};
use collector_common::{cookie_of, header};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Watch, run};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--child") {
        act(&args.next().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    let skip = !support::kernel_tests_are_on();
    let tests: [(&str, fn()); 11] = [
        ("a_trace_is_the_sequence_of_issued_calls", a_trace_is_the_sequence_of_issued_calls),
        ("errors_bytes_and_argument_classes_are_counted", errors_bytes_and_argument_classes_are_counted),
        ("lineage_follows_fork_vfork_clone3_and_posix_spawn", lineage_follows_fork_vfork_clone3_and_posix_spawn),
        ("a_double_fork_keeps_its_ancestors", a_double_fork_keeps_its_ancestors),
        ("an_exec_by_another_thread_keeps_the_identity", an_exec_by_another_thread_keeps_the_identity),
        ("a_script_shows_its_name_and_arguments", a_script_shows_its_name_and_arguments),
        ("a_program_from_memory_is_marked", a_program_from_memory_is_marked),
        ("a_shell_on_a_socket_is_marked", a_shell_on_a_socket_is_marked),
        ("novel_calls_of_a_known_executable_are_reported_early", novel_calls_of_a_known_executable_are_reported_early),
        ("the_ledger_closes_under_a_storm_with_a_tiny_ring", the_ledger_closes_under_a_storm_with_a_tiny_ring),
        ("a_cookie_agrees_with_proc", a_cookie_agrees_with_proc),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
        .with_ignored_flag(skip)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

// ---- What the children do ------------------------------------------------------------------------------------------

/// A raw system call, by the number that tokens know it by, without library code around it.
fn call(number: u16, args: [usize; 3]) -> isize {
    // SAFETY: the calls used here take numbers, or pointers to values that outlive the call.
    unsafe { libc::syscall(support::native(number), args[0], args[1], args[2]) as isize }
}

/// Marks the beginning and the end of what a test looks at; nothing else calls it.
const MARK: u16 = nr::SETREGID; // (-1, -1) changes nothing.

fn mark() {
    call(MARK, [usize::MAX, usize::MAX, 0]);
}

fn act(action: &str) {
    match action {
        "sequence" => {
            mark();
            for _ in 0..100 {
                call(nr::GETPID, [0; 3]);
                call(nr::GETUID, [0; 3]);
                call(nr::GETGID, [0; 3]);
                call(nr::CLOSE, [9999, 0, 0]);
            }
            mark();
        }
        "classes" => classes(),
        "births" => births(),
        "double-fork" => double_fork(),
        "exec-by-thread" => exec_by_thread(),
        "memory" => run_from_memory(),
        "storm" => (0..200_000).for_each(|_| {
            call(nr::GETPPID, [0; 3]);
        }),
        "novel" => {
            (0..64).for_each(|_| {
                call(nr::GETPPID, [0; 3]);
            });
            let name = CString::new("x").expect("no NUL");
            call(nr::MEMFD_CREATE, [name.as_ptr() as usize, 0, 0]);
            (0..200).for_each(|_| {
                call(nr::GETPPID, [0; 3]);
            });
        }
        "wait" => std::thread::sleep(std::time::Duration::from_secs(5)),
        "nothing" => (),
        other => panic!("no child action {other}"),
    }
}

fn classes() {
    let null = CString::new("/dev/null").expect("no NUL");
    let missing = CString::new("/no/such/file").expect("no NUL");
    let at_cwd = libc::AT_FDCWD as usize;
    let buffer = [0u8; 64];
    mark();
    // SAFETY: plain system calls on values that live here.
    unsafe {
        let fd = libc::syscall(libc::SYS_openat, at_cwd, null.as_ptr(), libc::O_WRONLY) as usize;
        libc::syscall(libc::SYS_write, fd, buffer.as_ptr(), 64);
        libc::syscall(libc::SYS_openat, at_cwd, missing.as_ptr(), libc::O_RDONLY);
        libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0);
        libc::syscall(libc::SYS_dup3, fd, 1, 0);
        libc::syscall(
            libc::SYS_mmap,
            0,
            4096,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
    }
    mark();
}

extern "C" fn leave(_: *mut libc::c_void) -> libc::c_int {
    // SAFETY: ends this task only.
    unsafe { libc::_exit(0) }
}

fn births() {
    // SAFETY: the children leave at once without touching the parent's state.
    unsafe {
        if libc::fork() == 0 {
            libc::_exit(0);
        }
        // What vfork does, on a stack of its own: returning from vfork itself is not for compiled languages.
        let mut stack = vec![0u8; 64 << 10];
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        assert!(libc::clone(leave, top, flags, std::ptr::null_mut()) > 0);
        let mut args = [0u64; 11];
        args[4] = libc::SIGCHLD as u64;
        if libc::syscall(libc::SYS_clone3, args.as_ptr(), 88) == 0 {
            libc::_exit(0);
        }
    }
    let status = std::process::Command::new("/bin/true").status().expect("posix_spawn");
    assert!(status.success());
    // SAFETY: waits for the children above.
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
}

fn double_fork() {
    // SAFETY: each process leaves by _exit; the grandchild outlives its parent and so gets another one.
    unsafe {
        if libc::fork() == 0 {
            if libc::fork() == 0 {
                libc::usleep(100_000);
                let path = c"/bin/true";
                libc::execv(
                    path.as_ptr(),
                    [path.as_ptr(), c"--child".as_ptr(), c"nothing".as_ptr(), std::ptr::null()].as_ptr(),
                );
                libc::_exit(1);
            }
            libc::_exit(0);
        }
        libc::wait(std::ptr::null_mut());
        libc::usleep(300_000);
    }
}

fn exec_by_thread() {
    let thread = std::thread::spawn(|| {
        let path = c"/bin/true";
        // SAFETY: NUL-terminated path and a NULL-terminated vector.
        unsafe {
            libc::execv(
                path.as_ptr(),
                [path.as_ptr(), c"--child".as_ptr(), c"nothing".as_ptr(), std::ptr::null()].as_ptr(),
            )
        };
    });
    let _ = thread.join();
}

fn run_from_memory() {
    let program = std::fs::read("/proc/self/exe").expect("a program");
    // SAFETY: a new descriptor that nobody else owns.
    let memory = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"payload".as_ptr(), 0)) };
    let mut file = std::fs::File::from(memory);
    std::io::Write::write_all(&mut file, &program).expect("memory");
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no NUL");
    // SAFETY: as above.
    unsafe {
        libc::execv(path.as_ptr(), [path.as_ptr(), c"--child".as_ptr(), c"nothing".as_ptr(), std::ptr::null()].as_ptr())
    };
}

// ---- What the kernel must have seen --------------------------------------------------------------------------------

/// Every thread's calls, windows put together in order.
fn traces(records: &[(Lane, Record)]) -> BTreeMap<u32, Vec<u16>> {
    let mut windows: Vec<&Window> = records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Window(window) if window.why != Why::Early as u8 => Some(&**window),
            _ => None,
        })
        .collect();
    windows.sort_by_key(|window| window.start_boot_ns);
    let mut traces = BTreeMap::<u32, Vec<u16>>::new();
    for window in windows {
        traces.entry(window.tid).or_default().extend(&window.trace[..usize::from(window.n)]);
    }
    traces
}

/// What stands between the two marks.
fn marked(records: &[(Lane, Record)]) -> Vec<u16> {
    let traces = traces(records);
    let is_mark = |token: &u16| token::number(*token) == MARK;
    let trace = traces.values().find(|trace| trace.iter().any(is_mark)).expect("a thread with marks");
    let inner = trace.iter().skip_while(|token| !is_mark(token)).skip(1).take_while(|token| !is_mark(token));
    inner.copied().collect()
}

fn a_trace_is_the_sequence_of_issued_calls() {
    let watch = Watch::new("sequence");
    run(&mut watch.child("sequence"));
    let outcome = watch.finish();
    let bad_fd = token::token(nr::CLOSE, Outcome::Invalid, arg::PLAIN);
    let once = [
        token::token(nr::GETPID, Outcome::Ok, 0),
        token::token(nr::GETUID, Outcome::Ok, 0),
        token::token(nr::GETGID, Outcome::Ok, 0),
        bad_fd,
    ];
    assert_eq!(marked(&outcome.records), once.repeat(100));
}

fn errors_bytes_and_argument_classes_are_counted() {
    let watch = Watch::new("classes");
    run(&mut watch.child("classes"));
    let outcome = watch.finish();
    let expected = [
        token::token(nr::OPENAT, Outcome::Ok, arg::OPEN_WRITE),
        token::token(nr::WRITE, Outcome::Ok, arg::PLAIN),
        token::token(nr::OPENAT, Outcome::NotFound, arg::OPEN_READ),
        token::token(nr::SOCKET, Outcome::Ok, arg::SOCK_STREAM),
        token::token(nr::DUP3, Outcome::Ok, arg::DUP_STDIO),
        token::token(nr::MMAP, Outcome::Ok, arg::MEM_EXEC),
    ];
    assert_eq!(marked(&outcome.records), expected);
    let written: u64 = outcome
        .records
        .iter()
        .map(|(_, record)| if let Record::Window(window) = record { window.write_bytes } else { 0 })
        .sum();
    assert!(written >= 64, "the 64 bytes are among {written}");
}

fn forks(records: &[(Lane, Record)]) -> Vec<collector_common::process::Fork> {
    records.iter().filter_map(|(_, record)| if let Record::Fork(fork) = record { Some(*fork) } else { None }).collect()
}

fn execs(records: &[(Lane, Record)]) -> Vec<collector_common::process::Exec> {
    records.iter().filter_map(|(_, record)| if let Record::Exec(exec) = record { Some(**exec) } else { None }).collect()
}

fn file_of(exec: &collector_common::process::Exec) -> String {
    String::from_utf8_lossy(&exec.file[..usize::from(exec.file_len)]).into_owned()
}

fn lineage_follows_fork_vfork_clone3_and_posix_spawn() {
    let watch = Watch::new("births");
    run(&mut watch.child("births"));
    let outcome = watch.finish();
    let own = execs(&outcome.records)[0].header.cookie;
    let children: Vec<_> = forks(&outcome.records).into_iter().filter(|fork| fork.header.cookie == own).collect();
    assert_eq!(children.len(), 4, "fork, vfork, clone3, posix_spawn");
    let ended = outcome.records.iter().filter(|(_, record)| matches!(record, Record::Exit(exit) if children.iter().any(|fork| fork.child == exit.header.cookie))).count();
    assert_eq!(ended, 4, "each child's end is reported once");
    let spawned =
        execs(&outcome.records).into_iter().find(|exec| file_of(exec) == "/bin/true").expect("the spawned program");
    assert_eq!(spawned.parent, own);
}

fn a_double_fork_keeps_its_ancestors() {
    let watch = Watch::new("double-fork");
    run(&mut watch.child("double-fork"));
    let outcome = watch.finish();
    let all = execs(&outcome.records);
    let (own, orphan) =
        (all[0].header.cookie, all.iter().find(|exec| file_of(exec) == "/bin/true").expect("the orphan's program"));
    let births = forks(&outcome.records);
    let middle = births.iter().find(|fork| fork.header.cookie == own).expect("the child");
    assert_eq!(orphan.parent, middle.child, "the creator, not whoever adopted it");
    let last = births.iter().find(|fork| fork.child == orphan.header.cookie).expect("the grandchild");
    assert_eq!(last.root, middle.root);
}

fn an_exec_by_another_thread_keeps_the_identity() {
    let watch = Watch::new("exec-by-thread");
    run(&mut watch.child("exec-by-thread"));
    let outcome = watch.finish();
    let all = execs(&outcome.records);
    let (before, after) = (&all[0], all.iter().find(|exec| file_of(exec) == "/bin/true").expect("the new program"));
    assert_eq!(after.header.cookie, before.header.cookie, "the process is the same");
    assert_ne!(after.bits & EXEC_NON_LEADER, 0);
    assert_ne!(after.old_tid, header::tgid_of(after.header.cookie));
    let ends = outcome
        .records
        .iter()
        .filter(|(_, record)| matches!(record, Record::Exit(exit) if exit.header.cookie == before.header.cookie));
    assert_eq!(ends.count(), 1);
}

fn a_script_shows_its_name_and_arguments() {
    let watch = Watch::new("script");
    let script = std::env::temp_dir().join(format!("stockade-script-{}", std::process::id()));
    std::fs::write(&script, "#!/bin/sh\nexit 0\n").expect("a script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    run(watch.cgroup.command(&script).arg("one").arg("two words"));
    let outcome = watch.finish();
    let _ = std::fs::remove_file(&script);
    let exec =
        execs(&outcome.records).into_iter().find(|exec| file_of(exec) == script.to_string_lossy()).expect("the script");
    assert_ne!(exec.bits & EXEC_SCRIPT, 0);
    let argv = &exec.argv[..usize::from(exec.argv_len)];
    let args: Vec<_> =
        argv.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(String::from_utf8_lossy).collect();
    assert_eq!(args[1..], [script.to_string_lossy().into_owned(), "one".into(), "two words".into()]);
    assert_eq!(exec.argv_full as usize, argv.len());
}

fn a_program_from_memory_is_marked() {
    let watch = Watch::new("memory");
    run(&mut watch.child("memory"));
    let outcome = watch.finish();
    let all = execs(&outcome.records);
    let (first, last) = (&all[0], all.last().expect("two"));
    assert_eq!(first.bits & (EXEC_MEMORY | EXEC_UNLINKED), 0);
    assert_eq!(last.bits & (EXEC_MEMORY | EXEC_UNLINKED), EXEC_MEMORY | EXEC_UNLINKED);
}

fn a_shell_on_a_socket_is_marked() {
    let watch = Watch::new("socket");
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    let mut command = watch.child("nothing");
    let status = command.stdin(OwnedFd::from(theirs)).status().expect("a child");
    assert!(status.success());
    run(&mut watch.child("nothing"));
    let all = execs(&watch.finish().records);
    assert_ne!(all[0].bits & EXEC_STDIO_SOCKET, 0);
    assert_eq!(all.last().expect("the second").bits & EXEC_STDIO_SOCKET, 0);
}

fn novel_calls_of_a_known_executable_are_reported_early() {
    let mut watch = Watch::new("novel");
    run(&mut watch.child("nothing"));
    let exec = match watch.wait_for("exec", |record| matches!(record, Record::Exec(_))) {
        Record::Exec(exec) => exec,
        _ => unreachable!(),
    };
    // Everything that a run without the novel call does is normal.
    run(&mut watch.child("storm"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut bits: Vec<u32> = Vec::new();
    for record in watch.records() {
        if let Record::Window(window) = record {
            let numbers: Vec<u16> =
                window.trace[..usize::from(window.n)].iter().map(|token| token::number(*token)).collect();
            bits.extend(numbers.windows(3).map(|three| trigram_bit(token::trigram(three[0], three[1], three[2]))));
        }
    }
    watch.kernel.fill_row(1, &bits).expect("a row");
    watch.kernel.point(RowKey { cgroup: watch.cgroup.id(), exe: exec.exe }, 1).expect("a key");
    watch.kernel.announce_rows().expect("control");
    run(&mut watch.child("novel"));
    let early = watch.wait_for("early window", |record| matches!(record, Record::Window(window) if window.why == Why::Early as u8 && window.header.flags & collector_common::syscall::WINDOW_TRIGGER != 0));
    let Record::Window(early) = early else { unreachable!() };
    assert_eq!(early.row, 1);
    assert!(early.trace[..usize::from(early.n)].iter().any(|token| token::number(*token) == nr::MEMFD_CREATE));
}

fn the_ledger_closes_under_a_storm_with_a_tiny_ring() {
    let watch = Watch::with("storm", |options| {
        options.bulk_bytes = 4096;
        options.ctrl_bytes = 64 << 10;
    });
    let children: Vec<_> = (0..4).map(|_| watch.child("storm").spawn().expect("a child")).collect();
    for mut child in children {
        child.wait().expect("its end");
    }
    let outcome = watch.finish();
    let calls = outcome.of(Program::Syscall);
    assert!(calls.ring_full > 0, "the ring was meant to overflow: {calls:?}");
    assert!(calls.seen > 800_000, "{calls:?}");
    // Every process has ended, so no window is open.
    assert_eq!(calls.seen, calls.recorded + calls.skipped + calls.missed + calls.no_storage, "{calls:?}");
    let windows: Vec<_> = outcome
        .records
        .iter()
        .filter_map(|(_, record)| if let Record::Window(window) = record { Some(window) } else { None })
        .collect();
    assert_eq!(windows.len() as u64, calls.attempted - calls.ring_full, "written = read");
    let read: u64 =
        windows.iter().filter(|window| window.why != Why::Early as u8).map(|window| u64::from(window.n)).sum();
    assert_eq!(read, calls.recorded);
    let reconciled = outcome.ledger.reconcile(&outcome.stats);
    assert!(reconciled.closes(), "{reconciled:?}");
    assert!(windows.iter().any(|window| window.missed > 0), "a window says how many calls it lost");
}

fn a_cookie_agrees_with_proc() {
    let watch = Watch::new("cookie");
    let child = watch.child("wait").spawn().expect("a child");
    let pid = child.id();
    let record = watch.wait_for("exec", |record| matches!(record, Record::Exec(exec) if header::tgid_of(exec.header.cookie) == pid && file_of(exec).contains("kernel")));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .expect("field 22");
    assert_eq!(record.header().cookie, cookie_of(ticks * 10_000_000, pid));
    support::end(child);
}
