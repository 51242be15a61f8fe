//! `capacity=0`: a send ends when its message was taken.

use std::time::Duration;

use narrows::Capability::{self, Capacity, ManySenders};
use narrows::{Deadline, Error, Sender};

use crate::Case;
use crate::account::{Received, assert_exact, message, read};
use crate::peer::Peer;
use crate::place::{LONG, Place, SHORT, Trial, eventually};

const NEEDS: &[Capability] = &[Capacity];

pub(super) const CASES: &[Case] = &[
    Case { name: "rendezvous", needs: NEEDS, run: meet },
    Case { name: "rendezvous, nobody comes", needs: NEEDS, run: nobody_comes },
    Case { name: "rendezvous of now", needs: NEEDS, run: now },
    Case { name: "rendezvous of loans and batches", needs: NEEDS, run: loans },
    Case { name: "rendezvous of several", needs: &[Capacity, ManySenders], run: several },
    Case { name: "rendezvous, the receiver dies", needs: NEEDS, run: receiver_dies },
];

const SIZES: [usize; 2] = [40, 4000];

/// A place without room; `None` where the variant's slots are made to fit, which is refused.
fn place(trial: &Trial) -> Option<Place> {
    if trial.variant.options.contains("slot_bytes") {
        let refused = Sender::<[u8]>::open_by(trial.place("capacity=0").address(), LONG).err();
        assert!(matches!(refused, Some(Error::InvalidAddress { .. })), "{refused:?}");
        return None;
    }
    Some(trial.place("capacity=0"))
}

fn meet(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let mut sender = place.sender();
    let mut peer = Peer::start(&place);
    peer.receiver();
    for number in 0..200 {
        // Each may be first.
        if number % 2 == 0 {
            peer.tell("recv 1");
        }
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send(&message(1, number, SIZES[number as usize % 2])));
            if number % 2 == 1 {
                peer.tell("recv 1");
            }
            sending.join().unwrap().unwrap();
        });
        assert_eq!(peer.received(), [(1, number)]);
    }
}

fn nobody_comes(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let (mut sender, mut receiver) = place.pair();
    for size in SIZES {
        for round in 0..20 {
            let result = sender.send_by(&message(1, round, size), Duration::from_millis(1));
            assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
            let result = receiver.recv_by(Deadline::Now);
            assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
        }
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send_by(&message(2, 0, size), LONG).unwrap());
            assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((2, 0)));
        });
    }
    if let Ok(status) = narrows::channel::status(&place.bare.parse().unwrap()) {
        assert_eq!((status.capacity, status.depth), (0, 0));
    }
}

fn now(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let mut sender = place.sender();
    let mut peer = Peer::start(&place);
    peer.receiver();
    for size in SIZES {
        let busy = sender.send_by(&message(1, 0, size), Deadline::Now);
        assert!(matches!(busy, Err(Error::Full { .. })), "{busy:?}");
        peer.tell("recv 1");
        eventually("it waits, and is handed a message", || {
            match sender.send_by(&message(1, 1, size), Deadline::Now) {
                Ok(()) => true,
                Err(Error::Full { .. }) => false,
                Err(error) => panic!("{error:?}"),
            }
        });
        assert_eq!(peer.received(), [(1, 1)]);
    }
}

fn loans(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let mut sender = place.sender();
    let mut peer = Peer::start(&place);
    peer.receiver();
    for (number, size) in (0..).zip(SIZES) {
        let mut loan = sender.loan(size).unwrap();
        loan.write(&message(1, number, size));
        let uncommitted = sender.commit_by(loan, SHORT).unwrap_err();
        assert!(matches!(uncommitted.error, Error::TimedOut { .. }), "{:?}", uncommitted.error);
        peer.tell("recv 1");
        sender.commit_by(uncommitted.loan, LONG).unwrap();
        assert_eq!(peer.received(), [(1, number)]);
    }
    peer.tell("recv 5");
    let messages: Vec<Vec<u8>> = (0..7).map(|number| message(2, number, 40)).collect();
    let sent = sender.send_many(messages.iter().map(Vec::as_slice), SHORT * 4).unwrap();
    assert_eq!((sent, peer.received().len()), (5, 5));
}

fn several(trial: &Trial) {
    const COUNT: u32 = 300;
    let Some(place) = place(trial) else { return };
    let mut receivers = [(); 2].map(|()| Peer::start(&place));
    receivers.iter_mut().for_each(Peer::receiver);
    let mut senders = [(); 3].map(|()| Peer::start(&place));
    senders.iter_mut().for_each(Peer::sender);
    receivers.iter_mut().for_each(|peer| peer.tell("drain"));
    for (sender, peer) in (0..).zip(&mut senders) {
        peer.tell_send(sender, COUNT, SIZES[sender as usize % 2]);
    }
    for peer in &mut senders {
        peer.answer().unwrap();
        peer.ask("close");
    }
    let received: Vec<Received> = receivers.iter_mut().map(Peer::received).collect();
    assert_exact(&received, 0..3, COUNT);
}

fn receiver_dies(trial: &Trial) {
    let Some(place) = place(trial) else { return };
    let mut sender = place.sender();
    let mut peer = Peer::start(&place);
    peer.receiver();
    peer.tell("recv 1");
    sender.send_by(&message(1, 0, 40), LONG).unwrap();
    assert_eq!(peer.received(), [(1, 0)]);
    peer.kill();
    let gone = sender.send_by(&message(1, 1, 40), LONG);
    assert!(matches!(gone, Err(Error::PeerGone { died: 1, .. })), "{gone:?}");
    let mut receiver = place.receiver();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send_by(&message(1, 2, 40), LONG).unwrap());
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, 2)));
    });
}
