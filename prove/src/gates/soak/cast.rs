//! The processes of one round, and what is done to them.

use std::fs::File;
use std::process::{Child, ExitStatus};
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use narrows_bench::clock::now_ns;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::ledger::{Ledger, Mark};
use super::part::{Part, Role};
use crate::random::Random;

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Killed,
    KilledOpening,
    KilledStopped,
    KilledTogether,
    Stopped,
    Left,
}

/// How often each was done, in the order of [`Fault`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults([u64; 6]);

impl Faults {
    pub(super) fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    pub(super) fn killed(&self) -> u64 {
        use Fault::{Killed, KilledOpening, KilledStopped, KilledTogether};
        [Killed, KilledOpening, KilledStopped, KilledTogether].map(|fault| self.of(fault)).iter().sum()
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// What a process is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// To be killed then, wherever it is.
    Doomed(Instant),
    /// To be continued then.
    Stopped(Instant),
    /// Asked to leave, then.
    Leaving(Instant),
    /// To be started again then.
    Gone(Instant),
    /// Came to its end.
    Ended,
}

struct Actor {
    part: Part,
    is_victim: bool,
    child: Option<Child>,
    state: State,
    /// Its operations when they were last seen to advance, and when that was.
    beats: (u64, Instant),
}

pub(super) struct Cast<'a> {
    ledger: &'a Ledger,
    words: &'a File,
    random: Random,
    patience: Duration,
    actors: Vec<Actor>,
    is_calm: bool,
    pub(super) faults: Faults,
    /// Messages that killed receivers may have taken with them, by channel.
    taken: Vec<u64>,
    /// What went wrong with processes.
    pub(super) wrong: Vec<String>,
}

impl Drop for Cast<'_> {
    fn drop(&mut self) {
        for child in self.actors.iter_mut().filter_map(|actor| actor.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl<'a> Cast<'a> {
    pub(super) fn new(ledger: &'a Ledger, words: &'a File, random: Random, patience: Duration) -> Self {
        let taken = vec![0; super::ledger::CHANNELS as usize];
        let (actors, faults, wrong) = (Vec::new(), Faults::default(), Vec::new());
        Self { ledger, words, random, patience, actors, is_calm: false, faults, taken, wrong }
    }

    /// Adds a process and starts it.
    pub(super) fn add(&mut self, part: Part, is_victim: bool) -> Result<()> {
        let beats = (0, Instant::now());
        self.actors.push(Actor { part, is_victim, child: None, state: State::Up, beats });
        self.start(self.actors.len() - 1)
    }

    pub(super) fn taken(&self, channel: u64) -> u64 {
        self.taken[channel as usize]
    }

    fn start(&mut self, at: usize) -> Result<()> {
        let now = Instant::now();
        let actor = &mut self.actors[at];
        seats(&actor.part).for_each(|seat| self.ledger.clear(seat));
        actor.part.seed = self.random.next();
        actor.child = Some(actor.part.start(self.words)?);
        actor.beats = (0, now);
        // One in four is hit while it opens, or before.
        let is_doomed = actor.is_victim && !self.is_calm && self.random.once_in(4);
        actor.state = match is_doomed {
            true => State::Doomed(now + Duration::from_micros(self.random.below(6000))),
            false => State::Up,
        };
        Ok(())
    }

    /// Does one thing to one victim, or to several.
    pub(super) fn strike(&mut self) -> Result<()> {
        let working = |actor: &Actor| {
            actor.is_victim && actor.state == State::Up && beats(self.ledger, &actor.part) > 0
        };
        let able: Vec<usize> = (0..self.actors.len()).filter(|at| working(&self.actors[*at])).collect();
        if able.is_empty() {
            return Ok(());
        }
        let victim = self.random.one_of(&able);
        match self.random.below(16) {
            0..7 => self.kill(&[victim], Fault::Killed),
            7..9 => {
                // All victims of the channel, or of its one side.
                let whole = self.random.once_in(2);
                let (channel, role) = (self.actors[victim].part.channel, self.actors[victim].part.role);
                let is_near = |at: &usize| {
                    let part = &self.actors[*at].part;
                    part.channel == channel && (whole || part.role == role)
                };
                let near: Vec<usize> = able.iter().copied().filter(is_near).collect();
                self.kill(&near, if near.len() > 1 { Fault::KilledTogether } else { Fault::Killed })
            }
            9..11 => {
                self.signal(victim, Signal::STOP)?;
                self.random_moment(2000);
                self.kill(&[victim], Fault::KilledStopped)
            }
            11..14 => {
                self.signal(victim, Signal::STOP)?;
                let until = Instant::now() + Duration::from_micros(self.random.below(60_000));
                self.actors[victim].state = State::Stopped(until);
                self.faults.count(Fault::Stopped);
                Ok(())
            }
            _ => {
                let seats = seats(&self.actors[victim].part);
                seats.for_each(|seat| {
                    self.ledger.mark(seat, Mark::Leave).store(1, std::sync::atomic::Ordering::Release)
                });
                self.actors[victim].state = State::Leaving(Instant::now());
                self.faults.count(Fault::Left);
                Ok(())
            }
        }
    }

    /// Lets a moment pass: what happens next happens anywhere in the others' work.
    pub(super) fn random_moment(&mut self, at_most_us: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(at_most_us)));
    }

    /// Kills these at one moment, and tells those that nothing happens to.
    fn kill(&mut self, victims: &[usize], fault: Fault) -> Result<()> {
        let killed = now_ns();
        for at in victims {
            self.signal(*at, Signal::KILL)?;
        }
        for at in victims {
            // The kernel lets go of what a process held before its parent learns of the end.
            waitid(WaitId::Pid(self.pid(*at)?), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
            self.mourn(*at, killed, now_ns());
        }
        for at in victims {
            let actor = &mut self.actors[*at];
            let status = actor.child.take().context("a process that was killed")?.wait()?;
            let is_fair = actor.part.role == Role::Receiver && !actor.part.style.leased;
            if is_fair {
                let grasp = seats(&actor.part).map(|seat| self.ledger.mark(seat, Mark::Grasp).load(Acquire));
                self.taken[actor.part.channel as usize] += grasp.sum::<u64>();
            }
            let gap = if self.random.once_in(4) { self.random.below(20_000) } else { 0 };
            actor.state = State::Gone(Instant::now() + Duration::from_micros(gap));
            self.faults.count(fault);
            if status.code().is_some_and(|code| code != 0) {
                self.wrong.push(failure(&self.actors[*at].part, status));
            }
        }
        Ok(())
    }

    fn mourn(&self, at: usize, killed: u64, released: u64) {
        let channel = self.actors[at].part.channel;
        let is_told = |part: &Part| part.role == Role::Control || part.is_timed && part.channel == channel;
        for peer in self.actors.iter().filter(|peer| is_told(&peer.part)) {
            seats(&peer.part).for_each(|seat| self.ledger.mourn(seat, killed, released));
        }
    }

    /// Looks after everybody: who is due is killed, continued or started; who ended by himself is missed.
    pub(super) fn tend(&mut self) -> Result<()> {
        for at in 0..self.actors.len() {
            if let Some(status) = self.ended(at)? {
                self.bury(at, status);
            }
            let now = Instant::now();
            match self.actors[at].state {
                State::Doomed(when) if when <= now => self.kill(&[at], Fault::KilledOpening)?,
                State::Stopped(until) if until <= now => {
                    self.signal(at, Signal::CONT)?;
                    self.actors[at].state = State::Up;
                }
                State::Gone(until) if until <= now => self.start(at)?,
                State::Leaving(since) if now - since > self.patience => {
                    self.wrong.push(format!("{} does not leave", name(&self.actors[at].part)));
                    self.kill(&[at], Fault::Killed)?;
                }
                State::Up => self.watch(at, now),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether an actor makes progress.
    fn watch(&mut self, at: usize, now: Instant) {
        let actor = &mut self.actors[at];
        let found = beats(self.ledger, &actor.part);
        if found != actor.beats.0 {
            actor.beats = (found, now);
        } else if now - actor.beats.1 > self.patience {
            self.wrong.push(format!("{} stood still for {:?}", name(&actor.part), self.patience));
            actor.beats.1 = now;
        }
    }

    fn ended(&mut self, at: usize) -> Result<Option<ExitStatus>> {
        match &mut self.actors[at].child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// One that ended by itself: in order where it was told to.
    fn bury(&mut self, at: usize, status: ExitStatus) {
        let is_over = self.ledger.is(super::ledger::Sign::Stop);
        let actor = &mut self.actors[at];
        actor.child = None;
        let was_told = is_over || matches!(actor.state, State::Leaving(_));
        if !status.success() || !was_told {
            self.wrong.push(failure(&actor.part, status));
        }
        actor.state = if is_over { State::Ended } else { State::Gone(Instant::now()) };
    }

    /// Nothing happens any more: everybody is there and at work. Who was asked to leave has left, and another has come:
    /// no side of a channel waits for one that nobody takes.
    pub(super) fn calm(&mut self) -> Result<()> {
        self.is_calm = true;
        for at in 0..self.actors.len() {
            match self.actors[at].state {
                State::Stopped(_) => self.signal(at, Signal::CONT)?,
                State::Doomed(_) => {}
                _ => continue,
            }
            self.actors[at].state = State::Up;
        }
        while self.actors.iter().any(|actor| actor.state != State::Up) {
            self.tend()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// After the sign to stop: looks who has ended, and gives the channels where receivers still wait.
    pub(super) fn wind_up(&mut self) -> Result<Vec<u64>> {
        let mut waiting = Vec::new();
        for at in 0..self.actors.len() {
            if let Some(status) = self.ended(at)? {
                self.bury(at, status);
            }
        }
        let is_on = |actor: &&Actor| actor.child.is_some();
        for actor in self.actors.iter().filter(is_on) {
            let channel = actor.part.channel;
            let mut peers = self.actors.iter().filter(is_on).filter(|peer| peer.part.channel == channel);
            if peers.all(|peer| peer.part.role == Role::Receiver) {
                waiting.push(channel);
            }
        }
        waiting.dedup();
        Ok(waiting)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.actors.iter().all(|actor| actor.child.is_none())
    }

    /// Kills who did not come to an end, each of which is a fault.
    pub(super) fn evict(&mut self) -> Result<()> {
        for at in 0..self.actors.len() {
            if self.actors[at].child.is_some() {
                self.wrong.push(format!("{} did not come to an end", name(&self.actors[at].part)));
                self.kill(&[at], Fault::Killed)?;
            }
        }
        Ok(())
    }

    fn pid(&self, at: usize) -> Result<Pid> {
        self.actors[at].child.as_ref().map(Pid::from_child).context("a process that is there")
    }

    /// One that has just ended by itself is as good as gone; [`Self::kill`] sees how it ended.
    fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(at)?, signal)?)
    }
}

fn seats(part: &Part) -> std::ops::Range<u64> {
    part.seat..part.seat + part.threads
}

fn beats(ledger: &Ledger, part: &Part) -> u64 {
    seats(part).map(|seat| ledger.mark(seat, Mark::Beats).load(Acquire)).sum()
}

fn name(part: &Part) -> String {
    format!("a {:?} of {}", part.role, part.address)
}

fn failure(part: &Part, status: ExitStatus) -> String {
    format!("{} ended by itself ({status})", name(part))
}
