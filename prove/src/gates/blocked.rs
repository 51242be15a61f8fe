//! SIGKILL inside every system call of every operation in every state: asleep there, in the midst of it, right behind
//! it. A single step jumps over a whole call, so killing in front of every instruction leaves these out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::Plan;
use crate::calls::Calls;
use crate::gates::Gate;
use crate::product::{Walked, over_waits, strike_each};
use crate::record::{Outcome, Record};
use crate::stage::{self, Effect, Lore, Operation, Role, Scenario, Site};
use crate::statistics::thousands;
use crate::walk::{Found, is_walker};

pub(crate) const GATE: Gate = Gate {
    name: "blocked",
    about: "A process is killed inside every system call of an operation: asleep, in the midst, right behind.",
    run,
};

/// Scenarios of a sample, half of them of operations that wait; kills in each, half of them where the call stands.
const SAMPLE_SCENARIOS: usize = 60;
const SAMPLE_KILLS: usize = 24;

/// So long after it was let into a call it is killed in the midst of it, in µs.
const MOMENTS_US: [u64; 5] = [0, 2, 5, 15, 50];
/// Of calls that are made more often than this in an operation, the first ones and the last are taken.
const ROUNDS: usize = 12;

/// When it is killed: in its n-th call (from 0), so many µs after it was let in; `None`: asleep, or right behind.
#[derive(Debug, Clone, Copy)]
struct Moment {
    nth: usize,
    after_us: Option<u64>,
}

/// Takes a message that it says it leaves alone, and falls asleep: seen, or the gate sees nothing.
static THIEF: Operation = stage::operation("thief", Role::Receiver, Effect::Nothing, |part| {
    let mut receiver: narrows::Receiver = narrows::Receiver::open(part.address.as_str())?;
    Ok(Box::new(move || {
        drop(receiver.recv_by(narrows::Deadline::Now));
        std::thread::sleep(Duration::from_millis(30));
        stage::Outcome::default()
    }))
});

fn run(plan: &Plan) -> Result<Record> {
    if !is_walker() {
        sees_a_thief()?;
    }
    let walked = over_waits(plan, GATE.name, SAMPLE_SCENARIOS, |scenario| everywhere(scenario, plan))?;
    Ok(record(plan, &walked))
}

/// Kills in each call of a scenario, or at the moment that was named.
fn everywhere(scenario: &Scenario, plan: &Plan) -> Result<Found> {
    let lore = Lore::default();
    let mut found = Found::default();
    let mut all = moments(&Calls::of(scenario, &lore)?);
    if let Some(named) = plan.named() {
        all.retain(|moment| named == moment.to_string());
        ensure!(!all.is_empty(), "it makes no call {named}");
    } else if plan.sample {
        let (still, midst): (Vec<_>, Vec<_>) = all.into_iter().partition(|moment| moment.after_us.is_none());
        all = plan.pick(still, SAMPLE_KILLS / 2);
        all.extend(plan.pick(midst, SAMPLE_KILLS / 2));
    }
    let name = |moment: &Moment| format!("--only {}@{moment}", scenario.name());
    strike_each(&mut found, all, name, |moment, found| {
        let is_struck = kill(scenario, moment, &lore, found)?;
        found.places += u64::from(is_struck);
        Ok(is_struck)
    });
    Ok(found)
}

fn moments(unharmed: &Calls) -> Vec<Moment> {
    let calls = &unharmed.calls;
    let mut all = Vec::new();
    for (nth, call) in calls.iter().enumerate() {
        let same = |calls: &[crate::tracer::Call]| calls.iter().filter(|other| *other == call).count();
        if same(&calls[..nth]) < ROUNDS || same(&calls[nth + 1..]) == 0 {
            let moments = MOMENTS_US.into_iter().map(Some).chain([None]);
            all.extend(moments.map(|after_us| Moment { nth, after_us }));
        }
    }
    all
}

/// Kills one at a moment. False: it makes fewer calls this time.
fn kill(scenario: &Scenario, moment: Moment, lore: &Lore, found: &mut Found) -> Result<bool> {
    let Scenario { mode, state, operation } = scenario;
    let mut site = Site::arrange(mode, state, operation.role, lore)?;
    let mut victim = site.ready(operation)?.victim;
    let mut inside = true;
    for _ in 0..moment.nth {
        match victim.next_call()? {
            Some(_) => victim.pass_call(None)?,
            None => inside = false,
        }
        if !inside {
            break;
        }
    }
    inside = inside && victim.next_call()?.is_some();
    if inside {
        enter(&mut victim, moment, found).context("inside the call")?;
    }
    found.kill(victim);
    found.note(site.settle(operation.effect)?);
    Ok(inside)
}

/// Lets it into the call in front of which it stands, up to the moment.
fn enter(victim: &mut crate::tracer::Victim, moment: Moment, found: &mut Found) -> Result<()> {
    let Some(after_us) = moment.after_us else {
        victim.enter_call()?;
        found.count(if victim.falls_asleep()? { "asleep" } else { "behind" });
        return Ok(());
    };
    victim.let_roam()?;
    victim.enter_call()?;
    let end = Instant::now() + Duration::from_micros(after_us);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    found.count("midst");
    Ok(())
}

fn sees_a_thief() -> Result<()> {
    let Some(scenario) = Scenario::planted(&THIEF) else { return Ok(()) };
    let lore = Lore::default();
    let mut found = Found::default();
    let told = kill(&scenario, Moment { nth: 0, after_us: None }, &lore, &mut found);
    let is_seen = told.as_ref().is_err_and(|error| error.to_string().contains("lost"));
    ensure!(is_seen && found.counts.contains_key("asleep"), "the gate does not see a theft: {told:?}");
    Ok(())
}

fn record(plan: &Plan, walked: &Walked) -> Record {
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let faults = walked.faults();
    let figure = format!(
        "{} kills in {} scenarios: {} asleep, {} in the midst, {} right behind; {faults} lost, torn, doubled, leaked or stuck; {} calls not made again",
        thousands(walked.sum(|found| found.strikes)),
        walked.found.len(),
        thousands(walked.counted("asleep")),
        thousands(walked.counted("midst")),
        thousands(walked.counted("behind")),
        thousands(walked.sum(|found| found.missed)),
    );
    let promise =
        "nothing committed is lost, torn or doubled; every slot, chunk and place is used again; nobody waits";
    record.row("SIGKILL inside a system call", promise, Outcome::new(faults == 0, figure));
    walked.pace(&mut record, "inside a call, counted from the kernel's release", "survivor's operation");
    walked.release(&mut record, "inside a call, from SIGKILL to that release");
    walked.left_out(&mut record);
    record
}

impl std::fmt::Display for Moment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.after_us {
            Some(after_us) => write!(out, "{}+{after_us}", self.nth),
            None => write!(out, "{}", self.nth),
        }
    }
}
