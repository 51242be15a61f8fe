//! The supplies of the channel itself: places, endpoints, slots, memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use narrows::{Deadline, Error, Receiver, Sender};

use super::scene::{Scene, Traces};
use super::series::say;
use super::supply::Larder;
use super::{Said, Trial};

/// One limit: `run` reaches it, in the level-th way, and gives the error.
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) fault: &'static str,
    levels: u64,
    run: fn(u64) -> Result<Error>,
}

pub(super) const LIMITS: &[Limit] = &[
    Limit { name: "places", fault: "no participants' places left (2 to 9)", levels: 8, run: places },
    Limit { name: "endpoints", fault: "no endpoints left (8 to 36)", levels: 8, run: endpoints },
    Limit { name: "slots", fault: "no slots left (capacity 1 to 24)", levels: 48, run: slots },
    Limit {
        name: "memory_max",
        fault: "`memory_max` reached (64 KiB to 3 MiB, messages of 100 B to 1 MiB)",
        levels: 48,
        run: memory,
    },
    Limit { name: "too large", fault: "a message larger than `memory_max`", levels: 16, run: too_large },
];

pub(super) fn run(name: &str, start: u64, _larder: &Larder) -> Result<()> {
    let limit = LIMITS.iter().find(|limit| limit.name == name).with_context(|| format!("no limit {name}"))?;
    for level in start..limit.levels {
        say(&Said::Begun(level))?;
        let before = Traces::now()?;
        let mut trial = Trial { level, refused: None, broken: Vec::new(), kept: 0 };
        match (limit.run)(level) {
            Ok(error) => trial.refused = Some(error.to_string()),
            Err(error) => trial.broken.push(format!("{error:#}")),
        }
        let after = Traces::now()?;
        trial.broken.extend(before.leaks(&after));
        if after.free_pages != before.free_pages {
            trial.broken.push(format!("{} of {} pages are free", after.free_pages, before.free_pages));
        }
        say(&Said::Trial(trial))?;
    }
    Ok(())
}

/// Nothing is wrong with the channel's memory, and everything that was sent comes.
fn settle(mut scene: Scene) -> Result<()> {
    scene.settle()?;
    let (broken, _) = scene.check()?;
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}

fn places(level: u64) -> Result<Error> {
    let count = level + 2;
    let mut scene = Scene::new(&format!("participants={count}"));
    scene.open_both()?;
    let open = || Sender::<[u8]>::open_by(&*scene.address, Deadline::Now);
    let mut others = (2..count).map(|_| open()).collect::<narrows::Result<Vec<_>>>()?;
    let refusal = open().err().context("one more took part than there are places")?;
    ensure!(is_no_space(&refusal, "participants' places"), "{refusal:?}");
    ensure!(scene.check()?.0.is_empty(), "{:?}", scene.check()?.0);
    match others.pop() {
        Some(other) => drop(other),
        None => scene.sender = None,
    }
    let open = || Sender::<[u8]>::open_by(&*scene.address, Deadline::Now);
    drop(open().context("when a place is free again")?);
    drop(others);
    settle(scene)?;
    Ok(refusal)
}

fn endpoints(level: u64) -> Result<Error> {
    let count = level + 2;
    let mut scene = Scene::new(&format!("participants={count}"));
    scene.open_both()?;
    let sender = scene.sender.take().context("a sender")?;
    let mut clones = (2..4 * count).map(|_| sender.try_clone()).collect::<narrows::Result<Vec<_>>>()?;
    let refusal = sender.try_clone().err().context("one more was opened than there are endpoints")?;
    ensure!(is_no_space(&refusal, "endpoints"), "{refusal:?}");
    clones.pop();
    drop(sender.receiver().context("when an endpoint is free again")?);
    drop(clones);
    scene.sender = Some(sender);
    settle(scene)?;
    Ok(refusal)
}

fn slots(level: u64) -> Result<Error> {
    let (capacity, peers) = (level / 2 + 1, if level.is_multiple_of(2) { "many" } else { "one" });
    let mut scene = Scene::new(&format!("capacity={capacity},peers={peers}"));
    scene.open_both()?;
    (0..capacity).try_for_each(|_| scene.send(30))?;
    let refusal = full(&mut scene, 30)?;
    settle(scene)?;
    Ok(refusal)
}

fn memory(level: u64) -> Result<Error> {
    let (memory_max, size) = (64u64 << 10 << (level % 6), 100usize << (level / 6 * 2).min(13));
    if size as u64 > memory_max {
        return too_large(level % 16);
    }
    let mut scene = Scene::new(&format!("memory_max={memory_max},capacity=65536,lifetime=process"));
    scene.open_both()?;
    let mut sent = 0;
    let first = loop {
        match scene.send(size) {
            Ok(()) => sent += size as u64,
            Err(error) => break error,
        }
    };
    ensure!(matches!(first, Error::Full { .. }), "{first:?}");
    ensure!(sent <= memory_max, "{sent} bytes are in {memory_max}");
    let refusal = full(&mut scene, size)?;
    ensure!(scene.check()?.0.is_empty(), "{:?}", scene.check()?.0);
    scene.recv()?;
    scene.send(size).context("when a message was received")?;
    while scene.recv().is_ok() {}
    Ok(refusal)
}

/// Refused at once where it must not wait, and at its deadline where it may.
fn full(scene: &mut Scene, size: usize) -> Result<Error> {
    let message = scene.message(size);
    let sender = scene.sender.as_mut().context("a sender")?;
    let refusal = sender.send_by(&message, Deadline::Now).err().context("there was room for one more")?;
    ensure!(matches!(refusal, Error::Full { .. }), "{refusal:?}");
    let late =
        sender.send_by(&message, Duration::from_millis(2)).err().context("there was room for one more")?;
    ensure!(matches!(late, Error::TimedOut { .. }), "{late:?}");
    Ok(refusal)
}

fn too_large(level: u64) -> Result<Error> {
    let memory_max = 64u64 << 10 << (level % 4);
    let mut scene = Scene::new(&format!("memory_max={memory_max},lifetime=process"));
    scene.open_both()?;
    let size = memory_max as usize + 1 + level as usize * 1000;
    let refusal = scene.send(size).err().context("it was sent")?;
    let limit = matches!(&refusal, Error::TooLarge { limit, hint: Some(_), .. } if *limit == memory_max);
    ensure!(limit, "{refusal:?}");
    let loan = scene.sender.as_mut().context("a sender")?.loan(size).err().context("it was loaned")?;
    ensure!(matches!(loan, Error::TooLarge { .. }), "{loan:?}");
    scene.send(40)?;
    scene.recv()?;
    let mut receiver = Receiver::<[u8]>::open(&*scene.address)?;
    ensure!(matches!(receiver.recv_by(Deadline::Now), Err(Error::TimedOut { .. })), "a message too many");
    Ok(refusal)
}

fn is_no_space(error: &Error, words: &str) -> bool {
    matches!(error, Error::NoSpace { supply, hint: Some(_), .. } if supply.contains(words))
}
