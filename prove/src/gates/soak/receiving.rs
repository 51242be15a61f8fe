//! A receiver of the soak.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use anyhow::{Context, Result};
use narrows::channel::{InPlace, Received};
use narrows::message::Bytes;
use narrows::{Deadline, Error, Message, Receiver};

use super::ledger::{Count, Mark};
use super::message::{Content, examine};
use super::part::{Desk, opened};

const PATIENCE: Duration = Duration::from_millis(100);
/// Receives between two rests, at most.
const BURST: u64 = 300;
/// Messages that it keeps while it receives others, at most.
const KEPT: usize = 3;

/// Receives until it is to leave, or nothing will come any more.
pub(super) fn run(desk: Desk<'_>) -> Result<()> {
    let places = vec![<[u8]>::empty(); desk.part.style.batch as usize];
    let mut reader = Reader { desk, last: HashMap::new(), places };
    while !reader.desk.is_leaving() {
        let receiver = Receiver::<[u8]>::open_by(&*reader.desk.part.address, PATIENCE);
        let Some(mut receiver) = opened(&mut reader.desk, receiver)? else { continue };
        if reader.visit(&mut receiver)? {
            break;
        }
    }
    Ok(())
}

struct Reader<'a> {
    desk: Desk<'a>,
    /// The last of each sender.
    last: HashMap<u32, u64>,
    places: Vec<Bytes>,
}

/// Messages that are kept for a while.
#[derive(Default)]
struct Kept {
    owned: Vec<Received>,
    in_place: Vec<InPlace>,
}

enum Step {
    Received,
    Nothing,
    End,
}

impl Reader<'_> {
    /// Receives with one handle; whether all is over.
    fn visit(&mut self, receiver: &mut Receiver) -> Result<bool> {
        let mut kept = Kept::default();
        let mut left = if self.desk.part.style.visits { self.desk.random.below(60) } else { u64::MAX };
        while left > 0 && !self.desk.is_leaving() {
            left -= 1;
            let is_ending = self.desk.is_ending();
            let began = self.desk.began();
            let step = self.step(receiver, &mut kept)?;
            self.hold(0);
            match step {
                Step::Received => self.desk.beat(began),
                Step::Nothing => self.desk.beat(None),
                Step::End if is_ending => return Ok(true),
                // All senders are dead, and the next are on their way.
                Step::End => self.desk.pause(200),
            }
            if self.desk.random.once_in(BURST) {
                self.desk.pause(3000);
                self.desk.wander()?;
            }
        }
        Ok(false)
    }

    fn step(&mut self, receiver: &mut Receiver, kept: &mut Kept) -> Result<Step> {
        if kept.owned.len() + kept.in_place.len() > self.desk.random.below(KEPT as u64 + 1) as usize {
            *kept = Kept::default();
        }
        let is_keeping = !kept.owned.is_empty() || !kept.in_place.is_empty();
        let deadline = self.deadline(is_keeping);
        let (leased, in_place) = (self.desk.part.style.leased, self.desk.part.style.in_place);
        let result = match self.desk.random.below(4) {
            0 if in_place => {
                self.hold(1);
                receiver.recv_in_place(deadline).map(|came| {
                    came.map(|guard| {
                        self.note(&guard.to_owned(), guard.redelivered());
                        kept.in_place.push(guard);
                    })
                })
            }
            1 if !leased => {
                self.hold(self.places.len() as u64);
                receiver.recv_many(&mut self.places, deadline).map(|count| {
                    self.hold(count as u64);
                    let places = std::mem::take(&mut self.places);
                    for (at, place) in places[..count].iter().enumerate() {
                        self.note(place, false);
                        self.hold((count - at - 1) as u64);
                    }
                    self.places = places;
                    (count > 0).then_some(())
                })
            }
            2 if !leased => {
                self.hold(1);
                let mut places = std::mem::take(&mut self.places);
                let result = receiver
                    .recv_into(&mut places[0], deadline)
                    .map(|came| came.then(|| self.note(&places[0], false)));
                self.places = places;
                result
            }
            _ => {
                self.hold(1);
                receiver.recv_by(deadline).map(|came| {
                    came.map(|received| {
                        self.note(&received, received.redelivered());
                        kept.owned.push(received);
                    })
                })
            }
        };
        match result {
            Ok(Some(())) => Ok(Step::Received),
            Ok(None) => Ok(Step::End),
            Err(Error::TimedOut { .. }) => Ok(Step::Nothing),
            Err(error) => Err(error).context("receiving"),
        }
    }

    /// Who keeps messages does not wait for others: their senders could wait for the room.
    fn deadline(&mut self, is_keeping: bool) -> Deadline {
        match self.desk.random.below(8) {
            0 | 1 => Deadline::Now,
            2 => Duration::from_micros(100).into(),
            3 => Duration::from_millis(3).into(),
            _ if is_keeping => Duration::from_micros(500).into(),
            4 => Duration::from_millis(50).into(),
            _ => Deadline::Never,
        }
    }

    /// What dies with this thread if it is killed now. What is leased comes again.
    fn hold(&self, count: u64) {
        if !self.desk.part.style.leased {
            self.desk.ledger.mark(self.desk.seat, Mark::Grasp).store(count, Release);
        }
    }

    /// Looks a message over, and writes it down.
    fn note(&mut self, bytes: &[u8], redelivered: bool) {
        let (ledger, channel) = (self.desk.ledger, self.desk.part.channel);
        let count = |count| {
            ledger.count(channel, count).fetch_add(1, Relaxed);
        };
        match examine(bytes) {
            Content::Torn(at) => {
                count(Count::Torn);
                let (len, address) = (bytes.len(), &self.desk.part.address);
                eprintln!("{address}: a message of {len} bytes is wrong from byte {at} on");
            }
            Content::Blank => count(if redelivered { Count::BlanksAgain } else { Count::BlanksReceived }),
            Content::Named(id) => {
                let Some((sender, order)) = ledger.received(channel, id, redelivered) else {
                    eprintln!("{}: message {id} was never sent there", self.desk.part.address);
                    return;
                };
                if redelivered {
                    return;
                }
                let earlier = self.last.insert(sender, order);
                if earlier >= Some(order) {
                    count(Count::Disordered);
                    eprintln!(
                        "{}: {order} of sender {sender} came after {earlier:?}",
                        self.desk.part.address
                    );
                }
            }
        }
    }
}
