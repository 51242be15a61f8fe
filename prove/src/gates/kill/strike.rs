//! One scenario: its way, and a kill at every place of it.

use anyhow::Result;

use crate::Plan;
use crate::atlas::Atlas;
use crate::product::{at_places, name};
use crate::stage::{Lore, Scenario, Site};
use crate::tracer::{Place, Stop};
use crate::walk::Found;

/// Places of a scenario in a sample.
const SAMPLE_PLACES: usize = 100;

/// Kills at every place of a scenario's way, or at one that was named.
pub(super) fn everywhere(scenario: &Scenario, plan: &Plan, atlas: &Atlas) -> Result<Found> {
    let mut progress = Vec::new();
    let mut found = at_places(scenario, plan, atlas, SAMPLE_PLACES, |place, lore, found| {
        let done = strike(scenario, place, lore, found)?;
        progress.extend(done.map(|done| (done, place)));
        Ok(done.is_some())
    })?;
    let own = progress.iter().filter(|(_, place)| atlas.is_ours(place.address));
    if !scenario.state.lively
        && !scenario.operation.retracts
        && let Some(place) = backwards(own)
    {
        let fault = "less is done here than when it was killed earlier".to_owned();
        found.faults.push((name(scenario, place, atlas), fault));
    }
    Ok(found)
}

/// Kills one at a place. How much of its operation it had done; `None` where it took another way.
fn strike(scenario: &Scenario, place: Place, lore: &Lore, found: &mut Found) -> Result<Option<usize>> {
    let Scenario { mode, state, operation } = scenario;
    let mut site = Site::arrange(mode, state, operation.role, lore)?;
    let mut ready = site.ready(operation)?;
    let stop = ready.victim.run_to(place)?;
    found.kill(ready.victim);
    let progress = found.note(site.settle(operation.effect)?);
    Ok((stop == Stop::There).then_some(progress))
}

/// A place where less is done than at an earlier one: what was committed was lost.
fn backwards<'a>(mut progress: impl Iterator<Item = &'a (usize, Place)>) -> Option<Place> {
    let mut most = 0;
    progress.find_map(|(done, place)| {
        most = most.max(*done);
        (*done < most).then_some(*place)
    })
}
