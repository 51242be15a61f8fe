//! The ring, one to one.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::shared::layout::{self, Config, Fence, Layout, Peers, SLOT_MIN};
use crate::shared::memory::Memory;
use crate::shared::pair::{Bed, Pair, ReceiveSide, SendSide};

use super::hands::Hands;
use super::{
    Mortal, all, check, check_each_death, check_each_death_in_short, fails, layout as small, notices,
};

#[derive(Clone)]
struct Channel {
    memory: Memory,
    pair: Pair,
    hands: Hands,
}

fn channel(slots: u64, fence: Fence) -> Channel {
    let layout = small(Peers::One, slots, slots);
    let layout = Layout { config: Config { fence, ..layout.config }, ..layout };
    let words =
        [layout::TAIL, layout::HEAD, layout::SHARED_HEAD, layout::RECEIVER_SLEEPS, layout::SENDER_SLEEPS];
    let slots = (0..slots).flat_map(|slot| [0, 16, 24].map(|word| layout.slots + slot * SLOT_MIN + word));
    let memory = Memory::of_words(layout.length, words.into_iter().chain(slots).map(|word| (word, 0)));
    Channel { pair: Pair::new(memory, &layout), memory, hands: Hands::new() }
}

impl Channel {
    fn send(&self, side: &mut SendSide, value: u64) {
        while self.pair.room(side) == 0 {
            let still = || self.pair.exact_room(side) == 0;
            assert!(self.pair.sleep(Bed::Sender, Deadline::Never, still));
        }
        self.fill(side, value);
        self.pair.filled(side);
    }

    fn fill(&self, side: &mut SendSide, value: u64) {
        let at = self.pair.slot(side.position);
        self.hands.take(at);
        self.memory.write(at + 16, &value.to_le_bytes());
        self.memory.write(at + 24, &value.to_le_bytes());
        self.pair.fill(side);
    }

    fn read(&self, position: u64) -> u64 {
        let mut value = [[0; 8]; 2];
        let at = self.pair.slot(position);
        self.memory.read(at + 16, value.as_flattened_mut());
        assert_eq!(value[0], value[1], "torn");
        self.hands.give(at, self.hands.done());
        u64::from_le_bytes(value[0])
    }

    fn receive(&self, side: &mut ReceiveSide) -> u64 {
        while !self.pair.is_filled(side.position) {
            let still = || !self.pair.is_filled(side.position);
            assert!(self.pair.sleep(Bed::Receiver, Deadline::Never, still));
        }
        let value = self.read(side.position);
        side.position += 1;
        self.pair.taken(side);
        value
    }

    /// All that is there, taken with one store.
    fn sweep(&self, side: &mut ReceiveSide) -> Vec<u64> {
        let mut values = vec![];
        while self.pair.is_filled(side.position) {
            values.push(self.read(side.position));
            side.position += 1;
        }
        self.pair.taken(side);
        values
    }

    /// Receives up to and with `last`.
    fn receive_to(&self, last: u64, side: &mut ReceiveSide) -> Vec<u64> {
        let mut values = vec![self.receive(side)];
        while values.last() != Some(&last) {
            values.push(self.receive(side));
        }
        values
    }
}

/// More messages than slots: both sleep.
fn stream(fence: Fence) -> impl Fn() {
    move || {
        let channel = channel(2, fence);
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
}

#[test]
fn loom_pair_keeps_order_and_wakes() {
    check(1000, stream(Fence::Sleeper));
}

#[test]
fn loom_pair_with_fences_keeps_order_and_wakes() {
    check(1000, stream(Fence::Everyone));
}

#[test]
fn loom_pair_needs_its_orderings() {
    notices(Fault::Relaxed, stream(Fence::Sleeper));
}

#[test]
fn loom_pair_needs_its_fences() {
    notices(Fault::NoFence, stream(Fence::Sleeper));
    notices(Fault::NoFence, stream(Fence::Everyone));
}

#[test]
fn loom_pair_needs_its_wakes() {
    notices(Fault::NoWake, stream(Fence::Sleeper));
}

/// Without membarrier(2), who was made for it misses a sleeper; who was made without it does not.
#[test]
fn loom_pair_needs_its_barrier() {
    notices(Fault::NoBarrier, stream(Fence::Sleeper));
    super::on(Fault::NoBarrier, || check(1000, stream(Fence::Everyone)));
}

/// A ring that is full, and a receiver that takes one message, of which it says nothing in the shared head yet.
/// `exact`: before it sleeps the sender asks for the exact one.
fn full(exact: bool) -> impl Fn() {
    move || {
        let channel = channel(8, Fence::Sleeper);
        let mut side = channel.pair.send_side();
        (0..8).for_each(|value| channel.send(&mut side, value));
        let (ours, theirs) = (channel.clone(), channel.clone());
        let sender = spawn(move || {
            if exact {
                return ours.send(&mut side, 8);
            }
            while ours.pair.room(&mut side) == 0 {
                assert!(ours.pair.sleep(Bed::Sender, Deadline::Never, || ours.pair.room(&mut side) == 0));
            }
        });
        let receiver = spawn(move || assert_eq!(theirs.receive(&mut theirs.pair.receive_side()), 0));
        all([sender, receiver]);
        if exact {
            assert_eq!(channel.sweep(&mut channel.pair.receive_side()), Vec::from_iter(1..=8));
        }
    }
}

#[test]
fn loom_pair_asks_for_the_exact_head() {
    check(20, full(true));
}

#[test]
fn loom_pair_needs_the_exact_head() {
    fails(full(false));
}

/// A sender dies; its successor goes on behind what it had sent, and wakes whom it had not.
fn sender_dies(fence: Fence, mortal: Mortal) -> impl Fn() {
    move || {
        let channel = channel(2, fence);
        let (ours, mortal) = (channel.clone(), mortal.clone());
        let senders = spawn(move || {
            let sent = mortal.run(|| {
                let mut side = ours.pair.send_side();
                (1..=3).for_each(|value| ours.send(&mut side, value));
            });
            ours.pair.rouse(Bed::Receiver); // as whoever opens does
            ours.send(&mut ours.pair.send_side(), 4);
            sent
        });
        let receiver = spawn(move || channel.receive_to(4, &mut channel.pair.receive_side()));
        let sent = senders.join().unwrap().is_some();
        let values = receiver.join().unwrap();
        let (first, count) = (&values[..values.len() - 1], values.len() as u64 - 1);
        assert!(first.iter().copied().eq(1..=count) && (!sent || count == 3), "{values:?}");
    }
}

#[test]
fn loom_pair_survives_a_sender() {
    check_each_death(1000, |mortal| sender_dies(Fence::Sleeper, mortal));
}

#[test]
fn loom_pair_with_fences_survives_a_sender() {
    check_each_death_in_short(1000, |mortal| sender_dies(Fence::Everyone, mortal));
}

/// A sender dies in a batch of which it has published nothing but stamps: they count, and its successor goes on
/// behind them.
#[test]
fn loom_pair_survives_a_sender_of_a_batch() {
    check_each_death(1000, |mortal| {
        move || {
            let channel = channel(4, Fence::Sleeper);
            let (ours, mortal) = (channel.clone(), mortal.clone());
            let senders = spawn(move || {
                let sent = mortal.run(|| {
                    let mut side = ours.pair.send_side();
                    (1..=2).for_each(|value| ours.fill(&mut side, value));
                    ours.pair.filled(&side);
                });
                ours.pair.rouse(Bed::Receiver);
                ours.send(&mut ours.pair.send_side(), 3);
                sent
            });
            let receiver = spawn(move || {
                let mut side = channel.pair.receive_side();
                let mut values = channel.sweep(&mut side);
                if values.last() != Some(&3) {
                    values.extend(channel.receive_to(3, &mut side));
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
fn receiver_dies(fence: Fence, mortal: Mortal) -> impl Fn() {
    move || {
        let channel = channel(2, fence);
        let (ours, mortal) = (channel.clone(), mortal.clone());
        let sender = spawn(move || {
            let mut side = ours.pair.send_side();
            (1..=3).for_each(|value| ours.send(&mut side, value));
        });
        let receivers = spawn(move || {
            let first = mortal.run(|| channel.receive(&mut channel.pair.receive_side()));
            channel.pair.rouse(Bed::Sender); // as whoever opens does
            let mut values = Vec::from_iter(first);
            let mut side = channel.pair.receive_side();
            let published = channel.memory.word(layout::SHARED_HEAD).load(Relaxed);
            assert_eq!(published, side.position, "the sender knows of no room");
            values.extend(channel.receive_to(3, &mut side));
            (first, values)
        });
        all([sender]);
        let (first, values) = receivers.join().unwrap();
        assert!(values == [1, 2, 3] || first.is_none() && values == [2, 3], "{values:?}");
    }
}

#[test]
fn loom_pair_survives_a_receiver() {
    check_each_death(1000, |mortal| receiver_dies(Fence::Sleeper, mortal));
}

/// Whoever opens in place of the dead wakes the other side, or nobody does.
#[test]
fn loom_pair_needs_its_successor_to_wake() {
    fails(|| {
        let channel = channel(2, Fence::Sleeper);
        let ours = channel.clone();
        let senders = spawn(move || {
            let mut side = ours.pair.send_side();
            ours.fill(&mut side, 1); // and dies
        });
        let receiver = spawn(move || channel.receive(&mut channel.pair.receive_side()));
        all([senders]);
        assert_eq!(receiver.join().unwrap(), 1);
    });
}
