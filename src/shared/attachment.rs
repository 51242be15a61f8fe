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
        // The rest of the page in which a file was cut reads as zeros: no fault told the guard.
        self.measure().err().unwrap_or_else(|| {
            self.explain(Error::Corrupt {
                what: self.what().clone(),
                problem: problem.into(),
                hint: Some("a peer broke the protocol; remove it: `narrows rm`".into()),
            })
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::layout::SLOT_MIN;
    use super::super::pool::{Loan, Pool};
    use super::super::tests::Unlocked;
    use super::*;

    const WANTED: Wanted = Wanted {
        create: Creation::Open,
        mode: None,
        peers: None,
        capacity: None,
        slot_bytes: None,
        participants: None,
        lifetime: None,
        ack: None,
        fence: None,
        full: None,
        memory_max: None,
    };
    const CONFIG: Config = Config {
        peers: Peers::Many,
        capacity: 16,
        slot_bytes: SLOT_MIN,
        participants: 4,
        endpoints: 16,
        lifetime: Lifetime::Drained,
        ack: Ack::OnTake,
        fence: Fence::Everyone,
        full: Full::Wait,
        memory_max: 1 << 20,
    };

    /// A name that no other test has; removed at the end, also of a failed test.
    struct Channel(Address);

    impl Channel {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            Self(
                Address::new(crate::Scheme::Shm, format!("narrows-attach-{}-{count}", std::process::id()))
                    .unwrap(),
            )
        }

        fn path(&self) -> PathBuf {
            Name::of(&self.0).unwrap().path().unwrap()
        }

        fn open(&self) -> Arc<Attachment> {
            self.open_as(&WANTED, CONFIG).unwrap()
        }

        fn open_as(&self, wanted: &Wanted, config: Config) -> Result<Arc<Attachment>> {
            Attachment::open(&self.0, &Name::of(&self.0).unwrap(), wanted, config, Deadline::Never)
        }

        /// Made by one who died as soon as it was there.
        fn leave_behind(&self, config: Config) {
            let layout = Layout::of(config);
            let mut initialise = |segment: &Segment| {
                layout.write(&Memory::of(segment), 0, 0, [0; 16]);
                let shared = Structures::new(Memory::of(segment), layout);
                shared.participants.join(&Unlocked, identity()).unwrap().unwrap();
                shared.participants.announce();
                Ok(())
            };
            let (name, reserved) = (Name::of(&self.0).unwrap(), layout.reserved());
            let made = Segment::create(&self.0, &name, layout.length, reserved, 0o600, &mut initialise);
            assert!(made.unwrap().is_some());
        }
    }

    impl Drop for Channel {
        fn drop(&mut self) {
            std::fs::remove_file(self.path()).ok();
        }
    }

    #[test]
    fn opening_is_tried_until_it_succeeds_or_the_deadline_is_over() {
        let address: Address = "shm:busy".parse().unwrap();
        let tries = Cell::new(0);
        let open = |at: u32, deadline: Deadline| {
            tries.set(0);
            again_and_again(&address, deadline, || {
                tries.set(tries.get() + 1);
                Ok((tries.get() == at).then_some(at))
            })
        };
        assert_eq!(
            open(2, Deadline::Now).unwrap(),
            2,
            "what others do at the same time is no reason to give up"
        );
        assert_eq!(open(ATTEMPTS / 2, Deadline::Never).unwrap(), ATTEMPTS / 2);
        assert!(matches!(open(u32::MAX, Deadline::Now), Err(Error::TimedOut { .. })));
        assert!(tries.get() < ATTEMPTS);
        assert!(matches!(open(u32::MAX, Deadline::Never), Err(Error::Busy { .. })));
    }

    #[test]
    fn a_participant_keeps_one_descriptor() {
        let channel = Channel::new();
        let opened = || {
            let this = std::fs::metadata(channel.path()).unwrap();
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let files = all.filter_map(|link| std::fs::metadata(link.path()).ok());
            files.filter(|file| (file.dev(), file.ino()) == (this.dev(), this.ino())).count()
        };
        let maker = channel.open();
        assert_eq!(opened(), 1);
        let newcomer = channel.open();
        assert_eq!(opened(), 2);
        drop((maker, newcomer));
    }

    #[test]
    fn whoever_opens_repairs_the_dead() {
        let channel = Channel::new();
        let maker = channel.open();
        maker.shared.participants.join(&Unlocked, identity()).unwrap().unwrap();
        assert_eq!(maker.shared.participants.taken().count(), 2);
        let newcomer = channel.open();
        assert!(maker.shared.participants.taken().eq([maker.me, newcomer.me]));
    }

    #[test]
    fn a_name_that_was_removed_meanwhile_is_looked_for_anew() {
        let channel = Channel::new();
        let maker = channel.open();
        let found = Segment::open(&channel.0, &Name::of(&channel.0).unwrap()).unwrap().unwrap();
        std::fs::remove_file(channel.path()).unwrap();
        assert!(Attachment::join(found, &channel.0, &WANTED).unwrap().is_none());
        assert!(maker.shared.participants.taken().eq([maker.me]));
    }

    #[test]
    fn what_the_dead_left_is_taken_over_replaced_or_refused_as_its_lifetime_says() {
        let process = Config { lifetime: Lifetime::Process, ..CONFIG };
        let system = Config { lifetime: Lifetime::System, ..CONFIG };
        let small = Config { capacity: 3, ..CONFIG };
        let wanted = Wanted { capacity: Some(5), ..WANTED };
        let open = |left: Config, wanted: &Wanted| {
            let channel = Channel::new();
            channel.leave_behind(left);
            let opened = channel.open_as(wanted, Config { capacity: 5, ..CONFIG });
            opened.map(|opened| (opened.shared.layout.config.lifetime, opened.shared.layout.config.capacity))
        };
        assert_eq!(
            open(small, &WANTED).unwrap(),
            (Lifetime::Drained, 3),
            "empty, and nothing else is asked for"
        );
        assert_eq!(open(small, &wanted).unwrap(), (Lifetime::Drained, 5));
        assert_eq!(open(process, &WANTED).unwrap(), (Lifetime::Drained, 5), "its processes are gone");
        assert_eq!(open(system, &WANTED).unwrap(), (Lifetime::System, 16));
        assert!(matches!(open(system, &wanted), Err(Error::Mismatch { .. })), "it stays until it is removed");
    }

    #[test]
    fn what_comes_again_is_unread() {
        let channel = Channel::new();
        let holder = channel.open_as(&WANTED, Config { ack: Ack::OnRelease, ..CONFIG }).unwrap();
        let me = holder.me.owner();
        let Ok(Loan::Chunk(mut chunk)) =
            Pool::new(holder.shared.memory, &holder.shared.layout).loan(100, me, &holder.segment)
        else {
            panic!("there is memory")
        };
        let chunks = &holder.shared.chunks;
        chunks.queue(&mut chunk).ok().unwrap();
        chunks.hold(chunk.reference(), me, &mut holder.shared.extents()).ok().flatten().unwrap();
        chunks.reap(chunk.id, me, true, &|_| false, &|| true);
        drop(holder);
        assert!(channel.path().exists(), "a message is in it");
        let next = channel.open();
        let held = next.shared.chunks.hold_returned(next.me.owner(), &mut next.shared.extents());
        next.shared.chunks.release(held.ok().flatten().unwrap());
        drop(next);
        assert!(!channel.path().exists());
    }

    /// There are more dead than one look for them may repair: the last to leave looks until there are none.
    #[test]
    fn each_look_for_the_dead_is_short_and_the_last_to_leave_repairs_all() {
        let channel = Channel::new();
        let config = Config { capacity: 1 << 18, participants: 80, ..CONFIG };
        let last = channel.open_as(&WANTED, config).unwrap();
        let participants = &last.shared.participants;
        let bury =
            || (0..64).for_each(|_| assert!(participants.join(&Unlocked, identity()).unwrap().is_some()));
        bury();
        assert!(last.reap());
        assert!(participants.taken().count() > 1, "this one look took long");
        while last.reap() {}
        assert!(participants.taken().eq([last.me]));
        bury();
        drop(last);
        assert!(!channel.path().exists());
    }

    #[test]
    fn who_lost_the_memory_removes_no_name() {
        crate::sys::guard::install();
        let channel = Channel::new();
        let lost = channel.open();
        std::fs::File::options().write(true).open(channel.path()).unwrap().set_len(0).unwrap();
        assert!(lost.segment.measure().is_err());
        assert!(!lost.retire(|| false));
        drop(lost);
        assert!(channel.path().exists());
    }

    #[test]
    fn memory_without_a_name_waits_for_whoever_has_its_descriptor() {
        let address: Address = "memfd:waits".parse().unwrap();
        let open = |name: &Name| Attachment::open(&address, name, &WANTED, CONFIG, Deadline::Never).unwrap();
        let maker = open(&Name::of(&address).unwrap());
        let passed = maker.segment.descriptor().unwrap().try_clone_to_owned().unwrap();
        drop(maker);
        assert_eq!(open(&Name::Descriptor(passed)).me.owner(), 1);
    }
}
