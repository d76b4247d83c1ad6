//! Does the kernel really ask our LSM programs, and does their answer count? Proved on a child of our own.
//!
//! That a program loads and attaches proves nothing: without `bpf` in the boot's list of security modules it is never asked.
//! The child does everything that can be denied, first while it may and then while an entry forbids it, and says how each
//! went. Only what changed from "done" to EPERM is proven.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aya::maps::{Array, HashMap, MapData};
use aya::programs::ProgramType;
use aya::sys::is_program_supported;
use collector_common::ExeId;
use collector_common::deny::{ACTIONS, Entry};
use collector_common::map::{Control, Lineage};

use super::{Kernel, LoadError};
use crate::enrich::clock::boot_now;

/// First argument of the child.
const ASKED: &str = "--stockade-canary";
/// Argument of the program that the child tries to become.
const BECAME: &str = "became";
/// How long the entry stands at most, should we die in between.
const DEADLINE_NS: u64 = 10_000_000_000;
/// What our programs answer, and what the kernel makes of it where it only asks whether something may be looked at.
const REFUSED: [i32; 2] = [1, 13];

/// The programs that the child can prove, and what their operation is called between us. The others hook the same way and
/// differ in the operation only (truncation by path has no safe call, module files need a module).
const OPERATIONS: &[(&str, &str)] = &[
    ("deny_open", "open"),
    ("deny_create", "create"),
    ("deny_rename", "rename"),
    ("deny_unlink", "unlink"),
    ("deny_ftruncate", "ftruncate"),
    ("deny_hatch", "hatch"),
    ("deny_socket", "socket"),
    ("deny_ptrace", "ptrace"),
    ("deny_module_data", "module"),
    ("deny_bpf", "bpf"),
    ("deny_exec", "exec"),
];

/// Plays the child, if this process was started as one. The first thing that a program which loads the kernel object does.
pub fn act_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some(ASKED) {
        return;
    }
    if args.get(2).map(String::as_str) == Some(BECAME) {
        println!("exec 0");
    } else {
        act(Path::new(args.get(2).map_or("", String::as_str)));
    }
    std::process::exit(0);
}

fn act(directory: &Path) {
    let Ok(held) = fs::File::options().write(true).open(directory.join("held")) else { return };
    for (round, line) in io::stdin().lines().take(2).enumerate() {
        if line.is_err() {
            return;
        }
        let place = directory.join(round.to_string());
        for (operation, outcome) in attempts(&place, directory, &held) {
            println!("{operation} {}", outcome.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
        }
        println!("done 0");
        let _ = io::stdout().flush();
    }
    let error = Command::new("/proc/self/exe").args([ASKED, BECAME]).exec();
    println!("exec {}", error.raw_os_error().unwrap_or(-1));
}

fn attempts(place: &Path, directory: &Path, held: &fs::File) -> Vec<(&'static str, io::Result<()>)> {
    let file = |name: &str| place.join(name);
    vec![
        ("open", fs::File::options().write(true).open(file("d")).map(|_| ())),
        ("create", fs::File::create_new(file("created")).map(|_| ())),
        ("rename", fs::rename(file("a"), file("b"))),
        ("unlink", fs::remove_file(file("c"))),
        // By a descriptor that was open before anything was denied.
        ("ftruncate", held.set_len(1)),
        ("hatch", UnixStream::connect(directory.join("hatch")).map(|_| ())),
        ("socket", raw_socket()),
        ("ptrace", fs::File::open(format!("/proc/{}/mem", std::os::unix::process::parent_id())).map(|_| ())),
        ("module", load_nothing()),
        ("bpf", try_bpf()),
    ]
}

fn raw_socket() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    Ok(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).map(|_| ())?)
}

fn load_nothing() -> io::Result<()> {
    match rustix::system::init_module(&[0; 256], c"") {
        // The kernel looked at the image: it was not forbidden.
        Err(rustix::io::Errno::NOEXEC | rustix::io::Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

fn try_bpf() -> io::Result<()> {
    match is_program_supported(ProgramType::SocketFilter) {
        Ok(true) => Ok(()),
        _ => Err(io::Error::from_raw_os_error(REFUSED[0])),
    }
}

impl Kernel {
    /// Proves the LSM programs on a child; what does not deny is marked as off. Returns how many do.
    ///
    /// # Errors
    ///
    /// When the child cannot be started or the maps cannot be written: then nothing is proven and every LSM program is off.
    pub fn prove(&mut self) -> Result<usize, String> {
        if !self.attached.iter().any(|done| is_lsm(done) && done.off.is_none()) {
            return Ok(0);
        }
        let outcome = Canary::new().map_err(|error| format!("cannot start a child to prove denials: {error}"));
        let outcome = outcome.and_then(|mut canary| canary.sing(self).map_err(|error| error.to_string()));
        let proven = outcome.as_ref().ok();
        let nothing = proven.is_none_or(|proven| !proven.values().any(|denied| *denied));
        for done in self.attached.iter_mut().filter(|done| is_lsm(done)) {
            if done.off.is_some() {
                continue;
            }
            let Some((_, operation)) = OPERATIONS.iter().find(|(program, _)| *program == done.row.program) else {
                // What the child cannot try stands and falls with the rest.
                done.off = nothing.then(|| "attached, but the kernel does not ask any of its kind".to_owned());
                continue;
            };
            done.off = match proven.map(|proven| proven.get(*operation)) {
                Some(Some(true)) => None,
                Some(_) => Some("attached, but the kernel does not ask it: a denied child was not denied".to_owned()),
                None => Some("attached, but not proven".to_owned()),
            };
        }
        outcome.map(|proven| proven.values().filter(|denied| **denied).count())
    }
}

fn is_lsm(done: &super::Attached) -> bool {
    matches!(done.row.hook, super::Hook::Lsm(_))
}

struct Canary {
    directory: PathBuf,
    child: std::process::Child,
    answers: io::Lines<BufReader<std::process::ChildStdout>>,
    _hatch: UnixListener,
}

impl Canary {
    fn new() -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("stockade-canary-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory)?;
        for round in ["0", "1"] {
            let place = directory.join(round);
            fs::create_dir(&place)?;
            for name in ["a", "c", "d"] {
                fs::write(place.join(name), "canary")?;
            }
        }
        fs::write(directory.join("held"), "canary")?;
        let hatch = UnixListener::bind(directory.join("hatch"))?;
        let mut child = Command::new("/proc/self/exe")
            .args([ASKED.as_ref(), directory.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let answers = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        Ok(Self { directory, child, answers: BufReader::new(answers).lines(), _hatch: hatch })
    }

    /// Which operations are denied by an entry and only by it.
    fn sing(&mut self, kernel: &mut Kernel) -> Result<BTreeMap<String, bool>, CanaryError> {
        let before = self.round()?;
        let cookie = self.cookie()?;
        let told = self.under_an_entry(kernel, cookie);
        let mut denied: BTreeMap<String, bool> = BTreeMap::new();
        for (operation, errno) in told? {
            let free = before.get(&operation).copied().unwrap_or(0);
            denied.insert(operation, free == 0 && REFUSED.contains(&errno));
        }
        Ok(denied)
    }

    fn under_an_entry(&mut self, kernel: &mut Kernel, cookie: u64) -> Result<BTreeMap<String, i32>, CanaryError> {
        let tgid = self.child.id();
        let mut trees: HashMap<MapData, u64, Entry> = kernel.duplicate("deny_tree")?.try_into()?;
        let mut control: Array<MapData, Control> = kernel.duplicate("control")?.try_into()?;
        let mut hatches: HashMap<MapData, ExeId, u32> = kernel.duplicate("hatches")?.try_into()?;
        let hatch = socket_id(&self.directory.join("hatch"))?;
        kernel.take_in(tgid, &Lineage { cookie, root: cookie, ..Lineage::default() })?;
        hatches.insert(hatch, 1, 0)?;
        let entry = Entry { until_ns: [boot_now() + DEADLINE_NS; ACTIONS], ..Entry::default() };
        trees.insert(cookie, entry, 0)?;
        let before = control.get(&0, 0)?;
        control.set(0, Control { active_tree: before.active_tree + 1, disarmed: 0, ..before }, 0)?;
        let told = self.round().and_then(|mut told| {
            // The child's last words are about exec.
            if let Some((operation, errno)) = self.answer()? {
                told.insert(operation, errno);
            }
            Ok(told)
        });
        control.set(0, before, 0)?;
        trees.remove(&cookie)?;
        hatches.remove(&hatch)?;
        kernel.forget(tgid)?;
        told
    }

    fn round(&mut self) -> Result<BTreeMap<String, i32>, CanaryError> {
        let stdin = self.child.stdin.as_mut().ok_or_else(|| io::Error::other("no input"))?;
        stdin.write_all(b"go\n")?;
        let mut told = BTreeMap::new();
        while let Some((operation, errno)) = self.answer()? {
            if operation == "done" {
                break;
            }
            told.insert(operation, errno);
        }
        Ok(told)
    }

    fn answer(&mut self) -> Result<Option<(String, i32)>, CanaryError> {
        let Some(line) = self.answers.next().transpose()? else { return Ok(None) };
        let (operation, errno) = line.split_once(' ').ok_or_else(|| io::Error::other("not an answer"))?;
        Ok(Some((operation.to_owned(), errno.parse().unwrap_or(-1))))
    }

    fn cookie(&self) -> io::Result<u64> {
        super::selfcheck::cookie_in_proc(self.child.id()).ok_or_else(|| io::Error::other("the child is not in /proc"))
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A bound socket as the hatch program identifies it: without a generation.
pub fn socket_id(path: &Path) -> io::Result<ExeId> {
    let about = fs::metadata(path)?;
    let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    Ok(ExeId { ino: about.ino(), dev: major << 20 | (minor & 0xf_ffff), generation: 0 })
}

#[derive(Debug, thiserror::Error)]
enum CanaryError {
    #[error("the child: {0}")]
    Child(#[from] io::Error),
    #[error("the deny maps: {0}")]
    Map(#[from] aya::maps::MapError),
    #[error("{0}")]
    Load(#[from] LoadError),
}
