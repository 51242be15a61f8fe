//! The bytes of a segment as the structures see them: 64-bit atomic words by offset, and payloads.
//!
//! Everything that processes share passes through here, so that the model checker can stand in for the
//! memory: built with `--cfg loom`, a word is one of its atomics and a futex one of its condition variables.

#[cfg(not(loom))]
mod real {
    use std::marker::PhantomData;

    use crate::atomic::{AtomicU32, AtomicU64};
    use crate::deadline::Deadline;
    use crate::segment::Segment;
    use crate::sys;

    /// A view of a mapped segment. Whoever makes one keeps the segment mapped for as long as it is used.
    #[derive(Clone, Copy)]
    pub(crate) struct Memory {
        base: *mut u8,
        len: u64,
        shared: PhantomData<*const AtomicU64>,
    }

    // SAFETY: all access through a Memory is atomic, or through the two copying functions that may race.
    unsafe impl Send for Memory {}
    // SAFETY: as above.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(crate) fn of(segment: &Segment) -> Self {
            Self { base: segment.base(), len: segment.len(), shared: PhantomData }
        }

        pub(crate) fn len(&self) -> u64 {
            self.len
        }

        /// Whether `len` bytes at `offset` lie inside. What was read from the segment passes this before its use.
        #[inline]
        pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
            offset.checked_add(len).is_some_and(|end| end <= self.len)
        }

        /// The word at `offset`, a multiple of 8 inside the segment: every caller's offset comes from the layout,
        /// which was checked against the length once, or has passed [`holds`](Self::holds).
        #[inline(always)]
        pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
            debug_assert!(
                offset.is_multiple_of(8) && self.holds(offset, 8),
                "word at {offset} of {}",
                self.len
            );
            // SAFETY: inside the mapping and aligned (above); the bytes are only ever accessed as atomics.
            unsafe { &*self.base.add(offset as usize).cast::<AtomicU64>() }
        }

        /// The low half of a word: what a futex waits on.
        #[inline]
        fn futex(&self, offset: u64) -> &AtomicU32 {
            debug_assert!(offset.is_multiple_of(8) && self.holds(offset, 8));
            // SAFETY: as for `word`; little-endian, so the low half lies first. Mixed-size access to the same word
            // is the kernel's alone: this reference is only passed to futex(2).
            unsafe { &*self.base.add(offset as usize).cast::<AtomicU32>() }
        }

        /// Sleeps while the low half of the word is that of `expected`, at most until the deadline.
        pub(crate) fn sleep(&self, offset: u64, expected: u64, until: Deadline) {
            sys::futex::futex_wait(self.futex(offset), expected as u32, until);
        }

        /// Wakes all who sleep on the word. It was changed before.
        pub(crate) fn wake(&self, offset: u64) {
            sys::futex::futex_wake_all(self.futex(offset));
        }

        /// A full barrier for the caller and for every running peer; false where the kernel refuses.
        pub(crate) fn barrier(&self) -> bool {
            sys::futex::membarrier()
        }

        /// Fetches the line at `offset` for writing, while other things are done. Any offset will do.
        #[inline(always)]
        pub(crate) fn prefetch_write(&self, offset: u64) {
            sys::copy::prefetch_write(self.base.wrapping_add(offset as usize));
        }

        /// Fetches the line at `offset` for reading.
        #[inline(always)]
        pub(crate) fn prefetch_read(&self, offset: u64) {
            sys::copy::prefetch_read(self.base.wrapping_add(offset as usize));
        }

        /// Copies payload out. It may race with a writer; the caller then throws the bytes away.
        #[inline(always)]
        pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
            debug_assert!(self.holds(offset, into.len() as u64));
            // SAFETY: inside the mapping (above; callers check what they read from the segment).
            unsafe { sys::copy::copy_from_shared(into, self.base.add(offset as usize)) }
        }

        /// Copies payload in. Readers that race with it throw their bytes away.
        #[inline(always)]
        pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
            debug_assert!(self.holds(offset, bytes.len() as u64));
            // SAFETY: inside the mapping, which is writable.
            unsafe { sys::copy::copy_to_shared(self.base.add(offset as usize), bytes) }
        }

        /// Bytes where they lie.
        ///
        /// # Safety
        /// They lie inside ([`holds`](Self::holds)), stay mapped for as long as the slice lives, and no process
        /// writes to them meanwhile.
        pub(crate) unsafe fn as_slice<'a>(self, offset: u64, len: u64) -> &'a [u8] {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts(self.base.add(offset as usize), len as usize) }
        }

        /// Bytes where they lie.
        ///
        /// # Safety
        /// As [`as_slice`](Self::as_slice), and no process reads them either.
        pub(crate) unsafe fn as_mut_slice<'a>(self, offset: u64, len: u64) -> &'a mut [u8] {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(self.base.add(offset as usize), len as usize) }
        }
    }
}

#[cfg(loom)]
mod model {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use loom::sync::{Condvar, Mutex};
    use loom::thread::yield_now;

    use crate::atomic::{AtomicU64, Ordering, fence, step, wakes_are_lost};
    use crate::deadline::Deadline;

    /// The words of a segment that a model uses. An execution has one, which lasts until the next begins.
    #[derive(Clone, Copy)]
    pub(crate) struct Memory {
        words: &'static Words,
        bed: &'static Bed,
        len: u64,
    }

    type Words = BTreeMap<u64, AtomicU64>;

    /// How often the sleepers of each word were woken, and where they lie.
    type Bed = (Mutex<BTreeMap<u64, u64>>, Condvar);

    thread_local! {
        static LAST: Cell<Option<Box<(Words, Bed)>>> = const { Cell::new(None) };
    }

    impl Memory {
        /// A segment of `len` bytes in which only these words are used; they begin with these values.
        pub(crate) fn of_words(len: u64, words: impl IntoIterator<Item = (u64, u64)>) -> Self {
            let words = words.into_iter().map(|(offset, value)| (offset, AtomicU64::new(value))).collect();
            let parts = Box::new((words, Bed::default()));
            // SAFETY: the box stays where it is until the next execution's memory replaces it; the threads that
            // hold copies of this one end with its execution.
            let (words, bed) = unsafe { &*std::ptr::from_ref(&*parts) };
            LAST.set(Some(parts));
            Self { words, bed, len }
        }

        pub(crate) fn len(&self) -> u64 {
            self.len
        }

        pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
            offset.checked_add(len).is_some_and(|end| end <= self.len)
        }

        pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
            &self.words[&offset]
        }

        /// Like the kernel: the comparison and the falling asleep are one step, seen from `wake`. With a deadline
        /// it may end at any moment; without one, a lost wake-up is a deadlock, which the checker reports.
        pub(crate) fn sleep(&self, offset: u64, expected: u64, until: Deadline) {
            step();
            if until != Deadline::Never {
                return yield_now();
            }
            let mut wakes = self.bed.0.lock().unwrap();
            if self.word(offset).peek() as u32 != expected as u32 {
                return;
            }
            let before = wakes.get(&offset).copied();
            while wakes.get(&offset).copied() == before {
                wakes = self.bed.1.wait(wakes).unwrap();
            }
        }

        pub(crate) fn wake(&self, offset: u64) {
            step();
            if wakes_are_lost() {
                return;
            }
            *self.bed.0.lock().unwrap().entry(offset).or_default() += 1;
            self.bed.1.notify_all();
        }

        pub(crate) fn prefetch_write(&self, _offset: u64) {}

        pub(crate) fn prefetch_read(&self, _offset: u64) {}

        pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
            for (i, part) in into.chunks_mut(8).enumerate() {
                let word = self.word(offset + i as u64 * 8).load(Ordering::Relaxed);
                part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
            }
        }

        pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
            for (i, part) in bytes.chunks(8).enumerate() {
                let mut word = [0; 8];
                word[..part.len()].copy_from_slice(part);
                self.word(offset + i as u64 * 8).store(u64::from_le_bytes(word), Ordering::Relaxed);
            }
        }

        /// A fence for the caller; the others' is where they leave it to the barrier.
        pub(crate) fn barrier(&self) -> bool {
            // orders: as membarrier(2) does
            fence(Ordering::SeqCst);
            true
        }
    }
}

#[cfg(loom)]
pub(crate) use model::Memory;
#[cfg(not(loom))]
pub(crate) use real::Memory;
