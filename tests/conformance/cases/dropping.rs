//! `full=drop`: a sender that finds no room drops the oldest message.

use narrows::Capability::{self, Capacity, InPlace, ManySenders};
use narrows::channel::Moment;
use narrows::{Deadline, Error, Sender};

use crate::Case;
use crate::account::{Received, assert_ordered, message, read};
use crate::peer::Peer;
use crate::place::{LONG, Place, SHORT, Trial, eventually};

const NEEDS: &[Capability] = &[Capacity];

pub(super) const CASES: &[Case] = &[
    Case { name: "the oldest is dropped", needs: NEEDS, run: oldest },
    Case { name: "dropped or received", needs: NEEDS, run: either },
    Case { name: "what is held is not dropped", needs: &[Capacity, InPlace], run: held },
    Case { name: "a delivered message is dropped", needs: &[Capacity, ManySenders], run: delivered },
    Case { name: "a dead sender's message is dropped", needs: &[Capacity, ManySenders], run: of_the_dead },
    Case { name: "nothing to drop", needs: NEEDS, run: nothing },
];

const SIZES: [usize; 2] = [40, 4000];

/// A place where little fits; `None` where the variant's slots are made to fit, which is refused.
fn place(trial: &Trial) -> Option<Place> {
    let options = "capacity=3,full=drop";
    if trial.variant.options.contains("slot_bytes") {
        let refused = Sender::<[u8]>::open_by(trial.place(options).address(), LONG).err();
        assert!(matches!(refused, Some(Error::InvalidAddress { .. })), "{refused:?}");
        return None;
    }
    Some(trial.place(options))
}

fn oldest(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let (mut sender, mut receiver) = place.pair();
    let mut dropped = 0;
    for (round, count) in (0..).zip([3, 4, 10, 50]) {
        for number in 0..count {
            sender.send_by(&message(round, number, SIZES[number as usize % 2]), Deadline::Now).unwrap();
        }
        dropped += u64::from(count - 3);
        assert_eq!((sender.discarded(), receiver.discarded()), (dropped, dropped));
        for number in count - 3..count {
            assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((round, number)));
        }
        assert!(matches!(receiver.recv_by(Deadline::Now), Err(Error::TimedOut { .. })));
    }
    if let Ok(status) = narrows::channel::status(&place.bare.parse().unwrap()) {
        assert_eq!(status.discarded, dropped);
    }
}

/// Sent without waiting while another receives: each is one of both, and in order.
fn either(trial: &Trial) {
    const COUNT: u32 = 5000;
    let Some(place) = place(trial) else { return };
    let mut sender = place.sender();
    let mut peer = Peer::start(&place);
    peer.receiver();
    peer.tell("drain");
    for number in 0..COUNT {
        sender.send(&message(1, number, SIZES[(number / 7) as usize % 2])).unwrap();
    }
    let dropped = sender.discarded();
    drop(sender);
    let received = peer.received();
    assert_ordered(&received);
    assert_eq!(received.last(), Some(&(1, COUNT - 1)));
    assert_eq!(received.len() as u64 + dropped, u64::from(COUNT));
}

fn held(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let (mut sender, mut receiver) = place.pair();
    sender.send(&message(1, 0, 4000)).unwrap();
    let held = receiver.recv_in_place(LONG).unwrap().unwrap();
    for number in 1..20 {
        sender.send(&message(1, number, 4000)).unwrap();
    }
    assert_eq!(read(&held.to_owned()), Ok((1, 0)));
    drop(held);
    for number in 17..20 {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
    }
    assert_eq!(receiver.discarded(), 16);
}

/// Its sender is told, and counts it.
fn delivered(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let (mut sender, mut receiver) = place.pair();
    let mut peer = Peer::start(&place);
    peer.sender();
    for size in SIZES {
        peer.tell(&format!("deliver 9 9 {size}"));
        let mut number = 0;
        let before = receiver.discarded();
        let mut send = || {
            sender.send_by(&message(1, number, size), Deadline::Now).unwrap();
            number += 1;
            u64::from(number)
        };
        // Until its message is there, or went already; then as many as fit.
        eventually("its message comes", || {
            let sent = send();
            receiver.discarded() - before > sent.saturating_sub(3)
        });
        for _ in 0..3 {
            send();
        }
        let error = peer.answer().expect_err("it was dropped");
        assert!(error.contains("Full"), "{error}");
        let mut came = Received::new();
        while let Ok(Some(message)) = receiver.recv_by(Deadline::Now) {
            came.push(read(&message).unwrap());
        }
        assert_ordered(&came);
        assert!(!came.contains(&(9, 9)), "{came:?}");
        assert_eq!(receiver.discarded() - before, u64::from(number) + 1 - came.len() as u64);
    }
}

/// Its place is repaired before the drop or behind it: nothing is left of it.
fn of_the_dead(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    for repaired_first in [true, false] {
        let (mut sender, mut receiver) = place.pair();
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.tell("deliver 9 9 4000");
        if let Ok(address) = place.bare.parse()
            && narrows::channel::status(&address).is_ok()
        {
            eventually("it waits", || narrows::channel::status(&address).unwrap().depth == 1);
        }
        peer.kill();
        if repaired_first {
            drop(place.sender());
        }
        for number in 0..10 {
            sender.send_by(&message(1, number, 4000), Deadline::Now).unwrap();
        }
        drop(place.sender());
        for number in 7..10 {
            assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
        }
        if let Ok(report) = narrows::channel::check(&place.bare.parse().unwrap(), Moment::Rest) {
            assert!(report.faults.is_empty() && report.pending.is_empty(), "{report:?}");
        }
        assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })));
    }
}

fn nothing(trial: &Trial) {
    let refused = Sender::<[u8]>::open_by(trial.place("").with("capacity=0,full=drop"), LONG).err();
    assert!(matches!(refused, Some(Error::InvalidAddress { .. })), "{refused:?}");
    if place(trial).is_some() {
        let waits = trial.place("");
        let _receiver = waits.receiver();
        let other = Sender::<[u8]>::open_by(format!("{},full=drop", waits.address()), LONG).err();
        assert!(matches!(other, Some(Error::Mismatch { .. })), "{other:?}");
    }
}
