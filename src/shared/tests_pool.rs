//! How the pool grows, which chunk is used next, and what is given back.

use std::cell::{Cell, RefCell};

use crate::atomic::Ordering::Relaxed;
use crate::error::{Error, Result};

use super::chunks::{Chunk, State};
use super::extents::{Backing, Extents, class_of};
use super::layout::{CHUNKS, EXTENT_BYTES, EXTENTS};
use super::pool::{Loan, Pool};
use super::repair::Structures;
use super::tests::stage_of;

const ME: u16 = 1;
const MIB: u64 = 1 << 20;

/// Memory of which nobody gets more than so many bytes at once; notes what is given back.
struct Supply {
    most: Cell<u64>,
    punched: RefCell<Vec<u64>>,
}

impl Supply {
    fn of(most: u64) -> Self {
        Self { most: Cell::new(most), punched: RefCell::default() }
    }
}

impl Backing for Supply {
    fn reserve(&self, _offset: u64, len: u64) -> Result<()> {
        match len <= self.most.get() {
            true => Ok(()),
            false => Err(Error::NoSpace { what: "stage".into(), supply: "memory".into(), hint: None }),
        }
    }

    fn punch(&self, offset: u64, _len: u64) {
        self.punched.borrow_mut().push(offset);
    }

    fn corrupt(&self, problem: &str) -> Error {
        panic!("{problem}")
    }
}

fn loan(pool: &mut Pool, len: u64, supply: &Supply) -> Chunk {
    match pool.loan(len, ME, supply).unwrap() {
        Loan::Chunk(chunk) => chunk,
        Loan::Exhausted => panic!("there is memory"),
    }
}

/// An extent's word that is READY.
fn ready(class: u8, log_count: u64) -> u64 {
    2 | u64::from(class) << 8 | log_count << 16
}

fn fill(shared: &Structures, word: u64, count: u64) -> Extents {
    let at = |index| shared.memory.word(shared.layout.extents + index * EXTENT_BYTES);
    (0..count).for_each(|index| at(index).store(word, Relaxed));
    let mut extents = shared.extents();
    extents.refresh().expect("they are possible");
    extents
}

#[test]
fn where_there_is_little_memory_the_pool_grows_by_little() {
    let (_segment, shared) = stage_of(4, MIB);
    let mut extents = shared.extents();
    // The descriptors of as many chunks as there are at first, and not the chunks.
    assert!(extents.grow(class_of(256), &Supply::of(16 << 10)).unwrap());
    assert_eq!(extents.known()[0].count, 1);
    assert!(matches!(extents.grow(class_of(256), &Supply::of(100)), Err(Error::NoSpace { .. })));
    assert_eq!(extents.known().len(), 1);
}

#[test]
fn whoever_finds_the_pool_growing_finishes_what_was_begun() {
    let (_segment, shared) = stage_of(4, MIB);
    let begun = class_of(64 << 10);
    shared.memory.word(shared.layout.extents).store(ready(begun, 0) & !0xff | 1, Relaxed);
    let mut extents = shared.extents();
    assert!(extents.grow(class_of(300), &Supply::of(MIB)).unwrap());
    assert_eq!(extents.known()[0].class, begun);
}

#[test]
fn a_full_table_of_extents_is_the_end_of_growing() {
    let (_segment, shared) = stage_of(4, 64 * MIB);
    let behind = shared.memory.word(shared.layout.extents + EXTENTS * EXTENT_BYTES);
    behind.store(ready(0, 0), Relaxed);
    let mut extents = fill(&shared, ready(0, 0), EXTENTS);
    assert_eq!((extents.known().len() as u64, extents.longest()), (EXTENTS, 256));
    behind.store(0, Relaxed);
    assert!(!extents.grow(class_of(256), &Supply::of(MIB)).unwrap());
    assert_eq!(behind.load(Relaxed), 0);
}

#[test]
fn a_full_table_of_chunks_is_the_end_of_growing() {
    let (_segment, shared) = stage_of(4, 512 * MIB);
    let mut extents = fill(&shared, ready(0, 16), 15);
    assert_eq!(extents.longest(), 256 * MIB, "there is room, and a place to name it");
    extents = fill(&shared, ready(0, 16), 16);
    assert_eq!((u64::from(extents.chunks_known()), extents.longest()), (CHUNKS, 256));
    assert!(!extents.grow(class_of(256), &Supply::of(MIB)).unwrap());
    shared.memory.word(shared.layout.extents + 16 * EXTENT_BYTES).store(ready(0, 0), Relaxed);
    assert!(extents.refresh().is_err(), "one chunk too many");
}

#[test]
fn an_extent_is_no_larger_than_a_growth_makes_it() {
    for (word, fits) in [
        (ready(0, 16), true),
        (ready(0, 17), false), // 32 MiB of the smallest
        (ready(class_of(16 * MIB), 0), true),
        (ready(class_of(16 * MIB), 1), false),
        (ready(class_of(300 * MIB), 0), true),
        (ready(class_of(1 << 46), 20), false), // more than can be counted
    ] {
        let (_segment, shared) = stage_of(4, 512 * MIB);
        shared.memory.word(shared.layout.extents).store(word, Relaxed);
        assert_eq!(shared.extents().refresh().is_ok(), fits, "{word:#x}");
    }
}

#[test]
fn a_chunk_that_is_free_is_found_wherever_the_last_look_ended() {
    let (_segment, shared) = stage_of(4, 64 << 10);
    let (mut pool, supply) = (Pool::new(shared.memory, &shared.layout), Supply::of(MIB));
    let chunks: Vec<Chunk> = (0..16).map(|_| loan(&mut pool, 4096, &supply)).collect();
    assert!(matches!(pool.loan(4096, ME, &supply), Ok(Loan::Exhausted)));
    // Not among those that are tried first, as the longest known.
    for id in [9, 15, 7] {
        pool.chunks.release(Chunk { word: pool.chunks.load(id), ..chunks[id as usize] });
        assert_eq!(loan(&mut pool, 4096, &supply).id, id);
    }
}

#[test]
fn where_no_chunk_of_its_size_is_left_a_message_has_a_larger_one() {
    let (_segment, shared) = stage_of(4, 64 << 10);
    let (mut pool, supply) = (Pool::new(shared.memory, &shared.layout), Supply::of(MIB));
    let large = loan(&mut pool, 64 << 10, &supply);
    assert!(matches!(pool.loan(200, ME, &supply), Ok(Loan::Exhausted)));
    pool.chunks.release(large);
    let small = loan(&mut pool, 200, &supply);
    assert_eq!((small.id, small.len), (large.id, 200));
}

#[test]
fn a_chunk_whose_memory_is_not_to_be_had_again_stays_as_it_is() {
    let (_segment, shared) = stage_of(4, MIB);
    let (mut pool, supply) = (Pool::new(shared.memory, &shared.layout), Supply::of(MIB));
    let chunk = loan(&mut pool, MIB, &supply);
    let word = pool.chunks.mark_backed(chunk.id, chunk.word, false).ok().unwrap();
    pool.chunks.release(Chunk { word, ..chunk });
    supply.most.set(4096);
    assert!(matches!(pool.loan(MIB, ME, &supply), Err(Error::NoSpace { .. })));
    let word = pool.chunks.load(chunk.id);
    assert!(word.is(State::Free) && word.punched());
    supply.most.set(MIB);
    assert!(!loan(&mut pool, MIB, &supply).word.punched());
}

#[test]
fn of_idle_memory_8_mib_are_kept() {
    let (_segment, shared) = stage_of(4, 64 * MIB);
    let (mut pool, supply) = (Pool::new(shared.memory, &shared.layout), Supply::of(MIB));
    let chunks: Vec<Chunk> = (0..12).map(|_| loan(&mut pool, MIB, &supply)).collect();
    let trim = || {
        // One who has used none of them.
        Pool::new(shared.memory, &shared.layout).trim(ME + 1, &supply).ok().unwrap();
        supply.punched.take().iter().map(|offset| (offset - chunks[0].offset) / MIB).collect::<Vec<_>>()
    };
    assert_eq!(trim(), []);
    chunks[3..].iter().for_each(|chunk| shared.chunks.release(*chunk));
    assert_eq!(trim(), [11], "nine are idle, three are not");
    chunks[..3].iter().for_each(|chunk| shared.chunks.release(*chunk));
    assert_eq!(trim(), [8, 9, 10]);
    assert_eq!(trim(), []);
    let free = |id| shared.chunks.load(id).is(State::Free);
    assert!((0..12).all(free) && (8..12).all(|id| shared.chunks.load(id).punched()));
}
