//! What this kernel can do, found out by trying.

use std::path::Path;

use serde::Serialize;

use super::remedy::{LOCKED_DOWN, NOT_ASKED, reason, remedy};
use super::{Attached, Hook, KERNEL_BTF, Kernel, KernelOptions, OBJECT, Pins, mount_of_cgroup2, privilege};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It works.
    Ok,
    /// It is not available here; the rest works.
    Off,
    /// Stockade cannot work.
    Fail,
}

/// One line of the doctor's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// How it is.
    pub level: Level,
    /// What was looked at.
    pub area: String,
    /// What was found.
    pub text: String,
    /// What does not work because of it.
    pub lost: String,
    /// What to do.
    pub fix: String,
}

/// One program, for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramState {
    /// Name in the object.
    pub program: &'static str,
    /// Where it goes.
    pub hook: Hook,
    /// `on`, `off`, or `replaced`: off, but another program does the same.
    pub state: &'static str,
    /// Why it is off.
    pub why: String,
    /// What does not work without it.
    pub lost: &'static str,
    /// Instructions that the verifier looked at.
    pub instructions: Option<u32>,
}

impl ProgramState {
    fn of(attached: &Attached) -> Self {
        let state = match (&attached.off, attached.replaced_by) {
            (None, _) => "on",
            (Some(_), Some(_)) => "replaced",
            (Some(_), None) => "off",
        };
        let why = attached.off.as_deref().map(reason).unwrap_or_default().to_owned();
        Self {
            program: attached.row.program,
            hook: attached.row.hook,
            state,
            why,
            lost: attached.row.lost,
            instructions: attached.instructions,
        }
    }
}

/// The doctor's report. Its form is stable: fields are added, never renamed, and `schema` says when that is not so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// 1.
    pub schema: u32,
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: &'static str,
    /// What was looked at, for people.
    pub items: Vec<Item>,
    /// Every program and its hook.
    pub programs: Vec<ProgramState>,
}

impl Report {
    fn of(items: Vec<Item>, programs: Vec<ProgramState>) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Self { schema: 1, kernel, arch: std::env::consts::ARCH, items, programs }
    }
}

fn ok(area: &str, text: impl Into<String>) -> Item {
    Item { level: Level::Ok, area: area.into(), text: text.into(), lost: String::new(), fix: String::new() }
}

fn bad(level: Level, area: &str, text: impl Into<String>, lost: &str, fix: &str) -> Item {
    Item { level, area: area.into(), text: text.into(), lost: lost.into(), fix: fix.into() }
}

/// Looks at everything. Programs are loaded and attached for a moment, to an empty cgroup made for it.
pub fn probe(bpffs: &Path) -> Report {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read("/proc/sys/kernel/osrelease");
    let mut items = vec![ok("kernel", format!("Linux {release}, {}", std::env::consts::ARCH))];
    if OBJECT.is_empty() {
        items.push(bad(
            Level::Fail,
            "object",
            "this binary was built without kernel programs",
            "everything but replay",
            "cargo xtask bpf, then build again",
        ));
        return Report::of(items, Vec::new());
    }
    items.extend(privileges());
    if items.iter().any(|item| item.level == Level::Fail) {
        return Report::of(items, Vec::new());
    }
    items.extend(lockdown());
    items.push(if Path::new(KERNEL_BTF).exists() {
        ok("types", "the kernel shows its BTF")
    } else {
        bad(
            Level::Fail,
            "types",
            "the kernel shows no BTF",
            "everything but replay",
            "a kernel with CONFIG_DEBUG_INFO_BTF=y",
        )
    });
    let mount = mount_of_cgroup2();
    items.push(match &mount {
        Some(path) => ok("cgroups", format!("v2 hierarchy at {}", path.display())),
        None => bad(
            Level::Off,
            "cgroups",
            "no v2 hierarchy is mounted",
            "flows and every network denial",
            "mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    });
    let (found, programs) = programs(mount.as_deref());
    items.extend(found);
    items.push(pins(bpffs));
    Report::of(items, programs)
}

/// Whether this process may load programs, and whether it speaks of processes as the kernel does.
fn privileges() -> Vec<Item> {
    let foreign = privilege::foreign_namespaces().into_iter().map(|foreign| {
        let text = format!("in a {} namespace that is not the kernel's own", foreign.kind);
        bad(Level::Fail, "privileges", text, foreign.lost, foreign.fix)
    });
    let lacking = privilege::lacking().into_iter().map(|lacks| {
        let level = if lacks.required { Level::Fail } else { Level::Off };
        bad(level, "privileges", format!("no {}", lacks.name), lacks.lost, privilege::REMEDY)
    });
    let found: Vec<Item> = foreign.chain(lacking).collect();
    if found.is_empty() { vec![ok("privileges", "every capability that is used")] } else { found }
}

/// A kernel in confidentiality mode lets no program read it.
fn lockdown() -> Option<Item> {
    let confidential = privilege::is_confidential()?;
    Some(if confidential {
        let text = "the kernel is locked down for confidentiality: no program may read it";
        bad(Level::Fail, "lockdown", text, "everything but replay", LOCKED_DOWN)
    } else {
        ok("lockdown", "programs may read the kernel")
    })
}

/// Loads and attaches every program to a cgroup of its own that holds no process.
fn programs(mount: Option<&Path>) -> (Vec<Item>, Vec<ProgramState>) {
    let Some(mount) = mount else { return Default::default() };
    let scope = mount.join(format!("stockade-doctor-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir(&scope) {
        let text = format!("cannot make {} to try them: {error}", scope.display());
        return (
            vec![bad(Level::Off, "programs", text, "this check", "write access to the cgroup hierarchy")],
            Vec::new(),
        );
    }
    let options = KernelOptions {
        scope: Some(scope.clone()),
        cgroup_mount: Some(mount.to_path_buf()),
        bulk_bytes: 64 << 10,
        ctrl_bytes: 64 << 10,
        ..KernelOptions::default()
    };
    let found = match Kernel::load(&options) {
        Err(error) => {
            (vec![bad(Level::Fail, "programs", error.to_string(), "everything but replay", "see the text")], Vec::new())
        }
        Ok(mut kernel) => {
            let proof = kernel.prove();
            (loaded(&kernel, proof), kernel.attached().iter().map(ProgramState::of).collect())
        }
    };
    let _ = std::fs::remove_dir(&scope);
    found
}

fn loaded(kernel: &Kernel, proof: Result<usize, String>) -> Vec<Item> {
    let attached = kernel.attached();
    let works = attached.iter().filter(|row| row.off.is_none()).count();
    let took = kernel.load_time().as_millis();
    let mut items = vec![ok("programs", format!("{works} of {} loaded and attached in {took} ms", attached.len()))];
    for row in attached.iter().filter(|row| !matches!(row.row.hook, Hook::Lsm(_))) {
        let Some(why) = &row.off else { continue };
        items.push(match row.replaced_by {
            Some(other) => ok(row.row.program, format!("not on this kernel; {other} does the same")),
            None => {
                let level = if row.is_essential() { Level::Fail } else { Level::Off };
                bad(level, row.row.program, reason(why), row.row.lost, remedy(row.row.hook, why))
            }
        });
    }
    items.extend(lsm(attached, proof));
    items.extend(kernel.missing_fields().iter().map(|field| {
        let (lost, fix) = ("that field stays unknown", "CONFIG_AUDIT=y for the login user");
        bad(Level::Off, "types", format!("the kernel has no {field}"), lost, fix)
    }));
    items.push(match kernel.self_check() {
        Ok(text) => ok("self-check", text),
        Err(text) => {
            bad(Level::Fail, "self-check", text, "nothing may be enforced", "report it with this kernel's version")
        }
    });
    items
}

/// What the LSM programs are good for here: only the canary tells. The text in securityfs may name bpf where every load is
/// refused, and a program may attach where nobody asks it.
fn lsm(attached: &[Attached], proof: Result<usize, String>) -> Vec<Item> {
    let rows = || attached.iter().filter(|row| matches!(row.row.hook, Hook::Lsm(_)));
    match proof {
        Err(why) => vec![bad(Level::Off, "LSM", why, LSM_LOST, NOT_ASKED)],
        Ok(0) => {
            let why = rows().find_map(|row| row.off.as_deref()).map_or("nothing was proven", reason);
            vec![bad(Level::Off, "LSM", format!("none of its programs denies here: {why}"), LSM_LOST, NOT_ASKED)]
        }
        Ok(proven) => {
            let mut items = vec![ok("LSM", format!("{proven} operations of a child were denied: proven"))];
            items.extend(rows().filter_map(|row| {
                let why = reason(row.off.as_deref()?);
                Some(bad(Level::Off, row.row.program, why, row.row.lost, "a newer kernel, or report it"))
            }));
            items
        }
    }
}

const LSM_LOST: &str = "denial of programs, of changing files, of container runtimes' sockets, of ptrace, modules and bpf; the network stays";

fn pins(bpffs: &Path) -> Item {
    let pins = Pins::at(bpffs);
    if Pins::is_mounted(bpffs) && Pins::is_read_only(bpffs) {
        let text = format!("the BPF file system at {} is mounted read-only", bpffs.display());
        let fix = format!("`mount -o remount,rw {}`, or another place as kernel.bpffs", bpffs.display());
        return bad(Level::Fail, "pins", text, "everything: no denial could outlive the agent", &fix);
    }
    match (Pins::is_mounted(bpffs), pins.names().len()) {
        (false, _) => ok("pins", format!("no BPF file system at {} yet; `stockade run` mounts one", bpffs.display())),
        (true, 0) => ok("pins", format!("BPF file system at {}, nothing of ours pinned", bpffs.display())),
        (true, n) => {
            ok("pins", format!("{n} pinned objects in {}; `stockade disarm` removes them", pins.directory().display()))
        }
    }
}
