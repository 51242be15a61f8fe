//! The atomics of everything that processes share. Built with `--cfg loom`, they are the model checker's.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use model::{AtomicU64, Ordering, fence};

/// A full fence behind a read-modify-write of the same thread: on x86 that was one already.
#[inline(always)]
pub(crate) fn fence_after_update() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    // orders: everything before it before everything behind it
    #[cfg(any(not(target_arch = "x86_64"), loom))]
    fence(Ordering::SeqCst);
}

/// Loom's atomics, with a thread that can be made to die before any of its operations.
#[cfg(loom)]
mod model {
    use std::cell::Cell;

    pub(crate) use loom::sync::atomic::{Ordering, fence};
}
