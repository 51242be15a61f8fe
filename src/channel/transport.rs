//! The table of transports: what each can do, which options it has, and how it is opened.
//!
//! A new transport is a row here and a file beside this one. Documentation, `narrows mechanisms` and the
//! conformance suite read the same rows.

use crate::address::{Address, Scheme};
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::message::Inbox;

use super::shm::{ShmReceiver, ShmSender};

/// One option of a transport's addresses.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// The word before `=`.
    pub key: &'static str,
    /// What may stand after it: `N`, `always|never`.
    pub values: &'static str,
    /// What holds when it is not given.
    pub default: &'static str,
    /// What it does, in a line.
    pub meaning: &'static str,
}

impl OptionSpec {
    pub(crate) const fn new(
        key: &'static str,
        values: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { key, values, default, meaning }
    }
}

/// What an option changes of what a transport can do.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The option.
    pub key: &'static str,
    /// The values that change it: `lines|raw`.
    pub values: &'static str,
    /// What goes.
    pub lacks: Capabilities,
    /// What comes.
    pub gains: Capabilities,
}

impl Exception {
    pub(crate) const fn lacks(key: &'static str, values: &'static str, lacks: &[Capability]) -> Self {
        Self { key, values, lacks: Capabilities::of(lacks), gains: Capabilities::of(&[]) }
    }

    pub(crate) const fn gains(key: &'static str, values: &'static str, gains: &[Capability]) -> Self {
        Self { key, values, lacks: Capabilities::of(&[]), gains: Capabilities::of(gains) }
    }

    fn applies_to(&self, address: &Address) -> bool {
        address.option(self.key).is_some_and(|given| self.values.split('|').any(|value| value == given))
    }
}

/// One row of the table.
pub struct Transport {
    /// The scheme that selects it.
    pub scheme: Scheme,
    /// What it is, in a line.
    pub summary: &'static str,
    /// What it can do, unless an option says otherwise.
    pub capabilities: Capabilities,
    /// The options that say otherwise; where two contradict, the later one holds.
    pub exceptions: &'static [Exception],
    /// The largest message in bytes, where the mechanism (not memory) sets one.
    pub max_message: Option<u64>,
    /// The options that its addresses take.
    pub options: &'static [OptionSpec],
    pub(crate) open_sender: fn(&Address, Deadline) -> Result<SenderEnd>,
    pub(crate) open_receiver: fn(&Address, Deadline) -> Result<ReceiverEnd>,
}

impl Transport {
    /// The table, in the order of [`Scheme::ALL`].
    pub const ALL: &[Self] = &[
        super::shm::SHM,
        super::shm::FILE,
        super::shm::MEMFD,
        super::shm::FD,
        super::fifo::FIFO,
        super::unix::UNIX,
    ];

    /// The row for a scheme, which has passed its options.
    ///
    /// # Errors
    /// `Unsupported` where the scheme carries no messages; `InvalidAddress` for an option that it does not have.
    pub fn of(address: &Address) -> Result<&'static Self> {
        let row = Self::ALL.iter().find(|row| row.scheme == address.scheme()).ok_or_else(|| {
            Error::Unsupported { what: address.text(), capability: "messages".into(), hint: None }
        })?;
        address.check_options(row.options.iter().map(|option| option.key))?;
        Ok(row)
    }

    /// What it can do with the options of this address.
    ///
    /// ```
    /// use narrows::{Address, Capability, channel::Transport};
    /// let address: Address = "unix:/run/log,type=dgram".parse()?;
    /// let row = Transport::of(&address)?;
    /// assert!(row.capabilities.has(Capability::End));
    /// assert!(!row.capabilities_of(&address).has(Capability::End));
    ///
    /// for (options, delivers) in [("peers=one", false), ("peers=one,capacity=0", true), ("peers=one,full=drop", true)] {
    ///     let address: Address = format!("shm:log,{options}").parse()?;
    ///     assert_eq!(Transport::of(&address)?.capabilities_of(&address).has(Capability::Delivered), delivers);
    /// }
    /// # Ok::<(), narrows::Error>(())
    /// ```
    pub fn capabilities_of(&self, address: &Address) -> Capabilities {
        let given = self.exceptions.iter().filter(|exception| exception.applies_to(address));
        given.fold(self.capabilities, |all, exception| all.without(exception.lacks).with(exception.gains))
    }

    /// Refuses with `Unsupported` what the row does not have.
    ///
    /// # Errors
    /// `Unsupported` that names the capability and the schemes that have it.
    pub fn require(&self, address: &Address, capability: Capability) -> Result<()> {
        if self.capabilities_of(address).has(capability) {
            return Ok(());
        }
        let able: Vec<String> = Self::ALL
            .iter()
            .filter(|row| row.capabilities.has(capability))
            .map(|row| format!("{}:", row.scheme))
            .collect();
        let hint = format!("these have it: {}", able.join(" "));
        Err(Error::Unsupported {
            what: address.text(),
            capability: capability.name().into(),
            hint: (!able.is_empty()).then(|| hint.into()),
        })
    }
}

/// What opening a sender gives. Shared memory is an arm of its own, so that its calls are inlined to the caller.
#[expect(clippy::large_enum_variant, reason = "a box would put a load before each message")]
pub(crate) enum SenderEnd {
    Shm(ShmSender),
    Other(Box<dyn RawSender>),
}

/// What opening a receiver gives.
#[expect(clippy::large_enum_variant, reason = "a box would put a load before each message")]
pub(crate) enum ReceiverEnd {
    Shm(ShmReceiver),
    Other(Box<dyn RawReceiver>),
}

/// What every transport's sender does. Interrupted system calls are taken up again; SIGPIPE is never raised.
pub(crate) trait RawSender: Send {
    /// Sends one message whole, or does nothing.
    ///
    /// `Full` when the deadline is `Now` and there is no room, `TimedOut` when it passes later, `PeerGone` when
    /// nobody can take it, `TooLarge` above the limit.
    fn send(&mut self, message: &[u8], deadline: Deadline) -> Result<()>;

    /// Sends in order; gives how many went before the deadline, an error only if it was none.
    fn send_many(&mut self, messages: &mut dyn Iterator<Item = &[u8]>, deadline: Deadline) -> Result<usize> {
        let mut sent = 0;
        for message in messages {
            match self.send(message, deadline) {
                Ok(()) => sent += 1,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }
}

/// What every transport's receiver does.
pub(crate) trait RawReceiver: Send {
    /// Receives one message into `inbox`: `None` at the end, `TimedOut` when the deadline (also `Now`) passes,
    /// `Mismatch` when the inbox has no room of that size (the message is then consumed).
    fn recv(&mut self, inbox: &mut dyn Inbox, deadline: Deadline) -> Result<Option<()>>;

    /// How many senders died without closing, as far as the mechanism tells.
    fn died(&self) -> u64 {
        0
    }
}

/// The refusal of what a transport does not have.
pub(super) fn unsupported(row: &Transport, address: &Address, capability: Capability) -> Error {
    match row.require(address, capability) {
        Err(error) => error,
        Ok(()) => {
            Error::Unsupported { what: address.text(), capability: capability.name().into(), hint: None }
        }
    }
}
