//! Layout version 1: where everything lies in a segment, and the header that says so.
//!
//! ```text
//!      0  header: magic, version, kind, features, configuration, creator      (never changes)
//!    256  attach line: retired | generation; senders' epoch; deaths           (128 B apart: processors
//!    384  tail hint                    one to one: the sender's cursor         fetch lines in pairs)
//!    512  head hint                    one to one: the receiver's cursor
//!    640  one to one: the shared head index
//!    768  receiver sleeps   896  sender sleeps   1024  pool: sleepers, returned   1280  discarded
//!   4096  participants, 64 B each
//!         endpoints, 8 B each
//!         extents, 8 B each
//!         slots: 16 B of header and the payload, a multiple of 64 B each
//!         ── reserved at birth up to here ──
//!         chunk descriptors, 64 B each                                         (reserved as the pool grows)
//!         chunks' bytes, up to memory_max
//! ```
//!
//! Words are little-endian `u64`s; there are no pointers, no `usize`, no enums. All zero is a valid empty state of
//! everything behind the header. What follows from the configuration is computed, not stored, and so cannot
//! contradict it.

use crate::atomic::Ordering::Relaxed;
use crate::error::{Error, Result, Text};

use super::memory::Memory;

const MAGIC: u64 = u64::from_le_bytes(*b"NARROWS\x01");
/// The version of everything on this page.
pub(crate) const VERSION: u64 = 1;
/// Features that a reader must know to use a segment of this version.
const KNOWN_FEATURES: u64 = RENDEZVOUS | DROPS;
/// No message waits but with its sender (`capacity=0`): one to one is a ring of slots as well.
const RENDEZVOUS: u64 = 1;
/// A sender that finds no room takes the oldest message away (`full=drop`): one to one is a ring of slots as well.
const DROPS: u64 = 2;

/// Offsets of the header's words.
pub(crate) mod header {
    pub(crate) const MAGIC: u64 = 0;
    /// Layout version in the low half, kind in the high half.
    pub(crate) const VERSION_KIND: u64 = 8;
    /// Features that may be ignored.
    pub(crate) const COMPATIBLE: u64 = 16;
    /// Features that must be known.
    pub(crate) const INCOMPATIBLE: u64 = 24;
    pub(crate) const LENGTH: u64 = 32;
    pub(crate) const CAPACITY: u64 = 40;
    pub(crate) const SLOT_BYTES: u64 = 48;
    /// Participants in the low half, endpoints in the high half.
    pub(crate) const TABLES: u64 = 56;
    /// Lifetime, acknowledgement, fence and what a full channel does, a byte each.
    pub(crate) const POLICY: u64 = 64;
    /// Process id in the low half, user id in the high half.
    pub(crate) const CREATOR: u64 = 72;
    /// Real-time nanoseconds.
    pub(crate) const CREATED: u64 = 80;
    pub(crate) const BOOT_ID: u64 = 88;
    /// Where the description of the message type will lie: offset, length, hash.
    pub(crate) const DESCRIPTOR: u64 = 104;
    /// A hash of the words above, so that a damaged header is told from a foreign one.
    pub(crate) const CHECKSUM: u64 = 248;
    const _: () = assert!(DESCRIPTOR + 24 <= CHECKSUM && CHECKSUM < super::ATTACH);
}

/// Retired flag (bit 63) and a generation that every attaching participant advances.
pub(crate) const ATTACH: u64 = 256;
/// Advanced whenever a sender comes or goes.
pub(crate) const SENDERS_EPOCH: u64 = 264;
/// Senders that died without closing.
pub(crate) const DEATHS: u64 = 272;
/// Receivers that died without closing.
pub(crate) const RECEIVER_DEATHS: u64 = 280;
/// Many to many: no position below this one can be claimed any more. One to one: the sender's next position.
pub(crate) const TAIL: u64 = 384;
/// Many to many: no position below this one can be taken any more. One to one: the receiver's next position.
pub(crate) const HEAD: u64 = 512;
/// One to one: the head as the receiver last published it for the sender.
pub(crate) const SHARED_HEAD: u64 = 640;
/// One to one: whether the receiver is awake, asleep or called.
pub(crate) const RECEIVER_SLEEPS: u64 = 768;
/// One to one: as above, of the sender.
pub(crate) const SENDER_SLEEPS: u64 = 896;
/// Senders waiting for a chunk: a futex that every release changes while it is not zero.
pub(crate) const POOL_SLEEPERS: u64 = 1024;
/// Chunks that came back from dead receivers (`ack=release`), at most; a hint.
pub(crate) const RETURNED: u64 = 1152;
/// Messages that senders took away to make room (`full=drop`).
pub(crate) const DISCARDED: u64 = 1280;

const TABLES_AT: u64 = 4096;
pub(crate) const PLACE_BYTES: u64 = 64;
pub(crate) const ENDPOINT_BYTES: u64 = 8;
pub(crate) const EXTENT_BYTES: u64 = 8;
pub(crate) const EXTENTS: u64 = 2048;
pub(crate) const CHUNK_BYTES: u64 = 64;
pub(crate) const CHUNKS: u64 = 1 << 20;
/// A slot's state, and its length, kind, priority and flags.
pub(crate) const SLOT_HEADER: u64 = 16;
/// What every slot can hold: a descriptor of a chunk needs less.
pub(crate) const SLOT_MIN: u64 = 64;
pub(crate) const CAPACITY_MAX: u64 = 1 << 24;
pub(crate) const SLOT_MAX: u64 = 1 << 30;
pub(crate) const PARTICIPANTS_MAX: u16 = 4096;

/// Who may take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peers {
    Many,
    One,
}

/// When a channel is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// With its last participant, if nothing is unread.
    Drained,
    /// With its last participant.
    Process,
    /// By command.
    System,
}

/// When a message counts as consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// When it is taken.
    OnTake,
    /// When its guard is dropped.
    OnRelease,
}

/// What a sender does that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// It waits.
    Wait,
    /// It takes the oldest message away.
    Drop,
}

/// Who pays for the order between a commit and the look for sleepers (one to one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Whoever goes to sleep, by membarrier(2).
    Sleeper,
    /// Everyone, with each message.
    Everyone,
}

/// A setting that is one of a few words.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// All values, with the words that addresses write for them.
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for Peers {
    const WORDS: &'static [(&'static str, Self)] = &[("many", Self::Many), ("one", Self::One)];
}

impl Words for Lifetime {
    const WORDS: &'static [(&'static str, Self)] =
        &[("drained", Self::Drained), ("process", Self::Process), ("system", Self::System)];
}

impl Words for Ack {
    const WORDS: &'static [(&'static str, Self)] = &[("take", Self::OnTake), ("release", Self::OnRelease)];
}

impl Words for Full {
    const WORDS: &'static [(&'static str, Self)] = &[("wait", Self::Wait), ("drop", Self::Drop)];
}

impl Words for Fence {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sleeper", Self::Sleeper), ("everyone", Self::Everyone)];
}

/// The word for a value.
pub(crate) fn name<T: Words>(value: T) -> &'static str {
    T::WORDS.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

/// What was fixed at creation. Handles keep a copy: reading it from the segment would cost a line a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) peers: Peers,
    pub(crate) capacity: u64,
    /// A slot's size, header included: a multiple of 64.
    pub(crate) slot_bytes: u64,
    pub(crate) participants: u16,
    pub(crate) endpoints: u16,
    pub(crate) lifetime: Lifetime,
    pub(crate) ack: Ack,
    pub(crate) fence: Fence,
    pub(crate) full: Full,
    pub(crate) memory_max: u64,
}

impl Config {
    /// Whether it is one to one by stamps, without a compare-and-swap. Where messages are taken back or dropped, it is
    /// slots that one of each uses.
    pub(crate) fn is_pair(&self) -> bool {
        self.peers == Peers::One && self.features() == 0
    }

    /// Whether every send waits until its message is taken.
    pub(crate) fn is_rendezvous(&self) -> bool {
        self.capacity == 0
    }

    /// How many messages may wait at a time.
    pub(crate) fn room(&self) -> u64 {
        self.capacity.max(1)
    }

    /// Whether there is nothing to drop where messages would be dropped.
    pub(crate) fn is_contradiction(&self) -> bool {
        self.is_rendezvous() && self.full == Full::Drop
    }

    fn features(&self) -> u64 {
        let rendezvous = if self.is_rendezvous() { RENDEZVOUS } else { 0 };
        rendezvous | if self.full == Full::Drop { DROPS } else { 0 }
    }
}

/// Where things lie; follows from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) config: Config,
    pub(crate) participants: u64,
    pub(crate) endpoints: u64,
    pub(crate) extents: u64,
    pub(crate) slots: u64,
    /// A power of two, at least the capacity.
    pub(crate) slot_count: u64,
    pub(crate) chunks: u64,
    pub(crate) data: u64,
    pub(crate) length: u64,
}

impl Layout {
    pub(crate) fn of(config: Config) -> Self {
        let page = |offset: u64| offset.next_multiple_of(4096);
        let participants = TABLES_AT;
        let endpoints = participants + u64::from(config.participants) * PLACE_BYTES;
        let extents = endpoints + u64::from(config.endpoints) * ENDPOINT_BYTES;
        let slots = page(extents + EXTENTS * EXTENT_BYTES);
        let slot_count = slot_count(&config);
        let chunks = page(slots + slot_count * config.slot_bytes);
        let data = (chunks + CHUNKS * CHUNK_BYTES).next_multiple_of(2 << 20);
        let length = data + config.memory_max;
        Self { config, participants, endpoints, extents, slots, slot_count, chunks, data, length }
    }

    /// The bytes that are reserved at birth.
    pub(crate) fn reserved(&self) -> u64 {
        self.chunks
    }

    /// The largest message that fits a slot.
    pub(crate) fn inline_max(&self) -> u64 {
        self.config.slot_bytes - payload_at(self.config.slot_bytes)
    }

    /// Writes the header of a segment that nobody else sees yet.
    pub(crate) fn write(&self, memory: &Memory, creator: u64, created_ns: u64, boot_id: [u8; 16]) {
        let config = &self.config;
        let put = |offset, value| memory.word(offset).store(value, Relaxed);
        let half = |at: usize| u64::from_le_bytes(boot_id[at..at + 8].try_into().unwrap_or_default());
        put(header::MAGIC, MAGIC);
        put(header::VERSION_KIND, VERSION | (config.peers as u64 + 1) << 32);
        put(header::COMPATIBLE, 0);
        put(header::INCOMPATIBLE, config.features());
        put(header::LENGTH, self.length);
        put(header::CAPACITY, config.capacity);
        put(header::SLOT_BYTES, config.slot_bytes);
        put(header::TABLES, u64::from(config.participants) | u64::from(config.endpoints) << 32);
        let waits = (config.fence as u64) << 16 | (config.full as u64) << 24;
        put(header::POLICY, config.lifetime as u64 | (config.ack as u64) << 8 | waits);
        put(header::CREATOR, creator);
        put(header::CREATED, created_ns);
        put(header::BOOT_ID, half(0));
        put(header::BOOT_ID + 8, half(8));
        put(header::CHECKSUM, checksum(memory));
    }

    /// Reads and checks the header of a segment of `mapped` bytes.
    pub(crate) fn read(memory: &Memory, what: &Text) -> Result<Self> {
        let get = |offset| memory.word(offset).load(Relaxed);
        let corrupt = |problem: String| {
            let hint = Some("remove it: `narrows rm`".into());
            Err(Error::Corrupt { what: what.clone(), problem: problem.into(), hint })
        };
        let kind_error = |found: String, hint: &str| {
            let expected = "a channel of narrows, layout version 1".into();
            Err(Error::WrongKind {
                what: what.clone(),
                expected,
                found: found.into(),
                hint: Some(hint.into()),
            })
        };
        match get(header::MAGIC) {
            MAGIC => {}
            swapped if swapped == MAGIC.swap_bytes() => {
                return kind_error(
                    "a segment of a big-endian machine".into(),
                    "make it anew on this machine",
                );
            }
            _ => return kind_error("no segment of narrows".into(), "`narrows peek` shows its bytes"),
        }
        let version = get(header::VERSION_KIND) & 0xffff_ffff;
        if version != VERSION {
            let hint = "use the version of narrows that made it, or remove it: `narrows rm`";
            return kind_error(format!("a segment of layout version {version}"), hint);
        }
        let unknown = get(header::INCOMPATIBLE) & !KNOWN_FEATURES;
        if unknown != 0 {
            return kind_error(
                format!("a segment with unknown features {unknown:#x}"),
                "use a newer narrows",
            );
        }
        if get(header::CHECKSUM) != checksum(memory) {
            return corrupt("the header does not match its checksum".into());
        }
        let kind = get(header::VERSION_KIND) >> 32;
        let Some(peers) = kind.checked_sub(1).and_then(|kind| coded(kind, |peers: Peers| peers as u64))
        else {
            return kind_error(format!("a segment of kind {kind}"), "use a newer narrows, or another name");
        };
        let Some(config) = read_config(memory, peers) else {
            return corrupt("the header's configuration is impossible".into());
        };
        let layout = Self::of(config);
        if memory.len() < layout.length {
            return corrupt(format!("it has {} bytes and should have {}", memory.len(), layout.length));
        }
        Ok(layout)
    }
}

/// Whether the bytes begin as a segment of any version does.
pub(crate) fn is_ours(memory: &Memory) -> bool {
    memory.word(header::MAGIC).load(Relaxed) == MAGIC
}

/// Where the payload begins in a slot: behind the header when a slot is one line, else in a line of its own, so
/// that large copies are aligned.
pub(crate) const fn payload_at(slot_bytes: u64) -> u64 {
    if slot_bytes == SLOT_MIN { SLOT_HEADER } else { SLOT_MIN }
}

/// Small capacities get spare slots, so that a slot whose stopped owner was passed over is not missed.
fn slot_count(config: &Config) -> u64 {
    let spare = if !config.is_pair() && config.room() < 64 { 8 } else { 0 };
    (config.room() + spare).next_power_of_two()
}

fn read_config(memory: &Memory, peers: Peers) -> Option<Config> {
    let get = |offset| memory.word(offset).load(Relaxed);
    let (tables, policy) = (get(header::TABLES), get(header::POLICY));
    let lifetime = coded(policy & 0xff, |lifetime: Lifetime| lifetime as u64)?;
    let ack = coded(policy >> 8 & 0xff, |ack: Ack| ack as u64)?;
    let fence = coded(policy >> 16 & 0xff, |fence: Fence| fence as u64)?;
    let full = coded(policy >> 24 & 0xff, |full: Full| full as u64)?;
    let slot_bytes = get(header::SLOT_BYTES);
    let capacity = get(header::CAPACITY);
    let participants = u16::try_from(tables & 0xffff_ffff).ok()?;
    let endpoints = u16::try_from(tables >> 32).ok()?;
    // Small enough that no sum of them overflows; whether all of it fits, the length says.
    let sane = capacity <= CAPACITY_MAX
        && (SLOT_MIN..=SLOT_MAX).contains(&slot_bytes)
        && slot_bytes.is_multiple_of(SLOT_MIN)
        && (1..=PARTICIPANTS_MAX).contains(&participants)
        && endpoints >= 2;
    if !sane {
        return None;
    }
    #[rustfmt::skip]
    let config = Config {
        peers, capacity, slot_bytes, participants, endpoints, lifetime, ack, fence, full, memory_max: 0,
    };
    if !(config.is_pair() || slot_bytes == SLOT_MIN)
        || get(header::INCOMPATIBLE) != config.features()
        || config.is_contradiction()
    {
        return None;
    }
    let memory_max = get(header::LENGTH).checked_sub(Layout::of(config).data)?;
    Some(Config { memory_max, ..config })
}

fn coded<T: Words>(code: u64, encode: fn(T) -> u64) -> Option<T> {
    T::WORDS.iter().map(|(_, value)| *value).find(|value| encode(*value) == code)
}

/// FNV-1a over the header's words before the checksum.
fn checksum(memory: &Memory) -> u64 {
    (0..header::CHECKSUM).step_by(8).fold(0xcbf2_9ce4_8422_2325, |hash: u64, offset| {
        (hash ^ memory.word(offset).load(Relaxed)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::header::{BOOT_ID, CAPACITY, CHECKSUM, CREATED, CREATOR, INCOMPATIBLE, LENGTH};
    use super::header::{POLICY, SLOT_BYTES, TABLES, VERSION_KIND};
    use super::*;
    use crate::address::Address;
    use crate::segment::{Place, Segment};

    const MANY: Config = Config {
        peers: Peers::Many,
        capacity: 16,
        slot_bytes: SLOT_MIN,
        participants: 4,
        endpoints: 16,
        lifetime: Lifetime::Drained,
        ack: Ack::OnTake,
        fence: Fence::Sleeper,
        full: Full::Wait,
        memory_max: 1 << 16,
    };
    const ONE: Config = Config { peers: Peers::One, slot_bytes: 256, ..MANY };

    fn segment(length: u64) -> Segment {
        let address: Address = "memfd:header".parse().unwrap();
        let place = Place::of(&address).unwrap();
        Segment::create(&address, &place, length, 4096, 0o600, &mut |_| Ok(())).unwrap().unwrap()
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        let all = Config { lifetime: Lifetime::System, ack: Ack::OnRelease, fence: Fence::Everyone, ..MANY };
        let rendezvous = Config { capacity: 0, ..MANY };
        let dropping = Config { full: Full::Drop, ..ONE };
        for config in [MANY, ONE, all, rendezvous, Config { slot_bytes: SLOT_MIN, ..dropping }] {
            let layout = Layout::of(config);
            let segment = segment(layout.length);
            let memory = Memory::of(&segment);
            assert!(!is_ours(&memory));
            layout.write(&memory, 1 | 2 << 32, 3, *b"first 8 next 8 b");
            assert!(is_ours(&memory));
            assert_eq!(Layout::read(&memory, &"header".into()).unwrap(), layout);
            let words = [CREATOR, CREATED, BOOT_ID, BOOT_ID + 8].map(|at| memory.word(at).load(Relaxed));
            let text = |text: &[u8; 8]| u64::from_le_bytes(*text);
            assert_eq!(words, [1 | 2 << 32, 3, text(b"first 8 "), text(b"next 8 b")]);
        }
    }

    /// What is changed of a header, and what the error says.
    type Change = (Config, &'static [(u64, u64)], &'static str);

    const CHANGES: &[Change] = &[
        (MANY, &[(header::MAGIC, 0)], "no segment of narrows"),
        (MANY, &[(header::MAGIC, MAGIC.swap_bytes())], "big-endian"),
        (MANY, &[(VERSION_KIND, 2 | 1 << 32)], "layout version 2"),
        (MANY, &[(VERSION_KIND, 1)], "kind 0"),
        (MANY, &[(VERSION_KIND, 1 | 3 << 32)], "kind 3"),
        (MANY, &[(INCOMPATIBLE, 4)], "features 0x4"),
        (MANY, &[(INCOMPATIBLE, RENDEZVOUS)], "impossible"),
        (MANY, &[(CAPACITY, 0)], "impossible"),
        (MANY, &[(CAPACITY, CAPACITY_MAX + 1), (LENGTH, 1 << 46)], "impossible"),
        (MANY, &[(POLICY, 1 << 24), (CAPACITY, 0), (INCOMPATIBLE, 3)], "impossible"),
        (MANY, &[(SLOT_BYTES, 2 * SLOT_MIN)], "impossible"),
        (ONE, &[(SLOT_BYTES, 0)], "impossible"),
        (ONE, &[(SLOT_BYTES, SLOT_MIN + 8)], "impossible"),
        (ONE, &[(SLOT_BYTES, SLOT_MAX + SLOT_MIN), (LENGTH, 1 << 46)], "impossible"),
        (MANY, &[(TABLES, 16 << 32)], "impossible"),
        (MANY, &[(TABLES, 16 << 32 | 4097)], "impossible"),
        (MANY, &[(TABLES, 16 << 32 | 1 << 16)], "impossible"),
        (MANY, &[(TABLES, 1 << 32 | 4)], "impossible"),
        (MANY, &[(TABLES, 1 << 48 | 4)], "impossible"),
        (MANY, &[(POLICY, 3)], "impossible"),
        (MANY, &[(POLICY, 2 << 8)], "impossible"),
        (MANY, &[(POLICY, 2 << 16)], "impossible"),
        (MANY, &[(POLICY, 2 << 24)], "impossible"),
        (MANY, &[(LENGTH, 1 << 20)], "impossible"),
        (MANY, &[(LENGTH, 1 << 40)], "and should have 1099511627776"),
    ];

    #[test]
    fn a_header_that_no_channel_has_is_refused() {
        for (config, changes, text) in CHANGES {
            let layout = Layout::of(*config);
            let segment = segment(layout.length);
            let memory = Memory::of(&segment);
            layout.write(&memory, 0, 0, [0; 16]);
            changes.iter().for_each(|(at, word)| memory.word(*at).store(*word, Relaxed));
            let read = || Layout::read(&memory, &"header".into());
            if !["no segment", "big-endian", "version", "features"].iter().any(|early| text.contains(early)) {
                assert!(read().unwrap_err().to_string().contains("checksum"), "{changes:?}");
            }
            memory.word(CHECKSUM).store(checksum(&memory), Relaxed);
            let error = read().expect_err(text).to_string();
            assert!(error.contains(text), "{changes:?}: {error}");
        }
    }

    /// What other builds of this version count on.
    #[test]
    fn the_page_of_version_1_is_as_it_was() {
        let default =
            Config { capacity: 1024, participants: 128, endpoints: 512, memory_max: 64 << 30, ..MANY };
        let layout = Layout::of(default);
        let tables = [layout.participants, layout.endpoints, layout.extents, layout.slots];
        assert_eq!(tables, [4096, 12_288, 16_384, 32_768]);
        assert_eq!([layout.slot_count, layout.reserved(), layout.data], [1024, 96 << 10, 66 << 20]);
        assert_eq!((layout.length, layout.inline_max()), (layout.data + (64 << 30), 48));
        let many = [0, 1, 8, 9, 56, 57, 63, 64, 65, 1000].map(|capacity| Config { capacity, ..MANY });
        assert_eq!(
            many.map(|config| Layout::of(config).slot_count),
            [16, 16, 16, 32, 64, 128, 128, 64, 128, 1024]
        );
        let one = [0, 1, 3, 16, 65].map(|capacity| Config { capacity, ..ONE });
        assert_eq!(one.map(|config| Layout::of(config).slot_count), [16, 1, 4, 16, 128]);
        let dropping = Config { full: Full::Drop, capacity: 4, ..ONE };
        assert_eq!((Layout::of(dropping).slot_count, Layout::of(ONE).inline_max()), (16, 192));
    }
}
