//! Channels seen from outside: no place is taken, nothing is repaired.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::address::{Address, Scheme};
use crate::atomic::Ordering::Relaxed;
use crate::channel::status::{Kind, Peer, State, Status};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::segment::{Holder, Place, Segment};
use crate::shared::audit::{Moment, Report, audit};
use crate::shared::layout::{self, Layout, Lifetime, Peers, header};
use crate::shared::memory::Memory;
use crate::shared::participants::{Participants, Role};
use crate::shared::repair::Structures;

/// How often removal tries to retire a segment to which others attach.
const RETIREMENTS: u32 = 10_000;

/// All channels in POSIX shared memory, and how many objects there may not be looked into.
///
/// # Errors
/// `Os` where `/dev/shm` cannot be read.
pub fn list() -> Result<(Vec<Status>, usize)> {
    let directory = "/dev/shm";
    let entries =
        std::fs::read_dir(directory).map_err(|error| Error::from_io(&directory.into(), "readdir", &error))?;
    let (mut found, mut refused) = (Vec::new(), 0);
    for entry in entries.flatten() {
        let Ok(address) = Address::new(Scheme::Shm, entry.file_name()) else { continue };
        match status(&address) {
            Ok(status) => found.push(status),
            Err(Error::Permission { .. }) => refused += 1,
            Err(_) => {} // somebody else's, or gone meanwhile
        }
    }
    found.sort_by_key(|status| status.address.to_string());
    Ok((found, refused))
}

/// One channel, seen from outside: takes no place in it, changes nothing.
///
/// # Errors
/// `NotFound`, `Permission`, `WrongKind`, `Corrupt`; `Unsupported` where the scheme has no memory to look into.
pub fn status(address: &Address) -> Result<Status> {
    let (address, segment, shared) = look(address)?;
    let Structures { memory, layout, .. } = shared;
    let peers = peers(&segment, &shared.participants);
    let alive = |count: fn(&Peer) -> u32| peers.iter().filter(|peer| peer.alive).map(count).sum();
    let depth = shared.depth();
    let state = match (peers.iter().any(|peer| peer.alive), depth, layout.config.lifetime) {
        (true, ..) => State::Live,
        (false, 1.., Lifetime::Drained | Lifetime::System) => State::Unread,
        (false, 0, Lifetime::System) => State::Idle,
        (false, ..) => State::Stale,
    };
    let metadata = segment.metadata()?;
    let word = |offset| memory.word(offset).load(Relaxed);
    let created = SystemTime::UNIX_EPOCH + Duration::from_nanos(word(header::CREATED));
    let status = Status {
        kind: if layout.config.peers == Peers::One { Kind::OneToOne } else { Kind::ManyToMany },
        state,
        depth,
        capacity: layout.config.capacity,
        senders: alive(|peer| peer.senders),
        receivers: alive(|peer| peer.receivers),
        died: shared.participants.deaths(),
        sent: word(layout::TAIL),
        discarded: word(layout::DISCARDED),
        uid: metadata.uid,
        gid: metadata.gid,
        mode: metadata.mode,
        bytes: metadata.allocated,
        bytes_max: layout.length,
        age: created.elapsed().unwrap_or_default(),
        creator_pid: word(header::CREATOR) as u32,
        options: options(&layout),
        peers,
        address,
    };
    segment.intact().map(|()| status)
}

/// Checks the invariants of a channel's memory: takes no place in it, changes nothing.
///
/// Tells what cannot be ([`Report::faults`]: a broken peer, foreign writes, a fault of this library), what deaths left
/// for the next to repair ([`Report::pending`], no fault), and who has what in his hands. Peers may be at work: then
/// only what holds at any moment is looked for. Where nobody alive takes part, or the caller knows that nobody is at
/// work ([`Moment::Rest`]), everything else is as well: no claim left over, no chunk lost, no memory reserved for
/// nothing.
///
/// # Errors
/// `NotFound`, `Permission`, `WrongKind`; `Corrupt` where the header is damaged, so that nothing behind it can be
/// judged; `Unsupported` where the scheme has no memory to look into.
///
/// # After a crash
/// What the dead had stands among what is pending until somebody opens the channel or waits in it.
///
/// ```
/// use narrows::channel::{self, Moment};
///
/// let address: narrows::Address = format!("shm:checked-{}", std::process::id()).parse()?;
/// let mut sender = narrows::Sender::<[u8]>::open(&address.to_string())?;
/// sender.send(b"412 kPa")?;
/// let report = channel::check(&address, Moment::Rest)?;
/// assert!(report.faults.is_empty() && report.pending.is_empty());
/// assert_eq!(report.holdings[0].pid, std::process::id());
/// # channel::remove(&address)?;
/// # Ok::<(), narrows::Error>(())
/// ```
pub fn check(address: &Address, moment: Moment) -> Result<Report> {
    let (_, segment, shared) = look(address)?;
    let report = audit(&shared, &segment, moment);
    segment.intact().map(|()| report)
}

/// What stands at an address, mapped for looking only.
fn look(address: &Address) -> Result<(Address, Segment, Structures)> {
    let address = address.clone().absolute()?.bare();
    let segment = Segment::open_read_only(&address, &Place::of(&address)?)?.ok_or_else(|| {
        Error::NotFound { what: address.text(), hint: Some("`narrows ls` lists what there is".into()) }
    })?;
    let memory = Memory::of(&segment);
    let layout = Layout::read(&memory, segment.what()).map_err(|error| segment.explain(error))?;
    Ok((address, segment, Structures::new(memory, layout)))
}

fn peers(segment: &Segment, participants: &Participants) -> Vec<Peer> {
    let mut counts: BTreeMap<u16, (u32, u32)> = BTreeMap::new();
    for owner in participants.open_endpoints(Role::Sender) {
        counts.entry(owner).or_default().0 += 1;
    }
    for owner in participants.open_endpoints(Role::Receiver) {
        counts.entry(owner).or_default().1 += 1;
    }
    let peer = |owner: u16| {
        let identity = participants.identity(owner);
        let (senders, receivers) = counts.get(&owner).copied().unwrap_or_default();
        Peer {
            pid: identity.pid,
            name: identity.name(),
            senders,
            receivers,
            alive: segment.holder(owner - 1) != Holder::Free,
        }
    };
    participants.taken().map(|place| peer(place.owner())).collect()
}

/// What was fixed at creation, as an address would ask for it.
fn options(layout: &Layout) -> Vec<(String, String)> {
    let config = &layout.config;
    let mut options = vec![
        ("capacity", config.capacity.to_string()),
        ("full", layout::name(config.full).to_owned()),
        ("peers", layout::name(config.peers).to_owned()),
        ("ack", layout::name(config.ack).to_owned()),
        ("lifetime", layout::name(config.lifetime).to_owned()),
        ("memory_max", config.memory_max.to_string()),
        ("participants", config.participants.to_string()),
    ];
    if config.is_pair() {
        options.push(("slot_bytes", layout.inline_max().to_string()));
        options.push(("fence", layout::name(config.fence).to_owned()));
    }
    options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Removes the name of a channel. Who has it open goes on with it; who opens the address next makes a new one.
///
/// # Errors
/// `NotFound`, `Permission`; `WrongKind` where it is no channel of narrows; `Unsupported` where there is no name.
///
/// # After a crash
/// Killed inside, the channel is there, or retired: then the next who opens or removes it takes its name away. Stopped
/// (SIGSTOP) between its lock of the name and the end, it keeps the name: who opens it meanwhile gets `TimedOut` after 2 s.
pub fn remove(address: &Address) -> Result<()> {
    let address = address.clone().absolute()?.bare();
    let segment = Segment::open(&address, &Place::of(&address)?)?.ok_or_else(|| Error::NotFound {
        what: address.text(),
        hint: Some("`narrows ls` lists what there is".into()),
    })?;
    let memory = Memory::of(&segment);
    // A damaged or newer segment can be removed as well; only a foreign object cannot.
    match Layout::read(&memory, segment.what()) {
        Ok(_) if segment.is_named() && !segment.may_unlink() => return Err(segment.not_ours()),
        Ok(layout) => {
            let participants = Participants::new(memory, &layout);
            // Bounded: whoever attaches without end finds its name gone all the same.
            (0..RETIREMENTS).any(|_| participants.attachments().is_none_or(|seen| participants.retire(seen)));
        }
        Err(error @ Error::WrongKind { .. }) if !layout::is_ours(&memory) => return Err(error),
        Err(_) => {}
    }
    segment.unlink(Deadline::from(Duration::from_secs(2))).map(drop)
}
