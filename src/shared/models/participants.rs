//! Places, endpoints, and who is the last.

use std::sync::Arc;

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::shared::layout::{self, Layout, Peers};
use crate::shared::memory::Memory;
use crate::shared::participants::{Identity, Participants, Place, Role};

use super::segment::Kernel;
use super::{all, check, check_each_death, check_each_death_in_short, fails, layout as small, notices};

#[derive(Clone)]
struct Segment {
    participants: Participants,
    kernel: Arc<Kernel>,
}

fn segment() -> Segment {
    let layout: Layout = small(Peers::Many, 2, 2);
    let places = (0..3).flat_map(|place| (0..4).map(move |word| layout.participants + place * 64 + word * 8));
    let endpoints = (0..3).map(|endpoint| layout.endpoints + endpoint * 8);
    let header = [layout::ATTACH, layout::SENDERS_EPOCH, layout::DEATHS, layout::RECEIVER_DEATHS];
    let words = header.into_iter().chain(places).chain(endpoints);
    let memory = Memory::of_words(layout.length, words.map(|word| (word, 0)));
    Segment { participants: Participants::new(memory, &layout), kernel: Kernel::new() }
}

impl Segment {
    fn join(&self) -> Place {
        self.participants.join(&*self.kernel, Identity::default()).unwrap().unwrap()
    }

    /// Leaves; whether it was the last.
    fn leave(&self, me: Place) -> bool {
        let leaving = self.participants.leave(me);
        let retired = self.participants.retire_alone(me, || false, || false);
        self.participants.free(leaving);
        self.kernel.bury(me);
        retired
    }

    fn reap(&self) {
        for place in self.participants.taken() {
            if self.participants.is_dead(&*self.kernel, place) {
                self.participants.reap_endpoints(place, || self.participants.is(place));
                self.participants.free(place);
            }
        }
    }
}

fn two_newcomers() {
    let segment = segment();
    let threads = [(); 2].map(|()| {
        let segment = segment.clone();
        spawn(move || (segment.join().owner(), segment.participants.announce()))
    });
    let places = all(threads);
    assert!(places[0].0 != places[1].0 && places.iter().all(|place| place.1));
}

#[test]
fn loom_participants_have_places_of_their_own() {
    check(20, two_newcomers);
}

#[test]
fn loom_participants_need_their_comparison() {
    notices(Fault::BlindSwap, leaver_and_newcomer(true));
}

/// Of two who leave at once, exactly one is the last.
fn two_leavers() {
    let segment = segment();
    let places = [segment.join(), segment.join()];
    let threads = places.map(|place| {
        let segment = segment.clone();
        segment.participants.announce();
        spawn(move || segment.leave(place))
    });
    let retired = all(threads);
    assert!(retired[0] != retired[1], "{retired:?}");
}

#[test]
fn loom_participants_one_of_two_is_the_last() {
    check(20, two_leavers);
}

#[test]
fn loom_participants_need_their_fences() {
    notices(Fault::NoFence, two_leavers);
}

/// One leaves while another comes: either that one is in, or the segment is retired and it knows. `announces`: it
/// says that it came.
fn leaver_and_newcomer(announces: bool) -> impl Fn() {
    move || {
        let segment = segment();
        let place = segment.join();
        segment.participants.announce();
        let (ours, theirs) = (segment.clone(), segment.clone());
        let leaver = spawn(move || ours.leave(place));
        let newcomer = spawn(move || {
            theirs.join();
            !announces && theirs.participants.attachments().is_some()
                || announces && theirs.participants.announce()
        });
        let (retired, is_in) = (leaver.join().unwrap(), newcomer.join().unwrap());
        assert!(retired != is_in, "retired: {retired}, in: {is_in}");
    }
}

#[test]
fn loom_participants_come_or_find_it_retired() {
    check(50, leaver_and_newcomer(true));
}

#[test]
fn loom_participants_need_their_orderings() {
    notices(Fault::Relaxed, leaver_and_newcomer(true));
}

#[test]
fn loom_participants_must_announce() {
    fails(leaver_and_newcomer(false));
}

/// One comes, sends and leaves, and dies at any operation; two repair it, one of whom has stale knowledge, and
/// another comes. Nothing stays taken, and whoever saw a sender sees that the epoch moved on.
#[test]
fn loom_participants_survive() {
    check_each_death(200, |mortal| {
        move || {
            let segment = segment();
            let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
            let victim = spawn(move || {
                let lived = mortal.run(|| {
                    let me = ours.join();
                    ours.participants.announce();
                    let endpoint = ours.participants.open(Role::Sender, me.owner(), None).unwrap();
                    ours.participants.close(endpoint);
                    let mut waits = ours.participants.open(Role::Receiver, me.owner(), None).unwrap();
                    ours.participants.mark(&mut waits, true);
                    ours.participants.close(waits);
                    ours.leave(me);
                });
                if lived.is_none() {
                    ours.kernel.bury_us();
                }
                ours.reap();
            });
            let witness = spawn(move || {
                let epoch = theirs.participants.senders_epoch();
                let seen = theirs.participants.open_endpoints(Role::Sender).next().is_some();
                theirs.reap();
                seen.then_some(epoch)
            });
            all([victim]);
            let alive_at = witness.join().unwrap();
            assert_eq!(segment.participants.taken().count(), 0, "a place is lost");
            for role in [Role::Sender, Role::Receiver] {
                assert_eq!(segment.participants.open_endpoints(role).count(), 0, "an endpoint is lost");
            }
            assert_ne!(alive_at, Some(segment.participants.senders_epoch()), "the end is never seen");
        }
    });
}

/// Two who open an end each at once have one each.
#[test]
fn loom_participants_open_ends_of_their_own() {
    check(10, || {
        let segment = segment();
        let threads = [1, 2].map(|me| {
            let segment = segment.clone();
            spawn(move || segment.participants.open(Role::Sender, me, None).is_ok())
        });
        assert_eq!(all(threads), [true, true]);
        let mut open: Vec<u16> = segment.participants.open_endpoints(Role::Sender).collect();
        open.sort_unstable();
        assert_eq!(open, [1, 2]);
    });
}

/// Of two who repair a sender that died one is stopped anywhere: when the other is done, whoever saw the sender sees
/// that the epoch moved on.
#[test]
fn loom_participants_count_what_a_stopped_one_was_about_to() {
    check_each_death_in_short(100, |mortal| {
        move || {
            let segment = segment();
            let dead = segment.join();
            segment.participants.open(Role::Sender, dead.owner(), None).unwrap();
            segment.kernel.bury(dead);
            let (stops, repairs, looks, mortal) =
                (segment.clone(), segment.clone(), segment.clone(), mortal.clone());
            let stopped = spawn(move || mortal.run(|| stops.reap()).unwrap_or_default());
            let done = spawn(move || repairs.reap());
            let witness = spawn(move || {
                let epoch = looks.participants.senders_epoch();
                looks.participants.open_endpoints(Role::Sender).next().map(|_| epoch)
            });
            all([stopped, done]);
            let alive_at = witness.join().unwrap();
            assert_ne!(alive_at, Some(segment.participants.senders_epoch()), "the end is never seen");
        }
    });
}

/// Two repair one that died with an endpoint open. A successor takes its place, and keeps what it opens there.
fn stale_repairers() {
    let segment = segment();
    let dead = segment.join();
    segment.participants.open(Role::Sender, dead.owner(), None).unwrap();
    segment.kernel.bury(dead);
    let repairers = [(); 2].map(|()| {
        let segment = segment.clone();
        spawn(move || segment.reap())
    });
    let ours = segment.clone();
    let successor = spawn(move || {
        let me = ours.join();
        (me, ours.participants.open(Role::Sender, me.owner(), Some(0)).is_ok())
    });
    all(repairers);
    let (me, opened) = successor.join().unwrap();
    assert!(segment.participants.taken().eq([me]), "robbed of a place");
    let open = segment.participants.open_endpoints(Role::Sender).collect::<Vec<_>>();
    assert_eq!(open, Vec::from_iter(opened.then_some(me.owner())), "robbed of an endpoint");
    assert_eq!(segment.participants.deaths(), 1);
}

#[test]
fn loom_participants_of_a_successor_are_its_own() {
    check(100, stale_repairers);
}

#[test]
fn loom_participants_of_a_successor_need_the_comparison() {
    notices(Fault::BlindSwap, stale_repairers);
}

#[test]
fn loom_participants_of_a_successor_need_their_orderings() {
    notices(Fault::Relaxed, stale_repairers);
}
