//! What is done for the dead, by anyone, any number at once, and again by others if the repairer dies too.
//!
//! Every repair is a compare-and-swap from the exact word that names the dead, and the place is freed last: as
//! long as its word is the one that was found dead, nobody else can bear its name. So each word is read first,
//! then the place is looked at again, then the word is replaced.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::atomic::Ordering::{Relaxed, Release};

use super::chunks::Chunks;
use super::extents::Extents;
use super::layout::{self, Ack, Layout};
use super::memory::Memory;
use super::pair::{Bed, Pair};
use super::participants::{Locks, Participants, Place};
use super::ring::Ring;
use super::slot::About;

/// How long one look for the dead may repair: whoever looks does so between operations that have deadlines. The
/// model checker knows no time.
const REPAIRS: Duration = if cfg!(loom) { Duration::MAX } else { Duration::from_millis(10) };

/// All structures of a segment.
#[derive(Clone)]
pub(crate) struct Structures {
    pub(crate) memory: Memory,
    pub(crate) layout: Layout,
    pub(crate) participants: Participants,
    pub(crate) chunks: Chunks,
    pub(crate) ring: Ring,
    pub(crate) pair: Pair,
}

impl Structures {
    pub(crate) fn new(memory: Memory, layout: Layout) -> Self {
        Self {
            participants: Participants::new(memory, &layout),
            chunks: Chunks::new(memory, &layout),
            ring: Ring::new(memory, &layout),
            pair: Pair::new(memory, &layout),
            memory,
            layout,
        }
    }

    /// Repairs what all dead participants held, as far as there is time: who looks next goes on. True: there was one.
    pub(crate) fn reap(&self, locks: &dyn Locks, me: Option<Place>) -> bool {
        let (mut any, start) = (false, Instant::now());
        let others = self.participants.taken().filter(|place| Some(place.owner()) != me.map(Place::owner));
        for place in others {
            if self.participants.is_dead(locks, place) {
                self.repair(place);
                any = true;
                if start.elapsed() > REPAIRS {
                    break;
                }
            }
        }
        if any {
            self.wake_receivers();
        }
        any
    }

    /// Repairs what one place held that died, or that leaves; frees it.
    pub(crate) fn repair(&self, dead: Place) {
        let still_dead = || self.participants.is(dead);
        if !self.layout.config.is_pair() && !self.ring.reap(dead.owner(), still_dead) {
            return; // it stays dead, for the next who looks
        }
        self.repair_chunks(dead, &still_dead);
        self.participants.reap_endpoints(dead, still_dead);
        self.participants.free(dead);
    }

    fn repair_chunks(&self, dead: Place, still_dead: &dyn Fn() -> bool) {
        let chunks = self.extents().chunks_known();
        if chunks == 0 {
            return;
        }
        // The dead's claims are void by now: no slot will name a chunk of his that none names yet.
        let named: HashSet<u64> = self.named_chunks().collect();
        let lease = self.layout.config.ack == Ack::OnRelease;
        for id in 0..chunks {
            self.chunks.reap(id, dead.owner(), lease, &|reference| named.contains(&reference), still_dead);
        }
        if lease {
            // A receiver that died after it cleared the hint may have left chunks that are RETURNED.
            // gives: returned
            self.memory.word(layout::RETURNED).fetch_add(1, Release);
        }
    }

    /// All extents that there are; behind a word that is no extent's, none can be found.
    pub(crate) fn extents(&self) -> Extents {
        let mut extents = Extents::new(self.memory, &self.layout);
        extents.refresh().ok();
        extents
    }

    /// The chunks that committed slots name.
    fn named_chunks(&self) -> impl Iterator<Item = u64> {
        self.full_slots().filter_map(|slot| self.named_chunk(slot))
    }

    fn named_chunk(&self, slot: u64) -> Option<u64> {
        let at = slot + layout::payload_at(self.layout.config.slot_bytes);
        let is_chunk = About(self.memory.word(slot + 8).load(Relaxed)).is_chunk();
        is_chunk.then(|| self.memory.word(at).load(Relaxed))
    }

    fn full_slots(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self.layout.config.is_pair() {
            true => Box::new(self.pair.full_slots()),
            false => Box::new(self.ring.full_slots()),
        }
    }

    /// Makes sleeping receivers look again: a sender came, went or died, or a chunk returned.
    pub(crate) fn wake_receivers(&self) {
        match self.layout.config.is_pair() {
            true => self.pair.rouse(Bed::Receiver),
            false => self.ring.wake_receivers(),
        }
    }

    /// Messages that wait in slots. A slot whose chunk was taken by one who then died counts no more; and where
    /// messages come and go during the walk, slots are found full that never were at the same time.
    pub(crate) fn depth(&self) -> u64 {
        let known = self.extents().chunks_known();
        let waits = |slot: &u64| {
            self.named_chunk(*slot).is_none_or(|reference| self.chunks.is_queued(reference, known))
        };
        (self.full_slots().filter(waits).count() as u64).min(self.layout.config.room())
    }
}
