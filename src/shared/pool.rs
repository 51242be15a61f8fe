//! The pool as a sender sees it: which chunk to use next.
//!
//! A sender tries the chunks that it used before, oldest first: when the receivers keep up, the same few go round
//! and stay in the caches. Then it looks through all of their class, then it grows. What it remembers lies in its
//! own memory and is a hint: the chunk's word decides.

use std::collections::VecDeque;

use crate::atomic::Ordering::Relaxed;
use crate::atomic::fence_after_update;
use crate::deadline::Deadline;
use crate::error::Result;

use super::Contradiction;
use super::chunks::{Chunk, Chunks, State};
use super::extents::{Backing, Class, Extents, class_bytes, class_of};
use super::layout::{self, Layout};
use super::memory::Memory;

/// How often others may take all that it adds before it waits for a chunk like everybody.
const ROUNDS: u32 = 16;
/// How many of its own chunks a sender tries before it looks further.
const TRIES: usize = 4;
/// How many chunks of a class a sender remembers.
const REMEMBERED: usize = 1024;
/// At least so many chunks go round, so that the next can be fetched while the last is still read ...
const PAIR: usize = 2;
/// ... up to this size, in bytes.
const PAIR_UP_TO: u64 = 1 << 20;
/// Chunks from this size on are given back to the system when they lie idle.
const TRIM_FROM: u64 = 64 << 10;
/// Idle memory that is kept all the same: reserving and first touch are dear.
const TRIM_KEEPS: u64 = 8 << 20;

/// One sender's way to chunks.
pub(crate) struct Pool {
    memory: Memory,
    pub(crate) chunks: Chunks,
    pub(crate) extents: Extents,
    used: Vec<Used>,
}

struct Used {
    class: Class,
    ids: VecDeque<(u32, u64)>,
    /// Where the next look through the class begins: extent and chunk.
    scan: (usize, u32),
}

/// What came of asking for a chunk.
pub(crate) enum Loan {
    Chunk(Chunk),
    /// `memory_max` is reached: wait until one is released.
    Exhausted,
}

impl Pool {
    pub(crate) fn new(memory: Memory, layout: &Layout) -> Self {
        let chunks = Chunks::new(memory, layout);
        Self { extents: Extents::new(memory, layout), memory, chunks, used: Vec::new() }
    }

    /// A chunk for `len` bytes, LOANED to `me`.
    #[inline]
    pub(crate) fn loan(&mut self, len: u64, me: u16, backing: &dyn Backing) -> Result<Loan> {
        let class = class_of(len);
        let slot = match self.used.iter().position(|used| used.class == class) {
            Some(slot) => slot,
            None => {
                self.used.push(Used { class, ids: VecDeque::new(), scan: (0, 0) });
                self.used.len() - 1
            }
        };
        if let Some(chunk) = self.reuse(slot, len, me, backing)? {
            return Ok(Loan::Chunk(chunk));
        }
        self.search(slot, len, me, backing)
    }

    fn reuse(&mut self, slot: usize, len: u64, me: u16, backing: &dyn Backing) -> Result<Option<Chunk>> {
        let Used { class, ids, .. } = &mut self.used[slot];
        if ids.len() < PAIR && class_bytes(*class) <= PAIR_UP_TO {
            return Ok(None);
        }
        for at in 0..TRIES.min(ids.len()) {
            let (id, offset) = ids[at];
            if let Some(word) = self.chunks.loan(id, me) {
                ids.remove(at);
                ids.push_back((id, offset));
                let chunk = Chunk { id, word, offset, len };
                return self.backed(chunk, self.used[slot].class, backing).map(Some);
            }
        }
        if ids.len() > 1 {
            ids.rotate_left(1); // a chunk that is kept for long does not stand in the way for ever
        }
        Ok(None)
    }

    /// Fetches what the next loan of that size will need, behind a send.
    #[inline]
    pub(crate) fn expect(&self, len: u64) {
        let class = class_of(len);
        if let Some(used) = self.used.iter().find(|used| used.class == class)
            && let Some((id, offset)) = used.ids.front()
        {
            self.chunks.expect(*id);
            self.memory.prefetch_write(*offset);
            self.memory.prefetch_write(offset + len.saturating_sub(1));
        }
    }

    #[cold]
    fn search(&mut self, slot: usize, len: u64, me: u16, backing: &dyn Backing) -> Result<Loan> {
        let class = self.used[slot].class;
        for _ in 0..ROUNDS {
            if let Some(chunk) = self.scan(slot, class, len, me) {
                self.remember(slot, &chunk);
                return Ok(Loan::Chunk(self.backed(chunk, class, backing)?));
            }
            if !self.extents.grow(class, backing)? {
                break;
            }
            self.used[slot].scan = (self.extents.known().len().saturating_sub(1), 0);
        }
        // memory_max is reached: a larger chunk will do.
        let mut larger: Vec<Class> = self.extents.known().iter().map(|extent| extent.class).collect();
        larger.retain(|other| *other > class);
        larger.sort_unstable();
        larger.dedup();
        for other in larger {
            self.used[slot].scan = (0, 0);
            if let Some(chunk) = self.scan(slot, other, len, me) {
                return Ok(Loan::Chunk(self.backed(chunk, other, backing)?));
            }
        }
        Ok(Loan::Exhausted)
    }

    /// Looks through all chunks of a class once, beginning where the last look ended.
    fn scan(&mut self, slot: usize, class: Class, len: u64, me: u16) -> Option<Chunk> {
        let extents = self.extents.known();
        let (start, skip) = self.used[slot].scan;
        for step in 0..=extents.len() {
            let index = (start + step) % extents.len().max(1);
            let Some(extent) = extents.get(index).filter(|extent| extent.class == class) else { continue };
            let skip = if step == 0 { skip } else { 0 };
            for id in extent.first + skip.min(extent.count)..extent.first + extent.count {
                if let Some(word) = self.chunks.loan(id, me) {
                    let offset = extent.chunk_offset(id);
                    self.used[slot].scan = (index, id + 1 - extent.first);
                    return Some(Chunk { id, word, offset, len });
                }
            }
        }
        None
    }

    fn remember(&mut self, slot: usize, chunk: &Chunk) {
        let ids = &mut self.used[slot].ids;
        if ids.len() == REMEMBERED {
            ids.pop_front();
        }
        ids.push_back((chunk.id, chunk.offset));
    }

    /// Reserves a chunk's memory again where it was given back.
    fn backed(&self, mut chunk: Chunk, class: Class, backing: &dyn Backing) -> Result<Chunk> {
        if !chunk.word.punched() {
            return Ok(chunk);
        }
        let bytes = class_bytes(class);
        if let Err(error) = backing.reserve(chunk.offset, bytes) {
            self.chunks.release(chunk);
            return Err(error);
        }
        chunk.word =
            self.chunks.mark_backed(chunk.id, chunk.word, true).map_err(|fault| backing.corrupt(fault.0))?;
        Ok(chunk)
    }

    /// Sleeps until a chunk is released or the deadline passes. True: there may be one now.
    pub(crate) fn wait(&mut self, until: Deadline, len: u64, me: u16, backing: &dyn Backing) -> Result<bool> {
        let word = self.memory.word(layout::POOL_SLEEPERS);
        let seen = word.load(Relaxed);
        let waiting = seen | 1;
        if word.compare_exchange(seen, waiting, Relaxed, Relaxed).is_err() {
            return Ok(true);
        }
        // orders: the waiting bit before the look for a chunk; see Chunks::release
        fence_after_update();
        match self.loan(len, me, backing)? {
            Loan::Chunk(chunk) => {
                self.chunks.release(chunk);
                Ok(true)
            }
            Loan::Exhausted => {
                self.memory.sleep(layout::POOL_SLEEPERS, waiting, until);
                Ok(false)
            }
        }
    }

    /// Gives idle memory of large chunks back to the system.
    pub(crate) fn trim(&mut self, me: u16, backing: &dyn Backing) -> Result<(), Contradiction> {
        self.extents.refresh()?;
        let mut kept = 0;
        for extent in self.extents.known().iter().filter(|extent| class_bytes(extent.class) >= TRIM_FROM) {
            let bytes = class_bytes(extent.class);
            for id in extent.first..extent.first + extent.count {
                let word = self.chunks.load(id);
                if !word.is(State::Free) || word.punched() {
                    continue;
                }
                kept += bytes;
                if kept <= TRIM_KEEPS {
                    continue;
                }
                if let Some(word) = self.chunks.loan(id, me) {
                    let offset = extent.chunk_offset(id);
                    let word = self.chunks.mark_backed(id, word, false)?;
                    backing.punch(offset, bytes);
                    self.chunks.release(Chunk { id, word, offset, len: 0 });
                }
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::stage;
    use super::*;

    #[test]
    fn a_sender_remembers_so_many_chunks_and_no_more() {
        let (segment, shared) = stage(4);
        let mut pool = Pool::new(shared.memory, &shared.layout);
        for _ in 0..REMEMBERED + 10 {
            assert!(matches!(pool.loan(1, 1, &segment), Ok(Loan::Chunk(_))));
        }
        assert_eq!(pool.used[0].ids.len(), REMEMBERED);
    }
}
