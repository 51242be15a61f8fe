//! Wake-ups: somebody is killed beside a wait, and whoever else waits must wake.
//!
//! ```text
//! side     one who waits or posts, in a process that does what it is told
//! ours     how narrows waits
//! others   how glibc, System V and the bare futex do
//! rounds   one kill, and whether the one who waits on woke
//! tally    what all rounds counted
//! ```
//!
//! A waiter dies asleep beside another who fell asleep behind it, as that is how a wake-up of one is swallowed: the
//! kernel gives it to the dying. A poster dies in front of the call that wakes, its change made, or behind it.

mod others;
mod ours;
mod rounds;
mod side;
mod tally;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Plan;
use crate::gates::Gate;
use crate::record::{Outcome, Record};
use crate::statistics::thousands;
pub(crate) use others::{Means, Other};
use ours::{For, Ours};
use rounds::{Fault, Game};
use side::Side;
pub(crate) use side::{Peer, Wait};
use tally::Tally;

/// One of ours under one fault.
struct Case {
    fault: Fault,
    what: For,
    options: &'static str,
    says: &'static str,
}

const fn case(fault: Fault, what: For, options: &'static str, says: &'static str) -> Case {
    Case { fault, what, options, says }
}

const MANY: &str = "capacity=4";
const CHUNKS: &str = "memory_max=65536";
const ONE: &str = "peers=one,capacity=4,fence=sleeper";
const FENCED: &str = "peers=one,capacity=4,fence=everyone";

const CASES: &[Case] = &[
    case(Fault::Waiter, For::Message, MANY, "the first of two waiting receivers is killed beside a send"),
    case(
        Fault::Waiter,
        For::Room,
        MANY,
        "the first of two senders that wait for room is killed beside a receive",
    ),
    case(
        Fault::Waiter,
        For::Chunk,
        CHUNKS,
        "the first of two senders that wait for memory is killed beside a release",
    ),
    case(
        Fault::Waiter,
        For::End,
        MANY,
        "the first of two waiting receivers is killed beside the last sender's leaving",
    ),
    case(
        Fault::Waiter,
        For::Message,
        ONE,
        "`peers=one`: a waiting receiver is killed beside a send, a successor comes",
    ),
    case(
        Fault::Waiter,
        For::Message,
        FENCED,
        "`fence=everyone`: a waiting receiver is killed, a successor comes",
    ),
    case(
        Fault::Waiter,
        For::Room,
        ONE,
        "`peers=one`: a sender that waits for room is killed, a successor comes",
    ),
    case(
        Fault::Waiter,
        For::Room,
        FENCED,
        "`fence=everyone`: a sender that waits is killed, a successor comes",
    ),
    case(Fault::Poster, For::Message, MANY, "a sender is killed at its wake of a receiver"),
    case(Fault::Poster, For::Room, MANY, "a receiver is killed at its wake of a sender that waits for room"),
    case(
        Fault::Poster,
        For::Chunk,
        CHUNKS,
        "a receiver is killed at its wake of a sender that waits for memory",
    ),
    case(Fault::Poster, For::End, MANY, "the last sender is killed on its way out"),
    case(Fault::Poster, For::Message, ONE, "`peers=one`: the sender is killed at its wake of the receiver"),
    case(
        Fault::Poster,
        For::Message,
        FENCED,
        "`fence=everyone`: the sender is killed at its wake of the receiver",
    ),
    case(Fault::Poster, For::Room, ONE, "`peers=one`: the receiver is killed at its wake of the sender"),
    case(Fault::Poster, For::End, ONE, "`peers=one`: the sender is killed on its way out"),
];

/// What is done to others, by the column and the word in it.
const OTHERS: &[(&str, &str, Means)] = &[
    ("glibc", "sem_t", Means::Semaphore),
    ("glibc", "condition variable", Means::Condition),
    ("glibc", "robust mutex", Means::Mutex),
    ("System V", "semop", Means::SystemV),
    ("System V", "with SEM_UNDO", Means::SystemVUndo),
    ("bare futex", "FUTEX_WAKE(1)", Means::Futex),
];

const PROMISE: &str = "whoever else waits is woken";
/// Ours are lost when they sleep for so long: a hundred times what a sleep lasts at most, as a busy machine is late.
const OURS_LOST: Duration = Duration::from_secs(10);
/// Others have no bound: they sleep until the next post, if there is one.
const OTHERS_LOST: Duration = Duration::from_millis(200);

pub(crate) const GATE: Gate = Gate {
    name: "wakeups",
    about: "A waiter is killed beside a post, or a poster at its wake; whoever else waits must wake.",
    run,
};

fn run(plan: &Plan) -> Result<Record> {
    let gate = Wakeups::new(plan);
    gate.check_itself()?;
    let mut record = Record::new("wakeups", format!("cargo xtask prove wakeups --seed {}", gate.seed));
    for case in CASES.iter().filter(|case| gate.has(case.says)) {
        let tally = gate.play_ours(case)?;
        let row = record.row(case.says, PROMISE, ours(&tally, &gate));
        let is_first = case.what == For::Message && case.options == MANY;
        if is_first {
            for (column, outcome) in gate.play_others(case.fault)? {
                row.other(column, outcome);
            }
        }
    }
    Ok(record)
}

fn ours(tally: &Tally, gate: &Wakeups<'_>) -> Outcome {
    let mut figure = format!(
        "{} of {} lost; woken after p50 {}, p99 {}, longest {}",
        thousands(tally.lost()),
        thousands(tally.rounds()),
        short(tally.quantile(0.5)),
        short(tally.quantile(0.99)),
        short(tally.longest())
    );
    if tally.by_bound() > 0 {
        figure += &format!("; {} by nothing but the bound of their sleep", thousands(tally.by_bound()));
    }
    if let Some(round) = tally.first_lost() {
        figure += &format!("; first lost: seed {}, round {round}", gate.seed);
    }
    Outcome::new(tally.lost() == 0 && tally.rounds() > 0, figure)
}

/// A delay as people read it.
pub(crate) fn short(delay: Duration) -> String {
    match delay.as_micros() {
        us @ 0..1000 => format!("{us} µs"),
        us => format!("{:.1} ms", us as f64 / 1e3),
    }
}

/// How the gate is run.
struct Wakeups<'a> {
    plan: &'a Plan,
    seed: u64,
    names: Names,
}

impl<'a> Wakeups<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, seed: plan.seed(), names: Names::new("wakeups") }
    }

    fn has(&self, name: &str) -> bool {
        self.plan.only.as_ref().is_none_or(|only| name.contains(only))
    }

    fn of(&self, whole: u64, sample: u64) -> u64 {
        if self.plan.sample { sample } else { whole }
    }

    fn play(&self, says: &str, game: &Game<'_>) -> Result<Tally> {
        let progress = ProgressBar::new(game.rounds).with_message(says.to_owned());
        progress.set_style(ProgressStyle::with_template("{wide_msg} {pos}/{len} {elapsed}")?);
        let tally = game.play(&self.names, &progress);
        progress.finish_and_clear();
        let tally = tally?;
        ensure!(tally.void() <= 20 + tally.rounds() / 20, "{says}: {} rounds showed nothing", tally.void());
        Ok(tally)
    }

    fn play_ours(&self, case: &Case) -> Result<Tally> {
        let game = Game {
            fault: case.fault,
            make: &|name| Ok(Box::new(Ours::new(case.what, name, case.options)?)),
            rounds: self.of(10_000, 200),
            losses: 10,
            limit: OURS_LOST,
            // Many sleep until their bound where a poster is killed, and cost nothing meanwhile.
            lanes: if case.fault == Fault::Poster { 16 } else { 2 },
            seed: self.seed,
        };
        self.play(case.says, &game)
    }

    /// The columns and what is in them.
    fn play_others(&self, fault: Fault) -> Result<Vec<(&'static str, Outcome)>> {
        let mut columns: Vec<(&'static str, Outcome)> = Vec::new();
        for (column, word, means) in OTHERS {
            let game = Game {
                fault,
                make: &|_| Ok(Box::new(Other::new(*means)?)),
                rounds: self.of(10_000, 200),
                losses: self.of(200, 10),
                limit: OTHERS_LOST,
                lanes: 4,
                seed: self.seed,
            };
            let tally = self.play(word, &game)?;
            if *means == Means::Futex {
                ensure!(
                    tally.lost() > 0,
                    "a bare FUTEX_WAKE(1) lost nothing: the gate does not see what is lost"
                );
            }
            let (held, text) = (
                tally.lost() == 0,
                format!("{word} {} of {} lost", thousands(tally.lost()), thousands(tally.rounds())),
            );
            match columns.last_mut() {
                Some((last, all)) if last == column => {
                    *all = Outcome::new(all.held && held, format!("{}, {text}", all.figure));
                }
                _ => columns.push((column, Outcome::new(held, text))),
            }
        }
        Ok(columns)
    }

    /// Where nobody posts, every round is lost.
    fn check_itself(&self) -> Result<()> {
        let game = Game {
            fault: Fault::Waiter,
            make: &|name| Ok(Box::new(Silent(Ours::new(For::Message, name, MANY)?))),
            rounds: 3,
            losses: 3,
            limit: OTHERS_LOST,
            lanes: 1,
            seed: self.seed,
        };
        let tally = self.play("a post that is none", &game)?;
        if tally.lost() != 3 {
            bail!("nobody posted, and {} of 3 woke", tally.rounds() - tally.lost());
        }
        Ok(())
    }
}

/// A channel whose poster posts nothing.
struct Silent(Ours);

impl Wait for Silent {
    fn waiter(&self) -> Box<dyn Side + '_> {
        self.0.waiter()
    }

    fn poster(&self) -> Box<dyn Side + '_> {
        Box::new(Nothing)
    }

    fn is_posted(&self) -> Result<bool> {
        Ok(true)
    }
}

struct Nothing;

impl Side for Nothing {
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn act(&mut self) -> Result<bool> {
        Ok(true)
    }
}

/// Names in `/dev/shm`; what bears them is removed at the end, whoever was killed.
pub(crate) struct Names(String);

impl Names {
    /// The names of a gate's run.
    pub(crate) fn new(gate: &str) -> Self {
        Self(format!("narrows-prove-{gate}-{}", std::process::id()))
    }

    /// One of them.
    pub(crate) fn of(&self, part: &str) -> String {
        format!("{}-{part}", self.0)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.of("")) {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}
