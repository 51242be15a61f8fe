//! `full=drop`: a sender that finds no room takes the oldest message away.
//!
//! It does so as a receiver would, and by the same steps: a message is taken by one, and counted by whoever dropped it.
//! A message in a chunk whose sender watches it loses its slot only: that its chunk is still QUEUED tells the sender,
//! who alone frees and counts it. If that one is dead and not repaired yet, its repair frees the chunk, as no slot
//! names it; if it is repaired, the slot names no owner, and the message is dropped as any other. Killed between the
//! drop and the count, a sender leaves one message uncounted.

use crate::atomic::Ordering::{Acquire, Relaxed};
use crate::error::Result;
use crate::shared::Contradiction;
use crate::shared::layout;
use crate::shared::ring::{Cursor, Found, Front, Ring};
use crate::shared::slot::About;

use super::receiver::ShmReceiver;
use super::sender::{Link, ShmSender};

/// What a sender knows of the messages that it drops.
pub(super) struct Discards {
    head: Cursor,
    count: u64,
}

impl Discards {
    pub(super) fn new(ring: &Ring) -> Self {
        Self { head: ring.cursor(layout::HEAD), count: 0 }
    }
}

impl ShmSender {
    /// Drops the oldest message, if one waits still.
    pub(super) fn discard(&mut self) -> Result<()> {
        match self.discard_front() {
            Ok(true) => self.count_discard(),
            Ok(false) => {}
            Err(fault) => return Err(self.handle.corrupt(fault)),
        }
        Ok(())
    }

    /// True: a message is gone that somebody sent and left.
    fn discard_front(&mut self) -> Result<bool, Contradiction> {
        let (Link::Many(ring, _), Some(discards)) = (&self.link, &mut self.discards) else {
            return Ok(false);
        };
        let found = match ring.front(&mut discards.head)? {
            Front::Full(found) => found,
            Front::Blocked(found) => {
                ring.outwait(found, &self.handle.spinner);
                return Ok(false);
            }
            Front::Empty(_) | Front::Lost => return Ok(false),
        };
        let slot = ring.slot(found.position);
        let about = About(self.memory.word(slot + 8).load(Relaxed));
        let is_watched = about.is_watched() && found.word.owner() != 0;
        if !about.is_chunk() || is_watched {
            return Ok(ring.take(&mut discards.head, found) && !is_watched);
        }
        self.discard_chunk(slot, found)
    }

    fn discard_chunk(&mut self, slot: u64, found: Found) -> Result<bool, Contradiction> {
        let (Link::Many(ring, _), Some(discards)) = (&self.link, &mut self.discards) else {
            return Ok(false);
        };
        // takes: nothing; it is ordered before the look whether the slot is still the same
        let reference = self.memory.word(slot + self.payload).load(Acquire);
        if ring.load(found.position) != found.word {
            return Ok(false);
        }
        let held = self.pool.chunks.hold(reference, self.handle.me, &mut self.pool.extents);
        ring.take(&mut discards.head, found); // as a receiver does, whatever the chunk was
        let Some(chunk) = held? else { return Ok(false) };
        self.pool.chunks.release(chunk);
        Ok(true)
    }

    pub(super) fn count_discard(&mut self) {
        if let Some(discards) = &mut self.discards {
            discards.count += 1;
            self.memory.word(layout::DISCARDED).fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.discards.as_ref().map_or(0, |discards| discards.count)
    }
}

impl ShmReceiver {
    pub(crate) fn discarded(&self) -> u64 {
        if self.handle.check().is_err() {
            return 0;
        }
        self.memory.word(layout::DISCARDED).load(Relaxed)
    }
}
