//! The ring, many to many.

use loom::thread::{spawn, yield_now};

use crate::atomic::{Fault, Ordering};
use crate::deadline::Deadline;
use crate::shared::layout::{self, Peers};
use crate::shared::memory::Memory;
use crate::shared::ring::{Claim, Cursor, Found, Front, Ring};
use crate::shared::slot::{Slot, State};

use super::{all, check, fails, layout as small, notices};

/// The last lap before the count of laps begins anew.
const LAST_LAP: u64 = (1 << 40) - 1;

/// What a participant does about a claim in its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    Yields,
    Revokes,
}

/// A ring, and how to use it as the channel does.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) memory: Memory,
    pub(super) ring: Ring,
    pub(super) slots: u64,
    pub(super) blocked: Blocked,
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
    Channel { ring: Ring::new(memory, &layout), memory, slots, blocked }
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
        loop {
            match self.ring.claim(cursor, me).unwrap() {
                Claim::Claimed(claim) => {
                    let at = self.ring.slot(claim.position) + 16;
                    self.memory.write(at, &value.to_le_bytes());
                    self.memory.write(at + 8, &value.to_le_bytes());
                    if self.ring.commit(claim).unwrap() {
                        return;
                    }
                }
                Claim::Full(found) => self.ring.sleep(found, Deadline::Never, || true),
                Claim::Blocked(found) => self.blocked(found),
                Claim::Lost => yield_now(),
            }
        }
    }

    fn blocked(&self, found: Found) {
        match self.blocked {
            Blocked::Yields => yield_now(),
            Blocked::Revokes => drop(self.ring.revoke(found)),
        }
    }

    /// Takes the first message, once it is there. `None`: `until` says that nothing will come.
    pub(super) fn receive(&self, cursor: &mut Cursor, until: impl Fn() -> bool) -> Option<u64> {
        loop {
            match self.ring.front(cursor).unwrap() {
                Front::Full(found) => {
                    let mut value = [[0; 8]; 2];
                    self.memory.read(self.ring.slot(found.position) + 16, value.as_flattened_mut());
                    if self.ring.take(cursor, found) {
                        assert_eq!(value[0], value[1], "torn");
                        return Some(u64::from_le_bytes(value[0]));
                    }
                }
                Front::Empty(_) if until() => return None,
                Front::Empty(found) => self.ring.sleep(found, Deadline::Never, || !until()),
                Front::Blocked(found) => self.blocked(found),
                Front::Lost => yield_now(),
            }
        }
    }

    /// What is left, in order. No slot may be anybody's then, and each is used once more.
    pub(super) fn audit(&self) -> Vec<u64> {
        let (mut head, mut tail) = (self.head(), self.tail());
        let left = std::iter::from_fn(|| self.receive(&mut head, || true)).collect();
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
fn closing(recheck: bool) -> impl Fn() {
    move || {
        let channel = channel(2, 2, 0, Blocked::Yields);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let is_closed =
            |channel: &Channel| channel.memory.word(layout::SENDERS_EPOCH).load(Ordering::Relaxed) > 0;
        let receiver = spawn(move || {
            let mut head = ours.head();
            while !is_closed(&ours) {
                if let Ok(Front::Empty(found)) = ours.ring.front(&mut head) {
                    ours.ring.sleep(found, Deadline::Never, || !recheck || !is_closed(&ours));
                }
            }
        });
        let closer = spawn(move || {
            theirs.memory.word(layout::SENDERS_EPOCH).store(1, Ordering::Relaxed);
            theirs.ring.wake_receivers();
        });
        all([receiver, closer]);
    }
}

#[test]
fn loom_ring_wakes_a_receiver_for_news() {
    check(20, closing(true));
}

#[test]
fn loom_ring_needs_its_fences() {
    notices(Fault::NoFence, closing(true));
}

#[test]
fn loom_ring_needs_the_second_look() {
    fails(closing(false));
}

/// Whoever is in the way is robbed of its claim at any moment: it sends again, and its message comes once.
#[test]
fn loom_ring_revokes_the_living() {
    check(500, || {
        let channel = channel(4, 4, 0, Blocked::Revokes);
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
    });
}
