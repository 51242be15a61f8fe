//! The channels that are soaked: a row each.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::account::Promise;
use crate::random::Random;

/// Where a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Shm,
    File,
    Memfd,
    Unix,
    Fifo,
}

/// How one side is cast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    /// Processes that are killed, stopped, and leave.
    pub(super) victims: u64,
    /// Processes that nothing happens to.
    pub(super) survivors: u64,
    /// Threads of a victim.
    pub(super) threads: u64,
}

/// One kind of channel, and what is done with it.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) place: Place,
    /// One of them is chosen.
    pub(super) options: &'static [&'static str],
    /// Also one of them, where there is a choice.
    pub(super) lifetimes: &'static [&'static str],
    pub(super) sizes: &'static [(usize, usize)],
    pub(super) batch: u64,
    pub(super) promise: Promise,
    pub(super) senders: Side,
    pub(super) receivers: Side,
    /// Ends are closed and opened anew all the time.
    pub(super) visits: bool,
    /// Now and then nobody sends for a while, and memory is given back.
    pub(super) lulls: bool,
    /// There is less memory than slots.
    pub(super) is_scarce: bool,
    /// Survivors send and receive all the time and wait for nothing that others hold: their longest operation is
    /// what the others' deaths cost.
    pub(super) is_timed: bool,
}

/// How messages are sent and received on a channel; each process mixes what it allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Style {
    /// From and to so many bytes; one range is chosen, then a size in it.
    pub(super) sizes: Vec<(usize, usize)>,
    /// Messages that one call may carry.
    pub(super) batch: u64,
    /// Loans and messages read where they lie.
    pub(super) in_place: bool,
    /// What is taken is consumed when it is released.
    pub(super) leased: bool,
    pub(super) visits: bool,
    pub(super) lulls: bool,
}

const fn side(victims: u64, survivors: u64) -> Side {
    Side { victims, survivors, threads: 1 }
}

const fn crowd(victims: u64, survivors: u64) -> Side {
    Side { victims, survivors, threads: 4 }
}

const LIFETIMES: &[&str] = &["system", "drained"];
/// In the slot, at its edge, in a chunk.
const MIXED: &[(usize, usize)] = &[(0, 48), (8, 48), (47, 65), (49, 700), (4000, 5000)];
const SMALL: &[(usize, usize)] = &[(0, 48)];
const TIGHT: &[(usize, usize)] = &[(0, 60), (1000, 20_000), (40_000, 60_000)];
const HUGE: &[(usize, usize)] =
    &[(0, 64), (8, 64), (60, 5000), (5000, 100_000), (200_000, 1_000_000), (1_000_000, 3_000_000)];
const PACKETS: &[(usize, usize)] = &[(0, 64), (60, 4000), (100_000, 150_000)];
const PIECES: &[(usize, usize)] = &[(0, 64), (60, 4000)];
const STREAM: &[(usize, usize)] = &[(0, 64), (60, 4100), (30_000, 70_000), (300_000, 900_000)];

const KIND: Kind = Kind {
    name: "",
    place: Place::Shm,
    options: &[],
    lifetimes: LIFETIMES,
    sizes: MIXED,
    batch: 8,
    promise: Promise::Kept,
    senders: side(1, 1),
    receivers: side(1, 1),
    visits: false,
    lulls: false,
    is_scarce: false,
    is_timed: false,
};

/// All kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "many to many",
        options: &["capacity=1024", "capacity=64", "capacity=8192"],
        promise: Promise::Taken,
        senders: side(2, 1),
        receivers: side(2, 1),
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "many to many, no receiver killed",
        options: &["capacity=1024", "capacity=16"],
        senders: side(3, 1),
        receivers: side(0, 2),
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "many to many, ack=release",
        options: &["capacity=1024,ack=release", "capacity=64,ack=release"],
        receivers: side(2, 1),
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "tiny",
        options: &["capacity=1", "capacity=2", "capacity=3", "capacity=5", "capacity=7"],
        promise: Promise::Taken,
        senders: side(2, 1),
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "tiny, ack=release",
        options: &["capacity=1,ack=release", "capacity=2,ack=release", "capacity=7,ack=release"],
        receivers: side(2, 1),
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "asleep and spinning",
        options: &["capacity=16,wait=sleep", "capacity=16,wait=spin", "capacity=1,wait=sleep"],
        sizes: SMALL,
        promise: Promise::Taken,
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "one to one, the sender dies",
        options: &[
            "peers=one,fence=sleeper",
            "peers=one,fence=everyone",
            "peers=one,capacity=1",
            "peers=one,capacity=7,slot_bytes=5000",
        ],
        senders: side(1, 0),
        receivers: side(0, 1),
        ..KIND
    },
    Kind {
        name: "one to one, the receiver dies",
        options: &[
            "peers=one,fence=sleeper,slot_bytes=700",
            "peers=one,fence=everyone",
            "peers=one,capacity=1",
            "peers=one,capacity=16,slot_bytes=5000",
        ],
        promise: Promise::Taken,
        senders: side(0, 1),
        receivers: side(1, 0),
        ..KIND
    },
    Kind {
        name: "one to one, ack=release",
        options: &["peers=one,ack=release", "peers=one,ack=release,capacity=3,fence=everyone"],
        senders: side(1, 0),
        receivers: side(1, 0),
        ..KIND
    },
    Kind {
        name: "large messages",
        options: &["memory_max=100663296", "memory_max=67108864,capacity=16"],
        sizes: HUGE,
        batch: 3,
        promise: Promise::Taken,
        senders: side(2, 1),
        lulls: true,
        ..KIND
    },
    Kind {
        name: "a pool that runs out",
        options: &["memory_max=524288,ack=release", "memory_max=524288,ack=release,capacity=7"],
        sizes: TIGHT,
        batch: 4,
        is_scarce: true,
        ..KIND
    },
    Kind {
        name: "in a file",
        place: Place::File,
        options: &["ack=release", "capacity=16,ack=release"],
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "without a name",
        place: Place::Memfd,
        options: &["capacity=64", "capacity=1024"],
        lifetimes: &[],
        promise: Promise::Taken,
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "opened and closed",
        options: &["capacity=64", "capacity=7"],
        lifetimes: &["drained"],
        promise: Promise::Taken,
        senders: side(2, 1),
        visits: true,
        ..KIND
    },
    Kind {
        name: "processes of four threads",
        options: &["capacity=256", "capacity=7"],
        promise: Promise::Taken,
        senders: crowd(1, 1),
        receivers: crowd(1, 1),
        is_timed: true,
        ..KIND
    },
    Kind {
        name: "unix stream, senders die",
        place: Place::Unix,
        options: &["type=stream"],
        lifetimes: &[],
        sizes: STREAM,
        senders: side(2, 1),
        receivers: side(0, 1),
        ..KIND
    },
    Kind {
        name: "unix seqpacket, senders die",
        place: Place::Unix,
        options: &["type=seqpacket"],
        lifetimes: &[],
        sizes: PACKETS,
        senders: side(2, 1),
        receivers: side(0, 1),
        ..KIND
    },
    Kind {
        name: "unix, the receiver dies",
        place: Place::Unix,
        options: &["type=stream", "type=seqpacket"],
        lifetimes: &[],
        sizes: PACKETS,
        promise: Promise::Buffered,
        receivers: side(1, 0),
        ..KIND
    },
    Kind {
        name: "fifo, the writer dies",
        place: Place::Fifo,
        options: &["writers=one"],
        lifetimes: &[],
        sizes: STREAM,
        senders: side(1, 0),
        receivers: side(0, 1),
        ..KIND
    },
    Kind {
        name: "fifo, many writers die",
        place: Place::Fifo,
        options: &["writers=many"],
        lifetimes: &[],
        sizes: PIECES,
        senders: side(2, 1),
        receivers: side(0, 1),
        ..KIND
    },
    Kind {
        name: "fifo, the reader dies",
        place: Place::Fifo,
        options: &["writers=one"],
        lifetimes: &[],
        sizes: STREAM,
        promise: Promise::Buffered,
        senders: side(0, 1),
        receivers: side(1, 0),
        ..KIND
    },
];

impl Kind {
    /// An address for a channel of this kind, with options that are chosen for a round.
    pub(super) fn address(&self, name: &str, folder: &Path, random: &mut Random) -> String {
        let option = random.one_of(self.options);
        let lifetime = match self.lifetimes {
            [] => String::new(),
            lifetimes => format!(",lifetime={}", random.one_of(lifetimes)),
        };
        let folder = folder.display();
        match self.place {
            Place::Shm => format!("shm:{name},participants=16,{option}{lifetime}"),
            Place::File => format!("file:{folder}/{name},participants=16,{option}{lifetime}"),
            Place::Memfd => format!("memfd:{name},participants=16,{option}"),
            Place::Unix => format!("unix:{folder}/{name},{option}"),
            Place::Fifo => format!("fifo:{folder}/{name},{option}"),
        }
    }

    /// Whether its messages lie in shared memory.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.place, Place::Shm | Place::File | Place::Memfd)
    }

    pub(super) fn style(&self) -> Style {
        Style {
            sizes: self.sizes.to_vec(),
            batch: self.batch,
            in_place: self.is_shared(),
            leased: self.options.iter().all(|option| option.contains("ack=release")),
            visits: self.visits,
            lulls: self.lulls,
        }
    }
}

impl Style {
    pub(super) fn size(&self, random: &mut Random) -> usize {
        let (from, to) = random.one_of(&self.sizes);
        from + random.below((to - from + 1) as u64) as usize
    }
}
