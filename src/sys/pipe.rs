//! Named pipes ([fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html)), opened so that they close at exec
//! and never block; a write to one that nobody reads is EPIPE and no SIGPIPE.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, Result, retry_on_intr};

/// The largest write that is never mixed with another writer's, and that happens whole or not at all.
pub(crate) const ATOMIC: usize = rustix::pipe::PIPE_BUF;

/// `RWF_NOSIGNAL`, since Linux 6.18 ([readv(2)](https://man7.org/linux/man-pages/man2/readv.2.html)).
const NO_SIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// Whether this kernel knows [`NO_SIGNAL`]; assumed until it says otherwise.
static KNOWS_NO_SIGNAL: AtomicBool = AtomicBool::new(true);

/// Makes a named pipe with exactly this mode.
///
/// # Errors
/// EEXIST, ENOENT, EACCES, ENOSPC, EROFS.
pub(crate) fn make(path: &Path, mode: Mode) -> Result<()> {
    rustix::fs::mkfifoat(CWD, path, mode)?;
    // The umask took bits away; a mode that was asked for is meant.
    super::file::set_mode(path, mode)
}

/// Opens the reading end, whether or not somebody writes.
///
/// # Errors
/// ENOENT, EACCES, ELOOP for a symbolic link.
pub(crate) fn open_reader(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::RDONLY)
}

/// Opens the writing end.
///
/// # Errors
/// ENXIO where nobody reads; ENOENT, EACCES, ELOOP for a symbolic link.
pub(crate) fn open_writer(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::WRONLY)
}

fn open(path: &Path, access: OFlags) -> Result<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
    retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
}

/// Takes the one reader's place; false where somebody has it. It goes back when the description is closed. A byte
/// lock would need a descriptor for writing, and a reader's is not.
///
/// # Errors
/// ENOLCK where the kernel has no room.
pub(crate) fn take_reader_place(pipe: impl AsFd) -> Result<bool> {
    match retry_on_intr(|| rustix::fs::flock(&pipe, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Reads what is there; 0 where nobody writes.
///
/// # Errors
/// EAGAIN where somebody may write, but has not.
pub(crate) fn read(pipe: impl AsFd, into: &mut [u8]) -> Result<usize> {
    retry_on_intr(|| rustix::io::read(&pipe, &mut *into))
}

/// Writes what fits at this moment; up to [`ATOMIC`] bytes whole or not at all.
///
/// # Errors
/// EAGAIN where nothing fits, EPIPE where nobody reads.
pub(crate) fn write(pipe: impl AsFd, parts: &[IoSlice<'_>]) -> Result<usize> {
    if KNOWS_NO_SIGNAL.load(Ordering::Relaxed) {
        // The offset -1 means "no offset", as pipes have none.
        match retry_on_intr(|| rustix::io::pwritev2(&pipe, parts, u64::MAX, NO_SIGNAL)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                KNOWS_NO_SIGNAL.store(false, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    write_masked(pipe, parts)
}

/// The same on older kernels: keeps SIGPIPE off this thread for the time of the write and takes back the one that
/// it raised. The process's disposition, which is the program's, stays as it is.
fn write_masked(pipe: impl AsFd, parts: &[IoSlice<'_>]) -> Result<usize> {
    let (mut only, mut before, mut pending) =
        (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: each set is written by the call that is given it before another one reads it.
    let was_pending = unsafe {
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, only.as_ptr(), before.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1
    };
    let result = retry_on_intr(|| rustix::io::writev(&pipe, parts));
    // SAFETY: `only` and `before` were written above; no information about the signal is asked for.
    unsafe {
        if result == Err(Errno::PIPE) && !was_pending {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while libc::sigtimedwait(only.as_ptr(), null_mut(), &raw const now) == -1
                && Errno::from_io_error(&std::io::Error::last_os_error()) == Some(Errno::INTR)
            {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut());
    }
    result
}

/// How many bytes the pipe holds at most.
///
/// # Errors
/// EBADF where it is no pipe.
pub(crate) fn capacity(pipe: impl AsFd) -> Result<usize> {
    rustix::pipe::fcntl_getpipe_size(pipe)
}

/// Sets how many bytes it holds; the kernel rounds up to pages and gives the outcome.
///
/// # Errors
/// EPERM above `/proc/sys/fs/pipe-max-size`, EBUSY where more lies in it.
pub(crate) fn set_capacity(pipe: impl AsFd, bytes: usize) -> Result<usize> {
    rustix::pipe::fcntl_setpipe_size(pipe, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_nobody_reads_raises_no_signal_on_any_kernel() {
        // SAFETY: the child makes only system calls and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the default disposition would end the child.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let Ok((reader, writer)) = rustix::pipe::pipe() else {
                // SAFETY: always sound.
                unsafe { libc::_exit(2) }
            };
            drop(reader);
            let parts = [IoSlice::new(b"x")];
            let both = [write(&writer, &parts), write_masked(&writer, &parts)];
            // SAFETY: always sound.
            unsafe { libc::_exit(i32::from(both != [Err(Errno::PIPE); 2])) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
