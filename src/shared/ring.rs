//! The ring of slots, many to many.
//!
//! Position `p` lies in slot `p mod slots` at lap `p / slots`. The truth is in the slots' state words
//! ([`Slot`]); TAIL and HEAD are hints that save walking.
//!
//! Facts, each held by a word and handed over by it:
//! - **claimed**(p): every position up to and including p is claimed or passed over. A claim of p is tried only by
//!   one who knows claimed(p-1); so messages lie in the order of their claims, and no hole is ever left behind.
//! - **filled**(p): the slot's message is written whole. Given by the commit, taken by whoever finds FULL.
//! - **taken**(p): every position up to and including p is taken or passed over, and no one reads the slot for it
//!   any more. A slot is claimed for the next lap only by one who knows it.
//! - **acknowledged**: the owner of a revoked claim writes into its slot no more. Given by the owner, or by its
//!   death; only then is the slot EMPTY again.
//!
//! A claim may be revoked at any time by anyone, its owner alive or not: its commit then fails, and it sends again
//! from its own copy. No user code runs between claim and commit, or while a slot is held: there is no other way
//! for a slot to be held at all.
//!
//! A message stays at its position until one compare-and-swap empties the slot: a take, or its sender's retraction,
//! and never both. So a sender that waits sees in the word itself what became of it: while that is FULL at its lap
//! the message waits; when it is not, and the sender has not taken it back, somebody else has it. (A message in a
//! chunk is taken by the chunk's word: there the chunk decides, and the slot follows.) A retraction needs no step of
//! its own for receivers: EMPTY of the next lap in front of them is passed over, as behind a revoked claim, and as
//! there it proves nothing of the positions before it.
//!
//! The owner of a FULL slot is who sent it and may wait for its take; 0 when that one died. It is cleared before the
//! dead one's place is free: so who empties a slot from an exact word with an owner in it knows that the owner is
//! there, or is repaired after this step.

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::fence;
use crate::deadline::Deadline;

use super::Contradiction;
use super::layout::{self, Layout, SLOT_MIN};
use super::memory::Memory;
use super::slot::{Slot, State};
use super::wait::{NAP, Spinner, nap_on_claim};

/// How many messages ahead a line is fetched.
const AHEAD: u64 = 8;

/// The ring of a segment; a handle's own copy of where it lies.
#[derive(Clone)]
pub(crate) struct Ring {
    memory: Memory,
    slots: u64,
    count: u64,
    shift: u32,
    capacity: u64,
}

/// Where a handle believes the ring's end to be. Never ahead of the truth, so always a sound place to start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    pub(crate) position: u64,
    seen_head: u64,
}

/// A slot and the exact word it was found with: what a compare-and-swap starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) word: Slot,
}

/// What came of trying to claim.
pub(crate) enum Claim {
    /// The slot is ours: write, then commit.
    Claimed(Found),
    /// No room until this message is taken.
    Full(Found),
    /// Another's claim stands where room should be.
    Blocked(Found),
    /// Others were faster at every step.
    Lost,
}

/// What stands at the front.
pub(crate) enum Front {
    /// A message.
    Full(Found),
    /// Nothing was sent that was not taken; sleep on this word.
    Empty(Found),
    /// A claim that is not committed.
    Blocked(Found),
    /// Others were faster at every step.
    Lost,
}

impl Ring {
    pub(crate) fn new(memory: Memory, layout: &Layout) -> Self {
        let (slots, count, capacity) = (layout.slots, layout.slot_count, layout.config.room());
        Self { memory, slots, count, shift: count.trailing_zeros(), capacity }
    }

    /// A cursor for a new handle.
    pub(crate) fn cursor(&self, hint: u64) -> Cursor {
        // takes: claimed, taken (of all positions below TAIL or HEAD)
        Cursor { position: self.memory.word(hint).load(Acquire), seen_head: self.head() }
    }

    /// A number for the capacity: what is taken, each slot says by itself.
    fn head(&self) -> u64 {
        self.memory.word(layout::HEAD).load(Relaxed)
    }

    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> u64 {
        self.slots + (position & (self.count - 1)) * SLOT_MIN
    }

    #[inline(always)]
    fn lap(&self, position: u64) -> u64 {
        position >> self.shift
    }

    #[inline(always)]
    pub(crate) fn load(&self, position: u64) -> Slot {
        // takes: claimed, filled, taken, acknowledged (by what the word says)
        Slot(self.memory.word(self.slot(position)).load(Acquire))
    }

    /// Replaces exactly `found`; if it had sleepers and the new word is not theirs to wait for, they wake.
    #[inline(always)]
    fn replace(&self, found: Found, new: Slot) -> bool {
        let word = self.memory.word(self.slot(found.position));
        // What the old word says was taken by the look at it: no word comes back.
        // gives: claimed, taken, acknowledged (by what the new word says)
        word.compare_exchange(found.word.0, new.0, Release, Relaxed).is_ok()
    }

    fn wake(&self, found: Found) {
        if found.word.waited_for() {
            self.memory.wake(self.slot(found.position));
        }
    }

    /// How many steps a walk may have: a lap, and what others add meanwhile.
    fn patience(&self) -> u64 {
        4 * self.count + 64
    }

    /// The first position that can matter after a slot was found `laps` ahead of `position`: the slot's own lap
    /// proves that all before its last round are done. The shared hint may know more.
    fn jump(&self, position: u64, laps: i64, hint: u64) -> u64 {
        let proven = position.wrapping_add((laps as u64 - 1) << self.shift).wrapping_add(1);
        // takes: claimed, taken (of all positions below TAIL or HEAD)
        let hinted = self.memory.word(hint).load(Acquire);
        if hinted.wrapping_sub(proven) as i64 > 0 { hinted } else { proven }
    }

    /// Tries to claim the next position for `me`.
    #[inline]
    pub(crate) fn claim(&self, cursor: &mut Cursor, me: u16) -> Result<Claim, Contradiction> {
        for _ in 0..self.patience() {
            let position = cursor.position;
            let word = self.load(position);
            let found = Found { position, word };
            match word.laps_after(self.lap(position)) {
                0 if word.is(State::Empty) => {
                    if let Some(refusal) = self.refusal(cursor, position)? {
                        return Ok(refusal);
                    }
                    let claimed = Slot::new(State::Claimed, self.lap(position), me).waiting_as(word);
                    if self.replace(found, claimed) {
                        self.wake(found);
                        self.claimed_up_to(cursor, position);
                        self.expect(position);
                        return Ok(Claim::Claimed(Found { position, word: claimed }));
                    }
                }
                0 => {
                    if !word.is(State::Full) {
                        self.wake(found); // whoever took the position may be dead, between that and its wake
                    }
                    cursor.position = self.jump(position, 1, layout::TAIL);
                }
                laps @ 1.. => cursor.position = self.jump(position, laps, layout::TAIL),
                -1 => match word.state() {
                    Some(State::Full) => return Ok(Claim::Full(found)),
                    Some(State::Claimed) => return Ok(Claim::Blocked(found)),
                    Some(State::Void) => self.pass_over(cursor, found),
                    Some(State::Empty) | None => {
                        return Err(Contradiction("a slot is behind the ring's tail"));
                    }
                },
                _ => return Err(Contradiction("a slot is laps behind the ring's tail")),
            }
        }
        Ok(Claim::Lost)
    }

    /// Fetches the line that will be used in some messages' time: a compare-and-swap waits for its line, and several
    /// cannot wait at once.
    #[inline(always)]
    pub(crate) fn expect(&self, position: u64) {
        if self.count > 4 * AHEAD {
            self.memory.prefetch_write(self.slot(position.wrapping_add(AHEAD)));
        }
    }

    fn claimed_up_to(&self, cursor: &mut Cursor, position: u64) {
        cursor.position = position.wrapping_add(1);
        // gives: claimed(position)
        self.memory.word(layout::TAIL).store(cursor.position, Release);
    }

    /// A quarantined slot: this lap goes by without it.
    fn pass_over(&self, cursor: &mut Cursor, found: Found) {
        let owner = found.word.owner();
        let passed = Slot::new(State::Void, self.lap(found.position), owner).waiting_as(found.word);
        if self.replace(found, passed) {
            self.wake(found);
            self.claimed_up_to(cursor, found.position);
        }
    }

    /// Why a free slot may not be claimed all the same: the capacity is smaller than the number of slots.
    fn refusal(&self, cursor: &mut Cursor, position: u64) -> Result<Option<Claim>, Contradiction> {
        if self.capacity == self.count || position.wrapping_sub(cursor.seen_head) < self.capacity {
            return Ok(None);
        }
        cursor.seen_head = self.head();
        let mut oldest = position.wrapping_sub(self.capacity);
        if (oldest.wrapping_sub(cursor.seen_head) as i64) < 0 {
            return Ok(None);
        }
        // Back over what is taken or void, to the youngest message that waits; none is older than the head.
        for _ in 0..self.count {
            let word = self.load(oldest);
            let found = Found { position: oldest, word };
            match (word.laps_after(self.lap(oldest)), word.state()) {
                (1.., _) | (0, Some(State::Void)) => oldest = oldest.wrapping_sub(1),
                (0, Some(State::Full)) => return Ok(Some(Claim::Full(found))),
                (0, Some(State::Claimed)) => return Ok(Some(Claim::Blocked(found))),
                _ => return Err(Contradiction("an unclaimed slot lies behind the ring's tail")),
            }
            if (oldest.wrapping_sub(cursor.seen_head) as i64) < 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Commits a claim whose message is written. False: it was revoked, and nothing was sent.
    #[inline]
    pub(crate) fn commit(&self, claim: Found) -> Result<bool, Contradiction> {
        let full = Slot::new(State::Full, claim.word.lap(), claim.word.owner());
        let word = self.memory.word(self.slot(claim.position));
        // gives: filled(position)
        if word.compare_exchange(claim.word.0, full.0, Release, Relaxed).is_ok() {
            return Ok(true);
        }
        self.acknowledge(claim).map(|()| false)
    }

    /// The owner of a revoked claim gives the slot back.
    #[cold]
    fn acknowledge(&self, claim: Found) -> Result<(), Contradiction> {
        for _ in 0..self.patience() {
            let word = self.load(claim.position);
            if !word.is(State::Void) || word.owner() != claim.word.owner() {
                return Err(Contradiction("a claim is neither ours nor revoked"));
            }
            if self.empty(Found { position: claim.position, word }) {
                return Ok(());
            }
        }
        Err(Contradiction("a revoked claim changes without end"))
    }

    /// Revokes a claim that holds others up, its owner alive, stopped or dead.
    pub(crate) fn revoke(&self, found: Found) {
        let void = Slot::new(State::Void, found.word.lap(), found.word.owner()).waiting_as(found.word);
        if self.replace(found, void) {
            self.wake(found);
        }
    }

    /// The message at the cursor, if one stands there.
    #[inline(always)]
    pub(crate) fn at(&self, cursor: &Cursor) -> Option<Found> {
        self.waiting(cursor.position)
    }

    /// Waits for a claim that stands in the way, and revokes it when that takes too long.
    pub(crate) fn outwait(&self, found: Found, spinner: &Spinner) {
        let changed = || self.load(found.position) != found.word;
        if spinner.watch_claim(changed) {
            return;
        }
        // Where others sleep its owner is in the call that wakes them, and may be waiting for this very processor.
        let nap = || self.memory.sleep(self.slot(found.position), found.word.0, NAP.into());
        if found.word.waited_for() && nap_on_claim(nap, changed) {
            return;
        }
        self.revoke(found);
    }

    /// Looks for the first message.
    #[inline]
    pub(crate) fn front(&self, cursor: &mut Cursor) -> Result<Front, Contradiction> {
        for _ in 0..self.patience() {
            let position = cursor.position;
            let word = self.load(position);
            let found = Found { position, word };
            match (word.laps_after(self.lap(position)), word.state()) {
                (0, Some(State::Full)) => return Ok(Front::Full(found)),
                (0, Some(State::Empty)) | (-1, Some(State::Void)) => return Ok(Front::Empty(found)),
                (0, Some(State::Claimed)) => return Ok(Front::Blocked(found)),
                (0, Some(State::Void)) => self.taken_up_to(cursor, position),
                // EMPTY proves a lap less: its last claim may have been revoked, or its message taken back, while
                // messages before it wait.
                (laps @ 2.., Some(State::Empty)) => {
                    cursor.position = self.jump(position, laps - 1, layout::HEAD);
                }
                (laps @ 1.., Some(_)) => cursor.position = self.jump(position, laps, layout::HEAD),
                _ => return Err(Contradiction("a slot is behind the ring's head")),
            }
        }
        Ok(Front::Lost)
    }

    #[inline(always)]
    fn taken_up_to(&self, cursor: &mut Cursor, position: u64) {
        cursor.position = position.wrapping_add(1);
        // gives: taken(position)
        self.memory.word(layout::HEAD).store(cursor.position, Release);
    }

    /// Takes a message whose bytes were copied out. False: somebody else has it, or a sender fell asleep on it;
    /// the copy is worthless.
    #[inline]
    pub(crate) fn take(&self, cursor: &mut Cursor, found: Found) -> bool {
        if !self.empty(found) {
            return false;
        }
        self.taken_up_to(cursor, found.position);
        true
    }

    /// FULL → EMPTY of the next lap; or VOID, for its owner or when that is known to be dead.
    #[inline(always)]
    fn empty(&self, found: Found) -> bool {
        let emptied = Slot::new(State::Empty, found.word.lap() + 1, 0).waiting_as(found.word);
        let replaced = self.replace(found, emptied);
        if replaced {
            self.wake(found);
        }
        replaced
    }

    /// The message that was sent at `position`, if it waits still.
    #[inline(always)]
    pub(crate) fn waiting(&self, position: u64) -> Option<Found> {
        let found = Found { position, word: self.load(position) };
        (found.word.is(State::Full) && found.word.laps_after(self.lap(position)) == 0).then_some(found)
    }

    /// Takes back the message that the caller sent at `position`. False: it is gone, and whoever emptied its slot has
    /// it. No hint follows: messages before it may wait.
    pub(crate) fn retract(&self, position: u64) -> Result<bool, Contradiction> {
        for _ in 0..self.patience() {
            match self.waiting(position) {
                Some(found) if self.empty(found) => return Ok(true),
                Some(_) => {} // somebody fell asleep on it
                None => return Ok(false),
            }
        }
        Err(Contradiction("a message changes without end"))
    }

    /// Sleeps until the word changes, unless `still` finds that there is something to do.
    pub(crate) fn sleep(&self, found: Found, until: Deadline, still: impl FnOnce() -> bool) {
        let waiting = found.word.with_waiting();
        if waiting != found.word && !self.replace(found, waiting) {
            return;
        }
        // orders: the waiting bit before the look in `still`; see `wake_receivers`
        fence(SeqCst);
        if still() {
            self.memory.sleep(self.slot(found.position), waiting.0, until);
        }
    }

    /// Makes sleeping receivers look again: something changed that is no message.
    pub(crate) fn wake_receivers(&self) {
        // orders: the change before the look for a waiting bit; see `sleep`
        fence(SeqCst);
        let mut cursor = self.cursor(layout::HEAD);
        if let Ok(Front::Empty(found)) = self.front(&mut cursor)
            && found.word.waited_for()
            && self.replace(found, found.word.nudged())
        {
            self.wake(found);
        }
    }

    /// Repairs what a dead participant held. `still_dead` says whether the place still names it: asked after each
    /// look at a word, so that a successor in the same place is never robbed. False: others changed a slot at every
    /// step, and it may still name the dead.
    pub(crate) fn reap(&self, dead: u16, still_dead: impl Fn() -> bool) -> bool {
        let mut steps = 0..self.patience();
        (0..self.count).all(|position| {
            steps.any(|_| {
                let word = self.load(position);
                if word.owner() != dead || !still_dead() {
                    return true;
                }
                let found = Found { position, word };
                match word.state() {
                    Some(State::Claimed) => {
                        self.revoke(found);
                        false
                    }
                    Some(State::Void) => self.empty(found),
                    // Its message is there for whoever takes it, and nobody's to take back.
                    Some(State::Full) => {
                        let left = Slot::new(State::Full, word.lap(), 0).waiting_as(word);
                        self.replace(found, left)
                    }
                    _ => true,
                }
            })
        })
    }

    /// The slots whose messages wait.
    pub(crate) fn full_slots(&self) -> impl Iterator<Item = u64> {
        (0..self.count)
            .filter(|position| self.load(*position).is(State::Full))
            .map(|position| self.slot(position))
    }
}
