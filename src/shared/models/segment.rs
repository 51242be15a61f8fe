//! A whole segment in the model's memory: all structures, what the kernel knows of its places, and the steps in which
//! the channel uses them.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread::{ThreadId, current, yield_now};

use crate::atomic::Ordering::{Acquire, Relaxed};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::shared::chunks::{Chunk, State};
use crate::shared::extents::class_of;
use crate::shared::layout::{self, Ack, Config, Layout, Peers, SLOT_MIN};
use crate::shared::memory::Memory;
use crate::shared::pair::{Bed, ReceiveSide, SendSide};
use crate::shared::participants::{Identity, Locks, Place, Role};
use crate::shared::repair::Structures;
use crate::shared::ring::{Claim, Cursor, Front};
use crate::shared::slot::About;

use super::{Supply, layout as small};

/// Chunks of the one extent, and how large they are.
const CHUNKS: u64 = 2;
const CHUNK: u64 = 64 << 10;
/// READY, in an extent's word.
const READY: u64 = 2;

/// What the kernel knows of the locks: which thread, a process here, holds each.
pub(super) struct Kernel(Mutex<[Option<ThreadId>; 3]>);

impl Kernel {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new([None; 3])))
    }

    /// A process is gone, and its lock with it.
    pub(super) fn bury(&self, place: Place) {
        self.free(place.owner() - 1);
    }

    /// This thread's process is gone, wherever it had got to.
    pub(super) fn bury_us(&self) {
        for holder in self.0.lock().unwrap().iter_mut() {
            holder.take_if(|holder| *holder == current().id());
        }
    }

    fn free(&self, place: u16) {
        self.0.lock().unwrap()[usize::from(place)] = None;
    }
}

impl Locks for Kernel {
    fn try_lock(&self, place: u16) -> Result<bool> {
        let holder = &mut self.0.lock().unwrap()[usize::from(place)];
        Ok(holder.is_none() && holder.replace(current().id()).is_none())
    }

    fn unlock(&self, place: u16) {
        self.free(place);
    }

    fn is_free(&self, place: u16) -> bool {
        self.0.lock().unwrap()[usize::from(place)].is_none()
    }
}

#[derive(Clone)]
pub(super) struct Segment {
    pub(super) shared: Structures,
    pub(super) memory: Memory,
    pub(super) kernel: Arc<Kernel>,
    pub(super) supply: Arc<Supply>,
}

/// Two slots, two chunks, three places, three endpoints.
pub(super) fn segment(peers: Peers, ack: Ack) -> Segment {
    let layout = small(peers, 2, 2);
    let layout = Layout { config: Config { ack, ..layout.config }, ..layout };
    let extent = READY | u64::from(class_of(CHUNK)) << 8 | u64::from(CHUNKS.ilog2()) << 16;
    let header = [
        layout::ATTACH,
        layout::SENDERS_EPOCH,
        layout::DEATHS,
        layout::RECEIVER_DEATHS,
        layout::TAIL,
        layout::HEAD,
        layout::SHARED_HEAD,
        layout::RECEIVER_SLEEPS,
        layout::SENDER_SLEEPS,
        layout::POOL_SLEEPERS,
        layout::RETURNED,
    ];
    let table = |at: u64, count: u64, stride: u64, words: u64| {
        (0..count).flat_map(move |entry| (0..words).map(move |word| at + entry * stride + word * 8))
    };
    let words = (header.into_iter())
        .chain(table(layout.participants, 3, layout::PLACE_BYTES, 4))
        .chain(table(layout.endpoints, 3, layout::ENDPOINT_BYTES, 1))
        .chain(table(layout.slots, layout.slot_count, SLOT_MIN, 3))
        .chain(table(layout.chunks, CHUNKS, layout::CHUNK_BYTES, 3))
        .chain(table(layout.data, CHUNKS, CHUNK, 1))
        .chain([layout.extents + 8])
        .map(|word| (word, 0))
        .chain([(layout.extents, extent)]);
    let memory = Memory::of_words(layout.length, words);
    Segment {
        shared: Structures::new(memory, layout),
        memory,
        kernel: Kernel::new(),
        supply: Supply::of(100),
    }
}

/// Where a handle is in the channel.
pub(super) enum End {
    Many(Cursor),
    Sender(SendSide),
    Receiver(ReceiveSide),
}

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Payload {
    Inline(u64),
    Chunk(Chunk),
}

impl Segment {
    /// Takes a place. False: the segment is retired.
    pub(super) fn arrive(&self) -> (Place, bool) {
        let place = self.shared.participants.join(&*self.kernel, Identity::default()).unwrap().unwrap();
        (place, self.shared.participants.announce())
    }

    pub(super) fn join(&self) -> Place {
        let (place, is_in) = self.arrive();
        assert!(is_in);
        place
    }

    /// As an attachment is dropped. True: the segment is retired.
    pub(super) fn leave(&self, me: Place, keep: impl Fn() -> bool) -> bool {
        let participants = &self.shared.participants;
        let leaving = participants.leave(me);
        let retired = participants.retire_alone(me, || self.reap(Some(me)), keep);
        participants.free(leaving);
        self.kernel.bury(me);
        retired
    }

    /// Repairs what the dead left, for the one in this place.
    pub(super) fn reap(&self, me: Option<Place>) -> bool {
        self.shared.reap(&*self.kernel, me)
    }

    pub(super) fn tail(&self) -> End {
        match self.shared.layout.config.peers {
            Peers::Many => End::Many(self.shared.ring.cursor(layout::TAIL)),
            Peers::One => End::Sender(self.shared.pair.send_side()),
        }
    }

    pub(super) fn head(&self) -> End {
        match self.shared.layout.config.peers {
            Peers::Many => End::Many(self.shared.ring.cursor(layout::HEAD)),
            Peers::One => End::Receiver(self.shared.pair.receive_side()),
        }
    }

    pub(super) fn open(&self, role: Role, me: Place) -> crate::shared::participants::Endpoint {
        let one = self.shared.layout.config.peers == Peers::One;
        let fixed = one.then_some(if role == Role::Sender { 0 } else { 1 });
        self.shared.participants.open(role, me.owner(), fixed).unwrap()
    }

    /// A chunk with a value in it, QUEUED.
    pub(super) fn queue(&self, me: Place, value: u64) -> Option<Chunk> {
        let (id, word) = (0..CHUNKS as u32)
            .find_map(|id| self.shared.chunks.loan(id, me.owner()).map(|word| (id, word)))?;
        let offset = self.shared.layout.data + u64::from(id) * CHUNK;
        let mut chunk = Chunk { id, word, offset, len: CHUNK };
        self.memory.word(offset).store(value, Relaxed);
        self.shared.chunks.queue(&mut chunk).expect("robbed of a loan");
        Some(chunk)
    }

    fn write(&self, slot: u64, payload: Payload) {
        let (about, word) = match payload {
            Payload::Inline(value) => (About::inline(8), value),
            Payload::Chunk(chunk) => (About::chunk(), chunk.reference()),
        };
        self.memory.word(slot + 8).store(about.0, Relaxed);
        self.memory.word(slot + layout::payload_at(SLOT_MIN)).store(word, Relaxed);
    }

    /// Claims and writes; many to many only.
    pub(super) fn claim(&self, tail: &mut End, me: Place, payload: Payload) -> crate::shared::ring::Found {
        let End::Many(cursor) = tail else { panic!("one to one, nothing is claimed") };
        loop {
            match self.shared.ring.claim(cursor, me.owner()).unwrap() {
                Claim::Claimed(claim) => {
                    self.write(self.shared.ring.slot(claim.position), payload);
                    return claim;
                }
                Claim::Full(_) => panic!("there is room"),
                Claim::Blocked(found) => self.shared.ring.revoke(found),
                Claim::Lost => yield_now(),
            }
        }
    }

    /// Sends, where there is room. Nobody has a reason to revoke the claim.
    pub(super) fn send(&self, tail: &mut End, me: Place, payload: Payload) {
        if let End::Sender(side) = tail {
            assert!(self.shared.pair.exact_room(side) > 0);
            self.write(self.shared.pair.slot(side.position), payload);
            self.shared.pair.fill(side);
            self.shared.pair.filled(side);
            return;
        }
        let claim = self.claim(tail, me, payload);
        assert!(self.shared.ring.commit(claim).unwrap(), "robbed of a claim");
    }

    /// The first message that waits, taken: its value, and the chunk that it is HELD in.
    pub(super) fn receive(&self, head: &mut End, me: u16) -> Option<(u64, Option<Chunk>)> {
        loop {
            let (slot, found) = match head {
                End::Many(cursor) => match self.shared.ring.front(cursor).unwrap() {
                    Front::Full(found) => (self.shared.ring.slot(found.position), Some(found)),
                    Front::Empty(_) => return None,
                    Front::Blocked(found) => {
                        self.shared.ring.revoke(found);
                        continue;
                    }
                    Front::Lost => {
                        yield_now();
                        continue;
                    }
                },
                End::Receiver(side) if self.shared.pair.is_filled(side.position) => {
                    (self.shared.pair.slot(side.position), None)
                }
                _ => return None,
            };
            let about = About(self.memory.word(slot + 8).load(Relaxed));
            // takes: filled; and is ordered before the look whether the slot is still the same
            let word = self.memory.word(slot + layout::payload_at(SLOT_MIN)).load(Acquire);
            if !about.is_chunk() {
                if self.pass(head, found) {
                    return Some((word, None));
                }
                continue;
            }
            if found.is_some_and(|found| self.shared.ring.load(found.position) != found.word) {
                continue;
            }
            let held = self.shared.chunks.hold(word, me, &mut self.shared.extents()).unwrap();
            self.pass(head, found);
            if let Some(chunk) = held {
                return Some((self.value(chunk), Some(chunk)));
            }
        }
    }

    fn pass(&self, head: &mut End, found: Option<crate::shared::ring::Found>) -> bool {
        match (head, found) {
            (End::Many(cursor), Some(found)) => self.shared.ring.take(cursor, found),
            (End::Receiver(side), _) => {
                side.position += 1;
                self.shared.pair.taken(side);
                true
            }
            _ => panic!("a sender receives nothing"),
        }
    }

    /// Sleeps where the next message will be.
    pub(super) fn sleep(&self, until: Deadline, still: impl Fn() -> bool) {
        if self.shared.layout.config.peers == Peers::One {
            assert!(self.shared.pair.sleep(Bed::Receiver, until, still));
            return;
        }
        let mut cursor = self.shared.ring.cursor(layout::HEAD);
        if let Front::Empty(found) = self.shared.ring.front(&mut cursor).unwrap() {
            self.shared.ring.sleep(found, until, still);
        }
    }

    /// What came back from the dead (`ack=release`).
    pub(super) fn hold_returned(&self, me: u16) -> Option<Chunk> {
        self.shared.chunks.hold_returned(me, &mut self.shared.extents()).unwrap()
    }

    pub(super) fn value(&self, chunk: Chunk) -> u64 {
        self.memory.word(chunk.offset).load(Relaxed)
    }

    /// All that waits, in order.
    pub(super) fn drain(&self) -> Vec<u64> {
        let mut head = self.head();
        let next = || {
            let (value, chunk) = self.receive(&mut head, 3)?;
            chunk.into_iter().for_each(|chunk| self.shared.chunks.release(chunk));
            Some(value)
        };
        std::iter::from_fn(next).collect()
    }

    /// How many chunks are in this state.
    pub(super) fn chunks(&self, state: State) -> usize {
        (0..CHUNKS as u32).filter(|id| self.shared.chunks.load(*id).is(state)).count()
    }
}
