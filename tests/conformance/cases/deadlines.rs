//! Waiting: not at all, for a while, for as long as it takes.

use std::time::{Duration, Instant};

use narrows::Capability::{Capacity, ReceiverBinds};
use narrows::{Deadline, Error, Receiver, Sender};

use crate::Case;
use crate::account::{assert_exact, message, read};
use crate::peer::Peer;
use crate::place::{LONG, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "empty", needs: &[], run: empty },
    Case { name: "full", needs: &[], run: full },
    Case { name: "full at its capacity", needs: &[Capacity], run: full_at_its_capacity },
    Case { name: "a full channel's sender goes on", needs: &[], run: full_goes_on },
    Case { name: "nobody to send to", needs: &[ReceiverBinds], run: nobody_to_send_to },
];

/// Far above what a loaded machine needs to notice that a deadline has passed.
const SLACK: Duration = Duration::from_secs(5);

/// The time that a call took.
fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (call(), start.elapsed())
}

fn empty(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    peer.sender();
    let (result, took) = timed(|| receiver.recv_by(Deadline::Now));
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    assert!(took < SLACK);
    let (result, took) = timed(|| receiver.recv_by(SHORT));
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
    let (result, _) = timed(|| receiver.recv_by(Instant::now()));
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    peer.tell_send(1, 1, 32);
    assert_eq!(read(&receiver.recv().unwrap().unwrap()), Ok((1, 0)));
}

/// Sends until there is no room, and gives how many went.
fn fill(sender: &mut Sender, size: usize) -> u32 {
    for number in 0..1_000_000 {
        match sender.send_by(&message(1, number, size), Deadline::Now) {
            Ok(()) => {}
            Err(Error::Full { .. }) => return number,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("it is never full");
}

/// A message that found no room was not sent, and the others are all there.
fn full(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    let mut sent = fill(&mut sender, 700);
    let (result, took) = timed(|| sender.send_by(&message(1, sent, 700), SHORT));
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
    let mut received = Vec::new();
    while received.len() < sent as usize {
        received.push(read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap());
    }
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })), "nothing else was sent");
    sender.send_by(&message(1, sent, 700), LONG).unwrap();
    sent += 1;
    received.push(read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap());
    assert_exact(&[received], 1..2, sent);
}

fn full_at_its_capacity(trial: &Trial) {
    for capacity in [1, 2, 5, 64] {
        for size in [32, 700] {
            let (mut sender, mut receiver) = trial.place(&format!("capacity={capacity}")).pair();
            assert_eq!(fill(&mut sender, size), capacity, "messages of {size} bytes");
            receiver.recv_by(LONG).unwrap().unwrap();
            sender.send_by(&message(1, capacity, size), LONG).unwrap();
            assert!(matches!(sender.send_by(b"more", Deadline::Now), Err(Error::Full { .. })));
            while receiver.recv_by(Deadline::Now).is_ok() {}
        }
    }
}

/// A sender that sleeps before a full channel wakes when a receiver takes something.
fn full_goes_on(trial: &Trial) {
    let place = trial.place("");
    let (mut sender, mut receiver) = place.pair();
    let sent = fill(&mut sender, 700);
    let received = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            (sent..sent + 100).for_each(|number| sender.send(&message(1, number, 700)).unwrap());
        });
        let next = |_| read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap();
        let received: Vec<_> = (0..sent + 100).map(next).collect();
        sending.join().unwrap();
        received
    });
    assert_exact(&[received], 1..2, sent + 100);
}

fn nobody_to_send_to(trial: &Trial) {
    let place = trial.place("");
    for least in [Duration::ZERO, SHORT] {
        let (result, took) = timed(|| Sender::<[u8]>::open_by(place.address(), least));
        match result {
            Err(Error::TimedOut { .. } | Error::NotFound { .. } | Error::PeerGone { .. }) => {}
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("opened without a receiver"),
        }
        assert!(took >= least && took < least + SLACK, "{took:?}");
    }
    drop(Receiver::<[u8]>::open_by(place.address(), LONG).unwrap());
}
