//! Every system call of every operation in every state fails once, with each errno that it can fail with.

mod errnos;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;

use crate::Plan;
use crate::calls::{Belongings, Calls};
use crate::gates::Gate;
use crate::product::{Walked, over_product, strike_each};
use crate::record::{Outcome, Record};
use crate::stage::{self, Effect, Lore, Operation, Role, Scenario, Site};
use crate::statistics::thousands;
use crate::walk::{Found, is_walker};

use errnos::Failures;

pub(crate) const GATE: Gate = Gate {
    name: "calls",
    about: "Each system call of an operation fails once, with each errno that it can fail with.",
    run,
};

/// Scenarios of a sample, and failures of each.
const SAMPLE_SCENARIOS: usize = 60;
const SAMPLE_FAILURES: usize = 25;

/// Of calls that are made more often than this in an operation, the first ones fail.
const ROUNDS: usize = 12;

/// The n-th call (from 0), and what it fails with.
#[derive(Debug, Clone, Copy)]
struct Failure {
    nth: usize,
    number: u64,
    errno: Errno,
    call: Failures,
}

/// Ends when it gets no descriptor: seen, or the gate sees nothing.
static QUITTER: Operation = stage::operation("quitter", Role::Nobody, Effect::Nothing, |_| {
    Ok(Box::new(|| match std::fs::File::open("/dev/null") {
        Ok(_) => stage::Outcome::default(),
        Err(_) => std::process::exit(1),
    }))
});

/// Forgets a descriptor when it cannot get another.
static LEAKER: Operation = stage::operation("leaker", Role::Nobody, Effect::Nothing, |_| {
    Ok(Box::new(|| {
        let first = std::fs::File::open("/dev/null");
        match std::fs::File::open("/dev/null") {
            Ok(_) => stage::Outcome::default(),
            Err(_) => {
                std::mem::forget(first);
                stage::Outcome::default()
            }
        }
    }))
});

fn run(plan: &Plan) -> Result<Record> {
    if !cfg!(target_arch = "x86_64") {
        let mut record = Record::new(GATE.name, plan.command(GATE.name));
        let figure = "SKIPPED: system calls are made to fail on x86-64 alone";
        record.row("a system call fails", "a typed error or success", Outcome::new(true, figure));
        return Ok(record);
    }
    if !is_walker() {
        sees(&QUITTER, "ended by itself")?;
        sees(&LEAKER, "descriptors")?;
    }
    let walked = over_product(plan, GATE.name, SAMPLE_SCENARIOS, |scenario| everywhere(scenario, plan))?;
    Ok(record(plan, &walked))
}

/// Fails each call of a scenario, or the one that was named.
fn everywhere(scenario: &Scenario, plan: &Plan) -> Result<Found> {
    let lore = Lore::default();
    let mut found = Found::default();
    let unharmed = Calls::of(scenario, &lore)?;
    let mut all = failures(&unharmed)?;
    if let Some(named) = plan.named() {
        all.retain(|failure| named == failure.to_string());
        ensure!(!all.is_empty(), "it makes no call {named}");
    } else if plan.sample {
        all = plan.pick(all, SAMPLE_FAILURES);
    }
    found.places = all.len() as u64;
    let name = |failure: &Failure| format!("--only {}@{failure} ({})", scenario.name(), failure.call.name);
    strike_each(&mut found, all, name, |failure, found| fail(scenario, failure, &unharmed, &lore, found));
    Ok(found)
}

fn failures(unharmed: &Calls) -> Result<Vec<Failure>> {
    let mut all = Vec::new();
    for (nth, call) in unharmed.calls.iter().enumerate() {
        let failures = errnos::of(call).with_context(|| format!("the table lacks the call {call:?}"))?;
        let before = unharmed.calls[..nth].iter().filter(|earlier| *earlier == call).count();
        if before < ROUNDS {
            let failure = |errno: &Errno| Failure { nth, number: call.number, errno: *errno, call: failures };
            all.extend(failures.errnos.iter().map(failure));
        }
    }
    Ok(all)
}

/// Fails one call. False: another call was made in its place.
fn fail(
    scenario: &Scenario,
    failure: Failure,
    unharmed: &Calls,
    lore: &Lore,
    found: &mut Found,
) -> Result<bool> {
    let Scenario { mode, state, operation } = scenario;
    let mut site = Site::arrange(mode, state, operation.role, lore)?;
    let mut ready = site.ready(operation)?;
    let (victim, errno) = (&mut ready.victim, failure.errno as i32);
    let id = victim.id();
    let mut failed = false;
    for nth in 0.. {
        match victim.next_call()? {
            None => break,
            Some(call) if nth == failure.nth && call.number == failure.number => {
                failed = true;
                victim.pass_call(Some(errno))?;
                break;
            }
            Some(_) if nth >= failure.nth => break,
            Some(_) => victim.pass_call(None)?,
        }
    }
    if failed {
        victim.finish().context("the call failed")?;
    }
    let left = Belongings::of(victim)?;
    let said = site.let_finish(ready.victim.leave_stopped()?, ready.report, operation.effect)?;
    found.note(site.settle(operation.effect)?);
    if !failed {
        return Ok(false);
    }
    hidden(id)?;
    found.count(if said.error.is_some() { "errors" } else { "successes" });
    let same = said.error.is_some() == unharmed.said.error.is_some()
        && said.sent == unharmed.said.sent
        && said.received.len() == unharmed.said.received.len();
    ensure!(failure.errno != Errno::EINTR || same, "EINTR shows: {:?}", said.error);
    let most = if said.error.is_some() { unharmed.before } else { unharmed.after };
    ensure!(left.descriptors <= most.descriptors, "descriptors leak: {left:?} instead of {most:?}");
    ensure!(left.mappings <= most.mappings, "mappings leak: {left:?} instead of {most:?}");
    Ok(true)
}

/// Nothing without a name of its own stays.
fn hidden(id: i32) -> Result<()> {
    for folder in ["/dev/shm".into(), std::env::temp_dir()] {
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(&format!(".narrows-{id}-")) {
                bail!("{} is left behind", name.display());
            }
        }
    }
    Ok(())
}

/// Whether a fault that was planted is found.
fn sees(planted: &'static Operation, fault: &str) -> Result<()> {
    let Some(scenario) = Scenario::planted(planted) else { return Ok(()) };
    let lore = Lore::default();
    let unharmed = Calls::of(&scenario, &lore)?;
    let found: Vec<String> = failures(&unharmed)?
        .into_iter()
        .filter_map(|failure| fail(&scenario, failure, &unharmed, &lore, &mut Found::default()).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(
        found.iter().any(|found| found.contains(fault)),
        "the gate does not see the {}: {found:?}",
        planted.name
    );
    Ok(())
}

fn record(plan: &Plan, walked: &Walked) -> Record {
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let faults = walked.faults();
    let figure = format!(
        "{} failures, {} different (operation, state, call, errno) of {} scenarios: {} errors, {} successes; {faults} panics, hangs, leaks, lies or interruptions that show; {} calls not made again",
        thousands(walked.sum(|found| found.strikes)),
        thousands(walked.sum(|found| found.places)),
        walked.found.len(),
        thousands(walked.counted("errors")),
        thousands(walked.counted("successes")),
        thousands(walked.sum(|found| found.missed)),
    );
    let promise = "a typed error or success, EINTR never shows, nothing leaks, and the channel is sound";
    record.row("a system call fails", promise, Outcome::new(faults == 0, figure));
    walked.pace(&mut record, "the others afterwards", "operation of the others");
    walked.left_out(&mut record);
    record
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}={:?}", self.nth, self.errno)
    }
}
