//! The roles that send and receive, each message carrying what shows that it is whole; and what shows that a
//! channel is whole again.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use narrows::channel::{self, Finding, Moment, status};
use narrows::{Address, Deadline, Error, Message, Receiver, Sender};

use super::ledger::{Ledger, Sign};
use super::peer::Random;

/// What one process sends or receives, and how.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) address: String,
    pub(crate) ledger: String,
    /// Its board in the ledger.
    pub(crate) board: u64,
    /// Its number as a sender; no two have the same.
    pub(crate) id: u32,
    pub(crate) style: Style,
    /// Messages that it sends; `None`: until told to stop.
    pub(crate) count: Option<u64>,
    pub(crate) seed: u64,
}

/// How messages are sent and received; each process mixes what is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    /// Sizes in bytes, at least [`HEADER`].
    pub(crate) sizes: Vec<usize>,
    /// Messages that one call may carry.
    pub(crate) batch: u64,
    pub(crate) in_place: bool,
    /// The channel has `ack=release`.
    pub(crate) leased: bool,
}

impl Part {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let sizes: Vec<String> = self.style.sizes.iter().map(usize::to_string).collect();
        let numbers = [
            self.board,
            self.id.into(),
            self.style.batch,
            self.style.in_place.into(),
            self.style.leased.into(),
            self.count.unwrap_or(u64::MAX),
            self.seed,
        ];
        let mut arguments = vec![self.address.clone(), self.ledger.clone(), sizes.join(" ")];
        arguments.extend(numbers.iter().map(u64::to_string));
        arguments
    }

    fn parse(arguments: &[&str]) -> Self {
        let number = |at: usize| arguments[at].parse::<u64>().unwrap();
        Self {
            address: arguments[0].to_owned(),
            ledger: arguments[1].to_owned(),
            board: number(3),
            id: number(4) as u32,
            style: Style {
                sizes: arguments[2].split(' ').map(|size| size.parse().unwrap()).collect(),
                batch: number(5),
                in_place: number(6) != 0,
                leased: number(7) != 0,
            },
            count: Some(number(8)).filter(|count| *count != u64::MAX),
            seed: number(9),
        }
    }
}

/// Number, sender and length, sequence number, checksum.
pub(crate) const HEADER: usize = 32;

/// A message that shows whether it is whole.
pub(crate) fn message(id: u64, sender: u32, sequence: u64, len: usize, into: &mut Vec<u8>) {
    let whose = u64::from(sender) | (len as u64) << 32;
    let key = checksum(id, whose, sequence);
    into.clear();
    for word in [id, whose, sequence, key] {
        into.extend_from_slice(&word.to_le_bytes());
    }
    let mut word = key;
    while into.len() < len {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(id);
        into.extend_from_slice(&word.to_le_bytes());
    }
    into.truncate(len);
}

fn checksum(id: u64, whose: u64, sequence: u64) -> u64 {
    [id, whose, sequence].iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

/// The number, sender and sequence of a message; fails where a byte of it is wrong.
pub(crate) fn check(bytes: &[u8]) -> (u64, u32, u64) {
    assert!(bytes.len() >= HEADER, "a message of {} bytes", bytes.len());
    let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap());
    let (id, sender, len, sequence) = (word(0), word(1) as u32, (word(1) >> 32) as usize, word(2));
    assert_eq!(len, bytes.len(), "message {id} of sender {sender} has another length");
    let mut whole = Vec::with_capacity(len + 8);
    message(id, sender, sequence, len, &mut whole);
    assert!(whole == bytes, "message {id} of sender {sender} is torn");
    (id, sender, sequence)
}

/// Sends until it has sent its count or is told to stop.
pub(crate) fn sender(arguments: &[&str]) {
    let part = Part::parse(arguments);
    let ledger = Ledger::open(&part.ledger);
    let mut random = Random::seeded(part.seed);
    let mut sender = Sender::<[u8]>::open(&*part.address).unwrap();
    let mut buffers: Vec<Vec<u8>> = (0..part.style.batch).map(|_| Vec::new()).collect();
    let mut sequence = 0;
    ledger.ready(part.board);
    super::peer::soon("the sign to begin", || ledger.is(Sign::Go));
    while !ledger.is(Sign::Stop) && part.count.is_none_or(|count| sequence < count) {
        let left = part.count.map_or(u64::MAX, |count| count - sequence);
        let count = (1 + random.below(part.style.batch)).min(left);
        let Some(first) = ledger.begin(part.id, count) else {
            ledger.beat(part.board, Instant::now());
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        for (at, buffer) in buffers.iter_mut().enumerate().take(count as usize) {
            let size = random.one_of(&part.style.sizes);
            message(first + at as u64, part.id, sequence + at as u64, size, buffer);
        }
        let began = Instant::now();
        if count > 1 {
            let messages = buffers[..count as usize].iter().map(Vec::as_slice);
            assert_eq!(sender.send_many(messages, Deadline::Never).unwrap() as u64, count);
        } else if part.style.in_place && random.below(2) == 0 {
            let mut loan = sender.loan(buffers[0].len()).unwrap();
            loan.write_at(0, &buffers[0]);
            sender.commit(loan).unwrap();
        } else {
            sender.send(&buffers[0]).unwrap();
        }
        ledger.done(first, count);
        ledger.beat(part.board, began);
        sequence += count;
    }
}

/// Receives until the end, once that was announced.
pub(crate) fn receiver(arguments: &[&str]) {
    let part = Part::parse(arguments);
    let ledger = Ledger::open(&part.ledger);
    let mut random = Random::seeded(part.seed);
    let mut receiver = Receiver::<[u8]>::open(&*part.address).unwrap();
    let mut places = vec![<[u8]>::empty(); part.style.batch as usize];
    let mut last: HashMap<u32, u64> = HashMap::new();
    let mut note = |bytes: &[u8], redelivered: bool| {
        let (id, sender, sequence) = check(bytes);
        if !redelivered {
            let earlier = last.insert(sender, sequence);
            assert!(earlier < Some(sequence), "{sequence} of sender {sender} came after {earlier:?}");
        }
        ledger.received(id, redelivered);
    };
    ledger.ready(part.board);
    super::peer::soon("the sign to begin", || ledger.is(Sign::Go));
    loop {
        let is_ending = ledger.is(Sign::Stop);
        let began = Instant::now();
        let more = match random.below(4) {
            0 if part.style.in_place => match receiver.recv_in_place(Deadline::Never).unwrap() {
                Some(guard) => {
                    note(&guard.to_owned(), guard.redelivered());
                    true
                }
                None => false,
            },
            1 if !part.style.leased => match receiver.recv_many(&mut places, Deadline::Never).unwrap() {
                0 => false,
                count => {
                    places[..count].iter().for_each(|place| note(place, false));
                    true
                }
            },
            2 if !part.style.leased => {
                let more = receiver.recv_into(&mut places[0], Deadline::Never).unwrap();
                if more {
                    note(&places[0], false);
                }
                more
            }
            _ => match receiver.recv().unwrap() {
                Some(received) => {
                    note(&received, received.redelivered());
                    true
                }
                None => false,
            },
        };
        if more {
            ledger.beat(part.board, began);
        } else if is_ending {
            break;
        } else {
            std::thread::yield_now(); // its one sender was killed, and the next is on its way
        }
    }
}

/// The value of an option that was fixed when the channel was made.
fn option(address: &Address, key: &str) -> String {
    let status = status(address).unwrap();
    status.options.into_iter().find(|(name, _)| name == key).unwrap().1
}

/// Sends messages of `size` bytes until there is no room, takes them all back, and gives how many there were.
pub(crate) fn room(address: &str, size: usize) -> u64 {
    let mut sender = Sender::<[u8]>::open(address).unwrap();
    let mut receiver = Receiver::<[u8]>::open(address).unwrap();
    let bytes = vec![7; size];
    let mut sent = 0;
    loop {
        match sender.send_by(&bytes, Deadline::Now) {
            Ok(()) => sent += 1,
            Err(Error::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for at in 0..sent {
        let received =
            receiver.recv_by(Deadline::Now).unwrap_or_else(|error| panic!("{at} of {sent}: {error}"));
        assert_eq!(received.unwrap().len(), size);
    }
    sent
}

/// Fails where a word of the channel's memory contradicts another, whoever is at work. Gives what awaits repair.
#[track_caller]
pub(crate) fn assert_sound(address: &str) -> Vec<Finding> {
    match channel::check(&address.parse().unwrap(), Moment::Any) {
        Ok(report) => {
            let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
            assert!(faults.is_empty(), "{address}, at rest: {}: {faults:#?}", report.at_rest);
            report.pending
        }
        Err(Error::NotFound { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Fails unless every slot, endpoint and place of a channel that nobody uses can be used.
#[track_caller]
pub(crate) fn assert_whole(address: &str) {
    assert_sound(address);
    let parsed: Address = address.parse().unwrap();
    let capacity: u64 = option(&parsed, "capacity").parse().unwrap();
    let participants: usize = option(&parsed, "participants").parse().unwrap();
    assert_eq!(room(address, HEADER), capacity, "slots of {address}");
    let found = status(&parsed.bare()).unwrap();
    assert_eq!((found.depth, found.senders, found.receivers), (0, 0, 0), "{found:?}");
    assert!(found.peers.is_empty(), "{:?}", found.peers);
    let pending = assert_sound(address);
    assert!(pending.iter().all(|finding| finding.fact == "spare"), "{pending:?}");
    if option(&parsed, "peers") == "one" {
        return;
    }
    let full = |error: &Error| matches!(error, Error::NoSpace { hint: Some(hint), .. } if hint.contains("participants="));
    let mut places = Vec::new();
    let refusal = loop {
        match Receiver::<[u8]>::open(address) {
            Ok(receiver) => places.push(receiver),
            Err(error) => break error,
        }
    };
    assert!(full(&refusal), "{refusal}");
    assert_eq!(places.len(), participants, "places of {address}");
    let mut endpoints = Vec::new();
    let refusal = loop {
        match places[0].try_clone() {
            Ok(receiver) => endpoints.push(receiver),
            Err(error) => break error,
        }
    };
    assert!(full(&refusal), "{refusal}");
    assert_eq!(places.len() + endpoints.len(), 4 * participants, "endpoints of {address}");
}

/// The longest operation of a process, as its board has it.
pub(crate) fn longest(ledger: &Ledger, board: u64) -> Duration {
    Duration::from_nanos(ledger.mark(board, super::ledger::Mark::Longest).load(SeqCst))
}
