//! What is measured: the scenarios, by stable names.

use serde::{Deserialize, Serialize};

/// How a receiver waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// It looks again and again.
    Spin,
    /// It sleeps until it is woken.
    Sleep,
}

impl Wait {
    /// The word in results and addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Sleep => "sleep",
        }
    }
}

/// Who may take part in the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// One sender, one receiver, and the channel relies on it.
    OneToOne,
    /// Any number of either; one of each is measured unless the scenario says otherwise.
    ManyToMany,
}

/// What the processes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A message goes there and one comes back; half of the round trip counts.
    PingPong,
    /// A message goes one way, and its sender waits until it was taken: that counts.
    Round,
    /// Messages go one way as fast as they can.
    Stream,
    /// One process repeats one operation.
    Alone,
    /// The receiver sleeps while nothing is sent; then the sender is killed.
    Idle,
}

/// How a message gets in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Copied in, copied out; settings are the defaults.
    Copy,
    /// Copied in and out of slots that are made to fit the size, 64 of them.
    FittedCopy,
    /// [`BATCH`] messages a call, on both sides.
    Batch,
    /// Written and read where it lies: the first and the last line.
    Reference,
}

/// Messages in a batch.
pub const BATCH: usize = 32;
/// Small messages that fit into a channel by default, and into the bare ring beside it.
pub const DEFAULT: usize = 1024;
/// The same where a scenario is roomy: the two sides seldom meet, and the processors' prefetching works.
pub const ROOMY: usize = 16_384;

/// One line of the list.
#[derive(Debug)]
pub struct Scenario {
    /// Its stable name.
    pub name: &'static str,
    /// What it does, in a line.
    pub what: &'static str,
    /// What the processes do.
    pub act: Act,
    /// Who may take part.
    pub pattern: Pattern,
    /// How messages get in and out.
    pub by: By,
    /// How many processes send.
    pub senders: usize,
    /// Whether [`ROOMY`] messages fit, instead of the default.
    pub is_roomy: bool,
    /// The ways of waiting to measure; none where nobody waits.
    pub waits: &'static [Wait],
    /// The sizes to measure, in bytes; none where nothing is sent.
    pub sizes: &'static [usize],
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const LATENCY_SIZES: &[usize] = &[48, KIB, 4 * KIB, 16 * KIB, 64 * KIB, MIB];
const THROUGHPUT_SIZES: &[usize] = &[8, 32, 48, KIB, 4 * KIB, 16 * KIB, 64 * KIB, MIB, 16 * MIB];
const COPIED_SIZES: &[usize] = &[KIB, 4 * KIB, 16 * KIB, 64 * KIB, MIB];
const BOTH: &[Wait] = &[Wait::Spin, Wait::Sleep];
const SPIN: &[Wait] = &[Wait::Spin];
const SLEEP: &[Wait] = &[Wait::Sleep];

const PLAIN: Scenario = Scenario {
    name: "",
    what: "",
    act: Act::PingPong,
    pattern: Pattern::OneToOne,
    by: By::Copy,
    senders: 1,
    is_roomy: false,
    waits: BOTH,
    sizes: LATENCY_SIZES,
};

/// What a channel is measured by, whatever its scheme.
pub const CHANNEL: &[Scenario] = &[
    Scenario {
        name: "latency_many_to_many",
        what: "one way, half of a round trip over two channels",
        pattern: Pattern::ManyToMany,
        ..PLAIN
    },
    Scenario {
        name: "latency_one_to_one",
        what: "the same, channels of one sender and one receiver",
        ..PLAIN
    },
    Scenario {
        name: "latency_one_to_one_fitted",
        what: "the same, slots made to fit the size",
        by: By::FittedCopy,
        waits: SPIN,
        sizes: COPIED_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "latency_many_to_many_by_reference",
        what: "the same, written and read where it lies (first and last line)",
        pattern: Pattern::ManyToMany,
        by: By::Reference,
        waits: SPIN,
        sizes: &[64 * KIB, MIB],
        ..PLAIN
    },
    Scenario {
        name: "latency_many_to_many_rendezvous",
        what: "capacity=0: from a send's beginning until its message was taken and the sender knows",
        act: Act::Round,
        pattern: Pattern::ManyToMany,
        waits: SPIN,
        sizes: &[48],
        ..PLAIN
    },
    Scenario {
        name: "throughput_many_to_many",
        what: "one way, as fast as it goes",
        act: Act::Stream,
        pattern: Pattern::ManyToMany,
        sizes: THROUGHPUT_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one",
        what: "the same, a channel of one sender and one receiver",
        act: Act::Stream,
        sizes: THROUGHPUT_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_fitted",
        what: "the same, slots made to fit the size",
        act: Act::Stream,
        by: By::FittedCopy,
        waits: SPIN,
        sizes: COPIED_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "throughput_many_to_many_batch",
        what: "32 messages a call on both sides",
        act: Act::Stream,
        pattern: Pattern::ManyToMany,
        by: By::Batch,
        sizes: &[8, 48],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_batch",
        what: "32 messages a call on both sides, a channel of one sender and one receiver",
        act: Act::Stream,
        by: By::Batch,
        sizes: &[8, 48],
        ..PLAIN
    },
    Scenario {
        name: "throughput_many_to_many_roomy",
        what: "room for 16384 messages",
        act: Act::Stream,
        pattern: Pattern::ManyToMany,
        is_roomy: true,
        waits: SPIN,
        sizes: &[48],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_roomy",
        what: "room for 16384 messages, a channel of one sender and one receiver",
        act: Act::Stream,
        is_roomy: true,
        waits: SPIN,
        sizes: &[48],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_roomy_batch",
        what: "room for 16384 messages, 32 messages a call on both sides",
        act: Act::Stream,
        by: By::Batch,
        is_roomy: true,
        waits: SPIN,
        sizes: &[48],
        ..PLAIN
    },
    Scenario {
        name: "throughput_many_to_many_by_reference",
        what: "written and read where it lies (first and last line)",
        act: Act::Stream,
        pattern: Pattern::ManyToMany,
        by: By::Reference,
        waits: SPIN,
        sizes: &[MIB],
        ..PLAIN
    },
    Scenario {
        name: "throughput_many_to_many_four_senders",
        what: "four processes send, one receives",
        act: Act::Stream,
        pattern: Pattern::ManyToMany,
        senders: 4,
        sizes: &[48, KIB],
        ..PLAIN
    },
    Scenario {
        name: "latency_many_to_many_create",
        what: "a new channel is made (and closed, not timed)",
        act: Act::Alone,
        pattern: Pattern::ManyToMany,
        waits: &[],
        sizes: &[],
        ..PLAIN
    },
    Scenario {
        name: "latency_many_to_many_open",
        what: "a channel that exists is opened (and closed, not timed)",
        act: Act::Alone,
        pattern: Pattern::ManyToMany,
        waits: &[],
        sizes: &[],
        ..PLAIN
    },
    Scenario {
        name: "latency_many_to_many_death_notice",
        what: "the last sender is killed: until the receiver knows; CPU time is per second of sleep before",
        act: Act::Idle,
        pattern: Pattern::ManyToMany,
        waits: SLEEP,
        sizes: &[],
        ..PLAIN
    },
];

/// What the machine can do at best.
pub const FLOOR: &[Scenario] = &[
    Scenario {
        name: "latency_one_to_one_cache_line",
        what: "a line with a flag and 56 bytes crosses between two cores; each direction has its own lines",
        waits: SPIN,
        sizes: &[56],
        ..PLAIN
    },
    Scenario {
        name: "latency_one_to_one_cache_line_shared",
        what: "the same line is bounced in both directions",
        waits: SPIN,
        sizes: &[56],
        ..PLAIN
    },
    Scenario {
        name: "latency_one_to_one_futex",
        what: "a process asleep on a bare futex is woken",
        waits: SLEEP,
        sizes: &[],
        ..PLAIN
    },
    Scenario {
        name: "latency_one_to_one_slot_ring",
        what: "copied into a ring of 64 slots and out of it, there and back",
        by: By::FittedCopy,
        waits: SPIN,
        sizes: COPIED_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_ring",
        what: "a bare ring of 1024 items of 64 bytes, each published",
        act: Act::Stream,
        waits: SPIN,
        sizes: &[64],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_ring_batch",
        what: "the same, published by 32",
        act: Act::Stream,
        by: By::Batch,
        waits: SPIN,
        sizes: &[64],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_ring_roomy",
        what: "a bare ring of 16384 items of 64 bytes, each published",
        act: Act::Stream,
        is_roomy: true,
        waits: SPIN,
        sizes: &[64],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_ring_roomy_batch",
        what: "the same, published by 32",
        act: Act::Stream,
        by: By::Batch,
        is_roomy: true,
        waits: SPIN,
        sizes: &[64],
        ..PLAIN
    },
    Scenario {
        name: "throughput_one_to_one_slot_ring",
        what: "copied into a ring of 64 slots and out of it",
        act: Act::Stream,
        by: By::FittedCopy,
        waits: SPIN,
        sizes: COPIED_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "throughput_memcpy",
        what: "one process copies a block onto another",
        act: Act::Alone,
        waits: &[],
        sizes: COPIED_SIZES,
        ..PLAIN
    },
    Scenario {
        name: "latency_create",
        what: "bare calls: unnamed file in /dev/shm, 128 KiB reserved, mapped, locked, linked (closing: not timed)",
        act: Act::Alone,
        waits: &[],
        sizes: &[],
        ..PLAIN
    },
    Scenario {
        name: "latency_open",
        what: "bare calls: 128 KiB in /dev/shm opened, mapped, locked (closing: not timed)",
        act: Act::Alone,
        waits: &[],
        sizes: &[],
        ..PLAIN
    },
];

/// One scenario at one size with one way of waiting.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is done.
    pub scenario: &'static Scenario,
    /// How the receiver waits.
    pub wait: Option<Wait>,
    /// Bytes a message; 0 where nothing is sent.
    pub size: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.scenario.name)?;
        self.wait.map_or(Ok(()), |wait| write!(out, " {}", wait.name()))?;
        if self.size > 0 { write!(out, " {} B", self.size) } else { Ok(()) }
    }
}

impl Scenario {
    /// Every case of it.
    pub fn cases(&'static self) -> Vec<Case> {
        let waits: Vec<_> = self.waits.iter().copied().map(Some).collect();
        let waits = if waits.is_empty() { vec![None] } else { waits };
        let sizes = if self.sizes.is_empty() { &[0] } else { self.sizes };
        let case = |wait| sizes.iter().map(move |&size| Case { scenario: self, wait, size });
        waits.into_iter().flat_map(case).collect()
    }

    /// How many processes the engine starts.
    pub fn players(&self) -> usize {
        match self.act {
            Act::Alone | Act::Idle => 1,
            Act::PingPong | Act::Round => 2,
            Act::Stream => 1 + self.senders,
        }
    }
}
