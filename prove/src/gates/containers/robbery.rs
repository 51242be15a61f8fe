//! Two processes of one number, each the first of its container: one is killed, and the other keeps what it holds.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use narrows::channel::status;
use narrows::{Deadline, Receiver, Sender};

use super::container::{Container, Walls};
use crate::gates::wakeups::{Means, Other, Peer, Wait};
use crate::page::Page;

/// Whatever is waited for takes at most so long.
const SOON: Duration = Duration::from_secs(30);
/// Who does not get a lock for so long does not get it.
const LOCKED: Duration = Duration::from_millis(200);
const LARGE: usize = 3000;

/// The word of the page that says that the `number`-th is ready, and that it may go on.
const READY: usize = 0;
const GO_ON: usize = 8;

fn soon(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + SOON;
    while !is_so()? {
        ensure!(Instant::now() < end, "waited {SOON:?} for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Holds a message and a loan, and sends the loan when it may.
fn hold(page: &Page, number: usize, given: &str, loaned: &str) -> Result<()> {
    let mut receiver = Receiver::<[u8]>::open(given)?;
    let mut sender = Sender::<[u8]>::open(loaned)?;
    let held = receiver.recv()?.context("a message")?;
    let mut loan = sender.loan(LARGE)?;
    loan.write(&[number as u8; LARGE]);
    page.word(READY + number).store(1, Release);
    soon("the word to go on", || Ok(page.word(GO_ON).load(Acquire) == 1))?;
    ensure!(*held == [number as u8; LARGE], "what was held has changed");
    sender.commit(loan).map_err(narrows::Error::from)?;
    drop(held);
    page.word(READY + number).store(2, Release);
    soon("the end", || Ok(false))
}

/// What the survivor was robbed of when the other of its number was killed. `None`: nothing.
pub(crate) fn ours(name: &str, walls: Walls) -> Result<Option<String>> {
    let page = Page::new()?;
    let options = "mode=666,participants=8,memory_max=1M,ack=release";
    let (given, loaned) = (format!("shm:{name}.given,{options}"), format!("shm:{name}.loaned,{options}"));
    let mut giver = Sender::<[u8]>::open(given.as_str())?;
    let mut collector = Receiver::<[u8]>::open(loaned.as_str())?;
    let start = |number: usize| {
        let (page, given, loaned) = (&page, &given, &loaned);
        Container::start(walls, number as u32, move || hold(page, number, given, loaned))
    };
    let ready = |number: usize, step: u64| {
        soon("a container to hold", || Ok(page.word(READY + number).load(Acquire) == step))
    };
    giver.send(&[1; LARGE])?;
    let _survivor = start(1)?;
    ready(1, 1)?;
    giver.send(&[2; LARGE])?;
    let victim = start(2)?;
    ready(2, 1)?;
    let peers = status(giver.address())?.peers;
    let listed = peers.iter().filter(|peer| peer.alive && !peer.name.is_empty()).count();
    let ones = peers.iter().filter(|peer| peer.pid == 1).count();
    if listed != 3 || walls.pids && ones != 2 {
        return Ok(Some(format!("the list of who takes part is wrong: {peers:?}")));
    }
    victim.kill()?;
    // What the dead held comes again, and nothing else.
    let mut again = giver.receiver()?;
    let came = again.recv_by(SOON)?.context("the end")?;
    if !came.redelivered() || *came != [2; LARGE] {
        return Ok(Some("what the living holds was given away".to_owned()));
    }
    if again.recv_by(Duration::from_millis(150)).is_ok() {
        return Ok(Some("what the living holds was given away as well".to_owned()));
    }
    page.word(GO_ON).store(1, Release);
    let sent = collector.recv_by(SOON)?.context("the end")?;
    if *sent != [1; LARGE] {
        return Ok(Some("the living's loan was overwritten".to_owned()));
    }
    ready(1, 2)?;
    drop((came, sent));
    Ok((!matches!(collector.recv_by(Deadline::Now), Err(narrows::Error::TimedOut { .. })))
        .then(|| "a loan of the dead was sent".to_owned()))
}

/// Whether two hold glibc's robust mutex at once when one who waits for it, of its holder's number, is killed.
pub(crate) fn glibc(walls: Walls) -> Result<bool> {
    let (page, mutex) = (Page::new()?, Other::new(Means::Mutex)?);
    let start = |number: usize| {
        let (page, mutex) = (&page, &mutex);
        Container::start(walls, number as u32, move || {
            page.word(READY + number).store(1, Release);
            mutex.waiter().act()?;
            page.word(READY + number).store(2, Release);
            soon("the end", || Ok(false))
        })
    };
    let _holder = start(1)?;
    soon("the holder to lock", || Ok(page.word(READY + 1).load(Acquire) == 2))?;
    let victim = start(2)?;
    soon("the other to wait", || Ok(page.word(READY + 2).load(Relaxed) == 1 && victim.is_asleep()))?;
    victim.kill()?;
    drop(victim);
    let mut third = Peer::start(Instant::now(), || mutex.waiter())?;
    third.act();
    Ok(third.done_within(LOCKED)?.is_some())
}
