//! Channels in a segment: `shm:`, `file:`, `memfd:` and `fd:`.

mod delivered;
mod delivery;
mod discarding;
mod handle;
mod receiver;
mod sender;
mod status;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_check;
mod waiting;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::transport::{Exception, OptionSpec, ReceiverEnd, SenderEnd, Transport};
use crate::address::{Address, Scheme};
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::segment::{Creation, Place, mode_of};
use crate::shared::attachment::{Attachment, Wanted};
use crate::shared::layout::{
    Ack, CAPACITY_MAX, Config, Fence, Full, Lifetime, PARTICIPANTS_MAX, Peers, SLOT_MAX, SLOT_MIN, Words,
    payload_at,
};
use crate::shared::wait::WaitMode;
use crate::sys::futex;

pub(crate) use receiver::ShmReceiver;
pub(crate) use sender::ShmSender;
pub use status::{check, list, remove, status};

/// Slots of a default channel.
const CAPACITY: u64 = 1024;
/// One to one with large slots, a default ring has at most so many bytes.
const RING_BYTES: u64 = 4 << 20;
const PARTICIPANTS: u16 = 128;
const MEMORY_MAX: u64 = 64 << 30;

const fn option(
    key: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec { key, values, default, meaning }
}

const OPTIONS: &[OptionSpec] = &[
    option(
        "capacity",
        "N",
        "1024",
        "messages that fit before a sender waits; 0: each send waits until it is taken",
    ),
    option("full", "wait|drop", "wait", "a sender that finds no room waits, or drops the oldest message"),
    option(
        "peers",
        "many|one",
        "many",
        "any number of senders and receivers, or exactly one of each, faster",
    ),
    option("slot_bytes", "N", "48", "with peers=one: messages up to so many bytes lie in the ring itself"),
    option("ack", "take|release", "take", "a message is consumed when taken, or when its guard is dropped"),
    option("memory_max", "BYTES", "64G", "the most memory for large messages"),
    option("participants", "N", "128", "processes that can take part at a time"),
    option("mode", "OCTAL", "600", "permissions of a new object"),
    option(
        "wait",
        "adaptive|spin|sleep",
        "adaptive",
        "how this end waits: watch and then sleep, watch, or sleep",
    ),
    option(
        "fence",
        "sleeper|everyone",
        "sleeper",
        "with peers=one: who pays for waking: membarrier(2) when sleeping, or a fence each message",
    ),
    option(
        "lifetime",
        "drained|process|system",
        "drained",
        "removed with the last participant if nothing is unread, in any case, or by command",
    ),
    option("create", "open|never|only", "open", "make it if it is missing, never, or only if it is missing"),
];

/// Memory without a name lives as long as its descriptors, and there is nothing to look for or to remove.
const UNNAMED: &[OptionSpec] = OPTIONS.split_at(OPTIONS.len() - 2).0;

const CAPABILITIES: Capabilities = Capabilities::of(&[
    Capability::ManySenders,
    Capability::ManyReceivers,
    Capability::End,
    Capability::Deaths,
    Capability::KeepsEarly,
    Capability::Capacity,
    Capability::Boundaries,
    Capability::InPlace,
    Capability::Redelivery,
    Capability::Delivered,
    Capability::UserSpace,
]);

const EXCEPTIONS: &[Exception] = &[
    Exception::lacks(
        "peers",
        "one",
        &[Capability::ManySenders, Capability::ManyReceivers, Capability::Delivered],
    ),
    // What is taken back or dropped are slots, whoever uses them.
    Exception::gains("capacity", "0", &[Capability::Delivered]),
    Exception::gains("full", "drop", &[Capability::Delivered]),
];

const fn row(
    scheme: Scheme,
    capabilities: Capabilities,
    options: &'static [OptionSpec],
    summary: &'static str,
) -> Transport {
    Transport {
        scheme,
        summary,
        capabilities,
        exceptions: EXCEPTIONS,
        max_message: None,
        options,
        open_sender,
        open_receiver,
    }
}

pub(super) const SHM: Transport = row(
    Scheme::Shm,
    CAPABILITIES.and(Capability::Persistent),
    OPTIONS,
    "POSIX shared memory: the fastest way between processes of one machine",
);
pub(super) const FILE: Transport = row(
    Scheme::File,
    CAPABILITIES.and(Capability::Persistent),
    OPTIONS,
    "a memory-mapped file: as shm:, and what is unread survives a reboot",
);
pub(super) const MEMFD: Transport = row(
    Scheme::Memfd,
    CAPABILITIES,
    UNNAMED,
    "anonymous shared memory: inherited by a child or passed over a Unix socket",
);
pub(super) const FD: Transport =
    row(Scheme::Fd, CAPABILITIES, UNNAMED, "the channel in an inherited descriptor of shared memory");

impl Words for WaitMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("adaptive", Self::Adaptive), ("spin", Self::Spin), ("sleep", Self::Sleep)];
}

fn open_sender(address: &Address, deadline: Deadline) -> Result<SenderEnd> {
    let (attachment, mode) = attach(address, deadline)?;
    ShmSender::new(attachment, mode).map(SenderEnd::Shm)
}

fn open_receiver(address: &Address, deadline: Deadline) -> Result<ReceiverEnd> {
    let (attachment, mode) = attach(address, deadline)?;
    ShmReceiver::new(attachment, mode).map(ReceiverEnd::Shm)
}

fn attach(address: &Address, deadline: Deadline) -> Result<(Arc<Attachment>, WaitMode)> {
    let place = Place::of(address)?;
    let mut wanted = wanted(address)?;
    if address.scheme() == Scheme::Fd {
        wanted.create = Creation::Never;
    }
    let config = config(address, &wanted)?;
    let mode = address.choice("wait", WaitMode::WORDS)?.unwrap_or(WaitMode::Adaptive);
    Ok((Attachment::open(address, &place, &wanted, config, deadline)?, mode))
}

/// The channel in a descriptor, with an address that names it for errors.
fn attach_descriptor(address: &Address, descriptor: OwnedFd) -> Result<Arc<Attachment>> {
    let wanted = Wanted { create: Creation::Never, ..wanted(address)? };
    let config = config(address, &wanted)?;
    Attachment::open(address, &Place::Descriptor(descriptor), &wanted, config, Deadline::Never)
}

/// The address and row of a descriptor that was passed.
pub(crate) fn inherited(descriptor: &OwnedFd) -> Result<(Address, &'static Transport)> {
    use std::os::fd::AsRawFd;
    let address = Address::new(Scheme::Fd, descriptor.as_raw_fd().to_string())?;
    let row = Transport::of(&address)?;
    Ok((address, row))
}

fn wanted(address: &Address) -> Result<Wanted> {
    let bounded = |key: &str, least: u64, most: u64| -> Result<Option<u64>> {
        let Some(number) = address.number(key)? else { return Ok(None) };
        if (least..=most).contains(&number) {
            return Ok(Some(number));
        }
        Err(address
            .invalid(&format!("{key}={number} is out of range"), Some(&format!("write {least} to {most}"))))
    };
    let slot_bytes = bounded("slot_bytes", 1, SLOT_MAX - SLOT_MIN)?.map(stride);
    Ok(Wanted {
        create: Creation::of(address)?.unwrap_or(Creation::Open),
        mode: mode_of(address)?,
        peers: address.choice("peers", Peers::WORDS)?,
        capacity: bounded("capacity", 0, CAPACITY_MAX)?,
        slot_bytes,
        participants: bounded("participants", 2, PARTICIPANTS_MAX.into())?.map(|count| count as u16),
        lifetime: address.choice("lifetime", Lifetime::WORDS)?,
        ack: address.choice("ack", Ack::WORDS)?,
        fence: address.choice("fence", Fence::WORDS)?,
        full: address.choice("full", Full::WORDS)?,
        memory_max: bounded("memory_max", 64 << 10, 1 << 44)?.map(|bytes| bytes.next_multiple_of(4096)),
    })
}

/// The size of a slot that holds so many bytes itself.
fn stride(inline: u64) -> u64 {
    let one_line = SLOT_MIN - payload_at(SLOT_MIN);
    if inline <= one_line { SLOT_MIN } else { payload_at(2 * SLOT_MIN) + inline.next_multiple_of(SLOT_MIN) }
}

/// What a new channel of this address is like.
fn config(address: &Address, wanted: &Wanted) -> Result<Config> {
    let peers = wanted.peers.unwrap_or(Peers::Many);
    let slot_bytes = wanted.slot_bytes.unwrap_or(SLOT_MIN);
    let default_capacity = CAPACITY.min(RING_BYTES / slot_bytes).max(16);
    let capacity = wanted.capacity.unwrap_or(default_capacity);
    if capacity.checked_mul(slot_bytes).is_none_or(|bytes| bytes > 1 << 40) {
        return Err(address.invalid("capacity and slot_bytes together are more than 1 TiB", None));
    }
    let participants = wanted.participants.unwrap_or(PARTICIPANTS);
    let mut config = Config {
        peers,
        capacity,
        slot_bytes,
        participants,
        endpoints: participants.saturating_mul(4),
        lifetime: wanted.lifetime.unwrap_or(Lifetime::Drained),
        ack: wanted.ack.unwrap_or(Ack::OnTake),
        fence: wanted.fence.unwrap_or(Fence::Sleeper),
        full: wanted.full.unwrap_or(Full::Wait),
        memory_max: wanted.memory_max.unwrap_or(MEMORY_MAX),
    };
    if config.is_contradiction() && wanted.create != Creation::Never {
        return Err(address.invalid("capacity=0 has no room in which full=drop could make any", None));
    }
    if !config.is_pair() && wanted.create != Creation::Never && slot_bytes > SLOT_MIN {
        let hint = "write peers=one as well, without capacity=0 and full=drop; or leave slot_bytes out: large messages go \
                    through the pool";
        return Err(address.invalid("slot_bytes needs one sender and one receiver", Some(hint)));
    }
    if config.is_pair() && wanted.fence.is_none() && !futex::membarrier_register() {
        config.fence = Fence::Everyone;
    }
    Ok(config)
}

#[cold]
fn no_barrier(what: &Text) -> Error {
    Error::Unsupported {
        what: what.clone(),
        capability: "membarrier(2), which this channel was made for".into(),
        hint: Some("create it with fence=everyone".into()),
    }
}
