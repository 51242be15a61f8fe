//! A list of cases, walked by several processes: one a processor, and some more for what mostly sleeps; each with one
//! thread, so that it may fork.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::stage::Settled;
use crate::tracer::Victim;

/// Makes a process a walker on that processor.
const WALKER: &str = "NARROWS_PROVE_WALKER";
/// So many more a processor walk what mostly sleeps.
const BESIDE: usize = 6;

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

/// Whether this process walks for another, which says what and reads what it prints.
pub(crate) fn is_walker() -> bool {
    std::env::var_os(WALKER).is_some()
}

/// Something to walk.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Whether most of its time is spent asleep.
    pub(crate) sleeps: bool,
}

/// What is still to be walked.
struct Queue {
    busy: VecDeque<String>,
    asleep: VecDeque<String>,
}

impl Queue {
    fn of(cases: &[Case]) -> Self {
        let named = |sleeps| {
            cases.iter().filter(|case| case.sleeps == sleeps).map(|case| case.name.clone()).collect()
        };
        Self { busy: named(false), asleep: named(true) }
    }

    /// The next case. One walker a processor takes all kinds; those beside it only what sleeps.
    fn next(&mut self, is_beside: bool) -> Option<String> {
        let busy = if is_beside { None } else { self.busy.pop_front() };
        busy.or_else(|| self.asleep.pop_front())
    }
}

/// Walks all cases, each by `work` in one of several processes.
///
/// # Errors
/// Where a walker fails, as opposed to what it walks.
pub(crate) fn walk(
    plan: &Plan,
    gate: &str,
    cases: &[Case],
    work: impl Fn(&str) -> Result<Found>,
) -> Result<Vec<Found>> {
    if let Ok(processor) = std::env::var(WALKER) {
        be_walker(processor.parse()?, work)?;
        std::process::exit(0);
    }
    let processors = narrows::sys::cpus().len();
    let sleepers = cases.iter().filter(|case| case.sleeps).count().min(processors * BESIDE);
    let queue = Arc::new(Mutex::new(Queue::of(cases)));
    let (sender, found) = mpsc::channel();
    for number in 0..processors + sleepers {
        let walker = start(plan, gate, number % processors)?;
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        std::thread::spawn(move || {
            if let Err(error) = lead(walker, &queue, number >= processors, &sender) {
                drop(sender.send(Err(error)));
            }
        });
    }
    drop(sender);
    collect(&found, cases.len())
}

/// Gives a walker one case after the other, and passes on what it found.
fn lead(
    mut walker: Child,
    queue: &Mutex<Queue>,
    is_beside: bool,
    found: &mpsc::Sender<Result<Found>>,
) -> Result<()> {
    let mut orders = walker.stdin.take().context("its input")?;
    let mut lines = BufReader::new(walker.stdout.take().context("its output")?).lines();
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next(is_beside);
    while let Some(case) = next() {
        writeln!(orders, "{case}")?;
        let Some(line) = lines.next().transpose()? else {
            bail!("a walker ended with {} on {case}", walker.wait()?);
        };
        let result = serde_json::from_str(&line).with_context(|| format!("a walker said {line:?}"));
        found.send(result).ok();
    }
    drop(orders);
    let status = walker.wait()?;
    ensure!(status.success(), "a walker ended with {status}");
    Ok(())
}

fn collect(results: &mpsc::Receiver<Result<Found>>, cases: usize) -> Result<Vec<Found>> {
    let style = "{elapsed_precise} {wide_bar} {pos}/{len} cases, {msg}";
    let bar = ProgressBar::new(cases as u64).with_style(ProgressStyle::with_template(style)?);
    let mut found: Vec<Found> = Vec::new();
    let (mut strikes, mut faults) = (0, 0);
    for result in results {
        let result = result?;
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

fn start(plan: &Plan, gate: &str, processor: usize) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(gate).env(WALKER, processor.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    if plan.sample {
        command.arg("--sample");
    }
    command.args(["--seed", &plan.seed().to_string()]);
    if let Some(only) = &plan.only {
        command.args(["--only", only]);
    }
    command.spawn().context("a walker")
}

/// Walks what it is told to on one processor: with its victims there, a switch needs no other processor.
fn be_walker(processor: usize, work: impl Fn(&str) -> Result<Found>) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    narrows::sys::pin_to_cpu(narrows::sys::cpus()[processor])?;
    for case in std::io::stdin().lines() {
        let case = case?;
        let found = work(&case).unwrap_or_else(|error| Found {
            faults: vec![(case.clone(), format!("{error:#}"))],
            ..Found::default()
        });
        println!("{}", serde_json::to_string(&Found { case, ..found })?);
    }
    Ok(())
}
