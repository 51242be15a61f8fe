//! Sends that end when their message was taken, or take it back.

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::segment::Holder;
use crate::shared::chunks::Chunk;
use crate::shared::participants::{Participants, Role};
use crate::shared::ring::{Found, Ring};
use crate::shared::slot::About;
use crate::shared::wait::WATCH;

use super::handle::Patience;
use super::sender::{Link, Payload, ShmSender};

/// What a sender knows of those who take its messages.
pub(super) struct Takers {
    /// Whether there ever was one.
    met: bool,
    /// How many had died before this sender came.
    dead_before: u64,
    /// Messages of fewer bytes go into a slot; none where others may drop them, as only of a chunk it can be told from
    /// a take.
    inline_end: usize,
}

impl Takers {
    pub(super) fn new(participants: &Participants, inline_end: usize) -> Self {
        Self { met: false, dead_before: participants.receiver_deaths(), inline_end }
    }
}

/// What a delivered send waits with.
struct Wait {
    ring: Ring,
    deadline: Deadline,
    /// The deadline; with `Now`, until when a receiver that waits may take to wake up.
    until: Deadline,
    patience: Patience,
}

impl ShmSender {
    /// Sends, and waits until the message was taken. On an error nobody has it, and nobody will.
    pub(crate) fn send_delivered(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.handle.check()?;
        if message.len() < self.takers.inline_end {
            return self.deliver(message, deadline);
        }
        let mut chunk = self.chunk(message.len() as u64, deadline)?;
        self.memory.write(chunk.offset, message);
        self.deliver_chunk(&mut chunk, deadline).inspect_err(|_| self.pool.chunks.release(chunk))
    }

    /// The same of a message that fits a slot.
    pub(super) fn deliver(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.expect_taker(deadline)?;
        let position = self.post(Payload::Inline(message), deadline)?;
        self.await_take(position, None, deadline)
    }

    /// The same with a loaned chunk; on an error it is LOANED as before.
    pub(super) fn deliver_chunk(&mut self, chunk: &mut Chunk, deadline: Deadline) -> Result<()> {
        self.expect_taker(deadline)?;
        let position = self.post_chunk(chunk, About::watched(), deadline)?;
        self.await_take(position, Some(chunk), deadline)
    }

    /// With `Now`, refuses to send what nobody waits for.
    fn expect_taker(&self, deadline: Deadline) -> Result<()> {
        if matches!(self.link, Link::One(..)) {
            return Err(self.never_taken_back());
        }
        let is_alive = |owner: u16| self.handle.attachment.segment.holder(owner - 1) != Holder::Free;
        if deadline != Deadline::Now || self.handle.shared().participants.waiting_receivers().any(is_alive) {
            return Ok(());
        }
        Err(self.full())
    }

    /// Waits until the message at a position, in a chunk or not, was taken; else takes it back.
    fn await_take(&mut self, position: u64, mut chunk: Option<&mut Chunk>, deadline: Deadline) -> Result<()> {
        let Link::Many(ring, _) = &self.link else { return Err(self.never_taken_back()) };
        let until = if deadline == Deadline::Now { WATCH.into() } else { deadline };
        let mut wait = Wait { ring: ring.clone(), deadline, until, patience: Patience::default() };
        loop {
            let found = wait.ring.waiting(position);
            // A chunk is taken by its own word, before the slot that names it is emptied.
            let waits = chunk.as_ref().map_or(found.is_some(), |chunk| self.pool.chunks.waits(chunk));
            if !waits {
                self.takers.met = true;
                return Ok(());
            }
            if let Some(error) = self.wait_for_taker(found, &mut wait)
                && self.take_back(&wait.ring, position, chunk.as_deref_mut())?
            {
                if found.is_none() {
                    self.count_discard();
                }
                return Err(error);
            }
        }
    }

    /// Waits until the word of a message may say something else. An error: there is nothing more to wait for.
    fn wait_for_taker(&mut self, found: Option<Found>, wait: &mut Wait) -> Option<Error> {
        let Some(found) = found else { return Some(self.full()) }; // dropped to make room
        let is_over = wait.patience.is_over_by_now(wait.until);
        let changed = || wait.ring.load(found.position) != found.word;
        if !is_over && self.handle.spinner.watch(wait.until, changed) {
            return None;
        }
        if is_over || wait.until.is_over() {
            return Some(if wait.deadline == Deadline::Now { self.full() } else { self.timed_out() });
        }
        if self.takers_are_gone() {
            return Some(self.gone());
        }
        if self.handle.spinner.sleeps() {
            wait.ring.sleep(found, wait.patience.sleep_until(wait.until), || true);
        }
        self.handle.round().err()
    }

    /// False: it was taken.
    fn take_back(&self, ring: &Ring, position: u64, chunk: Option<&mut Chunk>) -> Result<bool> {
        let is_recalled = chunk.map(|chunk| self.pool.chunks.recall(chunk));
        if is_recalled == Some(false) {
            return Ok(false);
        }
        let retracted = ring.retract(position).map_err(|fault| self.handle.corrupt(fault))?;
        // Whoever finds a slot whose chunk was recalled empties it too.
        Ok(retracted || is_recalled == Some(true))
    }

    /// Whether there were receivers, and none is left.
    fn takers_are_gone(&mut self) -> bool {
        let is_there = self.handle.shared().participants.open_endpoints(Role::Receiver).next().is_some();
        self.takers.met |= is_there;
        self.takers.met && !is_there
    }

    #[cold]
    fn gone(&self) -> Error {
        let deaths = self.handle.shared().participants.receiver_deaths();
        let died = deaths.saturating_sub(self.takers.dead_before);
        Error::PeerGone { what: self.handle.what.clone(), died }
    }

    #[cold]
    fn never_taken_back(&self) -> Error {
        Error::Unsupported {
            what: self.handle.what.clone(),
            capability: "delivered sends, as it was made with peers=one: what is sent cannot be taken back"
                .into(),
            hint: Some("create it with peers=many, or with capacity=0".into()),
        }
    }
}
