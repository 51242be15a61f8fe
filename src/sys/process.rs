//! Noticing a fork.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::io::Result;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Words that the kernel hands to a forked child filled with zeros. The first is this process's epoch, the others are
/// its mappings' ([`super::guard`]).
pub(super) type Words = [AtomicU64; 2048];

static WORDS: AtomicPtr<Words> = AtomicPtr::new(null_mut());

/// The next epoch to give, always even. Copied by fork, so a child never repeats one that a handle from before bears.
static NEXT: AtomicU64 = AtomicU64::new(2);

/// The process in which it was taken. In a forked child it says so, at the price of one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMark {
    pub(super) words: &'static Words,
    pub(super) epoch: u64,
}

impl ProcessMark {
    /// Marks this process
    /// ([madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html), `MADV_WIPEONFORK`).
    ///
    /// # Errors
    /// ENOMEM, and EINVAL before Linux 4.14.
    pub(crate) fn take() -> Result<Self> {
        let words = words()?;
        let mut epoch = words[0].load(Ordering::Relaxed);
        if epoch == 0 {
            let mine = next_epoch();
            epoch = match words[0].compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => mine,
                Err(theirs) => theirs,
            };
        }
        Ok(Self { words, epoch })
    }

    /// Whether this is a child, forked since the mark was taken.
    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        self.words[0].load(Ordering::Relaxed) != self.epoch
    }
}

pub(super) fn next_epoch() -> u64 {
    NEXT.fetch_add(2, Ordering::Relaxed)
}

/// The words, where there are any: makes no call.
pub(super) fn words_if_any() -> Option<&'static Words> {
    // SAFETY: mapped, and never unmapped once it is in `WORDS`.
    unsafe { WORDS.load(Ordering::Acquire).as_ref() }
}

/// No `OnceLock`: a child forked while another thread initialises one would wait for that thread for ever.
fn words() -> Result<&'static Words> {
    const LEN: usize = size_of::<Words>();
    let mut words = WORDS.load(Ordering::Acquire);
    if words.is_null() {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice; `fresh` is only used once advised.
        let fresh: *mut Words = unsafe {
            let fresh = rustix::mm::mmap_anonymous(null_mut(), LEN, protection, MapFlags::PRIVATE)?;
            if let Err(errno) = rustix::mm::madvise(fresh, LEN, Advice::LinuxWipeOnFork) {
                rustix::mm::munmap(fresh, LEN).ok();
                return Err(errno);
            }
            fresh.cast()
        };
        words = match WORDS.compare_exchange(null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(theirs) => {
                // SAFETY: another thread was first, and nobody has seen `fresh`.
                unsafe { rustix::mm::munmap(fresh.cast(), LEN) }.ok();
                theirs
            }
        };
    }
    // SAFETY: mapped, zeroed or holding epochs, and never unmapped once it is in `WORDS`.
    Ok(unsafe { &*words })
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
