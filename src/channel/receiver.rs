//! [`Receiver`]: the end that receives.

use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::address::Address;
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::message::Message;

use super::guards::{InPlace, Received};
use super::sender::Sender;
use super::shm::ShmReceiver;
use super::transport::{ReceiverEnd, SenderEnd, Transport, unsupported};

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
    pub(super) address: Address,
    pub(super) row: &'static Transport,
    pub(super) end: ReceiverEnd,
    pub(super) type_: PhantomData<fn() -> *const T>,
}

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
    /// `Mismatch` where a message has not the size of `T` (it is then consumed); `NoSpace` where there is no memory for
    /// it (of a channel in shared memory it comes first when this receiver is asked again); `Forked`; `Corrupt` where a
    /// peer broke the protocol (what cannot be a message is then passed over).
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

    /// How many messages the senders dropped to make room since the channel was made (`full=drop`); of those who were killed,
    /// at most the last one is missing.
    pub fn discarded(&self) -> u64 {
        match &self.end {
            ReceiverEnd::Shm(receiver) => receiver.discarded(),
            ReceiverEnd::Other(_) => 0,
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

    /// What this transport can do, with the options of the address.
    pub fn capabilities(&self) -> Capabilities {
        self.row.capabilities_of(&self.address)
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
