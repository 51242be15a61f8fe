//! Processes come, go, die and stop under full load, on channels of every kind at once; then the account.
//!
//! | file | what is in it |
//! |---|---|
//! | `kinds` | the channels: how each is opened, used and cast, and what it promises |
//! | `round` | some channels at once for a while: made, used, hit, brought to an end, judged |
//! | `cast` | the processes of a round, and what is done to them |
//! | `part`, `sending`, `receiving`, `guests` | what they do |
//! | `message` | bytes that show whether they are whole |
//! | `ledger`, `account` | what each process said before and after it did it, and what that comes to |
//! | `leaks` | what may not be left |
//!
//! Survivors are processes that nothing is done to: their longest wait is what the others' deaths cost.

mod account;
mod cast;
mod guests;
mod kinds;
mod leaks;
mod ledger;
mod message;
mod part;
mod receiving;
mod round;
mod sending;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::Gate;
use crate::random::Random;
use crate::record::{Outcome, Record};
use account::{Account, Times};
use cast::{Fault, Faults};
use kinds::KINDS;
use part::Cheat;
use round::{Findings, Live, Plan, Signs};

pub(crate) use part::play_if_asked;

/// Channels at a time.
const CHANNELS: usize = 8;
const ROUND: Duration = Duration::from_secs(20);
/// Whatever takes longer in a round is stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for a round of one sender and one receiver.
const CHEATS_PATIENCE: Duration = Duration::from_secs(5);
/// No operation of a survivor may last longer, unless so many times what the load alone costs is longer.
const STALL: Duration = Duration::from_secs(2);
const STALL_TIMES: u64 = 4;
/// How much the gate's own memory may grow from its second round on, in bytes.
const GROWTH: u64 = 16 << 20;
const MINUTES: u64 = 60;
const SAMPLE: Duration = Duration::from_secs(60);

/// All rounds together.
#[derive(Default)]
struct Total {
    rounds: u64,
    /// Rows of [`KINDS`].
    played: BTreeSet<usize>,
    /// By rows of [`KINDS`].
    accounts: Vec<Account>,
    faults: Faults,
    signs: Signs,
    operations: Times,
    since_kill: Times,
    /// The longest operation in nanoseconds, and on which kind of channel.
    longest: (u64, &'static str),
    since_release: Times,
    control: Times,
    control_since: Times,
    wrong: Vec<String>,
    leaks: Vec<String>,
    memory: Option<u64>,
    growth: u64,
}

pub(crate) const GATE: Gate = Gate {
    name: "soak",
    about: "Under full load processes come, go, die and stop, on channels of every kind at once; then the account.",
    run,
};

fn run(plan: &crate::Plan) -> Result<Record> {
    let seed = plan.seed();
    let (length, how) = match (plan.sample, plan.minutes) {
        (true, _) => (SAMPLE, "--sample".to_owned()),
        (false, minutes) => {
            let minutes = minutes.unwrap_or(MINUTES);
            (Duration::from_secs(minutes * 60), format!("--minutes {minutes}"))
        }
    };
    let mut record = Record::new("soak", format!("cargo xtask prove soak {how} --seed {seed}"));
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let caught = cheats(&interrupted)?;
    let total = soak(length, seed, plan.only.as_deref(), &interrupted)?;
    for line in total.wrong.iter().chain(&total.leaks).take(40) {
        println!("{line}");
    }
    total.rows(&mut record);
    record.row(
        "a process that cheats: loses, doubles, tears, swaps, revives, litters, hoards, stays, fails",
        "this gate sees it",
        caught,
    );
    Ok(record)
}

/// The gate's check on itself: each cheat has a round, which has to go wrong in its way.
fn cheats(interrupted: &AtomicBool) -> Result<Outcome> {
    let cheats = [
        (Cheat::Lose, " lost"),
        (Cheat::Double, " doubled"),
        (Cheat::Tear, " torn"),
        (Cheat::Swap, " out of order"),
        (Cheat::Revive, " refused, yet delivered"),
        (Cheat::Litter, ".litter"),
        (Cheat::Hoard, " descriptors open"),
        (Cheat::Stay, " did not come to an end"),
        (Cheat::Fail, " ended by itself"),
    ];
    // One sender and one receiver: who gets what is out of order is sure to notice.
    let row = KINDS.iter().position(|kind| kind.name.starts_with("one to one")).context("one to one")?;
    let mut missed = Vec::new();
    for (cheat, word) in cheats {
        let plan = Plan {
            kinds: &[row],
            length: CHEATS_PATIENCE,
            patience: CHEATS_PATIENCE,
            seed: 1,
            cheat: Some(cheat),
        };
        let findings = round::play(&plan, |_| !interrupted.load(Ordering::Relaxed))?;
        if !findings.wrong.iter().chain(&findings.leaks).any(|line| line.contains(word)) {
            missed.push(format!("{cheat:?} ({:?})", findings.wrong));
        }
    }
    let found = cheats.len() - missed.len();
    Ok(Outcome::new(missed.is_empty(), format!("{found} of {} seen{}", cheats.len(), list(&missed))))
}

fn list(missed: &[String]) -> String {
    if missed.is_empty() { String::new() } else { format!(", not {}", missed.join(", ")) }
}

/// Rounds until the time is over or somebody presses Ctrl-C.
fn soak(length: Duration, seed: u64, only: Option<&str>, interrupted: &AtomicBool) -> Result<Total> {
    let mut random = Random::seeded(seed);
    let chosen: Vec<usize> =
        (0..KINDS.len()).filter(|row| only.is_none_or(|text| KINDS[*row].name.contains(text))).collect();
    ensure!(!chosen.is_empty(), "no kind of channel has {:?} in its name", only.unwrap_or_default());
    let mut total = Total { accounts: vec![Account::default(); KINDS.len()], ..Total::default() };
    let bar = bar(length);
    let start = Instant::now();
    let mut deck = Vec::new();
    while start.elapsed() + Duration::from_secs(1) < length && !interrupted.load(Ordering::Relaxed) {
        let hand = deal(&mut deck, &chosen, &mut random);
        let left = length.saturating_sub(start.elapsed());
        // Equal rounds, the last not shorter than the others.
        let rounds = (left.as_secs_f64() / ROUND.as_secs_f64()).round().max(1.0);
        let plan = Plan {
            kinds: &hand,
            length: left.div_f64(rounds).mul_f64(0.9),
            patience: PATIENCE,
            seed: random.next(),
            cheat: None,
        };
        let findings = round::play(&plan, |live| {
            bar.set_position((start.elapsed().as_secs()).min(length.as_secs()));
            bar.set_message(total.words(live));
            !interrupted.load(Ordering::Relaxed)
        })?;
        total.add(findings)?;
    }
    bar.finish_and_clear();
    Ok(total)
}

/// The next kinds, none twice; every kind has its turn before one comes again.
fn deal(deck: &mut Vec<usize>, chosen: &[usize], random: &mut Random) -> Vec<usize> {
    let mut hand = Vec::new();
    while hand.len() < CHANNELS.min(chosen.len()) {
        if deck.is_empty() {
            deck.extend_from_slice(chosen);
            random.shuffle(deck);
        }
        let at = deck.iter().rposition(|row| !hand.contains(row));
        match at {
            Some(at) => hand.push(deck.remove(at)),
            None => deck.clear(),
        }
    }
    hand
}

fn bar(length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:30} {eta} left  {msg}") {
        bar.set_style(style);
    }
    bar
}

impl Total {
    fn add(&mut self, findings: Findings) -> Result<()> {
        self.rounds += 1;
        for (row, account) in findings.accounts {
            self.accounts[row] += account;
            self.played.insert(row);
        }
        self.faults.add(&findings.faults);
        self.signs += findings.signs;
        self.operations += &findings.operations;
        self.longest = self.longest.max(findings.longest);
        self.since_kill += &findings.since_kill;
        self.since_release += &findings.since_release;
        self.control += &findings.control;
        self.control_since += &findings.control_since;
        for line in &findings.wrong {
            println!("round {}: {line}", self.rounds);
        }
        self.wrong.extend(findings.wrong);
        self.leaks.extend(findings.leaks);
        let memory = leaks::own_memory()?;
        self.growth = memory.saturating_sub(*self.memory.get_or_insert(memory));
        Ok(())
    }

    fn all(&self) -> Account {
        let mut all = Account::default();
        self.accounts.iter().for_each(|account| all += *account);
        all
    }

    /// How it goes, on a line.
    fn words(&self, live: &Live) -> String {
        let messages = self.all().sent + live.messages;
        let (faults, wrong) = (self.faults.total() + live.faults, self.wrong.len() + self.leaks.len());
        let stall = milliseconds(self.longest.0);
        format!(
            "round {}: {} messages, {} faults, {wrong} wrong, longest stall {stall}",
            self.rounds + 1,
            grouped(messages),
            grouped(faults)
        )
    }

    fn rows(&self, record: &mut Record) {
        let is_shared = |row: &usize| KINDS[*row].is_shared();
        let (shared, kernel): (Vec<usize>, Vec<usize>) = (0..KINDS.len()).partition(is_shared);
        for (fault, rows, promise) in [
            (
                "processes join, leave, die, stop, become other programs: `shm:`, `file:`, `memfd:`",
                shared,
                "nothing sent is lost, save what a killed receiver had taken",
            ),
            ("the same: `unix:`, `fifo:`", kernel, "nothing sent is lost, save with a killed receiver"),
        ] {
            let promise = format!("{promise}; nothing torn, doubled, out of order");
            if rows.iter().any(|row| self.played.contains(row)) {
                record.row(fault, &promise, self.outcome(&rows));
            }
        }
        record.row(
            "the same, seen by those that nothing happens to, with more processes than processors",
            &format!("no operation takes longer than {} s", STALL.as_secs()),
            Outcome::new(self.longest.0 < self.stall_max(), self.times()),
        );
        record.row(
            "a name is opened, removed and looked at, and its users are killed, all at the same time",
            "everybody finds a channel or an error that says why; no name, descriptor, process or memory is left",
            Outcome::new(
                self.leaks.is_empty() && self.growth < GROWTH,
                format!(
                    "{} opened, {} removed, {} looks; {} leaks in {} rounds",
                    grouped(self.signs.opened),
                    grouped(self.signs.removed),
                    grouped(self.signs.looks),
                    self.leaks.len() + usize::from(self.growth >= GROWTH),
                    self.rounds
                ),
            ),
        );
        record.row(
            "all of it",
            "no process fails, stands still or does not come to its end; every slot can be used again",
            Outcome::new(self.wrong.is_empty(), self.done()),
        );
    }

    fn outcome(&self, rows: &[usize]) -> Outcome {
        let mut sum = Account::default();
        rows.iter().for_each(|row| sum += self.accounts[*row]);
        let faults: Vec<String> =
            sum.faults().iter().map(|(fault, count)| format!("{} {fault}", grouped(*count))).collect();
        let figure = format!(
            "{} sent, {} received: {}; {} died with their receivers, {} came again and said so, {} sends cut short, {} refused",
            grouped(sum.sent),
            grouped(sum.received),
            faults.join(", "),
            grouped(sum.died),
            grouped(sum.redelivered),
            grouped(sum.cut_short),
            grouped(sum.refused),
        );
        Outcome::new(sum.holds() && sum.sent > 0, figure)
    }

    /// What was done, and what came of it.
    fn done(&self) -> String {
        format!(
            "{} processes killed ({} while they opened, {} after a stop, {} together with others), {} stopped and \
             continued, {} left in order, {} became other programs: {} faults found in {} rounds",
            grouped(self.faults.killed()),
            grouped(self.faults.of(Fault::KilledOpening)),
            grouped(self.faults.of(Fault::KilledStopped)),
            grouped(self.faults.of(Fault::KilledTogether)),
            grouped(self.faults.of(Fault::Stopped)),
            grouped(self.faults.of(Fault::Left)),
            grouped(self.signs.execs),
            self.wrong.len(),
            self.rounds,
        )
    }

    fn stall_max(&self) -> u64 {
        (STALL.as_nanos() as u64).max(self.control.quantile(1.0) * STALL_TIMES)
    }

    fn times(&self) -> String {
        let of = |times: &Times, part| milliseconds(times.quantile(part));
        format!(
            "{} operations: p99 {}, longest {} ({}); the first one after {} deaths: p99 {} and longest {} from the kernel's \
             release, p99 {} and longest {} from the kill; beside them, on the same processors and without a \
             channel, two threads that hand each other a word: p99 {}, longest {}; after a death p99 {}, longest {}",
            grouped(self.operations.count()),
            of(&self.operations, 0.99),
            milliseconds(self.longest.0),
            self.longest.1,
            grouped(self.since_release.count()),
            of(&self.since_release, 0.99),
            of(&self.since_release, 1.0),
            of(&self.since_kill, 0.99),
            of(&self.since_kill, 1.0),
            of(&self.control, 0.99),
            of(&self.control, 1.0),
            of(&self.control_since, 0.99),
            of(&self.control_since, 1.0),
        )
    }
}

fn milliseconds(ns: u64) -> String {
    match ns {
        0..100_000 => format!("{:.1} µs", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

/// 1234567 as 1,234,567.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_turn() {
        let mut random = Random::seeded(1);
        let chosen: Vec<usize> = (0..KINDS.len()).collect();
        let mut deck = Vec::new();
        let rounds = KINDS.len().div_ceil(CHANNELS);
        let mut seen: Vec<usize> = (0..rounds).flat_map(|_| deal(&mut deck, &chosen, &mut random)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, chosen);
        assert_eq!(deal(&mut Vec::new(), &[4], &mut random), [4]);
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!([0, 12, 1234, 1_234_567].map(grouped), ["0", "12", "1,234", "1,234,567"]);
        assert_eq!([1500, 2_500_000].map(milliseconds), ["1.5 µs", "2.5 ms"]);
    }
}
