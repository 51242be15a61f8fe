//! The ring, many to many, with participants that die before any of their operations.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom::sync::Mutex;
use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::deadline::Deadline;
use crate::shared::layout;
use crate::shared::ring::Claim;
use crate::shared::slot::{Slot, State};

use super::ring::{Blocked, LAST_LAP, channel};
use super::{Mortal, all, check, check_each_death, fails, notices};

/// What the kernel knows: whether somebody's lock is free.
#[derive(Clone)]
struct Lock(Arc<Mutex<bool>>);

impl Lock {
    fn held() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }

    fn is_free(&self) -> bool {
        !*self.0.lock().unwrap()
    }

    fn fall(&self) {
        *self.0.lock().unwrap() = false;
    }
}

/// A sender that dies, one that lives and goes round, and a receiver that repairs the dead while it waits.
fn sender_dies(mortal: Mortal, capacity: u64, lap: u64) -> impl Fn() {
    move || {
        let channel = channel(2, capacity, lap, Blocked::Revokes);
        let lock = Lock::held();
        let (ours, theirs, mortal, falls) = (channel.clone(), channel.clone(), mortal.clone(), lock.clone());
        let victim = spawn(move || {
            let sent = mortal.run(|| ours.send(&mut ours.tail(), 1, 1)).is_some();
            falls.fall();
            sent
        });
        let witness = spawn(move || {
            let mut head = theirs.head();
            let mut values = theirs.send_receiving(&mut theirs.tail(), &mut head, 2, 2);
            if lock.is_free() {
                assert!(theirs.ring.reap(1, || true));
            }
            values.extend(theirs.receive(&mut head, || true));
            values
        });
        let sent = victim.join().unwrap();
        let mut values = witness.join().unwrap();
        assert!(channel.ring.reap(1, || true));
        values.extend(channel.audit());
        values.sort_unstable();
        assert!(values == [1, 2] || !sent && values == [2], "{values:?}");
    }
}

#[test]
fn loom_ring_survives_a_sender() {
    check_each_death(1000, |mortal| sender_dies(mortal, 2, 0));
}

#[test]
fn loom_ring_survives_a_sender_where_laps_begin_anew() {
    check_each_death(1000, |mortal| sender_dies(mortal, 2, LAST_LAP));
}

#[test]
fn loom_ring_survives_a_sender_with_a_spare_slot() {
    check_each_death(1000, |mortal| sender_dies(mortal, 1, 0));
}

/// Without a repair the claim of the dead stays, and the audit says so.
#[test]
fn loom_ring_needs_its_repair() {
    fails(|| {
        let channel = channel(2, 2, 0, Blocked::Revokes);
        let ours = channel.clone();
        all([spawn(move || drop(ours.ring.claim(&mut ours.tail(), 1)))]);
        channel.audit();
    });
}

/// A receiver that dies, and one that takes what is left.
#[test]
fn loom_ring_survives_a_receiver() {
    check_each_death(500, |mortal| {
        move || {
            let channel = channel(2, 2, 0, Blocked::Revokes);
            let mut tail = channel.tail();
            (1..=2).for_each(|value| channel.send(&mut tail, 1, value));
            let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
            let victim = spawn(move || mortal.run(|| ours.receive(&mut ours.head(), || true)));
            let witness = spawn(move || theirs.receive(&mut theirs.head(), || true));
            let (ours, theirs) = (victim.join().unwrap(), witness.join().unwrap());
            let mut values = channel.audit();
            values.extend(theirs);
            match ours {
                Some(mine) => values.extend(mine),
                // It may have taken one with it into its grave, and no more.
                None => assert!(!values.is_empty()),
            }
            values.sort_unstable();
            assert!(matches!(values[..], [1, 2] | [1] | [2]), "{values:?}");
        }
    });
}

/// One died with a claim; its repairer dies before any of its operations and another repairs, while a sender goes
/// round over the slot.
fn repairer_dies(mortal: Mortal, lap: u64) -> impl Fn() {
    move || {
        let channel = channel(2, 2, lap, Blocked::Revokes);
        drop(channel.ring.claim(&mut channel.tail(), 1));
        assert!(channel.ring.load(0).is(State::Claimed));
        let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
        let repairers = spawn(move || {
            mortal.run(|| ours.ring.reap(1, || true));
            assert!(ours.ring.reap(1, || true));
        });
        let sender = spawn(move || {
            let mut tail = theirs.tail();
            theirs.send(&mut tail, 2, 1);
            assert_eq!(theirs.receive(&mut theirs.head(), || false), Some(1));
            theirs.send(&mut tail, 2, 2);
        });
        all([repairers, sender]);
        assert_eq!(channel.audit(), [2]);
    }
}

#[test]
fn loom_ring_survives_a_repairer() {
    check_each_death(1000, |mortal| repairer_dies(mortal, 0));
}

#[test]
fn loom_ring_survives_a_repairer_where_laps_begin_anew() {
    check_each_death(1000, |mortal| repairer_dies(mortal, LAST_LAP));
}

/// One died with a claim, and had not woken who slept on its slot. The repairer dies at it too; another goes on, and
/// who slept sees the next message: each step of a repair wakes, as the other's may not be lived to see.
#[test]
fn loom_ring_wakes_who_slept_on_a_dead_claim() {
    check_each_death(20, |mortal| {
        move || {
            let channel = channel(2, 2, 0, Blocked::Yields);
            drop(channel.ring.claim(&mut channel.tail(), 1));
            let (slot, claimed) = (channel.ring.slot(0), channel.ring.load(0).with_waiting());
            channel.memory.word(slot).store(claimed.0, Relaxed);
            let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
            let receiver = spawn(move || {
                ours.memory.sleep(slot, claimed.0, Deadline::Never);
                ours.receive(&mut ours.head(), || false)
            });
            let others = spawn(move || {
                mortal.run(|| theirs.ring.reap(1, || true));
                assert!(theirs.ring.reap(1, || true));
                theirs.send(&mut theirs.tail(), 2, 2);
            });
            all([others]);
            assert_eq!(receiver.join().unwrap(), Some(2));
            assert_eq!(channel.audit(), []);
        }
    });
}

/// Two repair one that died with a claim. A successor in its place, of which they do not know yet, is not robbed:
/// they look at the place behind each look at a word.
fn stale_repairers(careful: bool) -> impl Fn() {
    move || {
        let channel = channel(2, 2, 0, Blocked::Yields);
        drop(channel.ring.claim(&mut channel.tail(), 1));
        // Of all the words this one alone is not used: it says which generation of the place is dead or alive.
        channel.memory.word(layout::SENDERS_EPOCH).store(1, Relaxed);
        let repairers = [(); 2].map(|()| {
            let ours = channel.clone();
            spawn(move || {
                let place = ours.memory.word(layout::SENDERS_EPOCH);
                assert!(ours.ring.reap(1, || !careful || place.load(Relaxed) == 1));
                place.compare_exchange(1, 2, AcqRel, Relaxed).ok(); // gives: repaired; takes: repaired
            })
        });
        let ours = channel.clone();
        let successor = spawn(move || {
            // takes: repaired
            if ours.memory.word(layout::SENDERS_EPOCH).load(Acquire) == 2 {
                let Ok(Claim::Claimed(claim)) = ours.ring.claim(&mut ours.tail(), 1) else {
                    panic!("no room")
                };
                assert!(ours.ring.commit(claim) == Ok(true), "robbed of a claim");
            }
        });
        all(repairers.into_iter().chain([successor]));
        channel.audit();
    }
}

#[test]
fn loom_ring_of_a_successor_is_its_own() {
    check(1000, stale_repairers(true));
}

#[test]
fn loom_ring_of_a_successor_needs_the_look_at_the_place() {
    fails(stale_repairers(false));
}

#[test]
fn loom_ring_of_a_successor_needs_its_orderings() {
    notices(Fault::Relaxed, stale_repairers(true));
}

/// A sender dies between its claim, or passing over a slot, and waking the receiver that slept there: its successor
/// wakes it in passing.
fn dies_before_its_wake(mortal: Mortal, is_void: bool) -> impl Fn() {
    move || {
        let slots = if is_void { 4 } else { 2 };
        let channel = channel(slots, slots, 0, Blocked::Revokes);
        if is_void {
            let void = Slot::new(State::Void, LAST_LAP, 3);
            channel.memory.word(channel.ring.slot(0)).store(void.0, Relaxed);
        }
        let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
        let receiver = spawn(move || ours.receive(&mut ours.head(), || false));
        let senders = spawn(move || {
            let sent = mortal.run(|| theirs.send(&mut theirs.tail(), 1, 1)).is_some();
            theirs.send(&mut theirs.tail(), 2, 2);
            sent
        });
        let first = receiver.join().unwrap();
        let sent = senders.join().unwrap();
        assert!([1, 3].iter().all(|dead| channel.ring.reap(*dead, || true)));
        let values: Vec<u64> = first.into_iter().chain(channel.audit()).collect();
        assert!(values == [1, 2] || !sent && values == [2], "{values:?}");
    }
}

#[test]
fn loom_ring_wakes_in_place_of_the_dead() {
    check_each_death(100, |mortal| dies_before_its_wake(mortal, false));
}

#[test]
fn loom_ring_wakes_in_place_of_the_dead_who_passed_over_a_slot() {
    check_each_death(100, |mortal| dies_before_its_wake(mortal, true));
}
