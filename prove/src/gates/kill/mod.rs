//! SIGKILL in front of every instruction of every operation in every state; then survivors go on.

mod strike;

use std::collections::BTreeMap;

use anyhow::Result;

use crate::gates::Gate;
use crate::record::{Outcome, Record};
use crate::stage::Scenario;
use crate::statistics::{Micros, thousands};
use crate::walk::{Found, walk};
use crate::{Plan, atlas};

pub(crate) const GATE: Gate = Gate {
    name: "kill",
    about: "A process is killed in front of every instruction of an operation; the others go on.",
    run,
};

/// Scenarios of a sample.
const SAMPLE_SCENARIOS: usize = 60;

fn run(plan: &Plan) -> Result<Record> {
    let (fitting, left_out) = Scenario::all();
    let names = plan.select(fitting.iter().map(Scenario::name).collect(), SAMPLE_SCENARIOS);
    let atlas = atlas::Atlas::new()?;
    let found = walk(plan, GATE.name, &names, |case| {
        let scenario = fitting.iter().find(|scenario| scenario.name() == case);
        scenario.map_or(Ok(Found::default()), |scenario| strike::everywhere(scenario, plan, &atlas))
    })?;
    Ok(record(plan, &found, &left_out))
}

fn record(plan: &Plan, found: &[Found], left_out: &[(Scenario, &'static str)]) -> Record {
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let sum = |of: fn(&Found) -> u64| found.iter().map(of).sum::<u64>();
    let faults: usize = found.iter().map(|found| found.faults.len()).sum();
    let figure = format!(
        "{} kills at {} different places (operation, state, address) of {} scenarios; {} lost, torn, doubled, leaked or stuck; {} places not passed again",
        thousands(sum(|found| found.strikes)),
        thousands(sum(|found| found.places)),
        found.len(),
        faults,
        thousands(sum(|found| found.missed)),
    );
    let promise =
        "nothing committed is lost, torn or doubled; every slot, chunk and place is used again; nobody waits";
    record.row("SIGKILL in front of an instruction", promise, Outcome::new(faults == 0, figure));
    let longest = Micros::of(found.iter().flat_map(|found| &found.longest_us));
    let promise = "no survivor's operation lasts longer than 100 ms, 99 of 100 less than 10 ms";
    record.row(
        "counted from the kernel's release",
        promise,
        Outcome::new(longest.holds(), longest.to_string()),
    );
    let release = Micros::of(found.iter().flat_map(|found| &found.release_us));
    record.row("from SIGKILL to that release", "the kernel's", Outcome::new(true, release.to_string()));
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    left_out.iter().for_each(|(_, reason)| *reasons.entry(reason).or_default() += 1);
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count}: {reason}")).collect();
    record.row("left out of the product", "each for a reason", Outcome::new(true, reasons.join("; ")));
    record
}
