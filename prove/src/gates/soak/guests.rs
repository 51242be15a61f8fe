//! Who comes and goes beside the traffic: openers and removers of one name, those who look on, and one who has no
//! channel at all.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use narrows::channel::{Moment, check, list, remove, status};
use narrows::{Address, Deadline, Error, Sender};
use narrows_bench::clock::now_ns;

use super::ledger::Sign;
use super::part::{Desk, opened};

const PATIENCE: Duration = Duration::from_millis(100);

/// What hermits send.
const WORD: &[u8] = b"one";

/// Opens a name, sends to itself and closes. Others remove the name meanwhile: a message may be lost with it, but
/// what comes is whole.
pub(super) fn hermit(mut desk: Desk<'_>) -> Result<()> {
    while !(desk.is_ending() || desk.is_leaving()) {
        let sender = Sender::<[u8]>::open_by(&*desk.part.address, PATIENCE);
        let Some(mut sender) = opened(&mut desk, sender)? else { continue };
        let receiver = sender.receiver();
        let Some(mut receiver) = opened(&mut desk, receiver)? else { continue };
        let large = vec![7; 3000];
        let message = if desk.random.once_in(2) { WORD } else { &large };
        match sender.send_by(message, PATIENCE) {
            Ok(()) => {}
            Err(error) if error.is_temporary() => {}
            Err(error) => return Err(error).context("sending"),
        }
        // Perhaps another's message, perhaps taken by another.
        match receiver.recv_by(Deadline::Now) {
            Ok(received) => {
                let received = received.context("an end beside an open sender")?;
                ensure!(
                    *received == *WORD || *received == *large,
                    "{} bytes that nobody sent",
                    received.len()
                );
            }
            Err(Error::TimedOut { .. }) => {}
            Err(error) => return Err(error).context("receiving"),
        }
        desk.pause(300);
    }
    Ok(())
}

/// Removes the name while the others open it.
pub(super) fn remover(mut desk: Desk<'_>) -> Result<()> {
    let address: Address = desk.part.address.parse()?;
    while !(desk.is_ending() || desk.is_leaving()) {
        desk.pause(2000);
        match remove(&address) {
            Ok(()) => desk.ledger.add(Sign::Removed),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error).context("removing"),
        }
        desk.beat(None);
    }
    Ok(())
}

/// Looks at every channel from outside, all the time.
pub(super) fn watcher(mut desk: Desk<'_>) -> Result<()> {
    while !(desk.is_ending() || desk.is_leaving()) {
        let listed = list().context("listing")?.0;
        for found in listed.iter().filter(|found| found.address.to_string().starts_with(&desk.part.address)) {
            match status(&found.address) {
                Ok(found) => ensure!(found.depth <= found.capacity, "{found:?}"),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error).context("looking"),
            }
            match check(&found.address, Moment::Any) {
                Ok(report) => ensure!(report.faults.is_empty(), "{}: {:?}", found.address, report.faults),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error).context("checking"),
            }
            desk.ledger.add(Sign::Looks);
        }
        desk.beat(None);
        desk.pause(10_000);
    }
    Ok(())
}

/// Two threads hand each other a word, with some work in between, and rests as others take them.
pub(super) fn control(mut desk: Desk<'_>) -> Result<()> {
    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || asked.iter().try_for_each(|()| answer.send(())));
        while !(desk.is_ending() || desk.is_leaving()) {
            if desk.random.once_in(200) {
                desk.pause(3000);
            }
            let end = now_ns() + desk.random.below(200_000);
            while now_ns() < end {}
            let began = now_ns();
            ask.send(())?;
            answered.recv()?;
            desk.ledger.beat_control(desk.seat, began);
        }
        drop(ask);
        Ok(())
    })
}
