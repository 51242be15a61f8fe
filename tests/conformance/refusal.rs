//! What happens when a transport is asked for a capability that it lacks: it says so, at once.

use narrows::{Capability, Error, Receiver, Sender};

use crate::place::{LONG, SHORT, Trial};

/// Asserts that using the capability is refused.
pub(crate) fn check(trial: &Trial, capability: Capability) {
    match capability {
        Capability::ManySenders => second_sender(trial),
        Capability::ManyReceivers => second_receiver(trial),
        Capability::End => no_end(trial),
        Capability::Deaths => no_deaths(trial),
        Capability::KeepsEarly => no_early(trial),
        Capability::InPlace => in_place(trial),
        Capability::Capacity => option(trial, "capacity=8"),
        // A named pipe's name may stay, without messages.
        Capability::Persistent if trial.variant.has_option("lifetime") => nothing_to_look_at(trial),
        Capability::Persistent => option(trial, "lifetime=system"),
        Capability::Redelivery => option(trial, "ack=release"),
        Capability::Delivered => delivered(trial),
        Capability::ForeignPeers => option(trial, "wire=lines"),
        // These describe how a transport works and refuse nothing.
        Capability::Boundaries | Capability::UserSpace | Capability::ReceiverBinds => {}
        other => panic!("no test of the refusal of {other}"),
    }
}

#[track_caller]
fn assert_refused<T>(result: Result<T, Error>, what: &str) {
    match result {
        Ok(_) => panic!("{what} was not refused"),
        Err(Error::Unsupported { .. } | Error::Busy { .. }) => {}
        Err(error) => panic!("{what}: {error:?}"),
    }
}

fn second_sender(trial: &Trial) {
    let place = trial.place("");
    let (sender, _receiver) = place.pair();
    assert_refused(Sender::<[u8]>::open_by(place.address(), SHORT), "a second sender");
    assert_refused(sender.try_clone(), "a clone of the sender");
}

fn second_receiver(trial: &Trial) {
    let place = trial.place("");
    let (_sender, receiver) = place.pair();
    assert_refused(Receiver::<[u8]>::open_by(place.address(), SHORT), "a second receiver");
    assert_refused(receiver.try_clone(), "a clone of the receiver");
}

fn no_end(trial: &Trial) {
    let (sender, mut receiver) = trial.place("").pair();
    drop(sender);
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })));
}

fn no_deaths(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = crate::peer::Peer::start(&place);
    peer.sender();
    peer.ask("send 1 0 1 32");
    assert!(receiver.recv_by(LONG).expect("a message").is_some());
    peer.kill();
    let _ = receiver.recv_by(SHORT);
    assert_eq!(receiver.died(), 0);
}

fn no_early(trial: &Trial) {
    match Sender::<[u8]>::open_by(trial.place("").address(), SHORT) {
        Err(Error::TimedOut { .. }) => {}
        Ok(_) => panic!("opened without a receiver"),
        Err(error) => panic!("{error:?}"),
    }
}

fn in_place(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    assert_refused(sender.loan(64), "a loan");
    assert_refused(receiver.recv_in_place(SHORT), "receiving in place");
    assert_refused(sender.descriptor().map(drop), "the memory's descriptor");
}

fn delivered(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    assert_refused(sender.send_delivered(b"x", LONG), "a delivered send");
    assert!(!matches!(receiver.recv_by(SHORT), Ok(Some(_))), "it was refused, and sent");
}

/// What does not outlive its processes cannot be looked at from outside.
fn nothing_to_look_at(trial: &Trial) {
    let place = trial.place("");
    let _receiver = place.receiver();
    assert_refused(narrows::channel::status(&place.bare.parse().expect("an address")), "its status");
}

/// The option that would ask for it does not exist here.
fn option(trial: &Trial, option: &str) {
    let address = trial.place("").with(option);
    for result in
        [Sender::<[u8]>::open_by(&address, SHORT).err(), Receiver::<[u8]>::open_by(&address, SHORT).err()]
    {
        match result {
            Some(Error::InvalidAddress { .. } | Error::Unsupported { .. }) => {}
            other => panic!("{option}: {other:?}"),
        }
    }
}
