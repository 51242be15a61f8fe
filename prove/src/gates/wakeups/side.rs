//! The two sides of a wait, each in a process of its own that does what it is told.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use narrows::Deadline;
use narrows::sys::{futex_wait, futex_wake_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::page::Page;
use crate::tracer::Fork;

/// One who waits, or one who posts, in the process that has it.
pub(crate) trait Side {
    /// Opens what is not open, and sees to it that one waits, or that one can post.
    fn prepare(&mut self) -> Result<()>;
    /// Waits until what was posted is here, or posts. False: there is nothing and never will be.
    fn act(&mut self) -> Result<bool>;
    /// What comes between two rounds.
    fn leave(&mut self) {}
}

/// What is waited for.
pub(crate) trait Wait {
    fn waiter(&self) -> Box<dyn Side + '_>;
    fn poster(&self) -> Box<dyn Side + '_>;
    /// Whether something is posted that nobody has.
    fn is_posted(&self) -> Result<bool>;
    /// What is wrong with it when nobody is at it any more.
    fn faults(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// The call that wakes.
    fn wakes_by(&self) -> libc::c_long {
        libc::SYS_futex
    }
    /// Whether there is one waiter at a time.
    fn is_single(&self) -> bool {
        false
    }
    /// What wakes a waiter whom nobody else wakes.
    fn bound(&self) -> Option<Duration> {
        None
    }
}

/// Somebody to be killed beside a post.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) victim: Pid,
    /// The post comes so much later than the kill, or earlier.
    pub(crate) lag_us: i64,
}

/// What a process is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Prepare = 1,
    Act = 2,
    Strike = 3,
}

// The words of a page between two processes.
const ORDER: usize = 0;
const VERB: usize = 1;
const VICTIM: usize = 2;
const LAG: usize = 3;
/// The order that is being carried out.
const BEGUN: usize = 4;
const DONE: usize = 5;
const RESULT: usize = 6;
/// 1 or 0, or:
const FAILED: u64 = 2;
/// When it acted and when that was over, in nanoseconds since the epoch of the gate.
const ACTED: usize = 7;
const ENDED: usize = 8;

/// A process that has a side.
pub(crate) struct Peer {
    desk: Page,
    fork: Fork,
    order: u32,
}

impl Peer {
    pub(crate) fn start<'a>(epoch: Instant, side: impl FnOnce() -> Box<dyn Side + 'a>) -> Result<Self> {
        let desk = Page::new()?;
        let fork = Fork::start(|| serve(&desk, epoch, &mut *side()))?;
        Ok(Self { desk, fork, order: 0 })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.fork.pid()
    }

    fn tell(&mut self, verb: Verb) {
        self.order += 1;
        self.desk.word(VERB).store(verb as u64, Relaxed);
        self.desk.futex(ORDER).store(self.order, Release);
        futex_wake_all(self.desk.futex(ORDER));
    }

    /// Has it prepared.
    pub(crate) fn prepare(&mut self, bound: Duration) -> Result<()> {
        self.tell(Verb::Prepare);
        match self.done_within(bound)? {
            Some(_) => Ok(()),
            None => bail!("a process is not ready within {bound:?}"),
        }
    }

    /// Has it wait or post.
    pub(crate) fn act(&mut self) {
        self.tell(Verb::Act);
    }

    /// Has it kill and post.
    pub(crate) fn strike(&mut self, blow: Blow) {
        self.desk.word(VICTIM).store(blow.victim.as_raw() as u64, Relaxed);
        self.desk.word(LAG).store(blow.lag_us.cast_unsigned(), Relaxed);
        self.tell(Verb::Strike);
    }

    /// Waits until it sleeps in what it was told.
    pub(crate) fn is_waiting_within(&self, bound: Duration) -> bool {
        let end = Instant::now() + bound;
        while self.desk.futex(BEGUN).load(Acquire) != self.order || !self.fork.sleeps() {
            if self.desk.futex(DONE).load(Acquire) == self.order || Instant::now() > end {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Waits until it has done what it was told, and gives what came of it.
    pub(crate) fn done_within(&self, bound: Duration) -> Result<Option<bool>> {
        let end = Deadline::from(bound);
        let done = self.desk.futex(DONE);
        loop {
            let seen = done.load(Acquire);
            if seen == self.order {
                return match self.desk.word(RESULT).load(Relaxed) {
                    FAILED => bail!("a process failed"),
                    got => Ok(Some(got == 1)),
                };
            }
            if end.is_over() {
                return Ok(None);
            }
            futex_wait(done, seen, end);
        }
    }

    /// As if it acted now.
    pub(crate) fn note_act(&self, epoch: Instant) {
        self.desk.word(ACTED).store(epoch.elapsed().as_nanos() as u64, Relaxed);
    }

    /// When it began to wait or to post, or killed behind its post.
    pub(crate) fn acted(&self) -> Duration {
        Duration::from_nanos(self.desk.word(ACTED).load(Relaxed))
    }

    /// When it had waited.
    pub(crate) fn ended(&self) -> Duration {
        Duration::from_nanos(self.desk.word(ENDED).load(Relaxed))
    }
}

/// What the process of a side does until it is killed.
fn serve(desk: &Page, epoch: Instant, side: &mut dyn Side) -> Result<()> {
    let mut done = 0;
    loop {
        let order = desk.futex(ORDER).load(Acquire);
        if order == done {
            futex_wait(desk.futex(ORDER), order, Deadline::Never);
            continue;
        }
        desk.futex(BEGUN).store(order, Release);
        let outcome = obey(desk, epoch, side);
        desk.word(RESULT).store(outcome.as_ref().map_or(FAILED, |got| u64::from(*got)), Relaxed);
        desk.futex(DONE).store(order, Release);
        futex_wake_all(desk.futex(DONE));
        outcome?;
        done = order;
    }
}

fn obey(desk: &Page, epoch: Instant, side: &mut dyn Side) -> Result<bool> {
    let note = |word: usize| desk.word(word).store(epoch.elapsed().as_nanos() as u64, Relaxed);
    let verb = desk.word(VERB).load(Relaxed);
    if verb == Verb::Prepare as u64 {
        return side.prepare().map(|()| true);
    }
    note(ACTED);
    let got = if verb == Verb::Strike as u64 { strike(desk, || note(ACTED), side)? } else { side.act()? };
    note(ENDED);
    side.leave();
    Ok(got)
}

/// Kills and posts, or posts and kills.
fn strike(desk: &Page, note: impl Fn(), side: &mut dyn Side) -> Result<bool> {
    let victim = Pid::from_raw(desk.word(VICTIM).load(Relaxed) as i32);
    let lag_us = desk.word(LAG).load(Relaxed).cast_signed();
    let pause = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(lag_us.unsigned_abs()) {}
    };
    if lag_us >= 0 {
        kill(victim, Signal::SIGKILL)?;
        pause();
        note();
        return side.act();
    }
    let posted = side.act()?;
    pause();
    note();
    kill(victim, Signal::SIGKILL)?;
    Ok(posted)
}
