//! Files: reopening, linking what has no name yet, telling kinds apart.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, fstatfs, linkat, openat};
use rustix::io::{Errno, Result, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::path::Arg;

/// TMPFS_MAGIC of `linux/magic.h`.
const TMPFS: u32 = 0x0102_1994;

/// Opens the file behind a descriptor anew: a description of its own, with its own locks.
///
/// # Errors
/// EACCES where the file's mode does not allow it, ENOENT where `/proc` is not mounted.
pub(crate) fn reopen(file: impl AsFd, writable: bool) -> Result<OwnedFd> {
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    open_at(CWD, &in_proc(file.as_fd()), flags, Mode::empty())
}

/// [openat(2)](https://man7.org/linux/man-pages/man2/openat.2.html), taken up again where a signal interrupted it.
///
/// # Errors
/// Those of open(2), but for EINTR.
pub(crate) fn open_at(
    directory: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    retry_on_intr(|| openat(&directory, path, flags, mode))
}

/// Gives a file that was opened with `O_TMPFILE` its name in a directory, unless the name is taken.
///
/// # Errors
/// EEXIST where the name is taken, ENOENT where the directory is gone.
pub(crate) fn link_unnamed(file: impl AsFd, directory: impl AsFd, name: &OsStr) -> Result<()> {
    // Without a capability, and before Linux 6.10, only the way through /proc is open.
    match linkat(&file, "", &directory, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM) => {
            linkat(CWD, in_proc(file.as_fd()), directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        result => result,
    }
}

/// Gives what has this name its mode, exactly; never through a link that somebody put in its place.
///
/// # Errors
/// ENOENT; EOPNOTSUPP for a symbolic link, EPERM for what is another user's.
pub(crate) fn set_mode(path: &Path, mode: Mode) -> Result<()> {
    let file = open_at(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    retry_on_intr(|| chmodat(CWD, in_proc(file.as_fd()), mode, AtFlags::empty()))
}

/// A duplicate of a descriptor that was inherited by its number.
///
/// # Errors
/// EBADF where nothing is open at that number.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: borrowed for one call, which answers EBADF where the number is not open.
    fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, 3)
}

/// What a file is, in words.
pub(crate) fn kind_of(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "no file of a known kind",
    }
}

/// The name of the file system, where it does not keep one memory for all who map a file: other hosts, or a
/// process that answers when it likes.
///
/// # Errors
/// EIO from a broken file system.
pub(crate) fn remote_file_system(file: impl AsFd) -> Result<Option<&'static str>> {
    Ok(remote_name(retry_on_intr(|| fstatfs(&file))?.f_type as u32))
}

/// Whether the file lies in a file system of memory alone.
pub(crate) fn is_in_memory(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|fs| fs.f_type as u32 == TMPFS)
}

/// By the numbers of `linux/magic.h` and of the file systems' own headers.
fn remote_name(kind: u32) -> Option<&'static str> {
    match kind {
        0x6969 => Some("NFS"),
        0x517B => Some("SMB"),
        0xFF53_4D42 => Some("CIFS"),
        0xFE53_4D42 => Some("SMB2"),
        0x6573_5546 => Some("FUSE"),
        0x0102_1997 => Some("9P"),
        0x00C3_6400 => Some("Ceph"),
        0x5346_414F => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636F => Some("OCFS2"),
        _ => None,
    }
}

fn in_proc(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the C library's numbers, where it has them.
    #[test]
    fn remote_file_systems_are_known_by_their_numbers() {
        assert_eq!(remote_name(libc::NFS_SUPER_MAGIC as u32), Some("NFS"));
        assert_eq!(remote_name(libc::SMB_SUPER_MAGIC as u32), Some("SMB"));
        assert_eq!(remote_name(libc::FUSE_SUPER_MAGIC as u32), Some("FUSE"));
        assert_eq!(remote_name(libc::AFS_SUPER_MAGIC as u32), Some("AFS"));
        assert_eq!(remote_name(libc::CODA_SUPER_MAGIC as u32), Some("Coda"));
        assert_eq!(remote_name(libc::OCFS2_SUPER_MAGIC as u32), Some("OCFS2"));
        assert_eq!(remote_file_system(std::fs::File::open("/dev/shm").unwrap()), Ok(None));
        assert_eq!(TMPFS, libc::TMPFS_MAGIC as u32);
        assert!(is_in_memory(std::fs::File::open("/dev/shm").unwrap()));
        assert_eq!(remote_file_system(tempfile::tempfile().unwrap()), Ok(None));
    }
}
