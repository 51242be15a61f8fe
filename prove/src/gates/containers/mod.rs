//! Containers: peers behind walls share `/dev/shm` and little else.
//!
//! ```text
//! container   a process in namespaces of its own
//! traffic     messages to and fro, and one who is killed again and again
//! robbery     two of one number: one is killed, the other keeps what it holds
//! ```

mod container;
mod robbery;
mod traffic;

use anyhow::{Result, ensure};
use indicatif::ProgressBar;

use crate::Plan;
use crate::gates::Gate;
use crate::gates::wakeups::{Names, short};
use crate::random::Random;
use crate::record::{Outcome, Record};
use container::{Walls, refusal};
use traffic::Account;

const PIDS: Walls = Walls { pids: true, users: false };
const USERS: Walls = Walls { pids: false, users: true };
const BOTH: Walls = Walls { pids: true, users: true };

/// What is between peers.
const WALLS: [(Walls, &str); 3] = [
    (PIDS, "two PID namespaces, both peers PID 1; one is killed while they talk"),
    (USERS, "two user and mount namespaces, two users; one is killed while they talk"),
    (BOTH, "two of each: PID, user and mount namespaces; one is killed while they talk"),
];
const ROBBERY: &str = "two peers are both PID 1; one is killed while each holds a message and a loan";

pub(crate) const GATE: Gate = Gate {
    name: "containers",
    about: "Peers talk, hold and die in namespaces of their own, with a `/dev/shm` that they share.",
    run,
};

fn run(plan: &Plan) -> Result<Record> {
    let seed = plan.seed();
    let mut record = Record::new("containers", format!("cargo xtask prove containers --seed {seed}"));
    let names = Names::new("containers");
    let has = |says: &str| plan.only.as_ref().is_none_or(|only| says.contains(only));
    let can = |walls: Walls, says: &str| match refusal(walls) {
        Some(reason) => {
            println!("SKIPPED: {says}: {reason}");
            false
        }
        None => true,
    };
    for (at, (walls, says)) in WALLS.into_iter().enumerate().filter(|(_, (_, says))| has(says)) {
        if can(walls, says) {
            let kills = if plan.sample { 12 } else { 500 };
            let mut random = Random::seeded(seed);
            let account = traffic::play(&names.of(&at.to_string()), walls, kills, &mut random)?;
            record.row(
                says,
                "the death is told, nothing is lost or torn, the next goes on",
                talked(account, seed),
            );
        }
    }
    if has(ROBBERY) && can(PIDS, ROBBERY) {
        let rounds = if plan.sample { 5 } else { 200 };
        rob(&mut record, &names, rounds)?;
    }
    Ok(record)
}

fn talked(mut account: Account, seed: u64) -> Outcome {
    account.delays.sort_unstable();
    let at = |share: usize| account.delays.get(account.delays.len() * share / 100).copied();
    let last = account.delays.last().copied().unwrap_or_default();
    let (p50, p99) = (at(50).unwrap_or(last), at(99).unwrap_or(last));
    let mut figure = format!(
        "{} kills, {} messages to and fro, 0 lost; told after p50 {}, p99 {}, longest {}",
        account.kills,
        account.messages,
        short(p50),
        short(p99),
        short(last)
    );
    if let Some(fault) = account.faults.first() {
        figure = format!("{fault} (seed {seed})");
    }
    Outcome::new(account.faults.is_empty(), figure)
}

fn rob(record: &mut Record, names: &Names, rounds: u64) -> Result<()> {
    let progress = ProgressBar::new(rounds);
    let (mut robbed, mut two_holders, mut first) = (0, 0, None);
    for round in 0..rounds {
        if let Some(fault) = robbery::ours(&names.of(&format!("robbery-{round}")), PIDS)? {
            robbed += 1;
            first.get_or_insert(fault);
        }
        two_holders += u64::from(robbery::glibc(PIDS)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    // Where both have numbers of their own, glibc keeps its promise: what is seen above is the namespace's doing.
    let walls = Walls { pids: false, users: false };
    ensure!(!robbery::glibc(walls)?, "glibc's robust mutex has two holders without any namespace");
    let first = first.map(|fault| format!(": {fault}")).unwrap_or_default();
    let promise = "the living keeps what it holds, the dead's comes again";
    record
        .row(ROBBERY, promise, Outcome::new(robbed == 0, format!("{robbed} of {rounds} robbed{first}")))
        .other(
            "glibc",
            Outcome::new(
                two_holders == 0,
                format!("robust mutex: two holders at once in {two_holders} of {rounds}"),
            ),
        );
    Ok(())
}
