//! Who comes, who leaves, and who of them retires the segment.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::deadline::Deadline;
use crate::shared::layout::{self, Ack, Peers};
use crate::shared::participants::{Place, Role};
use crate::shared::ring::Front;

use super::segment::{Payload, Segment, segment};
use super::{Mortal, all, check, check_each_death, fails, notices, on};

/// What became of one who came, sent a message, and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    /// It sent, and may have retired the segment when it left.
    Sent { retired: bool },
    /// It found the segment retired.
    Refused,
}

/// Comes, sends, and leaves; a channel with an unread message is kept.
fn visit(segment: &Segment) -> Visit {
    let (me, is_in) = segment.arrive();
    if !is_in {
        segment.leave(me, || true);
        return Visit::Refused;
    }
    let endpoint = segment.open(Role::Sender, me);
    segment.send(&mut segment.tail(), me, Payload::Inline(7));
    segment.shared.participants.close(endpoint);
    Visit::Sent { retired: leave(segment, me) }
}

fn leave(segment: &Segment, me: Place) -> bool {
    segment.leave(me, || segment.shared.depth() > 0)
}

/// One leaves as another comes, sends and leaves: no message is in a segment that is retired, and one of the two
/// retires what is empty.
fn last_and_visitor() {
    let segment = segment(Peers::Many, Ack::OnTake);
    let last = segment.join();
    let (ours, theirs) = (segment.clone(), segment.clone());
    let leaver = spawn(move || leave(&ours, last));
    let visitor = spawn(move || visit(&theirs));
    let (retired, visit) = (leaver.join().unwrap(), visitor.join().unwrap());
    match visit {
        Visit::Sent { retired: by_visitor } => {
            assert!(!retired && !by_visitor, "a message is in a retired segment");
            assert_eq!(segment.drain(), [7]);
        }
        Visit::Refused => assert!(retired),
    }
    clear(&segment);
}

/// Whoever opens next clears what is left, and can retire it.
fn clear(segment: &Segment) {
    segment.reap(None);
    assert_eq!(segment.shared.participants.taken().count(), 0, "a place is lost");
    assert_eq!(segment.shared.participants.open_endpoints(Role::Sender).count(), 0, "an endpoint is lost");
    let (me, is_in) = segment.arrive();
    assert_eq!(segment.leave(me, || false), is_in);
}

#[test]
fn loom_attachment_is_retired_by_the_last() {
    check(500, last_and_visitor);
}

#[test]
fn loom_attachment_needs_its_orderings() {
    notices(Fault::Relaxed, last_and_visitor);
}

#[test]
fn loom_attachment_needs_its_comparison() {
    notices(Fault::BlindSwap, last_and_visitor);
}

/// Whoever looks first and asks for the attachments behind it retires what a visitor left a message in.
#[test]
fn loom_attachment_must_be_counted_before_the_look() {
    fails(|| {
        let segment = segment(Peers::Many, Ack::OnTake);
        let last = segment.join();
        let (ours, theirs) = (segment.clone(), segment.clone());
        let leaver = spawn(move || {
            let participants = &ours.shared.participants;
            participants.leave(last);
            ours.shared.depth() == 0
                && participants.taken().count() == 1
                && participants.attachments().is_some_and(|seen| participants.retire(seen))
        });
        let visitor = spawn(move || visit(&theirs));
        let (retired, visit) = (leaver.join().unwrap(), visitor.join().unwrap());
        assert!(!(retired && matches!(visit, Visit::Sent { .. })));
    });
}

/// The last dies as it leaves, while another comes.
fn last_dies(mortal: Mortal) -> impl Fn() {
    move || {
        let segment = segment(Peers::Many, Ack::OnTake);
        let last = segment.join();
        let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
        let leaver = spawn(move || {
            if mortal.run(|| leave(&ours, last)).is_none() {
                ours.kernel.bury(last);
            }
        });
        let visitor = spawn(move || visit(&theirs));
        all([leaver]);
        match visitor.join().unwrap() {
            Visit::Sent { retired } => {
                let is_open = segment.shared.participants.attachments().is_some();
                assert!(!retired && is_open, "a message is in a retired segment");
                assert_eq!(segment.drain(), [7]);
            }
            Visit::Refused => assert!(segment.shared.participants.attachments().is_none()),
        }
        clear(&segment);
    }
}

#[test]
fn loom_attachment_survives_the_last() {
    check_each_death(1000, last_dies);
}

/// The visitor dies, from its arrival to its leaving: what it sent stays, and what it did not holds nobody up.
fn visitor_dies(mortal: Mortal) -> impl Fn() {
    move || {
        let segment = segment(Peers::Many, Ack::OnTake);
        let last = segment.join();
        let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
        let leaver = spawn(move || leave(&ours, last));
        let visitor = spawn(move || {
            let visit = mortal.run(|| visit(&theirs));
            if visit.is_none() {
                theirs.kernel.bury_us();
            }
            visit
        });
        let (retired, visit) = (leaver.join().unwrap(), visitor.join().unwrap());
        let unread = segment.shared.depth();
        assert!(unread == 0 || !retired, "a message is in a retired segment");
        assert!(!matches!(visit, Some(Visit::Sent { .. })) || unread == 1, "a message is lost");
        clear(&segment);
    }
}

#[test]
fn loom_attachment_survives_a_visitor() {
    check_each_death(1000, visitor_dies);
}

/// A sender sends and closes. A receiver that finds that it was the last, and then nothing, has missed no message: the
/// epoch stands still meanwhile, as the channel looks at it.
fn end() {
    let segment = segment(Peers::Many, Ack::OnTake);
    let me = segment.join();
    let endpoint = segment.open(Role::Sender, me);
    let (ours, theirs) = (segment.clone(), segment.clone());
    let sender = spawn(move || {
        ours.send(&mut ours.tail(), me, Payload::Inline(7));
        ours.shared.participants.close(endpoint);
    });
    let receiver = spawn(move || {
        let participants = &theirs.shared.participants;
        let epoch = participants.senders_epoch();
        let none = participants.open_endpoints(Role::Sender).next().is_none();
        let front = theirs.shared.ring.front(&mut theirs.shared.ring.cursor(layout::HEAD)).unwrap();
        let ended = none && matches!(front, Front::Empty(_)) && participants.senders_epoch() == epoch;
        assert!(!ended, "the end before the last message");
    });
    all([sender]);
    all([receiver]);
}

#[test]
fn loom_attachment_ends_behind_the_last_message() {
    check(20, end);
}

/// A receiver that sleeps learns that the last sender closed.
fn end_of_sleep(peers: Peers) -> impl Fn() {
    move || {
        let segment = segment(peers, Ack::OnTake);
        let me = segment.join();
        let endpoint = segment.open(Role::Sender, me);
        let (ours, theirs) = (segment.clone(), segment.clone());
        let sender = spawn(move || {
            ours.shared.participants.close(endpoint);
            ours.shared.wake_receivers();
        });
        let receiver = spawn(move || {
            let participants = &theirs.shared.participants;
            loop {
                let epoch = participants.senders_epoch();
                if participants.open_endpoints(Role::Sender).next().is_none() {
                    return;
                }
                theirs.sleep(Deadline::Never, || participants.senders_epoch() == epoch);
            }
        });
        all([sender, receiver]);
    }
}

#[test]
fn loom_attachment_ends_a_sleep() {
    check(10, end_of_sleep(Peers::Many));
    check(10, end_of_sleep(Peers::One));
}

#[test]
fn loom_attachment_needs_its_wakes() {
    notices(Fault::NoWake, end_of_sleep(Peers::One));
}

/// One to one, a sender sends and closes; whoever opens in its place goes on exactly behind it.
fn successor() {
    let segment = segment(Peers::One, Ack::OnTake);
    let (first, second) = (segment.join(), segment.join());
    let endpoint = segment.open(Role::Sender, first);
    let (ours, theirs) = (segment.clone(), segment.clone());
    let sender = spawn(move || {
        ours.send(&mut ours.tail(), first, Payload::Inline(1));
        ours.shared.participants.close(endpoint);
    });
    let successor = spawn(move || {
        let opened = theirs.shared.participants.open(Role::Sender, second.owner(), Some(0)).is_ok();
        if opened {
            theirs.send(&mut theirs.tail(), second, Payload::Inline(2));
        }
        opened
    });
    all([sender]);
    let opened = successor.join().unwrap();
    assert_eq!(segment.drain(), if opened { vec![1, 2] } else { vec![1] });
}

#[test]
fn loom_attachment_of_a_successor_goes_on_exactly() {
    // Membarrier orders nothing where nobody sleeps.
    on(Fault::NoBarrier, || check(10, successor));
}

#[test]
fn loom_attachment_of_a_successor_needs_its_orderings() {
    notices(Fault::Relaxed, end);
    notices(Fault::Relaxed, successor);
}
