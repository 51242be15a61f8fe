//! The machine under measurement: its name, its cores.

use anyhow::{Context, Result, bail};
use narrows::sys::cpus;
use serde::Serialize;

/// What a result means nothing without.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// Cores that this process may use.
    pub cores: usize,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let cpu = model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned());
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { cpu, kernel, cores: cpus().len() }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}, {} cores, Linux {}", self.cpu, self.cores, self.kernel)
    }
}

/// Processors for the players, by role: the first two on different cores; further senders share the first sender's
/// where there are not enough for all.
///
/// # Errors
/// Where there are no two cores.
pub(crate) fn seats(players: usize) -> Result<Vec<usize>> {
    let cpus = cpus();
    let first = *cpus.first().context("no processor to run on")?;
    let apart = cpus.iter().copied().filter(|&cpu| cpu != first && !siblings(first).contains(&cpu));
    let others: Vec<usize> = apart.collect();
    let Some(&second) = others.first() else { bail!("two cores are needed, and there is one: {cpus:?}") };
    let enough = others.len() + 1 >= players;
    let seat = |role: usize| match role {
        0 => first,
        1 => second,
        _ if enough => others[role - 1],
        _ => first,
    };
    Ok((0..players).map(seat).collect())
}

/// The processors that share a core with this one.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}
