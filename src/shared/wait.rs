//! Spinning before sleeping.
//!
//! Waking a process that sleeps on another core costs 20 µs; watching a word for a while costs nothing but the
//! core's time. So whoever waits watches first, for as long as watching has lately been worth it: each wait that
//! ended while watching raises the budget, each that ended in sleep halves it. On one processor nobody else can
//! run meanwhile, and watching is never worth it.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;

/// How an endpoint waits (`wait=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// Watch for a bounded time, then sleep.
    Adaptive,
    /// Watch until it happens.
    Spin,
    /// Sleep at once.
    Sleep,
}

/// Looks without a look at the clock; the model checker needs no second one.
const SHORT: u32 = if cfg!(loom) { 1 } else { 64 };
const BUDGET_MAX: Duration = Duration::from_micros(50);
const BUDGET_MIN: Duration = Duration::from_micros(2);
/// Somebody's claim in the way is watched for so long, then revoked.
const CLAIM_PATIENCE: Duration = Duration::from_micros(30);
/// How long one sleep lasts at most: whatever killed whom meanwhile, who sleeps looks again, and is done within 100 ms.
pub(crate) const IDLE: Duration = Duration::from_millis(90);
/// How long one nap lasts while the owner of a claim wakes others.
pub(crate) const NAP: Duration = Duration::from_micros(100);
/// How long one sleep lasts at first, and while a named peer is waited for.
pub(crate) const WATCH: Duration = Duration::from_millis(5);

/// One endpoint's way of waiting.
#[derive(Debug, Clone)]
pub(crate) struct Spinner {
    mode: WaitMode,
    alone: bool,
    /// Whether watching is worth anything at all.
    watches: bool,
    budget: Duration,
}

impl Spinner {
    pub(crate) fn new(mode: WaitMode, processors: usize) -> Self {
        let alone = processors == 1;
        let watches = mode == WaitMode::Spin || mode == WaitMode::Adaptive && !alone;
        Self { mode, alone, watches, budget: BUDGET_MAX }
    }

    /// How often to look for what may come at once, before anything is asked of the clock or the tables.
    #[inline(always)]
    pub(crate) fn looks(&self, deadline: Deadline) -> u32 {
        if self.watches && deadline != Deadline::Now { SHORT } else { 1 }
    }

    /// Watches until `done`, the end of the budget, or the deadline. False: it is time to sleep (or to give up).
    #[inline]
    pub(crate) fn watch(&mut self, deadline: Deadline, mut done: impl FnMut() -> bool) -> bool {
        self.glance(&mut done) || self.watch_on(deadline, done)
    }

    /// Watches for a moment.
    #[inline]
    pub(crate) fn glance(&self, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..if self.watches { SHORT } else { 1 } {
            if done() {
                return true;
            }
            spin_loop();
        }
        false
    }

    /// The same until the end of the budget, or the deadline.
    pub(crate) fn watch_on(&mut self, deadline: Deadline, mut done: impl FnMut() -> bool) -> bool {
        if !self.watches {
            return false;
        }
        let spinning = self.mode == WaitMode::Spin;
        let end = Instant::now() + if spinning { IDLE } else { self.budget };
        loop {
            for _ in 0..SHORT {
                if done() {
                    self.budget = (self.budget * 2).min(BUDGET_MAX);
                    return true;
                }
                spin_loop();
            }
            if self.alone {
                std::thread::yield_now();
            }
            let now = Instant::now();
            if now >= end || matches!(deadline, Deadline::At(at) if now >= at) {
                self.budget = (self.budget / 2).max(BUDGET_MIN);
                return false;
            }
        }
    }

    /// Whether to sleep when watching did not help.
    pub(crate) fn sleeps(&self) -> bool {
        self.mode != WaitMode::Spin
    }

    /// Watches a claim that stands in the way. False: revoke it.
    pub(crate) fn watch_claim(&self, mut done: impl FnMut() -> bool) -> bool {
        within(CLAIM_PATIENCE, || {
            for _ in 0..SHORT {
                if done() {
                    return true;
                }
                spin_loop();
            }
            std::thread::yield_now(); // its owner may be waiting for this processor
            done()
        })
    }
}

/// Naps on a claim that stands in the way, time and again. False: revoke it.
pub(crate) fn nap_on_claim(nap: impl Fn(), done: impl Fn() -> bool) -> bool {
    within(WATCH, || {
        nap();
        done()
    })
}

/// Whether it is `done` within that time.
#[cfg(not(loom))]
fn within(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
    }
    true
}

/// In the model any time may pass between two looks.
#[cfg(loom)]
fn within(_time: Duration, mut done: impl FnMut() -> bool) -> bool {
    done()
}
