//! SIGSTOP in front of every instruction of every operation in every state; the others go on at full speed; SIGCONT.

use anyhow::{Result, ensure};

use crate::Plan;
use crate::atlas::Atlas;
use crate::gates::Gate;
use crate::product::{Walked, at_places, over_product, way};
use crate::record::{Outcome, Record};
use crate::stage::{self, Effect, Lore, Operation, Role, Scenario, Site};
use crate::statistics::thousands;
use crate::tracer::{Place, Stop};
use crate::walk::{Found, is_walker};

pub(crate) const GATE: Gate = Gate {
    name: "stop",
    about: "A process is stopped in front of every instruction of an operation, the others go on, then it does.",
    run,
};

/// Scenarios of a sample, and places of each.
const SAMPLE_SCENARIOS: usize = 60;
const SAMPLE_PLACES: usize = 25;

/// How often a name could not be opened, as its remover was stopped.
const REFUSED: &str = "refused";
/// How often in a row.
const IN_A_ROW: &str = "refused in a row";
/// A refusal takes 2 s: of many in a row the first ones are looked at, and then one of so many.
const REFUSALS: (u64, u64) = (3, 64);

/// Says that it sent what it never sent: seen, or the gate sees nothing.
static LIAR: Operation = stage::operation("liar", Role::Sender, Effect::Adds(1), |_| {
    Ok(Box::new(|| stage::Outcome { sent: 1, ..stage::Outcome::default() }))
});

fn run(plan: &Plan) -> Result<Record> {
    if !is_walker() {
        sees_a_liar()?;
    }
    let atlas = Atlas::new()?;
    let walked = over_product(plan, GATE.name, SAMPLE_SCENARIOS, |scenario| {
        let stop = |place: Place, lore: &Lore, found: &mut Found| stop(scenario, place, lore, found);
        at_places(scenario, plan, &atlas, SAMPLE_PLACES, stop)
    })?;
    Ok(record(plan, &walked))
}

/// Stops one at a place, lets it go on when the others are done. False: it took another way.
fn stop(scenario: &Scenario, place: Place, lore: &Lore, found: &mut Found) -> Result<bool> {
    let in_a_row = found.counts.get(IN_A_ROW).is_some_and(|times| *times >= REFUSALS.0);
    if in_a_row && !found.strikes.is_multiple_of(REFUSALS.1) {
        return Ok(false);
    }
    let Scenario { mode, state, operation } = scenario;
    let mut site = Site::arrange(mode, state, operation.role, lore)?;
    let mut ready = site.ready(operation)?;
    let stop = ready.victim.run_to(place)?;
    let stopped = ready.victim.leave_stopped()?;
    if site.work_beside(operation.role)? {
        found.counts.remove(IN_A_ROW);
    } else {
        found.count(REFUSED);
        found.count(IN_A_ROW);
    }
    site.let_finish(stopped, ready.report, operation.effect)?;
    found.note(site.settle(operation.effect)?);
    Ok(stop == Stop::There)
}

fn sees_a_liar() -> Result<()> {
    let Some(scenario) = Scenario::planted(&LIAR) else { return Ok(()) };
    let lore = Lore::default();
    let first = way(&scenario, &lore)?.steps[0];
    let told = stop(&scenario, first, &lore, &mut Found::default());
    let is_seen = told.as_ref().is_err_and(|error| error.to_string().contains("says that it sent 1"));
    ensure!(is_seen, "the gate does not see a message that was sent and never came: {told:?}");
    Ok(())
}

fn record(plan: &Plan, walked: &Walked) -> Record {
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let faults = walked.faults();
    let figure = format!(
        "{} stops at {} different places (operation, state, address) of {} scenarios; {faults} lost, torn, doubled, robbed or stuck; {} places not passed again, or beside a refusal",
        thousands(walked.sum(|found| found.strikes)),
        thousands(walked.sum(|found| found.places)),
        walked.found.len(),
        thousands(walked.sum(|found| found.missed)),
    );
    let promise = "what it sent comes exactly once, or it is told that it was not sent; nobody is robbed";
    record.row(
        "SIGSTOP in front of an instruction, SIGCONT later",
        promise,
        Outcome::new(faults == 0, figure),
    );
    walked.pace(&mut record, "the others meanwhile", "operation of the others");
    let figure = format!("{} openings refused", thousands(walked.counted(REFUSED)));
    let promise = "who opens a name while its remover is stopped is told so, after 2 s";
    record.row("SIGSTOP between the lock of a removal and its end", promise, Outcome::new(true, figure));
    walked.left_out(&mut record);
    record
}
