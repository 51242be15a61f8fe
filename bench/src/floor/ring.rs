//! The floors of throughput: rings of one sender and one receiver, as fast as rings are.
//!
//! ```text
//! line 0   head   messages written         line 4...  slots
//! line 2   tail   messages read
//! ```
//! **written**: slots below the head hold their messages. **read**: slots below the tail may be written again.
//! Each side keeps a copy of the other's index and looks at the real one only when the copy says full or empty, and
//! then rests before it looks again: a side on the other's heels takes its line away at every message, and one that
//! lets a few gather is several times faster.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{LINE, Shared};

/// Two lines apart: processors fetch lines in pairs.
const APART: usize = 2 * LINE;

/// Bytes of memory that a ring takes.
pub(crate) const fn bytes(slots: usize, slot_bytes: usize) -> usize {
    2 * APART + slots * slot_bytes
}

/// One side's view of a ring.
struct Side<'a> {
    mine: &'a AtomicU64,
    theirs: &'a AtomicU64,
    /// Messages that this side wrote or read; published or not.
    next: u64,
    /// What `theirs` was when it was looked at last.
    seen: u64,
    slots: NonNull<u8>,
    mask: u64,
    slot_bytes: usize,
}

impl<'a> Side<'a> {
    fn new(memory: &'a Shared, offset: usize, slots: usize, slot_bytes: usize, is_sender: bool) -> Self {
        assert!(
            slots.is_power_of_two() && slot_bytes.is_multiple_of(LINE),
            "whole lines, a power of two of slots"
        );
        let head = memory.word(offset);
        let tail = memory.word(offset + APART);
        let (mine, theirs) = if is_sender { (head, tail) } else { (tail, head) };
        let next = mine.load(Ordering::Relaxed);
        let seen = theirs.load(Ordering::Acquire);
        let slots_at = memory.bytes(offset + 2 * APART, slots * slot_bytes);
        Self { mine, theirs, next, seen, slots: slots_at, mask: slots as u64 - 1, slot_bytes }
    }

    #[inline]
    fn slot(&self, index: u64) -> *mut u8 {
        // SAFETY: `index & mask` is below the number of slots, whose bytes `new` checked to be mapped.
        unsafe { self.slots.add((index & self.mask) as usize * self.slot_bytes).as_ptr() }
    }
}

/// The sending side.
pub(crate) struct RingSender<'a> {
    side: Side<'a>,
    pauses: u32,
}

impl<'a> RingSender<'a> {
    pub(crate) fn new(memory: &'a Shared, offset: usize, slots: usize, slot_bytes: usize) -> Self {
        Self { side: Side::new(memory, offset, slots, slot_bytes, true), pauses: 0 }
    }

    /// Rests so many pauses each time that it finds the ring full.
    pub(crate) fn patient(mut self, pauses: u32) -> Self {
        self.pauses = pauses;
        self
    }

    /// Waits until a slot is free.
    #[inline]
    fn wait(&mut self) {
        let side = &mut self.side;
        while side.next - side.seen > side.mask {
            side.seen = side.theirs.load(Ordering::Acquire); // takes: read
            if side.next - side.seen > side.mask {
                (0..self.pauses).for_each(|_| std::hint::spin_loop());
            }
        }
    }

    /// Writes an item of one line; not published yet.
    #[inline]
    pub(crate) fn put(&mut self, item: [u64; 8]) {
        self.wait();
        let slot = self.side.slot(self.side.next);
        // SAFETY: `slot` is a whole aligned line, and the receiver does not read it before it is published.
        unsafe { slot.cast::<[u64; 8]>().write(item) };
        self.side.next += 1;
    }

    /// Copies a message in; not published yet.
    #[inline]
    pub(crate) fn copy_in(&mut self, message: &[u8]) {
        self.wait();
        let len = message.len().min(self.side.slot_bytes);
        let slot = self.side.slot(self.side.next);
        // SAFETY: `len` bytes of a slot that the receiver does not read before it is published.
        unsafe { slot.copy_from_nonoverlapping(message.as_ptr(), len) };
        self.side.next += 1;
    }

    /// Publishes all that was written.
    #[inline]
    pub(crate) fn publish(&self) {
        self.side.mine.store(self.side.next, Ordering::Release); // gives: written
    }
}

/// The receiving side.
pub(crate) struct RingReceiver<'a> {
    side: Side<'a>,
    pauses: u32,
    released: u64,
}

impl<'a> RingReceiver<'a> {
    pub(crate) fn new(memory: &'a Shared, offset: usize, slots: usize, slot_bytes: usize) -> Self {
        let side = Side::new(memory, offset, slots, slot_bytes, false);
        Self { pauses: 0, released: side.next, side }
    }

    /// Rests so many pauses each time that it finds the ring empty, and gives slots back by the quarter of a ring.
    pub(crate) fn patient(mut self, pauses: u32) -> Self {
        self.pauses = pauses;
        self
    }

    /// Waits for a message; how many are there.
    #[inline]
    pub(crate) fn wait(&mut self) -> u64 {
        let side = &mut self.side;
        while side.next == side.seen {
            side.seen = side.theirs.load(Ordering::Acquire); // takes: written
            if side.next == side.seen {
                side.mine.store(side.next, Ordering::Release); // gives: read
                (0..self.pauses).for_each(|_| std::hint::spin_loop());
            }
        }
        side.seen - side.next
    }

    /// Reads the next item, which [`wait`](Self::wait) has seen; not given back yet.
    #[inline]
    pub(crate) fn get(&mut self) -> [u64; 8] {
        self.wait();
        let slot = self.side.slot(self.side.next);
        self.side.next += 1;
        // SAFETY: `slot` is a whole aligned line that was published and is not given back yet.
        unsafe { slot.cast::<[u64; 8]>().read() }
    }

    /// Copies the next message out; not given back yet.
    #[inline]
    pub(crate) fn copy_out(&mut self, into: &mut [u8]) {
        self.wait();
        let len = into.len().min(self.side.slot_bytes);
        let slot = self.side.slot(self.side.next);
        self.side.next += 1;
        // SAFETY: `len` bytes of a slot that was published and is not given back yet.
        unsafe { slot.copy_to_nonoverlapping(into.as_mut_ptr(), len) };
    }

    /// Gives back all that was read.
    #[inline]
    pub(crate) fn release(&mut self) {
        let side = &self.side;
        if self.pauses == 0 || side.next - self.released > side.mask / 4 {
            side.mine.store(side.next, Ordering::Release); // gives: read
            self.released = side.next;
        }
    }
}
