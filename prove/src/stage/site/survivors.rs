//! What survivors do after a death: they go on, and find everything as it must be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use narrows::channel::Moment;
use narrows::{Deadline, Error, Received, Receiver, Sender};

use super::super::crowd::{BOUND, Sleeper};
use super::super::message::{self, LARGE, SMALL};
use super::super::operation::{Effect, Role};
use super::super::verdict::Verdict;
use super::{Settled, Site};

/// A sleeper that is owed something has it by then, whoever died: sleeps are bounded by 90 ms.
const SLEEP_MAX: Duration = Duration::from_millis(400);
/// How long one waits in a rendezvous before it looks whether anybody is left.
const MEETING: Duration = Duration::from_millis(5);
/// What deaths may leave for good, as whoever needs it uses it.
const WELCOME: [&str; 2] = ["spare", "growing"];

impl Site<'_> {
    /// Survivors go on after the victim's end, until nothing waits and all are done.
    ///
    /// # Errors
    /// Where they cannot, or what came out is not what must.
    pub(crate) fn settle(mut self, effect: Effect) -> Result<Settled> {
        self.check("after the death", false)?;
        self.held.clear();
        // Those who were there go on with what they have, then others come.
        if self.mode.one {
            self.succeed()?;
        } else if self.sleepers.is_empty() {
            self.drain()?;
        }
        self.rouse()?;
        self.succeed()?;
        self.drain()?;
        self.resume()?;
        self.drain()?;
        let Verdict { progress, faults } = self.ledger.judge(effect);
        self.fill_and_empty()?;
        self.check("at the end", true)?;
        let longest = self.longest;
        self.close()?;
        ensure!(faults.is_empty(), "{}", faults.join("; "));
        Ok(Settled { progress, longest })
    }

    /// Fresh ends beside the old ones, or in the place of the dead.
    fn succeed(&mut self) -> Result<()> {
        let start = Instant::now();
        if self.mode.one {
            let sender = !self.has_sleeper(Role::Sender);
            let receiver = !self.has_sleeper(Role::Receiver);
            self.open_missing(sender, receiver).context("a successor opens")?;
        } else {
            self.sender = Some(Sender::open(self.address().as_str()).context("a successor opens")?);
            self.receiver = Some(Receiver::open(self.address().as_str()).context("a successor opens")?);
        }
        self.lasted(start);
        Ok(())
    }

    pub(super) fn lasted(&mut self, start: Instant) {
        self.longest = self.longest.max(start.elapsed());
    }

    /// Takes all that is there.
    pub(super) fn drain(&mut self) -> Result<()> {
        if self.receiver.is_none() {
            return Ok(());
        }
        loop {
            let start = Instant::now();
            let came = self.receiver()?.recv_by(Deadline::Now);
            self.lasted(start);
            match came {
                Ok(Some(message)) => self.came(&message),
                Ok(None) | Err(Error::TimedOut { .. }) => return Ok(()),
                Err(error) => return Err(error).context("a survivor receives"),
            }
        }
    }

    fn came(&mut self, message: &Received) {
        let id = message::read(message);
        if id != Some(0) {
            self.ledger.came.push((id, message.redelivered()));
        }
    }

    /// Those who sleep get what they wait for, and are done.
    fn rouse(&mut self) -> Result<()> {
        let sleepers = std::mem::take(&mut self.sleepers);
        let (receivers, senders): (Vec<_>, Vec<_>) =
            sleepers.into_iter().partition(|sleeper| sleeper.role == Role::Receiver);
        let start = Instant::now();
        for _ in &receivers {
            self.feed(&receivers)?;
        }
        // Tries of a rendezvous with one who leaves take their time, and are nobody's wait.
        let start = if self.mode.rendezvous { Instant::now() } else { start };
        if !senders.is_empty() {
            self.drain()?;
        }
        while self.mode.rendezvous && !senders.iter().all(Sleeper::is_done) {
            ensure!(start.elapsed() < SLEEP_MAX, "a sender waits, and nobody finds its message");
            self.drain()?;
            std::thread::yield_now();
        }
        for sleeper in receivers.into_iter().chain(senders) {
            let said = sleeper.done_within(BOUND).context("a sleeper is woken")?;
            self.lasted(start);
            self.ledger.elsewhere.extend(said.received);
        }
        Ok(())
    }

    /// Sends the sleeping receivers something, once they have what waits.
    fn feed(&mut self, receivers: &[Sleeper]) -> Result<()> {
        let address = self.bare()?;
        let start = Instant::now();
        let all_done = || receivers.iter().all(Sleeper::is_done);
        while narrows::channel::status(&address)?.depth > 0 && !all_done() {
            ensure!(start.elapsed() < SLEEP_MAX, "a message waits, and its receivers sleep on");
            std::thread::yield_now();
        }
        if all_done() {
            return Ok(());
        }
        let id = self.id();
        let bytes = message::write(id, SMALL);
        let start = Instant::now();
        let bound = if self.mode.rendezvous { MEETING } else { BOUND };
        let sent = loop {
            let attempt = Instant::now();
            match self.sender()?.send_by(&bytes, bound) {
                // The one who slept may have had the victim's, and be about to end.
                Err(Error::TimedOut { .. } | Error::PeerGone { .. })
                    if self.mode.rendezvous && start.elapsed() < SLEEP_MAX =>
                {
                    if all_done() {
                        return Ok(());
                    }
                }
                sent => break sent.map(|()| attempt),
            }
        };
        self.lasted(sent.context("a survivor sends")?);
        self.ledger.certain.push_back(id);
        Ok(())
    }

    /// Those who were stopped go on and finish.
    fn resume(&mut self) -> Result<()> {
        for (victim, report) in std::mem::take(&mut self.stopped) {
            victim.let_go()?.ends_within(BOUND).context("one who was stopped goes on")?;
            self.ledger.elsewhere.extend(report.read()?.received);
        }
        Ok(())
    }

    /// Every slot, and a chunk for each, can be used again.
    fn fill_and_empty(&mut self) -> Result<()> {
        let capacity = narrows::channel::status(&self.bare()?)?.capacity;
        for len in [SMALL, LARGE] {
            for _ in 0..capacity {
                let start = Instant::now();
                self.sender()?.send_by(&message::write(0, len), Deadline::Now).context("a slot is lost")?;
                self.lasted(start);
            }
            match self.sender()?.send_by(&message::write(0, len), Deadline::Now) {
                Err(Error::Full { .. }) if !self.mode.drops => {}
                Ok(()) if self.mode.drops => {}
                other => bail!("more fits than the capacity: {other:?}"),
            }
            for _ in 0..capacity {
                let message = self.receiver()?.recv_by(Deadline::Now).context("a message is lost")?;
                ensure!(message.is_some_and(|message| message::read(&message) == Some(0)), "it is another's");
            }
        }
        Ok(())
    }

    /// The segment is what it must be; where it is `repaired`, nothing is left to do for the dead.
    fn check(&self, when: &str, repaired: bool) -> Result<()> {
        // Who slept is on its way out when the victim waited for it.
        let at_rest = self.sleepers.is_empty() && self.stopped.is_empty();
        let moment = if at_rest { Moment::Rest } else { Moment::Any };
        let report = match narrows::channel::check(&self.bare()?, moment) {
            Err(Error::NotFound { .. }) if self.sender.is_none() && self.receiver.is_none() => return Ok(()),
            report => report.with_context(|| format!("the check {when}"))?,
        };
        let pending = report.pending.iter().filter(|finding| repaired && !WELCOME.contains(&finding.fact));
        let found: Vec<String> = report.faults.iter().chain(pending).map(ToString::to_string).collect();
        ensure!(found.is_empty(), "{when}: {}", found.join("; "));
        Ok(())
    }

    /// All leave in order: nothing is left.
    fn close(mut self) -> Result<()> {
        self.desert()?;
        ensure!(!self.path().exists(), "{} is left behind", self.path().display());
        Ok(())
    }
}
