//! A message on its way from the channel to where its receiver wants it.

use crate::error::Result;
use crate::message::{Inbox, no_memory, wrong_size};
use crate::shared::chunks::Chunk;
use crate::shared::held::HeldChunk;
use crate::shared::ring::Found;

use super::receiver::{Lease, ShmReceiver};

impl ShmReceiver {
    /// Copies a message out of its slot and takes it. `None`: another took it meanwhile.
    #[inline(always)]
    pub(super) fn copy_inline(
        &mut self,
        inbox: &mut impl Inbox,
        len: usize,
        at: u64,
        found: Option<Found>,
    ) -> Result<Option<()>> {
        let Some(room) = inbox.room(len) else {
            // What there is no memory for stays.
            if inbox.size().is_some() && !self.pass(found) {
                return Ok(None);
            }
            return Err(wrong_size(&self.handle.what, len as u64, inbox.size()));
        };
        self.memory.read(at, room);
        Ok(self.pass(found).then_some(()))
    }

    #[inline(never)]
    pub(super) fn copy_chunk(&mut self, inbox: &mut impl Inbox, chunk: Chunk) -> Result<Lease> {
        let fits = inbox.room(chunk.len as usize).map(|room| self.memory.read(chunk.offset, room));
        self.handle.check()?;
        if self.leased && fits.is_some() {
            return Ok(Some(self.held(chunk).into()));
        }
        if fits.is_none() && inbox.size().is_none() {
            (self.undelivered, self.detour) = (Some(chunk), true);
            return Err(no_memory(&self.handle.what, chunk.len));
        }
        self.chunks.release(chunk);
        fits.map(|()| None).ok_or_else(|| wrong_size(&self.handle.what, chunk.len, inbox.size()))
    }

    pub(super) fn held(&self, chunk: Chunk) -> HeldChunk {
        HeldChunk::new(self.handle.attachment.clone(), chunk)
    }
}

impl Drop for ShmReceiver {
    fn drop(&mut self) {
        if let Some(chunk) = self.undelivered
            && self.handle.check().is_ok()
        {
            // With `ack=release` it comes again, to another.
            self.chunks.reap(chunk.id, self.handle.me, self.leased, &|_| true, &|| true);
            self.handle.shared().wake_receivers();
        }
    }
}
