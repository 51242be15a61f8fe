//! What needs a look behind the handles.

use std::sync::Arc;
use std::time::Instant;

use super::{ShmReceiver, ShmSender, attach};
use crate::address::Address;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::message::{Bytes, Inbox};
use crate::shared::attachment::Attachment;
use crate::shared::audit::{Moment, audit};
use crate::shared::chunks;
use crate::shared::extents::class_of;
use crate::shared::layout;
use crate::shared::ring::Claim;
use crate::shared::slot::{About, Slot, State};

/// A participant that does not exist: nobody will ever commit what it claimed.
const NOBODY: u16 = 0xfff;

#[test]
#[expect(clippy::print_stdout, reason = "the figure is for people; the test bounds nothing by it")]
fn whoever_is_behind_an_abandoned_claim_goes_on() {
    let address: Address = "memfd:abandoned".parse().unwrap();
    let (attachment, mode) = attach(&address, Deadline::Never).unwrap();
    let mut receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
    let mut sender = ShmSender::new(attachment.clone(), mode).unwrap();
    let ring = &attachment.shared.ring;
    let mut waits = Vec::new();
    for round in 0..200u64 {
        let Ok(Claim::Claimed(claim)) = ring.claim(&mut ring.cursor(layout::TAIL), NOBODY) else { panic!() };
        sender.send(&round.to_le_bytes(), Deadline::Never).unwrap();
        let (start, mut inbox) = (Instant::now(), Bytes::default());
        assert!(receiver.recv(&mut inbox, Deadline::Never).unwrap().is_some());
        waits.push(start.elapsed());
        assert_eq!(*inbox, round.to_le_bytes());
        assert!(!ring.commit(claim).unwrap(), "the claim was revoked, and its owner acknowledges it");
    }
    waits.sort();
    println!(
        "behind an abandoned claim: median {:?}, p99 {:?}, worst {:?}",
        waits[100], waits[198], waits[199]
    );
}

/// One of each end, and what they share.
fn pair_of(address: &str) -> (Arc<Attachment>, ShmSender, ShmReceiver) {
    let (attachment, mode) = attach(&address.parse().unwrap(), Deadline::Never).unwrap();
    let receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
    let sender = ShmSender::new(attachment.clone(), mode).unwrap();
    (attachment, sender, receiver)
}

fn recv(receiver: &mut ShmReceiver, deadline: impl Into<Deadline>) -> Result<Option<Bytes>> {
    let mut inbox = Bytes::default();
    Ok(receiver.recv(&mut inbox, deadline.into())?.map(|_| inbox))
}

fn is_corrupt<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Corrupt { .. }))
}

/// A peer puts ever more in the way: here so much at once that getting past all of it would take far too long.
#[test]
fn a_deadline_ends_what_a_peer_makes_go_on_and_on() {
    // Messages that were taken already, each of which is passed over.
    let count = 1 << 20;
    let (attachment, mut sender, mut receiver) = pair_of("memfd:taken,peers=one,capacity=1048576");
    sender.send(&[7; 5000], Deadline::Now).unwrap();
    assert!(recv(&mut receiver, Deadline::Now).unwrap().is_some());
    let (memory, pair) = (attachment.shared.memory, &attachment.shared.pair);
    for position in 1..count {
        memory.word(pair.slot(position)).store(position + 1, Relaxed);
        memory.word(pair.slot(position) + 8).store(About::chunk().0, Relaxed);
    }
    assert!(matches!(recv(&mut receiver, Deadline::Now), Err(Error::TimedOut { .. })));
    assert!(memory.word(layout::HEAD).load(Relaxed) < count, "it went past all of them");

    // Claims that nobody will commit, each of which is watched for a while.
    let (attachment, mut sender, mut receiver) = pair_of("memfd:claimed,capacity=65536");
    let (memory, ring) = (attachment.shared.memory, &attachment.shared.ring);
    let slots = || (0..65536).map(|position| ring.slot(position));
    slots().for_each(|slot| memory.word(slot).store(Slot::new(State::Claimed, 0, NOBODY).0, Relaxed));
    assert!(matches!(sender.send(b"x", Deadline::Now), Err(Error::TimedOut { .. })));
    assert!(matches!(recv(&mut receiver, Deadline::Now), Err(Error::TimedOut { .. })));
    assert!(slots().any(|slot| Slot(memory.word(slot).load(Relaxed)).is(State::Claimed)));
}

#[test]
fn a_message_that_cannot_be_is_an_error_once_and_the_next_one_comes() {
    let (attachment, mut sender, mut receiver) = pair_of("memfd:impossible");
    let (memory, layout) = (attachment.shared.memory, attachment.shared.layout);
    let large = vec![7; 5000];
    sender.send(&large, Deadline::Now).unwrap();
    assert_eq!(*recv(&mut receiver, Deadline::Now).unwrap().unwrap(), *large);
    // Every chunk of the one extent, so that the next one is among them.
    let descriptors = || (0..8).map(|id| layout.chunks + id * layout::CHUNK_BYTES);
    for (word, value) in
        [(8, layout.data + 1), (8, u64::MAX), (16, 9000), (16, layout.length), (16, u64::MAX)]
    {
        sender.send(&large, Deadline::Now).unwrap();
        descriptors().for_each(|at| memory.word(at + word).store(value, Relaxed));
        assert!(is_corrupt(recv(&mut receiver, Deadline::Now)), "{word}: {value:#x}");
        sender.send(&large, Deadline::Now).unwrap();
        assert_eq!(*recv(&mut receiver, Deadline::Now).unwrap().unwrap(), *large);
    }
    let before = attachment.segment.metadata().unwrap().allocated;
    for (about, reference) in [
        (About::chunk(), layout::CHUNKS - 1),
        (About::chunk(), u64::MAX),
        (About::inline(49), 0),
        (About::inline(u32::MAX as usize), 0),
    ] {
        let position = memory.word(layout::TAIL).load(Relaxed);
        sender.send(b"small", Deadline::Now).unwrap();
        let slot = attachment.shared.ring.slot(position);
        memory.word(slot + 8).store(about.0, Relaxed);
        memory.word(slot + 16).store(reference, Relaxed);
        assert!(is_corrupt(recv(&mut receiver, Deadline::Now)), "{:#x} {reference:#x}", about.0);
        sender.send(b"the next", Deadline::Now).unwrap();
        assert_eq!(&*recv(&mut receiver, Deadline::Now).unwrap().unwrap(), b"the next");
    }
    assert_eq!(attachment.segment.metadata().unwrap().allocated, before, "a look at nothing made something");
    assert!((0..8).all(|id| attachment.shared.chunks.load(id).is(chunks::State::Free)), "a chunk is lost");
}

/// A gigabyte that one word speaks of is neither reserved by who finds it, nor room made for a message in it.
#[test]
fn memory_is_not_what_a_word_says() {
    let (attachment, mut sender, mut receiver) = pair_of("memfd:hollow");
    let (memory, layout) = (attachment.shared.memory, attachment.shared.layout);
    let (giant, large) = (1 << 30, vec![7; 5000]);
    let word = |state: u64| state | u64::from(class_of(giant)) << 8;
    memory.word(layout.extents).store(word(1), Relaxed); // GROWING
    sender.send(&large, Deadline::Now).unwrap();
    assert_eq!(*recv(&mut receiver, Deadline::Now).unwrap().unwrap(), *large);
    assert!(attachment.segment.metadata().unwrap().allocated < 16 << 20);

    // A whole message of that length, in an extent that is said to be READY.
    let (attachment, mut sender, mut receiver) = pair_of("memfd:hollow");
    let memory = attachment.shared.memory;
    let queued = 2 | 1 << 32;
    for (at, value) in [(layout.extents, word(2)), (layout.chunks, queued), (layout.chunks + 8, layout.data)]
    {
        memory.word(at).store(value, Relaxed);
    }
    memory.word(layout.chunks + 16).store(giant, Relaxed);
    sender.send(b"small", Deadline::Now).unwrap();
    let slot = attachment.shared.ring.slot(0);
    memory.word(slot + 8).store(About::chunk().0, Relaxed);
    memory.word(slot + 16).store(1 << 32, Relaxed);
    assert!(is_corrupt(recv(&mut receiver, Deadline::Now)));
    assert!(attachment.segment.metadata().unwrap().allocated < 16 << 20);
}

/// An inbox of a process that has no memory.
struct Starved;

impl Inbox for Starved {
    fn room(&mut self, _len: usize) -> Option<&mut [u8]> {
        None
    }
}

#[test]
fn what_there_is_no_memory_for_is_not_lost() {
    for (options, size) in [
        ("peers=many", 5),
        ("peers=many", 5000),
        ("peers=one", 5000),
        ("peers=one,slot_bytes=900", 800),
        ("ack=release", 5),
    ] {
        let address: Address = format!("memfd:starved,{options}").parse().unwrap();
        let (attachment, mode) = attach(&address, Deadline::Never).unwrap();
        let mut receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
        let mut sender = ShmSender::new(attachment.clone(), mode).unwrap();
        let next = |receiver: &mut ShmReceiver| {
            let mut inbox = Bytes::default();
            receiver.recv(&mut inbox, Deadline::Now).map(|lease| (lease.unwrap(), inbox.to_vec()))
        };
        sender.send(&vec![7; size], Deadline::Now).unwrap();
        sender.send(&[8], Deadline::Now).unwrap();
        for _ in 0..2 {
            let refused = receiver.recv(&mut Starved, Deadline::Now);
            assert!(matches!(refused, Err(Error::NoSpace { .. })), "{options}");
        }
        if receiver.leased {
            drop(receiver);
            receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
        }
        assert_eq!(next(&mut receiver).unwrap().1, vec![7; size], "{options}");
        assert_eq!(next(&mut receiver).unwrap().1, [8], "{options}");
        assert!(matches!(next(&mut receiver), Err(Error::TimedOut { .. })), "{options}");
    }
}

/// Between the two steps of a repair: the message is returned, and nothing says so yet but its chunk.
#[test]
fn the_end_waits_for_what_is_about_to_come_again() {
    let (attachment, mut sender, mut receiver) = pair_of("memfd:again,ack=release");
    sender.send(b"again", Deadline::Now).unwrap();
    drop(sender);
    let lease = receiver.recv(&mut Bytes::default(), Deadline::Now).unwrap();
    std::mem::forget(lease);
    let (chunks, me) = (&attachment.shared.chunks, attachment.me.owner());
    chunks.reap(0, me, true, &|_| false, &|| true);
    attachment.shared.memory.word(layout::RETURNED).store(0, Relaxed);
    assert!(matches!(recv(&mut receiver, Deadline::Now), Err(Error::TimedOut { .. })));
    attachment.shared.memory.word(layout::RETURNED).store(1, Relaxed);
    assert_eq!(&*recv(&mut receiver, Deadline::Now).unwrap().unwrap(), b"again");
    assert!(recv(&mut receiver, Deadline::Now).unwrap().is_none(), "now it is the end");
}

#[test]
fn the_end_waits_for_nothing_that_will_not_come_again() {
    // Another's message in place, which is consumed.
    let (_attachment, mut sender, mut receiver) = pair_of("memfd:hands");
    let passed = receiver.descriptor().unwrap().try_clone_to_owned().unwrap();
    let mut other = ShmReceiver::from_descriptor(&"memfd:hands".parse().unwrap(), passed).unwrap();
    sender.send(&[7; 5000], Deadline::Now).unwrap();
    let held = other.recv_in_place(Deadline::Now, None).unwrap();
    drop(sender);
    assert!(recv(&mut receiver, Deadline::Now).unwrap().is_none());
    drop(held);
    // A message that would come again to others, in one's own hands.
    let (_attachment, mut sender, mut receiver) = pair_of("memfd:hands,ack=release");
    sender.send(b"mine", Deadline::Now).unwrap();
    let lease = receiver.recv(&mut Bytes::default(), Deadline::Now).unwrap();
    drop(sender);
    assert!(recv(&mut receiver, Deadline::Now).unwrap().is_none());
    drop(lease);
}

#[test]
fn what_is_dropped_goes_back() {
    let (attachment, mut sender, mut receiver) = pair_of("memfd:dropped");
    let is = |state| (0..8).filter(|id| attachment.shared.chunks.load(*id).is(state)).count();
    let loan = sender.loan(5000, Deadline::Now).unwrap();
    assert_eq!(is(chunks::State::Loaned), 1);
    drop(loan);
    sender.send(&[7; 5000], Deadline::Now).unwrap();
    let held = receiver.recv_in_place(Deadline::Now, None).unwrap();
    assert_eq!((is(chunks::State::Held), is(chunks::State::Loaned)), (1, 0));
    drop(held);
    assert_eq!(is(chunks::State::Free), 8);
}

#[test]
fn a_check_of_garbage_tells_of_a_thousand_faults() {
    let (attachment, ..) = pair_of("memfd:garbage,capacity=65536");
    let (memory, ring) = (attachment.shared.memory, &attachment.shared.ring);
    (0..65536).for_each(|position| memory.word(ring.slot(position)).store(u64::MAX, Relaxed));
    let report = audit(&attachment.shared, &attachment.segment, Moment::Any);
    assert_eq!(report.faults.len(), 1000);
}

#[test]
fn what_no_chunk_will_ever_hold_is_refused_and_not_waited_for() {
    let open = |options: &str| {
        let address: Address = format!("memfd:small,capacity=1024,{options}").parse().unwrap();
        let (attachment, mode) = attach(&address, Deadline::Never).unwrap();
        let receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
        (ShmSender::new(attachment, mode).unwrap(), receiver)
    };
    let limit = |sent: Result<()>| match sent {
        Err(Error::TooLarge { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    // Small messages take all the memory, and go again: their chunks stay small.
    let (mut sender, mut receiver) = open("ack=release,memory_max=131072");
    let sent = (0..1024).take_while(|_| sender.send(&[1; 200], Deadline::Now).is_ok()).count();
    assert_eq!(sent, 512);
    assert!(matches!(sender.send(&[1; 200], Deadline::Now), Err(Error::Full { .. })), "that is waited for");
    for _ in 0..sent {
        receiver.recv(&mut Bytes::default(), Deadline::Now).unwrap().unwrap();
    }
    assert_eq!(limit(sender.send(&[1; 257], Deadline::Never)), 256);
    sender.send(&[1; 256], Deadline::Never).unwrap();
    // No chunk of that size fits, though the message itself would.
    let (mut sender, _receiver) = open("memory_max=73728");
    assert_eq!(limit(sender.send(&[1; 70_000], Deadline::Never)), 65_536);
    sender.send(&[1; 65_536], Deadline::Never).unwrap();
}

#[test]
fn a_descriptor_of_a_removed_channel_says_so_at_once() {
    let address: Address = format!("shm:narrows-gone-{}", std::process::id()).parse().unwrap();
    let sender = crate::Sender::<[u8]>::open(&address).unwrap();
    let descriptor = || sender.descriptor().unwrap().try_clone_to_owned().unwrap();
    drop(crate::Receiver::<[u8]>::from_descriptor(descriptor()).unwrap());
    super::remove(&address).unwrap();
    let error = crate::Receiver::<[u8]>::from_descriptor(descriptor()).err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }) && error.to_string().contains("removed"), "{error}");
}
