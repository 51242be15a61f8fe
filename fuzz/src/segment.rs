//! A segment that somebody writes into, and everything that reads one.
//!
//! The input chooses a kind of channel, then one act after the other: what a user may do, and words written over
//! the segment from outside. Whatever was written, each act ends in time, with success or with an error that says
//! what is wrong. As long as nothing was, messages come whole and in order, and the checker finds no fault.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use narrows::channel::{self, InPlace, Loan, Moment, Received, Uncommitted};
use narrows::{Address, Deadline, Error, Receiver, Region, Result, Scheme, Sender};
use rustix::fs::{FallocateFlags, fallocate, fstat};

use super::input::Input;
use super::places::Places;
use super::values::edit;

/// The kinds of channels: small, so that a few acts reach every limit.
const KINDS: [&str; 8] = [
    "capacity=4",
    "peers=one,capacity=4",
    "capacity=4,ack=release",
    "peers=one,capacity=4,ack=release",
    "capacity=1",
    "peers=one,capacity=3,slot_bytes=300,fence=everyone",
    "capacity=8,wait=sleep",
    "peers=one,capacity=2,wait=sleep",
];
/// Sizes of messages: in a slot, in a chunk, of another class, of one that fills the pool, too large.
const SIZES: [usize; 12] = [8, 0, 47, 48, 49, 256, 257, 300, 4096, 20_000, 70_000, 1 << 20];
const MEMORY_MAX: usize = 256 << 10;
/// How long an act may wait where the input does not say *now*.
const WAIT: Duration = Duration::from_micros(20);
/// So many acts; more find nothing that fewer do not.
const ACTS: usize = 64;
/// So many handles and messages of a kind at a time.
const HANDS: usize = 3;
/// What no descriptor's number reaches unless descriptors are lost.
const DESCRIPTORS: i32 = 200;
/// No message is longer than the file.
const FILE: usize = 80 << 20;

/// Runs the acts that the input chooses.
///
/// # Panics
/// Where a promise is broken.
pub fn judge(input: &[u8]) {
    let mut input = Input::new(input);
    let mut stage = Stage::new(input.below(KINDS.len())).expect("a whole channel can be opened");
    for _ in 0..ACTS {
        if input.is_empty() {
            break;
        }
        if let Err(error) = stage.act(&mut input) {
            stage.judge(&error);
        }
    }
}

/// A channel of one kind, made once: it costs more than what is done with it.
struct Ground {
    address: Address,
    region: Region,
    places: Places,
    /// Its bytes up to the first large message, as they were when everybody had left.
    whole: Vec<u8>,
}

impl Ground {
    fn of(kind: usize) -> &'static Self {
        static GROUNDS: [OnceLock<Ground>; KINDS.len()] = [const { OnceLock::new() }; KINDS.len()];
        GROUNDS[kind].get_or_init(|| Self::new(KINDS[kind]).expect("a channel can be made"))
    }

    fn new(kind: &str) -> Result<Self> {
        let address = format!("memfd:fuzz,participants=6,memory_max={MEMORY_MAX},{kind}");
        let sender = Sender::<[u8]>::open(address)?;
        let region = Region::from_descriptor(copy(sender.descriptor()?))?;
        drop(sender);
        let address = Address::new(Scheme::Fd, region.as_fd().as_raw_fd().to_string())?;
        let places = Places::of(&region)?;
        let mut whole = vec![0; places.large as usize];
        region.read_at(0, &mut whole)?;
        Ok(Self { address, region, places, whole })
    }

    /// Makes it what it was.
    fn restore(&self) -> Result<()> {
        let (beyond, file) = (self.whole.len() as u64, self.region.as_fd());
        if fstat(file).is_ok_and(|stat| stat.st_blocks as u64 * 512 > beyond) {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, punch, beyond, self.region.len() - beyond).expect("memory can have holes");
        }
        self.region.write_at(0, &self.whole)
    }
}

fn copy(descriptor: impl AsFd) -> OwnedFd {
    let copy = descriptor.as_fd().try_clone_to_owned().expect("a descriptor is left");
    assert!(copy.as_raw_fd() < DESCRIPTORS, "descriptors are lost");
    copy
}

struct Stage {
    ground: &'static Ground,
    /// Whether words were written from outside.
    is_edited: bool,
    /// Whether it was checked: once is enough, and costs more than all else.
    is_checked: bool,
    sent: u64,
    received: u64,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    typed: Option<Receiver<u64>>,
    copied: Vec<Received>,
    in_place: Vec<InPlace>,
    loans: Vec<Loan>,
}

impl Stage {
    /// A channel of that kind, with a sender and a receiver.
    fn new(kind: usize) -> Result<Self> {
        let ground = Ground::of(kind);
        ground.restore()?;
        let sender = Sender::from_descriptor(copy(&ground.region))?;
        Ok(Self {
            ground,
            is_edited: false,
            is_checked: false,
            sent: 0,
            received: 0,
            receivers: vec![sender.receiver()?],
            senders: vec![sender],
            typed: None,
            copied: Vec::new(),
            in_place: Vec::new(),
            loans: Vec::new(),
        })
    }

    /// One act; what follows its number in the input says how.
    fn act(&mut self, input: &mut Input) -> Result<()> {
        let act = input.byte();
        let until = if act < 0xe0 { Deadline::Now } else { WAIT.into() };
        match act & 0x1f {
            0 => self.send(input, until),
            1 => self.send_many(input, until),
            2 => self.loan(input, until),
            3 => self.commit(input, until),
            4 => self.receive(input, until),
            5 => self.receive_many(input, until),
            6 => self.receive_in_place(input, until),
            7 => self.receive_typed(until),
            8 => self.release(input),
            9 => self.open_sender(input),
            10 => self.open_receiver(input),
            11 => self.close_one(input),
            12 => self.look(input),
            13 => self.remove(),
            _ => {
                self.is_edited = true;
                edit(&self.ground.region, &self.ground.places, input)
            }
        }
    }

    /// The next message: its number, and bytes that follow from it.
    fn compose(&mut self, input: &mut Input) -> Vec<u8> {
        let size = input.one_of(&SIZES);
        let mut message = vec![self.sent as u8; size];
        if let Some(number) = message.first_chunk_mut() {
            self.sent += 1;
            *number = self.sent.to_le_bytes();
        }
        message
    }

    /// A message came. In a segment that nobody wrote into it is whole and the next.
    fn take(&mut self, message: &[u8]) {
        assert!(message.len() <= FILE, "a message of {} bytes", message.len());
        if self.is_edited {
            return;
        }
        assert!(SIZES.contains(&message.len()), "a message of {} bytes", message.len());
        if let Some((number, rest)) = message.split_first_chunk() {
            let number = u64::from_le_bytes(*number);
            assert!(self.received < number && number <= self.sent, "{number} after {}", self.received);
            self.received = number;
            assert!(rest.iter().all(|byte| *byte == (number - 1) as u8), "message {number} is torn");
        }
    }

    fn send(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let message = self.compose(input);
        let Some(sender) = pick(&mut self.senders, input) else { return Ok(()) };
        sender.send_by(&message, until)
    }

    fn send_many(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let messages: Vec<Vec<u8>> = (0..input.below(6)).map(|_| self.compose(input)).collect();
        let Some(sender) = pick(&mut self.senders, input) else { return Ok(()) };
        let sent = sender.send_many(messages.iter().map(Vec::as_slice), until)?;
        assert!(sent <= messages.len());
        Ok(())
    }

    fn loan(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let size = input.one_of(&SIZES);
        let Some(sender) = pick(&mut self.senders, input) else { return Ok(()) };
        let loan = sender.loan_by(size, until)?;
        assert_eq!(loan.len(), size);
        keep(&mut self.loans, loan);
        Ok(())
    }

    fn commit(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let (Some(mut loan), Some(sender)) = (self.loans.pop(), pick(&mut self.senders, input)) else {
            return Ok(());
        };
        let mut message = vec![self.sent as u8; loan.len()];
        if let Some(number) = message.first_chunk_mut() {
            self.sent += 1;
            *number = self.sent.to_le_bytes();
        }
        loan.write(&message);
        sender.commit_by(loan, until).map_err(|Uncommitted { loan, error }| {
            keep(&mut self.loans, loan);
            error
        })
    }

    fn receive(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let Some(receiver) = pick(&mut self.receivers, input) else { return Ok(()) };
        if let Some(message) = receiver.recv_by(until)? {
            self.take(&message);
            keep(&mut self.copied, message);
        }
        Ok(())
    }

    fn receive_many(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let mut places = vec![Default::default(); input.below(6)];
        let Some(receiver) = pick(&mut self.receivers, input) else { return Ok(()) };
        let count = receiver.recv_many(&mut places, until)?;
        places[..count].iter().for_each(|message| self.take(message));
        Ok(())
    }

    fn receive_in_place(&mut self, input: &mut Input, until: Deadline) -> Result<()> {
        let Some(receiver) = pick(&mut self.receivers, input) else { return Ok(()) };
        if let Some(message) = receiver.recv_in_place(until)? {
            self.take(&message.to_owned());
            keep(&mut self.in_place, message);
        }
        Ok(())
    }

    /// By one whose messages have eight bytes: others are refused, and consumed.
    fn receive_typed(&mut self, until: Deadline) -> Result<()> {
        if self.typed.is_none() {
            self.receivers.clear(); // one to one there is room for one
            self.typed = Some(Receiver::open_by(self.ground.address.clone(), Deadline::Now)?);
        }
        let came = self.typed.as_mut().map_or(Ok(None), |receiver| receiver.recv_by(until));
        match came {
            Ok(Some(number)) => self.take(&number.to_le_bytes()),
            Ok(None) | Err(Error::Mismatch { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn release(&mut self, input: &mut Input) -> Result<()> {
        match input.below(4) {
            0 => drop(self.copied.pop()),
            1 => drop(self.in_place.pop()),
            2 => drop(self.loans.pop()),
            _ => self.typed = None,
        }
        Ok(())
    }

    fn open_sender(&mut self, input: &mut Input) -> Result<()> {
        let sender = match (input.below(4), pick(&mut self.senders, input), pick(&mut self.receivers, input))
        {
            (0, Some(sender), _) => sender.try_clone(),
            (1, _, Some(receiver)) => receiver.sender(),
            (2, ..) => Sender::from_descriptor(copy(&self.ground.region)),
            _ => Sender::open_by(self.ground.address.clone(), Deadline::Now),
        };
        keep(&mut self.senders, sender?);
        Ok(())
    }

    fn open_receiver(&mut self, input: &mut Input) -> Result<()> {
        let receiver =
            match (input.below(4), pick(&mut self.receivers, input), pick(&mut self.senders, input)) {
                (0, Some(receiver), _) => receiver.try_clone(),
                (1, _, Some(sender)) => sender.receiver(),
                (2, ..) => Receiver::from_descriptor(copy(&self.ground.region)),
                _ => Receiver::open_by(self.ground.address.clone(), Deadline::Now),
            };
        keep(&mut self.receivers, receiver?);
        Ok(())
    }

    fn close_one(&mut self, input: &mut Input) -> Result<()> {
        match input.below(3) {
            0 => drop(self.senders.pop()),
            1 => drop(self.receivers.pop()),
            _ => self.typed = None,
        }
        Ok(())
    }

    /// Looks from outside: the status, and what the checker says.
    fn look(&mut self, input: &mut Input) -> Result<()> {
        if input.below(8) != 1 || self.is_checked {
            let status = channel::status(&self.ground.address)?;
            assert!(status.depth <= status.capacity && status.bytes <= FILE as u64, "{status:?}");
            return Ok(());
        }
        let report =
            channel::check(&self.ground.address, if self.is_edited { Moment::Any } else { Moment::Rest })?;
        assert!(self.is_edited || report.faults.is_empty(), "{:?}", report.faults);
        Ok(())
    }

    /// It has no name: what can be taken away is taken from the next who opens it.
    fn remove(&mut self) -> Result<()> {
        self.is_edited = true;
        channel::remove(&self.ground.address)
    }

    /// Errors are those that a caller can do something about.
    fn judge(&self, error: &Error) {
        let text = error.to_string();
        assert!(!text.is_empty() && !matches!(error, Error::Os { .. } | Error::Forked { .. }), "{error:?}");
        let is_honest = matches!(
            error,
            Error::Full { .. }
                | Error::TimedOut { .. }
                | Error::TooLarge { .. }
                | Error::NoSpace { .. }
                | Error::Busy { .. }
                | Error::Unsupported { .. }
        );
        assert!(self.is_edited || is_honest, "{error:?}");
    }
}

/// One of some, if there is any.
fn pick<'a, T>(some: &'a mut [T], input: &mut Input) -> Option<&'a mut T> {
    match some.len() {
        0 => None,
        len => Some(&mut some[input.below(len)]),
    }
}

/// Keeps one more, and lets the oldest go where hands are full.
fn keep<T>(some: &mut Vec<T>, one: T) {
    if some.len() == HANDS {
        some.remove(0);
    }
    some.push(one);
}
