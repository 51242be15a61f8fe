//! The processes that are scribbled on: they do everything that the library offers, each time by a deadline, and
//! count what came of it.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use narrows::{Address, Error, Receiver, Region, Sender, channel};

use super::board::{Board, Count, Sign};
use crate::random::Random;

/// What a victim mostly does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
    /// Opens, looks from outside, removes.
    Visitor,
    /// As a sender and a receiver, and dies now and then, so that there is something to repair.
    Mortal,
}

/// What an operation is called where it failed, by number.
pub(super) const OPERATIONS: &[&str] = &[
    "nothing",
    "opening",
    "closing",
    "cloning",
    "send",
    "send_many",
    "loan",
    "commit",
    "recv",
    "recv as a plain type",
    "recv_many",
    "recv_in_place",
    "reading a message in place",
    "releasing",
    "status",
    "remove",
    "reading a region",
    "check",
];

const SIZES: &[usize] = &[0, 1, 8, 48, 49, 64, 300, 4000, 5000, 70_000, 300_000];
const LONGEST: usize = 300_000;

/// Works until the end, or for a mortal until it dies.
pub(super) fn suffer(
    board: &Board,
    row: usize,
    role: Role,
    seed: u64,
    address: &dyn Fn(u64) -> String,
) -> Result<()> {
    let message = (0..LONGEST).map(|byte| byte as u8).collect();
    let schedule = File::open("/proc/self/schedstat")?;
    let mut victim =
        Victim { schedule, board, row, role, random: Random::seeded(seed), message, ends: Ends::default() };
    let mut rounds = 0;
    while board.get(Sign::Stop) == 0 {
        let epoch = board.get(Sign::Epoch);
        let address = address(epoch);
        let many = victim.random.below(100);
        for _ in 0..=many {
            if board.get(Sign::Epoch) != epoch {
                break;
            }
            victim.step(&address)?;
        }
        rounds += 1;
        if role == Role::Mortal && rounds == 20 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        }
        victim.close()?;
    }
    Ok(())
}

/// What a victim has open, and what it holds.
#[derive(Default)]
struct Ends {
    sender: Option<Sender<[u8]>>,
    receiver: Option<Receiver<[u8]>>,
    typed: Option<Receiver<[u64; 6]>>,
    copied: Vec<channel::Received<[u8]>>,
    in_place: Vec<channel::InPlace<[u8]>>,
    loans: Vec<channel::Loan<[u8]>>,
}

struct Victim<'a> {
    board: &'a Board,
    row: usize,
    role: Role,
    random: Random,
    message: Vec<u8>,
    ends: Ends,
    /// `/proc/self/schedstat`: time on a processor, time waiting for one.
    schedule: File,
}

impl Victim<'_> {
    fn step(&mut self, address: &str) -> Result<()> {
        let sends = match self.role {
            Role::Sender => true,
            Role::Receiver => false,
            Role::Visitor => return self.visit(address),
            Role::Mortal => self.random.once_in(2),
        };
        let went_well = if sends { self.send(address)? } else { self.receive(address)? };
        // What is corrupt stays so, mostly: half of the time it is opened anew.
        if !went_well && self.random.once_in(2) {
            self.close()?;
        }
        Ok(())
    }

    /// One operation, by a deadline that it gets; counted by what came of it.
    fn act<T>(
        &mut self,
        operation: &str,
        act: impl FnOnce(&mut Self, Duration) -> Result<T, Error>,
    ) -> Result<Option<T>> {
        let number = OPERATIONS.iter().position(|known| *known == operation).unwrap_or(0) as u64;
        self.board.word(self.row, Count::Doing).store(number, Relaxed);
        let bound = Duration::from_millis(self.random.one_of(&[0, 0, 1, 3, 10]));
        let (start, queued) = (Instant::now(), self.queued());
        let outcome = act(self, bound);
        let queued = self.queued().saturating_sub(queued);
        let beyond = start.elapsed().saturating_sub(bound).saturating_sub(queued).as_nanos() as u64;
        if beyond > self.board.count(self.row, Count::Longest) {
            self.board.word(self.row, Count::Longest).store(beyond, Relaxed);
            self.board.word(self.row, Count::LongestDoing).store(number, Relaxed);
        }
        self.board.add(self.row, Count::Ended, 1);
        let (count, value) = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(Error::Corrupt { .. }) => (Count::Corrupt, None),
            Err(Error::TimedOut { .. } | Error::Full { .. }) => (Count::Late, None),
            Err(
                Error::Busy { .. }
                | Error::NoSpace { .. }
                | Error::NotFound { .. }
                | Error::WrongKind { .. }
                | Error::Mismatch { .. }
                | Error::TooLarge { .. },
            ) => (Count::Refused, None),
            Err(other) => bail!("{operation} ended by what nobody promised: {other}"),
        };
        self.board.add(self.row, count, 1);
        Ok(value)
    }

    /// How long this process has waited for a processor by now.
    fn queued(&self) -> Duration {
        let mut text = [0; 64];
        let len = self.schedule.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..len]);
        let waited = text.split(' ').nth(1).and_then(|waited| waited.parse().ok());
        waited.map_or(Duration::ZERO, Duration::from_nanos)
    }

    fn close(&mut self) -> Result<()> {
        self.act("closing", |this, _| {
            this.ends = Ends::default();
            Ok(())
        })
        .map(drop)
    }

    fn send(&mut self, address: &str) -> Result<bool> {
        let Some(mut sender) = self.sender(address)? else { return Ok(false) };
        let size = self.random.one_of(SIZES);
        let message = std::mem::take(&mut self.message);
        let sent = match self.random.below(8) {
            0 => self.act("send_many", |_, bound| {
                sender.send_many((0..size % 40).map(|len| &message[..len * 8]), bound)
            })?,
            1 | 2 => self.loan(&mut sender, &message[..size])?,
            _ => self.act("send", |_, bound| sender.send_by(&message[..size], bound))?.map(|()| 1),
        };
        self.message = message;
        self.ends.sender = Some(sender);
        Ok(sent.is_some())
    }

    fn loan(&mut self, sender: &mut Sender<[u8]>, message: &[u8]) -> Result<Option<usize>> {
        let loaned = self.act("loan", |_, bound| sender.loan_by(message.len(), bound))?;
        let Some(mut loan) = loaned else { return Ok(None) };
        loan.write_at(0, message);
        if self.random.once_in(4) {
            self.ends.loans.push(loan);
            self.ends.loans.truncate(3);
            return Ok(Some(0));
        }
        let committed = self.act("commit", |_, bound| Ok::<_, Error>(sender.commit_by(loan, bound)?))?;
        Ok(committed.map(|()| 1))
    }

    fn sender(&mut self, address: &str) -> Result<Option<Sender<[u8]>>> {
        match self.ends.sender.take() {
            Some(sender) if self.random.once_in(32) => {
                let cloned = self.act("cloning", |_, _| sender.try_clone())?;
                Ok(Some(cloned.unwrap_or(sender)))
            }
            Some(sender) => Ok(Some(sender)),
            None => self.act("opening", |_, bound| Sender::open_by(address, bound)),
        }
    }

    fn receive(&mut self, address: &str) -> Result<bool> {
        if self.random.once_in(16) {
            return self.receive_plain(address);
        }
        let Some(mut receiver) = self.receiver(address)? else { return Ok(false) };
        let received = match self.random.below(6) {
            0 => {
                let mut places = vec![narrows::message::Bytes::default(); 20];
                let came = self.act("recv_many", |_, bound| receiver.recv_many(&mut places, bound))?;
                black_box(places.iter().map(|place| sum(place)).max());
                came
            }
            1 | 2 => self.receive_in_place(&mut receiver)?,
            _ => self.act("recv", |_, bound| receiver.recv_by(bound))?.map(|came| {
                let count = usize::from(came.is_some());
                if let Some(received) = came {
                    black_box(sum(&received));
                    self.ends.copied.push(received);
                }
                count
            }),
        };
        black_box(receiver.died());
        if self.ends.copied.len() + self.ends.in_place.len() > 4 {
            self.act("releasing", |this, _| {
                this.ends.copied.clear();
                this.ends.in_place.clear();
                Ok(())
            })?;
        }
        self.board.add(self.row, Count::Received, received.unwrap_or(0) as u64);
        self.ends.receiver = Some(receiver);
        Ok(received.is_some())
    }

    fn receive_in_place(&mut self, receiver: &mut Receiver<[u8]>) -> Result<Option<usize>> {
        let Some(came) = self.act("recv_in_place", |_, bound| receiver.recv_in_place(bound))? else {
            return Ok(None);
        };
        let Some(held) = came else { return Ok(Some(0)) };
        self.act("reading a message in place", |this, _| {
            let mut end = [0; 16];
            let len = held.len().min(16);
            held.read_at(held.len() - len, &mut end[..len]);
            if this.random.once_in(4) {
                black_box(sum(&held.to_owned()));
            }
            this.ends.in_place.push(held);
            Ok(())
        })?;
        Ok(Some(1))
    }

    fn receiver(&mut self, address: &str) -> Result<Option<Receiver<[u8]>>> {
        match self.ends.receiver.take() {
            Some(receiver) if self.random.once_in(32) => {
                let cloned = self.act("cloning", |_, _| receiver.try_clone())?;
                Ok(Some(cloned.unwrap_or(receiver)))
            }
            Some(receiver) => Ok(Some(receiver)),
            None => self.act("opening", |_, bound| Receiver::open_by(address, bound)),
        }
    }

    fn receive_plain(&mut self, address: &str) -> Result<bool> {
        let mut receiver = match self.ends.typed.take() {
            Some(receiver) => receiver,
            None => match self.act("opening", |_, bound| Receiver::open_by(address, bound))? {
                Some(receiver) => receiver,
                None => return Ok(false),
            },
        };
        let came = self.act("recv as a plain type", |_, bound| {
            Ok(receiver.recv_by(bound)?.map(|received| black_box(received.iter().sum::<u64>() as u8)))
        })?;
        self.board.add(self.row, Count::Received, u64::from(came.flatten().is_some()));
        self.ends.typed = Some(receiver);
        Ok(came.is_some())
    }

    fn visit(&mut self, address: &str) -> Result<()> {
        let bare = address.parse::<Address>()?.bare();
        match self.random.below(16) {
            0..2 => self.act("check", |_, _| channel::check(&bare, channel::Moment::Any))?.map(|report| {
                black_box(report.faults.len());
            }),
            2..6 => self.act("status", |_, _| channel::status(&bare))?.map(|status| {
                black_box(status.peers.len());
            }),
            6..9 => self.act("reading a region", |this, _| {
                let region = Region::open_read_only(bare.clone())?;
                let mut bytes = [0; 256];
                let end = region.len().saturating_sub(256).min(1 << 18);
                region.read_at(this.random.below(end + 1), &mut bytes)?;
                black_box(sum(&bytes));
                Ok(())
            })?,
            9 => self.act("remove", |_, _| channel::remove(&bare))?,
            10..13 => self.send(address).map(|_| None::<()>)?,
            _ => self.receive(address).map(|_| None::<()>)?,
        };
        if self.random.once_in(3) { self.close() } else { Ok(()) }
    }
}

/// Every byte is looked at: the checker of addresses looks, too.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A victim that does what none may, to see that it is noticed.
pub(super) fn misbehave(board: &Board, row: usize, how: &str) -> Result<()> {
    board.word(row, Count::Doing).store(1, Relaxed);
    match how {
        "dies" => std::process::abort(),
        "panics" => panic!("as asked"),
        "hangs" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "hoards" => {
            black_box(vec![1_u8; 2 << 30]);
            Ok(())
        }
        _ => bail!("{how}?"),
    }
}
