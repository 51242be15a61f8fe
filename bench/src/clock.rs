//! The engine's clocks: a cheap one for single round trips, the processor time of this process.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock; comparable between processes.
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds that this process has spent on processors.
pub fn cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A clock for intervals as short as a cache line's way.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    ns_per_tick: f64,
    /// What reading the clock costs, in ticks; taken off every interval.
    cost: u64,
}

impl Ticks {
    /// Calibrates against the monotonic clock; takes 20 ms.
    pub fn calibrated() -> Self {
        let (started, first) = (Instant::now(), Self::read());
        while started.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (elapsed, last) = (started.elapsed(), Self::read());
        let mut costs: Vec<u64> = (0..1001)
            .map(|_| {
                let before = Self::read();
                Self::read() - before
            })
            .collect();
        costs.sort_unstable();
        Self {
            ns_per_tick: elapsed.as_nanos() as f64 / (last - first).max(1) as f64,
            cost: costs[costs.len() / 2],
        }
    }

    /// The clock's value now.
    #[inline(always)]
    pub fn read() -> u64 {
        #[cfg(target_arch = "x86_64")]
        return crate::floor::time_stamp();
        #[cfg(not(target_arch = "x86_64"))]
        return now_ns();
    }

    /// The nanoseconds between two readings, without the cost of one reading.
    pub fn ns(&self, ticks: u64) -> f64 {
        ticks.saturating_sub(self.cost) as f64 * self.ns_per_tick
    }
}
