//! Whose a chunk is.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::{Relaxed, Release};
use crate::shared::Contradiction;
use crate::shared::chunks::{Chunk, Chunks, State};
use crate::shared::extents::{Extents, class_of};
use crate::shared::layout::{self, Layout, Peers};
use crate::shared::memory::Memory;

use super::{all, check, check_each_death, layout as small, notices};

/// READY, and one chunk.
const EXTENT: u64 = 2;
/// The dead one's place names it.
const PLACE: u64 = 4096;

#[derive(Clone)]
struct Segment {
    memory: Memory,
    layout: Layout,
    chunks: Chunks,
}

/// A segment with one chunk that fills the pool.
fn segment() -> Segment {
    let layout = small(Peers::Many, 2, 2);
    let class = class_of(layout.config.memory_max);
    let words = [
        (layout::POOL_SLEEPERS, 0),
        (layout::RETURNED, 0),
        (PLACE, 1),
        (layout.extents, EXTENT | u64::from(class) << 8),
        (layout.extents + 8, 0),
        (layout.chunks, 0),
        (layout.chunks + 8, 0),
        (layout.chunks + 16, 0),
        (layout.data, 0),
    ];
    let memory = Memory::of_words(layout.length, words);
    Segment { chunks: Chunks::new(memory, &layout), memory, layout }
}

impl Segment {
    fn loan(&self, me: u16) -> Option<Chunk> {
        let (offset, len) = (self.layout.data, self.layout.config.memory_max);
        self.chunks.loan(0, me).map(|word| Chunk { id: 0, word, offset, len })
    }

    /// A message in the chunk; gives what a slot says of it.
    fn send(&self, me: u16, value: u64) -> u64 {
        let mut chunk = self.loan(me).unwrap();
        self.memory.word(chunk.offset).store(value, Relaxed);
        self.chunks.queue(&mut chunk).unwrap();
        chunk.reference()
    }

    fn extents(&self) -> Extents {
        Extents::new(self.memory, &self.layout)
    }

    fn hold(&self, reference: u64, me: u16) -> Result<Option<Chunk>, Contradiction> {
        self.chunks.hold(reference, me, &mut self.extents())
    }

    fn is(&self, state: State) -> bool {
        self.chunks.load(0).is(state)
    }
}

/// Two receivers and one message: one has it, whole.
fn two_receivers() {
    let segment = segment();
    let sender = segment.clone();
    let threads = [1, 2].map(|me| {
        let segment = segment.clone();
        spawn(move || {
            // Its reference is known before it is there: the versions count from 1.
            let held = segment.hold(1 << 32, me).unwrap()?;
            assert_eq!((held.offset, held.len), (segment.layout.data, segment.layout.config.memory_max));
            Some(segment.memory.word(held.offset).load(Relaxed))
        })
    });
    let reference = spawn(move || sender.send(3, 7)).join().unwrap();
    let taken: Vec<u64> = all(threads).into_iter().flatten().collect();
    let left = segment.hold(reference, 4).unwrap();
    assert!(taken == [7] && left.is_none() || taken.is_empty() && left.is_some());
}

#[test]
fn loom_chunks_are_held_once() {
    check(20, two_receivers);
}

#[test]
fn loom_chunks_need_their_orderings() {
    notices(Fault::Relaxed, two_receivers);
}

#[test]
fn loom_chunks_need_their_comparison() {
    notices(Fault::BlindSwap, two_receivers);
}

/// Two repair one that died with a loan; a successor in its place loans the same chunk, and is not robbed.
fn stale_repairer() {
    let segment = segment();
    segment.loan(1).unwrap();
    let repairers = [(); 2].map(|()| {
        let segment = segment.clone();
        spawn(move || {
            let place = segment.memory.word(PLACE);
            let still_dead = || place.load(Relaxed) == 1;
            segment.chunks.reap(0, 1, false, &|_| false, &still_dead);
            place.compare_exchange(1, 2, Relaxed, Relaxed).ok();
        })
    });
    let ours = segment.clone();
    let successor = spawn(move || {
        let Some(chunk) = ours.loan(1) else { return };
        ours.memory.word(chunk.offset).store(1, Relaxed);
        assert_eq!(ours.chunks.load(0), chunk.word, "robbed");
        ours.chunks.release(chunk);
    });
    all(repairers.into_iter().chain([successor]));
    assert!(segment.is(State::Free));
}

#[test]
fn loom_chunks_of_a_successor_are_its_own() {
    check(100, stale_repairer);
}

#[test]
fn loom_chunks_of_a_successor_need_the_comparison() {
    notices(Fault::BlindSwap, stale_repairer);
}

/// A message is taken back while it is taken: one of both. Sent again, it is found by its new name only.
fn taken_or_back() {
    let segment = segment();
    let mut chunk = segment.loan(1).unwrap();
    segment.chunks.queue(&mut chunk).unwrap();
    let (reference, ours, theirs) = (chunk.reference(), segment.clone(), segment.clone());
    let sender = spawn(move || {
        let queued = chunk.word;
        let is_back = ours.chunks.recall(&mut chunk);
        assert_eq!(is_back, chunk.word != queued);
        if is_back {
            ours.memory.word(chunk.offset).store(7, Relaxed);
            ours.chunks.queue(&mut chunk).unwrap();
        }
        (is_back, chunk)
    });
    let receiver = spawn(move || theirs.hold(reference, 2).unwrap());
    let ((is_back, chunk), held) = (sender.join().unwrap(), receiver.join().unwrap());
    assert_eq!(is_back, held.is_none(), "taken and taken back, or neither");
    assert_eq!(segment.hold(chunk.reference(), 3).unwrap().is_some(), is_back);
}

#[test]
fn loom_chunks_are_taken_or_taken_back() {
    check(5, taken_or_back);
}

#[test]
fn loom_chunks_taken_back_need_their_comparison() {
    notices(Fault::BlindSwap, taken_or_back);
}

/// Whoever loans, queues, holds and releases dies before any operation: once it is repaired, the chunk is of use
/// again, while the repair for another touches nothing.
#[test]
fn loom_chunks_survive_their_holders() {
    check_each_death(20, |mortal| {
        move || {
            let segment = segment();
            let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
            let victim = spawn(move || {
                mortal.run(|| {
                    let reference = ours.send(1, 7);
                    let chunk = ours.hold(reference, 1).unwrap().unwrap();
                    ours.chunks.release(chunk);
                });
                ours.chunks.reap(0, 1, false, &|_| false, &|| true);
            });
            let witness = spawn(move || theirs.chunks.reap(0, 2, false, &|_| false, &|| true));
            all([victim]);
            all([witness]);
            assert!(segment.is(State::Free), "a chunk is lost");
            segment.send(2, 8);
        }
    });
}

/// What a dead receiver held comes again, once, flagged; the repairer dies before any of its operations.
#[test]
fn loom_chunks_return_from_the_dead() {
    check_each_death(50, |mortal| {
        move || {
            let segment = segment();
            let reference = segment.send(1, 7);
            segment.hold(reference, 2).unwrap().unwrap();
            let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
            let repairers = spawn(move || {
                mortal.run(|| ours.chunks.reap(0, 2, true, &|_| false, &|| true));
                ours.chunks.reap(0, 2, true, &|_| false, &|| true);
                // As the repair of a place ends.
                ours.memory.word(layout::RETURNED).store(1, Release); // gives: returned
            });
            let receiver = spawn(move || theirs.chunks.hold_returned(3, &mut theirs.extents()).unwrap());
            all([repairers]);
            let first = receiver.join().unwrap();
            let second = segment.chunks.hold_returned(4, &mut segment.extents()).unwrap();
            let held = Vec::from_iter(first.into_iter().chain(second));
            assert!(held.len() == 1 && held[0].word.redelivered());
        }
    });
}

/// It may lie in an extent that is newer than what the receiver knew when it began to look: it is found now, or by the
/// next who looks.
fn returned_meanwhile() {
    let segment = segment();
    let extent = segment.layout.extents;
    let ready = segment.memory.word(extent).swap(0, Relaxed);
    let (ours, theirs) = (segment.clone(), segment.clone());
    let others = spawn(move || {
        ours.memory.word(extent).store(ready, Release); // gives: backed
        let reference = ours.send(1, 7);
        ours.hold(reference, 2).unwrap().unwrap();
        ours.chunks.reap(0, 2, true, &|_| false, &|| true);
    });
    let receiver = spawn(move || theirs.chunks.hold_returned(3, &mut theirs.extents()).unwrap());
    all([others]);
    let first = receiver.join().unwrap();
    let second = segment.chunks.hold_returned(4, &mut segment.extents()).unwrap();
    assert_eq!(first.into_iter().chain(second).count(), 1);
}

#[test]
fn loom_chunks_return_from_new_extents() {
    check(10, returned_meanwhile);
}
