//! Where the words of a segment lie, as a stranger to the library works it out (layout version 1).

use std::sync::atomic::Ordering::Relaxed;

use narrows::{Error, Region, Result};

use super::input::Input;

const TABLES: u64 = 4096;
const EXTENTS: u64 = 2048;
const CHUNKS: u64 = 1 << 20;
const CHECKSUM: u64 = 248;

/// Words that belong together: so many records of one size.
#[derive(Debug, Clone, Copy)]
struct Area {
    at: u64,
    record: u64,
    count: u64,
    /// So many words of a record mean something.
    words: u64,
}

/// What a segment is made of.
#[derive(Debug)]
pub(crate) struct Places {
    areas: [Area; 8],
    /// Where the large messages begin: their descriptors, then their bytes.
    pub(crate) large: u64,
    /// Numbers that mean something in this segment.
    pub(crate) numbers: Vec<u64>,
}

impl Places {
    /// Of a segment whose header is whole.
    pub(crate) fn of(region: &Region) -> Result<Self> {
        let get = |offset| region.atomic_u64(offset).map(|word| word.load(Relaxed));
        let (kind, length, capacity, slot, tables) = (get(8)? >> 32, get(32)?, get(40)?, get(48)?, get(56)?);
        let (participants, endpoints) = (tables & 0xffff, tables >> 32);
        let slot_count = (capacity + if kind == 1 { 8 } else { 0 }).next_power_of_two();
        let endpoints_at = TABLES + participants * 64;
        let extents_at = endpoints_at + endpoints * 8;
        let slots_at = (extents_at + EXTENTS * 8).next_multiple_of(4096);
        let chunks_at = (slots_at + slot_count * slot).next_multiple_of(4096);
        let data = (chunks_at + CHUNKS * 64).next_multiple_of(2 << 20);
        let area = |at, record, count, words| Area { at, record, count, words };
        Ok(Self {
            areas: [
                area(slots_at, slot, slot_count, 12.min(slot / 8)),
                area(chunks_at, 64, 8, 3),
                area(extents_at, 8, 4, 1),
                area(TABLES, 64, participants, 4),
                area(endpoints_at, 8, endpoints.min(8), 1),
                area(256, 128, 8, 3),
                area(0, 8, 32, 1),
                area(data, 256, 8, 2),
            ],
            large: chunks_at,
            numbers: vec![
                0,
                1,
                48,
                slot_count,
                1 << 20,
                data,
                length,
                length - data,
                1 << 32,
                1 << 63,
                u64::MAX,
            ],
        })
    }

    /// The offset of a word that the input chooses.
    pub(crate) fn choose(&self, input: &mut Input) -> u64 {
        let area = input.one_of(&self.areas);
        let record = u64::from(input.byte());
        area.at + (record % area.count) * area.record + (record / area.count % area.words) * 8
    }
}

/// Makes the header's checksum fit: FNV-1a over the words before it.
///
/// # Errors
/// As [`Region::atomic_u64`].
pub(crate) fn seal(region: &Region) -> Result<()> {
    let sum = (0..CHECKSUM).step_by(8).try_fold(0xcbf2_9ce4_8422_2325_u64, |hash, offset| {
        let word = region.atomic_u64(offset)?.load(Relaxed);
        Ok::<_, Error>((hash ^ word).wrapping_mul(0x0000_0100_0000_01b3))
    })?;
    region.atomic_u64(CHECKSUM)?.store(sum, Relaxed);
    Ok(())
}
