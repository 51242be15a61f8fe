//! How long a channel stays, and who clears what a crash left.

use narrows::Capability::Persistent;
use narrows::channel::{State, remove, status};
use narrows::{Address, Error};

use crate::Case;
use crate::account::read;
use crate::peer::Peer;
use crate::place::{LONG, Place, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "lifetime drained", needs: &[Persistent], run: drained },
    Case { name: "lifetime process", needs: &[Persistent], run: process },
    Case { name: "lifetime system", needs: &[Persistent], run: system },
    Case { name: "removed while open", needs: &[Persistent], run: removed_while_open },
    Case { name: "everybody is killed", needs: &[Persistent], run: everybody_is_killed },
    Case { name: "places are not lost", needs: &[Persistent], run: places_are_not_lost },
    Case { name: "status", needs: &[Persistent], run: look },
];

fn bare(place: &Place) -> Address {
    place.bare.parse().unwrap()
}

fn drained(trial: &Trial) {
    let place = trial.place("");
    let (mut sender, receiver) = place.pair();
    sender.send_by(b"unread", LONG).unwrap();
    drop((sender, receiver));
    assert!(place.path.exists(), "it holds an unread message");
    let mut receiver = place.receiver();
    assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), *b"unread");
    drop(receiver);
    assert!(!place.path.exists(), "it is drained");
}

fn process(trial: &Trial) {
    let place = trial.place("lifetime=process");
    let (mut sender, receiver) = place.pair();
    sender.send_by(b"unread", LONG).unwrap();
    drop(sender);
    assert!(place.path.exists());
    drop(receiver);
    assert!(!place.path.exists(), "nobody is left");
}

fn system(trial: &Trial) {
    let place = trial.place("lifetime=system");
    drop(place.pair());
    assert!(place.path.exists(), "it was made to stay");
    assert_eq!(status(&bare(&place)).unwrap().state, State::Idle);
    remove(&bare(&place)).unwrap();
    assert!(!place.path.exists());
    assert!(matches!(remove(&bare(&place)), Err(Error::NotFound { .. })));
}

/// Who has it open goes on with it; who comes later gets a new one.
fn removed_while_open(trial: &Trial) {
    let place = trial.place("");
    let (mut sender, mut receiver) = place.pair();
    remove(&bare(&place)).unwrap();
    let (mut new_sender, mut new_receiver) = place.pair();
    sender.send_by(b"old", LONG).unwrap();
    new_sender.send_by(b"new", LONG).unwrap();
    assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), *b"old");
    assert_eq!(*new_receiver.recv_by(LONG).unwrap().unwrap(), *b"new");
    drop((sender, receiver));
    assert!(place.path.exists(), "the new one's name is not the old one's to remove");
}

/// What was sent and not received is there for the next, who then clears it away.
fn everybody_is_killed(trial: &Trial) {
    let place = trial.place("");
    let mut peers = [(); 2].map(|()| Peer::start(&place));
    let [sends, receives] = &mut peers;
    receives.receiver();
    sends.sender();
    sends.ask("send 1 0 10 300");
    receives.tell("recv 4");
    assert_eq!(receives.received().len(), 4);
    peers.iter_mut().for_each(Peer::kill);
    let seen = status(&bare(&place)).unwrap();
    assert_eq!((seen.state, seen.depth, seen.senders, seen.receivers), (State::Unread, 6, 0, 0));
    let mut receiver = place.receiver();
    for number in 4..10 {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
    }
    assert!(receiver.recv_by(LONG).unwrap().is_none(), "the end");
    assert_eq!(receiver.died(), 1);
    drop(receiver);
    assert!(!place.path.exists());
}

/// More die than there are places.
fn places_are_not_lost(trial: &Trial) {
    let place = trial.place("participants=4");
    let mut receiver = place.receiver();
    for number in 0..20 {
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.ask(&format!("send 1 {number} 1 32"));
        peer.kill();
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
    }
}

fn look(trial: &Trial) {
    let place = trial.place("capacity=16");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    peer.sender();
    peer.ask("send 1 0 5 32");
    receiver.recv_by(LONG).unwrap().unwrap();
    let seen = status(&bare(&place)).unwrap();
    assert_eq!((seen.state, seen.depth, seen.capacity, seen.sent), (State::Live, 4, 16, 5));
    assert_eq!((seen.senders, seen.receivers, seen.died, seen.mode), (1, 1, 0, 0o600));
    assert_eq!(seen.address, bare(&place));
    assert_eq!(seen.creator_pid, std::process::id());
    assert_eq!(seen.peers.len(), 2);
    assert!(seen.peers.iter().all(|peer| peer.alive), "{:?}", seen.peers);
    peer.kill();
    let seen = status(&bare(&place)).unwrap();
    assert_eq!((seen.state, seen.senders, seen.receivers), (State::Live, 0, 1));
    while receiver.recv_by(LONG).unwrap().is_some() {}
}
