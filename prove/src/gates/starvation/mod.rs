//! Everything runs out: memory, descriptors, address space, file size, places, endpoints, room.
//!
//! | file | what is there |
//! |---|---|
//! | here | the gate: series in processes of their own, and what came of them |
//! | `supply` | what runs out: how it is taken away and given back |
//! | `scene` | one channel, what was sent into it, and what else there is of it in the system |
//! | `operations` | what is tried while there is none |
//! | `series` | one operation at every level of one supply |
//! | `limits` | the supplies of the channel itself |
//!
//! A series runs in a process with a mount namespace and a `/dev/shm` of its own, so that only it starves. At level n
//! of a supply there are n units of it left: pages, descriptors, bytes.

mod limits;
mod operations;
mod scene;
mod series;
mod supply;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::Gate;
use crate::Plan;
use crate::record::{Outcome, Record};

use operations::{OPERATIONS, Operation};
use supply::Supply;

/// Tells a process of this program that it is one of a series.
const PART: &str = "NARROWS_PROVE_STARVATION";
/// A series that takes longer is stuck; seconds.
const BOUND_S: u32 = 120;

/// What came of one level.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    level: u64,
    /// The error, where the operation was refused.
    refused: Option<String>,
    /// What did not hold.
    broken: Vec<String>,
    /// Bytes that a refusal left reserved for the next growth.
    kept: u64,
}

/// All levels of one operation and one supply.
#[derive(Debug, Default)]
struct Tally {
    series: u64,
    done: u64,
    refused: u64,
    kept: u64,
    broken: Vec<String>,
}

pub(super) const GATE: Gate = Gate {
    name: "starvation",
    about: "Every supply of the system and of the channel runs out, at every moment of every operation.",
    run,
};

fn run(plan: &Plan) -> Result<Record> {
    let command =
        if plan.sample { "cargo xtask prove starvation --sample" } else { "cargo xtask prove starvation" };
    let mut record = Record::new("starvation", command);
    record.rows.push(planted()?);
    for supply in Supply::ALL {
        let mut tally = Tally::default();
        let wanted = |operation: &&Operation| {
            let name = format!("{} {}", supply.name(), operation.name);
            supply.concerns(operation) && plan.only.as_ref().is_none_or(|only| name.contains(only))
        };
        let operations: Vec<&Operation> = OPERATIONS.iter().filter(wanted).collect();
        let bar = bar(supply.name(), operations.len());
        for operation in operations {
            bar.set_message(operation.name);
            tally.run(supply.name(), operation.name, plan.sample)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        if tally.series > 0 {
            record.row(supply.fault(), PROMISE, tally.outcome());
        }
    }
    for limit in limits::LIMITS {
        let name = format!("limits {}", limit.name);
        if plan.only.as_ref().is_none_or(|only| name.contains(only)) {
            let mut tally = Tally::default();
            tally.run("limits", limit.name, plan.sample)?;
            record.row(limit.fault, PROMISE, tally.outcome());
        }
    }
    Ok(record)
}

const PROMISE: &str = "done, or refused by an error that names the supply and the remedy; nothing leaked; work goes on when there is room";

/// The gate's check on itself: what is wrong on purpose is found.
fn planted() -> Result<crate::record::Row> {
    let mut missed = Vec::new();
    for plant in operations::PLANTS {
        let mut tally = Tally::default();
        tally.run("planted", plant.operation.name, true)?;
        if !tally.broken.iter().any(|broken| broken.contains(plant.found_by)) {
            missed.push(format!("{}: {:?}", plant.operation.name, tally.broken));
        }
    }
    let figure = format!("{} of {} found", operations::PLANTS.len() - missed.len(), operations::PLANTS.len());
    let mut record = Record::new("", "");
    let outcome = Outcome::new(missed.is_empty(), [vec![figure], missed].concat().join("; "));
    record.row("faults planted in the gate's own operations", "the gate finds each", outcome);
    record.rows.pop().context("the row that was just made")
}

fn bar(name: &'static str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:16} {wide_bar} {pos}/{len} {msg:24}");
    let bar = ProgressBar::new(length as u64).with_prefix(name);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

impl Tally {
    /// One series; where the process dies at a level, that level is broken and the series goes on behind it.
    fn run(&mut self, supply: &str, operation: &str, sample: bool) -> Result<()> {
        self.series += 1;
        let mut start = 0;
        loop {
            let part = Part { supply: supply.into(), operation: operation.into(), start, sample };
            let mut child = part.start()?;
            let mut begun = None;
            for line in BufReader::new(child.stdout.take().context("its standard output")?).lines() {
                match serde_json::from_str(&line?)? {
                    Said::Begun(level) => begun = Some(level),
                    Said::Trial(trial) => {
                        begun = None;
                        self.count(&part, trial);
                    }
                }
            }
            let status = child.wait()?;
            match begun {
                Some(level) => {
                    self.broken.push(format!("{} died: {status}", part.at(level)));
                    start = level + 1;
                }
                None if status.success() => return Ok(()),
                None => {
                    self.broken.push(format!("{} cannot be tried: {status}", part.at(start)));
                    return Ok(());
                }
            }
            if self.broken.len() > 20 {
                return Ok(());
            }
        }
    }

    fn count(&mut self, part: &Part, trial: Trial) {
        match trial.refused {
            Some(_) => self.refused += 1,
            None => self.done += 1,
        }
        self.kept = self.kept.max(trial.kept);
        self.broken
            .extend(trial.broken.into_iter().map(|broken| format!("{}: {broken}", part.at(trial.level))));
    }

    fn outcome(&self) -> Outcome {
        let Self { series, done, refused, kept, broken } = self;
        broken.iter().for_each(|broken| eprintln!("{broken}"));
        let mut figure = format!(
            "{series} operations, {} trials: {refused} refused, {done} done; {} broken",
            done + refused,
            broken.len()
        );
        if *kept > 0 {
            figure += &format!("; at most {} KiB kept for the next growth", kept / 1024);
        }
        if let Some(first) = broken.first() {
            figure += &format!(" (first: {first})");
        }
        Outcome::new(broken.is_empty() && done + refused > 0, figure)
    }
}

/// What a process of a series does.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    supply: String,
    operation: String,
    /// The first level.
    start: u64,
    sample: bool,
}

/// What it says, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Begun(u64),
    Trial(Trial),
}

impl Part {
    fn start(&self) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(PART, serde_json::to_string(self)?).stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// What repeats a level, for a person.
    fn at(&self, level: u64) -> String {
        format!("--only '{} {}' at level {level}", self.supply, self.operation)
    }
}

/// Plays the part of one series, if this process was started for that.
pub(crate) fn play_if_asked() -> Option<ExitCode> {
    let part: Part = serde_json::from_str(&std::env::var(PART).ok()?).ok()?;
    let played = series::run(&part);
    Some(played.map_or_else(
        |error| {
            eprintln!("{}: {error:#}", part.at(part.start));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    ))
}
