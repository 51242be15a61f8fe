//! Extents: how the pool grows, without a lock and without a size set ahead.
//!
//! Extent `i` begins where `i - 1` ends, holds a power of two of chunks of one size class, and is named by one
//! word: FREE → GROWING(class, count) → READY. Reserving its memory is idempotent, so whoever finds an extent
//! GROWING finishes it, whether its first owner lives, is stopped or is dead; a failure sets it FREE again with
//! the next version. Growing therefore has no owner, and a death leaves nothing to repair.
//!
//! Fact **backed**: the extent's memory and its chunks' descriptors are reserved. Given by READY.

use crate::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::error::{Error, Result};

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
const PATIENCE: u32 = 1000;

/// A size class.
pub(crate) type Class = u8;

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

    fn word_at(&self, index: usize) -> u64 {
        self.table + index as u64 * EXTENT_BYTES
    }

    /// The extent that a word describes, behind those known; `None` where it would leave its bounds.
    fn described(&self, word: u64) -> Option<Extent> {
        let class = (word >> 8) as Class;
        let log_count = word >> 16 & 0xff;
        if class_of(class_bytes(class.min(100))) != class || log_count > 20 {
            return None;
        }
        let first = self.chunks_known();
        let offset = self.known.last().map_or(self.data, |last| last.offset + last.bytes());
        let extent = Extent { class, first, count: 1 << log_count, offset };
        let fits = offset.checked_add(extent.bytes()).is_some_and(|end| end <= self.end)
            && u64::from(first) + u64::from(extent.count) <= CHUNKS;
        fits.then_some(extent)
    }

    /// Learns of extents that became READY; finishes one that is GROWING.
    pub(crate) fn refresh(&mut self, backing: &dyn Backing) -> Result<()> {
        for _ in 0..EXTENTS as u32 + PATIENCE {
            match self.learn() {
                Next::End => break,
                Next::Growing(extent, word) => {
                    // Where there is no room it is FREE again: trouble for whoever grows, not for who looks.
                    match self.finish(extent, word, backing) {
                        Ok(()) | Err(Error::NoSpace { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Next::Wrong(_) => {
                    return Err(backing.corrupt("an extent is impossible, or in no known state"));
                }
            }
        }
        Ok(())
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

    /// Adds an extent of the class. `Ok(false)`: the segment's `memory_max` is reached.
    pub(crate) fn grow(&mut self, class: Class, backing: &dyn Backing) -> Result<bool> {
        self.refresh(backing)?;
        let index = self.known.len();
        if index == EXTENTS as usize {
            return Ok(false);
        }
        let size = class_bytes(class);
        let owned: u64 = self.known.iter().filter(|extent| extent.class == class).map(Extent::bytes).sum();
        let wanted = owned.clamp(GROWTH_MIN, GROWTH_MAX.max(size)).min(GROWTH_MAX).max(size) / size;
        let mut log_count = wanted.ilog2();
        for _ in 0..PATIENCE {
            // takes: backed
            let old = self.memory.word(self.word_at(index)).load(Acquire);
            if old & 0xff != FREE {
                return self.refresh(backing).map(|()| true);
            }
            let version = (old >> 32).wrapping_add(1);
            let word = GROWING | u64::from(class) << 8 | u64::from(log_count) << 16 | version << 32;
            let Some(extent) = self.described(word) else {
                match log_count.checked_sub(1) {
                    Some(fewer) => log_count = fewer,
                    None => return Ok(false),
                }
                continue;
            };
            // gives: backed (of the extents before); takes: backed
            if self.memory.word(self.word_at(index)).compare_exchange(old, word, AcqRel, Relaxed).is_err() {
                continue;
            }
            match (self.finish(extent, word, backing), log_count) {
                (Ok(()), _) => return self.refresh(backing).map(|()| true),
                (Err(Error::NoSpace { .. }), 1..) => log_count = 0,
                (Err(error), _) => return Err(error),
            }
        }
        Err(backing.corrupt("an extent changes without end"))
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
            Err(_) => ((word >> 32) + 1) << 32 | FREE,
        };
        let at = self.memory.word(self.word_at(self.known.len()));
        // gives: backed; takes: backed (of the extents before)
        if at.compare_exchange(word, next, AcqRel, Relaxed).is_err() {
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
