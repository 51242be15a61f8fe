//! Repeats a case, each repetition between two looks at the floor.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::conductor::{Conductor, Stage};
use crate::player::Report;
use crate::result::{Distance, Repetition};
use crate::scenario::{Act, BATCH, Case, Wait};
use crate::scheme::Scheme;

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Repetitions that count.
    pub runs: usize,
    /// How long one repetition takes, about.
    pub budget: Duration,
    /// Round trips of the floor around each repetition.
    pub floor_rounds: u64,
}

impl Effort {
    /// What published figures are measured with.
    pub const FULL: Self = Self { runs: 5, budget: Duration::from_millis(100), floor_rounds: 20_000 };
    /// A first look.
    pub const QUICK: Self = Self { runs: 3, budget: Duration::from_millis(40), floor_rounds: 5_000 };
}

/// The most messages of one repetition: bounds the memory of a ping-pong's samples.
const COUNT_MAX: u64 = 1 << 27;
const PINGS_MAX: u64 = 1 << 20;
/// The most attempts at one repetition.
const TRIES: usize = 20;
/// What a spinning player must have had of its core for a repetition to count at once.
const CALM: f64 = 0.97;
/// Before how many of the messages a sleeping player must have slept.
const ASLEEP: f64 = 0.8;

/// A case that is set up: its players sit and wait for the next repetition.
pub struct Measurement<'a> {
    conductor: Conductor<'a>,
    case: Case,
    effort: Effort,
    count: u64,
}

impl<'a> Measurement<'a> {
    /// Starts the players, warms them up, and finds how many messages fill the budget.
    ///
    /// # Errors
    /// What a player reports, or that one died or is stuck.
    pub fn start(scheme: &'a dyn Scheme, case: Case, stage: &Stage, effort: Effort) -> Result<Self> {
        let conductor = Conductor::start(scheme, case, stage)?;
        let mut measurement = Self { conductor, case, effort, count: unit(&case) };
        match case.scenario.act {
            Act::Idle => measurement.count = 10 * effort.budget.as_millis() as u64,
            _ => measurement.calibrate()?,
        }
        Ok(measurement)
    }

    fn calibrate(&mut self) -> Result<()> {
        let unit = unit(&self.case);
        let most = if self.case.scenario.act == Act::Stream { COUNT_MAX } else { PINGS_MAX };
        let budget_ns = self.effort.budget.as_nanos() as f64;
        loop {
            let reports = self.run()?;
            let elapsed_ns = elapsed_ns(&self.case, &reports).max(1.0);
            let is_enough = elapsed_ns * 4.0 >= budget_ns;
            let factor = (budget_ns / elapsed_ns).clamp(0.1, 16.0);
            let count = ((self.count as f64 * factor) as u64).clamp(unit, most);
            self.count = count.next_multiple_of(unit);
            if is_enough || count >= most {
                return Ok(());
            }
        }
    }

    fn run(&mut self) -> Result<Vec<Report>> {
        let warm_up = (self.count / 8).next_multiple_of(unit(&self.case));
        self.conductor.run(warm_up, self.count)
    }

    /// One repetition; tried again where the distance changed meanwhile, or other work disturbed the players.
    ///
    /// # Errors
    /// As [`start`](Self::start), and where the distance never stays for as long as a repetition.
    pub fn repeat(&mut self) -> Result<Repetition> {
        let mut best: Option<(f64, Repetition)> = None;
        let enough = if self.case.wait == Some(Wait::Sleep) { ASLEEP } else { CALM };
        for _ in 0..TRIES {
            let before = self.conductor.floor(self.effort.floor_rounds)?;
            let reports = self.run()?;
            let after = self.conductor.floor(self.effort.floor_rounds)?;
            if before.map(Distance::of) != after.map(Distance::of) {
                continue;
            }
            let floor_ns = before.zip(after).map(|(before, after)| (before + after) / 2.0);
            let (calm, repetition) = (self.calm(&reports), self.repetition(floor_ns, &reports));
            if calm >= enough {
                return Ok(repetition);
            }
            if best.as_ref().is_none_or(|(calmest, _)| calm > *calmest) {
                best = Some((calm, repetition));
            }
        }
        let (calm, repetition) = best.with_context(|| {
            format!("the distance between the cores changed during each of {TRIES} repetitions: is the machine busy?")
        })?;
        match self.case.wait {
            Some(Wait::Sleep) => bail!("the players slept before {:.0} % of the messages only", calm * 100.0),
            _ => Ok(repetition),
        }
    }

    /// How much of what it should have had a player had, at least: of a spinning one its core, of a sleeping one
    /// its sleep before each message.
    fn calm(&self, reports: &[Report]) -> f64 {
        let share = |report: &Report| match (self.case.wait, self.case.scenario.act) {
            (Some(Wait::Sleep), Act::PingPong) => report.sleeps as f64 / report.messages.max(1) as f64,
            (Some(Wait::Spin), _) if reports.len() == 2 => {
                report.cpu_ns as f64 / report.elapsed_ns.max(1) as f64
            }
            _ => 1.0,
        };
        reports.iter().map(share).fold(1.0, f64::min)
    }

    fn repetition(&self, floor_ns: Option<f64>, reports: &[Report]) -> Repetition {
        let scenario = self.case.scenario;
        let lead = reports[lead(&self.case)];
        let percentiles_ns = reports.iter().find_map(|report| report.percentiles_ns);
        let cpu = |report: &Report| report.cpu_ns as f64 / report.messages.max(1) as f64;
        let receives = |role: usize| if scenario.act == Act::Idle { role == 0 } else { role == 1 };
        let of = |is_receiver: bool| {
            let side = reports.iter().enumerate().filter(|(role, _)| receives(*role) == is_receiver);
            let costs: Vec<f64> = side.map(|(_, report)| cpu(report)).collect();
            (!costs.is_empty()).then(|| costs.iter().sum::<f64>() / costs.len() as f64)
        };
        Repetition {
            distance: floor_ns.map(Distance::of),
            floor_ns,
            percentiles_ns,
            messages_per_s: percentiles_ns
                .is_none()
                .then(|| lead.messages as f64 * 1e9 / elapsed_ns(&self.case, reports).max(1.0)),
            sender_cpu_ns: of(false),
            receiver_cpu_ns: of(true),
        }
    }
}

/// Counts are multiples of this: whole batches, the same for each sender.
fn unit(case: &Case) -> u64 {
    (case.scenario.senders * BATCH) as u64
}

/// Whose clock counts: the receiver's of a stream, else role 0's.
fn lead(case: &Case) -> usize {
    usize::from(case.scenario.act == Act::Stream)
}

fn elapsed_ns(case: &Case, reports: &[Report]) -> f64 {
    reports.get(lead(case)).map_or(0.0, |report| report.elapsed_ns as f64)
}
