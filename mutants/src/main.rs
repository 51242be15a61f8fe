//! Whether the gates would notice: `src/shared` broken in every way that a program can think of.
//!
//! ```text
//! points    where the sources can be broken, and how
//! edits     all mutants in one text, each behind its number
//! tree      the copy of the workspace that carries them
//! gates     what is built and which tests it has
//! trial     one test of one mutant
//! hunt      every mutant through every test that passes its place
//! planted   bugs that are planted by hand; planting looks whether they are found
//! record    what became of them: docs/mutants.md; equivalent.txt says whom nobody can notice
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod edits;
mod gates;
mod hunt;
mod planted;
mod planting;
mod points;
mod record;
mod tree;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use gates::{GATES, Gate};
use points::{Mutant, Mutants};
use record::{Equivalents, Outcome, Outcomes, Tally};

/// Breaks src/shared in every way that a program can think of, and looks whether a gate goes red.
#[derive(Debug, Parser)]
#[command(name = "narrows-mutants", bin_name = "cargo xtask mutants", max_term_width = 110)]
struct Plan {
    /// Only the mutants whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only these gates; all but `prove`, whose tests take minutes, when none is named
    #[arg(long = "gate", value_name = "NAME")]
    gates: Vec<String>,
    /// Only those that no earlier run caught
    #[arg(long)]
    open: bool,
    /// The bugs that are planted by hand, instead
    #[arg(long)]
    planted: bool,
    /// Tests at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Draw docs/mutants.md
    #[arg(long)]
    record: bool,
    /// List the mutants and what is known of them
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Plan::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("narrows-mutants: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every mutant is caught or equivalent.
fn run(plan: &Plan) -> Result<bool> {
    let root = root();
    if plan.planted {
        let unfound = planting::run(&root, plan.only.as_deref())?;
        println!("{} planted bugs, not found: {}", planted::PLANTED.len(), unfound.len());
        return Ok(unfound.is_empty());
    }
    let mut mutants = Mutants::find(&root)?;
    let folder = root.join("target/mutants");
    std::fs::create_dir_all(&folder)?;
    let mut outcomes = Outcomes::load(folder.join("outcomes.json"))?;
    let equivalents = Equivalents::parse(include_str!("../equivalent.txt"))?;
    let stale = equivalents.stale(&mutants.list);
    if !stale.is_empty() {
        bail!("equivalent.txt names mutants that are no more:\n{}", stale.join("\n"));
    }
    let list = mutants.list.clone();
    let is_chosen = |mutant: &&Mutant| {
        plan.only.as_ref().is_none_or(|text| mutant.key().contains(text))
            && !(plan.open && (outcomes.is_caught(mutant) || equivalents.reason(mutant).is_some()))
    };
    let mut chosen: Vec<&Mutant> = list.iter().filter(is_chosen).collect();
    chosen.sort_by_key(|mutant| mutant.operator);
    if plan.list {
        for mutant in chosen {
            let known = outcomes.of(mutant).map_or_else(|| "not run".to_owned(), Outcome::to_string);
            println!("{}:{} {}: {known}", mutant.file, mutant.line, mutant.key());
        }
        return Ok(true);
    }
    let (ready, refused) = hunt::prepare(&root, "all", &gates(plan)?, &mut mutants)?;
    for mutant in list.iter().filter(|mutant| refused.contains(&mutant.id)) {
        outcomes.put(mutant, Outcome::Refused)?;
    }
    let run: Vec<&Mutant> = chosen.iter().copied().filter(|mutant| !refused.contains(&mutant.id)).collect();
    hunt::hunt(&ready, &mutants, &run, plan.jobs, &mut outcomes)?;
    let tally = Tally::of(&chosen, &outcomes, &equivalents);
    print!("{tally}");
    tally.open.iter().for_each(|line| println!("{line}"));
    if plan.record {
        record::draw(
            &root.join("docs/mutants.md"),
            &list.iter().collect::<Vec<_>>(),
            &outcomes,
            &equivalents,
        )?;
    }
    Ok(tally.open.is_empty())
}

fn gates(plan: &Plan) -> Result<Vec<&'static Gate>> {
    if plan.gates.is_empty() {
        return Ok(GATES.iter().filter(|gate| gate.name != "prove").collect());
    }
    plan.gates.iter().map(|name| Gate::find(name)).collect()
}

/// The workspace's folder: the one above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
