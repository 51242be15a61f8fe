//! What a death between two steps leaves behind, made step by step.

use std::cell::Cell;

use crate::address::Address;
use crate::atomic::Ordering::Relaxed;
use crate::segment::{Place, Segment};

use super::extents::{Extents, class_of};
use super::layout::{self, Ack, Config, Fence, Full, Layout, Lifetime, Peers, SLOT_MIN};
use super::memory::Memory;
use super::pool::{Loan, Pool};
use super::repair::Structures;
use super::ring::{Claim, Cursor, Found, Front};
use super::slot::{About, Slot, State};

/// Who does what, as places name them.
const SENDER: u16 = 1;
const VICTIM: u16 = 2;
const RECEIVER: u16 = 3;

fn stage(capacity: u64) -> (Segment, Structures) {
    let layout = Layout::of(Config {
        peers: Peers::Many,
        capacity,
        slot_bytes: SLOT_MIN,
        participants: 4,
        endpoints: 8,
        lifetime: Lifetime::Drained,
        ack: Ack::OnTake,
        fence: Fence::Everyone,
        full: Full::Wait,
        memory_max: 1 << 20,
    });
    let address: Address = "memfd:stage".parse().unwrap();
    let place = Place::of(&address).unwrap();
    let segment =
        Segment::create(&address, &place, layout.length, layout.reserved(), 0o600, &mut |_| Ok(())).unwrap();
    let segment = segment.unwrap();
    let shared = Structures::new(Memory::of(&segment), layout);
    (segment, shared)
}

fn claim(shared: &Structures, cursor: &mut Cursor, owner: u16) -> Found {
    match shared.ring.claim(cursor, owner).ok() {
        Some(Claim::Claimed(found)) => found,
        _ => panic!("there is room"),
    }
}

fn front(shared: &Structures, cursor: &mut Cursor) -> Option<Found> {
    match shared.ring.front(cursor).ok() {
        Some(Front::Full(found)) => Some(found),
        _ => None,
    }
}

#[test]
fn a_slow_receiver_does_not_jump_over_messages_that_a_revoked_claim_overtook() {
    let (_segment, shared) = stage(7);
    let mut tail = shared.ring.cursor(layout::TAIL);
    let mut head = shared.ring.cursor(layout::HEAD);
    let mut slow = head;
    let mut send = || assert!(shared.ring.commit(claim(&shared, &mut tail, SENDER)).is_ok_and(|sent| sent));
    for _ in 0..10 {
        send();
        let found = front(&shared, &mut head).unwrap();
        assert!(shared.ring.take(&mut head, found));
    }
    for _ in 10..shared.layout.slot_count {
        send();
    }
    // The slow receiver's slot is claimed for the next lap, and given back for the lap after it.
    let overtaking = claim(&shared, &mut tail, VICTIM);
    assert_eq!(overtaking.position, shared.layout.slot_count);
    shared.ring.reap(VICTIM, || true);
    assert_eq!(front(&shared, &mut slow).map(|found| found.position), Some(10));
}

#[test]
fn a_message_whose_taker_died_before_it_emptied_the_slot_does_not_wait() {
    let (segment, shared) = stage(4);
    let Ok(Loan::Chunk(mut chunk)) = Pool::new(shared.memory, &shared.layout).loan(3000, SENDER, &segment)
    else {
        panic!("there is memory")
    };
    shared.chunks.queue(&mut chunk).ok().unwrap();
    let found = claim(&shared, &mut shared.ring.cursor(layout::TAIL), SENDER);
    let slot = shared.ring.slot(found.position);
    shared.memory.word(slot + 8).store(About::chunk().0, Relaxed);
    shared.memory.word(slot + layout::payload_at(SLOT_MIN)).store(chunk.reference(), Relaxed);
    assert!(shared.ring.commit(found).is_ok_and(|sent| sent));
    assert_eq!(shared.depth(), 1);
    assert!(shared.chunks.hold(chunk.reference(), RECEIVER, &mut shared.extents()).ok().flatten().is_some());
    assert_eq!(shared.depth(), 0);
}

/// A slot that names the dead again after each repair is left to the next who looks: the work is bounded.
#[test]
fn a_walk_for_the_dead_ends_though_the_slots_change_at_every_step() {
    let (_segment, shared) = stage(1024);
    let claimed = Slot::new(State::Claimed, 0, VICTIM);
    let steps = Cell::new(0);
    shared.memory.word(shared.ring.slot(0)).store(claimed.0, Relaxed);
    let broken = || {
        let (step, slot) = (steps.get(), steps.get() / 10);
        steps.set(step + 1);
        for at in [slot, slot + 1] {
            shared.memory.word(shared.ring.slot(at)).store(claimed.0, Relaxed);
        }
        true
    };
    assert!(!shared.ring.reap(VICTIM, broken));
    assert!(steps.get() <= 5 * 1024, "{} steps", steps.get());
}

#[test]
fn an_extent_that_no_growth_makes_is_none() {
    let (_segment, shared) = stage(4);
    let table = shared.layout.extents;
    for (word, fits) in [
        (2 | 3 << 16, true),                                      // eight chunks of 256 bytes
        (2 | 13 << 16, false),                                    // more than `memory_max`
        (2 | 255 << 8, false),                                    // no class
        (2 | 40 << 16, false),                                    // no count
        (2 | u64::from(class_of(1 << 20)) << 8, true),            // one chunk of 1 MiB
        (2 | u64::from(class_of(1 << 20)) << 8 | 1 << 16, false), // two
        (7, false),                                               // no state
    ] {
        shared.memory.word(table).store(word, Relaxed);
        let mut extents = Extents::new(shared.memory, &shared.layout);
        assert_eq!(
            (extents.refresh().is_ok(), extents.known().len()),
            (fits, usize::from(fits)),
            "{word:#x}"
        );
    }
}

#[test]
fn a_claim_that_somebody_else_ended_is_a_contradiction_and_not_sent() {
    let (_segment, shared) = stage(4);
    let mut tail = shared.ring.cursor(layout::TAIL);
    // As if it were dead, though it is not; then another has the very same slot, and has its own claim revoked.
    let robbed = claim(&shared, &mut tail, VICTIM);
    assert!(shared.ring.reap(VICTIM, || true));
    assert!(shared.ring.commit(robbed).is_err());
    let (first, other) = (claim(&shared, &mut tail, VICTIM), claim(&shared, &mut tail, SENDER));
    shared.ring.revoke(other);
    let mistaken = Found { position: other.position, word: first.word };
    assert!(shared.ring.commit(mistaken).is_err());
    assert!(shared.ring.commit(other).is_ok_and(|sent| !sent));
}
