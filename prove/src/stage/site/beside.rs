//! What survivors do beside one who is stopped in the middle of its operation, and what it says when it goes on.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use narrows::{Deadline, Error};

use super::Site;
use crate::stage::crowd::{BOUND, Report, Said};
use crate::stage::message::{self, LARGE, SMALL};
use crate::stage::mode::CAPACITY;
use crate::stage::operation::{Effect, Role};
use crate::tracer::Fork;

/// How often the survivors fill the channel and empty it.
const LAPS: usize = 3;

impl Site<'_> {
    /// The survivors send and receive several times the capacity, small and large. None of them waits. False: the victim
    /// was stopped while it removes the name, and who wants to open it is told so.
    ///
    /// # Errors
    /// Where one cannot.
    pub(crate) fn work_beside(&mut self, victim: Role) -> Result<bool> {
        self.held.clear();
        match self.come_beside(victim) {
            Err(Error::TimedOut { doing: "removing", .. }) => return Ok(false),
            come => come.context("a survivor opens beside it")?,
        }
        self.drain()?;
        for _ in 0..LAPS {
            for len in [SMALL, LARGE] {
                self.fill(len)?;
                self.drain()?;
            }
        }
        Ok(true)
    }

    fn come_beside(&mut self, victim: Role) -> Result<(), Error> {
        // One to one, the only place may be the victim's or a sleeper's.
        let is_free = |role: Role| !self.mode.one || role != victim && !self.has_sleeper(role);
        let (sender, receiver) = (is_free(Role::Sender), is_free(Role::Receiver));
        let start = Instant::now();
        self.open_missing(sender, receiver)?;
        self.lasted(start);
        Ok(())
    }

    fn fill(&mut self, len: usize) -> Result<()> {
        if self.sender.is_none() {
            return Ok(());
        }
        let before = self.ledger.certain.len();
        // A claim of one who is stopped takes room as well, and what is dropped for it is no fault.
        let count = if self.mode.drops { CAPACITY / 2 } else { CAPACITY };
        for _ in 0..count {
            // Nobody takes anything while the one receiver is stopped.
            if self.mode.drops && self.receiver.is_none() && self.ledger.certain.len() >= count {
                break;
            }
            let id = self.id();
            let bytes = message::write(id, len);
            let start = Instant::now();
            let sent = self.sender()?.send_by(&bytes, Deadline::Now);
            self.lasted(start);
            match sent {
                Ok(()) => self.ledger.certain.push_back(id),
                Err(Error::Full { .. }) => break,
                Err(error) => return Err(error).context("a survivor sends beside it"),
            }
        }
        let sent = self.ledger.certain.len() - before;
        let must_fit = !self.mode.rendezvous && self.receiver.is_some() && self.sleepers.is_empty();
        ensure!(sent > 0 || !must_fit, "nobody can send while one is stopped");
        Ok(())
    }

    /// One that was stopped goes on, finishes, and is heard.
    ///
    /// # Errors
    /// Where it does not come to its end in order.
    pub(crate) fn let_finish(&mut self, stopped: Fork, report: Report, effect: Effect) -> Result<Said> {
        stopped.go_on()?;
        stopped.ends_within(BOUND).context("the victim goes on")?;
        let said = report.read()?;
        self.ledger.elsewhere.extend(said.received.iter().copied());
        self.ledger.said = Some(said.sent);
        if effect == Effect::Removes {
            // Who has it open goes on with what others do not find any more.
            self.drain()?;
            self.desert()?;
        }
        Ok(said)
    }
}
