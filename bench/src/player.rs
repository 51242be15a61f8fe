//! One of the processes of a measurement: it opens its ends and does what the conductor says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use narrows::Deadline;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::clock::{self, Ticks};
use crate::floor::{Lines, Shared};
use crate::machine;
use crate::payload::{Sink, Source};
use crate::scenario::{BATCH, By, Case, Wait};
use crate::scheme::{Rx, Scheme, Tx};

/// The variable that makes a process a player.
pub(crate) const JOB_VARIABLE: &str = "NARROWS_BENCH_JOB";

/// What each answer begins with: a test harness writes to the same output.
pub(crate) const MARK: &str = "player: ";

/// Memory that all players of a measurement share, in bytes: words, lines, rings. Sparse.
pub(crate) const SCRATCH_BYTES: usize = 160 << 20;
const ARRIVED_AT: usize = 0;
const WORDS_AT: usize = 64;
const LINES_AT: usize = 4096;
/// Where a scheme's own use of the scratch begins.
pub(crate) const RINGS_AT: usize = 64 << 10;

/// How long a receiver is given to be asleep before its sender is killed.
const FALL_ASLEEP: Duration = Duration::from_millis(50);
/// The longest wait for the notice of a death.
const NOTICE_PATIENCE: Duration = Duration::from_secs(10);

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

/// One player's account of one run.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) messages: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    /// How often this process went to sleep.
    pub(crate) sleeps: u64,
    pub(crate) percentiles_ns: Option<[Option<f64>; 3]>,
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
    machine::pin(job.cpu)?;
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

    /// Role 0 of a ping-pong: `tx` leads to role 1, `rx` comes from it.
    ///
    /// # Errors
    /// What an end reports, or the check of a payload.
    pub fn ping(mut self, mut tx: impl Tx, mut rx: impl Rx) -> Result<()> {
        let (mut source, mut sink) = (self.source(), self.sink());
        self.obey(|player, warm_up, count| {
            let mut samples = Vec::with_capacity(count as usize);
            for _ in 0..warm_up {
                tx.send(&mut source)?;
                rx.recv(&mut sink)?;
            }
            let meter = Meter::start()?;
            let mut before = Ticks::read();
            for _ in 0..count {
                tx.send(&mut source)?;
                rx.recv(&mut sink)?;
                let after = Ticks::read();
                samples.push(after.wrapping_sub(before));
                before = after;
            }
            Ok(Report { percentiles_ns: Some(player.percentiles(&samples, 2.0)), ..meter.stop(count)? })
        })
    }

    /// Role 1 of a ping-pong.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn pong(mut self, mut tx: impl Tx, mut rx: impl Rx) -> Result<()> {
        let (mut source, mut sink) = (self.source(), self.sink());
        self.obey(|_, warm_up, count| {
            let mut meter = Meter::start()?;
            for round in 0..warm_up + count {
                if round == warm_up {
                    meter = Meter::start()?;
                }
                rx.recv(&mut sink)?;
                tx.send(&mut source)?;
            }
            meter.stop(count)
        })
    }

    /// A sender of a stream.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn stream_out(mut self, mut tx: impl Tx) -> Result<()> {
        let mut source = self.source();
        let senders = self.case.scenario.senders as u64;
        let is_batch = self.case.scenario.by == By::Batch;
        self.obey(|_, warm_up, count| {
            let mut send = |messages: u64| -> Result<()> {
                if is_batch {
                    (0..messages / BATCH as u64).try_for_each(|_| tx.send_batch(&mut source))
                } else {
                    (0..messages).try_for_each(|_| tx.send(&mut source))
                }
            };
            send(warm_up / senders)?;
            let meter = Meter::start()?;
            send(count / senders)?;
            meter.stop(count / senders)
        })
    }

    /// The receiver of a stream: the rate is measured here, from a message in mid-stream to the last one.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn stream_in(mut self, mut rx: impl Rx) -> Result<()> {
        let mut sink = self.sink();
        let is_batch = self.case.scenario.by == By::Batch;
        self.obey(|_, warm_up, count| {
            let mut receive = |messages: u64| -> Result<u64> {
                let mut received = 0;
                while received < messages {
                    received += if is_batch {
                        rx.recv_batch(&mut sink)? as u64
                    } else {
                        rx.recv(&mut sink).map(|()| 1)?
                    };
                }
                Ok(received)
            };
            let early = receive(warm_up)?;
            let meter = Meter::start()?;
            let counted = receive(warm_up + count - early)?;
            meter.stop(counted)
        })
    }

    /// The only process of a measurement: repeats `act`, which gives how many clock ticks of it count.
    ///
    /// # Errors
    /// What `act` reports.
    pub fn alone(mut self, mut act: impl FnMut() -> Result<u64>) -> Result<()> {
        self.obey(|player, warm_up, count| {
            for _ in 0..warm_up {
                act()?;
            }
            let meter = Meter::start()?;
            let samples = (0..count).map(|_| act()).collect::<Result<Vec<u64>>>()?;
            let mut report = meter.stop(count)?;
            report.percentiles_ns = Some(player.percentiles(&samples, 1.0));
            report.elapsed_ns = samples.iter().map(|ticks| player.ticks.ns(*ticks) as u64).sum();
            Ok(report)
        })
    }

    /// Role 1 of [`Act::Idle`]: starts a sender, sleeps while it sends nothing, then has it killed. `recv` tells
    /// whether the end came before its deadline. The interval is from the kill to the notice; the processor time is
    /// that of one second of sleep.
    ///
    /// # Errors
    /// What `recv` reports, and an end at the wrong time.
    pub(crate) fn idle(mut self, mut recv: impl FnMut(Deadline) -> Result<bool>) -> Result<()> {
        self.obey(|player, _, sleep_ms| {
            let mut victim = player.start_victim()?;
            let meter = Meter::start()?;
            ensure!(
                !recv(Duration::from_millis(sleep_ms).into())?,
                "the channel ended while its sender lives"
            );
            let asleep = meter.stop(1)?;
            // At no fixed moment between two of the receiver's own rounds.
            let kill_after = FALL_ASLEEP + Duration::from_millis(player.runs * 37 % 100);
            let killer = std::thread::spawn(move || {
                std::thread::sleep(kill_after);
                let killed_ns = clock::now_ns();
                victim.kill().and_then(|()| victim.wait()).map(|_| killed_ns)
            });
            let is_over = recv(NOTICE_PATIENCE.into())?;
            let noticed_ns = clock::now_ns();
            let killed_ns = killer.join().map_err(|_| anyhow!("the killer panicked"))??;
            ensure!(is_over, "a sender's death was not noticed within {} s", NOTICE_PATIENCE.as_secs());
            let notice_ns = noticed_ns.saturating_sub(killed_ns);
            let cpu_ns = asleep.cpu_ns * 1_000_000_000 / asleep.elapsed_ns.max(1);
            let percentiles_ns = Some([Some(notice_ns as f64), None, None]);
            Ok(Report { cpu_ns, percentiles_ns, ..asleep })
        })
    }

    /// The sender that [`idle`](Self::idle) kills, when it is ready.
    fn start_victim(&self) -> Result<Child> {
        let job = Job { role: 0, cpu: self.job.cpu, ..self.job.clone() };
        let mut victim = start(&job, std::env::args_os().skip(1))?;
        let out = victim.stdout.take().context("the sender's output")?;
        let is_ready = |line: &str| line.ends_with("player: \"Ready\"");
        match BufReader::new(out).lines().map_while(Result::ok).find(|line| is_ready(line)) {
            Some(_) => Ok(victim),
            None => bail!("the sender to be killed ended early: {}", victim.wait()?),
        }
    }

    /// A player who only has to be there.
    ///
    /// # Errors
    /// Where the conductor is gone.
    pub(crate) fn stand_by(mut self) -> Result<()> {
        self.obey(|_, _, _| Ok(Report::default()))
    }

    /// A player whose act is not one of those above.
    ///
    /// # Errors
    /// What `act` reports.
    pub(crate) fn other(mut self, mut act: impl FnMut(u64) -> Result<Report>) -> Result<()> {
        self.obey(|_, _, count| act(count))
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

/// Measures one stretch of this process's work.
pub(crate) struct Meter {
    began_ns: u64,
    cpu_ns: u64,
    sleeps: u64,
}

impl Meter {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { sleeps: sleeps()?, cpu_ns: clock::cpu_ns(), began_ns: clock::now_ns() })
    }

    pub(crate) fn stop(self, messages: u64) -> Result<Report> {
        let elapsed_ns = clock::now_ns() - self.began_ns;
        let cpu_ns = clock::cpu_ns() - self.cpu_ns;
        let sleeps = sleeps()? - self.sleeps;
        Ok(Report { messages, elapsed_ns, cpu_ns, sleeps, percentiles_ns: None })
    }
}

/// How often this process gave up its processor of its own accord.
fn sleeps() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").context("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}
