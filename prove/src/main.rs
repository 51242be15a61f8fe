//! What narrows survives, shown by breaking it on purpose.
//!
//! ```text
//! gates     one file or folder a gate: what is broken, what must hold, what was counted
//! record    what a gate found: a row for each fault, kept in docs/reliability/
//! chart     docs/reliability.md, made of the records
//! ```
//!
//! `cargo xtask prove` runs every gate whole; `--sample` is the part that a change must pass.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod chart;
mod gates;
mod random;
mod record;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use gates::{GATES, Gate};

/// Breaks narrows on purpose, in every way that its promises name, and counts what happens.
#[derive(Debug, Parser)]
#[command(name = "narrows-prove", bin_name = "cargo xtask prove", max_term_width = 110)]
pub(crate) struct Plan {
    /// Gates to run; all when none is named
    #[arg(value_name = "GATE")]
    gates: Vec<String>,
    /// The part that fits into a change's tests, instead of the whole
    #[arg(long)]
    sample: bool,
    /// Repeats a run's random choices
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long the soak goes on [default: 60]
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Keep what was found as a row of docs/reliability.md
    #[arg(long)]
    record: bool,
    /// List the gates
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if let Some(code) = gates::soak::play_if_asked() {
        return code;
    }
    let plan = Plan::parse();
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
        println!("== {}: {}", gate.name, gate.about);
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
