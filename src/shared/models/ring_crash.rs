//! The ring, many to many, with participants that die before any of their operations.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom::sync::Mutex;
use loom::thread::spawn;

use crate::shared::slot::State;

use super::ring::{Blocked, channel};
use super::{Mortal, all, check_each_death, fails};

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
fn sender_dies(mortal: Mortal) -> impl Fn() {
    move || {
        let channel = channel(2, 2, 0, Blocked::Revokes);
        let lock = Lock::held();
        let (ours, theirs, mortal, falls) = (channel.clone(), channel.clone(), mortal.clone(), lock.clone());
        let victim = spawn(move || {
            let sent = mortal.run(|| ours.send(&mut ours.tail(), 1, 1)).is_some();
            falls.fall();
            sent
        });
        let witness = spawn(move || {
            theirs.send(&mut theirs.tail(), 2, 2);
            if lock.is_free() {
                assert!(theirs.ring.reap(1, || true));
            }
            theirs.receive(&mut theirs.head(), || false).unwrap()
        });
        let sent = victim.join().unwrap();
        let first = witness.join().unwrap();
        assert!(channel.ring.reap(1, || true));
        let mut values = channel.audit();
        values.push(first);
        values.sort_unstable();
        assert!(values == [1, 2] || !sent && values == [2], "{values:?}");
    }
}

#[test]
fn loom_ring_survives_a_sender() {
    check_each_death(1000, sender_dies);
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
#[test]
fn loom_ring_survives_a_repairer() {
    check_each_death(1000, |mortal| {
        move || {
            let channel = channel(2, 2, 0, Blocked::Revokes);
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
    });
}

/// A sender dies between its claim and waking the receiver that slept: its successor wakes it in passing.
#[test]
fn loom_ring_wakes_in_place_of_the_dead() {
    check_each_death(100, |mortal| {
        move || {
            let channel = channel(2, 2, 0, Blocked::Revokes);
            let (ours, theirs, mortal) = (channel.clone(), channel.clone(), mortal.clone());
            let receiver = spawn(move || ours.receive(&mut ours.head(), || false));
            let senders = spawn(move || {
                let sent = mortal.run(|| theirs.send(&mut theirs.tail(), 1, 1)).is_some();
                theirs.send(&mut theirs.tail(), 2, 2);
                sent
            });
            let first = receiver.join().unwrap();
            let sent = senders.join().unwrap();
            assert!(channel.ring.reap(1, || true));
            let values: Vec<u64> = first.into_iter().chain(channel.audit()).collect();
            assert!(values == [1, 2] || !sent && values == [2], "{values:?}");
        }
    });
}
