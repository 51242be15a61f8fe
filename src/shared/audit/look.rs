//! One look at everything that has an owner.

use crate::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::atomic::fence;

use super::super::extents::{Extents, Next};
use super::super::layout::{self, CHUNK_BYTES, ENDPOINT_BYTES, PLACE_BYTES};
use super::super::repair::Structures;
use super::super::slot::About;

/// The words of a segment as far as they say whose something is, and the hints.
pub(super) struct Look {
    pub(super) hints: Hints,
    pub(super) places: Vec<u64>,
    pub(super) endpoints: Vec<u64>,
    pub(super) slots: Vec<u64>,
    pub(super) chunks: Vec<u64>,
    pub(super) extents: Extents,
    pub(super) next: Next,
    /// What the file occupied when the extents were known already: what they need is there, whatever grew since.
    pub(super) allocated: Option<u64>,
}

/// Words that nobody owns.
pub(super) struct Hints {
    /// Read before `attach`: whoever clears it has attached before.
    pub(super) returned: u64,
    pub(super) attach: u64,
    pub(super) tail: u64,
    pub(super) head: u64,
    pub(super) shared_head: u64,
    pub(super) deaths: u64,
    pub(super) senders_epoch: u64,
}

/// What a slot says of its message: inline, or the chunk that it names.
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) about: About,
    pub(super) reference: u64,
}

impl Look {
    /// Hints, chunks, who is there, slots. Chunks are left out where `allocated` bytes are too few for their
    /// descriptors to be there: to read them would end this process.
    pub(super) fn first(shared: &Structures, allocated: impl FnOnce() -> Option<u64>) -> Self {
        let hints = Hints::of(shared);
        let mut extents = Extents::new(shared.memory, &shared.layout);
        let next = extents.learn();
        let allocated = allocated();
        let least = shared.layout.reserved() + descriptors(&extents);
        let readable = if allocated.is_some_and(|bytes| bytes < least) { 0 } else { extents.chunks_known() };
        let chunks = chunks(shared, readable);
        let (places, endpoints) = (places(shared), endpoints(shared));
        Self { hints, places, endpoints, slots: slots(shared), chunks, extents, next, allocated }
    }

    /// The same the other way round, after `first` and what was read since.
    pub(super) fn second(shared: &Structures, first: &Self) -> Self {
        // orders: the first look and what followed it before the second
        fence(SeqCst);
        let slots = slots(shared);
        let (endpoints, places) = (endpoints(shared), places(shared));
        let mut extents = first.extents.clone();
        let next = extents.learn();
        let readable = if first.chunks.is_empty() { 0 } else { extents.chunks_known() };
        let chunks = chunks(shared, readable);
        let (hints, allocated) = (Hints::of(shared), first.allocated);
        Self { hints, places, endpoints, slots, chunks, extents, next, allocated }
    }

    /// What each slot says of a message, whether it has one or not: read between the looks.
    pub(super) fn messages(shared: &Structures) -> Vec<Message> {
        let config = &shared.layout.config;
        let payload = layout::payload_at(config.slot_bytes);
        let word = |at: u64| shared.memory.word(at).load(Relaxed);
        let starts = (0..shared.layout.slot_count).map(|slot| shared.layout.slots + slot * config.slot_bytes);
        starts.map(|at| Message { about: About(word(at + 8)), reference: word(at + payload) }).collect()
    }
}

impl Hints {
    fn of(shared: &Structures) -> Self {
        // takes: claimed, taken (of all positions below the hints)
        let word = |at| shared.memory.word(at).load(Acquire);
        // takes: returned
        let returned = word(layout::RETURNED);
        Self {
            returned,
            attach: word(layout::ATTACH),
            tail: word(layout::TAIL),
            head: word(layout::HEAD),
            shared_head: word(layout::SHARED_HEAD),
            deaths: word(layout::DEATHS),
            senders_epoch: word(layout::SENDERS_EPOCH),
        }
    }
}

/// The memory that the descriptors of all known chunks need.
pub(super) fn descriptors(extents: &Extents) -> u64 {
    (u64::from(extents.chunks_known()) * CHUNK_BYTES).next_multiple_of(4096)
}

fn table(shared: &Structures, start: u64, stride: u64, count: u64) -> Vec<u64> {
    // takes: locked, opened, claimed, filled, written (by what the word says)
    (0..count).map(|at| shared.memory.word(start + at * stride).load(Acquire)).collect()
}

fn places(shared: &Structures) -> Vec<u64> {
    table(shared, shared.layout.participants, PLACE_BYTES, shared.layout.config.participants.into())
}

fn endpoints(shared: &Structures) -> Vec<u64> {
    table(shared, shared.layout.endpoints, ENDPOINT_BYTES, shared.layout.config.endpoints.into())
}

fn slots(shared: &Structures) -> Vec<u64> {
    table(shared, shared.layout.slots, shared.layout.config.slot_bytes, shared.layout.slot_count)
}

fn chunks(shared: &Structures, count: u32) -> Vec<u64> {
    table(shared, shared.layout.chunks, CHUNK_BYTES, count.into())
}
