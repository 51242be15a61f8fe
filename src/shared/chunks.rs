//! The chunks that hold what is too large for a slot: one word each says whose it is.
//!
//! ```text
//!  63               32 31          16 15     8 7      0
//! ┌───────────────────┬──────────────┬────────┬────────┐      descriptor, 64 B:
//! │ version 32        │ holder 16    │ flags 8│ state 8│      word │ data offset │ length │ reserved
//! └───────────────────┴──────────────┴────────┴────────┘
//! ```
//!
//! FREE → LOANED(sender) → QUEUED(sender) → HELD(receiver) → FREE. Every step is a compare-and-swap from the exact
//! word, and the version advances with every loan, and where a sender takes its message back (QUEUED → LOANED): who
//! lost a race cannot act on a successor's chunk. Whatever else says where chunks are is a hint.
//!
//! Facts:
//! - **written**: the chunk's bytes and length are written. Given by LOANED → QUEUED, taken by QUEUED → HELD.
//! - **read**: its last reader is done. Given by → FREE, taken by FREE → LOANED.
//!
//! - **returned**: a chunk is RETURNED. Given by the hint RETURNED, which a walk clears before it looks.
//!
//! The take of a chunk is QUEUED → HELD: from then on the message is the receiver's, and anyone may empty the slot
//! that still names it. With `ack=release` a dead receiver's chunk becomes RETURNED, and whoever receives next
//! holds it first.

use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::atomic::{AtomicU64, fence_after_update};

use super::Contradiction;
use super::extents::Extents;
use super::layout::{self, CHUNK_BYTES, Layout};
use super::memory::Memory;

/// A chunk's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Loaned,
    Queued,
    Held,
    Returned,
}

/// The chunk's memory was given back to the system and must be reserved again.
const PUNCHED: u64 = 1 << 8;
/// It was held before, by a receiver that died.
const REDELIVERED: u64 = 1 << 9;

impl Word {
    fn next(self, state: State, holder: u16) -> Self {
        Self(self.0 & !0xffff_00ff | state as u64 | u64::from(holder) << 16)
    }

    pub(crate) fn is(self, state: State) -> bool {
        self.0 & 0xff == state as u64
    }

    /// `None` for a state, or with a flag, that no version of this library writes.
    pub(crate) fn state(self) -> Option<State> {
        let states = [State::Free, State::Loaned, State::Queued, State::Held, State::Returned];
        let known = self.0 & 0xff00 & !(PUNCHED | REDELIVERED) == 0;
        states.into_iter().find(|state| known && self.is(*state))
    }

    pub(crate) fn holder(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub(crate) fn version(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn punched(self) -> bool {
        self.0 & PUNCHED != 0
    }

    pub(crate) fn redelivered(self) -> bool {
        self.0 & REDELIVERED != 0
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let punched = if self.punched() { "+punched" } else { "" };
        let redelivered = if self.redelivered() { "+redelivered" } else { "" };
        match self.state() {
            Some(state) => {
                write!(out, "{state:?}({}, {}){punched}{redelivered}", self.version(), self.holder())
            }
            None => write!(out, "{:#x}", self.0),
        }
    }
}

/// A chunk in this process's hands: loaned, queued or held, by the exact word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) id: u32,
    pub(crate) word: Word,
    /// Where its bytes lie in the segment; inside it.
    pub(crate) offset: u64,
    /// The message's size.
    pub(crate) len: u64,
}

impl Chunk {
    /// What a slot says to name it.
    pub(crate) fn reference(&self) -> u64 {
        u64::from(self.id) | u64::from(self.word.version()) << 32
    }
}

/// The descriptors of a segment's chunks.
#[derive(Clone)]
pub(crate) struct Chunks {
    memory: Memory,
    at: u64,
}

impl Chunks {
    pub(crate) fn new(memory: Memory, layout: &Layout) -> Self {
        Self { memory, at: layout.chunks }
    }

    pub(super) fn descriptor(&self, id: u32) -> u64 {
        self.at + u64::from(id) * CHUNK_BYTES
    }

    #[inline(always)]
    fn word(&self, id: u32) -> &AtomicU64 {
        self.memory.word(self.descriptor(id))
    }

    pub(crate) fn load(&self, id: u32) -> Word {
        // takes: written, read (by what the word says)
        Word(self.word(id).load(Acquire))
    }

    #[inline(always)]
    fn replace(&self, id: u32, old: Word, new: Word) -> bool {
        // What the old word says was taken by the look at it: no word comes back.
        // gives: written, read (by what the new word says)
        self.word(id).compare_exchange(old.0, new.0, Release, Relaxed).is_ok()
    }

    /// FREE → LOANED.
    pub(crate) fn loan(&self, id: u32, me: u16) -> Option<Word> {
        let old = self.load(id);
        if !old.is(State::Free) {
            return None;
        }
        let next = old.next(State::Loaned, me);
        let next = Word((next.0 & !REDELIVERED).wrapping_add(1 << 32));
        self.replace(id, old, next).then_some(next)
    }

    /// The loaned chunk's memory is there (again).
    pub(crate) fn mark_backed(&self, id: u32, loaned: Word, backed: bool) -> Result<Word, Contradiction> {
        let next = Word(if backed { loaned.0 & !PUNCHED } else { loaned.0 | PUNCHED });
        self.step(id, loaned, next)
    }

    fn step(&self, id: u32, old: Word, next: Word) -> Result<Word, Contradiction> {
        match self.replace(id, old, next) {
            true => Ok(next),
            false => Err(Contradiction("a chunk was taken out of its holder's hands")),
        }
    }

    /// LOANED → QUEUED. From here on only its receiver touches its bytes.
    #[inline]
    pub(crate) fn queue(&self, chunk: &mut Chunk) -> Result<(), Contradiction> {
        let at = self.descriptor(chunk.id);
        self.memory.word(at + 8).store(chunk.offset, Relaxed);
        self.memory.word(at + 16).store(chunk.len, Relaxed);
        let next = chunk.word.next(State::Queued, chunk.word.holder());
        chunk.word = self.step(chunk.id, chunk.word, next)?;
        Ok(())
    }

    /// QUEUED → LOANED: its slot was never committed.
    pub(crate) fn unqueue(&self, chunk: &mut Chunk) -> Result<(), Contradiction> {
        match self.recall(chunk) {
            true => Ok(()),
            false => Err(Contradiction("a chunk was taken out of its holder's hands")),
        }
    }

    /// QUEUED → LOANED, with the next version: whoever read its name in a slot finds it no more. False: it was taken.
    pub(crate) fn recall(&self, chunk: &mut Chunk) -> bool {
        let next = Word(chunk.word.next(State::Loaned, chunk.word.holder()).0.wrapping_add(1 << 32));
        let recalled = self.replace(chunk.id, chunk.word, next);
        if recalled {
            chunk.word = next;
        }
        recalled
    }

    /// Whether a queued chunk waits still.
    pub(crate) fn waits(&self, chunk: &Chunk) -> bool {
        self.load(chunk.id) == chunk.word
    }

    /// Fetches the descriptor of a chunk that is about to change hands.
    #[inline(always)]
    pub(crate) fn expect(&self, id: u32) {
        self.memory.prefetch_write(self.descriptor(id));
    }

    /// QUEUED → HELD: takes the message that a slot names, of one of the extents. `None`: it was taken before.
    #[inline]
    pub(crate) fn hold(
        &self,
        reference: u64,
        me: u16,
        extents: &mut Extents,
    ) -> Result<Option<Chunk>, Contradiction> {
        let (id, version) = (reference as u32, (reference >> 32) as u32);
        if !extents.has_chunk(id)? {
            return Err(Contradiction("a slot names a chunk that does not exist"));
        }
        let old = self.load(id);
        if old.version() != version || !old.is(State::Queued) {
            return Ok(None);
        }
        self.hold_exactly(id, old, me, extents)
    }

    fn hold_exactly(
        &self,
        id: u32,
        old: Word,
        me: u16,
        extents: &Extents,
    ) -> Result<Option<Chunk>, Contradiction> {
        let word = old.next(State::Held, me);
        if !self.replace(id, old, word) {
            return Ok(None);
        }
        let at = self.descriptor(id);
        let (offset, len) = (self.memory.word(at + 8).load(Relaxed), self.memory.word(at + 16).load(Relaxed));
        let chunk = Chunk { id, word, offset, len };
        if extents.holds(&chunk) {
            return Ok(Some(chunk));
        }
        self.release(chunk);
        Err(Contradiction("a message lies outside its chunk"))
    }

    /// RETURNED → HELD: what a dead receiver did not release comes again.
    pub(crate) fn hold_returned(
        &self,
        me: u16,
        extents: &mut Extents,
    ) -> Result<Option<Chunk>, Contradiction> {
        let returned = self.memory.word(layout::RETURNED);
        if returned.load(Relaxed) == 0 {
            return Ok(None);
        }
        // Cleared before the walk: whoever returns one meanwhile sets it again. It is only ever added to or swapped,
        // never stored, so that whoever clears it sees the chunks of all who set it before.
        returned.swap(0, Acquire); // takes: returned
        // Behind the clearing: the chunk may be of an extent that is newer than what was known.
        let learned = extents.refresh();
        for id in 0..extents.chunks_known() {
            let word = self.load(id);
            if word.is(State::Returned)
                && let Some(chunk) = self.hold_exactly(id, word, me, extents)?
            {
                returned.fetch_add(1, Relaxed); // more may be waiting, of those who gave it before
                return Ok(Some(chunk));
            }
        }
        learned.map(|()| None)
    }

    /// Whether a chunk waits to come again.
    pub(crate) fn any_returned(&self, known: u32) -> bool {
        (0..known).any(|id| self.load(id).is(State::Returned))
    }

    /// Whether a message may come again: somebody else than `me` has taken it and not released it, or it is returned.
    pub(crate) fn any_leased_beside(&self, known: u32, me: u16) -> bool {
        (0..known)
            .map(|id| self.load(id))
            .any(|word| word.is(State::Held) && word.holder() != me || word.is(State::Returned))
    }

    /// Whether the message that a slot names still waits, and was not taken by one who then died.
    pub(crate) fn is_queued(&self, reference: u64, known: u32) -> bool {
        let (id, version) = (reference as u32, (reference >> 32) as u32);
        id < known && {
            let word = self.load(id);
            word.is(State::Queued) && word.version() == version
        }
    }

    /// → FREE, and wakes senders that wait for a chunk.
    #[inline]
    pub(crate) fn release(&self, chunk: Chunk) {
        if self.replace(chunk.id, chunk.word, chunk.word.next(State::Free, 0)) {
            self.wake_waiting();
        }
    }

    fn wake_waiting(&self) {
        let sleepers = self.memory.word(layout::POOL_SLEEPERS);
        // orders: the release of the chunk before the look for sleepers; see Pool::sleep
        fence_after_update();
        let seen = sleepers.load(Relaxed);
        if seen & 1 != 0 && sleepers.compare_exchange(seen, seen.wrapping_add(1), Relaxed, Relaxed).is_ok() {
            self.memory.wake(layout::POOL_SLEEPERS);
        }
    }

    /// Repairs one chunk of a dead participant. `queued` says whether a committed slot names it, `lease` whether
    /// what it held comes again.
    pub(crate) fn reap(
        &self,
        id: u32,
        dead: u16,
        lease: bool,
        queued: &dyn Fn(u64) -> bool,
        still_dead: &dyn Fn() -> bool,
    ) {
        let word = self.load(id);
        if word.holder() != dead || !still_dead() {
            return;
        }
        if word.is(State::Held) && lease {
            let next = Word(word.next(State::Returned, 0).0 | REDELIVERED);
            if self.replace(id, word, next) {
                // gives: returned
                self.memory.word(layout::RETURNED).fetch_add(1, Release);
            }
            return;
        }
        let chunk = Chunk { id, word, offset: 0, len: 0 };
        let waits = word.is(State::Queued) && queued(chunk.reference());
        if !waits {
            self.release(chunk);
        }
    }
}
