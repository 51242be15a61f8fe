//! What all lanes count together.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use anyhow::Result;
use narrows::sys::futex_wake_all;

use super::rounds::Verdict;
use crate::page::Page;

// The words of the page.
const STARTED: usize = 0;
const WOKEN: usize = 1;
const LOST: usize = 2;
const VOID: usize = 3;
/// Woken by nobody: by the bound of a sleep.
const BOUND: usize = 4;
const LONGEST_NS: usize = 5;
/// 1 + the first round that was lost.
const FIRST_LOST: usize = 6;
const LANES_ENDED: usize = 7;
/// Delays, by their size: eight steps to each doubling.
const DELAYS: usize = 16;
const STEPS: u32 = 8;
const DELAYS_COUNT: usize = 64 * STEPS as usize - 128;

/// Counts that forked processes share.
pub(crate) struct Tally {
    page: Page,
    /// What times are counted from.
    pub(crate) epoch: Instant,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { page: Page::new()?, epoch: Instant::now() })
    }

    fn get(&self, word: usize) -> u64 {
        self.page.word(word).load(Relaxed)
    }

    /// The next round's number, as long as there is one.
    pub(crate) fn next_round(&self, rounds: u64, losses: u64) -> Option<u64> {
        if self.lost() >= losses {
            return None;
        }
        let round = self.page.word(STARTED).fetch_add(1, Relaxed);
        (round < rounds + self.get(VOID)).then_some(round)
    }

    pub(crate) fn count(&self, round: u64, verdict: Verdict, bound: Option<Duration>) {
        let add = |word: usize| self.page.word(word).fetch_add(1, Relaxed);
        match verdict {
            Verdict::Lost => {
                self.page.word(FIRST_LOST).compare_exchange(0, round + 1, Relaxed, Relaxed).ok();
                add(LOST);
            }
            Verdict::Void => {
                add(VOID);
            }
            Verdict::Woken(delay) => {
                if bound.is_some_and(|bound| delay > bound / 2) {
                    add(BOUND);
                }
                self.page.word(LONGEST_NS).fetch_max(delay.as_nanos() as u64, Relaxed);
                add(DELAYS + bucket(delay));
                add(WOKEN);
            }
        }
    }

    /// Rounds that showed something.
    pub(crate) fn rounds(&self) -> u64 {
        self.get(WOKEN) + self.get(LOST)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.get(LOST)
    }

    pub(crate) fn void(&self) -> u64 {
        self.get(VOID)
    }

    /// Woken by nobody but the bound of their sleep.
    pub(crate) fn by_bound(&self) -> u64 {
        self.get(BOUND)
    }

    pub(crate) fn first_lost(&self) -> Option<u64> {
        self.get(FIRST_LOST).checked_sub(1)
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.get(LONGEST_NS))
    }

    /// The delay that this share of the woken did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut left = (self.get(WOKEN) as f64 * share).ceil() as u64;
        for index in 0..DELAYS_COUNT {
            let count = self.get(DELAYS + index);
            if count >= left {
                return upper(index).min(self.longest());
            }
            left -= count;
        }
        self.longest()
    }

    pub(crate) fn lane_ends(&self) {
        self.lanes_ended().fetch_add(1, Release);
        futex_wake_all(self.lanes_ended());
    }

    pub(crate) fn lanes_ended(&self) -> &AtomicU32 {
        self.page.futex(LANES_ENDED)
    }
}

/// Where a delay is counted.
fn bucket(delay: Duration) -> usize {
    let ns = (delay.as_nanos() as u64).max(u64::from(STEPS));
    let doubling = ns.ilog2() - STEPS.ilog2();
    let step = (ns >> doubling) - u64::from(STEPS);
    ((u64::from(doubling * STEPS) + step) as usize).min(DELAYS_COUNT - 1)
}

/// The longest delay that is counted there.
fn upper(index: usize) -> Duration {
    let (doubling, step) = (index as u32 / STEPS, index as u64 % u64::from(STEPS));
    Duration::from_nanos(((u64::from(STEPS) + step + 1) << doubling) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_counted_at_its_size() {
        for ns in [8, 9, 15, 16, 17, 1000, 54_321, 100_000_000, 2_000_000_000] {
            let delay = Duration::from_nanos(ns);
            let upper = upper(bucket(delay));
            assert!(delay <= upper && upper <= delay * 9 / 8, "{delay:?} is counted up to {upper:?}");
        }
    }

    #[test]
    fn the_counts_are_those_of_the_rounds() {
        let tally = Tally::new().unwrap();
        for round in 0..10 {
            assert_eq!(tally.next_round(10, 2), Some(round));
            let delay = Duration::from_micros(if round < 9 { 20 } else { 99_000 });
            tally.count(round, Verdict::Woken(delay), Some(Duration::from_millis(100)));
        }
        assert_eq!(tally.next_round(10, 2), None);
        assert_eq!((tally.rounds(), tally.lost(), tally.by_bound()), (10, 0, 1));
        assert_eq!(tally.longest(), Duration::from_micros(99_000));
        assert!(tally.quantile(0.5) < Duration::from_micros(23));
        tally.count(3, Verdict::Void, None);
        assert_eq!(tally.next_round(20, 2), Some(11), "a round that shows nothing is played again");
        tally.count(11, Verdict::Lost, None);
        tally.count(12, Verdict::Lost, None);
        assert_eq!((tally.lost(), tally.first_lost()), (2, Some(11)));
        assert_eq!(tally.next_round(20, 2), None, "enough is lost");
    }
}
