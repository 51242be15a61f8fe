//! One scenario: its way, and a kill at every place of it.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Plan;
use crate::atlas::{Atlas, source};
use crate::stage::{Lore, Scenario, Site};
use crate::tracer::{Place, Stop, Trace};
use crate::walk::Found;

/// Of a place that is passed more often than this, the first, the last and some between are struck.
const ROUNDS: u32 = 12;
/// Places of a scenario in a sample.
const SAMPLE_PLACES: usize = 100;
/// After so many faults of one scenario the rest would say the same.
const FAULTS_MAX: usize = 5;

/// Kills at every place of a scenario's way, or at one that was named.
pub(super) fn everywhere(scenario: &Scenario, plan: &Plan, atlas: &Atlas) -> Result<Found> {
    let lore = Lore::default();
    let mut found = Found::default();
    if let Some(place) = plan.place(atlas)? {
        found.strikes = 1;
        if let Err(error) = strike(scenario, place, &lore, &mut found) {
            found.faults.push((name(scenario, place, atlas), format!("{error:#}")));
        }
        return Ok(found);
    }
    let trace = way(scenario, &lore).context("following its way")?;
    let places = choose(&trace, plan);
    let mut progress = BTreeMap::new();
    for (step, place) in places {
        match strike(scenario, place, &lore, &mut found) {
            Ok(Some(done)) => drop(progress.insert(step, (done, place))),
            Ok(None) => found.missed += 1,
            Err(error) => found.faults.push((name(scenario, place, atlas), format!("{error:#}"))),
        }
        if found.faults.len() >= FAULTS_MAX {
            break;
        }
    }
    found.places = progress.values().map(|(_, place)| place.address).collect::<HashSet<_>>().len() as u64;
    if let Some(place) = backwards(&progress) {
        let fault = "less is done here than when it was killed earlier".to_owned();
        found.faults.push((name(scenario, place, atlas), fault));
    }
    Ok(found)
}

/// The way that the operation takes when nobody kills it.
fn way(scenario: &Scenario, lore: &Lore) -> Result<Trace> {
    let mut site = Site::arrange(scenario.mode, scenario.state, scenario.operation.role, lore)?;
    let mut ready = site.ready(scenario.operation)?;
    let trace = ready.victim.record(|| false)?;
    ready.victim.kill();
    let settled = site.settle(scenario.operation.effect)?;
    ensure!(settled.verdict.faults.is_empty(), "unharmed: {}", settled.verdict.faults.join("; "));
    Ok(trace)
}

/// Kills one at a place. How much of its operation it had done; `None` where it took another way.
fn strike(scenario: &Scenario, place: Place, lore: &Lore, found: &mut Found) -> Result<Option<usize>> {
    let mut site = Site::arrange(scenario.mode, scenario.state, scenario.operation.role, lore)?;
    let mut ready = site.ready(scenario.operation)?;
    let stop = ready.victim.run_to(place)?;
    let killed = Instant::now();
    ready.victim.kill();
    let released = killed.elapsed();
    let settled = site.settle(scenario.operation.effect)?;
    found.strikes += 1;
    found.release_us.push(released.as_micros() as u32);
    found.longest_us.push(settled.longest.as_micros() as u32);
    ensure!(settled.verdict.faults.is_empty(), "{}", settled.verdict.faults.join("; "));
    Ok((stop == Stop::There).then_some(settled.verdict.progress))
}

/// The places of a way that are struck, by the step.
fn choose(trace: &Trace, plan: &Plan) -> Vec<(usize, Place)> {
    let mut rounds: BTreeMap<u64, u32> = BTreeMap::new();
    trace.steps.iter().for_each(|place| *rounds.entry(place.address).or_default() = place.nth);
    let chosen = trace.steps.iter().copied().enumerate().filter(|(_, place)| {
        let rounds = rounds[&place.address];
        let (edge, between) = (ROUNDS / 3, (rounds / (ROUNDS / 3)).max(1));
        rounds <= ROUNDS || place.nth <= edge || place.nth > rounds - edge || place.nth % between == 0
    });
    let chosen: Vec<(usize, Place)> = chosen.collect();
    if plan.sample { plan.pick(chosen, SAMPLE_PLACES) } else { chosen }
}

/// A place where less is done than at an earlier one: what was committed was lost.
fn backwards(progress: &BTreeMap<usize, (usize, Place)>) -> Option<Place> {
    let mut most = 0;
    progress.values().find_map(|(done, place)| {
        most = most.max(*done);
        (*done < most).then_some(*place)
    })
}

/// What repeats a strike, and where it was.
fn name(scenario: &Scenario, place: Place, atlas: &Atlas) -> String {
    format!(
        "--only {}@{}#{} ({})",
        scenario.name(),
        atlas.name(place.address),
        place.nth,
        source(place.address)
    )
}
