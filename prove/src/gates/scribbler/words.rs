//! The process that scribbles, and what it writes: noise, and words that could be right.

use std::hint::spin_loop;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use narrows::{Address, Region};

use super::areas::{Area, Focus, Map};
use super::board::{Board, Count, Sign};
use crate::random::Random;

/// How a segment is scribbled on, from when it appears until the next one does.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// As fast as the memory takes it.
    Dense,
    /// Some words, then a pause.
    Bursts,
    /// A word now and then: what stands around it is whole.
    Sparse,
    /// As sparse, and the old word is put back soon.
    Undone,
}

/// Scribbles on one segment after the other until the end.
pub(super) fn scribble(
    board: &Board,
    row: usize,
    focus: Focus,
    seed: u64,
    address: &dyn Fn(u64) -> String,
) -> Result<()> {
    while board.get(Sign::Stop) == 0 {
        let epoch = board.get(Sign::Epoch);
        let mut random = Random::seeded(seed ^ epoch << 32);
        let bare: Address = address(epoch).parse()?;
        let Ok(region) = Region::open(bare.bare()) else {
            std::thread::sleep(Duration::from_micros(50)); // nobody has made it yet
            continue;
        };
        // The configuration was noted by whoever made it; a second scribbler may have spoilt it by now.
        let Ok(map) = Map::read(&region) else { continue };
        pause(random.below(3000));
        let mut scribbler = Scribbler { region, map, random, focus, written: 0 };
        let manner =
            scribbler.random.one_of(&[Manner::Dense, Manner::Bursts, Manner::Sparse, Manner::Undone]);
        while board.get(Sign::Stop) == 0 && board.get(Sign::Epoch) == epoch {
            scribbler.some(manner)?;
            board.add(row, Count::Words, std::mem::take(&mut scribbler.written));
        }
    }
    Ok(())
}

fn pause(microseconds: u64) {
    let end = Instant::now() + Duration::from_micros(microseconds);
    while Instant::now() < end {
        spin_loop();
    }
}

struct Scribbler {
    region: Region,
    map: Map,
    random: Random,
    focus: Focus,
    written: u64,
}

impl Scribbler {
    fn some(&mut self, manner: Manner) -> Result<()> {
        match manner {
            Manner::Dense => {
                for _ in 0..20_000 {
                    self.one()?;
                }
            }
            Manner::Bursts => {
                for _ in 0..self.random.below(200) {
                    self.one()?;
                }
                pause(self.random.below(300));
            }
            Manner::Sparse => {
                self.one()?;
                pause(self.random.below(50));
            }
            Manner::Undone => {
                let (offset, old) = self.one()?;
                let turns = self.random.below(2000);
                (0..turns).for_each(|_| spin_loop());
                self.put(offset, old)?;
                pause(self.random.below(20));
            }
        }
        Ok(())
    }

    fn put(&mut self, offset: u64, value: u64) -> Result<()> {
        self.region.atomic_u64(offset)?.store(value, Relaxed);
        self.written += 1;
        Ok(())
    }

    fn get(&self, offset: u64) -> Result<u64> {
        Ok(self.region.atomic_u64(offset)?.load(Relaxed))
    }

    /// Writes one word, and gives where and what stood there.
    fn one(&mut self) -> Result<(u64, u64)> {
        let focus = self.focus.concrete(&mut self.random);
        let area = self.map.area(focus);
        // Often the first ones: those are what few messages use.
        let count = if self.random.once_in(2) { area.count.min(8) } else { area.count };
        let record = area.at + self.random.below(count) * area.record;
        let word = self.word_in(focus, area);
        let offset = record + word * 8;
        let old = self.get(offset)?;
        let new = match self.random.below(8) {
            0 => self.random.next(),
            1 => {
                let another = self.random.below(area.count);
                self.get(area.at + another * area.record + word * 8)?
            }
            2 => old.wrapping_add(1).wrapping_sub(self.random.below(3)),
            3 => old ^ 1 << self.random.below(64),
            _ => self.plausible(focus, word, old),
        };
        self.put(offset, new)?;
        if focus == Focus::Header && self.random.below(4) > 0 {
            let sum = self.checksum()?;
            self.put(248, sum)?;
        }
        Ok((offset, old))
    }

    /// Which word of a record: mostly one that means something.
    fn word_in(&mut self, focus: Focus, area: Area) -> u64 {
        let words = area.record / 8;
        let some: &[u64] = match focus {
            Focus::Slots if self.map.slot_bytes > 64 => &[0, 0, 1, 1, 8, 9, 10],
            Focus::Slots => &[0, 0, 1, 1, 2, 2, 3, 4],
            Focus::Descriptors => &[0, 0, 1, 2],
            Focus::Participants => &[0, 0, 0, 1, 2, 3],
            _ => return self.random.below(words),
        };
        self.random.one_of(some)
    }

    fn number(&mut self) -> u64 {
        let near = [0, 1, 47, 48, 49, 64, 255, 256, 257, 4096, 65536, self.map.payloads.at, self.map.length];
        let near = self.random.one_of(&near);
        match self.random.below(4) {
            0 => self.random.next() >> self.random.below(64),
            1 => 1u64.wrapping_shl(self.random.below(64) as u32).wrapping_sub(self.random.below(3)),
            _ => near.wrapping_add(1).wrapping_sub(self.random.below(3)),
        }
    }

    /// A word that could stand there.
    fn plausible(&mut self, focus: Focus, word: u64, old: u64) -> u64 {
        let field = |old: u64, shift: u32, bits: u32, value: u64| {
            let mask = (1u64 << bits) - 1;
            old & !(mask << shift) | (value & mask) << shift
        };
        let somebody = self.random.below(self.map.participants + 3);
        let little = self.random.below(4);
        match (focus, word) {
            (Focus::Slots, 0) => {
                let lap = (old >> 8).wrapping_add(1).wrapping_sub(self.random.below(3));
                match self.random.below(6) {
                    0 => field(old, 0, 3, little),
                    1 => field(old, 8, 40, lap),
                    2 => field(old, 48, 16, somebody),
                    3 => field(old, 3, 5, self.random.next()),
                    4 => field(field(old, 0, 3, little), 8, 40, lap),
                    _ => old.wrapping_add(self.map.slot_count).wrapping_sub(little),
                }
            }
            (Focus::Slots, 1) => field(self.number(), 56, 8, little),
            (Focus::Slots, _) | (Focus::Payloads, _) => {
                let (id, version) = (self.random.below(64), old >> 32);
                if self.random.once_in(2) { id | version << 32 } else { self.number() }
            }
            (Focus::Descriptors, 0) => match self.random.below(4) {
                0 => field(old, 0, 8, self.random.below(6)),
                1 => field(old, 16, 16, somebody),
                2 => field(old, 8, 8, little),
                _ => field(old, 32, 32, (old >> 32).wrapping_add(little).wrapping_sub(1)),
            },
            (Focus::Participants | Focus::Endpoints, 0) => match self.random.below(3) {
                0 => field(old, 0, 8, little),
                1 => field(old, 16, 16, somebody),
                _ => field(old, 32, 32, (old >> 32).wrapping_add(little)),
            },
            (Focus::Extents, _) => {
                let (class, log_count) = (self.random.below(64), self.random.below(12));
                little | class << 8 | log_count << 16 | field(old, 0, 32, 0)
            }
            (Focus::Lines, _) => match self.random.below(4) {
                0 => 1 << 63 | old,
                1 => old.wrapping_add(self.map.slot_count).wrapping_sub(little),
                2 => little,
                _ => self.number(),
            },
            _ => self.number(),
        }
    }

    /// The header's own: FNV-1a over the words before it.
    fn checksum(&self) -> Result<u64> {
        (0..248).step_by(8).try_fold(0xcbf2_9ce4_8422_2325_u64, |hash, offset| {
            Ok((hash ^ self.get(offset)?).wrapping_mul(0x0000_0100_0000_01b3))
        })
    }
}
