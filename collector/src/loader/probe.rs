//! What this kernel can do, found out by trying.

use std::path::Path;

use aya::programs::{LsmAttachType, ProgramType};
use aya::sys::is_program_supported;
use serde::Serialize;

use super::{KERNEL_BTF, Kernel, KernelOptions, OBJECT, Pins, mount_of_cgroup2};

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

fn ok(area: &str, text: impl Into<String>) -> Item {
    Item { level: Level::Ok, area: area.into(), text: text.into(), lost: String::new(), fix: String::new() }
}

fn bad(level: Level, area: &str, text: impl Into<String>, lost: &str, fix: &str) -> Item {
    Item { level, area: area.into(), text: text.into(), lost: lost.into(), fix: fix.into() }
}

/// Looks at everything. Programs are loaded and attached for a moment, to an empty cgroup made for it.
pub fn probe(bpffs: &Path) -> Vec<Item> {
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
        return items;
    }
    if !rustix::process::geteuid().is_root() {
        items.push(bad(
            Level::Fail,
            "privileges",
            "not root: nothing can be loaded or tried",
            "everything but replay",
            "sudo stockade doctor",
        ));
        return items;
    }
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
    items.extend(programs(mount.as_deref()));
    items.push(lsm());
    items.push(pins(bpffs));
    items
}

/// Loads and attaches every program to a cgroup of its own that holds no process.
fn programs(mount: Option<&Path>) -> Vec<Item> {
    let Some(mount) = mount else { return Vec::new() };
    let scope = mount.join(format!("stockade-doctor-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir(&scope) {
        return vec![bad(
            Level::Off,
            "programs",
            format!("cannot make {} to try them: {error}", scope.display()),
            "this check",
            "write access to the cgroup hierarchy",
        )];
    }
    let options = KernelOptions {
        scope: Some(scope.clone()),
        cgroup_mount: Some(mount.to_path_buf()),
        bulk_bytes: 64 << 10,
        ctrl_bytes: 64 << 10,
        ..KernelOptions::default()
    };
    let items = match Kernel::load(&options) {
        Err(error) => vec![bad(Level::Fail, "programs", error.to_string(), "everything but replay", "see the text")],
        Ok(kernel) => {
            let attached = kernel.attached();
            let works = attached.iter().filter(|row| row.off.is_none()).count();
            let summary =
                format!("{works} of {} loaded and attached in {} ms", attached.len(), kernel.load_time().as_millis());
            let mut items = vec![ok("programs", summary)];
            items.extend(attached.iter().filter_map(|row| {
                let why = row.off.as_deref()?.to_owned();
                Some(bad(Level::Off, row.row.program, why, row.row.lost, "a kernel of 6.3 or newer, or report it"))
            }));
            items.extend(kernel.missing_fields().iter().map(|field| {
                bad(
                    Level::Off,
                    "types",
                    format!("the kernel has no {field}"),
                    "that field stays unknown",
                    "CONFIG_AUDIT=y for the login user",
                )
            }));
            items.push(match kernel.self_check() {
                Ok(text) => ok("self-check", text),
                Err(text) => bad(
                    Level::Fail,
                    "self-check",
                    text,
                    "nothing may be enforced",
                    "report it with this kernel's version",
                ),
            });
            items
        }
    };
    let _ = std::fs::remove_dir(&scope);
    items
}

/// Only a trial load tells: the text in securityfs may name bpf where every load is refused.
fn lsm() -> Item {
    let lost = "denial of exec and file access (not part of this version; network denial is kept)";
    let fix = "boot with bpf in lsm=, e.g. lsm=lockdown,capability,landlock,yama,apparmor,bpf";
    match is_program_supported(ProgramType::Lsm(LsmAttachType::Mac)) {
        Ok(true) => ok("LSM", "programs load; whether they are asked is for a later version to prove"),
        Ok(false) => bad(Level::Off, "LSM", "this kernel loads no LSM programs", lost, fix),
        Err(error) => bad(Level::Off, "LSM", format!("this kernel loads no LSM programs: {error}"), lost, fix),
    }
}

fn pins(bpffs: &Path) -> Item {
    let pins = Pins::at(bpffs);
    match (Pins::is_mounted(bpffs), pins.names().len()) {
        (false, _) => ok("pins", format!("no BPF file system at {} yet; `stockade run` mounts one", bpffs.display())),
        (true, 0) => ok("pins", format!("BPF file system at {}, nothing of ours pinned", bpffs.display())),
        (true, n) => {
            ok("pins", format!("{n} pinned objects in {}; `stockade disarm` removes them", pins.directory().display()))
        }
    }
}
