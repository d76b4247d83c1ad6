//! A child that does what it is told and says how it went.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use collector_common::header::cookie_of_ticks;

use crate::support::Cgroup;

/// The puppet's strings.
pub struct Puppet {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Puppet {
    pub fn start(cgroup: &Cgroup) -> Self {
        let mut command = cgroup.command(std::env::current_exe().expect("own path"));
        let command = command.args(["--child", "puppet"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a puppet");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        let mut puppet = Self { child, answers };
        assert_eq!(puppet.errno(&["nothing"]), 0, "it moves");
        puppet
    }

    /// Makes it do something; 0 or the errno.
    pub fn errno(&mut self, deed: &[&str]) -> i32 {
        let line = format!("{}\n", deed.join("\t"));
        self.child.stdin.as_mut().expect("its input").write_all(line.as_bytes()).expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().parse().unwrap_or_else(|_| panic!("{deed:?}: {answer:?}"))
    }

    pub fn cookie(&self) -> u64 {
        let pid = self.child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
        let ticks = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).expect("field 22");
        cookie_of_ticks(ticks.parse().expect("a number"), pid)
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The puppet itself.
pub fn act() {
    if std::env::args().any(|arg| arg == "quit") {
        return;
    }
    let mut held: Option<File> = None;
    for line in io::stdin().lines() {
        let line = line.expect("a line");
        let deed: Vec<&str> = line.split('\t').collect();
        let outcome = perform(&deed, &mut held);
        println!("{}", outcome.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
    }
}

fn perform(deed: &[&str], held: &mut Option<File>) -> io::Result<()> {
    let path = deed.get(1).copied().unwrap_or_default();
    match deed[0] {
        "nothing" => Ok(()),
        "exec" => start(path),
        "exec-memfd" => start_from_memory(path),
        "exec-script" => start_script(path),
        "fork-exec" => told_by_a_fork(|| start(path)),
        "thread-exec" => {
            let path = path.to_owned();
            std::thread::spawn(move || start(&path)).join().expect("the thread")
        }
        "open-read" => File::open(path).map(|_| ()),
        "open-write" => File::options().write(true).open(path).map(|_| ()),
        "create" => File::create_new(path).map(|_| ()),
        "truncate" => truncate(path),
        "unlink" => fs::remove_file(path),
        "rename" => fs::rename(path, deed[2]),
        "hold" => File::options().write(true).open(path).map(|file| *held = Some(file)),
        "write-held" => held.as_mut().expect("held").write_all(b"x"),
        "unix" => UnixStream::connect(path).map(|_| ()),
        "move" => fs::write(format!("{path}/cgroup.procs"), "0"),
        "ptrace" => File::open(format!("/proc/{}/mem", std::os::unix::process::parent_id())).map(|_| ()),
        "bpf" => bpf(),
        "module" => module(),
        other => panic!("no deed {other}"),
    }
}

fn start(path: &str) -> io::Result<()> {
    Command::new(path).args(["--child", "quit"]).stdin(Stdio::null()).stdout(Stdio::null()).status().map(|_| ())
}

fn start_from_memory(path: &str) -> io::Result<()> {
    // SAFETY: a constant name; the descriptor that comes back is owned by the file.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"puppet".as_ptr(), 0)) };
    io::copy(&mut File::open(path)?, &mut file)?;
    start(&format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn start_script(path: &str) -> io::Result<()> {
    if !fs::exists(path)? {
        fs::write(path, "#!/bin/sh\nexit 0\n")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    start(path)
}

fn told_by_a_fork(deed: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: this process has one thread here; the child leaves by _exit.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let code = deed().err().map_or(0, |error| error.raw_os_error().unwrap_or(127));
            libc::_exit(code);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        match libc::WEXITSTATUS(status) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

fn truncate(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path).expect("no zero byte");
    // SAFETY: a valid string.
    if unsafe { libc::truncate(path.as_ptr(), 1) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bpf() -> io::Result<()> {
    // BPF_PROG_GET_NEXT_ID: changes nothing.
    let mut attributes = [0u64; 2];
    // SAFETY: attributes of the size that is told.
    let done = unsafe { libc::syscall(libc::SYS_bpf, 11, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn module() -> io::Result<()> {
    match rustix::system::init_module(&[0; 256], c"") {
        Err(rustix::io::Errno::NOEXEC) => Ok(()),
        other => Ok(other?),
    }
}
