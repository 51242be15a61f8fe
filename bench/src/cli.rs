//! `narrows bench`: chooses cases, measures them, prints each result as it comes.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::conductor::Stage;
use crate::goals::{self, Goal};
use crate::machine::Machine;
use crate::measure::{Effort, Measurement};
use crate::player::play_if_asked;
use crate::result::{Outcome, outcomes};
use crate::scenario::Case;
use crate::scheme::Scheme;
use crate::table::Table;

/// Measures channels and the machine's floors between two processes, each pinned to its own core.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub struct Args {
    /// What to measure: shm, file, memfd, unix, unix-dgram, fifo, floor. Default: floor, shm, unix, fifo.
    #[arg(value_name = "SCHEME")]
    pub schemes: Vec<String>,
    /// Only scenarios whose name contains this; `narrows bench --list` shows the names.
    #[arg(long, value_name = "SUBSTR")]
    pub scenario: Option<String>,
    /// Only this size.
    #[arg(long, value_name = "BYTES")]
    pub size: Option<usize>,
    /// How often each case is repeated; medians are shown.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: Option<u16>,
    /// One object per result and line.
    #[arg(long)]
    pub json: bool,
    /// Short repetitions: a first look.
    #[arg(long)]
    pub quick: bool,
    /// Show the scenarios instead of measuring them.
    #[arg(long)]
    pub list: bool,
    /// Measure the ratios that narrows is held to, and say which are met.
    #[arg(long, conflicts_with_all = ["scenario", "size", "list", "schemes"])]
    pub goals: bool,
    /// What cargo adds to the arguments of a benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What is measured where none is named.
const DEFAULT: [&str; 4] = ["floor", "shm", "unix", "fifo"];

/// Runs `narrows bench`. `player_arguments` lead this program, started again, back here: `["bench"]` where `bench`
/// is a verb.
///
/// # Errors
/// What stands in the way of measuring at all. A case that fails is told on standard error, and the exit code is 1.
pub fn run(args: &Args, player_arguments: &[&str]) -> Result<ExitCode> {
    run_with(args, player_arguments, &[], &goals::narrows())
}

/// The same with more schemes beside narrows' own, and other goals.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    args: &Args,
    player_arguments: &[&str],
    more: &[&dyn Scheme],
    goals: &[Goal],
) -> Result<ExitCode> {
    let schemes: Vec<&dyn Scheme> = crate::schemes().into_iter().chain(more.iter().copied()).collect();
    if play_if_asked(&schemes)? {
        return Ok(ExitCode::SUCCESS);
    }
    let stage = Stage::new(player_arguments);
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let effort = Effort { runs: args.runs.map_or(effort.runs, usize::from), ..effort };
    let names: Vec<&str> = DEFAULT.into_iter().chain(more.iter().map(|scheme| scheme.name())).collect();
    if cfg!(debug_assertions) && !args.list {
        writeln!(io::stderr(), "built without optimisation: these figures say little; use --release")?;
    }
    let done = if args.goals {
        goals::run(goals, &schemes, &stage, effort, args.json)
    } else if args.list {
        list(&chosen(args, &schemes, &names)?)
    } else {
        measure(args, &chosen(args, &schemes, &names)?, &stage, effort)
    };
    match done {
        Err(error) if is_closed_output(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

type Chosen<'a> = Vec<(&'a dyn Scheme, Case)>;

fn chosen<'a>(args: &Args, schemes: &[&'a dyn Scheme], default: &[&str]) -> Result<Chosen<'a>> {
    let known = || schemes.iter().map(|scheme| scheme.name()).collect::<Vec<_>>().join(", ");
    let named: Vec<&str> = args.schemes.iter().map(|name| name.trim_end_matches(':')).collect();
    let names = if named.is_empty() { default } else { &named };
    let mut chosen = Chosen::new();
    for name in names {
        let scheme = schemes.iter().find(|scheme| scheme.name() == *name);
        let scheme = *scheme.with_context(|| format!("'{name}' is not measured; these are: {}", known()))?;
        chosen.extend(scheme.cases().into_iter().map(|case| (scheme, case)));
    }
    if let Some(part) = &args.scenario {
        chosen.retain(|(_, case)| case.scenario.name.contains(part.as_str()));
    }
    if let Some(size) = args.size {
        chosen.retain(|(_, case)| case.size == size);
    }
    if chosen.is_empty() {
        bail!("nothing to measure: no scenario of {} is asked for; see --list", names.join(", "));
    }
    Ok(chosen)
}

fn list(chosen: &Chosen<'_>) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut shown: Option<(&str, &str)> = None;
    for (scheme, case) in chosen {
        let this = (scheme.name(), case.scenario.name);
        if shown != Some(this) {
            writeln!(out, "{:<10} {:<42} {}", this.0, this.1, case.scenario.what)?;
            shown = Some(this);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, chosen: &Chosen<'_>, stage: &Stage, effort: Effort) -> Result<ExitCode> {
    let progress = progress(chosen.len() as u64);
    let mut table = Table::new();
    let mut is_complete = true;
    if !args.json {
        progress.suspend(|| writeln!(io::stdout(), "{}\n{}", Machine::this(), table.head()))?;
    }
    for (scheme, case) in chosen {
        progress.set_message(format!("{} {case}", scheme.name()));
        match repeat(*scheme, *case, stage, effort) {
            Ok(results) => progress.suspend(|| print(&results, args.json, &mut table))?,
            Err(error) => {
                is_complete = false;
                progress.suspend(|| writeln!(io::stderr(), "{} {case}: {error:#}", scheme.name()))?;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repeat(scheme: &dyn Scheme, case: Case, stage: &Stage, effort: Effort) -> Result<Vec<Outcome>> {
    let mut measurement = Measurement::start(scheme, case, stage, effort)?;
    let repetitions = (0..effort.runs).map(|_| measurement.repeat()).collect::<Result<Vec<_>>>()?;
    Ok(outcomes(scheme.name(), &case, &repetitions))
}

fn print(results: &[Outcome], json: bool, table: &mut Table) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for outcome in results {
        let line = if json { serde_json::to_string(outcome)? } else { table.row(outcome) };
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// A line on standard error that says what is being measured; nothing where that is no terminal.
pub(crate) fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}
