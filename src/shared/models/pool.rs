//! Who waits for a chunk, and idle memory that is given back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom::thread::spawn;

use crate::atomic::Fault;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::shared::chunks::{Chunk, State};
use crate::shared::extents::{Backing, class_of};
use crate::shared::layout::{self, Config, Layout, Peers};
use crate::shared::memory::Memory;
use crate::shared::pool::{Loan, Pool};
use crate::shared::wait::IDLE;

use super::hands::Hands;
use super::{Mortal, all, check, check_each_death, check_in_short, fails, layout as small, notices};

/// READY, and one chunk.
const EXTENT: u64 = 2;
/// So large that it is given back when it lies idle.
const CHUNK: u64 = 16 << 20;

/// A smaller one, which stays.
const SMALL: u64 = 64 << 10;

/// A segment whose pool is full, and the memory behind its large chunk.
#[derive(Clone)]
struct Segment {
    memory: Memory,
    layout: Layout,
    is_there: Arc<AtomicBool>,
    hands: Hands,
}

fn segment() -> Segment {
    segment_of(None)
}

/// With a large chunk, and perhaps a second one.
fn segment_of(second: Option<u64>) -> Segment {
    let layout = small(Peers::Many, 2, 2);
    let config = Config { memory_max: CHUNK + second.unwrap_or(0), ..layout.config };
    let layout = Layout { config, length: layout.data + config.memory_max, ..layout };
    let extent = |len: u64| EXTENT | u64::from(class_of(len)) << 8;
    let descriptors =
        (0..2).flat_map(|id| [0, 8, 16].map(|word| layout.chunks + id * layout::CHUNK_BYTES + word));
    let words = [
        (layout::POOL_SLEEPERS, 0),
        (layout.extents, extent(CHUNK)),
        (layout.extents + 8, second.map_or(0, extent)),
        (layout.extents + 16, 0),
        (layout.data, 0),
    ];
    let words = words.into_iter().chain(descriptors.map(|word| (word, 0)));
    Segment {
        memory: Memory::of_words(layout.length, words),
        layout,
        is_there: Arc::new(AtomicBool::new(true)),
        hands: Hands::new(),
    }
}

impl Backing for Segment {
    fn reserve(&self, _offset: u64, _len: u64) -> Result<()> {
        self.is_there.store(true, Relaxed);
        Ok(())
    }

    /// What is punched reads as zeros.
    fn punch(&self, offset: u64, _len: u64) {
        self.is_there.store(false, Relaxed);
        self.memory.word(offset).store(0, Relaxed);
    }

    fn corrupt(&self, problem: &str) -> Error {
        panic!("{problem}")
    }
}

impl Segment {
    fn pool(&self) -> Pool {
        Pool::new(self.memory, &self.layout)
    }

    fn try_loan(&self, pool: &mut Pool, me: u16) -> Option<Chunk> {
        match pool.loan(CHUNK, me, self).unwrap() {
            Loan::Chunk(chunk) => Some(chunk),
            Loan::Exhausted => None,
        }
    }

    /// As a sender waits for a chunk. `reap`: what it does about the dead where it was not woken.
    fn loan(&self, me: u16, until: Deadline, reap: impl Fn(&Pool)) -> Chunk {
        let mut pool = self.pool();
        loop {
            if let Some(chunk) = self.try_loan(&mut pool, me) {
                assert!(self.is_there.load(Relaxed), "there is no memory behind a loan");
                assert!(!chunk.word.punched(), "its memory would never be given back again");
                self.hands.take(0);
                return chunk;
            }
            if !pool.wait(until, CHUNK, me, self).unwrap() {
                reap(&pool);
            }
        }
    }

    /// Waits for a chunk of that size, for as long as it takes.
    fn await_chunk(&self, me: u16, len: u64) -> Chunk {
        let mut pool = self.pool();
        loop {
            if let Loan::Chunk(chunk) = pool.loan(len, me, self).unwrap() {
                return chunk;
            }
            pool.wait(Deadline::Never, len, me, self).unwrap();
        }
    }

    /// A message; gives what a slot says of it.
    fn send(&self, me: u16, value: u64, until: Deadline) -> u64 {
        let mut chunk = self.loan(me, until, |_| ());
        self.memory.word(chunk.offset).store(value, Relaxed);
        self.pool().chunks.queue(&mut chunk).unwrap();
        chunk.reference()
    }

    /// Whoever releases a chunk has read it.
    fn release(&self, chunk: Chunk) {
        self.hands.give(0, self.hands.done());
        self.pool().chunks.release(chunk);
    }

    fn value(&self, chunk: Chunk) -> u64 {
        self.memory.word(chunk.offset).load(Relaxed)
    }

    fn is(&self, state: State) -> bool {
        self.pool().chunks.load(0).is(state)
    }
}

/// Two senders wait for the chunk that a receiver releases, one after the other.
fn sleepers(count: u16) -> impl Fn() {
    move || {
        let segment = segment();
        let chunk = segment.try_loan(&mut segment.pool(), 3).unwrap();
        let senders: Vec<_> = (1..=count)
            .map(|me| {
                let ours = segment.clone();
                spawn(move || {
                    let chunk = ours.loan(me, Deadline::Never, |_| ());
                    ours.release(chunk);
                })
            })
            .collect();
        let ours = segment.clone();
        let receiver = spawn(move || ours.release(chunk));
        all(senders.into_iter().chain([receiver]));
        assert!(segment.is(State::Free));
    }
}

#[test]
fn loom_pool_wakes_who_waits() {
    check(20, sleepers(1));
}

#[test]
fn loom_pool_wakes_all_who_wait() {
    check_in_short(1000, sleepers(2));
}

/// Two wait for chunks of different sizes. The smaller one is released: whoever waits for it goes on, whatever the
/// other does, and then releases the larger.
fn two_sizes() {
    let segment = segment_of(Some(SMALL));
    let [large, small] = [CHUNK, SMALL].map(|len| segment.await_chunk(3, len));
    let (ours, others, theirs) = (segment.clone(), segment.clone(), segment.clone());
    let waits_for_small = spawn(move || {
        ours.await_chunk(1, SMALL);
        ours.pool().chunks.release(large);
    });
    let waits_for_large = spawn(move || {
        others.await_chunk(2, CHUNK);
    });
    let releases = spawn(move || theirs.pool().chunks.release(small));
    all([waits_for_small, waits_for_large, releases]);
}

#[test]
fn loom_pool_wakes_who_waits_for_another_size() {
    check(1000, two_sizes);
}

#[test]
fn loom_pool_needs_its_fences() {
    notices(Fault::NoFence, sleepers(1));
}

#[test]
fn loom_pool_needs_its_wakes() {
    notices(Fault::NoWake, sleepers(1));
}

#[test]
fn loom_pool_needs_the_second_look() {
    fails(|| {
        let segment = segment();
        let chunk = segment.try_loan(&mut segment.pool(), 3).unwrap();
        let (ours, theirs) = (segment.clone(), segment.clone());
        let sender = spawn(move || {
            let mut pool = ours.pool();
            while ours.try_loan(&mut pool, 1).is_none() {
                let word = ours.memory.word(layout::POOL_SLEEPERS);
                let seen = word.load(Relaxed);
                if word.compare_exchange(seen, seen | 1, Relaxed, Relaxed).is_ok() {
                    ours.memory.sleep(layout::POOL_SLEEPERS, seen | 1, Deadline::Never);
                }
            }
        });
        let receiver = spawn(move || theirs.pool().chunks.release(chunk));
        all([sender, receiver]);
    });
}

/// Whoever has the chunk dies before any operation, the release and its wake among them. A sender that waits looks
/// for the dead when its sleep ends, and goes on.
#[test]
fn loom_pool_goes_on_behind_the_dead() {
    check_each_death(20, |mortal| {
        move || {
            let segment = segment();
            let chunk = segment.try_loan(&mut segment.pool(), 2).unwrap();
            let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
            let is_dead = Arc::new(loom::sync::Mutex::new(false));
            let falls = is_dead.clone();
            let receiver = spawn(move || {
                mortal.run(|| ours.pool().chunks.release(chunk));
                *falls.lock().unwrap() = true;
            });
            let sender = spawn(move || {
                let reap = |pool: &Pool| {
                    if *is_dead.lock().unwrap() {
                        pool.chunks.reap(0, 2, false, &|_| false, &|| true);
                    }
                };
                theirs.loan(1, IDLE.into(), reap);
            });
            all([receiver, sender]);
            assert!(segment.is(State::Loaned));
        }
    });
}

/// One gives idle memory back; two messages are sent meanwhile. There is memory behind each loan, and no message is
/// punched out. `until`: how long a sender sleeps.
fn trimmer(mortal: Mortal, careful: bool, until: Deadline) -> impl Fn() {
    move || {
        let segment = segment();
        let (ours, theirs, mortal) = (segment.clone(), segment.clone(), mortal.clone());
        let trimmer = spawn(move || {
            let trimmed = mortal.run(|| match careful {
                true => ours.pool().trim(2, &ours).unwrap(),
                false => ours.punch(ours.layout.data, CHUNK),
            });
            if trimmed.is_none() {
                ours.pool().chunks.reap(0, 2, false, &|_| false, &|| true);
            }
        });
        let sender = spawn(move || {
            for value in 7..=8 {
                let reference = theirs.send(1, value, until);
                let Pool { chunks, mut extents, .. } = theirs.pool();
                let held = chunks.hold(reference, 3, &mut extents).unwrap().expect("a message is lost");
                assert_eq!(theirs.value(held), value, "a message is punched out");
                theirs.release(held);
            }
        });
        all([trimmer, sender]);
        assert!(segment.is(State::Free), "a chunk is lost");
        segment.send(1, 9, Deadline::Never);
    }
}

#[test]
fn loom_pool_gives_memory_back() {
    check(50, trimmer(Mortal::never(), true, Deadline::Never));
}

#[test]
fn loom_pool_survives_who_gives_memory_back() {
    check_each_death(200, |mortal| trimmer(mortal, true, IDLE.into()));
}

/// Memory that was given back is there again behind each loan, though one died who was about to see to it.
#[test]
fn loom_pool_survives_who_takes_memory_again() {
    check_each_death(5, |mortal| {
        move || {
            let segment = segment();
            segment.pool().trim(2, &segment).unwrap();
            assert!(!segment.is_there.load(Relaxed));
            let (ours, mortal) = (segment.clone(), mortal.clone());
            let victim = spawn(move || {
                mortal.run(|| ours.loan(1, Deadline::Never, |_| ()));
                ours.pool().chunks.reap(0, 1, false, &|_| false, &|| true);
            });
            all([victim]);
            segment.loan(2, Deadline::Never, |_| ());
        }
    });
}

#[test]
fn loom_pool_must_loan_what_it_gives_back() {
    fails(trimmer(Mortal::never(), false, Deadline::Never));
}

#[test]
fn loom_pool_needs_its_comparison() {
    notices(Fault::BlindSwap, trimmer(Mortal::never(), true, Deadline::Never));
}

#[test]
fn loom_pool_needs_its_orderings() {
    notices(Fault::Relaxed, trimmer(Mortal::never(), true, Deadline::Never));
}
