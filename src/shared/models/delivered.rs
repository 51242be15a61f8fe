//! A sender that waits until its message is taken, or takes it back.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::deadline::Deadline;
use crate::shared::layout;
use crate::shared::ring::{Claim, Cursor, Front};

use super::ring::{Blocked, Channel, LAST_LAP, channel};
use super::{Mortal, all, check, check_each_death, check_in_short, notices};

impl Channel {
    /// Sends where there is room, and gives the position.
    fn place(&self, tail: &mut Cursor, me: u16, value: u64) -> u64 {
        loop {
            match self.ring.claim(tail, me).unwrap() {
                Claim::Claimed(claim) if self.post(claim, value) => return claim.position,
                Claim::Claimed(_) | Claim::Lost => {}
                Claim::Blocked(found) => self.ring.revoke(found),
                Claim::Full(_) => panic!("there is room"),
            }
        }
    }

    /// Sleeps until what was sent at a position is taken.
    fn await_take(&self, position: u64) {
        while let Some(found) = self.ring.waiting(position) {
            self.ring.sleep(found, Deadline::Never, || true);
        }
    }
}

/// A message is taken back while it is taken: one of both, and the slot goes on either way.
fn taken_or_back(lap: u64) -> impl Fn() {
    move || {
        let channel = channel(2, 2, lap, Blocked::Revokes);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let sender = spawn(move || {
            let mut tail = ours.tail();
            let position = ours.place(&mut tail, 1, 1);
            let is_back = ours.retract(position);
            ours.place(&mut tail, 1, 2);
            is_back
        });
        let receiver = spawn(move || theirs.receive(&mut theirs.head(), || true));
        let (is_back, taken) = (sender.join().unwrap(), receiver.join().unwrap());
        let mut values = channel.audit();
        values.extend(taken);
        values.sort_unstable();
        assert!(if is_back { values == [2] } else { values == [1, 2] }, "back: {is_back}, {values:?}");
    }
}

#[test]
fn loom_delivered_is_taken_or_taken_back() {
    check(100, taken_or_back(0));
}

#[test]
fn loom_delivered_is_taken_or_taken_back_where_laps_begin_anew() {
    check(100, taken_or_back(LAST_LAP));
}

#[test]
fn loom_delivered_needs_its_comparison() {
    notices(Fault::BlindSwap, taken_or_back(0));
}

#[test]
fn loom_delivered_needs_its_orderings() {
    notices(Fault::Relaxed, taken_or_back(0));
}

/// One waits until its message is taken, another on the same word for room: the take wakes both.
fn two_wait() {
    let channel = channel(2, 1, 0, Blocked::Yields);
    let position = channel.place(&mut channel.tail(), 1, 1);
    let (ours, others, theirs) = (channel.clone(), channel.clone(), channel.clone());
    let delivers = spawn(move || ours.await_take(position));
    let sends = spawn(move || others.send(&mut others.tail(), 2, 2));
    let receiver = spawn(move || {
        let mut head = theirs.head();
        (1..=2).for_each(|value| assert_eq!(theirs.receive(&mut head, || false), Some(value)));
    });
    all([delivers, sends, receiver]);
    assert_eq!(channel.audit(), []);
}

#[test]
fn loom_delivered_wakes() {
    check_in_short(100, two_wait);
}

#[test]
fn loom_delivered_needs_its_wakes() {
    notices(Fault::NoWake, two_wait);
}

/// Whoever sleeps for room is woken by a retraction as by a take.
#[test]
fn loom_delivered_taken_back_makes_room() {
    check(20, || {
        let channel = channel(2, 1, 0, Blocked::Yields);
        let position = channel.place(&mut channel.tail(), 1, 1);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let delivers = spawn(move || assert!(ours.retract(position), "nobody takes"));
        let sends = spawn(move || theirs.send(&mut theirs.tail(), 2, 2));
        all([delivers, sends]);
        assert_eq!(channel.audit(), [2]);
    });
}

/// One is taken back behind another that waits, and the ring goes round; somebody opens meanwhile, whose hints may be
/// of any moment.
fn latecomer(slots: u64, capacity: u64) -> impl Fn() {
    move || {
        let channel = channel(slots, capacity, 0, Blocked::Revokes);
        let (ours, theirs) = (channel.clone(), channel.clone());
        let old = spawn(move || {
            let (mut tail, mut head) = (ours.tail(), ours.head());
            ours.place(&mut tail, 1, 1);
            let mut values = vec![];
            if let Ok(Claim::Claimed(claim)) = ours.ring.claim(&mut tail, 1)
                && ours.post(claim, 2)
            {
                values.extend((!ours.retract(claim.position)).then_some(0));
            }
            for value in 3..=4 {
                values.extend(ours.send_receiving(&mut tail, &mut head, 1, value));
            }
            values
        });
        let late = spawn(move || {
            let front = theirs.ring.front(&mut theirs.head()).unwrap();
            let claim = theirs.ring.claim(&mut theirs.tail(), 2).unwrap();
            let sent = matches!(claim, Claim::Claimed(claim) if theirs.post(claim, 5));
            (sent, matches!(front, Front::Lost))
        });
        let (mut values, (sent, lost)) = (old.join().unwrap(), late.join().unwrap());
        values.extend(channel.audit());
        values.sort_unstable();
        let due = [1, 3, 4].into_iter().chain(sent.then_some(5));
        assert!(!lost && values.iter().copied().eq(due), "{values:?}");
    }
}

#[test]
fn loom_delivered_taken_back_before_a_latecomer() {
    check_in_short(500, latecomer(2, 2));
}

#[test]
fn loom_delivered_taken_back_before_a_latecomer_with_spare_slots() {
    check_in_short(500, latecomer(4, 2));
}

/// The sender dies before any of its operations: its message is there, as any, or it is not.
#[test]
fn loom_delivered_survives_its_sender() {
    check_each_death(100, |mortal| sender_dies(mortal, 0));
}

#[test]
fn loom_delivered_survives_its_sender_where_laps_begin_anew() {
    check_each_death(100, |mortal| sender_dies(mortal, LAST_LAP));
}

fn sender_dies(mortal: Mortal, lap: u64) -> impl Fn() {
    move || {
        let channel = channel(2, 2, lap, Blocked::Revokes);
        let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
        let victim = spawn(move || {
            mortal.run(|| {
                let position = ours.place(&mut ours.tail(), 1, 1);
                ours.retract(position)
            })
        });
        let witness = spawn(move || {
            let taken = theirs.receive(&mut theirs.head(), || true);
            theirs.place(&mut theirs.tail(), 2, 2);
            taken
        });
        let (is_back, taken) = (victim.join().unwrap(), witness.join().unwrap());
        assert!(channel.ring.reap(1, || true));
        let mut values: Vec<u64> = taken.into_iter().chain(channel.audit()).collect();
        values.sort_unstable();
        match is_back {
            Some(true) => assert_eq!(values, [2]),
            Some(false) => assert_eq!(values, [1, 2]),
            None => assert!(values == [2] || values == [1, 2], "{values:?}"),
        }
    }
}

/// The receiver dies before any of its operations: what it did not take is taken back.
#[test]
fn loom_delivered_survives_its_receiver() {
    check_each_death(50, |mortal| {
        move || {
            let channel = channel(2, 2, 0, Blocked::Revokes);
            let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
            let sender = spawn(move || {
                let position = ours.place(&mut ours.tail(), 1, 1);
                ours.retract(position)
            });
            let victim = spawn(move || mortal.run(|| theirs.receive(&mut theirs.head(), || true)));
            let (is_back, taken) = (sender.join().unwrap(), victim.join().unwrap());
            // Who died may have taken it to its grave.
            assert!(taken.is_none_or(|taken| is_back == taken.is_none()), "{taken:?}");
            assert_eq!(channel.audit(), [], "taken or taken back");
        }
    });
}

/// Hints begin at 0 where laps do.
#[test]
fn loom_delivered_of_nobody_is_taken_back() {
    check(1, || {
        let channel = channel(2, 2, 0, Blocked::Yields);
        let ours = channel.clone();
        all([spawn(move || {
            let position = ours.place(&mut ours.tail(), 1, 1);
            assert!(ours.retract(position) && !ours.retract(position), "it was there, once");
            assert_eq!(ours.memory.word(layout::HEAD).load(crate::atomic::Ordering::Relaxed), 0);
        })]);
        assert_eq!(channel.audit(), []);
    });
}
