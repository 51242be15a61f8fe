//! Several senders, several receivers; processes and threads; killed and stopped.

use narrows::Capability::{self, Capacity, End, ManyReceivers, ManySenders, UserSpace};
use narrows::Error;
use rustix::process::Signal;

use crate::Case;
use crate::account::{Received, assert_exact, assert_ordered, message, read};
use crate::peer::{Peer, parse};
use crate::place::{LONG, SHORT, Trial, eventually};

const BOTH: &[Capability] = &[ManySenders, ManyReceivers, End];

pub(super) const CASES: &[Case] = &[
    Case { name: "three senders", needs: &[ManySenders], run: three_senders },
    Case { name: "three senders, three receivers", needs: BOTH, run: three_and_three },
    Case { name: "threads of one process", needs: BOTH, run: threads },
    Case { name: "both ends from one handle", needs: &[UserSpace], run: both_ends_from_one_handle },
    Case { name: "a stopped sender holds nobody up", needs: &[ManySenders, Capacity], run: stopped_sender },
    Case { name: "a stopped receiver holds nobody up", needs: &[ManyReceivers], run: stopped_receiver },
    Case { name: "killed senders lose nothing", needs: &[End], run: killed_senders },
    Case { name: "killed receivers lose what they took", needs: BOTH, run: killed_receivers },
    Case { name: "a killed sender's successor", needs: &[UserSpace], run: successor },
];

const COUNT: u32 = 2000;

fn three_senders(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peers = [(); 3].map(|()| Peer::start(&place));
    for (sender, peer) in (0..).zip(&mut peers) {
        peer.sender();
        peer.tell_send(sender, COUNT, 28 + 20 * sender as usize);
    }
    let next = |_| read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap();
    let received: Received = (0..3 * COUNT).map(next).collect();
    assert_exact(&[received], 0..3, COUNT);
    peers.iter_mut().for_each(|peer| drop(peer.answer().unwrap()));
}

fn three_and_three(trial: &Trial) {
    let place = trial.place("");
    let mut receivers = [(); 3].map(|()| Peer::start(&place));
    receivers.iter_mut().for_each(Peer::receiver);
    let mut senders = [(); 3].map(|()| Peer::start(&place));
    senders.iter_mut().for_each(Peer::sender);
    receivers.iter_mut().for_each(|peer| peer.tell("drain"));
    for (sender, peer) in (0..).zip(&mut senders) {
        // One of them sends messages that are too large for a slot.
        peer.tell_send(sender, COUNT, if sender == 2 { 1500 } else { 32 });
    }
    for peer in &mut senders {
        peer.answer().unwrap();
        peer.ask("close");
    }
    let received: Vec<Received> = receivers.iter_mut().map(Peer::received).collect();
    assert_exact(&received, 0..3, COUNT);
}

fn threads(trial: &Trial) {
    let (sender, receiver) = trial.place("").pair();
    let received = std::thread::scope(|scope| {
        let receiving: Vec<_> = (0..3)
            .map(|_| {
                let mut receiver = receiver.try_clone().unwrap();
                scope.spawn(move || {
                    let mut received = Received::new();
                    while let Some(message) = receiver.recv_by(LONG).unwrap() {
                        received.push(read(&message).unwrap());
                    }
                    received
                })
            })
            .collect();
        for id in 0..3 {
            let mut sender = sender.try_clone().unwrap();
            scope.spawn(move || {
                (0..COUNT).for_each(|number| sender.send_by(&message(id, number, 40), LONG).unwrap());
            });
        }
        drop(sender);
        receiving.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_exact(&received, 0..3, COUNT);
}

fn both_ends_from_one_handle(trial: &Trial) {
    let place = trial.place("");
    let mut sender = place.sender();
    let mut receiver = sender.receiver().unwrap();
    sender.send_by(b"there", LONG).unwrap();
    assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), *b"there");
    drop(sender);
    let mut sender = receiver.sender().unwrap();
    sender.send_by(b"again", LONG).unwrap();
    assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), *b"again");
}

/// Stopped at any moment, also between claim and commit.
fn stopped_sender(trial: &Trial) {
    let place = trial.place("capacity=4");
    let mut receiver = place.receiver();
    let (mut stopped, mut other) = (Peer::start(&place), Peer::start(&place));
    stopped.sender();
    other.sender();
    stopped.tell("flood 1 32");
    let mut all = Received::new();
    let mut sent = 0;
    for _ in 0..20 {
        stopped.signal(Signal::STOP);
        other.tell(&format!("send 2 {sent} 50 32"));
        sent += 50;
        while all.iter().filter(|(sender, _)| *sender == 2).count() < sent {
            all.push(
                read(&receiver.recv_by(LONG).expect("a stopped sender holds nobody up").unwrap()).unwrap(),
            );
        }
        other.answer().unwrap();
        stopped.signal(Signal::CONT);
        all.push(read(&receiver.recv_by(LONG).unwrap().unwrap()).unwrap());
    }
    stopped.kill();
    other.ask("close");
    while let Some(message) = receiver.recv_by(LONG).unwrap() {
        all.push(read(&message).unwrap());
    }
    assert_prefixes(&[all]);
}

fn stopped_receiver(trial: &Trial) {
    let place = trial.place("");
    let (mut sender, mut receiver) = place.pair();
    let mut stopped = Peer::start(&place);
    stopped.receiver();
    stopped.tell("drain");
    for round in 0..20 {
        sender.send_by(&message(1, round, 32), LONG).unwrap();
        stopped.signal(Signal::STOP);
        // What it took it has; what it did not take, comes here.
        for number in 0..20 {
            sender.send_by(&message(2, round * 20 + number, 32), LONG).unwrap();
            while matches!(receiver.recv_by(narrows::Deadline::Now), Ok(Some(_))) {}
        }
        eventually("the channel is empty", || matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })));
        stopped.signal(Signal::CONT);
    }
}

/// Each sender's messages are a prefix: no gap, none twice.
#[track_caller]
fn assert_prefixes(all: &[Received]) {
    all.iter().for_each(assert_ordered);
    let mut seen: Received = all.iter().flatten().copied().collect();
    seen.sort_unstable();
    for two in seen.windows(2) {
        let ((sender, number), next) = (two[0], two[1]);
        assert!(
            next == (sender, number + 1) || next.0 != sender && next.1 == 0,
            "{next:?} after {:?}",
            two[0]
        );
    }
}

/// Killed at random moments, with small and large messages: a prefix of what it sent arrives, then the end.
fn killed_senders(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut all = Received::new();
    for round in 0..20 {
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.tell(&format!("flood {round} {}", if round % 2 == 0 { 40 } else { 3000 }));
        for _ in 0..round * 7 + 1 {
            all.push(read(&receiver.recv_by(LONG).unwrap().expect("a message")).unwrap());
        }
        peer.kill();
        while let Some(message) = receiver.recv_by(LONG).expect("the end") {
            all.push(read(&message).unwrap());
        }
    }
    assert_prefixes(&[all]);
}

/// Two senders, two receivers, one of which is killed: what is missing at the other is what the dead one took.
fn killed_receivers(trial: &Trial) {
    if trial.variant.options.contains("ack=release") {
        return; // There nothing is missing: see the cases about acknowledgement.
    }
    for round in 0..5 {
        let place = trial.place("");
        let mut peers = [(); 4].map(|()| Peer::start(&place));
        let [one, two, victim, survivor] = &mut peers;
        let log = trial.folder().join(format!("taken-{round}"));
        victim.receiver();
        survivor.receiver();
        one.sender();
        two.sender();
        victim.tell(&format!("drain {}", log.display()));
        survivor.tell("drain");
        one.tell_send(0, COUNT, 32);
        two.tell_send(1, COUNT, 600);
        eventually("the victim takes messages", || log.metadata().is_ok_and(|log| log.len() > 300));
        victim.kill();
        for sender in [one, two] {
            sender.answer().unwrap();
            sender.ask("close");
        }
        let mut all = survivor.received();
        assert_ordered(&all);
        all.extend(parse(&std::fs::read_to_string(log).unwrap()));
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "none came twice");
        let missing = 2 * COUNT as usize - count;
        assert!(missing <= 1, "{missing} are missing: the dead had one in its hands at most");
    }
}

/// Where only one may send, the next one may as soon as the first is dead, and goes on where it stopped.
fn successor(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    for round in 0..10 {
        let mut peer = Peer::start(&place);
        peer.sender();
        peer.ask(&format!("send {round} 0 3 32"));
        if round % 2 == 0 {
            peer.kill();
        }
    }
    for expected in (0..10).flat_map(|round| (0..3).map(move |number| (round, number))) {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok(expected));
    }
    assert!(receiver.recv_by(LONG).unwrap().is_none(), "ten senders, none is left");
}
