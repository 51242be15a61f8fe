//! Where the structures of a segment lie, as a stranger to the library works it out (layout version 1).

use anyhow::{Result, ensure};
use narrows::{Deadline, Region, Sender};
use std::sync::atomic::Ordering::Relaxed;

/// The kinds of places that are scribbled on, each for itself and all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    Header,
    /// The attach word, head, tail, beds, counters.
    Lines,
    Participants,
    Endpoints,
    Extents,
    Slots,
    Descriptors,
    Payloads,
    Everything,
}

impl Focus {
    /// The last is all the others.
    pub(super) const ALL: [Self; 9] = [
        Self::Header,
        Self::Lines,
        Self::Participants,
        Self::Endpoints,
        Self::Extents,
        Self::Slots,
        Self::Descriptors,
        Self::Payloads,
        Self::Everything,
    ];
    /// What it is called in the chart.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Header => "the header (with a checksum that fits)",
            Self::Lines => "the lines that all share: the attach word, head, tail, beds",
            Self::Participants => "the participants' places",
            Self::Endpoints => "the endpoints",
            Self::Extents => "the extents of the pool",
            Self::Slots => "the slots",
            Self::Descriptors => "the chunks' descriptors",
            Self::Payloads => "the large messages",
            Self::Everything => "all of it",
        }
    }

    /// Whether there are words that cannot be, so that somebody must find them.
    pub(super) fn contradicts(self) -> bool {
        !matches!(self, Self::Payloads | Self::Participants | Self::Endpoints)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Lines => "lines",
            Self::Participants => "participants",
            Self::Endpoints => "endpoints",
            Self::Extents => "extents",
            Self::Slots => "slots",
            Self::Descriptors => "descriptors",
            Self::Payloads => "payloads",
            Self::Everything => "everything",
        }
    }
}

/// Bytes from one offset to another, in records of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) at: u64,
    pub(super) record: u64,
    pub(super) count: u64,
}

/// What a segment of some configuration is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) slot_bytes: u64,
    pub(super) slot_count: u64,
    pub(super) participants: u64,
    pub(super) extents: Area,
    pub(super) slots: Area,
    pub(super) descriptors: Area,
    pub(super) payloads: Area,
    pub(super) length: u64,
}

const TABLES: u64 = 4096;
const EXTENTS: u64 = 2048;
const CHUNKS: u64 = 1 << 20;
/// So many descriptors, and so many lines of large messages, are scribbled on: those that traffic uses.
const USED: u64 = 1024;

impl Map {
    /// Reads the configuration that the header tells of.
    pub(super) fn read(region: &Region) -> Result<Self> {
        let get = |offset| region.atomic_u64(offset).map(|word| word.load(Relaxed));
        let is_one = get(8)? >> 32 == 2;
        let (length, capacity, slot_bytes, tables) = (get(32)?, get(40)?, get(48)?, get(56)?);
        let (participants, endpoints) = (tables & 0xffff, tables >> 32 & 0xffff);
        let spare = if !is_one && capacity < 64 { 8 } else { 0 };
        let slot_count = (capacity.wrapping_add(spare)).checked_next_power_of_two().unwrap_or(1);
        let extents_at = TABLES + participants * 64 + endpoints * 8;
        let slots_at = (extents_at + EXTENTS * 8).next_multiple_of(4096);
        let slots = Area { at: slots_at, record: slot_bytes, count: slot_count };
        let end = slots_at.saturating_add(slot_count.saturating_mul(slot_bytes));
        ensure!(end < region.len() && slot_bytes >= 64, "the header is scribbled on");
        let chunks_at = end.next_multiple_of(4096);
        let data = (chunks_at + CHUNKS * 64).next_multiple_of(2 << 20);
        ensure!(data + USED * 256 <= region.len(), "the header is scribbled on");
        Ok(Self {
            slot_bytes,
            slot_count,
            participants,
            extents: Area { at: extents_at, record: 8, count: EXTENTS },
            slots,
            descriptors: Area { at: chunks_at, record: 64, count: USED },
            payloads: Area { at: data, record: 256, count: USED },
            length,
        })
    }

    pub(super) fn area(&self, focus: Focus) -> Area {
        let tables = self.extents.at - TABLES - self.participants * 64;
        match focus {
            Focus::Header => Area { at: 0, record: 8, count: 32 },
            Focus::Lines => Area { at: 256, record: 8, count: 116 },
            Focus::Participants => Area { at: TABLES, record: 64, count: self.participants },
            Focus::Endpoints => Area { at: TABLES + self.participants * 64, record: 8, count: tables / 8 },
            Focus::Extents => Area { count: 8, ..self.extents },
            Focus::Slots => self.slots,
            Focus::Descriptors => self.descriptors,
            Focus::Payloads | Focus::Everything => self.payloads,
        }
    }

    /// The bytes that an honest use of the segment can occupy, what the scribbler itself touches included.
    pub(super) fn most_bytes(&self) -> u64 {
        let memory_max = self.length - self.payloads.at;
        let descriptors = (memory_max / 256 * 64).min(CHUNKS * 64) + self.descriptors.count * 64;
        self.descriptors.at + descriptors + memory_max + (1 << 20)
    }
}

impl Focus {
    /// This one, or any for [`Everything`](Self::Everything).
    pub(super) fn concrete(self, random: &mut crate::random::Random) -> Self {
        if self == Self::Everything { random.one_of(&Self::ALL[..8]) } else { self }
    }
}

/// Whether things lie where this file says: else the scribbler would hit nothing, and the gate would hold.
pub(super) fn check_places() -> Result<()> {
    let address = format!("shm:narrows-prove-{}-areas", std::process::id());
    let mut sender = Sender::<[u8]>::open(format!("{address},capacity=8,participants=4,memory_max=1048576"))?;
    let large = [0xA7; 1000];
    sender.send_by(b"a small message", Deadline::Now)?;
    sender.send_by(&large, Deadline::Now)?;
    let region = Region::open(&*address)?;
    let map = Map::read(&region)?;
    let mut small = [0; 15];
    let mut first = [0; 1000];
    region.read_at(map.slots.at + 16, &mut small)?;
    region.read_at(map.payloads.at, &mut first)?;
    let word = |offset| region.atomic_u64(offset).map(|word| word.load(Relaxed));
    let pid = word(TABLES + 8)? as u32;
    let sender_endpoint = word(map.area(Focus::Endpoints).at)?;
    let is_right = &small == b"a small message"
        && first == large
        && pid == std::process::id()
        && sender_endpoint & 0xff == 1
        && word(map.extents.at)? & 0xff == 2
        && word(map.descriptors.at)? & 0xff == 2
        && word(map.descriptors.at + 16)? == 1000
        && region.len() == map.length;
    drop(sender);
    narrows::channel::remove(&address.parse()?)?;
    ensure!(is_right, "the segment's layout is not the one that this gate knows: {map:?}");
    Ok(())
}
