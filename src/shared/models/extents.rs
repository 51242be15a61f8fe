//! Growing the pool.

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::Relaxed;
use crate::error::Result;
use crate::shared::extents::{Extent, Extents, class_of};
use crate::shared::layout::{self, Peers};
use crate::shared::memory::Memory;

use super::{Supply, all, check, check_each_death, layout as small, notices};

/// One extent fits twice.
const LEN: u64 = 64 << 10;

fn extents() -> (Extents, Memory) {
    let layout = small(Peers::Many, 2, 2);
    let table = (0..3).map(|index| layout.extents + index * layout::EXTENT_BYTES);
    let memory = Memory::of_words(layout.length, table.chain([layout::POOL_BYTES]).map(|word| (word, 0)));
    (Extents::new(memory, &layout), memory)
}

fn grow(mut extents: Extents, supply: &Supply) -> (Result<bool>, Vec<Extent>) {
    let grown = extents.grow(class_of(LEN), supply);
    (grown, extents.known().to_vec())
}

/// What everybody sees in the end: extents side by side, none counted twice.
fn audit(mut extents: Extents, memory: Memory, supply: &Supply) -> Vec<Extent> {
    extents.refresh(supply).unwrap();
    let known = extents.known().to_vec();
    for pair in known.windows(2) {
        assert_eq!(pair[0].first + pair[0].count, pair[1].first);
        assert!(pair[0].offset + LEN * u64::from(pair[0].count) <= pair[1].offset);
    }
    let bytes: u64 = known.iter().map(|extent| LEN * u64::from(extent.count)).sum();
    assert!(memory.word(layout::POOL_BYTES).load(Relaxed) <= bytes);
    known
}

fn two_growers() {
    let ((extents, memory), supply) = (extents(), Supply::of(100));
    let growers = [(); 2].map(|()| {
        let (extents, supply) = (extents.clone(), supply.clone());
        spawn(move || grow(extents, &supply))
    });
    let seen = all(growers);
    let known = audit(extents, memory, &supply);
    for (grown, theirs) in seen {
        assert!(grown.unwrap() && known.starts_with(&theirs) && !theirs.is_empty());
    }
}

#[test]
fn loom_extents_grow_under_two() {
    check(50, two_growers);
}

#[test]
fn loom_extents_need_their_comparison() {
    notices(Fault::BlindSwap, two_growers);
}

/// One dies while it grows: another finishes what it began.
#[test]
fn loom_extents_survive_a_grower() {
    check_each_death(50, |mortal| {
        move || {
            let ((extents, memory), supply) = (extents(), Supply::of(100));
            let (ours, theirs, mortal) = (extents.clone(), extents.clone(), mortal.clone());
            let (our_supply, their_supply) = (supply.clone(), supply.clone());
            let victim = spawn(move || drop(mortal.run(|| grow(ours, &our_supply))));
            let witness = spawn(move || {
                let (grown, known) = grow(theirs, &their_supply);
                assert!(grown.unwrap() && !known.is_empty());
            });
            all([victim, witness]);
            assert!(!audit(extents, memory, &supply).is_empty());
        }
    });
}

/// Memory runs out under one of two: who is refused says so, who is not has its extent, and nothing stays half-way.
#[test]
fn loom_extents_when_memory_runs_out() {
    for times in 0..6 {
        check(20, move || {
            let ((extents, memory), supply) = (extents(), Supply::of(times));
            let growers = [(); 2].map(|()| {
                let (extents, supply) = (extents.clone(), supply.clone());
                spawn(move || grow(extents, &supply))
            });
            let seen = all(growers);
            let known = audit(extents, memory, &supply);
            for (grown, theirs) in seen {
                assert!(known.starts_with(&theirs));
                assert!(grown.is_err() || grown.unwrap());
            }
            assert!(times >= 2 || known.is_empty());
        });
    }
}
