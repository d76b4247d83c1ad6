//! What outlives the agent: maps, deny links and lineage programs, pinned under one versioned directory of a BPF file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use collector_common::ABI;

use super::LoadError;

/// The usual mount point of the BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// A pin directory `<bpffs>/stockade/v<ABI>`.
#[derive(Clone, Debug)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// Opens or makes the directory below a BPF file system, mounting one there when there is none.
    ///
    /// # Errors
    ///
    /// When no BPF file system is there and none can be mounted, or when the one that is there is read-only.
    pub fn open(bpffs: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::NoPins { path: bpffs.to_path_buf(), source };
        if !is_bpffs(bpffs).map_err(failed)? {
            rustix::mount::mount("bpf", bpffs, "bpf", rustix::mount::MountFlags::empty(), None)
                .map_err(|errno| failed(errno.into()))?;
        }
        if Self::is_read_only(bpffs) {
            return Err(LoadError::ReadOnlyPins { path: bpffs.to_path_buf() });
        }
        let pins = Self::at(bpffs);
        fs::create_dir_all(&pins.directory).map_err(failed)?;
        Ok(pins)
    }

    /// The directory below a BPF file system, whether it exists or not.
    pub fn at(bpffs: &Path) -> Self {
        Self { directory: bpffs.join("stockade").join(format!("v{ABI}")) }
    }

    /// Whether a BPF file system is mounted there.
    pub fn is_mounted(bpffs: &Path) -> bool {
        is_bpffs(bpffs).unwrap_or(false)
    }

    /// Whether nothing can be pinned there.
    pub fn is_read_only(bpffs: &Path) -> bool {
        let flags = rustix::fs::statvfs(bpffs).map(|about| about.f_flag);
        flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Keeps a link alive. An older one of that name is replaced in one step, so there is no moment without.
    pub(super) fn keep_link(&self, program: &str, link: FdLink) -> io::Result<()> {
        let (path, fresh) =
            (self.directory.join(format!("link_{program}")), self.directory.join(format!("new_{program}")));
        let _ = fs::remove_file(&fresh);
        link.pin(&fresh).map_err(io::Error::other)?;
        fs::rename(&fresh, &path)
    }

    /// Lets a link go that an older agent kept, if there is one.
    pub(super) fn drop_link(&self, program: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.join(format!("link_{program}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Pin directories of other versions of Stockade below the same file system.
    pub fn others(&self) -> Vec<Self> {
        let entries = self.directory.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
        let is_version = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok()) && *path != self.directory
        };
        entries.map(|entry| entry.path()).filter(is_version).map(|directory| Self { directory }).collect()
    }

    /// Names of everything pinned, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Removes every pin after a start that came to nothing.
    pub fn give_up(&self) {
        if let Err(error) = self.remove_all() {
            tracing::error!(%error, "what was pinned could not be removed: `stockade disarm`");
        }
    }

    /// Removes every pin, links first: what they held is detached. Returns how many links and maps there were.
    ///
    /// # Errors
    ///
    /// When a pin cannot be removed.
    pub fn remove_all(&self) -> io::Result<(usize, usize)> {
        let (links, maps): (Vec<_>, Vec<_>) =
            self.names().into_iter().partition(|name| name.starts_with("link_") || name.starts_with("new_"));
        for name in links.iter().chain(&maps) {
            fs::remove_file(self.directory.join(name))?;
        }
        if self.directory.exists() {
            fs::remove_dir(&self.directory)?;
        }
        if let Some(parent) = self.directory.parent() {
            // Another version's pins may be there; then it stays.
            let _ = fs::remove_dir(parent);
        }
        Ok((links.len(), maps.len()))
    }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == BPF_FS_MAGIC)
}
