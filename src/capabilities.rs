//! What a transport can do, as data: the conformance suite, the documentation and the command read the same table.

use std::fmt;

/// One thing that a transport can or cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Capability {
    /// Several senders at the same time.
    ManySenders,
    /// Several receivers at the same time, each message going to one of them.
    ManyReceivers,
    /// The receiver learns that no sender is left, instead of waiting for ever.
    End,
    /// How many senders died without closing is told.
    Deaths,
    /// What is sent before any receiver opened is kept.
    KeepsEarly,
    /// Messages survive all processes that took part, until they are read or removed.
    Persistent,
    /// A stable number of messages fits (`capacity=`); the sender waits or is told when it is full.
    Capacity,
    /// Message boundaries are kept, unless `wire=raw` gives them up.
    Boundaries,
    /// Large messages are written and read where they lie: `loan`, `recv_in_place`.
    InPlace,
    /// `ack=release`: a message whose receiver died before releasing it comes again, flagged.
    Redelivery,
    /// `send_delivered`: a send that ends when its message was taken, or takes it back.
    Delivered,
    /// No system call is made while nobody sleeps.
    UserSpace,
    /// Peers may be programs that do not use narrows (`wire=lines|raw`).
    ForeignPeers,
    /// The receiver makes the name and the sender waits for it (sockets).
    ReceiverBinds,
}

impl Capability {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 14] = [
        Self::ManySenders,
        Self::ManyReceivers,
        Self::End,
        Self::Deaths,
        Self::KeepsEarly,
        Self::Persistent,
        Self::Capacity,
        Self::Boundaries,
        Self::InPlace,
        Self::Redelivery,
        Self::Delivered,
        Self::UserSpace,
        Self::ForeignPeers,
        Self::ReceiverBinds,
    ];

    /// Its name in tables and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManySenders => "many-senders",
            Self::ManyReceivers => "many-receivers",
            Self::End => "end",
            Self::Deaths => "deaths",
            Self::KeepsEarly => "keeps-early",
            Self::Persistent => "persistent",
            Self::Capacity => "capacity",
            Self::Boundaries => "boundaries",
            Self::InPlace => "in-place",
            Self::Redelivery => "redelivery",
            Self::Delivered => "delivered",
            Self::UserSpace => "user-space",
            Self::ForeignPeers => "foreign-peers",
            Self::ReceiverBinds => "receiver-binds",
        }
    }

    /// What it means, in some words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::ManySenders => "several senders at the same time",
            Self::ManyReceivers => "several receivers; each message goes to one",
            Self::End => "receivers learn that no sender is left",
            Self::Deaths => "and how many died without closing",
            Self::KeepsEarly => "what is sent before a receiver opens is kept",
            Self::Persistent => "messages outlive all processes",
            Self::Capacity => "a set number of messages fits",
            Self::Boundaries => "messages stay whole, whatever the `wire`",
            Self::InPlace => "messages are written and read where they lie",
            Self::Redelivery => "`ack=release`: what a dead receiver held comes again",
            Self::Delivered => "a send can wait until its message was taken",
            Self::UserSpace => "no system call while nobody sleeps",
            Self::ForeignPeers => "the other side may be any program",
            Self::ReceiverBinds => "the receiver makes the name, senders wait for it",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// A set of capabilities.
///
/// ```
/// use narrows::{Capabilities, Capability};
/// const SET: Capabilities = Capabilities::of(&[Capability::End, Capability::Boundaries]);
/// assert!(SET.has(Capability::End) && !SET.has(Capability::InPlace));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u32);

impl Capabilities {
    /// The set of these.
    pub const fn of(list: &[Capability]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            bits |= 1 << list[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// The set with one more.
    pub const fn and(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    /// The set with all of another.
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// The set without any of another.
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether it is in the set.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }

    /// The members, in the order of the tables.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.has(*capability))
    }
}
