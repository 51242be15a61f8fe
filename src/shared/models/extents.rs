//! Growing the pool.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::Relaxed;
use crate::error::{Error, Result};
use crate::shared::extents::{Backing, Class, Extent, Extents, class_bytes, class_of};
use crate::shared::layout::{self, Layout, Peers};
use crate::shared::memory::Memory;

use super::{all, check, check_each_death, layout as small, no_space, notices};

/// Chunks of this size are grown one by one.
const LEN: u64 = 64 << 10;
/// Too large for anybody to reserve in passing: who finds it GROWING takes it back.
const GIANT: u64 = 32 << 20;
/// Two who grow want chunks of different sizes.
const SIZES: [u64; 2] = [LEN, LEN / 2];

/// Memory that can be asked for so many times. What is reserved says so in its first word: whoever knows an extent
/// sees it.
#[derive(Clone)]
struct Marked {
    memory: Memory,
    left: Arc<AtomicUsize>,
}

impl Backing for Marked {
    fn reserve(&self, offset: u64, _len: u64) -> Result<()> {
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| no_space())?;
        self.memory.word(offset).store(1, Relaxed);
        Ok(())
    }

    fn punch(&self, _offset: u64, _len: u64) {}

    fn corrupt(&self, problem: &str) -> Error {
        panic!("{problem}")
    }
}

/// Room for two extents of chunks of `len` bytes.
fn extents(times: usize, len: u64) -> (Extents, Marked) {
    let layout = small(Peers::Many, 2, 2);
    let layout = Layout { length: layout.data + 2 * len, ..layout };
    let table = (0..3).map(|index| layout.extents + index * layout::EXTENT_BYTES);
    let bytes = [layout.chunks, layout.data, layout.data + len / 4 * 3, layout.data + len];
    let memory = Memory::of_words(layout.length, table.chain(bytes).map(|word| (word, 0)));
    (Extents::new(memory, &layout), Marked { memory, left: Arc::new(AtomicUsize::new(times)) })
}

fn grow(mut extents: Extents, class: Class, supply: &Marked) -> (Result<bool>, Vec<Extent>) {
    let grown = extents.grow(class, supply);
    (grown, known(&extents, supply))
}

/// What a handle knows; its memory is there.
fn known(extents: &Extents, supply: &Marked) -> Vec<Extent> {
    let known = extents.known().to_vec();
    assert!(known.iter().all(|extent| supply.memory.word(extent.offset).load(Relaxed) == 1), "not backed");
    known
}

/// What everybody sees in the end: extents side by side, and nothing of what anybody saw before has changed.
fn audit(mut extents: Extents, supply: &Marked, seen: &[Vec<Extent>]) -> Vec<Extent> {
    extents.refresh().unwrap();
    let known = known(&extents, supply);
    for pair in known.windows(2) {
        let end = pair[0].offset + class_bytes(pair[0].class) * u64::from(pair[0].count);
        assert!(pair[0].first + pair[0].count == pair[1].first && end <= pair[1].offset);
    }
    assert!(seen.iter().all(|theirs| known.starts_with(theirs)), "an extent changed: {seen:?} {known:?}");
    known
}

fn two_growers(times: usize, lens: [u64; 2]) -> impl Fn() {
    move || {
        let (extents, supply) = extents(times, lens[0]);
        let growers = lens.map(|len| {
            let (extents, supply) = (extents.clone(), supply.clone());
            spawn(move || grow(extents, class_of(len), &supply))
        });
        let (grown, seen): (Vec<_>, Vec<_>) = all(growers).into_iter().unzip();
        let known = audit(extents, &supply, &seen);
        if times == usize::MAX {
            assert!(
                grown.iter().all(|grown| matches!(grown, Ok(true)))
                    && seen.iter().all(|theirs| !theirs.is_empty())
            );
        }
        let refused = |grown: &Result<bool>| matches!(grown, Err(Error::NoSpace { .. }));
        assert!(grown.iter().all(|grown| grown.is_ok() || refused(grown)));
        assert!(times >= 2 || known.is_empty());
    }
}

#[test]
fn loom_extents_grow_under_two() {
    check(50, two_growers(usize::MAX, SIZES));
}

#[test]
fn loom_extents_of_giants_are_taken_back_and_made() {
    check(50, two_growers(usize::MAX, [GIANT, GIANT]));
    check(50, two_growers(usize::MAX, [GIANT, GIANT / 4 * 3]));
}

#[test]
fn loom_extents_need_their_comparison() {
    notices(Fault::BlindSwap, two_growers(usize::MAX, SIZES));
}

#[test]
fn loom_extents_need_their_orderings() {
    notices(Fault::Relaxed, two_growers(usize::MAX, SIZES));
}

/// One dies while it grows: another finishes what it began.
#[test]
fn loom_extents_survive_a_grower() {
    check_each_death(50, |mortal| {
        move || {
            let (extents, supply) = extents(usize::MAX, LEN);
            let (ours, theirs, mortal) = (extents.clone(), extents.clone(), mortal.clone());
            let (our_supply, their_supply) = (supply.clone(), supply.clone());
            let victim = spawn(move || mortal.run(|| grow(ours, class_of(LEN), &our_supply).1));
            let witness = spawn(move || {
                let (grown, known) = grow(theirs, class_of(LEN / 2), &their_supply);
                assert!(grown.unwrap() && !known.is_empty());
                known
            });
            let (ours, theirs) = (victim.join().unwrap(), witness.join().unwrap());
            assert!(!audit(extents, &supply, &[ours.unwrap_or_default(), theirs]).is_empty());
        }
    });
}

/// Memory runs out under one of two: who is refused says so, who is not has its extent, and nothing stays half-way.
#[test]
fn loom_extents_when_memory_runs_out() {
    for times in 0..6 {
        check(20, two_growers(times, SIZES));
    }
}
