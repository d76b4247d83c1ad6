//! Processes that are older than the agent, and those whose records were lost: read from `/proc` and turned into the exec
//! records that the kernel would have written, so that recordings hold them like all others.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use collector_common::header::cookie_of_ticks;
use collector_common::process::{EXEC_MEMORY, EXEC_PRE_EXISTING, EXEC_SUID, EXEC_UNLINKED, Exec, TEXT};
use collector_common::{ABI, ExeId, Header, Kind};

use super::cgroup::{CgroupTree, Membership};

/// Longest file of `/proc/PID` that is read.
const LONGEST_FILE: u64 = 64 << 10;
/// Nanoseconds in a tick of field 22 of `/proc/PID/stat`.
const NS_PER_TICK: u64 = 10_000_000;
/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What `/proc/PID/stat` says, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name of the task, at most 15 bytes.
    pub name: String,
    /// Parent.
    pub parent: u32,
    /// Start time in ticks since boot.
    pub start_ticks: u64,
    /// Not a process but a thread of the kernel.
    pub is_kernel_thread: bool,
}

impl Stat {
    /// Reads the text of `/proc/PID/stat`. The name is in brackets and may hold brackets itself, so the last one counts.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        // `after` starts with field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            name,
            parent: field(4)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            is_kernel_thread: field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        })
    }
}

/// Real and effective user and real group, from the text of `/proc/PID/status`.
fn users(status: &str) -> Option<(u32, u32, u32)> {
    let numbers = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let numbers: Vec<u32> = line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
        Some((*numbers.first()?, *numbers.get(1)?))
    };
    let ((uid, euid), (gid, _)) = (numbers("Uid:")?, numbers("Gid:")?);
    Some((uid, euid, gid))
}

/// A mounted procfs.
#[derive(Clone, Debug)]
pub struct ProcDir {
    root: PathBuf,
}

impl ProcDir {
    /// The procfs mounted at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Every process, parents before their children. Those that end meanwhile are left out.
    pub fn take_in(&self, cgroups: Option<&CgroupTree>) -> Vec<Exec> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        parents_first(pids.filter_map(|pid| self.process(pid, cgroups)).collect())
    }

    /// One process as an exec record that is marked pre-existing; `None` when there is no such process (any more).
    pub fn process(&self, pid: u32, cgroups: Option<&CgroupTree>) -> Option<Exec> {
        let stat = Stat::parse(&self.text(pid, "stat")?)?;
        let (uid, euid, gid) = users(&self.text(pid, "status")?)?;
        let mut exec = Exec {
            header: Header {
                kind: Kind::Exec as u8,
                abi: ABI,
                len: size_of::<Exec>() as u16,
                boot_ns: stat.start_ticks.saturating_mul(NS_PER_TICK),
                cookie: cookie_of_ticks(stat.start_ticks, pid),
                ..Header::default()
            },
            parent: self.cookie(stat.parent).unwrap_or(0),
            old_tid: pid,
            bits: EXEC_PRE_EXISTING | if uid == euid { 0 } else { EXEC_SUID },
            uid,
            euid,
            gid,
            loginuid: self.text(pid, "loginuid").and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX),
            cgroup: self.cgroup(pid, cgroups),
            netns: self.namespace(pid, "net"),
            pidns: self.namespace(pid, "pid"),
            mntns: self.namespace(pid, "mnt"),
            ..Exec::default()
        };
        if stat.is_kernel_thread {
            set_text(&mut exec.file, &mut exec.file_len, format!("[{}]", stat.name).as_bytes());
        } else {
            self.set_executable(pid, &mut exec);
        }
        // The pid may have been reused while its files were read.
        (self.cookie(pid) == Some(exec.header.cookie)).then_some(exec)
    }

    /// The cookie of a running process.
    pub fn cookie(&self, pid: u32) -> Option<u64> {
        (pid != 0).then_some(())?;
        Some(cookie_of_ticks(Stat::parse(&self.text(pid, "stat")?)?.start_ticks, pid))
    }

    /// Where a process is in the cgroup hierarchies.
    pub fn membership(&self, pid: u32) -> Option<Membership> {
        Some(Membership::parse(&self.text(pid, "cgroup")?))
    }

    /// The path behind `/proc/PID/exe`; ends in ` (deleted)` when the file has no name any more.
    pub fn exe_path(&self, pid: u32) -> Option<String> {
        fs::read_link(self.of(pid, "exe")).ok().map(|path| path.to_string_lossy().into_owned())
    }

    fn set_executable(&self, pid: u32, exec: &mut Exec) {
        let argv = self.bytes(pid, "cmdline").unwrap_or_default();
        exec.argv_full = argv.len() as u32;
        set_text(&mut exec.argv, &mut exec.argv_len, &argv);
        let path = self.exe_path(pid).unwrap_or_default();
        let about = fs::metadata(self.of(pid, "exe")).ok();
        if let Some(about) = &about {
            exec.exe = ExeId { ino: about.ino(), dev: kernel_device(about.dev()), generation: 0 };
            if about.nlink() == 0 {
                exec.bits |= EXEC_UNLINKED;
            }
        }
        if path.starts_with("/memfd:") {
            exec.bits |= EXEC_MEMORY;
        }
        let first = argv.split(|byte| *byte == 0).next().and_then(|first| std::str::from_utf8(first).ok());
        let asked = first.filter(|first| first.starts_with('/') && self.is_same_file(pid, first, exec.exe));
        let path = asked.unwrap_or_else(|| path.strip_suffix(" (deleted)").unwrap_or(&path));
        set_text(&mut exec.file, &mut exec.file_len, path.as_bytes());
    }

    /// Whether `path`, as the process itself would see it, is its executable: then that is the name it was started by
    /// (`/bin/sh` and not `/usr/bin/dash`). The process may have rewritten its arguments, but not to another file.
    fn is_same_file(&self, pid: u32, path: &str, exe: ExeId) -> bool {
        let path = self.of(pid, "root").join(path.trim_start_matches('/'));
        fs::metadata(path).is_ok_and(|about| about.ino() == exe.ino && kernel_device(about.dev()) == exe.dev)
    }

    fn cgroup(&self, pid: u32, cgroups: Option<&CgroupTree>) -> u64 {
        let path = self.membership(pid).and_then(|membership| membership.unified);
        cgroups.zip(path).and_then(|(tree, path)| tree.id(&path)).unwrap_or(0)
    }

    /// The inode in a link like `net:[4026531840]`.
    fn namespace(&self, pid: u32, kind: &str) -> u32 {
        let link = fs::read_link(self.of(pid, "ns").join(kind)).ok();
        let inode = link
            .as_deref()
            .and_then(Path::to_str)
            .and_then(|text| text.split_once('[')?.1.strip_suffix(']')?.parse().ok());
        inode.unwrap_or(0)
    }

    fn of(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(name)
    }

    fn bytes(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.of(pid, name)).ok()?.take(LONGEST_FILE).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn text(&self, pid: u32, name: &str) -> Option<String> {
        self.bytes(pid, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn set_text(field: &mut [u8; TEXT], len: &mut u16, text: &[u8]) {
    let stored = text.len().min(TEXT);
    field[..stored].copy_from_slice(&text[..stored]);
    *len = stored as u16;
}

/// `stat`'s device number to the kernel's: `major << 20 | minor`.
fn kernel_device(device: u64) -> u32 {
    let major = (device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000);
    let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00);
    (major << 20 | minor) as u32
}

/// Orders records so that a parent that is among them comes first; otherwise oldest first.
fn parents_first(mut execs: Vec<Exec>) -> Vec<Exec> {
    execs.sort_by_key(|exec| (exec.header.boot_ns, exec.header.cookie));
    let at: HashMap<u64, usize> = execs.iter().enumerate().map(|(at, exec)| (exec.header.cookie, at)).collect();
    let mut placed = HashSet::new();
    let mut ordered = Vec::with_capacity(execs.len());
    for exec in &execs {
        // From the process up to the nearest ancestor that was placed; a cycle (only in damaged data) ends it too.
        let mut chain = Vec::new();
        let mut next = Some(exec);
        while let Some(one) = next {
            if !placed.insert(one.header.cookie) {
                break;
            }
            chain.push(*one);
            next = at.get(&one.parent).map(|at| &execs[*at]);
        }
        ordered.extend(chain.into_iter().rev());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use collector_common::bytes_of;
    use proptest::prelude::*;

    use super::*;
    use crate::decode::{Record, decode};

    fn stat_line(name: &str, parent: u32, flags: u64, start: u64) -> String {
        format!("1 ({name}) S {parent} 1 1 0 -1 {flags} 1 1 1 1 1 1 1 1 20 0 1 0 {start} 1000 1 18446744073709551615")
    }

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn add(&self, pid: u32, parent: u32, start: u64, argv: &[u8]) -> PathBuf {
            let dir = self.0.path().join("proc").join(pid.to_string());
            fs::create_dir_all(dir.join("ns")).unwrap();
            fs::write(dir.join("stat"), stat_line("a) (b", parent, 0, start)).unwrap();
            fs::write(dir.join("status"), "Name:\tx\nUid:\t33\t0\t33\t33\nGid:\t34\t34\t34\t34\n").unwrap();
            fs::write(dir.join("loginuid"), "4294967295").unwrap();
            fs::write(dir.join("cgroup"), "0::/web\n").unwrap();
            fs::write(dir.join("cmdline"), argv).unwrap();
            symlink("net:[4026531840]", dir.join("ns/net")).unwrap();
            symlink(self.0.path(), dir.join("root")).unwrap();
            symlink(self.0.path().join("usr-bin-dash"), dir.join("exe")).unwrap();
            dir
        }

        fn proc(&self) -> ProcDir {
            fs::write(self.0.path().join("usr-bin-dash"), "").unwrap();
            ProcDir::new(self.0.path().join("proc"))
        }
    }

    #[test]
    fn a_process_becomes_a_good_exec_record() {
        let host = Fixture::new();
        host.add(1, 0, 0, b"/sbin/init\0");
        host.add(40, 1, 250, b"sh\0-c\0id\0");
        fs::create_dir_all(host.0.path().join("cgroup/web")).unwrap();
        let cgroups = CgroupTree::new(host.0.path().join("cgroup"));
        let exec = host.proc().process(40, Some(&cgroups)).unwrap();
        assert!(matches!(decode(bytes_of(&exec)), Ok(Record::Exec(_))));
        assert_eq!((exec.header.cookie, exec.parent), (cookie_of_ticks(250, 40), cookie_of_ticks(0, 1)));
        assert_eq!(exec.header.boot_ns, 2_500_000_000);
        assert_eq!((exec.uid, exec.euid, exec.gid, exec.loginuid), (33, 0, 34, u32::MAX));
        assert_eq!(exec.bits, EXEC_PRE_EXISTING | EXEC_SUID);
        assert_eq!((exec.netns, exec.mntns), (4_026_531_840, 0));
        assert_eq!(Some(exec.cgroup), cgroups.id("/web"));
        assert_eq!(&exec.argv[..usize::from(exec.argv_len)], b"sh\0-c\0id\0");
        assert!(exec.file.starts_with(host.0.path().join("usr-bin-dash").to_str().unwrap().as_bytes()));
    }

    #[test]
    fn the_name_asked_for_is_kept_when_it_is_the_same_file() {
        let host = Fixture::new();
        symlink("usr-bin-dash", host.0.path().join("sh")).unwrap();
        host.add(7, 0, 1, b"/sh\0");
        host.add(8, 0, 1, b"/usr-bin-lies\0");
        let proc = host.proc();
        let name = |exec: Exec| String::from_utf8(exec.file[..usize::from(exec.file_len)].to_vec()).unwrap();
        assert_eq!(name(proc.process(7, None).unwrap()), "/sh");
        assert!(name(proc.process(8, None).unwrap()).ends_with("usr-bin-dash"));
    }

    #[test]
    fn kernel_threads_are_named_in_brackets() {
        let host = Fixture::new();
        let dir = host.add(2, 0, 0, b"");
        fs::write(dir.join("stat"), stat_line("kthreadd", 0, KERNEL_THREAD, 0)).unwrap();
        let exec = host.proc().process(2, None).unwrap();
        assert_eq!((&exec.file[..10], exec.exe.ino), (b"[kthreadd]".as_slice(), 0));
    }

    #[test]
    fn parents_come_first_even_when_started_later() {
        let host = Fixture::new();
        // Pid 30 was adopted by 20, which is younger.
        host.add(30, 20, 5, b"x\0");
        host.add(20, 1, 9, b"x\0");
        host.add(1, 0, 0, b"x\0");
        let order: Vec<u32> = host
            .proc()
            .take_in(None)
            .iter()
            .map(|exec| collector_common::header::tgid_of(exec.header.cookie))
            .collect();
        assert_eq!(order, [1, 20, 30]);
    }

    #[test]
    fn this_process_is_found_on_this_host() {
        let proc = ProcDir::new("/proc");
        let pid = std::process::id();
        let exec = proc.process(pid, None).unwrap();
        assert_eq!(Some(exec.header.cookie), proc.cookie(pid));
        let about = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(exec.exe.ino, about.ino());
        assert!(proc.take_in(None).iter().any(|other| other.header.cookie == exec.header.cookie));
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        assert_eq!(kernel_device(0x0801), 8 << 20 | 1);
        assert_eq!(kernel_device(0x0010_0301), 3 << 20 | 0x101);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in ".{0,300}", status in "(Uid:|Gid:|x)?[0-9\t ]{0,40}\n(Gid:[0-9\t ]{0,20})?") {
            let _ = Stat::parse(&text);
            let _ = users(&status);
        }

        #[test]
        fn ordering_keeps_every_record(parents in proptest::collection::vec(0u64..20, 0..20)) {
            let execs: Vec<Exec> = parents
                .iter()
                .enumerate()
                .map(|(at, parent)| Exec {
                    header: Header { cookie: at as u64, ..Header::default() },
                    parent: *parent,
                    ..Exec::default()
                })
                .collect();
            prop_assert_eq!(parents_first(execs).len(), parents.len());
        }
    }
}
