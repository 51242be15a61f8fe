//! A sender of the soak.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result};
use narrows::{Deadline, Error, Sender};
use narrows_bench::clock::now_ns;

use super::ledger::{Count, Hand, Sign};
use super::message::{NAMED, compose};
use super::part::{Cheat, Desk, opened};

/// How long one try to open may take.
const PATIENCE: Duration = Duration::from_millis(100);
/// Messages between two rests, at most.
const BURST: u64 = 400;
/// All senders of a channel pause together, in nanoseconds: longer than a receiver waits before it trims the pool.
const LULL: u64 = 400_000_000;
const LULL_EVERY: u64 = 2_000_000_000;

/// Sends until it is to leave, or all are.
pub(super) fn run(mut desk: Desk<'_>) -> Result<()> {
    let mut hand = Hand::new(desk.ledger, desk.part.channel);
    let mut buffers = vec![Vec::new(); desk.part.style.batch as usize];
    while !(desk.is_ending() || desk.is_leaving()) {
        let sender = Sender::<[u8]>::open_by(&*desk.part.address, PATIENCE);
        let Some(mut sender) = opened(&mut desk, sender)? else { continue };
        let mut left = if desk.part.style.visits { desk.random.below(60) } else { u64::MAX };
        while left > 0 && !(desk.is_ending() || desk.is_leaving()) {
            left -= 1;
            if desk.part.style.lulls && now_ns() % LULL_EVERY < LULL {
                desk.pause(10_000);
                continue;
            }
            if !step(&mut desk, &mut hand, &mut sender, &mut buffers)? {
                break;
            }
            if desk.random.once_in(BURST) {
                desk.pause(3000);
                desk.wander()?;
            }
        }
    }
    Ok(())
}

/// Sends one message or several; whether the other side is still there.
fn step(
    desk: &mut Desk<'_>,
    hand: &mut Hand<'_>,
    sender: &mut Sender,
    buffers: &mut [Vec<u8>],
) -> Result<bool> {
    let batch = if desk.random.once_in(3) { 1 + desk.random.below(buffers.len() as u64) as usize } else { 1 };
    let size = desk.part.style.size(&mut desk.random);
    if size < NAMED && batch == 1 {
        return blank(desk, sender, size);
    }
    let Some(first) = hand.begin(batch as u32) else {
        std::thread::sleep(Duration::from_millis(1));
        return Ok(true);
    };
    for (id, buffer) in (first..).zip(&mut buffers[..batch]) {
        buffer.resize(desk.part.style.size(&mut desk.random).max(NAMED), 0);
        compose(id, buffer);
    }
    if cheat(desk, hand, sender, &mut buffers[..batch], first)? {
        return Ok(true);
    }
    let end = first + batch as u32;
    let mut next = first;
    while next < end {
        let began = desk.began();
        let result = attempt(desk, sender, &buffers[(next - first) as usize..batch]);
        desk.beat(began);
        match result {
            Ok(went) => {
                next += went as u32;
                hand.done(next);
            }
            Err(Error::PeerGone { .. }) => {
                hand.withdraw(next..end);
                return Ok(false);
            }
            Err(error) if error.is_temporary() => {
                if desk.is_ending() || desk.random.once_in(2) {
                    hand.withdraw(next..end);
                    return Ok(true);
                }
            }
            Err(error) => return Err(error).context("sending"),
        }
    }
    Ok(true)
}

/// Sends in one of the ways that there are; gives how many went.
fn attempt(desk: &mut Desk<'_>, sender: &mut Sender, messages: &[Vec<u8>]) -> narrows::Result<usize> {
    let deadline = deadline(desk);
    if let [message] = messages {
        if desk.part.style.in_place && desk.random.once_in(4) {
            return in_place(desk, sender, message).map(|()| 1);
        }
        if desk.random.once_in(2) {
            return sender.send_by(message, deadline).map(|()| 1);
        }
    }
    sender.send_many(messages.iter().map(Vec::as_slice), deadline)
}

/// By a loan, another being taken and given back beside it. Who has a loan does not wait for a second: all could.
fn in_place(desk: &mut Desk<'_>, sender: &mut Sender, message: &[u8]) -> narrows::Result<()> {
    let mut loan = sender.loan_by(message.len(), deadline(desk))?;
    let beside = desk.random.once_in(8).then(|| sender.loan_by(message.len(), Deadline::Now).ok());
    let (start, rest) = message.split_at(message.len() / 2);
    loan.write_at(0, start);
    loan.write_at(start.len(), rest);
    if desk.random.once_in(16) {
        desk.pause(200); // written and not sent: a good moment to be killed
    }
    let wait = Duration::from_micros(desk.random.below(3000));
    sender.commit_by(loan, wait).map_err(|uncommitted| uncommitted.error)?;
    drop(beside);
    Ok(())
}

fn deadline(desk: &mut Desk<'_>) -> Deadline {
    match desk.random.below(8) {
        0 => Deadline::Now,
        1 => Duration::from_micros(100).into(),
        2 => Duration::from_millis(3).into(),
        3 => Duration::from_millis(50).into(),
        _ => Deadline::Never,
    }
}

/// A message too short to say which one it is.
fn blank(desk: &mut Desk<'_>, sender: &mut Sender, size: usize) -> Result<bool> {
    let mut bytes = [0; NAMED];
    compose(0, &mut bytes[..size]);
    let count = |count| desk.ledger.count(desk.part.channel, count).fetch_add(1, Relaxed);
    count(Count::BlanksBegun);
    let began = desk.began();
    let result = sender.send(&bytes[..size]);
    desk.beat(began);
    match result {
        Ok(()) => {
            count(Count::BlanksDone);
            Ok(true)
        }
        Err(Error::PeerGone { .. }) => Ok(false),
        Err(error) => Err(error).context("sending a blank"),
    }
}

/// What a cheat does instead, once; the gate has to find it.
fn cheat(
    desk: &mut Desk<'_>,
    hand: &mut Hand<'_>,
    sender: &mut Sender,
    messages: &mut [Vec<u8>],
    first: u32,
) -> Result<bool> {
    let Some(cheat) = desk.part.cheat.filter(|_| messages.len() > 1 && !desk.ledger.is(Sign::Execs)) else {
        return Ok(false);
    };
    desk.ledger.add(Sign::Execs); // it never becomes another program: the word is free to say that it was done
    let end = first + messages.len() as u32;
    match cheat {
        Cheat::Lose => {
            hand.done(end);
            return Ok(true);
        }
        Cheat::Double => sender.send(&messages[0])?,
        Cheat::Tear => *messages[0].last_mut().context("a message with bytes")? ^= 1,
        Cheat::Swap => messages.swap(0, 1),
        Cheat::Revive => {
            messages.iter().try_for_each(|message| sender.send(message))?;
            hand.withdraw(first..end);
            return Ok(true);
        }
        Cheat::Litter => {
            let address = format!("{}.litter", desk.part.address.split(',').next().unwrap_or_default());
            drop(narrows::Region::create(&*address, 1)?);
            return Ok(false);
        }
        Cheat::Hoard => {
            std::mem::forget(std::fs::File::open("/dev/null")?);
            return Ok(false);
        }
        Cheat::Stay => loop {
            std::thread::park();
        },
        Cheat::Fail => anyhow::bail!("as planned"),
    }
    for message in messages {
        sender.send(message)?;
    }
    hand.done(end);
    Ok(true)
}
