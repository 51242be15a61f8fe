//! Each invariant of a segment, broken, found and named; and segments in which nothing is to be found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{ShmReceiver, ShmSender, attach};
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::message::Bytes;
use crate::shared::attachment::Attachment;
use crate::shared::audit::{Finding, Moment, Report, audit, facts};
use crate::shared::layout::{self, Layout};
use crate::shared::participants::Participants;
use crate::shared::slot::{About, Slot, State};
use crate::shared::wait::WaitMode;

/// A place that nobody has, as words name it.
const NOBODY: u16 = 5;
/// The place of one who died.
const DEAD: u16 = 6;

struct Stage {
    attachment: Arc<Attachment>,
    sender: ShmSender,
    receiver: ShmReceiver,
}

impl Stage {
    fn new(options: &str) -> Self {
        let address = format!("memfd:check,participants=8,{options}").parse().unwrap();
        let (attachment, mode) = attach(&address, Deadline::Never).unwrap();
        let sender = ShmSender::new(attachment.clone(), mode).unwrap();
        let receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
        Self { attachment, sender, receiver }
    }

    fn layout(&self) -> &Layout {
        &self.attachment.shared.layout
    }

    fn send(&mut self, size: usize) {
        self.sender.send(&vec![7; size], Deadline::Now).unwrap();
    }

    fn recv(&mut self) {
        self.receiver.recv(&mut Bytes::default(), Deadline::Now).unwrap().unwrap();
    }

    fn audit(&self, moment: Moment) -> Report {
        audit(&self.attachment.shared, &self.attachment.segment, moment)
    }

    fn word(&self, at: u64) -> u64 {
        self.attachment.shared.memory.word(at).load(Relaxed)
    }

    fn poke(&self, at: u64, word: u64) {
        self.attachment.shared.memory.word(at).store(word, Relaxed);
    }

    fn slot(&self, slot: u64) -> u64 {
        self.layout().slots + slot * self.layout().config.slot_bytes
    }

    fn chunk(&self, id: u64) -> u64 {
        self.layout().chunks + id * layout::CHUNK_BYTES
    }

    /// One who took part and died: a place whose lock is free.
    fn bury(&self) {
        let at = self.layout().participants + u64::from(DEAD - 1) * layout::PLACE_BYTES;
        self.poke(at + 8, 4711);
        self.poke(at, 1);
    }
}

/// What is done to a segment in which one small message, then one in chunk 0 waits.
type Damage = fn(&mut Stage);

fn full(lap: u64, owner: u16) -> u64 {
    Slot::new(State::Full, lap, owner).0
}

/// The invariant, where it is broken, the channel's options, how.
const DAMAGES: &[(&facts::Fact, &str, &str, Damage)] = &[
    (&facts::ATTACHED, "attach word", "", |stage| stage.poke(layout::ATTACH, 0)),
    (&facts::UNUSED, "word at 288", "", |stage| stage.poke(288, 1)),
    (&facts::UNUSED, "word at 640", "", |stage| stage.poke(layout::SHARED_HEAD, 1)),
    (&facts::UNUSED, "word at 1152", "", |stage| stage.poke(layout::RETURNED, 1)),
    (&facts::UNUSED, "word at 4136", "", |stage| stage.poke(4096 + 40, 1)),
    (&facts::PLACE, "participant 3", "", |stage| stage.poke(4096 + 2 * 64, 3)),
    (&facts::PLACE, "participant 3", "", |stage| stage.poke(4096 + 2 * 64, 1 << 20)),
    (&facts::PLACE, "participant 1", "", |stage| stage.poke(4096 + 8, 0)),
    (&facts::ENDPOINT, "endpoint 2", "", |stage| stage.poke(stage.layout().endpoints + 16, 3)),
    (&facts::ENDPOINT, "endpoint 2", "", |stage| stage.poke(stage.layout().endpoints + 16, 1 | 9 << 16)),
    (&facts::ENDPOINT, "endpoint 2", "", |stage| stage.poke(stage.layout().endpoints + 16, 1 << 16)),
    (&facts::ENDPOINT, "endpoint 0", "capacity=16,peers=one", |stage| {
        let at = stage.layout().endpoints;
        stage.poke(at, stage.word(at + 8));
    }),
    (&facts::OWNED, "endpoint 2", "", |stage| {
        stage.poke(stage.layout().endpoints + 16, 1 | u64::from(NOBODY) << 16);
    }),
    (&facts::OWNED, "slot 2", "", |stage| {
        stage.poke(stage.slot(2), Slot::new(State::Claimed, 0, NOBODY).0);
    }),
    (&facts::OWNED, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 1 | u64::from(NOBODY) << 16)),
    (&facts::COUNTED, "deaths", "", |stage| stage.poke(layout::DEATHS, 2)),
    (&facts::BED, "sender's bed", "capacity=16,peers=one", |stage| stage.poke(layout::SENDER_SLEEPS, 3)),
    (&facts::SLOT, "slot 3", "", |stage| stage.poke(stage.slot(3), 4)),
    (&facts::SLOT, "slot 3", "", |stage| stage.poke(stage.slot(3), Slot::new(State::Empty, 0, 1).0)),
    (&facts::SLOT, "slot 0", "", |stage| stage.poke(stage.slot(0), full(0, 9))),
    (&facts::STAMP, "slot 3", "capacity=16,peers=one", |stage| stage.poke(stage.slot(3), 3)),
    (&facts::CONTIGUOUS, "slot 3", "", |stage| stage.poke(stage.slot(3), full(0, 1))),
    (&facts::CONTIGUOUS, "slot 0", "", |stage| stage.poke(stage.slot(0), 0)),
    (&facts::CONTIGUOUS, "slot 5", "", |stage| stage.poke(stage.slot(5), Slot::new(State::Empty, 9, 0).0)),
    (&facts::CONTIGUOUS, "slot 5", "capacity=16,peers=one", |stage| stage.poke(stage.slot(5), 6)),
    (&facts::TAIL, "TAIL", "", |stage| stage.poke(layout::TAIL, 3)),
    (&facts::TAIL, "TAIL", "", |stage| stage.poke(layout::TAIL, 1 << 60)),
    (&facts::TAIL, "TAIL", "capacity=16,peers=one", |stage| stage.poke(layout::TAIL, 3)),
    (&facts::HEAD, "HEAD", "", |stage| stage.poke(layout::HEAD, 1)),
    (&facts::HEAD, "HEAD", "capacity=16,peers=one", |stage| stage.poke(layout::HEAD, 3)),
    (&facts::SHARED_HEAD, "shared head", "capacity=16,peers=one", |stage| stage.poke(layout::SHARED_HEAD, 1)),
    (&facts::BOUNDED, "slot 4", "capacity=4", |stage| {
        [2, 3, 4].into_iter().for_each(|slot| {
            stage.poke(stage.slot(slot), full(0, 1));
            stage.poke(stage.slot(slot) + 8, 1);
        });
    }),
    (&facts::MESSAGE, "slot 0", "", |stage| stage.poke(stage.slot(0) + 8, 49)),
    (&facts::MESSAGE, "slot 0", "", |stage| stage.poke(stage.slot(0) + 8, 8 | 1 << 40)),
    (&facts::MESSAGE, "slot 0", "capacity=16,ack=release", |stage| stage.poke(stage.slot(0) + 8, 8)),
    (&facts::MESSAGE, "slot 1", "capacity=16,peers=one", |stage| {
        stage.poke(stage.slot(1) + 8, About::chunk().0 | 1)
    }),
    (&facts::REFERENCE, "slot 1", "", |stage| stage.poke(stage.slot(1) + 16, 1 << 32 | 9999)),
    (&facts::REFERENCE, "slot 1", "", |stage| stage.poke(stage.slot(1) + 16, 7 << 32)),
    (&facts::REFERENCE, "slot 1", "", |stage| {
        stage.poke(stage.chunk(0), stage.word(stage.chunk(0)) & !0xff | 1);
    }),
    (&facts::ONCE, "slot 1", "", |stage| {
        stage.poke(stage.slot(0) + 8, About::chunk().0);
        stage.poke(stage.slot(0) + 16, stage.word(stage.slot(1) + 16));
    }),
    (&facts::EXTENT, "extent 1", "", |stage| stage.poke(stage.layout().extents + 8, 2 | 255 << 8)),
    (&facts::EXTENT, "extent 1", "", |stage| stage.poke(stage.layout().extents + 8, 3)),
    (&facts::EXTENT, "extent 7", "", |stage| stage.poke(stage.layout().extents + 56, 1 << 32)),
    (&facts::CHUNK, "chunk 0", "", |stage| stage.poke(stage.chunk(0), 5)),
    (&facts::CHUNK, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 1 << 10)),
    (&facts::CHUNK, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 1 << 16)),
    (&facts::CHUNK, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 4 | 1 << 9)),
    (&facts::CHUNK, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 3)),
    (&facts::CHUNK, "chunk 0", "", |stage| {
        stage.poke(stage.chunk(0), stage.word(stage.chunk(0)) | 1 << 8);
    }),
    (&facts::DESCRIPTOR, "chunk 0", "", |stage| stage.poke(stage.chunk(0) + 8, stage.layout().data + 1)),
    (&facts::DESCRIPTOR, "chunk 0", "", |stage| stage.poke(stage.chunk(0) + 16, 1 << 40)),
    (&facts::LEAKED, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 2 | u64::from(NOBODY) << 16)),
    (&facts::BACKED, "the file", "", |stage| {
        let (chunks, data) = (stage.layout().chunks, stage.layout().data);
        stage.attachment.segment.punch(chunks, 4096);
        stage.attachment.segment.punch(data, 64 << 10);
    }),
    (&facts::QUIET, "slot 2", "", |stage| stage.poke(stage.slot(2), Slot::new(State::Claimed, 0, 1).0)),
    (&facts::QUIET, "participant 1", "", |stage| stage.poke(4096, 2)),
    (&facts::QUIET, "participant 1", "", |stage| stage.poke(4096, 1 << 32)),
    (&facts::NAMED, "chunk 1", "", |stage| stage.poke(stage.chunk(1), 2 | 1 << 16)),
    (&facts::ANNOUNCED, "the hint", "capacity=16,ack=release", |stage| {
        stage.poke(stage.chunk(2), 4 | 1 << 9)
    }),
    (&facts::EPOCH, "endpoint 0", "", |stage| stage.poke(layout::SENDERS_EPOCH, 0)),
    (&facts::ACCOUNTED, "the file", "", |stage| {
        stage.attachment.segment.reserve(stage.layout().data + (9 << 20), 4096).unwrap();
    }),
    (&facts::ACCOUNTED, "the file", "", |stage| {
        stage.attachment.segment.punch(stage.layout().data, 4096);
    }),
];

fn places(findings: &[Finding], fact: &facts::Fact) -> Vec<String> {
    findings.iter().filter(|found| found.fact == fact.name).map(|found| found.place.clone()).collect()
}

#[test]
fn every_damage_is_found_and_named() {
    let mut found = BTreeSet::new();
    for (index, (fact, place, options, damage)) in DAMAGES.iter().enumerate() {
        let mut stage = Stage::new(if options.is_empty() { "capacity=16" } else { options });
        stage.send(8);
        stage.send(1000);
        let before = stage.audit(Moment::Rest);
        assert_eq!(
            (before.faults, before.pending),
            (vec![], vec![]),
            "before damage {index} to {}",
            fact.name
        );
        damage(&mut stage);
        let report = stage.audit(Moment::Rest);
        let named = places(&report.faults, fact);
        assert_eq!(named, [*place], "damage {index} to {}: {report:#?}", fact.name);
        let always = !places(&stage.audit(Moment::Any).faults, fact).is_empty();
        assert_eq!(always, facts::ALWAYS.contains(fact), "damage {index} to {}", fact.name);
        found.insert(fact.name);
    }
    let all = facts::ALWAYS.iter().chain(facts::AT_REST).map(|fact| fact.name);
    assert_eq!(found, all.collect(), "each invariant is broken once");
}

/// What a death left, where it is found, how.
const LEFTOVERS: &[(&facts::Fact, &str, Damage)] = &[
    (&facts::DEAD, "participant 6", |_| {}),
    (&facts::ABANDONED, "slot 2", |stage| {
        stage.poke(stage.slot(2), Slot::new(State::Claimed, 0, DEAD).0);
    }),
    (&facts::ABANDONED, "slot 2", |stage| stage.poke(stage.slot(2), Slot::new(State::Void, 0, DEAD).0)),
    (&facts::ABANDONED, "chunk 1", |stage| stage.poke(stage.chunk(1), 1 | u64::from(DEAD) << 16)),
    (&facts::ABANDONED, "chunk 1", |stage| {
        stage.poke(stage.chunk(1), 2 | u64::from(DEAD) << 16);
        stage.poke(stage.chunk(1) + 8, stage.word(stage.chunk(0) + 8) + 1024);
    }),
    (&facts::ABANDONED, "endpoint 2", |stage| {
        stage.poke(stage.layout().endpoints + 16, 2 | u64::from(DEAD) << 16);
    }),
    (&facts::TAKEN, "slot 1", |stage| {
        stage.poke(stage.chunk(0), stage.word(stage.chunk(0)) & !0xffff_00ff | 3 | u64::from(DEAD) << 16);
    }),
    (&facts::GROWING, "extent 1", |stage| {
        stage.poke(stage.layout().extents + 8, stage.word(stage.layout().extents) & !0xff | 1);
    }),
    (&facts::SPARE, "the file", |stage| {
        let id = 1;
        stage.poke(stage.layout().extents + 8, 1 << 32);
        stage.attachment.segment.reserve(stage.chunk(id).next_multiple_of(4096), 4096).unwrap();
    }),
];

#[test]
fn what_deaths_leave_is_no_fault() {
    let mut found = BTreeSet::from([facts::RETIRED.name]);
    for (index, (fact, place, leave)) in LEFTOVERS.iter().enumerate() {
        let mut stage = Stage::new("capacity=16");
        stage.send(8);
        stage.send(1000);
        stage.bury();
        leave(&mut stage);
        let report = stage.audit(Moment::Rest);
        assert_eq!(report.faults, [], "leftover {index}");
        assert!(
            places(&report.pending, fact).contains(&(*place).to_owned()),
            "leftover {index}: {report:#?}"
        );
        assert!(report.holdings.iter().any(|holding| holding.participant == DEAD && !holding.alive));
        found.insert(fact.name);
        stage.attachment.reap();
        let after = stage.audit(Moment::Rest);
        assert_eq!(after.faults, [], "after repair of leftover {index}");
        assert!(
            places(&after.pending, &facts::DEAD).is_empty()
                && places(&after.pending, &facts::ABANDONED).is_empty()
        );
    }
    assert_eq!(found, facts::PENDING.iter().map(|fact| fact.name).collect());
}

#[test]
fn a_retired_segment_says_so() {
    let name = format!("shm:narrows-check-{}", std::process::id());
    let (attachment, _) = attach(&name.parse().unwrap(), Deadline::Never).unwrap();
    let participants: &Participants = &attachment.shared.participants;
    assert!(participants.retire(participants.attachments().unwrap()));
    let report = audit(&attachment.shared, &attachment.segment, Moment::Any);
    assert_eq!(
        (report.faults, places(&report.pending, &facts::RETIRED)),
        (vec![], vec!["the name".to_owned()])
    );
    drop(attachment);
    super::remove(&name.parse().unwrap()).unwrap();
}

/// Nothing is found, whoever asks.
#[track_caller]
fn sound(stage: &Stage, what: &str) {
    for moment in [Moment::Any, Moment::Rest] {
        let Report { faults, pending, .. } = stage.audit(moment);
        assert_eq!((faults, pending), (vec![], vec![]), "{what}, {moment:?}");
    }
}

#[test]
fn sound_segments_are_found_sound() {
    for options in [
        "capacity=1",
        "capacity=4",
        "capacity=64",
        "peers=one,capacity=4",
        "ack=release,capacity=8",
        "peers=one,capacity=16,slot_bytes=1000",
        "peers=one,capacity=5,ack=release",
    ] {
        let mut stage = Stage::new(options);
        let capacity = stage.layout().config.capacity;
        sound(&stage, "empty");
        for round in 0..5 * capacity {
            stage.send([8, 48, 49, 3000, 100_000][round as usize % 5]);
            sound(&stage, "one waits");
            stage.recv();
            sound(&stage, "wrapping");
        }
        for size in [1, 300, 70_000, 5, 9].into_iter().cycle().take(capacity as usize) {
            stage.send(size);
        }
        sound(&stage, "full");
        assert!(stage.sender.send(&[1; 200], Deadline::Now).is_err());
        sound(&stage, "refused");
        (0..capacity / 2).for_each(|_| stage.recv());
        sound(&stage, "half empty");
        (0..capacity - capacity / 2).for_each(|_| stage.recv());
        let loan = stage.sender.loan(5000, Deadline::Now).unwrap();
        stage.send(9000);
        let held = stage.receiver.recv_in_place(Deadline::Now, None).unwrap();
        sound(&stage, "loaned and held");
        let report = stage.audit(Moment::Rest);
        let chunks = 1 + u64::from(held.is_some());
        let [holding] = &report.holdings[..] else { panic!("one takes part: {report:?}") };
        assert_eq!((holding.chunks, holding.endpoints, holding.claims), (chunks, 2, 0), "{options}");
        drop((loan, held));
        sound(&stage, "released");
        let more = stage.receiver.try_clone();
        sound(&stage, "with one more, where that may be");
        drop(more);
        sound(&stage, "without");
    }
}

#[test]
fn segments_that_drop_or_take_back_are_found_sound() {
    for options in
        ["capacity=4,full=drop", "peers=one,capacity=4,full=drop", "ack=release,capacity=4,full=drop"]
    {
        let mut stage = Stage::new(options);
        for size in [8, 48, 49, 3000, 100_000].into_iter().cycle().take(40) {
            stage.send(size);
            sound(&stage, "one waits, others may have been dropped");
        }
        assert_eq!(stage.sender.discarded(), 36, "{options}");
        (0..4).for_each(|_| stage.recv());
        sound(&stage, "empty");
    }
    for options in ["capacity=0", "peers=one,capacity=0", "ack=release,capacity=0"] {
        let mut stage = Stage::new(options);
        for size in [8, 3000] {
            let nobody = stage.sender.send(&vec![7; size], Duration::from_millis(1).into());
            assert!(nobody.is_err(), "{options}");
            sound(&stage, "taken back");
        }
    }
}

#[test]
fn a_pool_that_grows_meanwhile_is_sound() {
    for _ in 0..12 {
        let stage = Stage::new("capacity=1");
        let mut grower = ShmSender::new(stage.attachment.clone(), WaitMode::Adaptive).unwrap();
        std::thread::scope(|scope| {
            let growth = scope.spawn(|| {
                // One size of each class, so that each needs an extent.
                for size in (8..18).flat_map(|octave| (4..8).map(move |quarter| quarter << octave >> 2)) {
                    drop(grower.loan(size, Deadline::Never).unwrap());
                }
            });
            while !growth.is_finished() {
                assert_eq!(stage.audit(Moment::Any).faults, []);
            }
        });
    }
}
