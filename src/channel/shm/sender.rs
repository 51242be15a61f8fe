//! Sending into a segment.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::address::Address;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::message::no_memory;
use crate::shared::attachment::Attachment;
use crate::shared::chunks::Chunk;
use crate::shared::layout::{self, Ack, Full};
use crate::shared::memory::Memory;
use crate::shared::pair::{Bed, Pair, SendSide};
use crate::shared::participants::Role;
use crate::shared::pool::{Loan, Pool};
use crate::shared::ring::{Claim, Cursor, Ring};
use crate::shared::slot::About;
use crate::shared::wait::{WATCH, WaitMode};

use super::delivered::Takers;
use super::discarding::Discards;
use super::handle::{Handle, Patience};
use super::receiver::ShmReceiver;
use crate::shared::held::ShmLoan;

/// The sending end of a channel in a segment.
pub(crate) struct ShmSender {
    pub(super) handle: Handle,
    pub(super) memory: Memory,
    pub(super) link: Link,
    /// Messages of fewer bytes go into a slot, and that is all of their sending.
    direct_end: usize,
    /// Messages of fewer bytes go into a slot.
    pub(super) inline_end: usize,
    /// Every send waits until its message is taken.
    is_rendezvous: bool,
    pub(super) payload: u64,
    largest: u64,
    pub(super) pool: Pool,
    pub(super) takers: Takers,
    /// Where senders make room by dropping (`full=drop`).
    pub(super) discards: Option<Discards>,
}

pub(super) enum Link {
    Many(Ring, Cursor),
    One(Pair, SendSide),
}

/// What goes into a slot.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Inline(&'a [u8]),
    /// For the receiver to fetch what it will need before it takes it.
    Chunk(&'a Chunk, About),
}

impl Payload<'_> {
    #[inline(always)]
    fn write(self, memory: &Memory, slot: u64, payload: u64) {
        match self {
            Self::Inline(bytes) => {
                memory.word(slot + 8).store(About::inline(bytes.len()).0, Relaxed);
                memory.write(slot + payload, bytes);
            }
            Self::Chunk(chunk, about) => {
                memory.word(slot + 8).store(about.0, Relaxed);
                memory.word(slot + payload).store(chunk.reference(), Relaxed);
                memory.word(slot + payload + 8).store(chunk.offset, Relaxed);
                memory.word(slot + payload + 16).store(chunk.offset + chunk.len.saturating_sub(1), Relaxed);
            }
        }
    }
}

impl ShmSender {
    pub(super) fn new(attachment: Arc<Attachment>, mode: WaitMode) -> Result<Self> {
        let handle = Handle::open(attachment, Role::Sender, mode)?;
        let shared = handle.shared();
        let (memory, layout) = (shared.memory, shared.layout);
        let link = match layout.config.is_pair() {
            true => Link::One(shared.pair.clone(), shared.pair.send_side()),
            false => Link::Many(shared.ring.clone(), shared.ring.cursor(layout::TAIL)),
        };
        let leased = layout.config.ack == Ack::OnRelease;
        let inline_end = if leased { 0 } else { layout.inline_max() as usize + 1 };
        let is_rendezvous = layout.config.is_rendezvous();
        let drops = layout.config.full == Full::Drop;
        Ok(Self {
            memory,
            link,
            direct_end: if is_rendezvous { 0 } else { inline_end },
            inline_end,
            is_rendezvous,
            payload: layout::payload_at(layout.config.slot_bytes),
            largest: layout.config.memory_max,
            pool: Pool::new(memory, &layout),
            takers: Takers::new(&shared.participants, if drops { 0 } else { inline_end }),
            discards: drops.then(|| Discards::new(&shared.ring)),
            handle,
        })
    }

    pub(crate) fn from_descriptor(address: &Address, descriptor: OwnedFd) -> Result<Self> {
        Self::new(super::attach_descriptor(address, descriptor)?, WaitMode::Adaptive)
    }

    #[inline]
    pub(crate) fn send(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.handle.check()?;
        if message.len() < self.direct_end {
            return self.post(Payload::Inline(message), deadline).map(drop);
        }
        self.send_otherwise(message, deadline)
    }

    #[inline(never)]
    fn send_otherwise(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        if self.is_rendezvous {
            return self.send_delivered(message, deadline);
        }
        let mut chunk = self.chunk(message.len() as u64, deadline)?;
        self.memory.write(chunk.offset, message);
        let sent = self.post_chunk(&mut chunk, About::chunk(), deadline);
        sent.map(drop).inspect_err(|_| self.pool.chunks.release(chunk))
    }

    /// Sends a loaned chunk, and gives its position; on an error it is LOANED as before.
    pub(super) fn post_chunk(&mut self, chunk: &mut Chunk, about: About, deadline: Deadline) -> Result<u64> {
        self.expect_slot();
        self.pool.chunks.queue(chunk).map_err(|fault| self.handle.corrupt(fault))?;
        let sent = self.post(Payload::Chunk(chunk, about), deadline);
        if sent.is_ok() {
            self.pool.expect(chunk.len);
        } else {
            self.pool.chunks.unqueue(chunk).map_err(|fault| self.handle.corrupt(fault))?;
        }
        sent
    }

    /// Fetches the next slot's line, which the steps before it would make wait.
    #[inline(always)]
    fn expect_slot(&self) {
        self.memory.prefetch_write(match &self.link {
            Link::Many(ring, cursor) => ring.slot(cursor.position),
            Link::One(pair, side) => pair.slot(side.position),
        });
    }

    /// Puts one payload into the next slot, and gives its position.
    #[inline(always)]
    pub(super) fn post(&mut self, payload: Payload<'_>, deadline: Deadline) -> Result<u64> {
        let mut patience = Patience::default();
        loop {
            match &mut self.link {
                Link::Many(ring, cursor) => match ring.claim(cursor, self.handle.me) {
                    Ok(Claim::Claimed(claim)) => {
                        payload.write(&self.memory, ring.slot(claim.position), self.payload);
                        match ring.commit(claim) {
                            Ok(true) => return Ok(claim.position),
                            Ok(false) if patience.is_over(deadline) => return Err(self.timed_out()),
                            Ok(false) => continue, // revoked: it goes again, from our own copy
                            Err(fault) => return Err(self.handle.corrupt(fault)),
                        }
                    }
                    Ok(obstacle) => self.wait_many(obstacle, &mut patience, deadline)?,
                    Err(fault) => return Err(self.handle.corrupt(fault)),
                },
                Link::One(pair, side) => {
                    if pair.room(side) > 0 {
                        payload.write(&self.memory, pair.slot(side.position), self.payload);
                        let position = side.position;
                        pair.fill(side);
                        pair.filled(side);
                        return Ok(position);
                    }
                    self.wait_one(&mut patience, deadline)?;
                }
            }
        }
    }

    #[inline]
    pub(crate) fn send_many<'a>(
        &mut self,
        mut messages: impl Iterator<Item = &'a [u8]>,
        deadline: Deadline,
    ) -> Result<usize> {
        self.handle.check()?;
        let mut sent = 0;
        let mut left_over = None;
        loop {
            if let Link::One(pair, side) = &mut self.link {
                // As many as there is room for, with one look at the cursors before and one at the sleepers after.
                let before = sent;
                for _ in 0..pair.room(side) {
                    let Some(message) = left_over.take().or_else(|| messages.next()) else { break };
                    if message.len() >= self.direct_end {
                        left_over = Some(message);
                        break;
                    }
                    Payload::Inline(message).write(&self.memory, pair.slot(side.position), self.payload);
                    pair.fill(side);
                    sent += 1;
                }
                if sent > before {
                    pair.filled(side);
                }
            }
            let Some(message) = left_over.take().or_else(|| messages.next()) else { return Ok(sent) };
            match self.send(message, deadline) {
                Ok(()) => sent += 1,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
            }
        }
    }

    pub(crate) fn loan(&mut self, len: usize, deadline: Deadline) -> Result<ShmLoan> {
        self.handle.check()?;
        if len < self.inline_end {
            return ShmLoan::private(len).ok_or_else(|| no_memory(&self.handle.what, len as u64));
        }
        let chunk = self.chunk(len as u64, deadline)?;
        Ok(ShmLoan::chunk(self.handle.attachment.clone(), chunk))
    }

    #[expect(clippy::result_large_err, reason = "the loan comes back as it was")]
    pub(crate) fn commit(&mut self, mut loan: ShmLoan, deadline: Deadline) -> Result<(), (ShmLoan, Error)> {
        if let Err(error) = self.handle.check() {
            return Err((loan, error));
        }
        let sent = match loan.parts() {
            Ok(bytes) if self.is_rendezvous => self.deliver(bytes, deadline),
            Ok(bytes) => self.post(Payload::Inline(bytes), deadline).map(drop),
            Err((attachment, _)) if !Arc::ptr_eq(attachment, &self.handle.attachment) => {
                let what = self.handle.what.clone();
                let capability = "loans of another channel".into();
                Err(Error::Unsupported {
                    what,
                    capability,
                    hint: Some("commit to the sender that loaned".into()),
                })
            }
            Err((_, chunk)) if self.is_rendezvous => self.deliver_chunk(chunk, deadline),
            Err((_, chunk)) => self.post_chunk(chunk, About::chunk(), deadline).map(drop),
        };
        match sent {
            Ok(()) => {
                loan.sent();
                Ok(())
            }
            Err(error) => Err((loan, error)),
        }
    }

    /// A chunk for `len` bytes, waiting for one where `memory_max` is reached.
    pub(super) fn chunk(&mut self, len: u64, deadline: Deadline) -> Result<Chunk> {
        if len > self.largest {
            return Err(self.too_large(len, self.largest));
        }
        loop {
            match self.pool.loan(len, self.handle.me, &self.handle.attachment.segment)? {
                Loan::Chunk(chunk) => return Ok(chunk),
                // Chunks keep their size: where smaller ones took all the memory, nobody's release makes room.
                Loan::Exhausted if len > self.pool.extents.longest() => {
                    return Err(self.too_large(len, self.pool.extents.longest()));
                }
                Loan::Exhausted if deadline == Deadline::Now => return Err(self.full()),
                Loan::Exhausted if deadline.is_over() => return Err(self.timed_out()),
                Loan::Exhausted => self.wait_for_chunk(len, deadline)?,
            }
        }
    }

    #[cold]
    fn too_large(&self, size: u64, limit: u64) -> Error {
        let hint = Some("create it with a larger memory_max=".into());
        Error::TooLarge { what: self.handle.what.clone(), size, limit, hint }
    }

    #[cold]
    fn wait_for_chunk(&mut self, len: u64, deadline: Deadline) -> Result<()> {
        self.handle.check()?;
        let Self { pool, handle, .. } = self;
        let until = deadline.remaining_within(WATCH).into();
        if !pool.wait(until, len, handle.me, &handle.attachment.segment)? {
            handle.attachment.segment.measure()?;
            handle.attachment.reap();
        }
        Ok(())
    }

    #[cold]
    pub(super) fn full(&self) -> Error {
        Error::Full { what: self.handle.what.clone() }
    }

    #[cold]
    pub(super) fn timed_out(&self) -> Error {
        Error::TimedOut { what: self.handle.what.clone(), doing: "sending to" }
    }

    /// Waits until the obstacle may be gone.
    #[cold]
    #[inline(never)]
    fn wait_many(&mut self, obstacle: Claim, patience: &mut Patience, deadline: Deadline) -> Result<()> {
        let Link::Many(ring, _) = &self.link else { return Ok(()) };
        let found = match obstacle {
            Claim::Full(found) if !patience.is_over_by_now(deadline) => found,
            Claim::Blocked(found) if !patience.is_over(deadline) => {
                ring.outwait(found, &self.handle.spinner);
                return Ok(());
            }
            Claim::Claimed(_) | Claim::Lost if !patience.is_over(deadline) => return Ok(()),
            _ => return Err(self.timed_out()),
        };
        if self.discards.is_some() {
            return self.discard();
        }
        if deadline == Deadline::Now {
            return Err(self.full());
        }
        let changed = || ring.load(found.position) != found.word;
        if self.handle.spinner.watch(deadline, changed) {
            return Ok(());
        }
        self.handle.check()?;
        if deadline.is_over() {
            return Err(self.timed_out());
        }
        if self.handle.spinner.sleeps() {
            ring.sleep(found, patience.sleep_until(deadline), || true);
        }
        self.handle.round()
    }

    #[cold]
    #[inline(never)]
    fn wait_one(&mut self, patience: &mut Patience, deadline: Deadline) -> Result<()> {
        self.handle.check()?;
        let Link::One(pair, side) = &mut self.link else { return Ok(()) };
        // As long as it watches, a sender looks at the head that is published now and then: to ask for the exact one
        // would take its line from a receiver that stores it with each message.
        if deadline != Deadline::Now && self.handle.spinner.watch(deadline, || pair.room(side) > 0) {
            return Ok(());
        }
        if pair.exact_room(side) > 0 {
            return Ok(());
        }
        if deadline == Deadline::Now {
            return Err(self.full());
        }
        if deadline.is_over() {
            return Err(self.timed_out());
        }
        if self.handle.spinner.sleeps() {
            let until = patience.sleep_until(deadline);
            if !pair.sleep(Bed::Sender, until, || pair.exact_room(side) == 0) {
                return Err(super::no_barrier(&self.handle.what));
            }
        }
        self.handle.round()
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        self.handle.check()?;
        Self::new(self.handle.attachment.clone(), self.handle.mode)
    }

    pub(crate) fn receiver(&self) -> Result<ShmReceiver> {
        self.handle.check()?;
        ShmReceiver::new(self.handle.attachment.clone(), self.handle.mode)
    }

    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.handle.descriptor()
    }
}
