//! Sleeping on a word of shared memory.
//!
//! There is no way to wake *one* sleeper: the kernel may give the one wake-up to a task that is being killed, and
//! everybody else sleeps on.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use rustix::thread::{MembarrierCommand, membarrier as command};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::deadline::Deadline;

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Somebody woke the word, or the kernel woke for a reason of its own: look at the word.
    Woken,
    /// The word had another value than expected, so there was no sleep.
    Changed,
    /// The deadline passed.
    TimedOut,
}

/// Sleeps while the word has the expected value, until it is woken or the deadline passes. The word may lie in
/// memory that other processes share, also read-only
/// ([futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html), `FUTEX_WAIT_BITSET`).
///
/// ```
/// use narrows::{Deadline, sys::{Waited, futex_wait}};
/// let word = std::sync::atomic::AtomicU32::new(1);
/// assert_eq!(futex_wait(&word, 0, Deadline::Never), Waited::Changed);
/// assert_eq!(futex_wait(&word, 1, Deadline::Now), Waited::TimedOut);
/// ```
pub fn futex_wait(word: &AtomicU32, expected: u32, until: Deadline) -> Waited {
    let timeout = match until {
        Deadline::Now if word.load(Relaxed) == expected => return Waited::TimedOut,
        Deadline::Now => return Waited::Changed,
        Deadline::At(at) => Some(on_the_monotonic_clock(at)),
        Deadline::Never => None,
    };
    loop {
        // Flags without PRIVATE: the kernel finds the sleepers of every process that maps the page.
        match futex::wait_bitset(word, Flags::empty(), expected, timeout.as_ref(), NonZeroU32::MAX) {
            Ok(()) => return Waited::Woken,
            Err(Errno::TIMEDOUT) => return Waited::TimedOut,
            Err(Errno::INTR) => continue,
            // AGAIN: the value differs. FAULT: the file was truncated, which the caller's next look tells.
            Err(_) => return Waited::Changed,
        }
    }
}

/// Wakes everybody who sleeps on the word and gives how many. Change the word first.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// let word = AtomicU32::new(0);
/// word.store(1, Ordering::Release);
/// assert_eq!(narrows::sys::futex_wake_all(&word), 0);
/// ```
pub fn futex_wake_all(word: &AtomicU32) -> usize {
    futex::wake(word, Flags::empty(), i32::MAX as u32).unwrap_or(0)
}

fn on_the_monotonic_clock(at: Instant) -> Timespec {
    let left = at.saturating_duration_since(Instant::now());
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = now.tv_nsec + i64::from(left.subsec_nanos());
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: now.tv_sec.saturating_add(seconds).saturating_add(nanoseconds / 1_000_000_000),
        tv_nsec: nanoseconds % 1_000_000_000,
    }
}

/// Registers this process for other processes' [`membarrier`]; false where the kernel has no such call.
pub(crate) fn membarrier_register() -> bool {
    command(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// Makes every running thread of every registered process pass a full memory barrier
/// ([membarrier(2)](https://man7.org/linux/man-pages/man2/membarrier.2.html)); false where the kernel has no such call.
pub(crate) fn membarrier() -> bool {
    command(MembarrierCommand::GlobalExpedited).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_deadline_ends_the_sleep_and_not_before() {
        let word = AtomicU32::new(7);
        let at = Instant::now() + Duration::from_millis(30);
        assert_eq!(futex_wait(&word, 7, Deadline::At(at)), Waited::TimedOut);
        assert!(Instant::now() >= at);
        assert_eq!(futex_wait(&word, 7, Deadline::At(at)), Waited::TimedOut, "a deadline that has passed");
        assert_eq!(futex_wait(&word, 8, Deadline::At(at)), Waited::Changed);
    }

    #[test]
    fn one_wake_reaches_every_sleeper() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while word.load(Relaxed) == 0 {
                        futex_wait(&word, 0, Deadline::from(Duration::from_secs(1)));
                    }
                });
            }
            let end = Instant::now() + Duration::from_secs(20);
            let all = std::iter::repeat_with(|| futex_wake_all(&word)).take_while(|_| Instant::now() < end);
            let most = all.inspect(|_| std::thread::yield_now()).find(|woken| *woken == 3);
            word.store(1, Relaxed);
            futex_wake_all(&word);
            assert_eq!(most, Some(3));
        });
    }

    #[test]
    fn a_registered_process_is_fenced() {
        assert_eq!(membarrier_register(), membarrier());
    }
}
