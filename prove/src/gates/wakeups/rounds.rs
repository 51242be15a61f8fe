//! Rounds: one kills a waiter or a poster, and sees whether the one who waits on wakes.
//!
//! Several lanes play at once, each a process with peers of its own; what they count lies in one page.

use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use indicatif::ProgressBar;
use narrows::Deadline;
use narrows::sys::futex_wait;

use super::Names;
use super::side::{Blow, Peer, Wait};
use super::tally::Tally;
use crate::random::Random;
use crate::tracer::{Fork, Victim};

/// What has nothing to do with a lost wake-up takes at most so long.
const SOON: Duration = Duration::from_secs(20);
/// A post that the victim may have had, and a poster that may have posted nothing, are given so long to show.
const SHOWS: Duration = Duration::from_millis(5);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One who waits, 0 to 300 µs before a post, or up to 20 µs behind it.
    Waiter,
    /// One who posts, between what it changed and its wake, or right behind that.
    Poster,
}

/// What is played.
pub(crate) struct Game<'a> {
    pub(crate) fault: Fault,
    /// Makes what is waited for, under a name of its own.
    pub(crate) make: &'a dyn Fn(&str) -> Result<Box<dyn Wait>>,
    pub(crate) rounds: u64,
    /// No more rounds after so many losses.
    pub(crate) losses: u64,
    /// Who sleeps for longer is lost.
    pub(crate) limit: Duration,
    pub(crate) lanes: usize,
    pub(crate) seed: u64,
}

impl Game<'_> {
    /// Plays all rounds.
    pub(crate) fn play(&self, names: &Names, progress: &ProgressBar) -> Result<Tally> {
        let tally = Tally::new()?;
        let lanes = (0..self.lanes).map(|lane| {
            let name = names.of(&lane.to_string());
            Fork::start(|| {
                let played = self.play_lane(&name, &tally);
                tally.lane_ends();
                played
            })
        });
        let lanes = lanes.collect::<Result<Vec<_>>>()?;
        progress.set_length(self.rounds);
        let (mut seen, mut since) = (0, Instant::now());
        while tally.lanes_ended().load(Acquire) < self.lanes as u32 {
            let ended = tally.lanes_ended();
            futex_wait(ended, ended.load(Acquire), Deadline::from(Duration::from_millis(100)));
            progress.set_position(tally.rounds());
            if tally.rounds() > seen {
                (seen, since) = (tally.rounds(), Instant::now());
            } else if since.elapsed() > 3 * SOON {
                bail!("no round ended within {:?}", 3 * SOON);
            }
        }
        lanes.into_iter().try_for_each(|lane| lane.ends_within(SOON))?;
        Ok(tally)
    }

    fn play_lane(&self, name: &str, tally: &Tally) -> Result<()> {
        while tally.lost() < self.losses && tally.rounds() < self.rounds {
            let wait = (self.make)(name)?;
            let mut table = Table {
                survivor: Peer::start(tally.epoch, || wait.waiter())?,
                hand: Peer::start(tally.epoch, || wait.poster())?,
                wait: &*wait,
                limit: self.limit,
                tally,
            };
            while let Some(round) = tally.next_round(self.rounds, self.losses) {
                let mut random = Random::seeded(self.seed.wrapping_add(round));
                let verdict = match self.fault {
                    Fault::Waiter => table.kill_waiter(&mut random)?,
                    Fault::Poster => table.kill_poster(&mut random)?,
                };
                tally.count(round, verdict, wait.bound());
                if !matches!(verdict, Verdict::Woken(_)) {
                    break; // with new peers, in a known state
                }
            }
            drop(table);
            let faults = wait.faults()?;
            ensure!(faults.is_empty(), "a channel is broken: {}", faults.join("; "));
        }
        Ok(())
    }
}

/// What came of a round.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// Who waited woke so long after the post, or after the death that came last.
    Woken(Duration),
    Lost,
    /// Nobody fell asleep: there was nothing to see.
    Void,
}

/// Who plays the rounds of a lane.
struct Table<'a> {
    survivor: Peer,
    hand: Peer,
    wait: &'a dyn Wait,
    limit: Duration,
    tally: &'a Tally,
}

impl Table<'_> {
    fn kill_waiter(&mut self, random: &mut Random) -> Result<Verdict> {
        let is_single = self.wait.is_single();
        let mut victim = Peer::start(self.tally.epoch, || self.wait.waiter())?;
        self.hand.prepare(SOON)?;
        victim.prepare(SOON)?;
        if !is_single {
            self.survivor.prepare(SOON)?;
        }
        victim.act();
        if !victim.is_waiting_within(SOON) {
            return Ok(Verdict::Void);
        }
        if !is_single {
            // Behind the victim: who wakes the first wakes the dying.
            self.survivor.act();
            if !self.survivor.is_waiting_within(SOON) {
                return Ok(Verdict::Void);
            }
        }
        let lag_us = if random.once_in(8) { -(random.below(21) as i64) } else { random.below(301) as i64 };
        self.hand.strike(Blow { victim: victim.pid(), lag_us });
        if is_single {
            self.survivor.act(); // the successor
        }
        if self.hand.done_within(self.limit)?.is_none() {
            return Ok(Verdict::Lost); // the poster itself hangs
        }
        drop(victim);
        if self.survivor.done_within(SHOWS)?.is_none() && !self.wait.is_posted()? {
            // The victim had it: struck behind the post, or on its way out of a sleep that was over by itself.
            return self.post_again();
        }
        self.judge()
    }

    fn kill_poster(&mut self, random: &mut Random) -> Result<Verdict> {
        let prepare = || {
            let mut side = self.wait.poster();
            side.prepare()?;
            Ok(move || side.act())
        };
        let mut poster = Victim::start(prepare, |_: Result<bool>| ())?;
        self.survivor.prepare(SOON)?;
        self.survivor.act();
        if !self.survivor.is_waiting_within(SOON) {
            return Ok(Verdict::Void);
        }
        while let Some(call) = poster.next_call()? {
            let is_wake = call.number == self.wait.wakes_by() as u64;
            if is_wake && random.below(2) == 0 {
                break;
            }
            poster.pass_call(None)?;
            if is_wake {
                break;
            }
        }
        poster.kill();
        self.hand.note_act(self.tally.epoch);
        if !self.wait.is_posted()? && self.survivor.done_within(SHOWS)?.is_none() {
            return self.post_again(); // it had not posted yet
        }
        self.judge()
    }

    fn post_again(&mut self) -> Result<Verdict> {
        self.hand.prepare(SOON)?;
        self.hand.act();
        if self.hand.done_within(self.limit)?.is_none() {
            return Ok(Verdict::Lost);
        }
        if self.survivor.done_within(self.limit)? == Some(false) {
            self.survivor.act(); // it was told of the end in between, and looks again
        }
        self.judge()
    }

    /// Whether who waits has woken since the hand's last deed.
    fn judge(&self) -> Result<Verdict> {
        Ok(match self.survivor.done_within(self.limit)? {
            // False: it was told that the poster died; but not while the message lay there.
            Some(got) if got || !self.wait.is_posted()? => {
                Verdict::Woken(self.survivor.ended().saturating_sub(self.hand.acted()))
            }
            _ => Verdict::Lost,
        })
    }
}
