//! Extents: how the pool grows, without a lock and without a size set ahead.
//!
//! Extent `i` begins where `i - 1` ends, holds a power of two of chunks of one size class, and is named by one
//! word: FREE → GROWING(class, count) → READY. Reserving its memory is idempotent, so whoever wants to grow and finds
//! an extent GROWING finishes it, whether its first owner lives, is stopped or is dead; a failure sets it FREE again
//! with the next version. Growing therefore has no owner, and a death leaves nothing to repair. Who only looks stops
//! there: behind it is nothing yet. A chunk too large to reserve in passing is not finished for another but taken
//! back: its owner begins again, and what it reserved is still there.
//!
//! Fact **backed**: the extent's memory and its chunks' descriptors are reserved. Given by READY.

use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::error::{Error, Result};

use super::Contradiction;
use super::chunks::Chunk;
use super::layout::{CHUNK_BYTES, CHUNKS, EXTENT_BYTES, EXTENTS, Layout};
use super::memory::Memory;

const FREE: u64 = 0;
const GROWING: u64 = 1;
const READY: u64 = 2;

/// The smallest chunk, in bytes.
const SMALLEST: u64 = 256;
/// Classes up to 64 KiB are powers of two; above, four to each doubling.
const POWER_CLASSES: u32 = 9;
/// How much one growth adds at most, where one chunk is not more.
const GROWTH_MAX: u64 = 16 << 20;
const GROWTH_MIN: u64 = 64 << 10;
/// How often others may be faster before it is a fault.
const PATIENCE: u32 = 32;

/// A size class.
pub(crate) type Class = u8;

/// The largest class that fits a segment.
const CLASS_MAX: u8 = (POWER_CLASSES + (46 - 16) * 4 + 3) as u8;

/// The smallest class whose chunks hold `len` bytes.
pub(crate) fn class_of(len: u64) -> Class {
    if len <= SMALLEST << (POWER_CLASSES - 1) {
        return len.div_ceil(SMALLEST).next_power_of_two().trailing_zeros() as Class;
    }
    let doubling = (len - 1).ilog2();
    let quarter = (len - 1 - (1 << doubling)) >> (doubling - 2);
    (POWER_CLASSES + (doubling - 16) * 4 + quarter as u32) as Class
}

/// The bytes of a chunk of that class.
pub(crate) fn class_bytes(class: Class) -> u64 {
    let class = u32::from(class);
    if class < POWER_CLASSES {
        return SMALLEST << class;
    }
    let (doubling, quarter) = (16 + (class - POWER_CLASSES) / 4, (class - POWER_CLASSES) % 4);
    (1 << doubling) + (u64::from(quarter) + 1) * (1 << (doubling - 2))
}

/// One READY extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) class: Class,
    /// Its first chunk's number.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Where its bytes begin in the segment.
    pub(crate) offset: u64,
}

impl Extent {
    pub(crate) fn bytes(&self) -> u64 {
        (u64::from(self.count) * class_bytes(self.class)).next_multiple_of(4096)
    }

    /// Whether one growth may make it: some small chunks, or a single large one.
    fn is_one_growth(&self) -> bool {
        self.count == 1 || u64::from(self.count) <= GROWTH_MAX / class_bytes(self.class)
    }

    /// Where a chunk of it lies.
    pub(crate) fn chunk_offset(&self, id: u32) -> u64 {
        self.offset + u64::from(id - self.first) * class_bytes(self.class)
    }
}

/// What stands behind the extents that are READY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// None.
    End,
    /// One whose memory is being reserved, and its word.
    Growing(Extent, u64),
    /// A word that no extent has.
    Wrong(u64),
}

/// What the word of an extent that came to nothing is next.
fn freed(word: u64) -> u64 {
    (word >> 32).wrapping_add(1) << 32 | FREE
}

const IMPOSSIBLE: Contradiction = Contradiction("an extent is impossible, or in no known state");

/// Reserves memory of the segment; `punch` gives it back.
pub(crate) trait Backing {
    fn reserve(&self, offset: u64, len: u64) -> Result<()>;
    fn punch(&self, offset: u64, len: u64);
    fn corrupt(&self, problem: &str) -> Error;
}

/// A handle's knowledge of the extents: a prefix of the table, all READY.
#[derive(Clone)]
pub(crate) struct Extents {
    memory: Memory,
    table: u64,
    chunks: u64,
    data: u64,
    end: u64,
    known: Vec<Extent>,
}

impl Extents {
    pub(crate) fn new(memory: Memory, layout: &Layout) -> Self {
        let (table, chunks, data, end) = (layout.extents, layout.chunks, layout.data, layout.length);
        Self { memory, table, chunks, data, end, known: Vec::new() }
    }

    /// What is known; [`refresh`](Self::refresh) learns more.
    pub(crate) fn known(&self) -> &[Extent] {
        &self.known
    }

    /// The number of chunks in what is known.
    pub(crate) fn chunks_known(&self) -> u32 {
        self.known.last().map_or(0, |extent| extent.first + extent.count)
    }

    /// The longest message that fits a chunk: one that there is, or one that there is still room for.
    pub(crate) fn longest(&self) -> u64 {
        let start = self.known.last().map_or(self.data, |last| last.offset + last.bytes());
        let is_full = self.known.len() == EXTENTS as usize || u64::from(self.chunks_known()) == CHUNKS;
        let room = if is_full { 0 } else { self.end.saturating_sub(start) };
        let possible = (0..=CLASS_MAX).map(class_bytes).take_while(|bytes| *bytes <= room);
        possible.chain(self.known.iter().map(|extent| class_bytes(extent.class))).max().unwrap_or(0)
    }

    fn word_at(&self, index: usize) -> u64 {
        self.table + index as u64 * EXTENT_BYTES
    }

    /// The extent that a word describes, behind those known; `None` where it would leave its bounds.
    fn described(&self, word: u64) -> Option<Extent> {
        let (class, log_count) = ((word >> 8) as Class, word >> 16 & 0xff);
        if class > CLASS_MAX || log_count > 20 {
            return None;
        }
        let first = self.chunks_known();
        let offset = self.known.last().map_or(self.data, |last| last.offset + last.bytes());
        let extent = Extent { class, first, count: 1 << log_count, offset };
        let fits = extent.is_one_growth()
            && offset.checked_add(extent.bytes()).is_some_and(|end| end <= self.end)
            && u64::from(first) + u64::from(extent.count) <= CHUNKS;
        fits.then_some(extent)
    }

    /// Learns of extents that became READY.
    pub(crate) fn refresh(&mut self) -> Result<(), Contradiction> {
        match self.learn() {
            Next::Wrong(_) => Err(IMPOSSIBLE),
            Next::End | Next::Growing(..) => Ok(()),
        }
    }

    /// Learns of extents that became READY, and says what stands behind them. Changes nothing.
    pub(crate) fn learn(&mut self) -> Next {
        while self.known.len() < EXTENTS as usize {
            // takes: backed
            let word = self.memory.word(self.word_at(self.known.len())).load(Acquire);
            match (word & 0xff, self.described(word)) {
                (FREE, _) => break,
                (READY, Some(extent)) => self.known.push(extent),
                (GROWING, Some(extent)) => return Next::Growing(extent, word),
                _ => return Next::Wrong(word),
            }
        }
        Next::End
    }

    /// The extent that a chunk is of, where it is known.
    fn of_chunk(&self, id: u32) -> Option<&Extent> {
        let behind = self.known.partition_point(|extent| extent.first <= id);
        self.known[..behind].last().filter(|extent| id < extent.first + extent.count)
    }

    /// Whether there is such a chunk.
    pub(crate) fn has_chunk(&mut self, id: u32) -> Result<bool, Contradiction> {
        if id >= self.chunks_known() {
            self.refresh()?;
        }
        Ok(id < self.chunks_known())
    }

    /// Whether a message may lie so: in the chunk that it says it is in.
    pub(crate) fn holds(&self, chunk: &Chunk) -> bool {
        self.of_chunk(chunk.id).is_some_and(|extent| {
            chunk.offset == extent.chunk_offset(chunk.id) && chunk.len <= class_bytes(extent.class)
        })
    }

    /// Adds an extent of the class. `Ok(false)`: the segment's `memory_max` is reached.
    pub(crate) fn grow(&mut self, class: Class, backing: &dyn Backing) -> Result<bool> {
        let before = self.known.len();
        let mut log_count = None;
        for _ in 0..PATIENCE {
            match self.learn() {
                Next::Wrong(_) => return Err(backing.corrupt(IMPOSSIBLE.0)),
                Next::Growing(extent, word) => {
                    self.help(extent, word, backing)?;
                    continue;
                }
                Next::End if self.known.len() > before => return Ok(true),
                Next::End if self.known.len() == EXTENTS as usize => return Ok(false),
                Next::End => {}
            }
            let at = self.memory.word(self.word_at(self.known.len()));
            let old = at.load(Relaxed);
            let version = (old >> 32).wrapping_add(1);
            let log = *log_count.get_or_insert_with(|| self.growth(class).ilog2());
            let word = GROWING | u64::from(class) << 8 | u64::from(log) << 16 | version << 32;
            let Some(extent) = self.described(word) else {
                match log.checked_sub(1) {
                    Some(fewer) => log_count = Some(fewer),
                    None => return Ok(false),
                }
                continue;
            };
            if old & 0xff != FREE || at.compare_exchange(old, word, Relaxed, Relaxed).is_err() {
                continue;
            }
            match self.finish(extent, word, backing) {
                Err(Error::NoSpace { .. }) if log > 0 => log_count = Some(0),
                done => done?,
            }
        }
        Err(backing.corrupt("an extent changes without end"))
    }

    /// How many chunks the next extent of a class has: as many as there are, within bounds.
    fn growth(&self, class: Class) -> u64 {
        let size = class_bytes(class);
        let owned: u64 = self.known.iter().filter(|extent| extent.class == class).map(Extent::bytes).sum();
        owned.clamp(GROWTH_MIN, GROWTH_MAX).max(size) / size
    }

    /// Gets an extent that another began out of the way.
    fn help(&self, extent: Extent, word: u64, backing: &dyn Backing) -> Result<()> {
        if extent.bytes() > GROWTH_MAX {
            let at = self.memory.word(self.word_at(self.known.len()));
            // Nothing was done, so nothing is handed over.
            at.compare_exchange(word, freed(word), Relaxed, Relaxed).ok();
            return Ok(());
        }
        match self.finish(extent, word, backing) {
            // It is FREE again: there may be room for less.
            Err(Error::NoSpace { .. }) => Ok(()),
            done => done,
        }
    }

    /// Reserves a GROWING extent and makes it READY, or FREE again where there is no room; unless another did.
    fn finish(&self, extent: Extent, word: u64, backing: &dyn Backing) -> Result<()> {
        let first = self.chunks + u64::from(extent.first) * CHUNK_BYTES;
        let descriptors = u64::from(extent.count) * CHUNK_BYTES;
        let reserved = backing
            .reserve(first & !4095, (first + descriptors).next_multiple_of(4096) - (first & !4095))
            .and_then(|()| backing.reserve(extent.offset, extent.bytes()));
        let next = match reserved {
            Ok(()) => word & !0xff | READY,
            Err(_) => freed(word),
        };
        let at = self.memory.word(self.word_at(self.known.len()));
        // gives: backed
        if at.compare_exchange(word, next, Release, Relaxed).is_err() {
            return Ok(()); // another was faster: what he did counts
        }
        reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gets_the_smallest_class_that_holds_it() {
        for class in 0..100 {
            let bytes = class_bytes(class);
            assert_eq!((class_of(bytes), class_of(bytes + 1)), (class, class + 1), "{bytes}");
            assert!(bytes < 65536 || bytes.is_multiple_of(4096));
        }
        assert_eq!(
            (class_of(0), class_of(1), class_of(256), class_of(1 << 30)),
            (0, 0, 0, class_of((1 << 30) - 5))
        );
        assert_eq!(class_bytes(class_of(1 << 30)), 1 << 30);
    }
}
