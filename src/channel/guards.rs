//! Messages in a user's hands: [`Received`], [`InPlace`], [`Loan`].

use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Deref;

use crate::error::Error;
use crate::message::Message;
use crate::shared::held::{HeldChunk, HeldMessage, ShmLoan};

/// A received message: private memory, which no peer can change.
///
/// It does not borrow the receiver: keep it for as long as you like. With `ack=release` the message is consumed
/// when this is dropped.
pub struct Received<T: Message + ?Sized = [u8]> {
    pub(super) owned: T::Owned,
    pub(super) held: Option<Box<HeldChunk>>,
}

impl<T: Message + ?Sized> Received<T> {
    /// Whether the message was delivered before to a receiver that died before it released it (`ack=release`).
    pub fn redelivered(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.redelivered())
    }

    /// The message as a value of its own; acknowledges it.
    pub fn into_owned(self) -> T::Owned {
        self.owned
    }
}

impl<T: Message + ?Sized> Deref for Received<T> {
    type Target = T;

    fn deref(&self) -> &T {
        T::view(&self.owned)
    }
}

impl<T: Message + std::fmt::Debug + ?Sized> std::fmt::Debug for Received<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(out)
    }
}

/// A received message that still lies in the channel's memory, where its sender wrote it.
///
/// Peers of one trust domain are trusted not to write to it, but nothing stops a broken one: so safe reads are
/// copies, and a view in place is `unsafe`. Dropping it gives the memory back.
pub struct InPlace<T: Message + ?Sized = [u8]> {
    pub(super) held: HeldMessage,
    pub(super) type_: PhantomData<fn() -> *const T>,
}

impl<T: Message + ?Sized> InPlace<T> {
    /// The message's size in bytes.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it was delivered before to a receiver that died before it released it (`ack=release`).
    pub fn redelivered(&self) -> bool {
        self.held.redelivered()
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Panics
    /// Where `offset + into.len()` is larger than the message, as slices do.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) {
        self.held.read_at(offset, into);
    }

    /// Copies the whole message out.
    pub fn to_owned(&self) -> T::Owned {
        use crate::message::Inbox;
        let mut owned = T::empty();
        match owned.room(self.len()) {
            Some(room) => self.read_at(0, room),
            // A plain type has the size that was asked for; so there is no memory, as in `<[u8]>::to_owned`.
            None => handle_alloc_error(Layout::array::<u8>(self.len()).unwrap_or(Layout::new::<u8>())),
        }
        owned
    }
}

impl InPlace<[u8]> {
    /// The message where it lies.
    ///
    /// # Safety
    /// No process may write to the message's bytes while the slice lives. Every peer that uses this library keeps
    /// to that; the caller vouches for the rest.
    #[allow(unsafe_code)]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: passed on to the caller.
        unsafe { self.held.as_slice() }
    }
}

/// Room for one message in the channel's memory, written before it is sent.
pub struct Loan<T: Message + ?Sized = [u8]> {
    pub(super) loan: ShmLoan,
    pub(super) type_: PhantomData<fn(&T)>,
}

impl<T: Message + ?Sized> Loan<T> {
    /// The message's size in bytes.
    pub fn len(&self) -> usize {
        self.loan.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes in, at `offset`. What was never written is sent as it is: bytes of an earlier message.
    ///
    /// # Panics
    /// Where `offset + bytes.len()` is larger than the loan, as slices do.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        self.loan.write_at(offset, bytes);
    }

    /// Writes the whole message.
    ///
    /// # Panics
    /// Where the message has not the size of the loan.
    pub fn write(&mut self, message: &T) {
        assert_eq!(message.as_bytes().len(), self.len(), "the message has the size of its loan");
        self.write_at(0, message.as_bytes());
    }

    /// The loan's bytes where they lie.
    ///
    /// # Safety
    /// No process may touch these bytes while the slice lives. Every peer that uses this library keeps to that;
    /// the caller vouches for the rest.
    #[allow(unsafe_code)]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: passed on to the caller.
        unsafe { self.loan.as_mut_slice() }
    }
}

/// A loan that could not be sent, and why. `?` turns it into its error and gives the loan back to the channel.
pub struct Uncommitted<T: Message + ?Sized = [u8]> {
    /// The loan, untouched.
    pub loan: Loan<T>,
    /// Why it was not sent.
    pub error: Error,
}

impl<T: Message + ?Sized> std::fmt::Debug for Uncommitted<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Uncommitted").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T: Message + ?Sized> From<Uncommitted<T>> for Error {
    fn from(uncommitted: Uncommitted<T>) -> Self {
        uncommitted.error
    }
}

impl<T: Message + ?Sized> std::fmt::Display for Uncommitted<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(out)
    }
}

impl<T: Message + ?Sized> std::error::Error for Uncommitted<T> {}
