//! Byte locks that an open file description owns
//! ([fcntl_locking(2)](https://man7.org/linux/man-pages/man2/F_OFD_SETLK.2const.html)): not a process, so that
//! they neither vanish when some other descriptor of the file is closed nor depend on process ids.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

/// Locks one byte for this description alone; false where another one has it.
///
/// # Errors
/// EBADF where the descriptor is not open for writing, ENOLCK where the kernel has no room.
pub(crate) fn try_lock_byte(file: BorrowedFd<'_>, offset: i64) -> Result<bool> {
    try_lock_range(file, offset, 1)
}

/// The same for `len` bytes, or for all from `offset` on where `len` is 0.
///
/// # Errors
/// As [`try_lock_byte`].
pub(crate) fn try_lock_range(file: BorrowedFd<'_>, offset: i64, len: i64) -> Result<bool> {
    match call(file, libc::F_OFD_SETLK, libc::F_WRLCK, offset, len) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Gives back what [`try_lock_byte`] took through the same description.
///
/// # Errors
/// EBADF where the descriptor is closed.
pub(crate) fn unlock_byte(file: BorrowedFd<'_>, offset: i64) -> Result<()> {
    unlock_range(file, offset, 1)
}

/// The same for what [`try_lock_range`] took.
///
/// # Errors
/// As [`unlock_byte`].
pub(crate) fn unlock_range(file: BorrowedFd<'_>, offset: i64, len: i64) -> Result<()> {
    call(file, libc::F_OFD_SETLK, libc::F_UNLCK, offset, len).map(drop)
}

/// Whether *another* description holds the byte.
///
/// # Errors
/// EBADF where the descriptor is closed.
pub(crate) fn is_byte_locked(file: BorrowedFd<'_>, offset: i64) -> Result<bool> {
    is_range_locked(file, offset, 1)
}

/// Whether another description holds any of `len` bytes, or of all from `offset` on where `len` is 0.
///
/// # Errors
/// As [`is_byte_locked`].
pub(crate) fn is_range_locked(file: BorrowedFd<'_>, offset: i64, len: i64) -> Result<bool> {
    call(file, libc::F_OFD_GETLK, libc::F_WRLCK, offset, len).map(|kind| kind != libc::F_UNLCK)
}

fn call(file: BorrowedFd<'_>, command: i32, kind: i32, offset: i64, len: i64) -> Result<i32> {
    // SAFETY: all-zero is a valid `flock`: plain integers; and the kernel demands a zero `l_pid`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = offset;
    lock.l_len = len;
    loop {
        // SAFETY: these commands read and write one `flock`, which lives across the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } != -1 {
            return Ok(i32::from(lock.l_type));
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(Errno::INTR) => continue,
            errno => return Err(errno.unwrap_or(Errno::IO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_byte_belongs_to_a_description_and_not_to_the_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mine, other) = (file.reopen().unwrap(), file.reopen().unwrap());
        let shared = mine.try_clone().unwrap();
        assert!(try_lock_byte(mine.as_fd(), 1 << 62).unwrap());
        assert!(!is_byte_locked(mine.as_fd(), 1 << 62).unwrap(), "its own lock hinders nobody");
        assert!(is_byte_locked(other.as_fd(), 1 << 62).unwrap());
        assert!(!is_byte_locked(other.as_fd(), (1 << 62) + 1).unwrap());
        assert!(!try_lock_byte(other.as_fd(), 1 << 62).unwrap());
        drop(file.reopen().unwrap());
        drop(mine);
        assert!(is_byte_locked(other.as_fd(), 1 << 62).unwrap(), "the duplicate keeps the description");
        drop(shared);
        assert!(try_lock_byte(other.as_fd(), 1 << 62).unwrap());
        unlock_byte(other.as_fd(), 1 << 62).unwrap();
        assert!(!is_byte_locked(file.as_file().as_fd(), 1 << 62).unwrap());
    }
}
