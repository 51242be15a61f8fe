//! The invariants of a segment, by name, with what may be there.

/// What holds of a segment's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
}

/// Declares facts, and the list of them.
macro_rules! facts {
    ($list:ident, $about:literal: $($name:ident = $word:literal, $rule:literal;)*) => {
        $(pub(crate) const $name: Fact = Fact { name: $word, rule: $rule };)*
        #[doc = $about]
        #[cfg_attr(not(test), expect(dead_code, reason = "the tests look for each"))]
        pub(crate) const $list: &[Fact] = &[$($name),*];
    };
}

facts! { ALWAYS, "What holds at any moment, whoever is at work, stopped or dead.":
    ATTACHED = "attached", "the attach word counts its creator at least";
    UNUSED = "unused", "words that this layout does not use are 0";
    PLACE = "place", "a place is FREE, LIVE or LEAVING, and whose it is has a process id";
    ENDPOINT = "endpoint", "an endpoint is free and nobody's, or a sender's or receiver's; one to one the first is \
        the sender's, the second the receiver's";
    OWNED = "owned", "whoever is named has a place: what he had is repaired before the place is free again";
    COUNTED = "counted", "no more senders died than came and went";
    BED = "bed", "its sleeper is awake (0), asleep (1) or called (2)";
    SLOT = "slot", "a slot is EMPTY and nobody's, or CLAIMED, FULL or VOID and a participant's; or FULL and of \
        one who died";
    STAMP = "stamp", "a slot's stamp is a position that lies in this slot, and 1";
    CONTIGUOUS = "contiguous", "positions are used one after the other: of two slots' next positions, none is a \
        lap ahead of the other";
    TAIL = "tail", "no position below TAIL is unused, and it is less than 2^39 laps from HEAD";
    HEAD = "head", "no message lies below HEAD, and no position below it is unused";
    SHARED_HEAD = "shared head", "it is not ahead of HEAD, and behind by less than a quarter and a batch";
    BOUNDED = "bounded", "from the first message to the last there are no more positions than the capacity";
    MESSAGE = "message", "a message fits its slot, or names a chunk (with ack=release always)";
    REFERENCE = "reference", "a message names a chunk that exists and that was queued for it";
    ONCE = "once", "no two messages name one chunk";
    EXTENT = "extent", "extents are READY, then one may be GROWING or FREE, then none was ever used; each is of a \
        known class and lies inside the segment";
    CHUNK = "chunk", "a chunk is FREE or RETURNED and nobody's, or LOANED, QUEUED or HELD and a participant's; \
        its memory is there while it has a message; only ack=release returns it";
    DESCRIPTOR = "descriptor", "a chunk lies where its extent says, and its message fits it";
    LEAKED = "leaked", "a chunk that is QUEUED is named by a message, or its sender is there to name it";
    BACKED = "backed", "the memory of slots, tables and chunks' descriptors is there";
}

facts! { AT_REST, "What holds besides when nobody sends, receives, opens or closes.":
    QUIET = "quiet", "at rest nobody claims, leaves or attaches";
    NAMED = "named", "at rest a chunk that is QUEUED is named by a message";
    ANNOUNCED = "announced", "at rest the hint says that chunks are RETURNED";
    EPOCH = "epoch", "a sender that is open was counted when it came";
    ACCOUNTED = "accounted", "at rest the file's memory is what was reserved at birth, what READY extents need, and \
        nothing else";
}

facts! { PENDING, "What deaths leave, and what is done about it.":
    DEAD = "dead", "whoever opens it or waits in it next repairs what he had, and frees the place";
    ABANDONED = "abandoned", "goes back when its owner's place is repaired";
    RETIRED = "retired", "whoever opens or removes the name next takes it away";
    TAKEN = "taken", "its message was taken: the next receiver empties it";
    GROWING = "growing", "whoever needs a chunk next finishes it";
    SPARE = "spare", "reserved and not needed: the next growth or the next loan uses it";
}
