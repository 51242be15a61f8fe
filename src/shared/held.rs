//! Messages in a process's hands: loans that are not sent yet, messages that are not released yet.

use std::sync::Arc;

use super::attachment::Attachment;
use super::chunks::Chunk;

/// What fits a slot is kept privately.
const INLINE: usize = 48;

/// A received message that was not copied out, or that is to be acknowledged.
pub(crate) enum HeldMessage {
    /// It lay in a slot, and was copied out.
    Copied { len: usize, bytes: [u8; INLINE] },
    /// As above, from a larger slot.
    Boxed(Box<[u8]>),
    /// It lies in a chunk.
    Chunk(HeldChunk),
}

/// A chunk that is HELD until this is dropped.
pub(crate) struct HeldChunk {
    attachment: Arc<Attachment>,
    chunk: Chunk,
}

impl HeldChunk {
    pub(crate) fn new(attachment: Arc<Attachment>, chunk: Chunk) -> Self {
        Self { attachment, chunk }
    }

    pub(crate) fn redelivered(&self) -> bool {
        self.chunk.word.redelivered()
    }
}

impl Drop for HeldChunk {
    fn drop(&mut self) {
        if !self.attachment.mark().is_void() {
            self.attachment.shared.chunks.release(self.chunk);
        }
    }
}

impl HeldMessage {
    /// Room for a message that was in a slot; `None` where there is no memory for it.
    pub(crate) fn copied(len: usize) -> Option<Self> {
        if len <= INLINE {
            return Some(Self::Copied { len, bytes: [0; INLINE] });
        }
        zeroes(len).map(Self::Boxed)
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        match self {
            Self::Copied { len, bytes } => &mut bytes[..*len],
            Self::Boxed(bytes) => bytes,
            Self::Chunk(_) => &mut [],
        }
    }

    pub(crate) fn redelivered(&self) -> bool {
        matches!(self, Self::Chunk(held) if held.redelivered())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Copied { len, .. } => *len,
            Self::Boxed(bytes) => bytes.len(),
            Self::Chunk(held) => held.chunk.len as usize,
        }
    }

    pub(crate) fn read_at(&self, offset: usize, into: &mut [u8]) {
        let range = range(offset, into.len(), self.len());
        match self {
            Self::Copied { bytes, .. } => into.copy_from_slice(&bytes[range]),
            Self::Boxed(bytes) => into.copy_from_slice(&bytes[range]),
            Self::Chunk(held) if held.attachment.mark().is_void() => into.fill(0),
            Self::Chunk(held) => held.attachment.shared.memory.read(held.chunk.offset + offset as u64, into),
        }
    }

    /// # Safety
    /// No process writes to the message's bytes while the slice lives, and the process has not forked.
    pub(crate) unsafe fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied { len, bytes } => &bytes[..*len],
            Self::Boxed(bytes) => bytes,
            Self::Chunk(HeldChunk { attachment, chunk }) => {
                // SAFETY: the chunk lies inside the mapping (checked when it was held), which the attachment keeps;
                // nobody writes to it (the caller's promise).
                unsafe { attachment.shared.memory.as_slice(chunk.offset, chunk.len) }
            }
        }
    }
}

/// Room for a message that is not sent yet; dropped, it goes back.
pub(crate) struct ShmLoan {
    /// A small one lives with its caller and is copied when it is sent.
    private: Box<[u8]>,
    chunk: Option<(Arc<Attachment>, Chunk)>,
}

impl ShmLoan {
    /// `None` where there is no memory for it.
    pub(crate) fn private(len: usize) -> Option<Self> {
        Some(Self { private: zeroes(len)?, chunk: None })
    }

    pub(crate) fn chunk(attachment: Arc<Attachment>, chunk: Chunk) -> Self {
        Self { private: Box::default(), chunk: Some((attachment, chunk)) }
    }

    /// Its bytes, or the chunk they lie in.
    pub(crate) fn parts(&mut self) -> Result<&[u8], (&Arc<Attachment>, &mut Chunk)> {
        match &mut self.chunk {
            Some((attachment, chunk)) => Err((attachment, chunk)),
            None => Ok(&self.private),
        }
    }

    /// It is the receiver's now.
    pub(crate) fn sent(mut self) {
        self.chunk = None;
    }

    pub(crate) fn len(&self) -> usize {
        self.chunk.as_ref().map_or(self.private.len(), |(_, chunk)| chunk.len as usize)
    }

    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let range = range(offset, bytes.len(), self.len());
        match &self.chunk {
            Some((attachment, _)) if attachment.mark().is_void() => {}
            Some((attachment, chunk)) => attachment.shared.memory.write(chunk.offset + offset as u64, bytes),
            None => self.private[range].copy_from_slice(bytes),
        }
    }

    /// # Safety
    /// No process touches these bytes while the slice lives, and the process has not forked.
    pub(crate) unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        match &self.chunk {
            Some((attachment, chunk)) => {
                // SAFETY: the chunk lies inside the mapping, which the attachment keeps; it is LOANED to this value
                // alone, and nobody else touches it (the caller's promise).
                unsafe { attachment.shared.memory.as_mut_slice(chunk.offset, chunk.len) }
            }
            None => &mut self.private,
        }
    }
}

impl Drop for ShmLoan {
    fn drop(&mut self) {
        if let Some((attachment, chunk)) = &self.chunk
            && !attachment.mark().is_void()
        {
            attachment.shared.chunks.release(*chunk);
        }
    }
}

/// So many bytes, where there is memory for them.
fn zeroes(len: usize) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    Some(bytes.into())
}

/// Like indexing a slice: panics where `offset + len` is beyond the end.
fn range(offset: usize, len: usize, size: usize) -> std::ops::Range<usize> {
    let end = offset.checked_add(len).filter(|end| *end <= size);
    assert!(end.is_some(), "{len} bytes at {offset} are beyond the message's {size}");
    offset..offset + len
}
