//! One of the processes of a measurement: it opens its ends and does what the conductor says.

mod acts;
mod idle;
mod meter;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::clock::Ticks;
use crate::floor::{Lines, Shared};
use crate::payload::{Sink, Source};
use crate::scenario::{Case, Wait};
use crate::scheme::Scheme;

pub(crate) use meter::{Meter, Report};

/// The variable that makes a process a player.
pub(crate) const JOB_VARIABLE: &str = "NARROWS_BENCH_JOB";

/// What each answer begins with: a test harness writes to the same output.
pub(crate) const MARK: &str = "player: ";

/// Memory that all players of a measurement share, in bytes: words, lines, rings. Sparse.
pub(crate) const SCRATCH_BYTES: usize = 160 << 20;
const ARRIVED_AT: usize = 0;
const PARTNER_AT: usize = 8;
const WORDS_AT: usize = 64;
const LINES_AT: usize = 4096;
/// Where a scheme's own use of the scratch begins.
pub(crate) const RINGS_AT: usize = 64 << 10;

/// Round trips before those that count, in the floor.
const FLOOR_WARM_UP: u64 = 256;

/// What a player is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) scheme: String,
    pub(crate) scenario: String,
    pub(crate) wait: Option<Wait>,
    pub(crate) size: usize,
    /// 0 sends (or pings), 1 receives (or pongs), more are further senders.
    pub(crate) role: usize,
    pub(crate) cpu: usize,
    /// Where the shared memory can be opened, `/proc/PID/fd/N`.
    pub(crate) scratch: String,
    /// The prefix of all names that this measurement makes.
    pub(crate) name: String,
    pub(crate) corrupt_at: Option<u64>,
}

/// What the conductor says, a line each.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Bounce a cache line so many times.
    Floor { rounds: u64 },
    /// Do the scenario's act so many times, after some that do not count.
    Run { warm_up: u64, count: u64 },
}

/// What a player answers, a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    Ready,
    Floor { p50_ns: f64 },
    Run(Report),
    Failed(String),
}

/// A process of a measurement, with its ends still to be opened.
pub struct Player {
    pub(crate) job: Job,
    pub(crate) case: Case,
    pub(crate) scratch: Shared,
    ticks: Ticks,
    floor_rounds: u64,
    runs: u64,
}

/// Whether this process was started as a player.
pub fn is_player() -> bool {
    std::env::var_os(JOB_VARIABLE).is_some()
}

/// Turns this process into a player if it was started as one; `false` otherwise. Every program that measures calls
/// this first.
///
/// # Errors
/// What ended the player's part.
pub fn play_if_asked(schemes: &[&dyn Scheme]) -> Result<bool> {
    let Ok(job) = std::env::var(JOB_VARIABLE) else { return Ok(false) };
    let played =
        serde_json::from_str(&job).context("the job is not readable").and_then(|job| play(job, schemes));
    if let Err(error) = &played {
        reply(&Reply::Failed(format!("{error:#}")))?;
    }
    played.map(|()| true)
}

/// Starts this program again as a player.
pub(crate) fn start(job: &Job, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
    std::process::Command::new(std::env::current_exe()?)
        .args(arguments)
        .env(JOB_VARIABLE, serde_json::to_string(job)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting a player")
}

fn play(job: Job, schemes: &[&dyn Scheme]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    narrows::sys::pin_to_cpu(job.cpu).with_context(|| format!("pinning to processor {}", job.cpu))?;
    let scheme = schemes
        .iter()
        .find(|scheme| scheme.name() == job.scheme)
        .context("the job names an unknown scheme")?;
    let is_asked =
        |case: &Case| case.scenario.name == job.scenario && case.wait == job.wait && case.size == job.size;
    let case = scheme.cases().into_iter().find(is_asked).context("the job names an unknown scenario")?;
    let scratch = map_scratch(&job, RINGS_AT)?;
    scheme.play(Player { job, case, scratch, ticks: Ticks::calibrated(), floor_rounds: 0, runs: 0 })
}

fn map_scratch(job: &Job, bytes: usize) -> Result<Shared> {
    let file =
        File::options().read(true).write(true).open(&job.scratch).context("the players' shared memory")?;
    Shared::map(&file, bytes).context("the players' shared memory")
}

fn reply(reply: &Reply) -> Result<()> {
    let line = format!("{MARK}{}\n", serde_json::to_string(reply)?);
    let mut out = stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

impl Player {
    /// 0 sends (or pings), 1 receives (or pongs), more are further senders.
    pub fn role(&self) -> usize {
        self.job.role
    }

    /// What is measured.
    pub fn case(&self) -> Case {
        self.case
    }

    /// A name for the channel of this number that no other measurement has. Channel 0 leads from role 0 to role 1.
    pub fn name(&self, channel: usize) -> String {
        format!("{}-{channel}", self.job.name)
    }

    /// The beginning of all of this measurement's [`name`](Self::name)s.
    pub fn measurement(&self) -> &str {
        &self.job.name
    }

    /// A word of shared memory for a scheme's own use, zero at first; there are 64.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < 64, "there are 64 words");
        self.scratch.word(WORDS_AT + 8 * index)
    }

    /// The players' shared memory, mapped for a scheme's own use: `bytes` from [`RINGS_AT`] on.
    pub(crate) fn map_scratch(&self, bytes: usize) -> Result<Shared> {
        map_scratch(&self.job, RINGS_AT + bytes)
    }

    fn source(&self) -> Source {
        let sender = if self.job.role == 1 { 0 } else { self.job.role };
        Source::new(self.case.size.max(8), sender).corrupt_at(self.job.corrupt_at)
    }

    fn sink(&self) -> Sink {
        Sink::new(self.case.size.max(8))
    }

    /// Does what the conductor says until it says no more.
    fn obey(&mut self, mut run: impl FnMut(&Self, u64, u64) -> Result<Report>) -> Result<()> {
        reply(&Reply::Ready)?;
        for line in stdin().lock().lines() {
            let done = match serde_json::from_str(&line?)? {
                Command::Floor { rounds } => Reply::Floor { p50_ns: self.floor(rounds)? },
                Command::Run { warm_up, count } => {
                    self.meet();
                    Reply::Run(run(self, warm_up, count)?)
                }
            };
            reply(&done)?;
        }
        Ok(())
    }

    /// Waits until all players are here, so that they begin together.
    fn meet(&mut self) {
        self.runs += 1;
        let all = self.runs * self.case.scenario.players() as u64;
        let arrived = self.scratch.word(ARRIVED_AT);
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < all {
            std::thread::yield_now();
        }
    }

    /// The cache-line floor of this moment between roles 0 and 1, one way.
    fn floor(&mut self, rounds: u64) -> Result<f64> {
        let lines = |writer| Lines::new(&self.scratch, LINES_AT, writer, true).after(self.floor_rounds);
        let role = self.job.role;
        let (mut mine, mut theirs) = (lines(role), lines(1 - role));
        let mut samples = Vec::with_capacity(rounds as usize);
        let (mut is_whole, mut before) = (true, Ticks::read());
        for round in 0..FLOOR_WARM_UP + rounds {
            let payload = [round; _];
            if role == 0 {
                mine.write(payload);
            }
            is_whole &= theirs.read() == payload;
            if role == 1 {
                mine.write(payload);
            }
            let after = Ticks::read();
            if round >= FLOOR_WARM_UP {
                samples.push(after.wrapping_sub(before));
            }
            before = after;
        }
        self.floor_rounds += FLOOR_WARM_UP + rounds;
        ensure!(is_whole, "the payload of a cache line is corrupted");
        match self.percentiles(&samples, 2.0) {
            [Some(p50_ns), ..] => Ok(p50_ns),
            _ => bail!("the floor needs at least one round"),
        }
    }

    /// p50, p99 and p99.9 of intervals, each divided by `share`; none where there are too few for it.
    fn percentiles(&self, samples: &[u64], share: f64) -> [Option<f64>; 3] {
        // Tenths of nanoseconds, three digits: finer than what is measured.
        let Ok(mut histogram) = hdrhistogram::Histogram::<u64>::new(3) else { return [None; 3] };
        for &sample in samples {
            // Cannot fail: a histogram made without bounds grows.
            let _ = histogram.record((self.ticks.ns(sample) / share * 10.0).round() as u64);
        }
        let enough = |least: usize, quantile| {
            (samples.len() >= least).then(|| histogram.value_at_quantile(quantile) as f64 / 10.0)
        };
        [enough(1, 0.5), enough(100, 0.99), enough(1000, 0.999)]
    }
}
