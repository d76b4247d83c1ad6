//! Debian's kernels: resolved and downloaded by apt, unpacked into a cache, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::arch::Arch;
use crate::{must, told};

/// A kernel image on disk.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it was asked for by.
    pub name: String,
    /// Of what machine.
    pub arch: Arch,
    /// The bootable image.
    pub image: PathBuf,
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// The unpacked package.
    root: PathBuf,
}

/// What Stockade uses of these kernels that is a module there, in the order of loading: cutting connections asks through
/// the first two, and containers' programs lie on the third.
pub const MODULES: &[&str] = &["inet_diag", "tcp_diag", "overlay"];

impl Kernel {
    /// Finds or fetches a kernel.
    pub fn get(name: &str, arch: Arch) -> anyhow::Result<Self> {
        let package = package(name, arch).or_else(|_| {
            // A machine that has never asked for its lists knows no package at all.
            must(arch.apt("apt-get")?.args(["-q", "update"]))?;
            package(name, arch)
        })?;
        let root = cache()?.join(&package);
        if image_in(&root).is_none() {
            unpack(arch, &package, &root)?;
        }
        let image = image_in(&root).with_context(|| format!("{package} holds no kernel image"))?;
        let file = image.file_name().unwrap_or_default().to_string_lossy();
        let release = file.trim_start_matches("vmlinuz-").to_owned();
        Ok(Self { name: name.to_owned(), arch, image, release, root })
    }

    /// Writes a module as the guest can load it.
    pub fn unpack_module(&self, name: &str, to: &Path) -> anyhow::Result<()> {
        let line = "file=$(find \"$0/lib/modules\" -name \"$1.ko\" -o -name \"$1.ko.xz\" | head -n 1); \
                    case \"$file\" in *.xz) xz -dc \"$file\";; ?*) cat \"$file\";; *) exit 1;; esac > \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", line]).arg(&self.root).arg(name).arg(to);
        must(&mut command).with_context(|| format!("no module {name} of {} (xz-utils unpacks it)", self.release))
    }
}

/// The package behind a name; the cloud flavour has NVMe, ext4 and BPF LSM built in.
pub fn package(name: &str, arch: Arch) -> anyhow::Result<String> {
    if name == "newest" {
        return newest(arch);
    }
    let debian = arch.debian();
    let depends = |meta: &str| {
        let text = told(arch.apt("apt-cache").ok()?.args(["depends", meta]))?;
        let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "))?;
        package.starts_with(&format!("linux-image-{name}.")).then(|| package.to_owned())
    };
    let metas = [format!("linux-image-{name}-cloud-{debian}"), format!("linux-image-cloud-{debian}")];
    metas.iter().find_map(|meta| depends(meta)).with_context(|| format!("apt offers no cloud kernel {name} here"))
}

fn newest(arch: Arch) -> anyhow::Result<String> {
    let pattern = format!("^linux-image-[0-9][0-9.]+.*-cloud-{}$", arch.debian());
    let text = told(arch.apt("apt-cache")?.args(["search", "--names-only", &pattern])).unwrap_or_default();
    let names =
        text.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| !name.contains("unsigned"));
    let version = |name: &&str| -> Vec<u32> {
        let digits = name.trim_start_matches("linux-image-").split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|part| part.parse().ok()).collect()
    };
    let candidates = names.filter(|name| name.matches('.').count() >= 2);
    candidates.max_by_key(version).map(str::to_owned).context("apt offers no cloud kernel here")
}

/// Downloads a package and unpacks it into a folder of its own.
pub fn unpack(arch: Arch, package: &str, root: &Path) -> anyhow::Result<()> {
    println!("vm       apt-get download {package} for {}", arch.debian());
    let cache = cache()?;
    let before = packages_in(&cache, package, arch);
    must(arch.apt("apt-get")?.args(["-q", "download", package]).current_dir(&cache))?;
    let after = packages_in(&cache, package, arch);
    let file = after.into_iter().find(|file| !before.contains(file)).or(before.first().cloned());
    let Some(file) = file else { bail!("apt-get downloaded nothing for {package}") };
    // Whoever finds the folder under its own name finds all of it, and two that fetch at once do not meet.
    let part = cache.join(format!("{package}.part-{}", std::process::id()));
    must(Command::new("dpkg").arg("-x").arg(&file).arg(&part))?;
    if fs::rename(&part, root).is_err() && !root.exists() {
        bail!("cannot move {} to {}", part.display(), root.display());
    }
    let _ = fs::remove_dir_all(&part);
    Ok(fs::remove_file(file)?)
}

fn packages_in(directory: &Path, package: &str, arch: Arch) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.ends_with(&format!("_{}.deb", arch.debian()))
    };
    files.filter(is).collect()
}

fn image_in(root: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(root.join("boot")).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
}

/// Where kernels and images are kept.
pub fn cache() -> anyhow::Result<PathBuf> {
    let base = match (std::env::var_os("STOCKADE_VM_CACHE"), std::env::var_os("HOME")) {
        (Some(given), _) => PathBuf::from(given),
        (None, Some(home)) => PathBuf::from(home).join(".cache/stockade/vm"),
        (None, None) => bail!("neither STOCKADE_VM_CACHE nor HOME is set: nowhere to keep kernels"),
    };
    fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    Ok(base)
}
