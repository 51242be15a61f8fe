//! Messages written and read where they lie.

use narrows::Capability::{InPlace, ManyReceivers};
use narrows::{Deadline, Error};

use crate::Case;
use crate::account::{message, pattern, read};
use crate::peer::Peer;
use crate::place::{LONG, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "loans", needs: &[InPlace], run: loans },
    Case { name: "a loan that finds no room comes back", needs: &[InPlace], run: loan_comes_back },
    Case { name: "guards are kept", needs: &[InPlace], run: guards_are_kept },
    Case { name: "in place equals a copy", needs: &[InPlace], run: in_place_equals_a_copy },
    Case { name: "the dead give back what they held", needs: &[InPlace], run: the_dead_give_back },
    Case { name: "guards in many hands", needs: &[InPlace, ManyReceivers], run: many_hands },
];

/// Sizes of both kinds: with the message's state, and in memory of their own.
const SIZES: [usize; 6] = [0, 28, 48, 49, 5000, 1 << 20];

fn loans(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    for size in SIZES {
        let [mut first, dropped, mut third] = [(); 3].map(|()| sender.loan(size).unwrap());
        assert_eq!(first.len(), size);
        first.write(&pattern(size, 1));
        third.write_at(0, &pattern(size, 3));
        drop(dropped);
        // In the order of their commits, not of their loans.
        sender.commit_by(third, LONG).unwrap();
        sender.commit_by(first, LONG).unwrap();
        assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(size, 3), "{size} bytes");
        assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(size, 1), "{size} bytes");
    }
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })), "a dropped loan is not sent");
}

fn loan_comes_back(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("capacity=1").pair();
    for size in [40, 5000] {
        sender.send_by(&pattern(size, 0), LONG).unwrap();
        let mut loan = sender.loan(size).unwrap();
        loan.write(&pattern(size, 1));
        let refused = sender.commit_by(loan, Deadline::Now).expect_err("it is full");
        assert!(matches!(refused.error, Error::Full { .. }), "{:?}", refused.error);
        let refused = sender.commit_by(refused.loan, SHORT).expect_err("it is still full");
        assert!(matches!(refused.error, Error::TimedOut { .. }), "{:?}", refused.error);
        assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(size, 0));
        sender.commit_by(refused.loan, LONG).unwrap();
        assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(size, 1));
    }
}

/// More than the capacity are kept while others are received.
fn guards_are_kept(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("capacity=4").pair();
    for size in [28, 40, 2000, 100_000] {
        let mut kept = Vec::new();
        for number in 0..20 {
            sender.send_by(&message(1, number, size), LONG).unwrap();
            kept.push(receiver.recv_in_place(LONG).unwrap().unwrap());
        }
        // Given back in another order than they came.
        while !kept.is_empty() {
            let number = kept.len() as u32 - 1;
            let at = if number.is_multiple_of(2) { 0 } else { kept.len() - 1 };
            let guard = kept.remove(at);
            assert_eq!(guard.len(), size);
            read(&guard.to_owned()).unwrap();
        }
    }
}

fn in_place_equals_a_copy(trial: &Trial) {
    let (mut sender, mut receiver) = trial.place("").pair();
    for size in SIZES {
        let bytes = pattern(size, 9);
        sender.send_by(&bytes, LONG).unwrap();
        let guard = receiver.recv_in_place(LONG).unwrap().unwrap();
        assert_eq!((guard.len(), guard.is_empty(), guard.redelivered()), (size, size == 0, false));
        assert!(*guard.to_owned() == *bytes);
        let mut tail = vec![0; size / 2];
        guard.read_at(size - size / 2, &mut tail);
        assert!(tail == bytes[size - size / 2..]);
    }
    drop(sender);
    assert!(receiver.recv_in_place(LONG).unwrap().is_none(), "the end");
}

/// Killed with loans out and guards in hand, again and again, in little memory: nothing runs out.
fn the_dead_give_back(trial: &Trial) {
    let place = trial.place("memory_max=16M,participants=8");
    let (sender, receiver) = place.pair();
    drop((sender, receiver));
    for round in 0..20 {
        let place = if round == 0 {
            trial.place("memory_max=16M,participants=8")
        } else {
            trial.place("memory_max=16M")
        };
        let mut peers = [(); 2].map(|()| Peer::start(&place));
        let [sends, receives] = &mut peers;
        receives.receiver();
        sends.sender();
        sends.ask("loan 1000000");
        sends.ask("loan 2000");
        sends.ask("send 1 0 2 1000000");
        receives.ask("hold-in-place");
        receives.ask("hold");
        if round % 2 == 0 { sends.kill() } else { receives.kill() }
    }
    // All in one channel, whose survivor stays.
    let place = trial.place("memory_max=16M");
    let (mut sender, mut receiver) = place.pair();
    if trial.variant.has(ManyReceivers) {
        for _ in 0..30 {
            let mut dies = Peer::start(&place);
            dies.receiver();
            dies.sender();
            dies.ask("loan 3000000");
            sender.send_by(&message(1, 0, 3_000_000), LONG).expect("the dead gave their memory back");
            dies.ask("hold-in-place");
            dies.kill();
            if trial.variant.options.contains("ack=release") {
                assert!(receiver.recv_by(LONG).unwrap().unwrap().redelivered());
            }
        }
        drain(&mut receiver);
    }
    for number in 0..10 {
        sender.send_by(&message(1, number, 3_000_000), LONG).unwrap();
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
    }
}

fn drain(receiver: &mut narrows::Receiver) {
    while receiver.recv_by(SHORT).is_ok() {}
}

/// Threads pass guards on to each other; whoever drops one gives its memory back.
fn many_hands(trial: &Trial) {
    let (mut sender, receiver) = trial.place("memory_max=16M").pair();
    let (pass, guards) = std::sync::mpsc::sync_channel::<narrows::channel::InPlace>(8);
    std::thread::scope(|scope| {
        let mut receiver = receiver;
        scope.spawn(move || {
            for _ in 0..200 {
                pass.send(receiver.recv_in_place(LONG).unwrap().unwrap()).unwrap();
            }
        });
        scope.spawn(move || {
            for number in 0..200 {
                sender.send_by(&message(1, number, 200_000), LONG).unwrap();
            }
        });
        for (number, guard) in (0..).zip(guards) {
            assert_eq!(read(&guard.to_owned()), Ok((1, number)));
        }
    });
}
