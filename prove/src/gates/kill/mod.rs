//! SIGKILL in front of every instruction of every operation in every state; then survivors go on.

mod strike;

use anyhow::Result;

use crate::gates::Gate;
use crate::product::{Walked, over_product};
use crate::record::{Outcome, Record};
use crate::statistics::thousands;
use crate::{Plan, atlas};

pub(crate) const GATE: Gate = Gate {
    name: "kill",
    about: "A process is killed in front of every instruction of an operation; the others go on.",
    run,
};

/// Scenarios of a sample.
const SAMPLE_SCENARIOS: usize = 60;

fn run(plan: &Plan) -> Result<Record> {
    let atlas = atlas::Atlas::new()?;
    let walked = over_product(plan, GATE.name, SAMPLE_SCENARIOS, |scenario| {
        strike::everywhere(scenario, plan, &atlas)
    })?;
    Ok(record(plan, &walked))
}

fn record(plan: &Plan, walked: &Walked) -> Record {
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let faults = walked.faults();
    let figure = format!(
        "{} kills at {} different places (operation, state, address) of {} scenarios; {} lost, torn, doubled, leaked or stuck; {} places not passed again",
        thousands(walked.sum(|found| found.strikes)),
        thousands(walked.sum(|found| found.places)),
        walked.found.len(),
        faults,
        thousands(walked.sum(|found| found.missed)),
    );
    let promise =
        "nothing committed is lost, torn or doubled; every slot, chunk and place is used again; nobody waits";
    record.row("SIGKILL in front of an instruction", promise, Outcome::new(faults == 0, figure));
    walked.pace(&mut record, "counted from the kernel's release", "survivor's operation");
    walked.release(&mut record, "from SIGKILL to that release");
    walked.left_out(&mut record);
    record
}
