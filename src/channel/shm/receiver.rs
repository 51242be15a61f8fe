//! Receiving from a segment.

use std::hint::spin_loop;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::address::Address;
use crate::atomic::Ordering::{Acquire, Relaxed};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::message::{Inbox, no_memory, wrong_size};
use crate::shared::Contradiction;
use crate::shared::attachment::Attachment;
use crate::shared::chunks::{Chunk, Chunks};
use crate::shared::layout::{self, Ack};
use crate::shared::memory::Memory;
use crate::shared::pair::{Pair, ReceiveSide};
use crate::shared::participants::Role;
use crate::shared::pool::Pool;
use crate::shared::ring::{Cursor, Found, Front, Ring};
use crate::shared::slot::About;
use crate::shared::wait::WaitMode;

use super::handle::{Handle, Patience};
use super::sender::ShmSender;
use super::waiting::IdleMemory;
use crate::shared::held::{HeldChunk, HeldMessage};

/// So many messages without a gap are a stream.
const STREAM: u32 = 4;
/// How many pauses a receiver stays behind a stream, at most.
const LAG_MAX: u32 = 512;

/// The receiving end of a channel in a segment.
pub(crate) struct ShmReceiver {
    pub(super) handle: Handle,
    pub(super) memory: Memory,
    pub(super) link: Link,
    inline_max: u64,
    payload: u64,
    /// `ack=release`: messages are held until their guards are dropped.
    pub(super) leased: bool,
    /// Taken, when there was no memory to copy it to: it comes first when there is.
    pub(super) undelivered: Option<Chunk>,
    /// Whether a small message at the front is not what comes next, or not all that is to be done.
    pub(super) detour: bool,
    pub(super) chunks: Chunks,
    /// Only to know the chunks, and to give idle memory back.
    pub(super) pool: Pool,
    /// What memory the segment occupied when a message was last larger than that.
    occupied: u64,
    /// The senders' epoch at which one was seen alive: nothing ended while it stands.
    pub(super) alive_at: u64,
    /// Messages received since there was none.
    streak: u32,
    /// What large messages left behind.
    pub(super) idle_memory: IdleMemory,
}

pub(super) enum Link {
    Many(Ring, Cursor),
    One(Pair, ReceiveSide),
}

/// What is held until a received message is dropped (`ack=release`).
pub(crate) type Lease = Option<Box<HeldChunk>>;

/// A message at the front.
enum Message {
    /// In a slot: its length, where its bytes begin.
    Inline(usize, u64),
    /// HELD now.
    Chunk(Chunk),
}

/// What a look for a small message found.
enum Small {
    Received,
    Nothing,
    /// Something that takes a longer way.
    Other,
}

/// What a look at the front found.
enum Look {
    Message(Message, Option<Found>),
    /// Nothing; many to many, the word to sleep on.
    Nothing(Option<Found>),
    /// Look again.
    Again,
}

impl ShmReceiver {
    pub(super) fn new(attachment: Arc<Attachment>, mode: WaitMode) -> Result<Self> {
        let handle = Handle::open(attachment, Role::Receiver, mode)?;
        let shared = handle.shared();
        let (memory, layout) = (shared.memory, shared.layout);
        let link = match layout.config.is_pair() {
            true => Link::One(shared.pair.clone(), shared.pair.receive_side()),
            false => Link::Many(shared.ring.clone(), shared.ring.cursor(layout::HEAD)),
        };
        let chunks = Chunks::new(memory, &layout);
        let pool = Pool::new(memory, &layout);
        Ok(Self {
            memory,
            link,
            inline_max: layout.inline_max(),
            payload: layout::payload_at(layout.config.slot_bytes),
            leased: layout.config.ack == Ack::OnRelease,
            undelivered: None,
            detour: layout.config.ack == Ack::OnRelease,
            chunks,
            pool,
            handle,
            occupied: 0,
            alive_at: 0,
            streak: 0,
            idle_memory: IdleMemory::None,
        })
    }

    pub(crate) fn from_descriptor(address: &Address, descriptor: OwnedFd) -> Result<Self> {
        Self::new(super::attach_descriptor(address, descriptor)?, WaitMode::Adaptive)
    }

    /// Looks at the front once. A chunk is taken by this; a message in a slot is not.
    #[inline(always)]
    fn look(&mut self) -> Result<Look, Contradiction> {
        let (slot, found) = match &mut self.link {
            Link::Many(ring, cursor) => match ring.front(cursor)? {
                Front::Full(found) => (ring.slot(found.position), Some(found)),
                Front::Empty(found) => return Ok(Look::Nothing(Some(found))),
                Front::Blocked(found) => {
                    ring.outwait(found, &self.handle.spinner);
                    return Ok(Look::Again);
                }
                Front::Lost => return Ok(Look::Again),
            },
            Link::One(pair, side) if pair.is_filled(side.position) => (pair.slot(side.position), None),
            Link::One(..) => return Ok(Look::Nothing(None)),
        };
        let about = About(self.memory.word(slot + 8).load(Relaxed));
        let at = slot + self.payload;
        if !about.is_chunk() && about.len() as u64 <= self.inline_max {
            return Ok(Look::Message(Message::Inline(about.len(), at), found));
        }
        self.look_at_chunk(about, at, found)
    }

    #[inline(never)]
    fn look_at_chunk(&mut self, about: About, at: u64, found: Option<Found>) -> Result<Look, Contradiction> {
        self.expect_chunk(at, found);
        // takes: nothing; it is ordered before the look whether the slot is still the same
        let reference = self.memory.word(at).load(Acquire);
        if let (Link::Many(ring, _), Some(found)) = (&self.link, found)
            && ring.load(found.position) != found.word
        {
            return Ok(Look::Again); // what was read may be of another message
        }
        let held = match about.is_chunk() {
            true => self.chunks.hold(reference, self.handle.me, &mut self.pool.extents),
            false => Err(Contradiction("a message is longer than its slot")),
        };
        // Taken, by us or before by another who then died or was slow: the slot is free either way. So it is when
        // what it says cannot be: the next message is none the worse for it.
        self.pass(found);
        let Some(chunk) = held? else { return Ok(Look::Again) };
        self.idle_memory = IdleMemory::Fresh;
        self.vouch(chunk).map(|chunk| Look::Message(Message::Chunk(chunk), None))
    }

    /// Refuses a message that is longer than what memory there is: before room is made for its copy.
    #[inline(always)]
    fn vouch(&mut self, chunk: Chunk) -> Result<Chunk, Contradiction> {
        if chunk.len > self.occupied {
            // Where every way to the file is lost, the extents' word must do.
            self.occupied =
                self.handle.attachment.segment.metadata().map_or(u64::MAX, |metadata| metadata.allocated);
            if chunk.len > self.occupied {
                self.chunks.release(chunk);
                return Err(Contradiction("a message is longer than the memory that there is"));
            }
        }
        Ok(chunk)
    }

    /// Fetches all that a chunk's take and its first reading need, at once: one after the other each would wait.
    #[inline(always)]
    fn expect_chunk(&self, at: u64, found: Option<Found>) {
        self.chunks.expect(self.memory.word(at).load(Relaxed) as u32);
        if found.is_some() {
            self.memory.prefetch_write(at);
        }
        self.memory.prefetch_read(self.memory.word(at + 8).load(Relaxed));
        self.memory.prefetch_read(self.memory.word(at + 16).load(Relaxed));
    }

    fn is_something_there(&self) -> bool {
        match &self.link {
            Link::Many(ring, cursor) => ring.at(cursor).is_some(),
            Link::One(pair, side) => pair.is_filled(side.position),
        }
    }

    /// The message at the front is taken. False: another took it.
    #[inline(always)]
    pub(super) fn pass(&mut self, found: Option<Found>) -> bool {
        match (&mut self.link, found) {
            (Link::Many(ring, cursor), Some(found)) => ring.take(cursor, found),
            (Link::Many(..), None) => true,
            (Link::One(pair, side), _) => {
                side.position = side.position.wrapping_add(1);
                pair.taken(side);
                true
            }
        }
    }

    /// Waits for a message and gives it to `deliver` until that has it. `None`: the end.
    #[inline(always)]
    fn next<R>(
        &mut self,
        deadline: Deadline,
        deliver: impl FnMut(&mut Self, Message, Option<Found>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        self.handle.check()?;
        let came = self.look_on(deadline, deliver);
        self.handle.mark(false);
        came
    }

    #[inline(always)]
    fn look_on<R>(
        &mut self,
        deadline: Deadline,
        mut deliver: impl FnMut(&mut Self, Message, Option<Found>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let mut patience = Patience::default();
        loop {
            if let Some(chunk) = self.undelivered.take() {
                self.detour = self.leased;
                if let Some(done) = deliver(self, Message::Chunk(chunk), None)? {
                    return Ok(Some(done));
                }
            }
            if self.leased
                && let Some(chunk) = self.returned()?
                && let Some(done) = deliver(self, Message::Chunk(chunk), None)?
            {
                return Ok(Some(done));
            }
            match self.look() {
                Ok(Look::Message(message, found)) => {
                    if let Some(done) = deliver(self, message, found)? {
                        return Ok(Some(done));
                    }
                }
                Ok(Look::Nothing(found)) => {
                    if self.wait(found, &mut patience, deadline)? {
                        return Ok(None);
                    }
                }
                Ok(Look::Again) if patience.is_over(deadline) => return Err(self.timed_out()),
                Ok(Look::Again) => {}
                Err(fault) => return Err(self.handle.corrupt(fault)),
            }
            if patience.is_over_by_now(deadline) {
                return Err(self.timed_out());
            }
        }
    }

    /// A chunk that a dead receiver did not release.
    fn returned(&mut self) -> Result<Option<Chunk>> {
        let held = self.chunks.hold_returned(self.handle.me, &mut self.pool.extents);
        let vouched = held.and_then(|held| held.map(|chunk| self.vouch(chunk)).transpose());
        vouched.map_err(|fault| self.handle.corrupt(fault))
    }

    #[inline]
    pub(crate) fn recv<I: Inbox>(&mut self, inbox: &mut I, deadline: Deadline) -> Result<Option<Lease>> {
        // What comes while we look goes the shortest way: from the look to the copy.
        for _ in 0..self.handle.spinner.looks(deadline) {
            match self.recv_small(inbox) {
                Small::Received => return Ok(Some(None)),
                Small::Other => break,
                Small::Nothing => {}
            }
            self.fall_behind();
            // Twice: each look takes the line from a sender that may be between its claim and its commit.
            spin_loop();
            spin_loop();
        }
        self.recv_any(inbox, deadline)
    }

    /// Messages came in a stream and now we caught up with the sender: wait a little, or each of our looks takes from
    /// it the very line that it is writing. The longer the stream, the longer: a burst is not kept waiting.
    #[inline(always)]
    fn fall_behind(&mut self) {
        if self.streak >= STREAM {
            (0..self.streak.min(LAG_MAX)).for_each(|_| spin_loop());
        }
        self.streak = 0;
    }

    /// The common case by the shortest way: a small message stands at the front.
    #[inline(always)]
    fn recv_small<I: Inbox>(&mut self, inbox: &mut I) -> Small {
        if self.detour || self.handle.check().is_err() {
            return Small::Other;
        }
        let (slot, found) = match &self.link {
            Link::Many(ring, cursor) => match ring.at(cursor) {
                Some(found) => (ring.slot(found.position), Some(found)),
                None => return Small::Nothing,
            },
            Link::One(pair, side) if pair.is_filled(side.position) => {
                if self.streak >= STREAM {
                    pair.expect(side.position);
                }
                (pair.slot(side.position), None)
            }
            Link::One(..) => return Small::Nothing,
        };
        self.streak = self.streak.wrapping_add(1);
        let about = About(self.memory.word(slot + 8).load(Relaxed));
        if about.is_chunk() || about.len() as u64 > self.inline_max {
            return Small::Other;
        }
        let Some(room) = inbox.room(about.len()) else { return Small::Other };
        self.memory.read(slot + self.payload, room);
        if self.pass(found) { Small::Received } else { Small::Nothing }
    }

    #[inline(never)]
    fn recv_any<I: Inbox>(&mut self, inbox: &mut I, deadline: Deadline) -> Result<Option<Lease>> {
        self.next(deadline, |this, message, found| match message {
            Message::Inline(len, at) => {
                this.copy_inline(inbox, len, at, found).map(|taken| taken.map(|()| None))
            }
            Message::Chunk(chunk) => this.copy_chunk(inbox, chunk).map(Some),
        })
    }

    #[inline]
    pub(crate) fn recv_many<I: Inbox>(&mut self, places: &mut [I], deadline: Deadline) -> Result<usize> {
        let mut count = 0;
        let mut deadline = deadline;
        while count < places.len() {
            if let Some(more) = self.sweep(&mut places[count..]) {
                count += more;
                self.streak += more as u32;
                deadline = Deadline::Now;
                continue;
            }
            match self.recv(&mut places[count], deadline) {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok(count),
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
            deadline = Deadline::Now;
        }
        Ok(count)
    }

    /// One to one: copies all small messages that are there, and takes them with one store.
    #[inline(always)]
    fn sweep<I: Inbox>(&mut self, places: &mut [I]) -> Option<usize> {
        let Link::One(pair, side) = &mut self.link else { return None };
        if self.detour || self.handle.check().is_err() {
            return None;
        }
        let start = side.position;
        let mut position = start;
        for place in places {
            if !pair.is_filled(position) {
                break;
            }
            let slot = pair.slot(position);
            pair.expect(position);
            let about = About(self.memory.word(slot + 8).load(Relaxed));
            if about.is_chunk() || about.len() as u64 > self.inline_max {
                break;
            }
            let Some(room) = place.room(about.len()) else { break };
            self.memory.read(slot + self.payload, room);
            position = position.wrapping_add(1);
        }
        let count = position.wrapping_sub(start) as usize;
        if count == 0 {
            return None;
        }
        side.position = position;
        pair.taken(side);
        Some(count)
    }

    pub(crate) fn recv_in_place(
        &mut self,
        deadline: Deadline,
        size: Option<usize>,
    ) -> Result<Option<HeldMessage>> {
        for _ in 0..self.handle.spinner.looks(deadline) {
            if self.leased || self.handle.check().is_err() || self.is_something_there() {
                break;
            }
            spin_loop();
            spin_loop();
        }
        self.next(deadline, |this, message, found| {
            let held = match message {
                Message::Inline(len, at) => {
                    let held = HeldMessage::copied(len);
                    let mut held = held.ok_or_else(|| no_memory(&this.handle.what, len as u64))?;
                    this.memory.read(at, held.room());
                    if !this.pass(found) {
                        return Ok(None);
                    }
                    held
                }
                Message::Chunk(chunk) => HeldMessage::Chunk(this.held(chunk)),
            };
            match size {
                Some(size) if size != held.len() => {
                    Err(wrong_size(&this.handle.what, held.len() as u64, Some(size)))
                }
                _ => Ok(Some(held)),
            }
        })
    }

    pub(crate) fn died(&self) -> u64 {
        if self.handle.check().is_err() {
            return 0;
        }
        self.handle.shared().participants.deaths()
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        self.handle.check()?;
        Self::new(self.handle.attachment.clone(), self.handle.mode)
    }

    pub(crate) fn sender(&self) -> Result<ShmSender> {
        self.handle.check()?;
        ShmSender::new(self.handle.attachment.clone(), self.handle.mode)
    }

    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.handle.descriptor()
    }
}
