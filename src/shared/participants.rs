//! Who takes part: a place for each process and mapping, an endpoint for each thread's handle.
//!
//! Alive or dead is a fact that the kernel holds: a byte lock on the segment's file, pinned by the mapping
//! (`segment`). A place's word only names who holds it, with a generation that advances with every holder.
//!
//! Facts:
//! - **locked**: whoever made a place LIVE held its lock before. Attach: lock, then word.
//! - **left**: whoever set it FREE in order had repaired what was his. Detach: word, then lock.
//! - **dead**(place, generation): the word named it before and after its lock was seen free. From **locked** and
//!   **left** it follows that it is gone and did not leave.
//! - **repaired**: a dead place is FREE again only when nothing names it any more: it is freed last.
//! - **announced**: whoever advanced the attach word has his place, and can be seen there.
//! - retired, which hands nothing over: the segment is nobody's any more, for ever.
//! - **opened**, **closed**: an endpoint is its holder's, or nobody's; **changed**: the senders' epoch follows.

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::fence;
use crate::error::Result;

use super::layout::{self, ENDPOINT_BYTES, Layout, PLACE_BYTES};
use super::memory::Memory;

pub(super) const FREE: u64 = 0;
pub(super) const LIVE: u64 = 1;
/// On its way out: no longer counted, not yet gone.
pub(super) const LEAVING: u64 = 2;
/// Of a receiver's endpoint: it has found nothing, and waits. A hint for who wants to hand over at once; the dead may
/// seem to wait until they are repaired.
pub(super) const WAITS: u64 = 1 << 8;
const GENERATION: u64 = 1 << 32;
pub(super) const RETIRED: u64 = 1 << 63;
/// How often the last participant tries to retire the segment, while others come, go and die.
const RETIREMENTS: u32 = 100;

/// What the kernel knows of the places' locks.
pub(crate) trait Locks {
    /// Takes the lock of a place for this mapping, if it is free.
    fn try_lock(&self, place: u16) -> Result<bool>;
    /// Gives it back; only while the mapping has not pinned it.
    fn unlock(&self, place: u16);
    /// Whether it is known to be free.
    fn is_free(&self, place: u16) -> bool;
}

/// Which end of the channel a handle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Sender = 1,
    Receiver = 2,
}

/// A place, by its exact word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    index: u16,
    word: u64,
}

impl Place {
    /// How slots, chunks and endpoints name it; 0 names nobody.
    pub(crate) fn owner(self) -> u16 {
        self.index + 1
    }
}

/// An endpoint, by its exact word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    index: u16,
    word: u64,
}

/// The two tables of a segment.
#[derive(Clone)]
pub(crate) struct Participants {
    memory: Memory,
    places: u64,
    place_count: u16,
    endpoints: u64,
    endpoint_count: u16,
}

/// Who a participant is, for people.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) name: [u8; 16],
}

impl Identity {
    /// Its name, for a terminal: a peer wrote it.
    pub(crate) fn name(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        name.trim_end_matches('\0').replace(char::is_control, "\u{fffd}")
    }
}

impl Participants {
    pub(crate) fn new(memory: Memory, layout: &Layout) -> Self {
        Self {
            memory,
            places: layout.participants,
            place_count: layout.config.participants,
            endpoints: layout.endpoints,
            endpoint_count: layout.config.endpoints,
        }
    }

    fn place_at(&self, index: u16) -> u64 {
        self.places + u64::from(index) * PLACE_BYTES
    }

    fn load(&self, index: u16) -> u64 {
        // takes: locked, left, repaired (by what the word says)
        self.memory.word(self.place_at(index)).load(Acquire)
    }

    fn replace(&self, place: Place, word: u64) -> bool {
        let at = self.memory.word(self.place_at(place.index));
        // What the old word says was taken by the look at it: no word comes back.
        // gives: locked, left, repaired (by what the new word says)
        at.compare_exchange(place.word, word, Release, Relaxed).is_ok()
    }

    /// Takes a place; `None` when none is free (reap, and try again).
    pub(crate) fn join(&self, locks: &dyn Locks, identity: Identity) -> Result<Option<Place>> {
        for index in 0..self.place_count {
            let word = self.load(index);
            if word & 0xff != FREE || !locks.try_lock(index)? {
                continue;
            }
            let live = Place { index, word: word | LIVE };
            self.describe(index, identity);
            if self.replace(Place { index, word }, live.word) {
                return Ok(Some(live));
            }
            locks.unlock(index);
        }
        Ok(None)
    }

    fn describe(&self, index: u16, identity: Identity) {
        let at = self.place_at(index);
        let name = u128::from_le_bytes(identity.name);
        let put = |word: u64, value| self.memory.word(at + word * 8).store(value, Relaxed);
        put(1, u64::from(identity.pid) | u64::from(identity.uid) << 32);
        put(2, name as u64);
        put(3, (name >> 64) as u64);
    }

    /// Who holds a place, as it said when it took it.
    pub(crate) fn identity(&self, owner: u16) -> Identity {
        if owner == 0 || owner > self.place_count {
            return Identity::default();
        }
        let at = self.place_at(owner - 1);
        let get = |word: u64| self.memory.word(at + word * 8).load(Relaxed);
        let name = u128::from(get(2)) | u128::from(get(3)) << 64;
        Identity { pid: get(1) as u32, uid: (get(1) >> 32) as u32, name: name.to_le_bytes() }
    }

    /// All places that somebody holds or held when he died.
    pub(crate) fn taken(&self) -> impl Iterator<Item = Place> {
        (0..self.place_count)
            .map(|index| Place { index, word: self.load(index) })
            .filter(|place| place.word & 0xff != FREE)
    }

    /// Whether anybody but `me` takes part, as far as the words say.
    fn others(&self, me: Place) -> bool {
        self.taken().any(|place| place.word & 0xff == LIVE && place.index != me.index)
    }

    /// Whether the place is dead: its lock is free, and the word names it before and after.
    pub(crate) fn is_dead(&self, locks: &dyn Locks, place: Place) -> bool {
        locks.is_free(place.index) && self.is(place)
    }

    /// Whether the place's word is still the same: asked before each repair, after the look at what is repaired.
    pub(crate) fn is(&self, place: Place) -> bool {
        self.load(place.index) == place.word
    }

    /// No longer counted. From here on everything of this place is repaired, then it is freed.
    pub(crate) fn leave(&self, place: Place) -> Place {
        let leaving = Place { word: place.word & !0xff | LEAVING, ..place };
        self.replace(place, leaving.word);
        // orders: LEAVING before the look for others; of two who leave at once, one sees that he is the last
        fence(SeqCst);
        leaving
    }

    /// Frees a place that left, or that is dead and repaired.
    pub(crate) fn free(&self, place: Place) {
        let next = (place.word & !(GENERATION - 1)).wrapping_add(GENERATION);
        self.replace(place, next & !RETIRED);
    }

    /// Announces that this participant attached. False: the segment is retired, and stays so.
    pub(crate) fn announce(&self) -> bool {
        // gives: announced
        self.memory.word(layout::ATTACH).fetch_add(1, Release) & RETIRED == 0
    }

    /// What [`retire`](Self::retire) starts from; `None` when the segment is retired already.
    pub(crate) fn attachments(&self) -> Option<u64> {
        // takes: announced
        let seen = self.memory.word(layout::ATTACH).load(Acquire);
        (seen & RETIRED == 0).then_some(seen)
    }

    /// Retires the segment for ever if nobody beside `me` takes part and `keep` does not object. `reap` is done
    /// before each look, so that the dead do not count.
    pub(crate) fn retire_alone(&self, me: Place, reap: impl Fn() -> bool, keep: impl Fn() -> bool) -> bool {
        for _ in 0..RETIREMENTS {
            let Some(seen) = self.attachments() else { return false };
            if reap() {
                continue; // there may be more of them
            }
            if self.others(me) || keep() {
                return false;
            }
            if self.retire(seen) {
                return true;
            }
        }
        false
    }

    /// Retires the segment for ever, unless somebody attached since `seen`.
    pub(crate) fn retire(&self, seen: u64) -> bool {
        self.memory.word(layout::ATTACH).compare_exchange(seen, seen | RETIRED, Relaxed, Relaxed).is_ok()
    }

    fn endpoint_word(&self, index: u16) -> &crate::atomic::AtomicU64 {
        self.memory.word(self.endpoints + u64::from(index) * ENDPOINT_BYTES)
    }

    /// Opens an endpoint, at `fixed` or anywhere. `Err` gives who has the fixed one, or 0 when the table is full.
    pub(crate) fn open(&self, role: Role, owner: u16, fixed: Option<u16>) -> Result<Endpoint, u16> {
        let range = fixed.map_or(0..self.endpoint_count, |index| index..index + 1);
        let mut holder = 0;
        for index in range {
            // takes: closed
            let seen = self.endpoint_word(index).load(Acquire);
            if seen & 0xff != FREE {
                holder = (seen >> 16) as u16;
                continue;
            }
            let word = seen & !(GENERATION - 1) | role as u64 | u64::from(owner) << 16;
            // gives: opened
            if self.endpoint_word(index).compare_exchange(seen, word, Release, Relaxed).is_ok() {
                self.count_change(role);
                return Ok(Endpoint { index, word });
            }
        }
        Err(if fixed.is_some() { holder } else { 0 })
    }

    /// Closes an endpoint. False: it was closed before.
    pub(crate) fn close(&self, endpoint: Endpoint) -> bool {
        let next = (endpoint.word & !(GENERATION - 1)).wrapping_add(GENERATION);
        let word = self.endpoint_word(endpoint.index);
        // gives: closed
        let closed = word.compare_exchange(endpoint.word, next, Release, Relaxed).is_ok();
        if closed && endpoint.word & 0xff == Role::Sender as u64 {
            self.count_change(Role::Sender);
        }
        closed
    }

    /// Says whether a receiver waits for a message. While it lives nobody else changes the word.
    pub(crate) fn mark(&self, endpoint: &mut Endpoint, waits: bool) {
        endpoint.word = if waits { endpoint.word | WAITS } else { endpoint.word & !WAITS };
        self.endpoint_word(endpoint.index).store(endpoint.word, Relaxed);
    }

    /// The receivers that wait, by owner.
    pub(crate) fn waiting_receivers(&self) -> impl Iterator<Item = u16> {
        self.open_words(Role::Receiver).filter(|word| word & WAITS != 0).map(|word| (word >> 16) as u16)
    }

    fn count_change(&self, role: Role) {
        if role == Role::Sender {
            // gives: changed
            self.memory.word(layout::SENDERS_EPOCH).fetch_add(1, Release);
        }
    }

    /// Advances whenever a sender comes or goes; 0 while there never was one.
    #[inline]
    pub(crate) fn senders_epoch(&self) -> u64 {
        // takes: changed
        self.memory.word(layout::SENDERS_EPOCH).load(Acquire)
    }

    /// The open endpoints of a role, by owner.
    pub(crate) fn open_endpoints(&self, role: Role) -> impl Iterator<Item = u16> {
        self.open_words(role).map(|word| (word >> 16) as u16)
    }

    fn open_words(&self, role: Role) -> impl Iterator<Item = u64> {
        // takes: opened, closed
        (0..self.endpoint_count)
            .map(|index| self.endpoint_word(index).load(Acquire))
            .filter(move |word| word & 0xff == role as u64)
    }

    /// Closes what a dead place had open, and counts it.
    pub(crate) fn reap_endpoints(&self, dead: Place, still_dead: impl Fn() -> bool) {
        for index in 0..self.endpoint_count {
            // takes: opened
            let word = self.endpoint_word(index).load(Acquire);
            if (word >> 16) as u16 != dead.owner() || !still_dead() {
                continue;
            }
            if self.close(Endpoint { index, word }) {
                let is_sender = word & 0xff == Role::Sender as u64;
                let count = if is_sender { layout::DEATHS } else { layout::RECEIVER_DEATHS };
                self.memory.word(count).fetch_add(1, Relaxed);
            }
        }
        // The dead, or one who repaired them and died too, may have closed a sender and not counted it: without a
        // change of the epoch no receiver would look whether that was the end.
        if self.senders_epoch() != 0 {
            self.count_change(Role::Sender);
        }
    }

    /// Senders that died without closing.
    pub(crate) fn deaths(&self) -> u64 {
        self.memory.word(layout::DEATHS).load(Relaxed)
    }

    /// The same of receivers.
    pub(crate) fn receiver_deaths(&self) -> u64 {
        self.memory.word(layout::RECEIVER_DEATHS).load(Relaxed)
    }
}
