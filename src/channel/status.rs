//! What can be seen of a channel from outside, without taking part in it.

use std::time::Duration;

use crate::address::Address;

/// What lies behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A channel of many senders and many receivers.
    ManyToMany,
    /// A channel of one sender and one receiver.
    OneToOne,
}

/// Whether an object is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Somebody alive takes part.
    Live,
    /// Nobody takes part, and messages wait to be received.
    Unread,
    /// Nobody takes part and nothing waits: left by a crash, `narrows rm --stale` removes it.
    Stale,
    /// Nobody takes part, and it was made to stay (`lifetime=system`).
    Idle,
}

/// One process that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its process id, as it saw itself when it opened (another PID namespace has other numbers).
    pub pid: u32,
    /// Its name, as `/proc/PID/comm` had it when it opened.
    pub name: String,
    /// How many senders it has open.
    pub senders: u32,
    /// How many receivers it has open.
    pub receivers: u32,
    /// Whether the kernel still holds its lock.
    pub alive: bool,
}

/// A channel, seen from outside at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its address, without options.
    pub address: Address,
    /// What it is.
    pub kind: Kind,
    /// Whether it is in use.
    pub state: State,
    /// Messages that wait to be received.
    pub depth: u64,
    /// Messages that fit.
    pub capacity: u64,
    /// Living senders.
    pub senders: u32,
    /// Living receivers.
    pub receivers: u32,
    /// Senders that died without closing, since the channel was made.
    pub died: u64,
    /// Messages sent since the channel was made, at least; exact while nobody sends.
    pub sent: u64,
    /// Messages that senders dropped to make room, since the channel was made (`full=drop`).
    pub discarded: u64,
    /// The owner's user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Memory that it occupies, in bytes.
    pub bytes: u64,
    /// The most memory that it may occupy, in bytes.
    pub bytes_max: u64,
    /// How long ago it was made.
    pub age: Duration,
    /// The process that made it.
    pub creator_pid: u32,
    /// The settings fixed at its creation, as options of an address.
    pub options: Vec<(String, String)>,
    /// Who takes part.
    pub peers: Vec<Peer>,
}
