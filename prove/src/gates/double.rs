//! Double kills: whoever cleans up behind one who was killed is killed too, in front of every instruction.
//!
//! The first is killed behind each change that others can see of his operation: between two changes he leaves the
//! same behind. What is left in the same words by several is cleaned up once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result};

use crate::gates::Gate;
use crate::product::{FAULTS_MAX, choose, over_part};
use crate::record::{Outcome, Record};
use crate::stage::{Lore, Ready, Role, Scenario, Site};
use crate::statistics::thousands;
use crate::tracer::{Place, Stop, Trace};
use crate::walk::Found;
use crate::{Plan, atlas};

pub(crate) const GATE: Gate = Gate {
    name: "double",
    about: "Who cleans up behind one who was killed is killed too, in front of every instruction; the others go on.",
    run,
};

/// Scenarios of a sample, and of each the changes and the places.
const SAMPLE_SCENARIOS: usize = 10;
const SAMPLE_CHANGES: usize = 1;
const SAMPLE_PLACES: usize = 60;

/// What cleans up: who comes, who looks for messages, who needs chunks, who leaves last.
const CLEANERS: &[&str] =
    &["open_sender", "open_receiver", "recv", "send_large", "close_receiver", "close_sender"];

fn run(plan: &Plan) -> Result<Record> {
    let atlas = atlas::Atlas::new()?;
    let left = RefCell::default();
    let walked = over_part(plan, GATE.name, SAMPLE_SCENARIOS, is_first, |scenario| {
        behind(scenario, plan, &atlas, &left)
    })?;
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let faults = walked.faults();
    let figure = format!(
        "{} kills behind kills at {} different places, behind {} different remains of {} scenarios; {faults} lost, torn, doubled, leaked or stuck; {} places not passed again",
        thousands(walked.sum(|found| found.strikes)),
        thousands(walked.sum(|found| found.places)),
        thousands(walked.counted("remains")),
        walked.found.len(),
        thousands(walked.sum(|found| found.missed)),
    );
    let promise = "whoever cleans up may die at any point: the next goes on where it stopped";
    record.row("SIGKILL of a killed one's repairer", promise, Outcome::new(faults == 0, figure));
    walked.pace(&mut record, "counted from the kernel's release of both", "survivor's operation");
    Ok(record)
}

/// Kinds of channel whose words tell all others' too.
const MODES: &[&str] = &["many", "lease", "one"];

/// Whether what its victim leaves behind is more than a place.
fn is_first(scenario: &Scenario) -> bool {
    MODES.contains(&scenario.mode.name) && scenario.operation.role != Role::Nobody
}

/// Everything behind the first's death in one scenario.
fn behind(
    scenario: &Scenario,
    plan: &Plan,
    atlas: &atlas::Atlas,
    left: &RefCell<HashSet<u64>>,
) -> Result<Found> {
    let lore = Lore::default();
    let mut found = Found::default();
    let mut remains = remains(scenario, &lore).context("following the first's way")?;
    if let Some((change, _)) = plan.behind() {
        remains.retain(|remain| remain.change == change);
    } else if plan.sample {
        remains = plan.pick(remains, SAMPLE_CHANGES);
    }
    for remain in remains {
        for cleaner in cleaners(scenario, plan) {
            let fresh = left.borrow_mut().insert(key(&cleaner, remain.image));
            if fresh || plan.only.is_some() {
                clean(scenario, &cleaner, remain, plan, atlas, &lore, &mut found)?;
            }
            if found.faults.len() >= FAULTS_MAX {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// What the first leaves behind when it is killed there.
#[derive(Debug, Clone, Copy)]
struct Remain {
    change: usize,
    place: Place,
    /// What others see then, as a hash.
    image: u64,
}

/// All that the first can leave behind.
fn remains(scenario: &Scenario, lore: &Lore) -> Result<Vec<Remain>> {
    let mut site = Site::arrange(scenario.mode, scenario.state, scenario.operation.role, lore)?;
    let mut ready = site.ready(scenario.operation)?;
    let mut watch = site.watch();
    let mut images = Vec::new();
    let trace = ready.victim.record(|| {
        let changed = watch.changed();
        if changed {
            images.push(image(scenario, watch.image()));
        }
        changed
    })?;
    ready.victim.kill();
    site.settle(scenario.operation.effect)?;
    let behind = |(change, image): (usize, u64)| {
        let place = *trace.steps.get(trace.changes[change] + 1)?;
        Some(Remain { change, place, image })
    };
    let mut seen = HashSet::new();
    let different = images.into_iter().enumerate().filter(|(_, image)| seen.insert(*image));
    Ok(different.filter_map(behind).collect())
}

/// What others see, but for what differs from run to run: when it was made, and by whom.
fn image(scenario: &Scenario, bytes: &[u8]) -> u64 {
    const TABLES: usize = 256;
    const PLACES: std::ops::Range<usize> = 4096..4096 + 64 * 8;
    let mut hasher = DefaultHasher::new();
    (scenario.mode.name, scenario.state.name, scenario.state.deserted).hash(&mut hasher);
    for (at, word) in bytes.chunks(8).enumerate().skip(TABLES / 8) {
        // Of a place, only its first word says what stands.
        if !PLACES.contains(&(at * 8)) || (at * 8) % 64 == 0 {
            word.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn key(cleaner: &Scenario, image: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (cleaner.operation.name, image).hash(&mut hasher);
    hasher.finish()
}

/// Those who can clean up there.
fn cleaners(scenario: &Scenario, plan: &Plan) -> Vec<Scenario> {
    let asked = plan.behind().map(|(_, cleaner)| cleaner);
    let all = CLEANERS.iter().filter(|name| asked.is_none_or(|asked| asked == **name));
    // One to one, the first's end is free again only for one who comes after its death.
    let ready = |cleaner: &Scenario| {
        let first = scenario.operation;
        !scenario.mode.one
            || cleaner.operation.role != first.role
            || cleaner.operation.name.starts_with("open")
    };
    all.filter_map(|name| scenario.with_operation(name)).filter(ready).collect()
}

/// Kills one who cleans up, everywhere.
fn clean(
    first: &Scenario,
    cleaner: &Scenario,
    remain: Remain,
    plan: &Plan,
    atlas: &atlas::Atlas,
    lore: &Lore,
    found: &mut Found,
) -> Result<()> {
    let repeats = |place: Option<Place>| {
        let name = format!("--only {}:{}/{}", first.name(), remain.change, cleaner.operation.name);
        place.map_or(name.clone(), |place| format!("{name}@{}", atlas.place(place)))
    };
    if let Some(place) = plan.place(atlas)? {
        strike(first, cleaner, remain, place, lore, found)
            .unwrap_or_else(|error| fault(found, repeats(Some(place)), &error));
        return Ok(());
    }
    let trace = match way(first, cleaner, remain, lore) {
        Ok(Some(trace)) => trace,
        // Where the dead were repaired by the cleaner's coming, the first has less to do.
        Ok(None) => {
            found.missed += 1;
            return Ok(());
        }
        Err(error) => {
            fault(found, repeats(None), &error.context("following the cleaner's way"));
            return Ok(());
        }
    };
    found.count("remains");
    let mut addresses = HashSet::new();
    for place in choose(&trace, plan, SAMPLE_PLACES) {
        // A loop's rounds are the single kills' business.
        if !addresses.insert(place.address) {
            continue;
        }
        if let Err(error) = strike(first, cleaner, remain, place, lore, found) {
            fault(found, repeats(Some(place)), &error);
            if found.faults.len() >= FAULTS_MAX {
                break;
            }
        }
    }
    Ok(())
}

fn fault(found: &mut Found, repeats: String, error: &anyhow::Error) {
    found.faults.push((repeats, format!("{error:#}")));
}

/// The first dies, with the cleaner ready. False: not where it was to.
fn remaining<'a>(
    first: &Scenario,
    cleaner: &Scenario,
    remain: Remain,
    lore: &'a Lore,
) -> Result<(Site<'a>, Ready, bool)> {
    let mut site = Site::arrange(first.mode, first.state, first.operation.role, lore)?;
    site.make_way(cleaner.operation.role);
    let ready = site.ready(cleaner.operation)?;
    let there = site.kill_at(first.operation, remain.place).context("the first")?;
    Ok((site, ready, there))
}

fn way(first: &Scenario, cleaner: &Scenario, remain: Remain, lore: &Lore) -> Result<Option<Trace>> {
    let (site, mut ready, there) = remaining(first, cleaner, remain, lore)?;
    let trace = ready.victim.record(|| false)?;
    ready.victim.kill();
    site.settle(cleaner.operation.effect).context("unharmed")?;
    Ok(there.then_some(trace))
}

fn strike(
    first: &Scenario,
    cleaner: &Scenario,
    remain: Remain,
    place: Place,
    lore: &Lore,
    found: &mut Found,
) -> Result<()> {
    let (site, mut ready, there) = remaining(first, cleaner, remain, lore)?;
    let stop = ready.victim.run_to(place)?;
    found.kill(ready.victim);
    let settled = site.settle(cleaner.operation.effect)?;
    found.strikes += 1;
    found.note(settled);
    match stop {
        Stop::There if there => found.places += 1,
        _ => found.missed += 1,
    }
    Ok(())
}
