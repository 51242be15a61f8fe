//! A publisher of iceoryx2 is killed while it sends as fast as it can.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Outcome;
use super::faults::{Numbers, Place, SOON, expect};
use super::process::{Line, Peer};

const KILLS: u64 = 1000;
/// When it is killed: so many µs after its first message, at most.
const WITHIN_US: u64 = 300;
/// What another sends once the publisher is dead.
const MARK: u64 = 1 << 63;
const ROUND_SHIFT: u32 = 32;

/// Those who live on: one sends a mark behind each death, one receives everything.
struct Survivors {
    sender: Peer,
    receiver: Peer,
}

impl Survivors {
    fn start(place: &Place) -> Result<Self> {
        let mut receiver = Peer::start(|line| receive(line, place))?;
        expect(&mut receiver, 0)?;
        let mut sender = Peer::start(|line| mark(line, place))?;
        expect(&mut sender, 0)?;
        Ok(Self { sender, receiver })
    }

    /// How many numbers of a round came, and whether in their order; `None` where one of both is stuck.
    fn account(&mut self, round: u64) -> Result<Option<(u64, bool)>> {
        self.sender.tell(round)?;
        if self.sender.hears(SOON)?.is_none() {
            return Ok(None);
        }
        let (Some(count), Some(disorder)) = (self.receiver.hears(SOON)?, self.receiver.hears(SOON)?) else {
            return Ok(None);
        };
        Ok(Some((count, disorder == 0)))
    }
}

/// A publisher is killed at any moment while it sends; another goes on.
pub(crate) fn publisher_killed() -> Result<Outcome> {
    let place = Place::new("midst");
    let mut survivors = Survivors::start(&place)?;
    let before = place.shared().count();
    let (mut lost, mut disordered, mut stuck, mut kills) = (0, 0, 0, 0);
    for round in 0..KILLS {
        let mut victim = Peer::start(|line| stream(line, round, &place))?;
        if victim.hears(SOON)? != Some(0) {
            stuck += 1; // it cannot open what the dead left
            break;
        }
        victim.tell(0)?;
        expect(&mut victim, 1)?;
        spin(Duration::from_micros(round * 7919 % WITHIN_US));
        let sent = 1 + victim.last_words()?.len() as u64;
        kills += 1;
        match survivors.account(round)? {
            Some((came, in_order)) => {
                lost += u64::from(came < sent);
                disordered += u64::from(!in_order);
            }
            None => {
                stuck += 1;
                survivors = Survivors::start(&place)?;
            }
        }
    }
    let left = place.shared().count().saturating_sub(before);
    let figure = format!(
        "{kills} kills at any moment of its sending: {lost} with sent messages lost, {disordered} out of order, \
         {stuck} stuck; {left} files of the dead left in `/dev/shm`"
    );
    Ok(Outcome { held: lost + disordered + stuck == 0 && left == 0, figure })
}

fn spin(pause: Duration) {
    let start = Instant::now();
    while start.elapsed() < pause {}
}

/// Sends numbers for ever, and says each that was sent.
fn stream(mut line: Line, round: u64, place: &Place) -> Result<()> {
    let node = place.node()?;
    let publisher = Numbers::open(&node, "numbers")?.publisher(&node)?;
    line.say(0)?;
    line.order()?;
    for number in 1.. {
        publisher.send_copy(round << ROUND_SHIFT | number)?;
        line.say(number)?;
    }
    Ok(())
}

/// Sends the mark of a round whenever it is told to.
fn mark(mut line: Line, place: &Place) -> Result<()> {
    let node = place.node()?;
    let publisher = Numbers::open(&node, "numbers")?.publisher(&node)?;
    line.say(0)?;
    loop {
        let round = line.order()?;
        publisher.send_copy(MARK | round)?;
        line.say(1)?;
    }
}

/// Receives everything; behind the mark of a round it says how many numbers came, and how many at the wrong place.
fn receive(mut line: Line, place: &Place) -> Result<()> {
    let node = place.node()?;
    let subscriber = Numbers::open(&node, "numbers")?.subscriber()?;
    line.say(0)?;
    let (mut count, mut disorder, mut marked) = (0, 0, false);
    loop {
        match subscriber.receive()? {
            Some(sample) if *sample & MARK != 0 => marked = true,
            Some(sample) => {
                count += 1;
                disorder += u64::from(*sample & ((1 << ROUND_SHIFT) - 1) != count);
            }
            None if marked => {
                // Nothing more lies there of anybody.
                line.say(count)?;
                line.say(disorder)?;
                (count, disorder, marked) = (0, 0, false);
            }
            None => std::thread::yield_now(),
        }
    }
}
