//! What a death between two steps leaves behind, made step by step.

use crate::address::Address;
use crate::atomic::Ordering::Relaxed;
use crate::segment::{Place, Segment};

use super::layout::{self, Ack, Config, Fence, Layout, Lifetime, Peers, SLOT_MIN};
use super::memory::Memory;
use super::pool::{Loan, Pool};
use super::repair::Structures;
use super::ring::{Claim, Cursor, Found, Front};
use super::slot::About;

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
    assert!(shared.chunks.hold(chunk.reference(), RECEIVER).ok().flatten().is_some());
    assert_eq!(shared.depth(), 0);
}
