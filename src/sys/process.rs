//! Noticing a fork.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use rustix::io::Result;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The page whose first word is this process's epoch. The kernel hands it to a forked child filled with zeros.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

/// The next epoch to give. Copied by fork, so a child never repeats an epoch that a handle from before bears.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The process in which it was taken. In a forked child it says so, at the price of one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMark {
    page: &'static AtomicU32,
    epoch: u32,
}

impl ProcessMark {
    /// Marks this process
    /// ([madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html), `MADV_WIPEONFORK`).
    ///
    /// # Errors
    /// ENOMEM, and EINVAL before Linux 4.14.
    pub(crate) fn take() -> Result<Self> {
        let page = page()?;
        let mut epoch = page.load(Ordering::Relaxed);
        if epoch == 0 {
            let mine = NEXT.fetch_add(1, Ordering::Relaxed);
            epoch = match page.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => mine,
                Err(theirs) => theirs,
            };
        }
        Ok(Self { page, epoch })
    }

    /// Whether this is a child, forked since the mark was taken.
    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        self.page.load(Ordering::Relaxed) != self.epoch
    }
}

/// No `OnceLock`: a child forked while another thread initialises one would wait for that thread for ever.
fn page() -> Result<&'static AtomicU32> {
    const LEN: usize = size_of::<AtomicU32>();
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice; `fresh` is only used once advised.
        let fresh: *mut AtomicU32 = unsafe {
            let fresh = rustix::mm::mmap_anonymous(null_mut(), LEN, protection, MapFlags::PRIVATE)?;
            if let Err(errno) = rustix::mm::madvise(fresh, LEN, Advice::LinuxWipeOnFork) {
                rustix::mm::munmap(fresh, LEN).ok();
                return Err(errno);
            }
            fresh.cast()
        };
        page = match PAGE.compare_exchange(null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(theirs) => {
                // SAFETY: another thread was first, and nobody has seen `fresh`.
                unsafe { rustix::mm::munmap(fresh.cast(), LEN) }.ok();
                theirs
            }
        };
    }
    // SAFETY: mapped, zeroed or holding an epoch, and never unmapped once it is in `PAGE`.
    Ok(unsafe { &*page })
}

/// This process's name, as `/proc/PID/comm` had it at the first call
/// ([proc(5)](https://man7.org/linux/man-pages/man5/proc_pid_comm.5.html)): up to 15 bytes, then zeros.
pub(crate) fn process_name() -> [u8; 16] {
    // Two words and no lock, which a fork could leave locked: who races stores the same.
    static NAME: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    let load = |half: usize| u128::from(NAME[half].load(Ordering::Acquire));
    let known = load(0) | load(1) << 64;
    if known != 0 {
        return known.to_le_bytes();
    }
    let comm = std::fs::read("/proc/self/comm").unwrap_or_default();
    let mut name = [0; 16];
    let len = comm.strip_suffix(b"\n").unwrap_or(&comm).len().min(15);
    name[..len].copy_from_slice(&comm[..len]);
    let words = u128::from_le_bytes(name);
    // The second half first: whoever sees the first sees a whole name, or half of one that has no second.
    NAME[1].store((words >> 64) as u64, Ordering::Relaxed);
    NAME[0].store(words as u64, Ordering::Release);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_knows_its_parents_mark_and_takes_its_own() {
        let before = ProcessMark::take().unwrap();
        assert!(!before.is_forked());
        // SAFETY: the child makes only system calls and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut right = before.is_forked();
            match ProcessMark::take() {
                Ok(own) => right &= !own.is_forked() && before.is_forked() && own.epoch != before.epoch,
                Err(_) => right = false,
            }
            // SAFETY: always sound.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(!before.is_forked());
    }
}
