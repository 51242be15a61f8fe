//! Starts the players of one case, tells them what to do, and waits for each answer within a bound.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::machine;
use crate::player::{self, Command, Job, MARK, Reply, Report, SCRATCH_BYTES};
use crate::scenario::{Act, Case};
use crate::scheme::Scheme;

/// How players are started, and with what.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The arguments with which this program, started again, comes to [`play_if_asked`](crate::play_if_asked).
    pub player_arguments: Vec<String>,
    /// A message that role 0 spoils, to prove that it is noticed.
    pub corrupt_at: Option<u64>,
    /// The longest that one answer of a player may take.
    pub patience: Duration,
}

impl Stage {
    /// Players that are started with these arguments, have a minute for each answer, and send what they should.
    pub fn new(player_arguments: &[&str]) -> Self {
        let player_arguments = player_arguments.iter().map(ToString::to_string).collect();
        Self { player_arguments, corrupt_at: None, patience: Duration::from_secs(60) }
    }
}

/// The players of one case, and nothing of them left when it is dropped.
pub(crate) struct Conductor<'a> {
    scheme: &'a dyn Scheme,
    name: String,
    players: Vec<Seat>,
    patience: Duration,
    _scratch: File,
}

struct Seat {
    child: Child,
    says: ChildStdin,
    answers: Receiver<String>,
}

impl<'a> Conductor<'a> {
    /// Starts the players and waits until all have their ends open.
    pub(crate) fn start(scheme: &'a dyn Scheme, case: Case, stage: &Stage) -> Result<Self> {
        static CASES: AtomicU32 = AtomicU32::new(0);
        let number = CASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("narrows-bench-{}-{number}", std::process::id());
        let scratch = File::from(memfd_create("narrows-bench", MemfdFlags::CLOEXEC)?);
        ftruncate(&scratch, SCRATCH_BYTES as u64)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), scratch.as_raw_fd());
        let cpus = machine::seats(case.scenario.players())?;
        let mut conductor =
            Self { scheme, name, players: Vec::new(), patience: stage.patience, _scratch: scratch };
        // Who is idle waits for nobody but a sender that it starts itself.
        let first = usize::from(case.scenario.act == Act::Idle);
        for (role, cpu) in cpus.into_iter().enumerate().map(|(seat, cpu)| (first + seat, cpu)) {
            let job = Job {
                scheme: scheme.name().to_owned(),
                scenario: case.scenario.name.to_owned(),
                wait: case.wait,
                size: case.size,
                role,
                cpu,
                scratch: path.clone(),
                name: conductor.name.clone(),
                corrupt_at: stage.corrupt_at.filter(|_| role == 0),
            };
            conductor.players.push(Seat::take(&job, &stage.player_arguments)?);
        }
        conductor.answers(conductor.players.len())?;
        Ok(conductor)
    }

    /// The cache-line floor of this moment in nanoseconds; none where there is one player.
    pub(crate) fn floor(&mut self, rounds: u64) -> Result<Option<f64>> {
        if self.players.len() < 2 {
            return Ok(None);
        }
        self.tell(Command::Floor { rounds }, 2)?;
        match self.answers(2)?.first() {
            Some(Reply::Floor { p50_ns }) => Ok(Some(*p50_ns)),
            other => bail!("a player answered {other:?} where a floor was due"),
        }
    }

    /// One run; the players' reports by role.
    pub(crate) fn run(&mut self, warm_up: u64, count: u64) -> Result<Vec<Report>> {
        self.tell(Command::Run { warm_up, count }, self.players.len())?;
        let report = |reply| match reply {
            Reply::Run(report) => Ok(report),
            other => bail!("a player answered {other:?} where a report was due"),
        };
        self.answers(self.players.len())?.into_iter().map(report).collect()
    }

    fn tell(&mut self, command: Command, players: usize) -> Result<()> {
        let line = serde_json::to_string(&command)? + "\n";
        // A player that is gone is found by its missing answer, with a better reason than a broken pipe.
        self.players[..players].iter_mut().for_each(|seat| drop(seat.says.write_all(line.as_bytes())));
        Ok(())
    }

    /// One answer from each of the first players. An early end of any of them ends the wait for all.
    fn answers(&mut self, players: usize) -> Result<Vec<Reply>> {
        let until = Instant::now() + self.patience;
        let mut replies: Vec<Option<Reply>> = vec![None; players];
        while replies.iter().any(Option::is_none) {
            for (role, reply) in replies.iter_mut().enumerate().filter(|(_, reply)| reply.is_none()) {
                *reply = self.players[role].answer(role, Duration::from_millis(20))?;
            }
            if Instant::now() > until {
                bail!("no answer from a player within {:?}: stuck", self.patience);
            }
        }
        Ok(replies.into_iter().flatten().collect())
    }
}

impl Drop for Conductor<'_> {
    fn drop(&mut self) {
        for seat in &mut self.players {
            let _ = seat.child.kill();
        }
        for seat in &mut self.players {
            let _ = seat.child.wait();
        }
        self.scheme.clean_up(&self.name);
    }
}

impl Seat {
    fn take(job: &Job, arguments: &[String]) -> Result<Self> {
        let mut child = player::start(job, arguments)?;
        let (says, out) = child.stdin.take().zip(child.stdout.take()).context("a player's pipes")?;
        Ok(Self { child, says, answers: lines(out) })
    }

    /// The next answer, if it comes within `patience`.
    fn answer(&mut self, role: usize, patience: Duration) -> Result<Option<Reply>> {
        match self.answers.recv_timeout(patience) {
            Ok(line) => {
                match serde_json::from_str(&line).with_context(|| format!("player {role} said {line}"))? {
                    Reply::Failed(error) => Err(anyhow!("player {role}: {error}")),
                    reply => Ok(Some(reply)),
                }
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("player {role} ended early: {}", self.child.wait()?),
        }
    }
}

/// A player's answers, read by a thread that ends with the player.
fn lines(out: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let Some((_, answer)) = line.split_once(MARK) else { continue };
            if sender.send(answer.to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}
