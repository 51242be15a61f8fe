//! The system calls on an operation's way.

use anyhow::{Context, Result, ensure};

use crate::stage::{Lore, Ready, Said, Scenario, Site};
use crate::tracer::{Call, Victim};

/// So many system calls are an operation at most.
const CALLS_MAX: usize = 2000;

/// The system calls that an operation makes when nobody interferes, what came of it, and what it has in its hands before
/// and after.
pub(crate) struct Calls {
    pub(crate) calls: Vec<Call>,
    pub(crate) said: Said,
    pub(crate) before: Belongings,
    pub(crate) after: Belongings,
}

impl Calls {
    /// # Errors
    /// Where the operation does not come to its end in order.
    pub(crate) fn of(scenario: &Scenario, lore: &Lore) -> Result<Self> {
        let follow = || {
            let mut site = Site::arrange(scenario.mode, scenario.state, scenario.operation.role, lore)?;
            let Ready { mut victim, report } = site.ready(scenario.operation)?;
            let before = Belongings::of(&victim)?;
            let mut calls = Vec::new();
            while let Some(call) = victim.next_call()? {
                victim.pass_call(None)?;
                calls.push(call);
                ensure!(calls.len() < CALLS_MAX, "an operation of more than {CALLS_MAX} system calls");
            }
            let after = Belongings::of(&victim)?;
            let said = site.let_finish(victim.leave_stopped()?, report, scenario.operation.effect)?;
            site.settle(scenario.operation.effect).context("unharmed")?;
            Ok(Self { calls, said, before, after })
        };
        follow().context("following its system calls")
    }
}

/// What a process has of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belongings {
    pub(crate) descriptors: usize,
    /// Mappings of files in `/dev/shm` and in the folder for temporary files.
    pub(crate) mappings: usize,
}

impl Belongings {
    pub(crate) fn of(victim: &Victim) -> Result<Self> {
        let folder = format!("/proc/{}", victim.id());
        let temporary = std::env::temp_dir();
        let maps = std::fs::read_to_string(format!("{folder}/maps"))?;
        let is_shared =
            |line: &&str| line.contains("/dev/shm/") || line.contains(&*temporary.to_string_lossy());
        Ok(Self {
            descriptors: std::fs::read_dir(format!("{folder}/fd"))?.count(),
            mappings: maps.lines().filter(is_shared).count(),
        })
    }
}
