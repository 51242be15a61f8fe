//! The ratios that narrows is held to, each measured by repetitions of both sides in turn.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::progress;
use crate::conductor::Stage;
use crate::machine::Machine;
use crate::measure::{Effort, Measurement};
use crate::result::{Distance, Repetition, median, spread};
use crate::scenario::{Case, Wait};
use crate::scheme::Scheme;

/// One case of one scheme.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    scheme: &'static str,
    scenario: &'static str,
    wait: Option<Wait>,
    size: usize,
}

impl Probe {
    /// A case that the scheme lists.
    pub const fn new(scheme: &'static str, scenario: &'static str, wait: Option<Wait>, size: usize) -> Self {
        Self { scheme, scenario, wait, size }
    }

    /// A spinning case.
    pub const fn spin(scheme: &'static str, scenario: &'static str, size: usize) -> Self {
        Self::new(scheme, scenario, Some(Wait::Spin), size)
    }
}

/// What is divided by what.
#[derive(Debug, Clone, Copy)]
pub enum Ratio {
    /// p50 by the cache-line floor around the same repetition.
    ToLine(Probe),
    /// p99 by p50.
    Tail(Probe),
    /// p50 by p50.
    Latency(Probe, Probe),
    /// p99 by p99.
    Tails(Probe, Probe),
    /// Messages a second by messages a second.
    Rate(Probe, Probe),
    /// Time for a message by time for a message.
    Time(Probe, Probe),
    /// Messages a second, in millions.
    Millions(Probe),
    /// The receiver's processor time by the time that it slept, in per cent.
    Idle(Probe),
    /// p50 in milliseconds.
    Milliseconds(Probe),
}

/// A figure and what it must reach.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// What is measured, in words.
    pub figure: &'static str,
    /// The measurement.
    pub ratio: Ratio,
    /// What it must reach.
    pub limit: Limit,
}

/// A bound.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// Met by this or less.
    AtMost(f64),
    /// Met by this or more.
    AtLeast(f64),
}

impl Limit {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// The outcome of one goal, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Verdict {
    figure: &'static str,
    goal: String,
    unit: &'static str,
    measured: Option<f64>,
    spread: Option<f64>,
    /// The two figures behind a ratio: nanoseconds, or messages a second.
    ours: Option<f64>,
    theirs: Option<f64>,
    distance: Option<Distance>,
    runs: usize,
    is_met: bool,
    error: Option<String>,
}

const RING: Probe = Probe::spin("floor", "throughput_one_to_one_ring", 64);
const RING_BATCH: Probe = Probe::spin("floor", "throughput_one_to_one_ring_batch", 64);
const RING_ROOMY: Probe = Probe::spin("floor", "throughput_one_to_one_ring_roomy", 64);
const RING_ROOMY_BATCH: Probe = Probe::spin("floor", "throughput_one_to_one_ring_roomy_batch", 64);
const ROOMY_STREAM: Probe = Probe::spin("shm", "throughput_many_to_many_roomy", 48);
const SMALL: Probe = Probe::spin("shm", "latency_many_to_many", 48);
const SMALL_ONE: Probe = Probe::spin("shm", "latency_one_to_one", 48);
const RENDEZVOUS: Probe = Probe::spin("shm", "latency_many_to_many_rendezvous", 48);
const STREAM: Probe = Probe::spin("shm", "throughput_many_to_many", 48);
const IDLE: Probe = Probe::new("shm", "latency_many_to_many_death_notice", Some(Wait::Sleep), 0);
const FUTEX: Probe = Probe::new("floor", "latency_one_to_one_futex", Some(Wait::Sleep), 0);

/// The goals of narrows alone.
pub fn narrows() -> Vec<Goal> {
    use Limit::{AtLeast, AtMost};
    use Ratio::{Idle, Latency, Millions, Milliseconds, Rate, Tail, ToLine};
    let goal = |figure, ratio, limit| Goal { figure, ratio, limit };
    let sleeping = |scenario| Probe::new("shm", scenario, Some(Wait::Sleep), 48);
    let alone = |scheme, scenario| Probe::new(scheme, scenario, None, 0);
    let mut goals = vec![
        goal("latency 48 B, many to many, by a cache line's", ToLine(SMALL), AtMost(1.2)),
        goal("its p99 by its p50", Tail(SMALL), AtMost(1.5)),
        goal("rendezvous 48 B, until taken, by a cache line's", ToLine(RENDEZVOUS), AtMost(2.4)),
        goal("latency 48 B, one to one, by a cache line's", ToLine(SMALL_ONE), AtMost(1.2)),
        goal(
            "throughput 48 B, one to one, by the bare ring's",
            Rate(Probe::spin("shm", "throughput_one_to_one", 48), RING),
            AtLeast(0.65),
        ),
        goal(
            "the same in batches, by the bare ring's batches",
            Rate(Probe::spin("shm", "throughput_one_to_one_batch", 48), RING_BATCH),
            AtLeast(0.8),
        ),
        goal("throughput 48 B, many to many, by the bare ring's", Rate(STREAM, RING), AtLeast(0.23)),
        goal(
            "the same, one to one, both roomy",
            Rate(Probe::spin("shm", "throughput_one_to_one_roomy", 48), RING_ROOMY),
            AtLeast(0.65),
        ),
        goal(
            "the same in batches, both roomy",
            Rate(Probe::spin("shm", "throughput_one_to_one_roomy_batch", 48), RING_ROOMY_BATCH),
            AtLeast(0.8),
        ),
        goal("the same, many to many, both roomy", Rate(ROOMY_STREAM, RING_ROOMY), AtLeast(0.23)),
        goal("the same, millions a second", Millions(ROOMY_STREAM), AtLeast(35.0)),
        goal(
            "latency 1 MiB by reference, by that of 48 B",
            Latency(Probe::spin("shm", "latency_many_to_many_by_reference", 1 << 20), SMALL),
            AtMost(1.5),
        ),
    ];
    goals.extend(copied());
    goals.extend([
        goal(
            "wake-up, many to many, by a bare futex's",
            Latency(sleeping("latency_many_to_many"), FUTEX),
            AtMost(1.1),
        ),
        goal(
            "wake-up, one to one, by a bare futex's",
            Latency(sleeping("latency_one_to_one"), FUTEX),
            AtMost(1.1),
        ),
        goal("idle receiver, of a core", Idle(IDLE), AtMost(0.1)),
        goal("notice of the last sender's death", Milliseconds(IDLE), AtMost(250.0)),
        goal(
            "create, by the bare calls",
            Latency(alone("shm", "latency_many_to_many_create"), alone("floor", "latency_create")),
            AtMost(1.5),
        ),
        goal(
            "open, by the bare calls",
            Latency(alone("shm", "latency_many_to_many_open"), alone("floor", "latency_open")),
            AtMost(1.5),
        ),
    ]);
    goals
}

/// Copied in and out, by the copying floor ring.
fn copied() -> Vec<Goal> {
    const FIGURES: [(usize, f64, [&str; 2]); 5] = [
        (1 << 10, 1.4, ["1 KiB copied, time by the slot ring's", "the same, slots to fit"]),
        (4 << 10, 2.0, ["4 KiB copied, time by the slot ring's", "the same, slots to fit"]),
        (16 << 10, 1.2, ["16 KiB copied, time by the slot ring's", "the same, slots to fit"]),
        (64 << 10, 1.1, ["64 KiB copied, time by the slot ring's", "the same, slots to fit"]),
        (1 << 20, 1.1, ["1 MiB copied, time by the slot ring's", "the same, slots to fit"]),
    ];
    let goals = |(size, limit, [default, fitted]): (usize, f64, [&'static str; 2])| {
        let floor = Probe::spin("floor", "throughput_one_to_one_slot_ring", size);
        let time = |scenario| Ratio::Time(Probe::spin("shm", scenario, size), floor);
        [
            Goal { figure: default, ratio: time("throughput_many_to_many"), limit: Limit::AtMost(limit) },
            Goal { figure: fitted, ratio: time("throughput_one_to_one_fitted"), limit: Limit::AtMost(1.15) },
        ]
    };
    FIGURES.into_iter().flat_map(goals).collect()
}

impl Ratio {
    fn probes(self) -> (Probe, Option<Probe>) {
        match self {
            Self::ToLine(of)
            | Self::Tail(of)
            | Self::Millions(of)
            | Self::Idle(of)
            | Self::Milliseconds(of) => (of, None),
            Self::Latency(of, by) | Self::Tails(of, by) | Self::Rate(of, by) | Self::Time(of, by) => {
                (of, Some(by))
            }
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Millions(_) => "M/s",
            Self::Idle(_) => "%",
            Self::Milliseconds(_) => "ms",
            _ => "x",
        }
    }

    /// The two figures, and the one that the limit is about.
    fn value(self, of: &Repetition, by: &Repetition) -> Option<(f64, Option<f64>, f64)> {
        let p50 = |one: &Repetition| one.percentiles_ns.and_then(|[p50, ..]| p50);
        let p99 = |one: &Repetition| one.percentiles_ns.and_then(|[_, p99, _]| p99);
        let divided = |ours: f64, theirs: f64| (ours, Some(theirs), ours / theirs);
        Some(match self {
            Self::ToLine(_) => divided(p50(of)?, of.floor_ns?),
            Self::Tail(_) => divided(p99(of)?, p50(of)?),
            Self::Latency(..) => divided(p50(of)?, p50(by)?),
            Self::Tails(..) => divided(p99(of)?, p99(by)?),
            Self::Rate(..) => divided(of.messages_per_s?, by.messages_per_s?),
            Self::Time(..) => divided(1e9 / of.messages_per_s?, 1e9 / by.messages_per_s?),
            Self::Millions(_) => (of.messages_per_s?, None, of.messages_per_s? / 1e6),
            Self::Idle(_) => (of.receiver_cpu_ns?, None, of.receiver_cpu_ns? / 1e7),
            Self::Milliseconds(_) => (p50(of)?, None, p50(of)? / 1e6),
        })
    }
}

/// Measures the goals and prints a verdict for each; fails where one is missed.
pub(crate) fn run(
    goals: &[Goal],
    schemes: &[&dyn Scheme],
    stage: &Stage,
    effort: Effort,
    json: bool,
) -> Result<ExitCode> {
    let progress = progress(goals.len() as u64);
    let mut is_met = true;
    if !json {
        progress.suspend(|| writeln!(io::stdout(), "{}\n{}", Machine::this(), head()))?;
    }
    for goal in goals {
        progress.set_message(goal.figure);
        let verdict = judge(goal, schemes, stage, effort);
        is_met &= verdict.is_met;
        let line = if json { serde_json::to_string(&verdict)? } else { row(&verdict) };
        progress.suspend(|| writeln!(io::stdout(), "{line}"))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(goal: &Goal, schemes: &[&dyn Scheme], stage: &Stage, effort: Effort) -> Verdict {
    let (word, limit) = match goal.limit {
        Limit::AtMost(limit) => ("<=", limit),
        Limit::AtLeast(limit) => (">=", limit),
    };
    let mut verdict = Verdict {
        figure: goal.figure,
        goal: format!("{word} {limit}"),
        unit: goal.ratio.unit(),
        measured: None,
        spread: None,
        ours: None,
        theirs: None,
        distance: None,
        runs: 0,
        is_met: false,
        error: None,
    };
    match pairs(goal.ratio, schemes, stage, effort) {
        Ok((distance, pairs)) => {
            let values: Vec<f64> = pairs.iter().map(|(_, _, value)| *value).collect();
            verdict.measured = median(values.clone());
            verdict.spread = spread(values);
            verdict.ours = median(pairs.iter().map(|(ours, _, _)| *ours).collect());
            verdict.theirs = median(pairs.iter().filter_map(|(_, theirs, _)| *theirs).collect());
            verdict.distance = distance;
            verdict.runs = pairs.len();
            verdict.is_met = verdict.measured.is_some_and(|value| goal.limit.is_met(value));
        }
        Err(error) => verdict.error = Some(format!("{error:#}")),
    }
    verdict
}

type Pairs = Vec<(f64, Option<f64>, f64)>;

/// Repeats both sides in turn until one distance has enough pairs.
fn pairs(
    ratio: Ratio,
    schemes: &[&dyn Scheme],
    stage: &Stage,
    effort: Effort,
) -> Result<(Option<Distance>, Pairs)> {
    let start = |probe: Probe| -> Result<Measurement<'_>> {
        let (scheme, case) = find(probe, schemes)?;
        Measurement::start(scheme, case, stage, effort)
    };
    let (of, by) = ratio.probes();
    let mut of = start(of)?;
    let mut by = by.map(start).transpose()?;
    let mut all: Vec<(Option<Distance>, Pairs)> = Vec::new();
    for _ in 0..effort.runs * 4 {
        let ours = of.repeat()?;
        let theirs = by.as_mut().map_or(Ok(ours), Measurement::repeat)?;
        if ours.distance != theirs.distance {
            continue;
        }
        let value = ratio.value(&ours, &theirs).context("a repetition without the figure")?;
        let at = match all.iter().position(|(distance, _)| *distance == ours.distance) {
            Some(at) => at,
            None => {
                all.push((ours.distance, Pairs::new()));
                all.len() - 1
            }
        };
        all[at].1.push(value);
        if all[at].1.len() == effort.runs {
            return Ok(all.swap_remove(at));
        }
    }
    bail!("the cores' distance kept changing")
}

fn find<'a>(probe: Probe, schemes: &[&'a dyn Scheme]) -> Result<(&'a dyn Scheme, Case)> {
    let scheme = schemes.iter().find(|scheme| scheme.name() == probe.scheme);
    let scheme = *scheme.with_context(|| format!("no scheme {}", probe.scheme))?;
    let is_asked = |case: &Case| {
        case.scenario.name == probe.scenario && case.wait == probe.wait && case.size == probe.size
    };
    let case = scheme.cases().into_iter().find(is_asked);
    Ok((scheme, case.with_context(|| format!("{} has no such case: {probe:?}", probe.scheme))?))
}

fn head() -> String {
    format!(
        "{:<50} {:>9} {:>10} {:>7} {:>6} {:>10} {:>10} {:>5}  {}",
        "figure", "goal", "measured", "spread", "", "ours", "theirs", "dist", "runs"
    )
}

fn row(verdict: &Verdict) -> String {
    if let Some(error) = &verdict.error {
        return format!("{:<50} {:>9} not measured: {error}", verdict.figure, verdict.goal);
    }
    let is_rate = verdict.ours.is_some_and(|ours| ours >= 1e6) && verdict.unit != "%" && verdict.unit != "ms";
    let figure = |value: Option<f64>| match value {
        Some(value) if is_rate => crate::table::quantity(value, "/s"),
        Some(value) => crate::table::duration(value),
        None => "-".to_owned(),
    };
    format!(
        "{:<50} {:>9} {:>10} {:>7} {:>6} {:>10} {:>10} {:>5}  {}",
        verdict.figure,
        verdict.goal,
        verdict.measured.map_or("-".to_owned(), |value| format!("{value:.3} {}", verdict.unit)),
        verdict.spread.map_or("-".to_owned(), |spread| format!("{:.0} %", spread * 100.0)),
        if verdict.is_met { "met" } else { "MISSED" },
        figure(verdict.ours),
        figure(verdict.theirs),
        verdict.distance.map_or("-", Distance::name),
        verdict.runs
    )
}
