//! The ring, many to many.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use loom::thread::{spawn, yield_now};

use crate::atomic::Fault;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::shared::layout::{self, Peers};
use crate::shared::memory::Memory;
use crate::shared::ring::{Claim, Cursor, Found, Front, Ring};
use crate::shared::slot::{Slot, State};
use crate::shared::wait::{Spinner, WaitMode};

use super::hands::Hands;
use super::{all, check, check_in_short, fails, layout as small, notices};

/// The last lap before the count of laps begins anew.
pub(super) const LAST_LAP: u64 = (1 << 40) - 1;

/// What a participant does about a claim in its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    Yields,
    Revokes,
    /// Watches it, naps on it, revokes it.
    Outwaits,
}

/// A ring, and how to use it as the channel does.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) memory: Memory,
    pub(super) ring: Ring,
    pub(super) slots: u64,
    pub(super) blocked: Blocked,
    hands: Hands,
    /// Messages that are sent and not about to be taken: at most the capacity.
    waiting: Arc<AtomicI64>,
    capacity: i64,
}

/// The ring at the beginning of a lap.
pub(super) fn channel(slots: u64, capacity: u64, lap: u64, blocked: Blocked) -> Channel {
    let layout = small(Peers::Many, slots, capacity);
    let hints = [(layout::TAIL, lap * slots), (layout::HEAD, lap * slots), (layout::SENDERS_EPOCH, 0)];
    let words = (0..slots).flat_map(|slot| {
        let at = layout.slots + slot * 64;
        [(at, Slot::new(State::Empty, lap, 0).0), (at + 16, 0), (at + 24, 0)]
    });
    let memory = Memory::of_words(layout.length, hints.into_iter().chain(words));
    Channel {
        ring: Ring::new(memory, &layout),
        memory,
        slots,
        blocked,
        hands: Hands::new(),
        waiting: Arc::default(),
        capacity: capacity as i64,
    }
}

impl Channel {
    pub(super) fn tail(&self) -> Cursor {
        self.ring.cursor(layout::TAIL)
    }

    pub(super) fn head(&self) -> Cursor {
        self.ring.cursor(layout::HEAD)
    }

    /// Sends a value, which is written twice.
    pub(super) fn send(&self, cursor: &mut Cursor, me: u16, value: u64) {
        self.send_or(cursor, me, value, |found| self.ring.sleep(found, Deadline::Never, || true));
    }

    /// Sends; receives where there is no room.
    pub(super) fn send_receiving(
        &self,
        tail: &mut Cursor,
        head: &mut Cursor,
        me: u16,
        value: u64,
    ) -> Vec<u64> {
        let mut values = vec![];
        self.send_or(tail, me, value, |_| match self.receive(head, || true) {
            Some(value) => values.push(value),
            None => yield_now(), // another has taken what was in the way
        });
        values
    }

    fn send_or(&self, cursor: &mut Cursor, me: u16, value: u64, mut full: impl FnMut(Found)) {
        loop {
            match self.ring.claim(cursor, me).unwrap() {
                Claim::Claimed(claim) if self.post(claim, value) => return,
                Claim::Claimed(_) => {} // revoked
                Claim::Full(found) => full(found),
                Claim::Blocked(found) => self.blocked(found),
                Claim::Lost => yield_now(),
            }
        }
    }

    /// Writes and commits. False: the claim was revoked.
    pub(super) fn post(&self, claim: Found, value: u64) -> bool {
        let at = self.ring.slot(claim.position);
        self.hands.take(at);
        self.memory.write(at + 16, &value.to_le_bytes());
        self.memory.write(at + 24, &value.to_le_bytes());
        let mark = self.hands.done();
        if !self.ring.commit(claim).unwrap() {
            self.hands.give(at, mark); // the slot, not a message
            return false;
        }
        let waiting = self.waiting.fetch_add(1, Relaxed) + 1;
        assert!(waiting <= self.capacity, "{waiting} messages are more than the capacity");
        true
    }

    fn blocked(&self, found: Found) {
        match self.blocked {
            Blocked::Yields => yield_now(),
            Blocked::Revokes => self.ring.revoke(found),
            Blocked::Outwaits => self.ring.outwait(found, &Spinner::new(WaitMode::Adaptive, 2)),
        }
    }

    /// Takes back what was sent at a position. False: it was taken.
    pub(super) fn retract(&self, position: u64) -> bool {
        let mark = self.hands.done();
        self.waiting.fetch_sub(1, Relaxed);
        let retracted = self.ring.retract(position).unwrap();
        match retracted {
            true => self.hands.give(self.ring.slot(position), mark),
            false => drop(self.waiting.fetch_add(1, Relaxed)),
        }
        retracted
    }

    /// Takes the first message, once it is there. `None`: `until` says that nothing will come.
    pub(super) fn receive(&self, cursor: &mut Cursor, until: impl Fn() -> bool) -> Option<u64> {
        if let Some(value) = self.ring.at(cursor).and_then(|found| self.take(cursor, found)) {
            return Some(value);
        }
        loop {
            match self.ring.front(cursor).unwrap() {
                Front::Full(found) => {
                    if let Some(value) = self.take(cursor, found) {
                        return Some(value);
                    }
                }
                Front::Empty(_) if until() => return None,
                Front::Empty(found) => self.ring.sleep(found, Deadline::Never, || !until()),
                Front::Blocked(found) => self.blocked(found),
                Front::Lost => yield_now(),
            }
        }
    }

    /// Copies a message and takes it. `None`: another did.
    fn take(&self, cursor: &mut Cursor, found: Found) -> Option<u64> {
        let (mut value, at) = ([[0; 8]; 2], self.ring.slot(found.position));
        self.memory.read(at + 16, value.as_flattened_mut());
        let mark = self.hands.done();
        self.waiting.fetch_sub(1, Relaxed);
        if !self.ring.take(cursor, found) {
            self.waiting.fetch_add(1, Relaxed);
            return None;
        }
        self.hands.give(at, mark);
        assert_eq!(value[0], value[1], "torn");
        Some(u64::from_le_bytes(value[0]))
    }

    /// What is left, in order. No slot may be anybody's then, and each is used once more.
    pub(super) fn audit(&self) -> Vec<u64> {
        let (mut head, mut tail) = (self.head(), self.tail());
        let left: Vec<u64> = std::iter::from_fn(|| self.receive(&mut head, || true)).collect();
        assert!((0..self.slots).all(|slot| self.ring.load(slot).is(State::Empty)), "a slot is lost");
        for value in 0..self.slots {
            self.send(&mut tail, 9, value);
            assert_eq!(self.receive(&mut head, || true), Some(value));
        }
        left
    }
}

/// One sender, one receiver, more messages than slots: both sleep.
fn stream(slots: u64, capacity: u64, lap: u64) -> impl Fn() {
    move || {
        let channel = channel(slots, capacity, lap, Blocked::Yields);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let sender = spawn(move || {
            let mut tail = ours.tail();
            (1..=3).for_each(|value| ours.send(&mut tail, 1, value));
        });
        let receiver = spawn(move || {
            let mut head = theirs.head();
            for value in 1..=3 {
                assert_eq!(theirs.receive(&mut head, || false), Some(value));
            }
        });
        all([sender, receiver]);
        assert_eq!(channel.audit(), []);
    }
}

#[test]
fn loom_ring_keeps_order_and_wakes() {
    check(1000, stream(2, 2, 0));
}

#[test]
fn loom_ring_goes_on_where_laps_begin_anew() {
    check(1000, stream(2, 2, LAST_LAP));
}

#[test]
fn loom_ring_of_one_message_in_two_slots() {
    check(1000, stream(2, 1, 0));
}

#[test]
fn loom_ring_of_one_message_in_four_slots() {
    check(1000, stream(4, 1, 0));
}

#[test]
fn loom_ring_needs_its_orderings() {
    notices(Fault::Relaxed, stream(2, 2, 0));
}

#[test]
fn loom_ring_needs_its_wakes() {
    notices(Fault::NoWake, stream(2, 2, 0));
}

/// Two senders of two messages: each one's are in order.
fn two_senders() -> impl Fn() {
    || {
        let channel = channel(2, 2, 0, Blocked::Yields);
        let senders = [1, 2].map(|me| {
            let channel = channel.clone();
            spawn(move || channel.send(&mut channel.tail(), me, me.into()))
        });
        let ours = channel.clone();
        let receiver = spawn(move || {
            let mut head = ours.head();
            let mut values = [(); 2].map(|()| ours.receive(&mut head, || false).unwrap());
            values.sort_unstable();
            assert_eq!(values, [1, 2]);
        });
        all(senders.into_iter().chain([receiver]));
        assert_eq!(channel.audit(), []);
    }
}

#[test]
fn loom_ring_of_two_senders() {
    check(1000, two_senders());
}

#[test]
fn loom_ring_needs_its_comparison() {
    notices(Fault::BlindSwap, two_senders());
}

/// Two receivers for two messages that are there: each is taken once.
fn two_receivers() -> impl Fn() {
    || {
        let channel = channel(2, 2, 0, Blocked::Revokes);
        let mut tail = channel.tail();
        (1..=2).for_each(|value| channel.send(&mut tail, 1, value));
        let receivers = [(); 2].map(|()| {
            let channel = channel.clone();
            spawn(move || channel.receive(&mut channel.head(), || true).unwrap())
        });
        let mut values = all(receivers);
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
        assert_eq!(channel.audit(), []);
    }
}

#[test]
fn loom_ring_of_two_receivers() {
    check(100, two_receivers());
}

#[test]
fn loom_ring_of_two_receivers_needs_its_comparison() {
    notices(Fault::BlindSwap, two_receivers());
}

/// A receiver asleep is woken by what is no message; `recheck` looks at the news again before it sleeps.
fn closing(recheck: bool, nudges: usize) -> impl Fn() {
    move || {
        let channel = channel(2, 2, 0, Blocked::Yields);
        let nudged = (0..nudges).fold(channel.ring.load(0), |word, _| word.nudged());
        channel.memory.word(channel.ring.slot(0)).store(nudged.0, Relaxed);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let is_closed = |channel: &Channel| channel.memory.word(layout::SENDERS_EPOCH).load(Relaxed) > 0;
        let receiver = spawn(move || {
            let mut head = ours.head();
            while !is_closed(&ours) {
                if let Ok(Front::Empty(found)) = ours.ring.front(&mut head) {
                    ours.ring.sleep(found, Deadline::Never, || !recheck || !is_closed(&ours));
                }
            }
        });
        let closer = spawn(move || {
            theirs.memory.word(layout::SENDERS_EPOCH).store(1, Relaxed);
            theirs.ring.wake_receivers();
        });
        all([receiver, closer]);
    }
}

#[test]
fn loom_ring_wakes_a_receiver_for_news() {
    check(20, closing(true, 0));
}

#[test]
fn loom_ring_wakes_a_receiver_where_nudges_begin_anew() {
    check(20, closing(true, 15));
}

#[test]
fn loom_ring_needs_its_fences() {
    notices(Fault::NoFence, closing(true, 0));
}

#[test]
fn loom_ring_needs_the_second_look() {
    fails(closing(false, 0));
}

/// Messages go round and round, and somebody opens meanwhile, whose hints may be of any moment.
fn latecomer(slots: u64, capacity: u64) -> impl Fn() {
    move || {
        let channel = channel(slots, capacity, 0, Blocked::Revokes);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let old = spawn(move || {
            let (mut tail, mut head) = (ours.tail(), ours.head());
            let mut values = vec![];
            for value in 1..=3 {
                values.extend(ours.send_receiving(&mut tail, &mut head, 1, value));
                values.extend(ours.receive(&mut head, || true));
            }
            values
        });
        let late = spawn(move || {
            let claim = theirs.ring.claim(&mut theirs.tail(), 2).unwrap();
            let front = theirs.ring.front(&mut theirs.head()).unwrap();
            let sent = matches!(claim, Claim::Claimed(claim) if theirs.post(claim, 4));
            (sent, matches!(front, Front::Lost))
        });
        let (mut values, (sent, lost)) = (old.join().unwrap(), late.join().unwrap());
        values.extend(channel.audit());
        values.sort_unstable();
        assert!(!lost && values.iter().copied().eq(1..=3 + u64::from(sent)), "{values:?}");
    }
}

#[test]
fn loom_ring_of_a_latecomer() {
    check_in_short(1000, latecomer(2, 2));
}

#[test]
fn loom_ring_of_a_latecomer_with_a_spare_slot() {
    check_in_short(1000, latecomer(2, 1));
}

/// Whoever is in the way is robbed of its claim at any moment: it sends again, and its message comes once.
fn robber(capacity: u64) -> impl Fn() {
    move || {
        let channel = channel(4, capacity, 0, Blocked::Revokes);
        let senders = [1, 2].map(|me| {
            let channel = channel.clone();
            spawn(move || channel.send(&mut channel.tail(), me, me.into()))
        });
        let ours = channel.clone();
        let robber = spawn(move || {
            for position in 0..2 {
                let word = ours.ring.load(position);
                if word.is(State::Claimed) {
                    ours.ring.revoke(Found { position, word });
                }
            }
        });
        all(senders.into_iter().chain([robber]));
        let mut values = channel.audit();
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
    }
}

#[test]
fn loom_ring_revokes_the_living() {
    check(500, robber(4));
}

/// A receiver that waits behind a claim as the channel does, its bit in the word: it gets what was sent, once.
#[test]
fn loom_ring_outwaits_the_living() {
    check(100, || {
        let channel = channel(4, 4, 0, Blocked::Outwaits);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let sender = spawn(move || {
            let mut tail = ours.tail();
            (1..=2).for_each(|value| ours.send(&mut tail, 1, value));
        });
        let receiver = spawn(move || {
            let mut head = theirs.head();
            (1..=2).for_each(|value| assert_eq!(theirs.receive(&mut head, || false), Some(value)));
        });
        all([sender, receiver]);
        assert_eq!(channel.audit(), []);
    });
}
