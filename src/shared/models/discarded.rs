//! A sender that drops the oldest message to make room (`full=drop`), while its own sender watches it, dies, or is
//! repaired.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::shared::chunks::State;
use crate::shared::layout::{Ack, Peers};
use crate::shared::participants::Place;
use crate::shared::ring::Front;

use super::segment::{End, Payload, Segment, segment};
use super::{Mortal, all, check_each_death_in_short, check_in_short, notices};

impl Segment {
    /// Drops the oldest message, which is in a chunk that its sender watches, as the channel does. True: it is gone, and
    /// this one counts it.
    fn discard(&self, me: u16) -> bool {
        let End::Many(mut head) = self.head() else { panic!("one to one, nothing is dropped") };
        let Front::Full(found) = self.shared.ring.front(&mut head).unwrap() else { return false };
        if found.word.owner() != 0 {
            self.shared.ring.take(&mut head, found);
            return false;
        }
        self.receive(&mut End::Many(head), me).is_some_and(|(_, held)| {
            held.into_iter().for_each(|chunk| self.shared.chunks.release(chunk));
            true
        })
    }
}

/// One watches its message while another takes it and a third drops it: it is taken or dropped, and who watches knows.
fn watched() {
    let segment = segment(Peers::Many, Ack::OnTake);
    let (sender, receiver, dropper) = (segment.join(), segment.join(), segment.join());
    let mut chunk = segment.queue(sender, 1).unwrap();
    segment.send(&mut segment.tail(), sender, Payload::Chunk(chunk));
    let ours = segment.clone();
    let watches = spawn(move || {
        let is_gone = ours.shared.ring.waiting(0).is_none();
        // In this order: the take of a chunk comes before its slot is emptied.
        let is_taken = !ours.shared.chunks.waits(&chunk);
        let is_dropped = is_gone && !is_taken && ours.shared.chunks.recall(&mut chunk);
        let is_back = !is_gone && ours.shared.chunks.recall(&mut chunk);
        if is_dropped || is_back {
            ours.shared.ring.retract(0).unwrap();
            ours.shared.chunks.release(chunk);
        }
        is_dropped || is_back
    });
    let ours = segment.clone();
    let receives = spawn(move || {
        let (value, held) = ours.receive(&mut ours.head(), receiver.owner())?;
        held.into_iter().for_each(|chunk| ours.shared.chunks.release(chunk));
        Some(value)
    });
    let ours = segment.clone();
    let drops = spawn(move || assert!(!ours.discard(dropper.owner()), "its sender counts it"));
    all([drops]);
    let (is_back, taken) = (watches.join().unwrap(), receives.join().unwrap());
    assert_eq!(is_back, taken.is_none(), "taken: {taken:?}");
    assert_eq!(segment.drain(), []);
    assert_eq!(segment.chunks(State::Free), 2, "a chunk is lost");
}

#[test]
fn loom_discarded_is_known_to_who_watches() {
    check_in_short(500, watched);
}

#[test]
fn loom_discarded_needs_its_comparison() {
    notices(Fault::BlindSwap, watched);
}

/// Who sent it dies anywhere on its way, is repaired, and it is dropped: its chunk is of use again.
fn sender_dies(mortal: Mortal, repairer_too: bool) -> impl Fn() {
    move || {
        let segment = segment(Peers::Many, Ack::OnTake);
        let [sender, repairer] = [segment.join(), segment.join()];
        let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
        let first = move |segment: Segment, sender: Place| {
            let chunk = segment.queue(sender, 1).unwrap();
            segment.send(&mut segment.tail(), sender, Payload::Chunk(chunk));
        };
        let dies = spawn(move || {
            if repairer_too {
                first(ours.clone(), sender);
                ours.kernel.bury(sender);
                mortal.run(|| ours.reap(Some(repairer)));
                ours.kernel.bury(repairer);
            } else {
                mortal.run(|| first(ours.clone(), sender));
                ours.kernel.bury(sender);
                ours.reap(Some(repairer));
                ours.kernel.bury(repairer);
            }
        });
        let drops = spawn(move || {
            theirs.discard(3);
        });
        all([dies, drops]);
        segment.reap(None);
        segment.drain();
        assert_eq!(segment.chunks(State::Free), 2, "a chunk is lost");
    }
}

#[test]
fn loom_discarded_survives_its_sender() {
    check_each_death_in_short(100, |mortal| sender_dies(mortal, false));
}

#[test]
fn loom_discarded_survives_a_repairer() {
    check_each_death_in_short(100, |mortal| sender_dies(mortal, true));
}
