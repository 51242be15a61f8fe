//! Bugs that are planted by hand: the classical ones of such structures. Each must be found by the test named.
//!
//! The code is compared as tokens, so neither line breaks nor comments matter; a bug whose place is no more is an
//! error, and is planted anew.

/// A bug, and who finds it.
pub(crate) struct Planted {
    pub(crate) name: &'static str,
    pub(crate) changes: &'static [Change],
    pub(crate) gate: &'static str,
    pub(crate) test: &'static str,
}

/// One place of the source: a whole expression, or whole statements.
pub(crate) struct Change {
    pub(crate) file: &'static str,
    /// The function.
    pub(crate) within: &'static str,
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
}

const RING: &str = "src/shared/ring.rs";
const PAIR: &str = "src/shared/pair.rs";
const CHUNKS: &str = "src/shared/chunks.rs";
const EXTENTS: &str = "src/shared/extents.rs";
const PARTICIPANTS: &str = "src/shared/participants.rs";
const ATTACHMENT: &str = "src/shared/attachment.rs";
const REPAIR: &str = "src/shared/repair.rs";
const SENDER: &str = "src/channel/shm/sender.rs";
const DISCARDING: &str = "src/channel/shm/discarding.rs";
const RECEIVER: &str = "src/channel/shm/receiver.rs";

/// All of them.
pub(crate) const PLANTED: &[Planted] = &[
    Planted {
        name: "a claim without an owner",
        changes: &[Change {
            file: RING,
            within: "claim",
            old: "Slot::new(State::Claimed, self.lap(position), me)",
            new: "Slot::new(State::Claimed, self.lap(position), me.min(0))",
        }],
        gate: "loom",
        test: "ring_crash::loom_ring_survives_a_sender",
    },
    Planted {
        name: "sleepers are woken behind the commit only",
        changes: &[
            Change {
                file: RING,
                within: "claim",
                old: "self.wake(found); self.claimed_up_to(cursor, position);",
                new: "self.claimed_up_to(cursor, position);",
            },
            Change {
                file: RING,
                within: "commit",
                old: "if word.compare_exchange(claim.word.0, full.0, Release, Relaxed).is_ok() { return Ok(true); }",
                new: "if word.compare_exchange(claim.word.0, full.0, Release, Relaxed).is_ok() {
                          self.wake(claim);
                          return Ok(true);
                      }",
            },
        ],
        gate: "loom",
        test: "ring_crash::loom_ring_wakes_in_place_of_the_dead",
    },
    Planted {
        name: "the sleepers' bit is dropped at the claim",
        changes: &[Change {
            file: RING,
            within: "claim",
            old: "Slot::new(State::Claimed, self.lap(position), me).waiting_as(word)",
            new: "Slot::new(State::Claimed, self.lap(position), me)",
        }],
        gate: "loom",
        test: "ring_crash::loom_ring_wakes_in_place_of_the_dead",
    },
    Planted {
        name: "a claim is revoked without a comparison",
        changes: &[Change {
            file: RING,
            within: "revoke",
            old: "self.replace(found, void)",
            new: "{ self.memory.word(self.slot(found.position)).store(void.0, Release); true }",
        }],
        gate: "loom",
        test: "ring::loom_ring_revokes_the_living",
    },
    Planted {
        name: "a stale hint is walked backwards",
        changes: &[Change {
            file: RING,
            within: "jump",
            old: "if hinted.wrapping_sub(proven) as i64 > 0 { hinted } else { proven }",
            new: "hinted.min(proven.wrapping_sub(1))",
        }],
        gate: "loom",
        test: "ring::loom_ring_of_two_senders",
    },
    Planted {
        name: "the head is stored before the take",
        changes: &[Change {
            file: RING,
            within: "take",
            old: "if !self.empty(found) { return false; }",
            new: "self.taken_up_to(cursor, found.position);
                  if !self.empty(found) { return false; }",
        }],
        gate: "loom",
        test: "ring_crash::loom_ring_survives_a_receiver",
    },
    Planted {
        name: "the reaper passes over revoked claims",
        changes: &[Change { file: RING, within: "reap", old: "self.empty(found)", new: "true" }],
        gate: "loom",
        test: "ring_crash::loom_ring_survives_a_sender",
    },
    Planted {
        name: "more messages than the capacity",
        changes: &[Change { file: RING, within: "refusal", old: "self.capacity == self.count", new: "true" }],
        gate: "conformance",
        test: "shm::full at its capacity",
    },
    Planted {
        name: "a message is taken back without a comparison",
        changes: &[Change {
            file: RING,
            within: "retract",
            old: "self.empty(found)",
            new: "{
                      let emptied = Slot::new(State::Empty, found.word.lap() + 1, 0);
                      self.memory.word(self.slot(position)).store(emptied.0, Release);
                      true
                  }",
        }],
        gate: "loom",
        test: "delivered::loom_delivered_is_taken_or_taken_back",
    },
    Planted {
        name: "a message that is taken back takes the head along",
        changes: &[Change {
            file: RING,
            within: "retract",
            old: "return Ok(true)",
            new: "{
                      self.memory.word(layout::HEAD).store(position.wrapping_add(1), Release);
                      return Ok(true)
                  }",
        }],
        gate: "loom",
        test: "delivered::loom_delivered_taken_back_before_a_latecomer",
    },
    Planted {
        name: "a message is taken back and keeps its name",
        changes: &[Change {
            file: CHUNKS,
            within: "recall",
            old: "Word(chunk.word.next(State::Loaned, chunk.word.holder()).0.wrapping_add(1 << 32))",
            new: "chunk.word.next(State::Loaned, chunk.word.holder())",
        }],
        gate: "loom",
        test: "chunks::loom_chunks_are_taken_or_taken_back",
    },
    Planted {
        name: "a rendezvous without waiting",
        changes: &[Change {
            file: SENDER,
            within: "send_otherwise",
            old: "self.is_rendezvous",
            new: "false",
        }],
        gate: "conformance",
        test: "shm::rendezvous, nobody comes",
    },
    Planted {
        name: "a message of the dead keeps its owner",
        changes: &[Change { file: RING, within: "reap", old: "self.replace(found, left)", new: "true" }],
        gate: "conformance",
        test: "shm::a dead sender's message is dropped",
    },
    Planted {
        name: "what its sender watches is dropped as any other",
        changes: &[Change {
            file: DISCARDING,
            within: "discard_front",
            old: "about.is_watched() && found.word.owner() != 0",
            new: "false",
        }],
        gate: "conformance",
        test: "shm::a delivered message is dropped",
    },
    Planted {
        name: "the sleeper's flag is set behind its last look",
        changes: &[
            Change { file: PAIR, within: "sleep", old: "flag.store(SLEEPS, Relaxed);", new: "" },
            Change {
                file: PAIR,
                within: "sleep",
                old: "if still() { self.memory.sleep(bed.offset(), SLEEPS, until); }",
                new: "if still() {
                          flag.store(SLEEPS, Relaxed);
                          self.memory.sleep(bed.offset(), SLEEPS, until);
                      }",
            },
        ],
        gate: "loom",
        test: "pair::loom_pair_keeps_order_and_wakes",
    },
    Planted {
        name: "a chunk is loaned without an owner",
        changes: &[Change {
            file: CHUNKS,
            within: "loan",
            old: "old.next(State::Loaned, me)",
            new: "old.next(State::Loaned, me.min(0))",
        }],
        gate: "loom",
        test: "chunks::loom_chunks_survive_their_holders",
    },
    Planted {
        name: "what a dead receiver held does not come again",
        changes: &[Change {
            file: CHUNKS,
            within: "reap",
            old: "word.is(State::Held) && lease",
            new: "false",
        }],
        gate: "loom",
        test: "chunks::loom_chunks_return_from_the_dead",
    },
    Planted {
        name: "an extent is published before it is reserved",
        changes: &[Change { file: EXTENTS, within: "grow", old: "GROWING", new: "READY" }],
        gate: "loom",
        test: "extents::loom_extents_when_memory_runs_out",
    },
    Planted {
        name: "a sender is closed and not counted",
        changes: &[Change {
            file: PARTICIPANTS,
            within: "close",
            old: "self.count_change(Role::Sender);",
            new: "",
        }],
        gate: "loom",
        test: "participants::loom_participants_survive",
    },
    Planted {
        name: "a segment is retired whoever came meanwhile",
        changes: &[Change {
            file: PARTICIPANTS,
            within: "retire",
            old: "self.memory.word(layout::ATTACH).compare_exchange(seen, seen | RETIRED, Relaxed, Relaxed).is_ok()",
            new: "self.memory.word(layout::ATTACH).swap(seen | RETIRED, Relaxed) & RETIRED == 0",
        }],
        gate: "loom",
        test: "participants::loom_participants_come_or_find_it_retired",
    },
    Planted {
        name: "a place is freed before it is repaired",
        changes: &[Change {
            file: REPAIR,
            within: "repair",
            old: "if !self.layout.config.is_pair() && !self.ring.reap(dead.owner(), still_dead) { return; }",
            new: "self.participants.free(dead);
                  if !self.layout.config.is_pair() && !self.ring.reap(dead.owner(), still_dead) { return; }",
        }],
        gate: "prove",
        test: "kill --sample --seed=1 --only lease/holder_dead/recv_in_place",
    },
    Planted {
        name: "a message is published before it is written",
        changes: &[Change {
            file: SENDER,
            within: "post",
            old: "payload.write(&self.memory, ring.slot(claim.position), self.payload);",
            new: "if let Ok(true) = ring.commit(claim) {
                      payload.write(&self.memory, ring.slot(claim.position), self.payload);
                      return Ok(claim.position);
                  }",
        }],
        gate: "prove",
        test: "kill --sample --seed=1 --only many/fresh/send",
    },
    Planted {
        name: "a message is taken before it is copied",
        changes: &[Change {
            file: RECEIVER,
            within: "recv_small",
            old: "self.memory.read(slot + self.payload, room);
                  if self.pass(found) { Small::Received } else { Small::Nothing }",
            new: "if !self.pass(found) { return Small::Nothing; }
                  self.memory.read(slot + self.payload, room);
                  Small::Received",
        }],
        gate: "crash",
        test: "stress::many_to_many",
    },
    Planted {
        name: "the last to leave keeps the name",
        changes: &[Change {
            file: ATTACHMENT,
            within: "retire",
            old: "self.segment.unlink(REMOVAL.into()).ok();",
            new: "",
        }],
        gate: "conformance",
        test: "shm::lifetime drained",
    },
    Planted {
        name: "who cannot be seen is dead",
        changes: &[Change {
            file: ATTACHMENT,
            within: "is_free",
            old: "self.holder(place) == Holder::Free",
            new: "true",
        }],
        gate: "crash",
        test: "faults::a_stopped_peer_is_not_dead",
    },
    Planted {
        name: "a message is as long as it says",
        changes: &[Change {
            file: EXTENTS,
            within: "holds",
            old: "chunk.len <= class_bytes(extent.class)",
            new: "true",
        }],
        gate: "unit",
        test: "shm::tests::a_message_that_cannot_be_is_an_error_once_and_the_next_one_comes",
    },
    Planted {
        name: "a small message is as long as it says",
        changes: &[Change {
            file: RECEIVER,
            within: "look",
            old: "about.len() as u64 <= self.inline_max",
            new: "about.len() < 1 << 40",
        }],
        gate: "unit",
        test: "shm::tests::a_message_that_cannot_be_is_an_error_once_and_the_next_one_comes",
    },
];
