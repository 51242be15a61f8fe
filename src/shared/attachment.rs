//! One mapping that takes part in a segment: joining it, leaving it, and deciding who removes it.
//!
//! The last to leave retires the segment, for ever, and then takes its name away. Retiring is a compare-and-swap
//! on the word that every attaching participant advances *after* it took its place: so either the newcomer is seen
//! among the places, or the swap fails, or the newcomer finds the segment retired and looks for another.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::segment::{Creation, Holder, Place as Name, Segment};
use crate::sys::guard::MappingMark;
use crate::sys::process::process_name;
use crate::sys::{clock, futex};

use super::chunks::Chunks;
use super::extents::Backing;
use super::layout::{self, Ack, Config, Fence, Full, Layout, Lifetime, Peers};
use super::memory::Memory;
use super::participants::{Identity, Locks, Place};
use super::repair::Structures;

/// How long whoever removes a name waits for another who is removing it.
const REMOVAL: Duration = Duration::from_secs(2);
/// How often opening starts again because the object was being replaced.
const ATTEMPTS: u32 = 1000;

impl Locks for Segment {
    fn try_lock(&self, place: u16) -> Result<bool> {
        Self::try_lock(self, place)
    }

    fn unlock(&self, place: u16) {
        Self::unlock(self, place);
    }

    fn is_free(&self, place: u16) -> bool {
        self.holder(place) == Holder::Free
    }
}

impl Backing for Segment {
    fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        Self::reserve(self, offset, len)
    }

    fn punch(&self, offset: u64, len: u64) {
        Self::punch(self, offset, len);
    }

    fn corrupt(&self, problem: &str) -> Error {
        self.explain(Error::Corrupt {
            what: self.what().clone(),
            problem: problem.into(),
            hint: Some("a peer broke the protocol; remove it: `narrows rm`".into()),
        })
    }
}

/// What an address asks for. What it does not ask for is taken from what exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) create: Creation,
    pub(crate) mode: Option<u32>,
    pub(crate) peers: Option<Peers>,
    pub(crate) capacity: Option<u64>,
    pub(crate) slot_bytes: Option<u64>,
    pub(crate) participants: Option<u16>,
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) ack: Option<Ack>,
    pub(crate) fence: Option<Fence>,
    pub(crate) full: Option<Full>,
    pub(crate) memory_max: Option<u64>,
}

/// The first setting that differs: its name, theirs, ours.
type Difference = (&'static str, String, String);

impl Wanted {
    fn differs(&self, config: &Config) -> Option<Difference> {
        fn unlike<T: PartialEq>(
            ours: Option<T>,
            theirs: T,
            option: &'static str,
            show: impl Fn(T) -> String,
        ) -> Option<Difference> {
            let ours = ours.filter(|ours| *ours != theirs)?;
            Some((option, show(theirs), show(ours)))
        }
        unlike(self.peers, config.peers, "peers", |peers| layout::name(peers).into())
            .or_else(|| unlike(self.capacity, config.capacity, "capacity", |n| n.to_string()))
            .or_else(|| {
                unlike(self.slot_bytes, config.slot_bytes, "slot_bytes", |n| {
                    (n - layout::payload_at(n)).to_string()
                })
            })
            .or_else(|| unlike(self.participants, config.participants, "participants", |n| n.to_string()))
            .or_else(|| {
                unlike(self.lifetime, config.lifetime, "lifetime", |lifetime| layout::name(lifetime).into())
            })
            .or_else(|| unlike(self.ack, config.ack, "ack", |ack| layout::name(ack).into()))
            .or_else(|| unlike(self.fence, config.fence, "fence", |fence| layout::name(fence).into()))
            .or_else(|| unlike(self.full, config.full, "full", |full| layout::name(full).into()))
            .or_else(|| unlike(self.memory_max, config.memory_max, "memory_max", |n| n.to_string()))
    }
}

/// A mapping that takes part; endpoints share it.
pub(crate) struct Attachment {
    pub(crate) segment: Segment,
    pub(crate) shared: Structures,
    pub(crate) me: Place,
}

impl Attachment {
    /// Opens or creates the segment behind an address, and takes a place in it.
    pub(crate) fn open(
        address: &Address,
        name: &Name,
        wanted: &Wanted,
        config: Config,
        deadline: Deadline,
    ) -> Result<Arc<Self>> {
        again_and_again(address, deadline, || Self::try_open(address, name, wanted, config)).map(Arc::new)
    }

    /// `None`: it was retired, replaced or made by others meanwhile.
    fn try_open(address: &Address, name: &Name, wanted: &Wanted, config: Config) -> Result<Option<Self>> {
        let Some(segment) = Segment::open(address, name)? else {
            if wanted.create == Creation::Never {
                let hint = Some("create=never was asked for: start its maker first".into());
                return Err(Error::NotFound { what: address.bare().text(), hint });
            }
            return Self::create(address, name, wanted, config);
        };
        if wanted.create == Creation::Only {
            return Err(Error::Busy {
                what: address.bare().text(),
                holder: None,
                hint: Some("it exists; leave create=only out to take it".into()),
            });
        }
        let joined = Self::join(segment, address, wanted)?;
        // Retired, and without a name there is no successor to look for.
        if joined.is_none() && name.path().is_none() {
            let hint = Some("its channel was removed: get a descriptor of a new one".into());
            return Err(Error::NotFound { what: address.bare().text(), hint });
        }
        Ok(joined)
    }

    fn create(address: &Address, name: &Name, wanted: &Wanted, config: Config) -> Result<Option<Self>> {
        let layout = Layout::of(config);
        let mut born = None;
        let mut initialise = |segment: &Segment| {
            let memory = Memory::of(segment);
            let me = identity();
            let creator = u64::from(me.pid) | u64::from(me.uid) << 32;
            layout.write(&memory, creator, clock::realtime_ns(), clock::boot_id());
            let shared = Structures::new(memory, layout);
            let place = shared
                .participants
                .join(segment, me)?
                .ok_or_else(|| full(address, layout.config.participants))?;
            shared.participants.announce();
            born = Some((shared, place));
            Ok(())
        };
        let Some(segment) = Segment::create(
            address,
            name,
            layout.length,
            layout.reserved(),
            wanted.mode.unwrap_or(0o600),
            &mut initialise,
        )?
        else {
            return Ok(None);
        };
        segment.pin();
        Ok(born.map(|(shared, me)| Self { segment, shared, me }))
    }

    /// Takes a place in a segment that exists. `None`: it is retired or replaced; look again.
    fn join(segment: Segment, address: &Address, wanted: &Wanted) -> Result<Option<Self>> {
        let memory = Memory::of(&segment);
        let layout = Layout::read(&memory, segment.what()).map_err(|error| segment.explain(error))?;
        if layout.config.fence == Fence::Sleeper && layout.config.is_pair() && !futex::membarrier_register() {
            return Err(Error::Unsupported {
                what: address.bare().text(),
                capability: "membarrier(2), which this channel was made for".into(),
                hint: Some("create it with fence=everyone".into()),
            });
        }
        let shared = Structures::new(memory, layout);
        let place = match shared.participants.join(&segment, identity())? {
            Some(place) => place,
            None => {
                shared.reap(&segment, None);
                let again = shared.participants.join(&segment, identity())?;
                again.ok_or_else(|| full(address, layout.config.participants))?
            }
        };
        segment.pin();
        let attachment = Self { segment, shared, me: place };
        if !attachment.shared.participants.announce() {
            attachment.segment.unlink(REMOVAL.into())?;
            return Ok(None);
        }
        if !attachment.segment.is_named() {
            return Ok(None);
        }
        attachment.reap();
        attachment.segment.intact()?;
        attachment.accept(address, wanted).map(|accepted| accepted.then_some(attachment))
    }

    /// Whether what was found is what was asked for. `Ok(false)`: it was left by the dead, and is retired now.
    fn accept(&self, address: &Address, wanted: &Wanted) -> Result<bool> {
        let config = &self.shared.layout.config;
        if config.lifetime == Lifetime::Process && self.retire(|| false) {
            return Ok(false);
        }
        let mode = || self.segment.metadata().map(|metadata| metadata.mode).ok();
        let difference = wanted.differs(config).or_else(|| {
            let (ours, theirs) = (wanted.mode?, mode()?);
            (ours != theirs).then(|| ("mode", format!("{theirs:o}"), format!("{ours:o}")))
        });
        let Some((option, theirs, ours)) = difference else { return Ok(true) };
        if config.lifetime != Lifetime::System && self.retire(|| self.has_unread()) {
            return Ok(false);
        }
        Err(Error::Mismatch {
            what: address.bare().text(),
            option: option.into(),
            theirs: theirs.into(),
            ours: ours.into(),
        })
    }

    /// Retires the segment and takes its name away, if this is the last participant and `keep` does not object.
    /// Memory without a name stays: whoever has its descriptor may come yet. So does a name that is not this process's
    /// to take away: behind it, a retired segment would close the channel to all who may not remove it either.
    fn retire(&self, keep: impl Fn() -> bool) -> bool {
        if !self.segment.has_name() || self.mark().is_void() {
            return false;
        }
        let keep = || keep() || !self.segment.may_unlink();
        let retired = self.shared.participants.retire_alone(self.me, || self.reap(), keep);
        if retired {
            // Whoever opens the name meanwhile finds it retired, and helps.
            self.segment.unlink(REMOVAL.into()).ok();
        }
        retired
    }

    /// Whether a message waits.
    pub(crate) fn has_unread(&self) -> bool {
        self.shared.depth() > 0 || self.any_leased(|chunks, known| chunks.any_returned(known))
    }

    /// Whether another participant has taken a message that comes again if he dies, or one comes again now.
    pub(crate) fn is_leased(&self) -> bool {
        self.any_leased(|chunks, known| chunks.any_leased_beside(known, self.me.owner()))
    }

    /// With `ack=release`, whether a look through all chunks finds one.
    fn any_leased(&self, look: impl FnOnce(&Chunks, u32) -> bool) -> bool {
        self.shared.layout.config.ack == Ack::OnRelease && {
            look(&self.shared.chunks, self.shared.extents().chunks_known())
        }
    }

    /// Repairs what the dead held. True: somebody was dead.
    pub(crate) fn reap(&self) -> bool {
        self.shared.reap(&self.segment, Some(self.me))
    }

    /// Tells whether this process still has it, and its memory.
    pub(crate) fn mark(&self) -> MappingMark {
        self.segment.mark()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.mark().is_void() {
            return; // the memory is not mapped in a child, and the place is the parent's; or there is none any more
        }
        let leaving = self.shared.participants.leave(self.me);
        let lifetime = self.shared.layout.config.lifetime;
        self.retire(|| lifetime == Lifetime::System || lifetime == Lifetime::Drained && self.has_unread());
        self.shared.participants.free(leaving);
    }
}

/// Tries until it succeeds: at least a tenth of all tries, whatever the deadline says.
fn again_and_again<T>(
    address: &Address,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    for tried in 1..=ATTEMPTS {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        if tried > ATTEMPTS / 10 && deadline.is_over() {
            return Err(Error::TimedOut { what: address.bare().text(), doing: "opening" });
        }
    }
    Err(Error::Busy {
        what: address.bare().text(),
        holder: None,
        hint: Some("others make and remove it without end".into()),
    })
}

fn full(address: &Address, places: u16) -> Error {
    Error::NoSpace {
        what: address.bare().text(),
        supply: format!("its {places} participants' places").into(),
        hint: Some("end some, or create it with participants=N".into()),
    }
}

/// This process, as the status shows it.
fn identity() -> Identity {
    let name = process_name();
    Identity { pid: std::process::id(), uid: rustix::process::getuid().as_raw(), name }
}
