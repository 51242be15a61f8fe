//! What the gate's processes tell each other: a page of counters that only grow, some for each process.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Result;

use crate::page::Page;

/// Words for each process; the first of them are everybody's.
const ROW: usize = 16;
/// How many processes have a row.
pub(super) const ROWS: usize = 31;

pub(super) struct Board(Page);

/// What everybody reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    /// Which segment is current: they are changed often, so that there are whole ones to break.
    Epoch,
    Stop,
}

/// What a process counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Operations that ended.
    Ended,
    /// What goes on now, by number.
    Doing,
    Received,
    Corrupt,
    /// The deadline passed, or there was no room.
    Late,
    /// Any other error that the operation promises.
    Refused,
    /// The longest time that an operation took beyond its deadline, ns, and which one it was.
    Longest,
    LongestDoing,
    /// Words that a scribbler wrote.
    Words,
}

impl Board {
    pub(super) fn new() -> Result<Self> {
        Page::new().map(Self)
    }

    pub(super) fn sign(&self, sign: Sign) -> &AtomicU64 {
        self.0.word(sign as usize)
    }

    pub(super) fn get(&self, sign: Sign) -> u64 {
        self.sign(sign).load(Relaxed)
    }

    pub(super) fn word(&self, row: usize, count: Count) -> &AtomicU64 {
        assert!(row < ROWS, "a row for each process");
        self.0.word((row + 1) * ROW + count as usize)
    }

    pub(super) fn count(&self, row: usize, count: Count) -> u64 {
        self.word(row, count).load(Relaxed)
    }

    pub(super) fn add(&self, row: usize, count: Count, more: u64) {
        self.word(row, count).fetch_add(more, Relaxed);
    }

    pub(super) fn total(&self, count: Count) -> u64 {
        (0..ROWS).map(|row| self.count(row, count)).sum()
    }
}
