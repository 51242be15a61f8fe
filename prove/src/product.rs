//! The product of kinds of channel, states and operations, and the places on an operation's way.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};

use crate::Plan;
use crate::atlas::Atlas;
use crate::record::{Outcome, Record};
use crate::stage::{Lore, Scenario, Site};
use crate::statistics::Micros;
use crate::tracer::{Place, Trace};
use crate::walk::{Case, Found, walk};

/// After so many faults of one scenario the rest would say the same.
pub(crate) const FAULTS_MAX: usize = 5;

/// What came of a walk over the product.
pub(crate) struct Walked {
    pub(crate) found: Vec<Found>,
    left_out: Vec<(Scenario, &'static str)>,
}

/// Walks the product, or in a sample `count` scenarios of it.
///
/// # Errors
/// Where a walker fails, as opposed to what it walks.
pub(crate) fn over_product(
    plan: &Plan,
    gate: &str,
    count: usize,
    work: impl Fn(&Scenario) -> Result<Found>,
) -> Result<Walked> {
    over_part(plan, gate, count, |_| true, work)
}

/// Walks those scenarios of the product that a gate is for, or in a sample `count` of them.
///
/// # Errors
/// Where a walker fails, as opposed to what it walks.
pub(crate) fn over_part(
    plan: &Plan,
    gate: &str,
    count: usize,
    part: impl Fn(&Scenario) -> bool,
    work: impl Fn(&Scenario) -> Result<Found>,
) -> Result<Walked> {
    let (mut fitting, left_out) = Scenario::all();
    fitting.retain(part);
    let names = plan.select(fitting.iter().map(Scenario::name).collect(), count);
    walk_named(plan, gate, &names, fitting, left_out, work)
}

/// Walks the product; half of a sample of `count` scenarios are those of operations that wait.
///
/// # Errors
/// Where a walker fails, as opposed to what it walks.
pub(crate) fn over_waits(
    plan: &Plan,
    gate: &str,
    count: usize,
    work: impl Fn(&Scenario) -> Result<Found>,
) -> Result<Walked> {
    let (fitting, left_out) = Scenario::all();
    let named = |sleeps| {
        let part = fitting.iter().filter(|scenario| scenario.operation.sleeps == sleeps);
        plan.select(part.map(Scenario::name).collect(), count / 2)
    };
    let names = [named(true), named(false)].concat();
    walk_named(plan, gate, &names, fitting, left_out, work)
}

fn walk_named(
    plan: &Plan,
    gate: &str,
    names: &[String],
    fitting: Vec<Scenario>,
    left_out: Vec<(Scenario, &'static str)>,
    work: impl Fn(&Scenario) -> Result<Found>,
) -> Result<Walked> {
    let by_name: BTreeMap<String, Scenario> =
        fitting.into_iter().map(|scenario| (scenario.name(), scenario)).collect();
    let sleeps = |name: &String| by_name.get(name).is_some_and(|scenario| scenario.operation.sleeps);
    let case = |name: &String| Case { name: name.clone(), sleeps: sleeps(name) };
    let cases: Vec<Case> = names.iter().map(case).collect();
    let found = walk(plan, gate, &cases, |case| by_name.get(case).map_or(Ok(Found::default()), &work))?;
    Ok(Walked { found, left_out })
}

impl Walked {
    pub(crate) fn sum(&self, of: fn(&Found) -> u64) -> u64 {
        self.found.iter().map(of).sum()
    }

    /// How often something was counted under that name.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.found.iter().filter_map(|found| found.counts.get(what)).sum()
    }

    pub(crate) fn faults(&self) -> usize {
        self.found.iter().map(|found| found.faults.len()).sum()
    }

    /// Whether the survivors kept their pace; `whose`: what of them must not last longer.
    pub(crate) fn pace(&self, record: &mut Record, fault: &str, whose: &str) {
        let longest = Micros::of(self.found.iter().flat_map(|found| &found.longest_us));
        let promise = format!("no {whose} lasts longer than 100 ms, 99 of 100 less than 10 ms");
        record.row(fault, &promise, Outcome::new(longest.holds(), longest.to_string()));
    }

    /// How long the kernel took to let go of the killed.
    pub(crate) fn release(&self, record: &mut Record, fault: &str) {
        let release = Micros::of(self.found.iter().flat_map(|found| &found.release_us));
        record.row(fault, "the kernel's", Outcome::new(true, release.to_string()));
    }

    /// What of the product is not walked, and why.
    pub(crate) fn left_out(&self, record: &mut Record) {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        self.left_out.iter().for_each(|(_, reason)| *reasons.entry(reason).or_default() += 1);
        let reasons: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{count}: {reason}")).collect();
        record.row("left out of the product", "each for a reason", Outcome::new(true, reasons.join("; ")));
    }
}

/// The way that the operation takes when nobody interferes.
pub(crate) fn way(scenario: &Scenario, lore: &Lore) -> Result<Trace> {
    let follow = || -> Result<Trace> {
        let mut site = Site::arrange(scenario.mode, scenario.state, scenario.operation.role, lore)?;
        let mut ready = site.ready(scenario.operation)?;
        let trace = ready.victim.record(|| false)?;
        ready.victim.kill();
        site.settle(scenario.operation.effect).context("unharmed")?;
        Ok(trace)
    };
    follow().context("following its way")
}

/// Does something to a process at the chosen places of a scenario's way, or at the one that was named; in a sample at
/// `count` of them. `act` gives false where the process took another way.
///
/// # Errors
/// Where the scenario cannot be followed without that.
pub(crate) fn at_places(
    scenario: &Scenario,
    plan: &Plan,
    atlas: &Atlas,
    count: usize,
    mut act: impl FnMut(Place, &Lore, &mut Found) -> Result<bool>,
) -> Result<Found> {
    let lore = Lore::default();
    let mut found = Found::default();
    let mut passed = HashSet::new();
    let places = match plan.place(atlas)? {
        Some(place) => vec![place],
        None => choose(&way(scenario, &lore)?, plan, count),
    };
    let strike = |place: Place, found: &mut Found| {
        let is_struck = act(place, &lore, found)?;
        if is_struck {
            passed.insert(place.address);
        }
        Ok(is_struck)
    };
    strike_each(&mut found, places, |place| name(scenario, *place, atlas), strike);
    found.places = passed.len() as u64;
    Ok(found)
}

/// Strikes once for each of `all`, until enough is broken; `name` repeats one. `strike` gives false where it missed.
pub(crate) fn strike_each<T: Copy>(
    found: &mut Found,
    all: Vec<T>,
    name: impl Fn(&T) -> String,
    mut strike: impl FnMut(T, &mut Found) -> Result<bool>,
) {
    for one in all {
        found.strikes += 1;
        match strike(one, found) {
            Ok(true) => {}
            Ok(false) => found.missed += 1,
            Err(error) => found.faults.push((name(&one), format!("{error:#}"))),
        }
        if found.faults.len() >= FAULTS_MAX {
            break;
        }
    }
}

/// The places of a way, in its order, each when it is passed first and last; in a sample `count` of them.
pub(crate) fn choose(trace: &Trace, plan: &Plan, count: usize) -> Vec<Place> {
    let mut rounds: BTreeMap<u64, u32> = BTreeMap::new();
    trace.steps.iter().for_each(|place| *rounds.entry(place.address).or_default() = place.nth);
    let is_edge = |place: &Place| place.nth == 1 || place.nth == rounds[&place.address];
    let chosen = trace.steps.iter().copied().filter(is_edge);
    let chosen: Vec<Place> = chosen.collect();
    if plan.sample { plan.pick(chosen, count) } else { chosen }
}

/// What repeats what was done at a place, and where that is.
pub(crate) fn name(scenario: &Scenario, place: Place, atlas: &Atlas) -> String {
    format!("--only {}@{}", scenario.name(), atlas.place(place))
}
