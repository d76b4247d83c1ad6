//! The identity of a file as the kernel programs see it, from user space.

use std::fs::File;
use std::io;
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
    let about = file.metadata()?;
    let device = (major(about.dev()), minor(about.dev()));
    Ok(FileId {
        ino: about.ino(),
        dev: device.0 << 20 | (device.1 & 0xf_ffff),
        generation: generation(&file),
        path: std::fs::canonicalize(path)?.to_string_lossy().into(),
    })
}

fn generation(file: &File) -> u32 {
    let mut version: u64 = 0;
    // SAFETY: the request writes an int or a long to the address that it is given; eight zeroed bytes are there.
    let done = unsafe { ioctl(file, Updater::<'_, GET_VERSION, u64>::new(&mut version)) };
    if done.is_ok() { version as u32 } else { 0 }
}
