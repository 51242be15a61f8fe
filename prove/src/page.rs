//! A page that forked processes share.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::Result;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

const BYTES: usize = 4096;

/// A page that is shared with all children forked after it was made; zeroes at first.
pub(crate) struct Page(*mut u64);

impl Page {
    pub(crate) fn new() -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice covers nothing that is in use.
        let page = unsafe { mmap_anonymous(null_mut(), BYTES, protection, MapFlags::SHARED) }?;
        Ok(Self(page.cast()))
    }

    /// The `index`-th of its 512 words.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: inside the page, aligned, mapped as long as `self`; the users of a word use it as an atomic.
        unsafe { AtomicU64::from_ptr(self.at(index)) }
    }

    /// The low half of a word, to sleep on.
    pub(crate) fn futex(&self, index: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.at(index).cast()) }
    }

    /// Where the `index`-th word lies, for what the C library keeps there.
    pub(crate) fn at(&self, index: usize) -> *mut u64 {
        assert!(index < BYTES / 8, "a page has 512 words");
        // SAFETY: inside the page.
        unsafe { self.0.add(index) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and references into it borrow from this value.
        unsafe { munmap(self.0.cast(), BYTES) }.ok();
    }
}
