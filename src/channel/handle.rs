//! What users hold: [`Sender`], [`Receiver`], and the guards around messages.

use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::address::Address;
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::message::{Message, wrong_size};
use crate::shared::held::{HeldChunk, HeldMessage, ShmLoan};

use super::shm::{ShmReceiver, ShmSender};
use super::transport::{ReceiverEnd, SenderEnd, Transport};

/// The sending end of a channel.
///
/// It is one thread's handle: give each thread its own ([`try_clone`](Self::try_clone)). Dropping it closes it in
/// order; a process that is killed instead is recognised by the receivers.
///
/// ```
/// let mut jobs = narrows::Sender::<[u8]>::open("memfd:jobs,capacity=8")?;
/// let mut worker = jobs.receiver()?;
/// jobs.send(b"rebuild index")?;
/// assert_eq!(&*worker.recv()?.unwrap(), b"rebuild index");
/// # Ok::<(), narrows::Error>(())
/// ```
pub struct Sender<T: Message + ?Sized = [u8]> {
    address: Address,
    row: &'static Transport,
    end: SenderEnd,
    type_: PhantomData<fn(&T)>,
}

impl<T: Message + ?Sized> Sender<T> {
    /// Opens an address for sending, waiting without bound for a receiver where the transport needs one.
    ///
    /// # Errors
    /// See [`open_by`](Self::open_by).
    pub fn open<A>(address: A) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        Self::open_by(address, Deadline::Never)
    }

    /// Opens an address for sending.
    ///
    /// # Errors
    /// `InvalidAddress`, `NotFound` (with `create=never`), `Permission`, `Busy` (the one sender's place is taken),
    /// `WrongKind`, `Mismatch`, `NoSpace`, `Corrupt`, `Unsupported`, and `TimedOut` where a receiver did not appear.
    pub fn open_by<A>(address: A, deadline: impl Into<Deadline>) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address: Address = address.try_into()?;
        let address = address.absolute()?;
        let row = Transport::of(&address)?;
        let end = (row.open_sender)(&address, deadline.into())?;
        Ok(Self { address, row, end, type_: PhantomData })
    }

    /// Opens a channel that lies in memory which another process passed (see [`Self::descriptor`]).
    ///
    /// # Errors
    /// `WrongKind` where the descriptor is no channel's, `Busy`, `Corrupt`, `NoSpace`.
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Self> {
        let (address, row) = super::shm::inherited(&descriptor)?;
        let end = SenderEnd::Shm(ShmSender::from_descriptor(&address, descriptor)?);
        Ok(Self { address, row, end, type_: PhantomData })
    }

    /// Sends one message, waiting for room.
    ///
    /// # Errors
    /// `TooLarge`, `PeerGone`, `NoSpace`, `Forked`, `Corrupt`. After an error nothing was sent.
    ///
    /// # After a crash
    /// Killed inside, the message is either wholly in the channel or not at all.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<()> {
        self.send_by(message, Deadline::Never)
    }

    /// Sends one message, waiting for room until the deadline.
    ///
    /// # Errors
    /// As [`send`](Self::send); `Full` where the deadline is `Now`, `TimedOut` where it passes later.
    #[inline]
    pub fn send_by(&mut self, message: &T, deadline: impl Into<Deadline>) -> Result<()> {
        match &mut self.end {
            SenderEnd::Shm(sender) => sender.send(message.as_bytes(), deadline.into()),
            SenderEnd::Other(sender) => sender.send(message.as_bytes(), deadline.into()),
        }
    }

    /// Sends several messages in order and gives how many went before the deadline; all, without one.
    ///
    /// # Errors
    /// As [`send_by`](Self::send_by), where not even the first went.
    ///
    /// # After a crash
    /// Killed inside, a prefix of the messages is in the channel.
    #[inline]
    pub fn send_many<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a T>,
        deadline: impl Into<Deadline>,
    ) -> Result<usize>
    where
        T: 'a,
    {
        let mut messages = messages.into_iter().map(T::as_bytes);
        match &mut self.end {
            SenderEnd::Shm(sender) => sender.send_many(messages, deadline.into()),
            SenderEnd::Other(sender) => sender.send_many(&mut messages, deadline.into()),
        }
    }

    /// Borrows room for a message of `len` bytes in the channel's own memory, to be written where it will be read.
    ///
    /// Any number of loans may be out; one that is dropped goes back.
    ///
    /// # Errors
    /// `Unsupported` where the transport has no memory of its own; `TooLarge`, `NoSpace`; `Mismatch` where `T` has
    /// another size.
    pub fn loan(&mut self, len: usize) -> Result<Loan<T>> {
        if T::SIZE.is_some_and(|size| size != len) {
            return Err(wrong_size(&self.address.text(), len as u64, T::SIZE));
        }
        match &mut self.end {
            SenderEnd::Shm(sender) => Ok(Loan { loan: sender.loan(len)?, type_: PhantomData }),
            SenderEnd::Other(_) => Err(unsupported(self.row, &self.address, Capability::InPlace)),
        }
    }

    /// Sends what was written into a loan of this sender, waiting for room.
    ///
    /// # Errors
    /// [`Uncommitted`] carries the error of [`send`](Self::send) and the loan, untouched.
    #[expect(clippy::result_large_err, reason = "the loan comes back as it was")]
    pub fn commit(&mut self, loan: Loan<T>) -> Result<(), Uncommitted<T>> {
        self.commit_by(loan, Deadline::Never)
    }

    /// Sends what was written into a loan of this sender, waiting for room until the deadline.
    ///
    /// # Errors
    /// [`Uncommitted`] carries the error of [`send_by`](Self::send_by) and the loan, untouched.
    #[expect(clippy::result_large_err, reason = "the loan comes back as it was")]
    pub fn commit_by(&mut self, loan: Loan<T>, deadline: impl Into<Deadline>) -> Result<(), Uncommitted<T>> {
        match &mut self.end {
            SenderEnd::Shm(sender) => sender
                .commit(loan.loan, deadline.into())
                .map_err(|(loan, error)| Uncommitted { loan: Loan { loan, type_: PhantomData }, error }),
            SenderEnd::Other(_) => {
                let error = unsupported(self.row, &self.address, Capability::InPlace);
                Err(Uncommitted { loan, error })
            }
        }
    }

    /// Another sender on the same channel, for another thread.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn try_clone(&self) -> Result<Self> {
        let end = match &self.end {
            SenderEnd::Shm(sender) => SenderEnd::Shm(sender.try_clone()?),
            SenderEnd::Other(_) => (self.row.open_sender)(&self.address, Deadline::Now)?,
        };
        Ok(Self { address: self.address.clone(), row: self.row, end, type_: PhantomData })
    }

    /// A receiver on the same channel, for another thread of this process.
    ///
    /// # Errors
    /// As [`Receiver::open`].
    pub fn receiver(&self) -> Result<Receiver<T>> {
        let end = match &self.end {
            SenderEnd::Shm(sender) => ReceiverEnd::Shm(sender.receiver()?),
            SenderEnd::Other(_) => (self.row.open_receiver)(&self.address, Deadline::Now)?,
        };
        Ok(Receiver { address: self.address.clone(), row: self.row, end, type_: PhantomData })
    }

    /// The address that was opened, with an absolute path.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What this transport can do.
    pub fn capabilities(&self) -> Capabilities {
        self.row.capabilities
    }

    /// The descriptor of the channel's memory, to be inherited by a child or passed over a Unix socket
    /// ([`pass_descriptor`](crate::sys::pass_descriptor)); the other side opens it by `fd:N` or
    /// [`Receiver::from_descriptor`].
    ///
    /// # Errors
    /// `Unsupported` where there is no such memory, or this process has closed its descriptors since.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        match &self.end {
            SenderEnd::Shm(sender) => sender.descriptor(),
            SenderEnd::Other(_) => Err(unsupported(self.row, &self.address, Capability::InPlace)),
        }
    }
}

/// The receiving end of a channel. One thread's handle, as [`Sender`] is.
///
/// ```no_run
/// let mut log = narrows::Receiver::<[u8]>::open("shm:log")?;
/// while let Some(line) = log.recv()? {
///     println!("{}", String::from_utf8_lossy(&line));
/// }
/// # Ok::<(), narrows::Error>(())
/// ```
pub struct Receiver<T: Message + ?Sized = [u8]> {
    address: Address,
    row: &'static Transport,
    end: ReceiverEnd,
    type_: PhantomData<fn() -> *const T>,
}

// SAFETY is not at stake here: `T` is only a name for the messages, nothing of it is stored.
impl<T: Message + ?Sized> Receiver<T> {
    /// Opens an address for receiving.
    ///
    /// # Errors
    /// See [`open_by`](Self::open_by).
    pub fn open<A>(address: A) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        Self::open_by(address, Deadline::Never)
    }

    /// Opens an address for receiving.
    ///
    /// # Errors
    /// As [`Sender::open_by`].
    pub fn open_by<A>(address: A, deadline: impl Into<Deadline>) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address: Address = address.try_into()?;
        let address = address.absolute()?;
        let row = Transport::of(&address)?;
        let end = (row.open_receiver)(&address, deadline.into())?;
        Ok(Self { address, row, end, type_: PhantomData })
    }

    /// Opens a channel that lies in memory which another process passed (see [`Sender::descriptor`]).
    ///
    /// # Errors
    /// As [`Sender::from_descriptor`].
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Self> {
        let (address, row) = super::shm::inherited(&descriptor)?;
        let end = ReceiverEnd::Shm(ShmReceiver::from_descriptor(&address, descriptor)?);
        Ok(Self { address, row, end, type_: PhantomData })
    }

    /// Receives one message, waiting for it; `None` at the end: there were senders, none is left, and all that
    /// they sent was received. The end is not sticky: a new sender resumes.
    ///
    /// # Errors
    /// `Mismatch` where a message has not the size of `T` (it is then consumed); `Forked`, `Corrupt`.
    ///
    /// # After a crash
    /// Killed inside, this process has the message or the channel still has it, never both. With `ack=release`
    /// a message comes again, flagged, unless its guard was dropped.
    #[inline]
    pub fn recv(&mut self) -> Result<Option<Received<T>>> {
        self.recv_by(Deadline::Never)
    }

    /// Receives one message, waiting for it until the deadline.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `TimedOut`, also where the deadline is `Now`.
    #[inline]
    pub fn recv_by(&mut self, deadline: impl Into<Deadline>) -> Result<Option<Received<T>>> {
        let mut received = Received::<T> { owned: T::empty(), held: None };
        let came = match &mut self.end {
            ReceiverEnd::Shm(receiver) => receiver.recv(&mut received.owned, deadline.into())?,
            ReceiverEnd::Other(receiver) => {
                receiver.recv(&mut received.owned, deadline.into())?.map(|()| None)
            }
        };
        Ok(came.map(|held| {
            received.held = held;
            received
        }))
    }

    /// Receives one message into a place that was used before, which saves its allocation; `false` at the end.
    /// With `ack=release` the message is acknowledged at once.
    ///
    /// # Errors
    /// As [`recv_by`](Self::recv_by).
    #[inline]
    pub fn recv_into(&mut self, place: &mut T::Owned, deadline: impl Into<Deadline>) -> Result<bool> {
        match &mut self.end {
            ReceiverEnd::Shm(receiver) => Ok(receiver.recv(place, deadline.into())?.is_some()),
            ReceiverEnd::Other(receiver) => Ok(receiver.recv(place, deadline.into())?.is_some()),
        }
    }

    /// Receives what is there, at least one message and at most as many as there are places; 0 at the end.
    /// Waits for the first only. With `ack=release` the messages are acknowledged at once.
    ///
    /// # Errors
    /// As [`recv_by`](Self::recv_by).
    #[inline]
    pub fn recv_many(&mut self, places: &mut [T::Owned], deadline: impl Into<Deadline>) -> Result<usize> {
        match &mut self.end {
            ReceiverEnd::Shm(receiver) => receiver.recv_many(places, deadline.into()),
            ReceiverEnd::Other(receiver) => {
                let mut deadline = deadline.into();
                for (count, place) in places.iter_mut().enumerate() {
                    match receiver.recv(place, deadline) {
                        Ok(Some(())) => deadline = Deadline::Now,
                        Ok(None) => return Ok(count),
                        Err(error) if count == 0 => return Err(error),
                        Err(_) => return Ok(count),
                    }
                }
                Ok(places.len())
            }
        }
    }

    /// Receives one message and leaves its bytes where they are; they are given back when the guard is dropped.
    ///
    /// # Errors
    /// As [`recv_by`](Self::recv_by), and `Unsupported` where the transport has no memory of its own.
    pub fn recv_in_place(&mut self, deadline: impl Into<Deadline>) -> Result<Option<InPlace<T>>> {
        match &mut self.end {
            ReceiverEnd::Shm(receiver) => {
                let held = receiver.recv_in_place(deadline.into(), T::SIZE)?;
                Ok(held.map(|held| InPlace { held, type_: PhantomData }))
            }
            ReceiverEnd::Other(_) => Err(unsupported(self.row, &self.address, Capability::InPlace)),
        }
    }

    /// How many senders died without closing, as far as the mechanism tells (capability `deaths`).
    pub fn died(&self) -> u64 {
        match &self.end {
            ReceiverEnd::Shm(receiver) => receiver.died(),
            ReceiverEnd::Other(receiver) => receiver.died(),
        }
    }

    /// Another receiver on the same channel, for another thread; each message goes to one of them.
    ///
    /// # Errors
    /// As [`open`](Self::open), `Unsupported` where there can be only one.
    pub fn try_clone(&self) -> Result<Self> {
        let end = match &self.end {
            ReceiverEnd::Shm(receiver) => ReceiverEnd::Shm(receiver.try_clone()?),
            ReceiverEnd::Other(_) => {
                self.row.require(&self.address, Capability::ManyReceivers)?;
                (self.row.open_receiver)(&self.address, Deadline::Now)?
            }
        };
        Ok(Self { address: self.address.clone(), row: self.row, end, type_: PhantomData })
    }

    /// A sender on the same channel, for another thread of this process.
    ///
    /// # Errors
    /// As [`Sender::open`].
    pub fn sender(&self) -> Result<Sender<T>> {
        let end = match &self.end {
            ReceiverEnd::Shm(receiver) => SenderEnd::Shm(receiver.sender()?),
            ReceiverEnd::Other(_) => (self.row.open_sender)(&self.address, Deadline::Now)?,
        };
        Ok(Sender { address: self.address.clone(), row: self.row, end, type_: PhantomData })
    }

    /// The address that was opened, with an absolute path.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What this transport can do.
    pub fn capabilities(&self) -> Capabilities {
        self.row.capabilities
    }

    /// The descriptor of the channel's memory; see [`Sender::descriptor`].
    ///
    /// # Errors
    /// As [`Sender::descriptor`].
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        match &self.end {
            ReceiverEnd::Shm(receiver) => receiver.descriptor(),
            ReceiverEnd::Other(_) => Err(unsupported(self.row, &self.address, Capability::InPlace)),
        }
    }
}

fn unsupported(row: &Transport, address: &Address, capability: Capability) -> Error {
    match row.require(address, capability) {
        Err(error) => error,
        Ok(()) => {
            Error::Unsupported { what: address.text(), capability: capability.name().into(), hint: None }
        }
    }
}

/// A received message: private memory, which no peer can change.
///
/// It does not borrow the receiver: keep it for as long as you like. With `ack=release` the message is consumed
/// when this is dropped.
pub struct Received<T: Message + ?Sized = [u8]> {
    owned: T::Owned,
    held: Option<Box<HeldChunk>>,
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
    held: HeldMessage,
    type_: PhantomData<fn() -> *const T>,
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
        if let Some(room) = owned.room(self.len()) {
            self.read_at(0, room);
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
    loan: ShmLoan,
    type_: PhantomData<fn(&T)>,
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
