//! Counters near their wrap: a channel that nobody has open is wound forward by hand, and used on.
//!
//! The offsets are those of layout version 1 (`src/shared/layout.rs`), for eight participants.

use std::fs::File;
use std::os::unix::fs::FileExt;

use narrows::Capability::{ManySenders, Persistent};

use crate::Case;
use crate::account::{assert_exact, message, read};
use crate::peer::Peer;
use crate::place::{LONG, Place, Trial};

pub(super) const CASES: &[Case] = &[Case { name: "laps near their wrap", needs: &[Persistent], run: laps }];

const TAIL: u64 = 384;
const HEAD: u64 = 512;
const SHARED_HEAD: u64 = 640;
/// Behind 8 places of 64 bytes, 32 endpoints and 2048 extents of 8 bytes, at the next page.
const SLOTS: u64 = (4096 + 8 * 64 + 32 * 8 + 2048 * 8_u64).next_multiple_of(4096);
/// The lap's place and size in a slot's word; the futex sees its lowest 24 bits.
const LAP_SHIFT: u32 = 8;
const LAPS: u64 = 1 << 40;

fn laps(trial: &Trial) {
    for (capacity, slots) in [(4, 16), (64, 64)] {
        for laps in [1 << 24, 1 << 32, LAPS, 2 * LAPS] {
            let place = trial.place(&format!("capacity={capacity},participants=8,lifetime=system"));
            drop(place.pair());
            wind(trial, &place, slots, (laps - 2) * slots);
            use_on(&place);
            narrows::channel::remove(&place.bare.parse().unwrap()).unwrap();
        }
    }
}

/// Makes it a channel through which `position` messages went.
fn wind(trial: &Trial, place: &Place, slots: u64, position: u64) {
    let file = File::options().write(true).open(&place.path).unwrap();
    let put = |at: u64, word: u64| file.write_all_at(&word.to_le_bytes(), at).unwrap();
    for cursor in [TAIL, HEAD, SHARED_HEAD] {
        put(cursor, position);
    }
    if trial.variant.has(ManySenders) {
        (0..slots).for_each(|slot| put(SLOTS + slot * 64, (position / slots % LAPS) << LAP_SHIFT));
    }
}

/// Over the wrap: full and empty in turns, then between two processes.
fn use_on(place: &Place) {
    let (mut sender, mut receiver) = place.pair();
    for round in 0..30 {
        let sent = (0..)
            .take_while(|number| sender.send_by(&message(1, *number, 40), narrows::Deadline::Now).is_ok());
        let sent = sent.count() as u32;
        assert!([4, 64].contains(&sent), "{sent} fit in round {round}");
        for number in 0..sent {
            assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
        }
    }
    drop(sender);
    let mut peer = Peer::start(place);
    peer.sender();
    peer.tell_send(2, 1000, 40);
    let received = (0..1000).map(|_| read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap()).collect();
    assert_exact(&[received], 2..3, 1000);
    peer.answer().unwrap();
}
