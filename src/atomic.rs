//! The atomics of everything that processes share. Built with `--cfg loom`, they are the model checker's.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use model::{AtomicU64, Fault, Ordering, fence, lives_for, sabotage, step, wakes_are_lost};

/// A full fence behind a read-modify-write of the same thread: on x86 that was one already.
#[inline(always)]
pub(crate) fn fence_after_update() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    // orders: everything before it before everything behind it
    #[cfg(any(not(target_arch = "x86_64"), loom))]
    fence(Ordering::SeqCst);
}

/// The cheap side of a fence whose dear side is membarrier(2): only the compiler is held back. The model checker,
/// which knows no membarrier, sees a fence here and one there.
#[inline(always)]
pub(crate) fn fence_against_barrier() {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    // orders: everything before it before everything behind it
    #[cfg(loom)]
    model::fence_by_barrier();
}

/// Loom's atomics, with threads that die before one of their operations, and a machine that can be made faulty.
#[cfg(loom)]
mod model {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use loom::sync::atomic;
    pub(crate) use loom::sync::atomic::Ordering;

    loom::thread_local! {
        /// How many operations this thread has left; `None` for the immortal.
        static LIFE: Cell<Option<usize>> = Cell::new(None);
    }

    /// What a thread unwinds with when its life is over.
    struct Died;

    /// Runs `work`, which dies before its operation number `operations`. `None`: it died.
    pub(crate) fn lives_for<T>(operations: usize, work: impl FnOnce() -> T) -> Option<T> {
        LIFE.with(|life| life.set(Some(operations)));
        let result = catch_unwind(AssertUnwindSafe(work));
        LIFE.with(|life| life.set(None));
        match result {
            Ok(value) => Some(value),
            Err(panic) if panic.is::<Died>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// One operation that others can see: nothing of it happens where the thread's life is over.
    pub(crate) fn step() {
        LIFE.with(|life| match life.get() {
            Some(0) => resume_unwind(Box::new(Died)),
            left => life.set(left.map(|left| left - 1)),
        });
    }

    /// What a faulty machine does: each model must notice it, or it checks nothing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// Acquire and Release order nothing.
        Relaxed,
        /// Full fences order nothing.
        NoFence,
        /// Membarrier is a fence for its caller, and for nobody else.
        NoBarrier,
        /// A compare-and-swap replaces whatever it finds.
        BlindSwap,
        /// Sleepers are not woken.
        NoWake,
    }

    thread_local! {
        /// Loom runs all threads of a model on the thread that explores it.
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Explores on a machine with this fault.
    pub(crate) fn sabotage(fault: Option<Fault>) {
        FAULT.set(fault);
    }

    fn has(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }

    pub(crate) fn wakes_are_lost() -> bool {
        has(Fault::NoWake)
    }

    fn order(asked: Ordering) -> Ordering {
        if has(Fault::Relaxed) { Ordering::Relaxed } else { asked }
    }

    pub(crate) fn fence(asked: Ordering) {
        if !has(Fault::NoFence) {
            atomic::fence(asked);
        }
    }

    /// What membarrier(2) does to those who do not call it.
    pub(crate) fn fence_by_barrier() {
        if !has(Fault::NoBarrier) {
            fence(Ordering::SeqCst);
        }
    }

    /// A word of shared memory.
    #[derive(Debug)]
    pub(crate) struct AtomicU64(atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(atomic::AtomicU64::new(value))
        }

        /// The kernel's look at a futex: no operation of the thread's own.
        pub(crate) fn peek(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        pub(crate) fn load(&self, asked: Ordering) -> u64 {
            step();
            self.0.load(order(asked))
        }

        pub(crate) fn store(&self, value: u64, asked: Ordering) {
            step();
            self.0.store(value, order(asked));
        }

        pub(crate) fn swap(&self, value: u64, asked: Ordering) -> u64 {
            step();
            self.0.swap(value, order(asked))
        }

        pub(crate) fn fetch_add(&self, value: u64, asked: Ordering) -> u64 {
            step();
            self.0.fetch_add(value, order(asked))
        }

        pub(crate) fn fetch_sub(&self, value: u64, asked: Ordering) -> u64 {
            step();
            self.0.fetch_sub(value, order(asked))
        }

        pub(crate) fn compare_exchange(
            &self,
            old: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            step();
            if has(Fault::BlindSwap) {
                return Ok(self.0.swap(new, success));
            }
            self.0.compare_exchange(old, new, order(success), order(failure))
        }
    }
}
