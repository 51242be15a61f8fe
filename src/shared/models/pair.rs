//! The ring, one to one.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::deadline::Deadline;
use crate::shared::layout::{self, Peers};
use crate::shared::memory::Memory;
use crate::shared::pair::{Bed, Pair, ReceiveSide, SendSide};

use super::{all, check, check_each_death, layout as small, notices};

#[derive(Clone)]
struct Channel {
    memory: Memory,
    pair: Pair,
}

fn channel() -> Channel {
    let layout = small(Peers::One, 2, 2);
    let words =
        [layout::TAIL, layout::HEAD, layout::SHARED_HEAD, layout::RECEIVER_SLEEPS, layout::SENDER_SLEEPS];
    let slots = (0..2).flat_map(|slot| [0, 16, 24].map(|word| layout.slots + slot * 64 + word));
    let memory = Memory::of_words(layout.length, words.into_iter().chain(slots).map(|word| (word, 0)));
    Channel { pair: Pair::new(memory, &layout), memory }
}

impl Channel {
    fn send(&self, side: &mut SendSide, value: u64) {
        while self.pair.room(side) == 0 {
            assert!(self.pair.sleep(Bed::Sender, Deadline::Never, || self.pair.room(side) == 0));
        }
        let at = self.pair.slot(side.position) + 16;
        self.memory.write(at, &value.to_le_bytes());
        self.memory.write(at + 8, &value.to_le_bytes());
        self.pair.fill(side);
        self.pair.filled(side);
    }

    fn receive(&self, side: &mut ReceiveSide) -> u64 {
        while !self.pair.is_filled(side.position) {
            let still = || !self.pair.is_filled(side.position);
            assert!(self.pair.sleep(Bed::Receiver, Deadline::Never, still));
        }
        let mut value = [[0; 8]; 2];
        self.memory.read(self.pair.slot(side.position) + 16, value.as_flattened_mut());
        assert_eq!(value[0], value[1], "torn");
        side.position += 1;
        self.pair.taken(side);
        u64::from_le_bytes(value[0])
    }
}

/// More messages than slots: both sleep.
fn stream() {
    let channel = channel();
    let ours = channel.clone();
    let sender = spawn(move || {
        let mut side = ours.pair.send_side();
        (1..=3).for_each(|value| ours.send(&mut side, value));
    });
    let receiver = spawn(move || {
        let mut side = channel.pair.receive_side();
        (1..=3).for_each(|value| assert_eq!(channel.receive(&mut side), value));
    });
    all([sender, receiver]);
}

#[test]
fn loom_pair_keeps_order_and_wakes() {
    check(1000, stream);
}

#[test]
fn loom_pair_needs_its_orderings() {
    notices(Fault::Relaxed, stream);
}

#[test]
fn loom_pair_needs_its_fences() {
    notices(Fault::NoFence, stream);
}

#[test]
fn loom_pair_needs_its_wakes() {
    notices(Fault::NoWake, stream);
}

/// A sender dies; its successor goes on behind what it had sent, and wakes whom it had not.
#[test]
fn loom_pair_survives_a_sender() {
    check_each_death(1000, |mortal| {
        move || {
            let channel = channel();
            let (ours, mortal) = (channel.clone(), mortal.clone());
            let senders = spawn(move || {
                let sent = mortal.run(|| {
                    let mut side = ours.pair.send_side();
                    (1..=2).for_each(|value| ours.send(&mut side, value));
                });
                ours.pair.rouse(Bed::Receiver); // as whoever opens does
                ours.send(&mut ours.pair.send_side(), 3);
                sent
            });
            let receiver = spawn(move || {
                let mut side = channel.pair.receive_side();
                let mut values = vec![channel.receive(&mut side)];
                while values.last() != Some(&3) {
                    values.push(channel.receive(&mut side));
                }
                values
            });
            let sent = senders.join().unwrap().is_some();
            let values = receiver.join().unwrap();
            assert!(values == [1, 2, 3] || !sent && matches!(values[..], [1, 3] | [3]), "{values:?}");
        }
    });
}

/// A receiver dies; its successor goes on where it was: what is lost is at most what it had just taken.
#[test]
fn loom_pair_survives_a_receiver() {
    check_each_death(1000, |mortal| {
        move || {
            let channel = channel();
            let (ours, mortal) = (channel.clone(), mortal.clone());
            let sender = spawn(move || {
                let mut side = ours.pair.send_side();
                (1..=3).for_each(|value| ours.send(&mut side, value));
            });
            let receivers = spawn(move || {
                let first = mortal.run(|| channel.receive(&mut channel.pair.receive_side()));
                channel.pair.rouse(Bed::Sender); // as whoever opens does
                let mut side = channel.pair.receive_side();
                let mut values = Vec::from_iter(first);
                while values.last() != Some(&3) {
                    values.push(channel.receive(&mut side));
                }
                (first, values)
            });
            all([sender]);
            let (first, values) = receivers.join().unwrap();
            assert!(values == [1, 2, 3] || first.is_none() && values == [2, 3], "{values:?}");
        }
    });
}
