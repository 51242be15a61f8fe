//! Messages that are leased (`ack=release`): what a dead receiver did not release comes again, once.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::shared::chunks::{Chunk, State};
use crate::shared::layout::{self, Ack, Peers};
use crate::shared::participants::Place;

use super::segment::{Payload, Segment, segment};
use super::{Mortal, all, check, check_each_death, check_each_death_in_short, fails, notices};

/// Whoever receives next: what came back first.
fn next(segment: &Segment, me: Place) -> Option<Chunk> {
    let returned = segment.hold_returned(me.owner());
    returned.or_else(|| segment.receive(&mut segment.head(), me.owner())?.1)
}

/// Messages that wait, of a sender that is dead and not repaired.
fn messages(count: u64) -> Segment {
    let segment = segment(Peers::Many, Ack::OnRelease);
    let sender = segment.join();
    let mut tail = segment.tail();
    (1..=count).for_each(|value| {
        segment.send(&mut tail, sender, Payload::Chunk(segment.queue(sender, value).unwrap()))
    });
    segment.kernel.bury_us();
    segment
}

/// All that still comes, and whether it came before.
fn rest(segment: &Segment) -> Vec<(u64, bool)> {
    segment.reap(None);
    let me = segment.join();
    let received = std::iter::from_fn(|| next(segment, me));
    received.map(|chunk| (segment.value(chunk), chunk.word.redelivered())).collect()
}

/// A receiver dies as it receives and releases, while another repairs the sender, who is dead too: the message comes
/// to whoever receives next, unless it was released; if it was held, it says so.
fn receiver_dies(mortal: Mortal) -> impl Fn() {
    move || {
        let segment = messages(1);
        let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
        let receiver = spawn(move || {
            let me = ours.join();
            let released = mortal.run(|| {
                let chunk = next(&ours, me)?;
                assert_eq!(ours.value(chunk), 1);
                ours.shared.chunks.release(chunk);
                Some(())
            });
            if released.is_none() {
                ours.kernel.bury_us();
            }
            released
        });
        let other = spawn(move || {
            let me = theirs.join();
            theirs.reap(Some(me));
            let chunk = next(&theirs, me)?;
            assert_eq!(theirs.value(chunk), 1);
            theirs.shared.chunks.release(chunk);
            Some(chunk.word.redelivered())
        });
        let (released, other) = (receiver.join().unwrap(), other.join().unwrap());
        let rest = rest(&segment);
        match (released, other) {
            (Some(Some(())), Some(_)) => panic!("a message came twice to the living"),
            (Some(Some(())), None) | (Some(None), Some(_)) | (None, Some(_)) => assert_eq!(rest, []),
            (Some(None), None) => panic!("a message is lost"),
            // It died before it took it, as it held it, or right after its release.
            (None, None) => assert!(matches!(rest[..], [] | [(1, _)]), "{rest:?}"),
        }
        assert_eq!(segment.chunks(State::Free), if rest.is_empty() { 2 } else { 1 }, "a chunk is lost");
    }
}

#[test]
fn loom_held_comes_again() {
    check_each_death_in_short(1000, receiver_dies);
}

/// Two that were held come back, one by one, while two receive: each is held once, and none stays behind.
fn two_returned() {
    let segment = messages(2);
    segment.reap(None);
    let dead = segment.join();
    (0..2).for_each(|_| assert!(next(&segment, dead).is_some()));
    segment.kernel.bury(dead);
    let receivers = [10, 11].map(|me| {
        let segment = segment.clone();
        spawn(move || {
            let held = segment.hold_returned(me)?;
            assert!(held.word.redelivered());
            Some(segment.value(held))
        })
    });
    let ours = segment.clone();
    let repairer = spawn(move || ours.reap(None));
    let mut values: Vec<u64> = all(receivers).into_iter().flatten().collect();
    all([repairer]);
    let left = std::iter::from_fn(|| segment.hold_returned(12));
    values.extend(left.map(|chunk| segment.value(chunk)));
    values.sort_unstable();
    assert_eq!(values, [1, 2]);
}

#[test]
fn loom_held_comes_again_once() {
    check(1000, two_returned);
}

/// Two died with a message each, and two repair: neither hides from a receiver what the other brought back.
#[test]
fn loom_held_comes_again_from_two() {
    check(500, || {
        let segment = messages(2);
        segment.reap(None);
        let dead = [segment.join(), segment.join()];
        dead.iter().for_each(|dead| assert!(next(&segment, *dead).is_some()));
        dead.iter().for_each(|dead| segment.kernel.bury(*dead));
        let repairers = dead.map(|dead| {
            let segment = segment.clone();
            spawn(move || segment.shared.repair(dead))
        });
        let ours = segment.clone();
        let receiver = spawn(move || ours.hold_returned(10).map(|chunk| ours.value(chunk)));
        all(repairers);
        let mut values = Vec::from_iter(receiver.join().unwrap());
        values.extend(std::iter::from_fn(|| segment.hold_returned(12)).map(|chunk| segment.value(chunk)));
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
    });
}

/// A receiver dies as it takes what came again, of which it had said that nothing is left: it comes to the next.
#[test]
fn loom_held_comes_again_from_who_cleared_the_hint() {
    check_each_death(5, |mortal| {
        move || {
            let segment = messages(1);
            segment.reap(None);
            let dead = segment.join();
            assert!(next(&segment, dead).is_some());
            segment.kernel.bury(dead);
            segment.reap(None);
            let (ours, mortal) = (segment.clone(), mortal.clone());
            let victim = spawn(move || {
                let me = ours.join();
                let taken = mortal.run(|| {
                    let chunk = ours.hold_returned(me.owner()).unwrap();
                    ours.shared.chunks.release(chunk);
                });
                ours.kernel.bury_us();
                taken.is_some()
            });
            let lived = victim.join().unwrap();
            let rest = rest(&segment);
            assert!(matches!(rest[..], [] | [(1, true)]) && (!lived || rest.is_empty()), "{rest:?}");
            assert_eq!(segment.chunks(State::Free), 2 - rest.len(), "a message is lost");
        }
    });
}

/// Of two who repair a dead receiver one dies before it says what came again: the other says it, also to one who
/// receives meanwhile.
#[test]
fn loom_held_comes_again_where_a_repairer_dies() {
    check_each_death_in_short(200, |mortal| {
        move || {
            let segment = messages(1);
            segment.reap(None);
            let dead = segment.join();
            assert!(next(&segment, dead).is_some());
            segment.kernel.bury(dead);
            let (first, second, third, mortal) =
                (segment.clone(), segment.clone(), segment.clone(), mortal.clone());
            let dies = spawn(move || mortal.run(|| first.reap(None)).unwrap_or(false));
            let repairs = spawn(move || second.reap(None));
            let receives = spawn(move || third.hold_returned(10).map(|chunk| third.value(chunk)));
            all([dies, repairs]);
            let mut values = Vec::from_iter(receives.join().unwrap());
            values.extend(std::iter::from_fn(|| segment.hold_returned(12)).map(|chunk| segment.value(chunk)));
            assert_eq!(values, [1]);
        }
    });
}

#[test]
fn loom_held_needs_its_comparison() {
    notices(Fault::BlindSwap, two_returned);
}

#[test]
fn loom_held_needs_its_orderings() {
    notices(Fault::Relaxed, two_returned);
}

/// A receiver sleeps, and what comes is no new message. `recheck`: it looks for that before it sleeps.
fn sleeper(recheck: bool) -> impl Fn() {
    move || {
        let segment = messages(1);
        let dead = segment.join();
        next(&segment, dead).unwrap();
        segment.kernel.bury(dead);
        let (ours, theirs) = (segment.clone(), segment.clone());
        let receiver = spawn(move || {
            let returned = || ours.memory.word(layout::RETURNED).load(Relaxed) > 0;
            loop {
                if let Some(chunk) = ours.hold_returned(10) {
                    return ours.value(chunk);
                }
                ours.sleep(Deadline::Never, || !recheck || !returned());
            }
        });
        let repairer = spawn(move || theirs.reap(None));
        all([repairer]);
        assert_eq!(receiver.join().unwrap(), 1);
    }
}

#[test]
fn loom_held_wakes_who_waits() {
    check(100, sleeper(true));
}

#[test]
fn loom_held_needs_its_fences() {
    notices(Fault::NoFence, sleeper(true));
}

#[test]
fn loom_held_needs_its_wakes() {
    notices(Fault::NoWake, sleeper(true));
}

#[test]
fn loom_held_needs_the_second_look() {
    fails(sleeper(false));
}
