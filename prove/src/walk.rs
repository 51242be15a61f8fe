//! A list of cases, walked by several processes: one a processor, each with one thread, so that it may fork.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::stage::Settled;
use crate::tracer::Victim;

/// Makes a process a walker: its number, and how many there are.
const SHARD: &str = "NARROWS_PROVE_SHARD";

/// What came of one case.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) case: String,
    /// Different places, by what the gate calls one.
    pub(crate) places: u64,
    /// How often something was done to a process.
    pub(crate) strikes: u64,
    /// How often the way did not lead past the place.
    pub(crate) missed: u64,
    /// The longest operation of a survivor after each strike, in µs.
    pub(crate) longest_us: Vec<u32>,
    /// From SIGKILL until the kernel had let go, in µs.
    pub(crate) release_us: Vec<u32>,
    /// What else was counted, by its name.
    #[serde(default)]
    pub(crate) counts: BTreeMap<String, u64>,
    /// What did not hold: what repeats it, and what was seen.
    pub(crate) faults: Vec<(String, String)>,
}

impl Found {
    /// SIGKILL, and how long the kernel takes to let go.
    pub(crate) fn kill(&mut self, victim: Victim) {
        let start = Instant::now();
        victim.kill();
        self.release_us.push(start.elapsed().as_micros() as u32);
    }

    /// How long the survivors' longest operation took.
    pub(crate) fn note(&mut self, settled: Settled) -> usize {
        self.longest_us.push(settled.longest.as_micros() as u32);
        settled.progress
    }

    pub(crate) fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }
}

/// Whether this process walks for another, which reads what it prints.
pub(crate) fn is_walker() -> bool {
    std::env::var_os(SHARD).is_some()
}

/// Walks all cases, each by `work` in one of several processes.
///
/// # Errors
/// Where a walker fails, as opposed to what it walks.
pub(crate) fn walk(
    plan: &Plan,
    gate: &str,
    cases: &[String],
    work: impl Fn(&str) -> Result<Found>,
) -> Result<Vec<Found>> {
    if let Ok(shard) = std::env::var(SHARD) {
        be_walker(&shard, cases, work)?;
        std::process::exit(0);
    }
    let processors = narrows::sys::cpus().len();
    let (sender, lines) = mpsc::channel();
    let mut walkers = Vec::new();
    for number in 0..processors {
        let mut child = start(plan, gate, &format!("{number}/{processors}"))?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let sender = sender.clone();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
        });
        walkers.push(child);
    }
    drop(sender);
    let found = collect(lines, cases.len());
    for mut walker in walkers {
        if found.is_err() {
            let _ = walker.kill();
        }
        let status = walker.wait()?;
        if found.is_ok() && !status.success() {
            bail!("a walker ended with {status}");
        }
    }
    found
}

fn collect(lines: mpsc::Receiver<String>, cases: usize) -> Result<Vec<Found>> {
    let style = "{elapsed_precise} {wide_bar} {pos}/{len} cases, {msg}";
    let bar = ProgressBar::new(cases as u64).with_style(ProgressStyle::with_template(style)?);
    let mut found: Vec<Found> = Vec::new();
    let (mut strikes, mut faults) = (0, 0);
    for line in lines {
        let result: Found = serde_json::from_str(&line).with_context(|| format!("a walker said {line:?}"))?;
        strikes += result.strikes;
        for (place, fault) in result.faults.iter().take(3) {
            bar.suspend(|| println!("FAILED {place}: {fault}"));
        }
        faults += result.faults.len();
        found.push(result);
        bar.set_message(format!("{strikes} strikes, {faults} faults"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(found)
}

fn start(plan: &Plan, gate: &str, shard: &str) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(gate).env(SHARD, shard).stdin(Stdio::null()).stdout(Stdio::piped());
    if plan.sample {
        command.arg("--sample");
    }
    command.args(["--seed", &plan.seed().to_string()]);
    if let Some(only) = &plan.only {
        command.args(["--only", only]);
    }
    command.spawn().context("a walker")
}

/// Walks every n-th case on a processor of its own: with its victims there, a switch needs no other processor.
fn be_walker(shard: &str, cases: &[String], work: impl Fn(&str) -> Result<Found>) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let (number, count) = shard.split_once('/').context("a shard is number/count")?;
    let (number, count): (usize, usize) = (number.parse()?, count.parse()?);
    narrows::sys::pin_to_cpu(narrows::sys::cpus()[number])?;
    for case in cases.iter().skip(number).step_by(count) {
        let found = work(case).unwrap_or_else(|error| Found {
            faults: vec![(case.clone(), format!("{error:#}"))],
            ..Found::default()
        });
        println!("{}", serde_json::to_string(&Found { case: case.clone(), ..found })?);
    }
    Ok(())
}
