//! Sends that end when their message was taken, or take it back.

use std::time::Duration;

use narrows::Capability::{self, Delivered, ManyReceivers};
use narrows::{Deadline, Error};

use crate::Case;
use crate::account::{Received, assert_ordered, message, read};
use crate::peer::Peer;
use crate::place::{LONG, SHORT, Trial, eventually};

const NEEDS: &[Capability] = &[Delivered];

pub(super) const CASES: &[Case] = &[
    Case { name: "delivered when taken", needs: NEEDS, run: when_taken },
    Case { name: "what nobody takes is taken back", needs: NEEDS, run: taken_back },
    Case { name: "delivered now to who waits", needs: NEEDS, run: now },
    Case { name: "delivered to nobody who is left", needs: NEEDS, run: nobody_left },
    Case { name: "delivered or taken back", needs: &[Delivered, ManyReceivers], run: either },
    Case { name: "a sender is killed in a delivered send", needs: NEEDS, run: sender_is_killed },
];

/// Sizes of messages in a slot, and in a chunk.
const SIZES: [usize; 2] = [40, 4000];

fn when_taken(trial: &Trial) {
    let place = trial.place("");
    let mut sender = place.sender();
    let mut peer = Peer::start(&place);
    peer.receiver();
    for (number, size) in (0..).zip(SIZES) {
        let early = message(1, 2 * number, size);
        sender.send_by(&early, LONG).unwrap();
        peer.tell("recv 2");
        sender.send_delivered(&message(1, 2 * number + 1, size), LONG).unwrap();
        assert_eq!(peer.received(), [(1, 2 * number), (1, 2 * number + 1)]);
    }
}

/// It is gone from between the others, and its room is there for the next.
fn taken_back(trial: &Trial) {
    for size in SIZES {
        let (mut sender, mut receiver) = trial.place("capacity=3").pair();
        for round in 0..20 {
            let [first, second] = [2 * round, 2 * round + 1];
            sender.send_by(&message(1, first, size), LONG).unwrap();
            for bound in [Deadline::Now, Duration::from_millis(1).into()] {
                match sender.send_delivered(&message(9, 9, size), bound) {
                    Err(Error::Full { .. }) if bound == Deadline::Now => {}
                    Err(Error::TimedOut { .. }) if bound != Deadline::Now => {}
                    other => panic!("{bound:?}: {other:?}"),
                }
            }
            sender.send_by(&message(1, second, size), LONG).unwrap();
            for number in [first, second] {
                assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
            }
            let more = receiver.recv_by(Deadline::Now);
            assert!(matches!(more, Err(Error::TimedOut { .. })), "{more:?}");
        }
    }
}

fn now(trial: &Trial) {
    for size in SIZES {
        let place = trial.place("");
        let mut sender = place.sender();
        let mut peer = Peer::start(&place);
        peer.receiver();
        let busy = sender.send_delivered(&message(1, 0, size), Deadline::Now);
        assert!(matches!(busy, Err(Error::Full { .. })), "{busy:?}");
        for number in 0..3 {
            peer.tell("recv 1");
            eventually("it waits, and is handed a message", || {
                match sender.send_delivered(&message(1, number, size), Deadline::Now) {
                    Ok(()) => true,
                    Err(Error::Full { .. }) => false,
                    Err(error) => panic!("{error:?}"),
                }
            });
            assert_eq!(peer.received(), [(1, number)]);
        }
        peer.kill();
        let dead = sender.send_delivered(&message(1, 3, size), Deadline::Now);
        assert!(matches!(dead, Err(Error::Full { .. })), "{dead:?}");
    }
}

fn nobody_left(trial: &Trial) {
    for (ends, deaths) in [("close", 0), ("kill", 1)] {
        let place = trial.place("");
        let mut sender = place.sender();
        let mut peer = Peer::start(&place);
        peer.receiver();
        peer.tell("recv 1");
        sender.send_delivered(&message(1, 0, 40), LONG).unwrap();
        assert_eq!(peer.received(), [(1, 0)]);
        if ends == "kill" {
            peer.kill()
        } else {
            drop(peer.ask(ends))
        }
        for size in SIZES {
            match sender.send_delivered(&message(1, 1, size), LONG) {
                Err(Error::PeerGone { died, .. }) => assert_eq!(died, deaths),
                other => panic!("after a {ends}: {other:?}"),
            }
        }
        let mut receiver = place.receiver();
        let nothing = receiver.recv_by(SHORT);
        assert!(matches!(nothing, Err(Error::TimedOut { .. })), "{nothing:?}");
        drop(sender);
    }
}

/// What it says that it delivered came, and nothing else did.
fn either(trial: &Trial) {
    let place = trial.place("capacity=2");
    let mut peers = [(); 2].map(|()| Peer::start(&place));
    peers.iter_mut().for_each(Peer::receiver);
    let mut sender = place.sender();
    peers.iter_mut().for_each(|peer| peer.tell("drain"));
    let mut delivered = Received::new();
    for number in 0..2000 {
        // From hopeless to ample.
        let bound = Duration::from_micros(u64::from(number % 50) * 2);
        match sender.send_delivered(&message(1, number, SIZES[number as usize % 2]), bound) {
            Ok(()) => delivered.push((1, number)),
            Err(Error::TimedOut { .. } | Error::Full { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    sender.send_delivered(&message(1, 2000, 40), LONG).unwrap();
    delivered.push((1, 2000));
    drop(sender);
    let mut came: Received = peers
        .iter_mut()
        .flat_map(|peer| {
            let received = peer.received();
            assert_ordered(&received);
            received
        })
        .collect();
    came.sort_unstable();
    assert_eq!(came, delivered);
}

/// Its message is there, as any other that was sent.
fn sender_is_killed(trial: &Trial) {
    for size in SIZES {
        let place = trial.place("");
        let mut receiver = place.receiver();
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.tell(&format!("deliver 1 0 {size}"));
        let mut sender = place.sender();
        let shown = |place: &crate::place::Place| narrows::channel::status(&place.bare.parse().unwrap());
        match shown(&place) {
            Ok(_) => eventually("it waits", || shown(&place).unwrap().depth == 1),
            Err(_) => std::thread::yield_now(), // nothing is seen of it from outside
        }
        peer.kill();
        sender.send_by(&message(2, 0, size), LONG).unwrap();
        let mut came = Received::new();
        while came.last() != Some(&(2, 0)) {
            came.push(read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap());
        }
        assert!(came == [(1, 0), (2, 0)] || came == [(2, 0)] && shown(&place).is_err(), "{came:?}");
    }
}
