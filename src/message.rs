//! Bytes ⇄ types: what can be sent, and where a received message lands.

use std::ops::Deref;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, Text};

/// A type that can be a channel's messages: `[u8]`, or any plain type of fixed layout
/// ([`zerocopy`]'s `IntoBytes + FromBytes`: no pointers, no padding, every bit pattern valid).
///
/// ```
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Debug, PartialEq)]
/// #[repr(C)]
/// struct Reading { pressure_kpa: f32, flow_lps: f32 }
///
/// let mut sender = narrows::Sender::<Reading>::open("memfd:readings")?;
/// let mut receiver = sender.receiver()?;
/// sender.send(&Reading { pressure_kpa: 412.0, flow_lps: 0.7 })?;
/// assert_eq!(receiver.recv()?.unwrap().pressure_kpa, 412.0);
/// # Ok::<(), narrows::Error>(())
/// ```
pub trait Message {
    /// Private memory that holds one received message and can be used again for the next.
    type Owned: Inbox + Send;

    /// The message's size in bytes where all messages of the type have the same.
    const SIZE: Option<usize>;

    /// The bytes that travel.
    fn as_bytes(&self) -> &[u8];

    /// An empty place for a message to land in.
    fn empty() -> Self::Owned;

    /// The message that landed.
    fn view(owned: &Self::Owned) -> &Self;
}

/// Somewhere a message's bytes can be copied to.
pub trait Inbox {
    /// Exactly `len` bytes to write to, or `None` where the type has another size, or where there is no memory.
    ///
    /// The bytes hold anything until they are written. Called again, it may return other memory.
    fn room(&mut self, len: usize) -> Option<&mut [u8]>;

    /// The only size in bytes that it has room for, if there is only one.
    fn size(&self) -> Option<usize> {
        None
    }
}

/// A byte message: small ones lie in the value itself, so that receiving them allocates nothing.
#[derive(Clone)]
pub struct Bytes {
    len: usize,
    inline: [u8; Self::INLINE],
    heap: Vec<u8>,
}

impl Bytes {
    const INLINE: usize = 48;

    /// The message as a vector.
    pub fn into_vec(mut self) -> Vec<u8> {
        if self.len <= Self::INLINE {
            return self.inline[..self.len].to_vec();
        }
        self.heap.truncate(self.len);
        self.heap
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self { len: 0, inline: [0; Self::INLINE], heap: Vec::new() }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.len <= Self::INLINE { &self.inline[..self.len] } else { &self.heap[..self.len] }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(out)
    }
}

impl Inbox for Bytes {
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        if len <= Self::INLINE {
            self.len = len;
            return Some(&mut self.inline[..len]);
        }
        if self.heap.len() < len {
            self.heap.try_reserve_exact(len - self.heap.len()).ok()?;
            self.heap.resize(len, 0);
        }
        self.len = len;
        Some(&mut self.heap[..len])
    }
}

impl Message for [u8] {
    type Owned = Bytes;
    const SIZE: Option<usize> = None;

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn empty() -> Bytes {
        Bytes::default()
    }

    #[inline]
    fn view(owned: &Bytes) -> &[u8] {
        owned
    }
}

/// A place for one plain value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

impl<T: FromBytes + IntoBytes> Inbox for Plain<T> {
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        (len == size_of::<T>()).then(|| self.0.as_mut_bytes())
    }

    fn size(&self) -> Option<usize> {
        Some(size_of::<T>())
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send> Message for T {
    type Owned = Plain<T>;
    const SIZE: Option<usize> = Some(size_of::<T>());

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    #[inline]
    fn empty() -> Plain<T> {
        Plain(T::new_zeroed())
    }

    #[inline]
    fn view(owned: &Plain<T>) -> &T {
        &owned.0
    }
}

/// The error of a message that its receiver has no room for: its type has another size, or there is no memory.
#[cold]
pub(crate) fn wrong_size(what: &Text, found: u64, expected: Option<usize>) -> Error {
    let what = what.clone();
    match expected {
        Some(expected) => Error::Mismatch {
            what,
            option: "message size".into(),
            theirs: format!("{found} bytes").into(),
            ours: format!("{expected} bytes").into(),
        },
        None => no_memory(&what, found),
    }
}

/// The error of a message for which this process has no memory.
#[cold]
pub(crate) fn no_memory(what: &Text, size: u64) -> Error {
    Error::NoSpace {
        what: what.clone(),
        supply: format!("memory of this process for a message of {size} bytes").into(),
        hint: Some("free some, or raise `ulimit -v`; what is received in place needs less".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_memory_for_is_refused_and_what_landed_before_stays() {
        let mut bytes = Bytes::default();
        bytes.room(3).unwrap().copy_from_slice(b"abc");
        assert!(bytes.room(isize::MAX as usize).is_none());
        assert_eq!(&*bytes, b"abc");
        let error = wrong_size(&"shm:x".into(), 1 << 40, bytes.size());
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }
}
