//! The kinds of channel that operations are interrupted on.

/// A kind of channel.
#[derive(Debug)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    /// What stands behind the name in the address.
    pub(crate) options: &'static str,
    /// One sender and one receiver, no more.
    pub(crate) one: bool,
    /// Nothing waits but with its sender.
    pub(crate) rendezvous: bool,
    /// Who finds no room drops the oldest message.
    pub(crate) drops: bool,
    pub(crate) scope: Scope,
    /// A message is consumed when its guard is dropped.
    pub(crate) release: bool,
}

impl Mode {
    /// Whether its one sender and one receiver use no slots, so that nothing is claimed or taken back.
    pub(crate) fn is_pair(&self) -> bool {
        self.one && !self.rendezvous && !self.drops
    }
}

/// Messages that fit. Few, so that walks are short and wraps are near.
pub(crate) const CAPACITY: usize = 4;

/// Which operations a kind is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All.
    All,
    /// Those that move messages; it comes, goes and is looked at as another kind, and why.
    Messages(&'static str),
    /// Those that open, close, look and remove: it is a file, and moves messages as `many`.
    Names,
    /// One.
    Only(&'static str),
}

const fn mode(name: &'static str, options: &'static str, one: bool, release: bool) -> Mode {
    Mode { name, options, one, rendezvous: false, drops: false, scope: Scope::All, release }
}

pub(crate) const MODES: &[Mode] = &[
    mode("many", "capacity=4,participants=8,memory_max=256K", false, false),
    mode("lease", "capacity=4,participants=8,memory_max=256K,ack=release", false, true),
    mode("one", "capacity=4,participants=8,memory_max=256K,peers=one", true, false),
    Mode {
        scope: Scope::Messages("as on `many`: the spare slot changes nothing of it"),
        ..mode("spare", "capacity=3,participants=8,memory_max=256K", false, false)
    },
    Mode {
        scope: Scope::Messages("as on `one`: the fence is one of waking"),
        ..mode("fenced", "capacity=4,participants=8,memory_max=256K,peers=one,fence=everyone", true, false)
    },
    Mode {
        scope: Scope::Messages("as on `one`: the slot's size changes nothing of it"),
        ..mode("wide", "capacity=4,participants=8,memory_max=256K,peers=one,slot_bytes=4096", true, false)
    },
    Mode {
        scope: Scope::Messages("as on `one` and `lease`"),
        ..mode("one-lease", "capacity=4,participants=8,memory_max=256K,peers=one,ack=release", true, true)
    },
    Mode {
        rendezvous: true,
        scope: Scope::Messages("as on `many`: that nothing waits changes nothing of it"),
        ..mode("rendezvous", "capacity=0,participants=8,memory_max=256K", false, false)
    },
    Mode {
        rendezvous: true,
        scope: Scope::Messages("as on `one`"),
        ..mode("rendezvous-one", "capacity=0,participants=8,memory_max=256K,peers=one", true, false)
    },
    Mode {
        drops: true,
        scope: Scope::Messages("as on `many`: that the oldest is dropped changes nothing of it"),
        ..mode("drop", "capacity=4,participants=8,memory_max=256K,full=drop", false, false)
    },
    Mode {
        drops: true,
        scope: Scope::Messages("as on `lease` and `drop`"),
        ..mode("drop-lease", "capacity=4,participants=8,memory_max=256K,full=drop,ack=release", false, true)
    },
    Mode {
        drops: true,
        scope: Scope::Messages("as on `one` and `drop`"),
        ..mode("drop-one", "capacity=4,participants=8,memory_max=256K,full=drop,peers=one", true, false)
    },
    Mode { scope: Scope::Names, ..mode("file", "capacity=4,participants=8,memory_max=256K", false, false) },
    Mode {
        scope: Scope::Only("trim"),
        ..mode("vast", "capacity=4,participants=8,memory_max=64M", false, false)
    },
];
