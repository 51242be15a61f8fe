//! A receiver that finds nothing: the end, or a wait for what comes.

use std::time::Instant;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::shared::layout;
use crate::shared::pair::Bed;
use crate::shared::participants::Role;
use crate::shared::ring::{Found, Front};
use crate::shared::wait::IDLE;

use super::handle::Patience;
use super::receiver::{Link, ShmReceiver};
use crate::atomic::Ordering::Relaxed;

/// What large messages left behind.
#[derive(Debug, Clone, Copy)]
pub(super) enum IdleMemory {
    /// Nothing that is worth giving back.
    None,
    /// Some, and they still come.
    Fresh,
    /// Some, and none came since.
    Since(Instant),
}

impl ShmReceiver {
    /// Waits until there may be a message. True: the end.
    #[inline(never)]
    pub(super) fn wait(
        &mut self,
        found: Option<Found>,
        patience: &mut Patience,
        deadline: Deadline,
    ) -> Result<bool> {
        // What changes from here on is news: a sender that leaves behind this look must not be slept on.
        let epoch = self.handle.shared().participants.senders_epoch();
        if self.has_ended() && self.is_drained()? {
            return Ok(true);
        }
        self.trim()?;
        if deadline == Deadline::Now {
            self.handle.round()?;
            return Err(self.timed_out());
        }
        let changed = self.watch(found, deadline);
        if changed {
            return Ok(false);
        }
        self.handle.check()?;
        if deadline.is_over() {
            return Err(self.timed_out());
        }
        if self.handle.spinner.sleeps() {
            self.sleep(found, epoch, patience.sleep_until(deadline))?;
        }
        self.handle.round()?;
        Ok(false)
    }

    fn watch(&mut self, found: Option<Found>, deadline: Deadline) -> bool {
        let spinner = &mut self.handle.spinner;
        match (&self.link, found) {
            (Link::Many(ring, _), Some(found)) => {
                let has_changed = || ring.load(found.position) != found.word;
                spinner.glance(has_changed) || {
                    self.handle.mark(true);
                    self.handle.spinner.watch_on(deadline, has_changed)
                }
            }
            (Link::One(pair, side), _) => spinner.watch(deadline, || pair.is_filled(side.position)),
            (Link::Many(..), None) => true,
        }
    }

    fn sleep(&mut self, found: Option<Found>, epoch: u64, until: Deadline) -> Result<()> {
        let nothing_new = || self.handle.shared().participants.senders_epoch() == epoch;
        match (&self.link, found) {
            (Link::Many(ring, _), Some(found)) => {
                ring.sleep(found, until, || nothing_new() && self.returned_none());
            }
            (Link::One(pair, side), _) => {
                let still = || !pair.is_filled(side.position) && nothing_new() && self.returned_none();
                if !pair.sleep(Bed::Receiver, until, still) {
                    return Err(super::no_barrier(&self.handle.what));
                }
            }
            (Link::Many(..), None) => {}
        }
        Ok(())
    }

    fn returned_none(&self) -> bool {
        !self.leased || self.memory.word(layout::RETURNED).load(Relaxed) == 0
    }

    /// Whether there were senders and none is left, as far as the tables say.
    fn has_ended(&mut self) -> bool {
        let participants = &self.handle.shared().participants;
        let epoch = participants.senders_epoch();
        if epoch == 0 || epoch == self.alive_at {
            return false;
        }
        if participants.open_endpoints(Role::Sender).next().is_some() {
            self.alive_at = epoch;
            return false;
        }
        true
    }

    /// Whether nothing waits, looked at after the end was established and with the senders' epoch unchanged.
    fn is_drained(&mut self) -> Result<bool> {
        let epoch = self.handle.shared().participants.senders_epoch();
        if self.handle.shared().participants.open_endpoints(Role::Sender).next().is_some() {
            return Ok(false);
        }
        let nothing = match &mut self.link {
            Link::Many(ring, cursor) => match ring.front(cursor) {
                Ok(Front::Empty(_)) => true,
                Ok(_) => false,
                Err(fault) => return Err(self.handle.corrupt(fault)),
            },
            Link::One(pair, side) => !pair.is_filled(side.position),
        };
        if !nothing || self.handle.attachment.is_leased() {
            return Ok(false);
        }
        Ok(self.handle.shared().participants.senders_epoch() == epoch)
    }

    /// Gives the memory of large messages back when none came for a while.
    fn trim(&mut self) -> Result<()> {
        self.idle_memory = match self.idle_memory {
            IdleMemory::None => return Ok(()),
            IdleMemory::Fresh => IdleMemory::Since(Instant::now()),
            IdleMemory::Since(since) if since.elapsed() < IDLE => return Ok(()),
            IdleMemory::Since(_) => {
                let (me, segment) = (self.handle.me, &self.handle.attachment.segment);
                self.pool.trim(me, segment).map_err(|fault| self.handle.corrupt(fault))?;
                IdleMemory::None
            }
        };
        Ok(())
    }

    #[cold]
    pub(super) fn timed_out(&self) -> Error {
        Error::TimedOut { what: self.handle.what.clone(), doing: "receiving from" }
    }
}
