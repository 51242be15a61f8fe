//! What the library may take of the process's memory.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, which ends the process where more is wanted at once than any message of an honest length
/// needs: a length that a peer wrote was believed.
pub struct Bounded;

/// In bytes: twice the file of a segment that is judged.
const LARGEST: usize = 160 << 20;

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(old, layout) }
    }
}

fn check(size: usize) {
    if size > LARGEST {
        std::process::abort();
    }
}
