//! One scenario: its way, and a kill at every place of it.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::Plan;
use crate::atlas::Atlas;
use crate::product::{FAULTS_MAX, choose, name, way};
use crate::stage::{Lore, Scenario, Site};
use crate::tracer::{Place, Stop};
use crate::walk::Found;

/// Places of a scenario in a sample.
const SAMPLE_PLACES: usize = 100;

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
    let trace = way(scenario, &lore)?;
    let places = choose(&trace, plan, SAMPLE_PLACES);
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
    if !scenario.state.lively
        && let Some(place) = backwards(progress.values().filter(|(_, place)| atlas.is_ours(place.address)))
    {
        let fault = "less is done here than when it was killed earlier".to_owned();
        found.faults.push((name(scenario, place, atlas), fault));
    }
    Ok(found)
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

/// A place where less is done than at an earlier one: what was committed was lost.
fn backwards<'a>(mut progress: impl Iterator<Item = &'a (usize, Place)>) -> Option<Place> {
    let mut most = 0;
    progress.find_map(|(done, place)| {
        most = most.max(*done);
        (*done < most).then_some(*place)
    })
}
