//! Extents, chunks, and the memory that they need.

use std::collections::HashMap;

use crate::atomic::Ordering::Relaxed;

use super::super::chunks::{State, Word};
use super::super::extents::{Extent, Next, class_bytes};
use super::super::layout::{Ack, CHUNK_BYTES, EXTENT_BYTES, EXTENTS};
use super::{Audit, Standing, facts, look, steady};

impl Audit<'_> {
    pub(super) fn pool(&mut self, named: &HashMap<u64, usize>) {
        self.extents();
        let allocated = self.first.allocated;
        let least = self.shared.layout.reserved() + look::descriptors(&self.first.extents);
        if let Some(allocated) = allocated.filter(|allocated| *allocated < least) {
            let found = format!("{allocated} bytes, and {least} are needed");
            self.fault(&facts::BACKED, "the file", found);
            return;
        }
        let mut returned = false;
        let mut punched = 0;
        for (id, word) in steady(&self.first.chunks, &self.second.chunks) {
            let word = Word(word);
            let Some(extent) = self.extent_of(id as u32) else { continue };
            self.chunk(id as u32, word, extent, named);
            returned |= word.is(State::Returned);
            punched += if word.punched() { class_bytes(extent.class) } else { 0 };
        }
        let hint = self.second.hints.returned;
        if self.report.at_rest && returned && hint == 0 && !self.standings.contains(&Standing::Dead) {
            self.fault(&facts::ANNOUNCED, "the hint", "0, and chunks are RETURNED");
        }
        if let Some(allocated) = allocated.filter(|_| self.report.at_rest) {
            self.account(allocated, least, punched);
        }
    }

    /// Behind the extents that are READY one may be on its way; the rest of the table was never used.
    fn extents(&mut self) {
        let known = self.second.extents.known().len() as u64;
        let name = |index| format!("extent {index}");
        let begun = match self.second.next {
            Next::End => 0,
            Next::Growing(..) => {
                if self.report.at_rest {
                    self.pending(&facts::GROWING, name(known), "GROWING");
                }
                1
            }
            Next::Wrong(word) => {
                self.fault(&facts::EXTENT, name(known), format!("{word:#x}"));
                1
            }
        };
        // One that failed to grow is FREE with a version; it may have come to be READY since, and so may those after.
        for index in known + begun..EXTENTS {
            let word =
                self.shared.memory.word(self.shared.layout.extents + index * EXTENT_BYTES).load(Relaxed);
            let failed = index == known && word & 0xffff_ffff == 0;
            if word == 0 || failed {
                continue;
            }
            let mut later = self.second.extents.clone();
            later.learn();
            if index > later.known().len() as u64 || self.report.at_rest {
                self.fault(&facts::EXTENT, name(index), format!("{word:#x}"));
            }
        }
    }

    fn extent_of(&self, id: u32) -> Option<Extent> {
        let extents = self.first.extents.known();
        let at = extents.partition_point(|extent| extent.first <= id);
        extents.get(at.wrapping_sub(1)).copied()
    }

    fn chunk(&mut self, id: u32, word: Word, extent: Extent, named: &HashMap<u64, usize>) {
        let (name, owner) = (format!("chunk {id}"), word.holder());
        let leases = self.shared.layout.config.ack == Ack::OnRelease;
        let fits = match word.state() {
            None => false,
            Some(State::Free) => owner == 0 && (leases || !word.redelivered()),
            Some(State::Returned) => owner == 0 && leases && word.redelivered() && !word.punched(),
            Some(State::Loaned) => self.is_participant(owner) && !word.redelivered(),
            Some(State::Queued) => self.is_participant(owner) && !word.redelivered() && !word.punched(),
            Some(State::Held) => {
                self.is_participant(owner) && !word.punched() && (leases || !word.redelivered())
            }
        };
        if !fits {
            self.fault(&facts::CHUNK, name, format!("{word:?}"));
            return;
        }
        let at = self.shared.chunks.descriptor(id);
        let [offset, len] = [8, 16].map(|part| self.shared.memory.word(at + part).load(Relaxed));
        let lies = offset == extent.chunk_offset(id) && len <= class_bytes(extent.class);
        if !lies && (offset, len) != (0, 0)
            || offset == 0 && matches!(word.state(), Some(State::Queued | State::Held | State::Returned))
        {
            self.fault(&facts::DESCRIPTOR, name.clone(), format!("{len} bytes at {offset}"));
        }
        self.unused((at + 24..at + CHUNK_BYTES).step_by(8));
        match word.state() {
            Some(State::Loaned | State::Held) => {
                let holding = self.holding(owner);
                holding.chunks += 1;
                holding.bytes += class_bytes(extent.class);
                self.owned(owner, false, name, format!("{word:?}"));
            }
            Some(State::Queued)
                if !named.contains_key(&(u64::from(id) | u64::from(word.version()) << 32)) =>
            {
                self.unnamed(owner, name, format!("{word:?} that no message names"));
            }
            _ => {}
        }
    }

    fn unnamed(&mut self, owner: u16, name: String, found: String) {
        match self.standing(owner) {
            Standing::Free => self.fault(&facts::LEAKED, name, found),
            Standing::Dead => self.pending(&facts::ABANDONED, name, found),
            Standing::Alive if self.report.at_rest => self.fault(&facts::NAMED, name, found),
            Standing::Alive | Standing::Changing => {}
        }
    }

    /// Settles what the file occupies against what the words say that it needs.
    fn account(&mut self, allocated: u64, least: u64, punched: u64) {
        let data: u64 = self.first.extents.known().iter().map(Extent::bytes).sum();
        let needed = least + data - punched;
        let found = format!("{allocated} bytes, and {needed} are needed");
        // A growth that failed, or whose owner died, has kept what it had reserved by then, for those to come.
        let is_bounded = self.first.next == Next::End && !self.has_failed();
        if allocated < needed || is_bounded && allocated > needed + punched {
            self.fault(&facts::ACCOUNTED, "the file", found);
        } else if allocated > needed {
            self.pending(&facts::SPARE, "the file", found);
        }
    }

    /// Whether an extent once failed to grow, by the versions: each try that comes to be READY is the first.
    fn has_failed(&self) -> bool {
        let known = self.first.extents.known().len() as u64;
        let version = |index| {
            let at = self.shared.layout.extents + index * EXTENT_BYTES;
            self.shared.memory.word(at).load(Relaxed) >> 32
        };
        (0..known).any(|index| version(index) > 1) || known < EXTENTS && version(known) > 0
    }
}
