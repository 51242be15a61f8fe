//! The ring of slots, one to one: no compare-and-swap.
//!
//! Position `p` lies in slot `p mod slots`; it holds a message when its stamp is `p + 1`. The sender alone writes
//! stamps and TAIL, the receiver alone HEAD and the shared head; each end's place among the endpoints is fixed, so
//! there is never a second one.
//!
//! Facts:
//! - **filled**(p): the slot's message is written whole. Given by its stamp.
//! - **taken**(p): the receiver has copied all messages up to p. Given by HEAD (exact, stored with every message,
//!   read only by a sender that is about to say that it is full, and by a successor) and by the shared head
//!   (at most a quarter of the capacity behind, so that the sender's line is seldom fetched).
//!
//! A sender that died left TAIL at most one batch behind its stamps: its successor walks over them.

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU64, fence, fence_against_barrier};
use crate::deadline::Deadline;

use super::layout::{self, Fence, Layout, SLOT_MIN};
use super::memory::Memory;

/// How many lines ahead are fetched, where a slot is one line; a slot of many lines has its first fetched.
const AHEAD: u64 = 16;

fn ahead(layout: &Layout) -> u64 {
    let ahead = (AHEAD * SLOT_MIN / layout.config.slot_bytes).max(2);
    if layout.slot_count > 4 * ahead { ahead } else { 0 }
}

/// The ring of a segment; a handle's own copy of where it lies.
#[derive(Clone)]
pub(crate) struct Pair {
    memory: Memory,
    slots: u64,
    slot_bytes: u64,
    mask: u64,
    capacity: u64,
    quarter: u64,
    /// How many messages ahead a line is fetched before it is needed; 0 where the ring is too small for it.
    ahead: u64,
    fence: Fence,
}

/// The sender's own knowledge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendSide {
    pub(crate) position: u64,
    head: u64,
}

/// The receiver's own knowledge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiveSide {
    pub(crate) position: u64,
    published: u64,
}

/// What the word of a bed says.
const AWAKE: u64 = 0;
const SLEEPS: u64 = 1;
/// Was asleep when it was called, and has not risen.
const CALLED: u64 = 2;

/// Who sleeps on what.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bed {
    Receiver,
    Sender,
}

impl Bed {
    fn offset(self) -> u64 {
        match self {
            Self::Receiver => layout::RECEIVER_SLEEPS,
            Self::Sender => layout::SENDER_SLEEPS,
        }
    }
}

impl Pair {
    pub(crate) fn new(memory: Memory, layout: &Layout) -> Self {
        let config = &layout.config;
        Self {
            memory,
            slots: layout.slots,
            slot_bytes: config.slot_bytes,
            mask: layout.slot_count - 1,
            capacity: config.capacity,
            quarter: config.capacity.div_ceil(4),
            ahead: ahead(layout),
            fence: config.fence,
        }
    }

    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> u64 {
        self.slots + (position & self.mask) * self.slot_bytes
    }

    #[inline(always)]
    fn stamp(&self, position: u64) -> &AtomicU64 {
        self.memory.word(self.slot(position))
    }

    /// Whether the message at `position` is there.
    #[inline(always)]
    pub(crate) fn is_filled(&self, position: u64) -> bool {
        // takes: filled(position)
        self.stamp(position).load(Acquire) == position.wrapping_add(1)
    }

    /// Where a new sender goes on.
    pub(crate) fn send_side(&self) -> SendSide {
        let mut position = self.memory.word(layout::TAIL).load(Relaxed);
        for _ in 0..=self.mask {
            if !self.is_filled(position) {
                break;
            }
            position = position.wrapping_add(1);
        }
        SendSide { position, head: self.head() }
    }

    /// Where a new receiver goes on.
    pub(crate) fn receive_side(&self) -> ReceiveSide {
        let position = self.head();
        self.publish(position);
        ReceiveSide { position, published: position }
    }

    fn head(&self) -> u64 {
        // takes: taken(head - 1)
        self.memory.word(layout::HEAD).load(Acquire)
    }

    fn publish(&self, position: u64) {
        // gives: taken(position - 1)
        self.memory.word(layout::SHARED_HEAD).store(position, Release);
    }

    /// How many messages fit, as far as the sender knows or the receiver has published.
    #[inline(always)]
    pub(crate) fn room(&self, side: &mut SendSide) -> u64 {
        match self.room_from(side) {
            0 => self.published_room(side),
            room => room,
        }
    }

    #[inline(always)]
    fn room_from(&self, side: &SendSide) -> u64 {
        self.capacity.saturating_sub(side.position.wrapping_sub(side.head))
    }

    #[inline(never)]
    fn published_room(&self, side: &mut SendSide) -> u64 {
        // takes: taken(shared head - 1)
        side.head = self.memory.word(layout::SHARED_HEAD).load(Acquire);
        self.room_from(side)
    }

    /// How many messages fit by the exact cursor: asked before the answer is none.
    #[cold]
    pub(crate) fn exact_room(&self, side: &mut SendSide) -> u64 {
        side.head = self.head();
        self.room_from(side)
    }

    /// Fetches the line that a message some way ahead will be read from. A slot has many lines only where it was
    /// made to fit: then they are fetched by reading them.
    #[inline(always)]
    pub(crate) fn expect(&self, position: u64) {
        if self.ahead > 0 {
            self.memory.prefetch_read(self.slot(position.wrapping_add(self.ahead)));
        }
    }

    /// The message at the sender's position is written.
    #[inline(always)]
    pub(crate) fn fill(&self, side: &mut SendSide) {
        let next = side.position.wrapping_add(1);
        if self.ahead > 0 {
            self.memory.prefetch_write(self.slot(next.wrapping_add(self.ahead)));
        }
        // gives: filled(position)
        self.stamp(side.position).store(next, Release);
        side.position = next;
    }

    /// Stores the sender's cursor, for a successor, and wakes the receiver if it sleeps.
    #[inline(always)]
    pub(crate) fn filled(&self, side: &SendSide) {
        self.memory.word(layout::TAIL).store(side.position, Relaxed);
        self.wake(Bed::Receiver);
    }

    /// The messages below the receiver's position are copied: they are taken, and the slots the sender's again.
    #[inline(always)]
    pub(crate) fn taken(&self, side: &mut ReceiveSide) {
        // gives: taken(position - 1)
        self.memory.word(layout::HEAD).store(side.position, Release);
        if side.position.wrapping_sub(side.published) >= self.quarter {
            self.publish(side.position);
            side.published = side.position;
        }
        self.wake(Bed::Sender);
    }

    /// Wakes the other side if it sleeps.
    #[inline(always)]
    pub(crate) fn wake(&self, bed: Bed) {
        // Both order the stamp or cursor before the look for a sleeper; see `sleep`.
        match self.fence {
            // orders: as above, by itself
            Fence::Everyone => fence(SeqCst),
            Fence::Sleeper => fence_against_barrier(),
        }
        if self.memory.word(bed.offset()).load(Relaxed) == SLEEPS {
            self.rouse(bed);
        }
    }

    /// Wakes the other side after a change that is no message.
    pub(crate) fn rouse(&self, bed: Bed) {
        // orders: the change before the look for a sleeper; see `sleep`
        fence(SeqCst);
        let flag = self.memory.word(bed.offset());
        let seen = flag.load(Relaxed);
        // Called and not up yet: whoever called may have died before its wake.
        if seen == CALLED || seen == SLEEPS && flag.compare_exchange(SLEEPS, CALLED, Relaxed, Relaxed).is_ok()
        {
            self.memory.wake(bed.offset());
        }
    }

    /// Sleeps until woken or until the deadline, unless `still` finds that there is something to do. False: the
    /// kernel refused the barrier, and nobody slept.
    pub(crate) fn sleep(&self, bed: Bed, until: Deadline, still: impl FnOnce() -> bool) -> bool {
        let flag = self.memory.word(bed.offset());
        flag.store(SLEEPS, Relaxed);
        // Both order the flag before the look in `still`.
        match self.fence {
            // orders: as above
            Fence::Everyone => fence(SeqCst),
            // And in the other process the stamp before its look at the flag.
            Fence::Sleeper if self.memory.barrier() => {}
            Fence::Sleeper => return false,
        }
        if still() {
            self.memory.sleep(bed.offset(), SLEEPS, until);
        }
        flag.store(AWAKE, Relaxed);
        true
    }

    /// The slots whose messages wait. Each stamp speaks for itself: a walk from the head would end at a slot that is
    /// taken and filled again meanwhile, and miss those behind it. What a dead sender wrote is seen with its death.
    pub(crate) fn full_slots(&self) -> impl Iterator<Item = u64> {
        let head = self.head();
        (0..=self.mask)
            .map(|position| self.slot(position))
            .filter(move |slot| self.memory.word(*slot).load(Relaxed).wrapping_sub(head) as i64 > 0)
    }
}
