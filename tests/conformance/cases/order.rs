//! What was sent arrives, once, in order, whoever comes first.

use narrows::Capability::{Capacity, End, InPlace, KeepsEarly, ManySenders, UserSpace};
use narrows::Message;

use crate::Case;
use crate::account::{assert_exact, message, read};
use crate::peer::Peer;
use crate::place::{LONG, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "order", needs: &[], run: order },
    Case { name: "order between senders", needs: &[ManySenders, UserSpace], run: order_between_senders },
    Case { name: "many laps", needs: &[Capacity], run: many_laps },
    Case { name: "every byte", needs: &[], run: every_byte },
    Case { name: "receiver opens late", needs: &[], run: receiver_opens_late },
    Case { name: "sender opens late", needs: &[], run: sender_opens_late },
    Case { name: "early messages are kept", needs: &[KeepsEarly, End], run: early_messages_are_kept },
    Case { name: "send many, receive many", needs: &[], run: batches },
    Case { name: "send many to a full channel", needs: &[Capacity], run: batch_is_cut },
    Case { name: "receive into", needs: &[], run: receive_into },
    Case { name: "messages outlive their receiver", needs: &[InPlace], run: messages_outlive_their_receiver },
];

fn order(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    peer.sender();
    peer.tell_send(1, 5000, 40);
    for expected in 0..5000 {
        let message = receiver.recv_by(LONG).unwrap().expect("a message");
        assert_eq!(read(&message), Ok((1, expected)));
    }
    peer.answer().unwrap();
    peer.ask("close");
}

/// If one send returned before another began, the first comes first, also between processes.
fn order_between_senders(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peers = [Peer::start(&place), Peer::start(&place)];
    peers.iter_mut().for_each(Peer::sender);
    for number in 0..100 {
        peers.iter_mut().for_each(|peer| drop(peer.ask(&format!("send 1 {number} 1 32"))));
    }
    for number in 0..200 {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number / 2)));
    }
}

/// The ring goes round thousands of times, with one place and with two.
fn many_laps(trial: &Trial) {
    for capacity in [1, 2, 3] {
        let place = trial.place(&format!("capacity={capacity}"));
        let mut receiver = place.receiver();
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.tell_send(1, 3000, 32);
        for expected in 0..3000 {
            assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, expected)));
        }
        peer.answer().unwrap();
    }
}

fn every_byte(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    for byte in (0..=255).filter(|byte| !(trial.variant.is_lines() && *byte == b'\n')) {
        let message = [byte, b'a', byte];
        sender.send_by(&message, LONG).unwrap();
        assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), message);
    }
    if trial.variant.is_lines() {
        assert!(sender.send_by(b"two\nlines", SHORT).is_err(), "a line cannot hold a line end");
        sender.send_by(b"goes on", LONG).unwrap();
        assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), *b"goes on");
    }
}

fn receiver_opens_late(trial: &Trial) {
    let place = trial.place("");
    let mut peer = Peer::start(&place);
    peer.tell_open("sender");
    peer.tell_send(1, 20, 32);
    let mut receiver = place.receiver();
    for expected in 0..20 {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, expected)));
    }
    peer.answer().unwrap();
    peer.answer().unwrap();
}

fn sender_opens_late(trial: &Trial) {
    let place = trial.place("");
    let mut peer = Peer::start(&place);
    peer.receiver();
    peer.tell("recv 20");
    let mut sender = place.sender();
    for number in 0..20 {
        sender.send_by(&message(1, number, 32), LONG).unwrap();
    }
    assert_exact(&[peer.received()], 1..2, 20);
}

/// The sender comes and goes before any receiver is there.
fn early_messages_are_kept(trial: &Trial) {
    let place = trial.place("");
    let mut peer = Peer::start(&place);
    peer.sender();
    peer.ask("send 1 0 20 100");
    peer.ask("close");
    let mut late = Peer::start(&place);
    late.receiver();
    late.tell("drain");
    assert_exact(&[late.received()], 1..2, 20);
}

fn batches(trial: &Trial) {
    let place = trial.place("");
    let (mut sender, mut receiver) = place.pair();
    let messages: Vec<Vec<u8>> =
        (0..500).map(|number| message(1, number, 28 + number as usize % 40)).collect();
    let all = std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut rest = messages.as_slice();
            while !rest.is_empty() {
                let sent = sender.send_many(rest.iter().map(Vec::as_slice), LONG).unwrap();
                rest = &rest[sent..];
            }
            sender
        });
        let mut places: Vec<_> = (0..64).map(|_| <[u8]>::empty()).collect();
        let mut all = Vec::new();
        while all.len() < 500 {
            let count = receiver.recv_many(&mut places, LONG).unwrap();
            assert!((1..=64).contains(&count), "{count} of 64");
            all.extend(places[..count].iter().map(|place| read(place).unwrap()));
        }
        drop(sending.join().unwrap());
        if trial.variant.has(End) {
            assert_eq!(receiver.recv_many(&mut places, LONG), Ok(0), "the end");
        }
        all
    });
    assert_eq!(all, (0..500).map(|number| (1, number)).collect::<Vec<_>>());
}

/// What goes before the deadline is a prefix, and its length is told.
fn batch_is_cut(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("capacity=4").pair();
    let messages: Vec<Vec<u8>> = (0..10).map(|number| message(1, number, 32)).collect();
    let slices = || messages.iter().map(Vec::as_slice);
    assert_eq!(sender.send_many(slices(), SHORT), Ok(4));
    assert!(sender.send_many(slices(), narrows::Deadline::Now).is_err());
    for expected in 0..4 {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, expected)));
    }
    assert!(receiver.recv_by(SHORT).is_err(), "nothing else was sent");
}

fn receive_into(trial: &Trial) {
    let place = trial.place("");
    let (mut sender, mut receiver) = place.pair();
    let mut bytes = <[u8]>::empty();
    for (number, size) in [(0, 2000), (1, 40), (2, 300)] {
        sender.send_by(&message(1, number, size), LONG).unwrap();
        assert_eq!(receiver.recv_into(&mut bytes, LONG), Ok(true));
        assert_eq!((read(&bytes), bytes.len()), (Ok((1, number)), size));
    }
    drop(sender);
    if trial.variant.has(End) {
        assert_eq!(receiver.recv_into(&mut bytes, LONG), Ok(false));
    }
}

/// A guard holds on to what it needs.
fn messages_outlive_their_receiver(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    for number in 0..2 {
        sender.send_by(&message(1, number, 9000), LONG).unwrap();
    }
    let copied = receiver.recv_by(LONG).unwrap().unwrap();
    let in_place = receiver.recv_in_place(LONG).unwrap().unwrap();
    let loan = sender.loan(100_000).unwrap();
    drop((sender, receiver));
    assert_eq!(read(&copied), Ok((1, 0)));
    assert_eq!(read(&in_place.to_owned()), Ok((1, 1)));
    drop((in_place, loan));
}
