//! Shared mappings ([mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)).

use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};

use rustix::io::{Errno, Result, retry_on_intr};
use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags};

use super::guard::MappingMark;
use super::process::ProcessMark;

/// Bytes of a file, mapped shared; unmapped when dropped. Cannot be copied, and never becomes a slice.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    mark: MappingMark,
    /// Forked children do not have it.
    is_kept: bool,
}

// SAFETY: the mapping belongs to the process; every access to its bytes goes through atomics or `sys::copy`.
unsafe impl Send for Mapping {}
// SAFETY: as above: a shared reference gives no more than an address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file. Nothing is read or reserved by that.
    ///
    /// # Errors
    /// ENOMEM beyond the address space, EACCES where the descriptor does not allow it, ENODEV where the file
    /// cannot be mapped, EINVAL for no bytes.
    pub(crate) fn new(file: BorrowedFd<'_>, len: u64, writable: bool) -> Result<Self> {
        let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
        let process = ProcessMark::take()?;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: at an address of the kernel's choice a new mapping covers nothing that is in use.
        let base = unsafe { rustix::mm::mmap(null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        let mark = MappingMark::register(process, base.addr(), len, writable);
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, len, mark, is_kept: false })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Tells whether this process still has it, and its memory.
    #[inline(always)]
    pub(crate) fn mark(&self) -> MappingMark {
        self.mark
    }

    /// Keeps the mapping out of forked children and of core dumps.
    ///
    /// # Errors
    /// None that a fresh mapping can meet.
    pub(crate) fn keep(&mut self) -> Result<()> {
        // SAFETY: both change what fork and core dumps do, not the bytes.
        unsafe {
            rustix::mm::madvise(self.base().cast(), self.len, Advice::LinuxDontFork)?;
            self.is_kept = true;
            rustix::mm::madvise(self.base().cast(), self.len, Advice::LinuxDontDump)
        }
    }

    /// Makes pages present and writable, as a write to each would; keeps what stands in them.
    ///
    /// # Errors
    /// EFAULT where a write would raise SIGBUS: no room, or beyond the file's end. EINVAL before Linux 5.14.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> Result<()> {
        self.advise(offset, len, Advice::LinuxPopulateWrite)
    }

    /// Gives pages back to the system; they read as zero from then on.
    ///
    /// # Errors
    /// EOPNOTSUPP where the file system cannot have holes, EPERM where the file is sealed against writing.
    pub(crate) fn punch(&self, offset: usize, len: usize) -> Result<()> {
        self.advise(offset, len, Advice::LinuxRemove)
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// EIO where the disk fails.
    pub(crate) fn sync(&self) -> Result<()> {
        // SAFETY: writes pages out and changes none.
        retry_on_intr(|| unsafe { rustix::mm::msync(self.base().cast(), self.len, MsyncFlags::SYNC) })
    }

    fn advise(&self, offset: usize, len: usize, advice: Advice) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Errno::INVAL);
        }
        // SAFETY: within the mapping (checked), whose bytes nobody holds as a reference to plain memory.
        retry_on_intr(|| unsafe { rustix::mm::madvise(self.base().add(offset).cast(), len, advice) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A forked child never had it: something else may lie at those addresses.
        if self.is_kept && self.mark.is_forked() {
            return;
        }
        self.mark.unregister(); // before something else can lie at those addresses
        // SAFETY: mapped by `new` with this length; references into it borrow from this value.
        unsafe { rustix::mm::munmap(self.base().cast(), self.len) }.ok();
    }
}
