//! Messages go to and fro between two containers, and one of them is killed, again and again.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use narrows::channel::{Moment, check, remove, status};
use narrows::sys::{futex_wait, futex_wake_all};
use narrows::{Address, Deadline, Receiver, Sender};

use super::container::{Container, Walls};
use crate::page::Page;
use crate::random::Random;

/// Whatever is waited for takes at most so long.
const SOON: Duration = Duration::from_secs(30);
/// Who waits for the other looks for the dead every 100 ms; who is not told within this never is.
const TOLD: Duration = Duration::from_secs(10);
/// Messages in slots and in chunks, by their numbers.
const SIZES: [usize; 4] = [16, 40, 3000, 100_000];
/// Everybody may open them: users differ.
const OPTIONS: &str = "mode=666,participants=8,capacity=8,memory_max=16M,lifetime=system";

// The words of the page.
/// Messages that went to and fro.
const PASSED: usize = 0;
/// Ends that were told.
const ENDS: usize = 1;
/// When the last was told, in nanoseconds since the epoch.
const TOLD_AT: usize = 2;

/// What came of it.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) kills: u64,
    pub(crate) messages: u64,
    /// How long after each kill the other was told.
    pub(crate) delays: Vec<Duration>,
    /// What did not hold.
    pub(crate) faults: Vec<String>,
}

/// A pair of channels, and who is at them.
struct Scene<'a> {
    there: String,
    back: String,
    page: &'a Page,
    epoch: Instant,
}

/// Kills `kills` times one of two who talk through walls.
pub(crate) fn play(name: &str, walls: Walls, kills: u64, random: &mut Random) -> Result<Account> {
    let page = Page::new()?;
    let (there, back) =
        (format!("shm:{name}.there,{OPTIONS},ack=release"), format!("shm:{name}.back,{OPTIONS}"));
    let scene = Scene { there, back, page: &page, epoch: Instant::now() };
    let mut account = Account::default();
    let caller = Container::start(walls, 0, || scene.call())?;
    for number in 0..kills {
        let echo = Container::start(walls, 1, || scene.echo())?;
        let wanted = page.word(PASSED).load(Relaxed) + 1 + random.below(20);
        let start = Instant::now();
        while page.word(PASSED).load(Relaxed) < wanted {
            if start.elapsed() > SOON {
                account.faults.push(format!("no message passes any more before kill {number}"));
                return Ok(account);
            }
            std::thread::sleep(Duration::from_micros(random.below(100)));
        }
        let killed = scene.epoch.elapsed();
        echo.kill()?;
        account.kills += 1;
        if !reaches(&page, ENDS, number + 1, TOLD) {
            account.faults.push(format!("nobody was told of kill {number}"));
            return Ok(account);
        }
        let told = Duration::from_nanos(page.word(TOLD_AT).load(Acquire));
        account.delays.push(told.saturating_sub(killed));
    }
    drop(caller);
    account.messages = page.word(PASSED).load(Relaxed);
    for address in [&scene.there, &scene.back] {
        account.faults.extend(leftovers(address, kills)?);
    }
    Ok(account)
}

/// What is wrong with a channel whose users are all dead.
fn leftovers(address: &str, kills: u64) -> Result<Option<String>> {
    // Whoever opens it next finds it usable.
    let mut sender = Sender::<[u8]>::open(address)?;
    let mut receiver = sender.receiver()?;
    sender.send(b"whole")?;
    let mut last = Vec::new();
    while let Ok(Some(message)) = receiver.recv_by(Deadline::Now) {
        last = message.to_vec();
    }
    drop((sender, receiver));
    let address: Address = address.parse()?;
    let (seen, report) = (status(&address)?, check(&address, Moment::Rest)?);
    remove(&address)?;
    Ok(if let Some(fault) = report.faults.first().or(report.pending.first()) {
        Some(format!("{address}: {fault}"))
    } else if last != b"whole" || seen.depth > 0 {
        Some(format!("{address} does not work any more"))
    } else if !seen.peers.is_empty() || seen.died > kills {
        Some(format!("{address}: {} places are still taken, {} senders died", seen.peers.len(), seen.died))
    } else {
        None
    })
}

/// Waits until a word of the page is at least so large.
fn reaches(page: &Page, word: usize, wanted: u64, bound: Duration) -> bool {
    let end = Deadline::from(bound);
    loop {
        let seen = page.word(word).load(Acquire);
        if seen >= wanted || end.is_over() {
            return seen >= wanted;
        }
        futex_wait(page.futex(word), seen as u32, end);
    }
}

impl Scene<'_> {
    /// Sends a message and waits until it comes back, for ever.
    fn call(&self) -> Result<()> {
        let mut there = Sender::<[u8]>::open(self.there.as_str())?;
        let mut back = Receiver::<[u8]>::open(self.back.as_str())?;
        let mut number = 0;
        loop {
            there.send(&message(number))?;
            self.comes_back(&mut back, number)?;
            number = self.page.word(PASSED).fetch_add(1, Release) + 1;
        }
    }

    fn comes_back(&self, back: &mut Receiver, number: u64) -> Result<()> {
        let (mut told, mut is_new) = (self.page.word(ENDS).load(Relaxed), true);
        loop {
            let Some(echo) = back.recv()? else {
                // The end; it lasts until the next opens.
                if is_new {
                    told += 1;
                    self.page.word(TOLD_AT).store(self.epoch.elapsed().as_nanos() as u64, Release);
                    self.page.word(ENDS).store(told, Release);
                    futex_wake_all(self.page.futex(ENDS));
                    is_new = false;
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            match read(&echo).context("a torn message")? {
                came if came == number => return Ok(()),
                // Who held it died between its echo and its acknowledgement: it came again.
                came if came + 1 == number => {}
                came => bail!("message {came} came back instead of {number}"),
            }
        }
    }

    /// Sends back what it receives, until it is killed.
    fn echo(&self) -> Result<()> {
        let mut back = Sender::<[u8]>::open(self.back.as_str())?;
        let mut there = Receiver::<[u8]>::open(self.there.as_str())?;
        while let Some(message) = there.recv()? {
            ensure!(read(&message).is_some(), "a torn message");
            back.send(&message)?;
        }
        Ok(())
    }
}

fn message(number: u64) -> Vec<u8> {
    let len = SIZES[number as usize % SIZES.len()];
    let mut bytes: Vec<u8> = (0..len).map(|at| filler(number, at)).collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// A message's number, if it is whole.
fn read(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let is_whole = bytes.len() == SIZES[number as usize % SIZES.len()]
        && bytes.iter().enumerate().skip(8).all(|(at, byte)| *byte == filler(number, at));
    is_whole.then_some(number)
}

fn filler(number: u64, at: usize) -> u8 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (at as u8).wrapping_mul(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_message_has_no_number() {
        for number in 0..8 {
            let mut bytes = message(number);
            assert_eq!(read(&bytes), Some(number));
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(read(&bytes), None);
        }
    }
}
