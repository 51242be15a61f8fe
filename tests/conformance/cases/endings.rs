//! Closing, dying, and what the other side learns of it.

use std::time::Instant;

use narrows::Capability::{self, Deaths, End, KeepsEarly, ManySenders};
use narrows::{Error, Receiver};

use crate::Case;
use crate::account::{message, read};
use crate::peer::Peer;
use crate::place::{LONG, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "end", needs: &[End], run: end },
    Case { name: "no sender ever: no end", needs: &[End], run: no_sender_ever },
    Case { name: "the end is not sticky", needs: &[End], run: not_sticky },
    Case { name: "a killed sender ends it", needs: &[End], run: killed_sender },
    Case { name: "deaths are counted", needs: &[End, Deaths], run: deaths_are_counted },
    Case { name: "the last sender ends it", needs: &[End, ManySenders], run: last_sender },
    Case { name: "a sleeping receiver learns of a death", needs: &[End], run: sleeping_receiver },
    Case {
        name: "a receiver goes, another comes",
        needs: &[KeepsEarly, Capability::Persistent],
        run: receivers_change,
    },
    Case { name: "a killed receiver is noticed or replaced", needs: &[], run: killed_receiver },
];

#[track_caller]
fn expect(receiver: &mut Receiver, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().expect("a message")), Ok((1, number)));
    }
}

#[track_caller]
fn expect_end(receiver: &mut Receiver) {
    assert!(receiver.recv_by(LONG).unwrap().is_none(), "the end");
}

fn end(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    peer.sender();
    peer.ask("send 1 0 5 32");
    peer.ask("close");
    expect(&mut receiver, 0..5);
    expect_end(&mut receiver);
    expect_end(&mut receiver);
    assert_eq!(receiver.died(), 0);
}

fn no_sender_ever(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })));
}

fn not_sticky(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    for round in 0..3 {
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.ask(&format!("send 1 {round} 1 32"));
        peer.ask("close");
        expect(&mut receiver, round..round + 1);
        expect_end(&mut receiver);
    }
}

fn killed_sender(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    peer.sender();
    peer.ask("send 1 0 5 32");
    peer.kill();
    expect(&mut receiver, 0..5);
    expect_end(&mut receiver);
}

fn deaths_are_counted(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    for deaths in 0..4 {
        let mut closes = Peer::start(&place);
        closes.sender();
        closes.ask("close");
        expect_end(&mut receiver);
        assert_eq!(receiver.died(), deaths);
        let mut dies = Peer::start(&place);
        dies.sender();
        dies.kill();
        expect_end(&mut receiver);
        assert_eq!(receiver.died(), deaths + 1);
    }
}

fn last_sender(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peers = [(); 3].map(|()| Peer::start(&place));
    peers.iter_mut().for_each(Peer::sender);
    let [closes, dies, last] = &mut peers;
    closes.ask("close");
    dies.kill();
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })), "one is left");
    last.ask("send 1 0 1 32");
    expect(&mut receiver, 0..1);
    last.ask("close");
    expect_end(&mut receiver);
}

/// It sleeps when the sender is killed, and is not left asleep.
fn sleeping_receiver(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    peer.sender();
    let took = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let message = receiver.recv_by(LONG).unwrap();
            assert!(message.is_none(), "nothing was sent");
            Instant::now()
        });
        std::thread::sleep(SHORT); // Time to fall asleep; the case holds without it.
        let killed = Instant::now();
        peer.kill();
        receiving.join().unwrap().saturating_duration_since(killed)
    });
    assert!(took.as_secs() < 2, "{took:?}");
}

/// What was not taken waits for the next receiver, whether the first closed or died.
fn receivers_change(trial: &Trial) {
    let place = trial.place("");
    let mut sender = place.sender();
    (0..30).for_each(|number| sender.send_by(&message(1, number, 60), LONG).unwrap());
    for round in 0..3 {
        let mut peer = Peer::start(&place);
        peer.receiver();
        peer.tell("recv 10");
        let expected: Vec<_> = (round * 10..round * 10 + 10).map(|number| (1, number)).collect();
        assert_eq!(peer.received(), expected);
        if round == 1 { peer.kill() } else { drop(peer.ask("close")) }
    }
    let mut receiver = place.receiver();
    drop(sender);
    expect_end(&mut receiver);
}

/// A sender whose receiver died either waits for the next one, or is told. It is not killed, and does not hang.
fn killed_receiver(trial: &Trial) {
    let place = trial.place("");
    let mut peer = Peer::start(&place);
    peer.receiver();
    let mut sender = place.sender();
    peer.tell("recv 1");
    sender.send_by(&message(1, 0, 32), LONG).unwrap();
    assert_eq!(peer.received(), [(1, 0)]);
    peer.kill();
    if trial.variant.has(KeepsEarly) && trial.variant.is_memory() {
        sender.send_by(&message(1, 1, 32), LONG).unwrap();
        expect(&mut place.receiver(), 1..2);
        return;
    }
    let error = (0..100_000).find_map(|number| sender.send_by(&message(1, number, 700), SHORT).err());
    match error {
        Some(Error::PeerGone { .. } | Error::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
}
