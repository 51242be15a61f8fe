//! The repair of the dead as a whole, by several at once, and by one who dies at it.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::shared::chunks::State;
use crate::shared::layout::{Ack, Peers};
use crate::shared::participants::{Place, Role};

use super::segment::{Payload, Segment, segment};
use super::{Mortal, all, check, check_each_death_in_short, notices};

/// What the dead one left: an open endpoint, a message in a chunk that waits, and another whose claim it never
/// committed.
fn dead_sender(segment: &Segment) {
    let dead = segment.join();
    segment.open(Role::Sender, dead);
    let mut tail = segment.tail();
    segment.send(&mut tail, dead, Payload::Chunk(segment.queue(dead, 1).unwrap()));
    segment.claim(&mut tail, dead, Payload::Chunk(segment.queue(dead, 2).unwrap()));
    segment.kernel.bury(dead);
}

/// Two repair it, one of whom dies at it. The other then takes the very same place, and sends: what is its own stays
/// so, though the first goes on with what it saw before.
fn repairers(mortal: Mortal) -> impl Fn() {
    move || {
        let segment = segment(Peers::Many, Ack::OnTake);
        dead_sender(&segment);
        let slow = segment.join();
        let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
        let first = spawn(move || {
            if mortal.run(|| ours.reap(Some(slow))).is_none() {
                ours.kernel.bury(slow);
            }
        });
        let second = spawn(move || {
            theirs.reap(None);
            let me = theirs.join();
            theirs.open(Role::Sender, me);
            let (value, held) = theirs.receive(&mut theirs.head(), me.owner()).expect("a message is lost");
            assert_eq!(value, 1);
            theirs.shared.chunks.release(held.unwrap());
            let chunk = theirs.queue(me, 3).expect("the dead one's chunk is free");
            theirs.send(&mut theirs.tail(), me, Payload::Chunk(chunk));
            assert_eq!(theirs.shared.chunks.load(chunk.id), chunk.word, "robbed of a message");
            me
        });
        all([first]);
        let successor = second.join().unwrap();
        audit(&segment, successor);
    }
}

/// Everything is the living one's or nobody's.
fn audit(segment: &Segment, successor: Place) {
    segment.reap(None);
    let participants = &segment.shared.participants;
    assert!(participants.is(successor));
    assert!(participants.open_endpoints(Role::Sender).eq([successor.owner()]), "an endpoint is lost");
    assert!(participants.deaths() <= 1);
    assert_eq!(segment.shared.depth(), 1);
    assert_eq!(segment.drain(), [3]);
    assert_eq!(segment.chunks(State::Free), 2, "a chunk is lost");
}

#[test]
fn loom_repair_by_two() {
    check(1000, repairers(Mortal::never()));
}

#[test]
fn loom_repair_survives_a_repairer() {
    check_each_death_in_short(1000, repairers);
}

#[test]
fn loom_repair_needs_its_orderings() {
    notices(Fault::Relaxed, repairers(Mortal::never()));
}

#[test]
fn loom_repair_needs_its_comparison() {
    notices(Fault::BlindSwap, repairers(Mortal::never()));
}

/// One to one: whoever left two messages in chunks and then died is repaired while its successor sends.
fn one_to_one() {
    let segment = segment(Peers::One, Ack::OnTake);
    let dead = segment.join();
    let mut tail = segment.tail();
    (1..=2)
        .for_each(|value| segment.send(&mut tail, dead, Payload::Chunk(segment.queue(dead, value).unwrap())));
    segment.kernel.bury(dead);
    let living = segment.join();
    let (ours, theirs) = (segment.clone(), segment.clone());
    let repairer = spawn(move || ours.reap(None));
    let successor = spawn(move || {
        let mut head = theirs.head();
        let (value, held) = theirs.receive(&mut head, living.owner()).expect("a message is lost");
        assert_eq!(value, 1);
        theirs.shared.chunks.release(held.unwrap());
        theirs.send(&mut theirs.tail(), living, Payload::Inline(3));
    });
    all([repairer]);
    all([successor]);
    assert_eq!(segment.drain(), [2, 3]);
    assert_eq!(segment.chunks(State::Free), 2, "a chunk is lost");
}

#[test]
fn loom_repair_one_to_one() {
    check(100, one_to_one);
}
