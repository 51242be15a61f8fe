//! Memory that two processes share, and the processor's own clock: the unsafe part of the floors.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A cache line.
pub(crate) const LINE: usize = 64;

/// A mapping of a file that other processes map too. Touched at once, so that no page fault is measured.
pub(crate) struct Shared {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it.
unsafe impl Send for Shared {}

impl Shared {
    /// Maps the first `len` bytes of `file`.
    pub(crate) fn map(file: impl AsFd, len: usize) -> rustix::io::Result<Self> {
        // SAFETY: a new mapping, at an address of the kernel's choice, overlaps nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                file,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::FAULT)?;
        Ok(Self { base, len })
    }

    /// Keeps the mapping out of children and core dumps.
    pub(crate) fn keep_private(&self) -> rustix::io::Result<()> {
        for advice in [Advice::LinuxDontFork, Advice::LinuxDontDump] {
            // SAFETY: the mapping is ours, and neither advice changes what it holds.
            unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice)? };
        }
        Ok(())
    }

    /// The atomic word at `offset` bytes.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len, "word inside the mapping");
        // SAFETY: in bounds, aligned (the base is a page), and everybody accesses it as an atomic.
        unsafe { self.base.add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// The atomic half word at `offset` bytes, as futexes are.
    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len, "half word inside the mapping");
        // SAFETY: as in `word`.
        unsafe { self.base.add(offset).cast::<AtomicU32>().as_ref() }
    }

    /// The address of `len` bytes at `offset`.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "bytes inside the mapping");
        // SAFETY: in bounds, as just checked.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: made by `map` with this length; everything that points into it borrows or owns `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Locks the first byte of an open file description.
pub(crate) fn lock(file: impl AsFd) -> std::io::Result<()> {
    // SAFETY: all zero is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_len = 1;
    // SAFETY: a live descriptor and a `flock`, which this command takes.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The processor's time stamp, in ticks.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}
