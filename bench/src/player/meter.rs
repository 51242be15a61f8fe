//! A player's account of its work.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::clock;

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
