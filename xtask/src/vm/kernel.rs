//! Debian's kernels: resolved and downloaded by apt, unpacked into a cache, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{must, told};

/// A kernel image on disk.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it was asked for by.
    pub name: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// The unpacked package.
    root: PathBuf,
}

/// What Stockade uses of these kernels that is a module there, in the order of loading: cutting connections asks through it.
pub const MODULES: &[&str] = &["inet_diag", "tcp_diag"];

impl Kernel {
    /// Finds or fetches a kernel.
    pub fn get(name: &str) -> anyhow::Result<Self> {
        let package = package(name).or_else(|_| {
            // A machine that has never asked for its lists knows no package at all.
            must(Command::new("apt-get").args(["-q", "update"]))?;
            package(name)
        })?;
        let root = cache()?.join(&package);
        if image_in(&root).is_none() {
            fetch(&package, &root)?;
        }
        let image = image_in(&root).with_context(|| format!("{package} holds no kernel image"))?;
        let file = image.file_name().unwrap_or_default().to_string_lossy();
        let release = file.trim_start_matches("vmlinuz-").to_owned();
        Ok(Self { name: name.to_owned(), image, release, root })
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
pub fn package(name: &str) -> anyhow::Result<String> {
    if name == "newest" {
        return newest();
    }
    let depends = |meta: &str| {
        let text = told(Command::new("apt-cache").args(["depends", meta]))?;
        let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "))?;
        package.starts_with(&format!("linux-image-{name}.")).then(|| package.to_owned())
    };
    let metas = [format!("linux-image-{name}-cloud-amd64"), "linux-image-cloud-amd64".to_owned()];
    metas.iter().find_map(|meta| depends(meta)).with_context(|| format!("apt offers no cloud kernel {name} here"))
}

fn newest() -> anyhow::Result<String> {
    let pattern = "^linux-image-[0-9][0-9.]+.*-cloud-amd64$";
    let text = told(Command::new("apt-cache").args(["search", "--names-only", pattern])).unwrap_or_default();
    let names =
        text.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| !name.contains("unsigned"));
    let version = |name: &&str| -> Vec<u32> {
        let digits = name.trim_start_matches("linux-image-").split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|part| part.parse().ok()).collect()
    };
    let candidates = names.filter(|name| name.matches('.').count() >= 2);
    candidates.max_by_key(version).map(str::to_owned).context("apt offers no cloud kernel here")
}

fn fetch(package: &str, root: &Path) -> anyhow::Result<()> {
    println!("vm       apt-get download {package} (about 30 MB)");
    let cache = cache()?;
    let before = packages_in(&cache, package);
    must(Command::new("apt-get").args(["-q", "download", package]).current_dir(&cache))?;
    let file = packages_in(&cache, package).into_iter().find(|file| !before.contains(file)).or(before.first().cloned());
    let Some(file) = file else { bail!("apt-get downloaded nothing for {package}") };
    // Whoever finds the folder under its own name finds all of it, and two that fetch at once do not meet.
    let part = cache.join(format!("{package}.part-{}", std::process::id()));
    must(Command::new("dpkg").arg("-x").arg(&file).arg(&part))?;
    if fs::rename(&part, root).is_err() && image_in(root).is_none() {
        bail!("cannot move {} to {}", part.display(), root.display());
    }
    let _ = fs::remove_dir_all(&part);
    Ok(fs::remove_file(file)?)
}

fn packages_in(directory: &Path, package: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{package}_")))
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
