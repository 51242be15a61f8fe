//! [`Sender`]: the end that sends.

use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::address::Address;
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::message::{Message, wrong_size};

use super::guards::{Loan, Uncommitted};
use super::receiver::Receiver;
use super::shm::ShmSender;
use super::transport::{ReceiverEnd, SenderEnd, Transport, unsupported};

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
    pub(super) address: Address,
    pub(super) row: &'static Transport,
    pub(super) end: SenderEnd,
    pub(super) type_: PhantomData<fn(&T)>,
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
    /// `WrongKind` where the descriptor is no channel's, `NotFound` where the channel was removed, `Busy`, `Corrupt`,
    /// `NoSpace`.
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

    /// Sends one message and waits until a receiver has taken it; until the deadline, which takes it back.
    ///
    /// So a send is exactly one of taken (`Ok`) and not: after an error nobody has the message, and nobody will. Taken is
    /// not done with: of a receiver that dies later this sender learns nothing, but with `ack=release` the message comes
    /// again to another. With [`Deadline::Now`] it is sent only if a receiver waits for one at this moment.
    ///
    /// ```
    /// use std::time::Duration;
    /// use narrows::{Deadline, Error, Sender};
    ///
    /// let mut jobs = Sender::<[u8]>::open("memfd:jobs")?;
    /// let mut worker = jobs.receiver()?;
    /// let nobody = jobs.send_delivered(b"rebuild index", Duration::from_millis(10));
    /// assert!(matches!(nobody, Err(Error::TimedOut { .. })), "the worker was busy");
    /// assert!(worker.recv_by(Deadline::Now).is_err(), "and will not find it");
    ///
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| worker.recv());
    ///     jobs.send_delivered(b"rebuild index", Deadline::Never)
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_by`](Self::send_by): `TimedOut` also where it was not taken in time, with `Now` `Full`; `Full` too where
    /// another sender dropped it (`full=drop`). `PeerGone` where
    /// there were receivers, and none is left. `Unsupported` where the transport does not tell, or was made with
    /// `peers=one` and cannot take back.
    ///
    /// # After a crash
    /// Killed inside, the message is in the channel, as any other, or it is not.
    pub fn send_delivered(&mut self, message: &T, deadline: impl Into<Deadline>) -> Result<()> {
        match &mut self.end {
            SenderEnd::Shm(sender) => sender.send_delivered(message.as_bytes(), deadline.into()),
            SenderEnd::Other(_) => Err(unsupported(self.row, &self.address, Capability::Delivered)),
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
    /// Waits as long as it takes where `memory_max` is used up.
    ///
    /// Any number of loans may be out; one that is dropped goes back.
    ///
    /// # Errors
    /// As [`loan_by`](Self::loan_by), `Full` and `TimedOut` excepted.
    pub fn loan(&mut self, len: usize) -> Result<Loan<T>> {
        self.loan_by(len, Deadline::Never)
    }

    /// [`loan`](Self::loan) with a deadline.
    ///
    /// # Errors
    /// `Unsupported` where the transport has no memory of its own; `TooLarge`, `NoSpace`; `Mismatch` where `T` has
    /// another size; `TimedOut` where `memory_max` stayed used up, `Full` at once with [`Deadline::Now`].
    pub fn loan_by(&mut self, len: usize, deadline: impl Into<Deadline>) -> Result<Loan<T>> {
        if T::SIZE.is_some_and(|size| size != len) {
            return Err(wrong_size(&self.address.text(), len as u64, T::SIZE));
        }
        match &mut self.end {
            SenderEnd::Shm(sender) => {
                Ok(Loan { loan: sender.loan(len, deadline.into())?, type_: PhantomData })
            }
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

    /// How many messages this sender dropped to make room (`full=drop`), its own delivered ones that others dropped among
    /// them.
    ///
    /// ```
    /// use narrows::Deadline;
    ///
    /// let mut gauge = narrows::Sender::<[u8]>::open("memfd:gauge,capacity=2,full=drop")?;
    /// let mut reader = gauge.receiver()?;
    /// for kpa in [409, 410, 411, 412_u16] {
    ///     gauge.send_by(&kpa.to_le_bytes(), Deadline::Now)?;
    /// }
    /// assert_eq!((gauge.discarded(), reader.discarded()), (2, 2));
    /// assert_eq!(&*reader.recv()?.unwrap(), 411_u16.to_le_bytes(), "the oldest that is left");
    /// # Ok::<(), narrows::Error>(())
    /// ```
    pub fn discarded(&self) -> u64 {
        match &self.end {
            SenderEnd::Shm(sender) => sender.discarded(),
            SenderEnd::Other(_) => 0,
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

    /// What this transport can do, with the options of the address.
    pub fn capabilities(&self) -> Capabilities {
        self.row.capabilities_of(&self.address)
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
