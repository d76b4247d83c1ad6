//! The identity of a file as the kernel programs see it, from user space.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};
use rustix::ioctl::{Updater, ioctl, opcode};

use crate::decision::FileId;

/// `FS_IOC_GETVERSION` (include/uapi/linux/fs.h).
const GET_VERSION: rustix::ioctl::Opcode = opcode::read::<std::ffi::c_long>(b'v', 1);

/// Identifies a file by inode, device and generation. A file system that does not tell generations gives 0, which matches
/// any.
///
/// # Errors
///
/// When the file cannot be opened for reading.
pub fn identify(path: &Path) -> io::Result<FileId> {
    let file = File::open(path)?;
    let (ino, device) = match as_the_kernel_has_it(&file, path) {
        Some(seen) => seen,
        None => {
            let about = file.metadata()?;
            (about.ino(), (major(about.dev()), minor(about.dev())))
        }
    };
    Ok(FileId {
        ino,
        dev: device.0 << 20 | (device.1 & 0xf_ffff),
        generation: generation(&file),
        path: std::fs::canonicalize(path)?.to_string_lossy().into(),
    })
}

/// Inode and device as the kernel programs read them: of the open file's inode and of its superblock. On overlayfs and btrfs
/// `stat(2)` makes up others for user space, and a denial by those would never match. `None` when the mount is in none of the
/// namespaces that could be looked at.
fn as_the_kernel_has_it(file: &File, path: &Path) -> Option<(u64, (u32, u32))> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let number = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let (mount, ino) = (number("mnt_id:")?, number("ino:")?);
    // A path below /proc/PID/root lies in that process's mounts.
    let process = path.strip_prefix("/proc").ok().and_then(|below| below.components().next());
    let theirs = process.map(|pid| Path::new("/proc").join(pid).join("mountinfo"));
    let device = [Some("/proc/self/mountinfo".into()), theirs].into_iter().flatten().find_map(|mounts| {
        let text = std::fs::read_to_string(mounts).ok()?;
        text.lines().find_map(|line| device_of(line, mount))
    })?;
    Some((ino, device))
}

/// The device in a line of mountinfo, if it is that mount's: `36 35 98:0 /mnt1 /mnt2 rw …`.
fn device_of(line: &str, mount: u64) -> Option<(u32, u32)> {
    let mut fields = line.split(' ');
    if fields.next()?.parse() != Ok(mount) {
        return None;
    }
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn generation(file: &File) -> u32 {
    let mut version: u64 = 0;
    // SAFETY: the request writes an int or a long to the address that it is given; eight zeroed bytes are there.
    let done = unsafe { ioctl(file, Updater::<'_, GET_VERSION, u64>::new(&mut version)) };
    if done.is_ok() { version as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_number_alone() {
        let line = "36 35 98:17 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(device_of(line, 36), Some((98, 17)));
        assert_eq!(device_of(line, 35), None);
        assert_eq!(device_of("36", 36), None);
    }
}
