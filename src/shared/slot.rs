//! The state word of a slot: who may do what with it, at which lap.
//!
//! ```text
//!  63        48 47                            8 7 6       3 2      0
//! ┌────────────┬───────────────────────────────┬─┬─────────┬────────┐
//! │ owner 16   │ lap 40                        │W│ nudges 4│ state 3│
//! └────────────┴───────────────────────────────┴─┴─────────┴────────┘
//!                      low 32 bits: the futex
//! ```
//!
//! W: somebody sleeps on the word. A nudge changes the word for those who are about to sleep, and leaves W to wake
//! them by: whoever nudges may die before it wakes.
//!
//! A slot goes round: EMPTY(lap) → CLAIMED(lap, owner) → FULL(lap, owner) → EMPTY(lap + 1). A claim that was
//! revoked is VOID(lap, owner) until its owner acknowledges it or is dead; a message whose owner died is FULL(lap, 0). A word never repeats (in 2^40 laps), so
//! a compare-and-swap from an exact word acts on exactly what was looked at. All zero is EMPTY(0): a fresh
//! segment needs no initialisation.

/// A slot's state word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u64);

/// What a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Free at this lap.
    Empty,
    /// Its owner writes a message into it.
    Claimed,
    /// A message for whoever takes it.
    Full,
    /// Its claim was revoked; the owner may still be writing.
    Void,
}

const STATE: u64 = 0x07;
const NUDGES: u64 = 0x78;
const NUDGE: u64 = 0x08;
const WAITING: u64 = 0x80;
const LAP_SHIFT: u32 = 8;
const LAP_BITS: u32 = 40;
const OWNER_SHIFT: u32 = 48;

impl Slot {
    pub(crate) const fn new(state: State, lap: u64, owner: u16) -> Self {
        let lap = lap & ((1 << LAP_BITS) - 1);
        Self(state as u64 | lap << LAP_SHIFT | (owner as u64) << OWNER_SHIFT)
    }

    /// `None` for a state that no version of this library writes.
    #[inline(always)]
    pub(crate) fn state(self) -> Option<State> {
        match self.0 & STATE {
            0 => Some(State::Empty),
            1 => Some(State::Claimed),
            2 => Some(State::Full),
            3 => Some(State::Void),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) fn is(self, state: State) -> bool {
        self.0 & STATE == state as u64
    }

    #[inline(always)]
    pub(crate) fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT & ((1 << LAP_BITS) - 1)
    }

    #[inline(always)]
    pub(crate) fn owner(self) -> u16 {
        (self.0 >> OWNER_SHIFT) as u16
    }

    /// Whether somebody sleeps on this word.
    #[inline(always)]
    pub(crate) fn waited_for(self) -> bool {
        self.0 & WAITING != 0
    }

    #[inline(always)]
    pub(crate) fn with_waiting(self) -> Self {
        Self(self.0 | WAITING)
    }

    /// Another word that says the same.
    #[inline]
    pub(crate) fn nudged(self) -> Self {
        Self(self.0 & !NUDGES | self.0.wrapping_add(NUDGE) & NUDGES)
    }

    /// The sleepers of `other` are this word's as well.
    #[inline(always)]
    pub(crate) fn waiting_as(self, other: Self) -> Self {
        Self(self.0 | other.0 & WAITING)
    }

    /// How many laps this word is ahead of `lap`; negative when behind. Right across the wrap of 2^40.
    #[inline(always)]
    pub(crate) fn laps_after(self, lap: u64) -> i64 {
        let ahead = self.lap().wrapping_sub(lap) << (64 - LAP_BITS);
        ahead as i64 >> (64 - LAP_BITS)
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = if self.waited_for() { "+waiting" } else { "" };
        match self.state() {
            Some(state) => write!(out, "{state:?}({}, {}){waiting}", self.lap(), self.owner()),
            None => write!(out, "{:#x}", self.0),
        }
    }
}

/// What a slot says of its message, in the word behind its state.
///
/// ```text
///  63     56 55     48 47        32 31                0
/// ┌─────────┬─────────┬────────────┬───────────────────┐
/// │ flags 8 │ priority│ kind 16    │ inline length 32  │
/// └─────────┴─────────┴────────────┴───────────────────┘
/// ```
///
/// Kind and priority are reserved: version 1 writes 0. So is the flag EXTENDED: an extension (expiry, checksum)
/// stands before the payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct About(pub(crate) u64);

impl About {
    const CHUNK: u64 = 1 << 56;
    const WATCHED: u64 = 1 << 57;

    /// A message of `len` bytes in the slot itself.
    #[inline(always)]
    pub(crate) fn inline(len: usize) -> Self {
        Self(len as u64)
    }

    /// A message in a chunk, which the slot names.
    #[inline(always)]
    pub(crate) fn chunk() -> Self {
        Self(Self::CHUNK)
    }

    /// The same, and its sender watches what becomes of it: whoever drops the message leaves the chunk to the sender.
    #[inline(always)]
    pub(crate) fn watched() -> Self {
        Self(Self::CHUNK | Self::WATCHED)
    }

    #[inline(always)]
    pub(crate) fn is_watched(self) -> bool {
        self.0 & Self::WATCHED != 0
    }

    #[inline(always)]
    pub(crate) fn is_chunk(self) -> bool {
        self.0 & Self::CHUNK != 0
    }

    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.0 as u32 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_its_parts_and_counts_laps_across_the_wrap() {
        let last = (1 << LAP_BITS) - 1;
        let word = Slot::new(State::Claimed, last, 0xffff).with_waiting();
        assert_eq!((word.state(), word.lap(), word.owner()), (Some(State::Claimed), last, 0xffff));
        assert!(word.waited_for() && word.nudged().waited_for() && word.nudged() != word);
        let many = (0..16).fold(word, |word, _| word.nudged());
        assert_eq!((many, word.nudged().state(), word.nudged().lap()), (word, word.state(), word.lap()));
        assert_eq!(Slot::new(State::Empty, last + 1, 0).laps_after(last), 1);
        assert_eq!(word.laps_after(0), -1);
        assert_eq!(Slot(0), Slot::new(State::Empty, 0, 0));
    }
}
