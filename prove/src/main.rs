//! What narrows survives, shown by breaking it on purpose.
//!
//! ```text
//! gates     one file or folder a gate: what is broken, what must hold, what was counted
//! stage     channels, states, operations, survivors and their judgement
//! page      memory that forked processes share
//! tracer    a process that is stopped at an exact instruction
//! product   every operation in every state, and the places on its way
//! calls     the system calls on an operation's way
//! walk      many cases, walked by one process a processor
//! plan      what a run is asked to do
//! page      memory that forked processes share
//! atlas     addresses as names that the next run understands
//! statistics  figures as people read them
//! record    what a gate found: a row for each fault, kept in docs/reliability/
//! chart     docs/reliability.md, made of the records
//! ```
//!
//! `cargo xtask prove` runs every gate whole; `--sample` is the part that a change must pass.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod atlas;
mod calls;
mod chart;
mod gates;
mod page;
mod plan;
mod product;
mod random;
mod record;
mod stage;
mod statistics;
mod tracer;
mod walk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use gates::{GATES, Gate};
pub(crate) use plan::Plan;

fn main() -> ExitCode {
    if let Some(code) = gates::soak::play_if_asked().or_else(gates::starvation::play_if_asked) {
        return code;
    }
    let plan = Plan::from_arguments();
    match run(&plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("narrows-prove: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every gate held.
fn run(plan: &Plan) -> Result<bool> {
    if plan.list {
        GATES.iter().for_each(|gate| println!("{:<12} {}", gate.name, gate.about));
        return Ok(true);
    }
    let mut broken = Vec::new();
    for gate in chosen(plan)? {
        if !walk::is_walker() {
            println!("== {}: {}", gate.name, gate.about);
        }
        let start = Instant::now();
        let record =
            (gate.run)(plan).with_context(|| format!("the gate {}", gate.name))?.after(start.elapsed());
        print!("{record}");
        if plan.record {
            record.save(&folder())?;
            chart::draw(&root())?;
        }
        if !record.holds() {
            broken.push(gate.name);
        }
    }
    if !broken.is_empty() {
        println!("broken: {}", broken.join(", "));
    }
    Ok(broken.is_empty())
}

fn chosen(plan: &Plan) -> Result<Vec<&'static Gate>> {
    if plan.gates.is_empty() {
        return Ok(GATES.iter().collect());
    }
    let find = |name: &String| match GATES.iter().find(|gate| gate.name == name) {
        Some(gate) => Ok(gate),
        None => bail!(
            "there is no gate {name}; there are: {}",
            GATES.iter().map(|gate| gate.name).collect::<Vec<_>>().join(", ")
        ),
    };
    plan.gates.iter().map(find).collect()
}

/// The workspace's folder: the one above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where records are kept.
fn folder() -> PathBuf {
    root().join("docs/reliability")
}
