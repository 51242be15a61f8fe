//! One operation at every level of one supply, in a process that nobody else depends on.

use std::io::Write;

use anyhow::{Context, Result};
use narrows::Error;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::alarm;

use super::operations::{OPERATIONS, Operation, PLANTS};
use super::scene::{Scene, Traces};
use super::supply::{Larder, Supply, free_pages};
use super::{BOUND_S, Part, Said, Trial, limits};

/// Pages of the `/dev/shm` that starves; more where megabytes come and go.
const PAGES: u64 = 4096;
const MANY_PAGES: u64 = 8192;
/// After so many levels in a row at which there was enough, more is enough as well.
const ENOUGH: u32 = 3;

pub(super) fn run(part: &Part) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    alarm::set(BOUND_S);
    if part.supply == "limits" {
        let larder = Larder::own(MANY_PAGES)?;
        return limits::run(&part.operation, part.start, &larder);
    }
    let supply = Supply::of(&part.supply)?;
    let planted = PLANTS.iter().map(|plant| &plant.operation).filter(|_| supply == Supply::Nothing);
    let operation = OPERATIONS.iter().chain(planted).find(|operation| operation.name == part.operation);
    let operation = operation.with_context(|| format!("no operation {}", part.operation))?;
    let series = Series {
        supply,
        operation,
        larder: Larder::own(if operation.is_long { MANY_PAGES } else { PAGES })?,
    };
    series.run(part)
}

struct Series<'a> {
    supply: Supply,
    operation: &'a Operation,
    larder: Larder,
}

impl Series<'_> {
    fn run(&self, part: &Part) -> Result<()> {
        // What a process reserves once and for all is reserved now.
        self.suffices(u64::MAX >> 20)?;
        let levels = self.supply.levels(self.operation, |level| self.suffices(level).unwrap_or(false));
        let stride = if part.sample && levels.len() > 16 { levels.len() / 12 } else { 1 };
        let mut enough = 0;
        for (at, level) in levels.into_iter().enumerate() {
            if level < part.start || at % stride != 0 {
                continue;
            }
            say(&Said::Begun(level))?;
            let trial = self.trial(level).with_context(|| format!("level {level}"))?;
            enough = if trial.refused.is_none() { enough + 1 } else { 0 };
            say(&Said::Trial(trial))?;
            if enough == ENOUGH {
                break;
            }
        }
        Ok(())
    }

    /// Whether the operation is done at this level.
    fn suffices(&self, level: u64) -> Result<bool> {
        if self.supply == Supply::Nothing {
            return Ok(true);
        }
        let mut scene = self.operation.prepare()?;
        let is_limited = self.larder.starve(self.supply, level)?;
        let result = self.operation.act(&mut scene);
        self.larder.relieve()?;
        scene.settle()?;
        scene.close();
        Ok(result.is_ok() || !is_limited)
    }

    fn trial(&self, level: u64) -> Result<Trial> {
        let mut trial = Trial { level, refused: None, broken: Vec::new(), kept: 0 };
        let birth = Traces::now()?;
        let mut scene = self.operation.prepare()?;
        let before = Traces::now()?;
        self.larder.starve(self.supply, level)?;
        let free = free_pages_if(self.supply == Supply::Pages || self.supply == Supply::Nothing)?;
        let result = self.operation.act(&mut scene);
        let lost = match (free, result.is_err()) {
            (Some(free), true) => free - free_pages()?.min(free),
            _ => 0,
        };
        self.larder.relieve()?;
        let after = Traces::now()?;
        let (broken, spare) = scene.check()?;
        trial.broken.extend(broken);
        self.judge(&mut trial, result, &before, &after, &mut scene);
        match lost {
            0 => {}
            _ if spare => trial.kept = lost * 4096,
            _ => trial.broken.push(format!("{lost} pages are gone")),
        }
        self.go_on(&mut trial, scene);
        let death = Traces::now()?;
        trial.broken.extend(birth.leaks(&death).into_iter().map(|leak| format!("in the end, {leak}")));
        if death.free_pages != birth.free_pages {
            trial
                .broken
                .push(format!("in the end {} of {} pages are free", death.free_pages, birth.free_pages));
        }
        Ok(trial)
    }

    /// What may be after the operation: done and no more than that, or refused and as before.
    fn judge(
        &self,
        trial: &mut Trial,
        result: narrows::Result<()>,
        before: &Traces,
        after: &Traces,
        scene: &mut Scene,
    ) {
        match result {
            Ok(()) if self.operation.removes => {
                // Where not even a descriptor is left, the name stays, retired: the next who comes takes it away.
                let is_retired = self.supply == Supply::Descriptors && scene.sender.is_none();
                if !after.names.is_empty() && !is_retired {
                    trial.broken.push(format!("names are left: {:?}", after.names));
                }
            }
            Ok(()) => {}
            Err(error) => {
                if !self.supply.is_named_by(&error) {
                    trial.broken.push(format!("the error names neither supply nor remedy: {error:?}"));
                }
                trial.broken.extend(before.leaks(after));
                trial.refused = Some(error.to_string());
                // Now there is room.
                if let Err(error) = self.again(scene) {
                    trial.broken.push(format!("again, with room: {error}"));
                }
            }
        }
    }

    fn again(&self, scene: &mut Scene) -> Result<(), Error> {
        if self.supply == Supply::Nothing { Ok(()) } else { self.operation.act(scene) }
    }

    /// The channel works, and goes when it is closed.
    fn go_on(&self, trial: &mut Trial, mut scene: Scene) {
        if let Err(error) = scene.settle() {
            trial.broken.push(format!("{error:#}"));
        }
        match scene.check() {
            Ok((broken, _)) => trial.broken.extend(broken),
            Err(error) => trial.broken.push(format!("{error:#}")),
        }
        scene.close();
    }
}

fn free_pages_if(wanted: bool) -> Result<Option<u64>> {
    if wanted { free_pages().map(Some) } else { Ok(None) }
}

/// One line to the gate.
pub(super) fn say(said: &Said) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(said)?)?;
    Ok(stdout.flush()?)
}
