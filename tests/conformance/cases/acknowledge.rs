//! `ack=release`: a message is consumed when its guard is dropped, and comes again if its holder died.

use narrows::Capability::{self, End, ManyReceivers, Redelivery};
use narrows::{Error, Message};

use crate::Case;
use crate::account::{message, read};
use crate::peer::Peer;
use crate::place::{LONG, SHORT, Trial};

const NEEDS: &[Capability] = &[Redelivery];
const SEVERAL: &[Capability] = &[Redelivery, ManyReceivers, End];

pub(super) const CASES: &[Case] = &[
    Case { name: "acknowledged when dropped", needs: NEEDS, run: acknowledged_when_dropped },
    Case { name: "the holder is killed", needs: SEVERAL, run: holder_is_killed },
    Case { name: "the only receiver is killed", needs: NEEDS, run: only_receiver_is_killed },
    Case { name: "closed with a guard kept", needs: SEVERAL, run: closed_with_a_guard_kept },
    Case { name: "the end waits for what is held", needs: SEVERAL, run: end_waits },
];

/// The variant's options may say it already.
fn option(trial: &Trial) -> &'static str {
    if trial.variant.options.contains("ack=release") { "" } else { "ack=release" }
}

fn acknowledged_when_dropped(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place(option(trial)).pair();
    for number in 0..10 {
        sender.send_by(&message(1, number, if number % 2 == 0 { 40 } else { 4000 }), LONG).unwrap();
    }
    for number in 0..4 {
        let received = receiver.recv_by(LONG).unwrap().unwrap();
        assert_eq!((read(&received), received.redelivered()), (Ok((1, number)), false));
    }
    let in_place = receiver.recv_in_place(LONG).unwrap().unwrap();
    assert_eq!((read(&in_place.to_owned()), in_place.redelivered()), (Ok((1, 4)), false));
    drop(in_place);
    assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap().into_owned()), Ok((1, 5)));
    let mut places = [(); 3].map(|()| <[u8]>::empty());
    assert_eq!(receiver.recv_many(&mut places, LONG), Ok(3));
    assert_eq!(receiver.recv_into(&mut places[0], LONG), Ok(true));
    assert_eq!(read(&places[0]), Ok((1, 9)));
    drop(sender);
    assert!(receiver.recv_by(LONG).unwrap().is_none(), "all are consumed");
}

/// The message comes again, once, flagged, to one of the others.
fn holder_is_killed(trial: &Trial) {
    for size in [40, 4000] {
        let place = trial.place(option(trial));
        let (mut sender, mut receiver) = place.pair();
        for number in 0..3 {
            sender.send_by(&message(1, number, size), LONG).unwrap();
        }
        let mut holder = Peer::start(&place);
        holder.receiver();
        assert_eq!(holder.ask("hold"), "1:0");
        let second = receiver.recv_by(LONG).unwrap().unwrap();
        assert_eq!((read(&second), second.redelivered()), (Ok((1, 1)), false));
        drop(second);
        holder.kill();
        drop(sender);
        let mut rest = Vec::new();
        while let Some(received) = receiver.recv_by(LONG).unwrap() {
            rest.push((read(&received).unwrap().1, received.redelivered()));
        }
        rest.sort_unstable();
        assert_eq!(rest, [(0, true), (2, false)]);
    }
}

fn only_receiver_is_killed(trial: &Trial) {
    let place = trial.place(option(trial));
    let mut sender = place.sender();
    let mut holder = Peer::start(&place);
    holder.receiver();
    for number in 0..4 {
        sender.send_by(&message(1, number, 40), LONG).unwrap();
    }
    holder.tell("recv 1");
    assert_eq!(holder.received(), [(1, 0)]);
    assert_eq!((holder.ask("hold"), holder.ask("hold")), ("1:1".to_owned(), "1:2".to_owned()));
    holder.kill();
    let mut receiver = place.receiver();
    let mut rest = Vec::new();
    for _ in 0..3 {
        let received = receiver.recv_by(LONG).unwrap().unwrap();
        rest.push((read(&received).unwrap().1, received.redelivered()));
    }
    rest.sort_unstable();
    assert_eq!(rest, [(1, true), (2, true), (3, false)]);
    drop(sender);
    assert!(receiver.recv_by(LONG).unwrap().is_none());
}

/// A guard outlives its receiver, and is still the message's holder.
fn closed_with_a_guard_kept(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place(option(trial)).pair();
    sender.send_by(&message(1, 0, 40), LONG).unwrap();
    let mut other = receiver.try_clone().unwrap();
    let guard = receiver.recv_by(LONG).unwrap().unwrap();
    drop(receiver);
    assert!(matches!(other.recv_by(SHORT), Err(Error::TimedOut { .. })), "it is held");
    drop(guard);
    drop(sender);
    assert!(other.recv_by(LONG).unwrap().is_none(), "it was consumed");
}

/// While somebody holds a message that may come again, it is not the end for the others.
fn end_waits(trial: &Trial) {
    let place = trial.place(option(trial));
    let (mut sender, mut receiver) = place.pair();
    sender.send_by(&message(1, 0, 40), LONG).unwrap();
    let mut holder = Peer::start(&place);
    holder.receiver();
    assert_eq!(holder.ask("hold"), "1:0");
    drop(sender);
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })), "it may come again");
    holder.kill();
    let again = receiver.recv_by(LONG).unwrap().unwrap();
    assert_eq!((read(&again), again.redelivered()), (Ok((1, 0)), true));
    drop(again);
    assert!(receiver.recv_by(LONG).unwrap().is_none());
}
