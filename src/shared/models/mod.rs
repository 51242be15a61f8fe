//! What the model checker explores: every order of the operations of two or three participants, up to a number of
//! preemptions, with every value that the memory model lets a load return.
//!
//! | module | what is checked |
//! |---|---|
//! | `ring` | the ring, many to many: nothing lost, doubled, torn or out of order, also when claims are revoked |
//! | `ring_crash` | the same with a participant that dies before any of its operations, and a repairer that does |
//! | `delivered` | a sender that waits until its message is taken, or takes it back; one of both dies |
//! | `discarded` | a sender that drops another's message to make room, also of one who watches it or died |
//! | `pair` | the ring, one to one, with successors of the dead, and without membarrier |
//! | `chunks` | loans, messages in chunks, what comes again |
//! | `pool` | who waits for a chunk, idle memory that is given back |
//! | `held` | leases: what a dead receiver held comes again, once |
//! | `extents` | two that grow the pool at once, one that dies half-way, memory that runs out |
//! | `participants` | places, endpoints, senders that come and go |
//! | `attachment` | who comes, who leaves, who retires the segment |
//! | `repair` | the repair of the dead as a whole, by several |
//! | `segment`, `hands` | tools: a whole segment; whether bytes are let go before they change hands |
//!
//! Bounds: two slots (four where spare ones matter), two or three participants, two preemptions; one where a model is
//! `in_short`. `NARROWS_MORE_PREEMPTIONS` adds to both. A crash is each operation in turn: one exploration for a thread
//! that dies before its first, one for its second, until it lives through all. A sleep without a deadline lasts, so
//! whoever is not woken is a deadlock, and loom reports it; one with a deadline may end at any moment, which only
//! models of a death between a step and its wake may use. Membarrier is a fence for its caller and one for the others.
//!
//! Every participant is a thread of loom's: what its main thread does is not interleaved, so that one only sets up
//! and, behind the others' end, audits. Every model has a floor on the number of executions, and is run on a faulty machine
//! ([`Fault`]) as well, or with a wrong caller: it has to notice.

mod attachment;
mod chunks;
mod delivered;
mod discarded;
mod extents;
mod hands;
mod held;
mod pair;
mod participants;
mod pool;
mod repair;
mod ring;
mod ring_crash;
mod segment;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom::thread::JoinHandle;

use crate::atomic::{Fault, lives_for, sabotage};

use crate::error::{Error, Result};

use super::extents::Backing;
use super::layout::{Ack, Config, Fence, Full, Layout, Lifetime, Peers};

const PREEMPTIONS: usize = 2;

/// Explores all executions with so many preemptions; gives their number.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let mut checker = loom::model::Builder::new();
    let more = std::env::var("NARROWS_MORE_PREEMPTIONS").ok().and_then(|text| text.parse().ok());
    checker.preemption_bound = Some(preemptions + more.unwrap_or(0));
    checker.max_branches = 10_000;
    checker.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    count.load(Ordering::Relaxed)
}

/// Explores, and makes sure that it did.
fn check(floor: usize, model: impl Fn() + Send + Sync + 'static) {
    enough(floor, explore(PREEMPTIONS, model));
}

/// As above, for models that are large: with one preemption less.
fn check_in_short(floor: usize, model: impl Fn() + Send + Sync + 'static) {
    enough(floor, explore(PREEMPTIONS - 1, model));
}

fn enough(floor: usize, executions: usize) {
    println!("{executions} executions");
    assert!(executions >= floor, "{executions} executions are too few to have checked anything");
}

/// Does something on a machine with that fault.
fn on<T>(fault: Fault, work: impl FnOnce() -> T) -> T {
    sabotage(Some(fault));
    let result = work();
    sabotage(None);
    result
}

/// Makes sure that the model notices a faulty machine.
fn notices(fault: Fault, model: impl Fn() + Send + Sync + 'static) {
    let noticed = on(fault, || catch_unwind(AssertUnwindSafe(|| explore(PREEMPTIONS, model))).is_err());
    assert!(noticed, "{fault:?} went unnoticed");
}

/// Makes sure that the model fails where its participants are wrong.
fn fails(model: impl Fn() + Send + Sync + 'static) {
    assert!(
        catch_unwind(AssertUnwindSafe(|| explore(PREEMPTIONS, model))).is_err(),
        "what is wrong went unnoticed"
    );
}

/// A life that ends before each operation in turn.
#[derive(Clone)]
struct Mortal {
    operations: usize,
    died: Arc<AtomicBool>,
}

impl Mortal {
    /// Who lives through all.
    fn never() -> Self {
        Self { operations: usize::MAX, died: Arc::default() }
    }

    /// `None`: it died.
    fn run<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let result = lives_for(self.operations, work);
        if result.is_none() {
            self.died.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// One exploration for each operation before which the mortal can die. `floor` is for all together.
fn check_each_death<M: Fn() + Send + Sync + 'static>(floor: usize, model: impl Fn(Mortal) -> M) {
    check_deaths(PREEMPTIONS, floor, model);
}

/// As above, for models that are large: with one preemption less.
fn check_each_death_in_short<M: Fn() + Send + Sync + 'static>(floor: usize, model: impl Fn(Mortal) -> M) {
    check_deaths(PREEMPTIONS - 1, floor, model);
}

fn check_deaths<M: Fn() + Send + Sync + 'static>(
    preemptions: usize,
    floor: usize,
    model: impl Fn(Mortal) -> M,
) {
    let mut executions = 0;
    for operations in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        executions += explore(preemptions, model(Mortal { operations, died: died.clone() }));
        if !died.load(Ordering::Relaxed) {
            assert!(operations > 2, "nothing to die in");
            println!("{operations} deaths");
            break;
        }
    }
    enough(floor, executions);
}

fn all<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// A segment of so many slots; small tables, and room for two extents.
fn layout(peers: Peers, slot_count: u64, capacity: u64) -> Layout {
    let config = Config {
        peers,
        capacity,
        slot_bytes: 64,
        participants: 3,
        endpoints: 3,
        lifetime: Lifetime::Drained,
        ack: Ack::OnTake,
        fence: Fence::Sleeper,
        full: Full::Wait,
        memory_max: 128 << 10,
    };
    let (participants, endpoints, extents, slots) = (4096, 8192, 8448, 12288);
    let (chunks, data) = (16384, 1 << 20);
    let length = data + config.memory_max;
    Layout { config, participants, endpoints, extents, slots, slot_count, chunks, data, length }
}

fn no_space() -> Error {
    Error::NoSpace { what: "model".into(), supply: "memory".into(), hint: None }
}

/// Memory that can be asked for, and runs out after so many times.
struct Supply(AtomicUsize);

impl Supply {
    fn of(times: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(times)))
    }
}

impl Backing for Supply {
    fn reserve(&self, _offset: u64, _len: u64) -> Result<()> {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| no_space())
    }

    fn punch(&self, _offset: u64, _len: u64) {}

    fn corrupt(&self, problem: &str) -> Error {
        Error::Corrupt { what: "model".into(), problem: problem.to_owned().into(), hint: None }
    }
}
