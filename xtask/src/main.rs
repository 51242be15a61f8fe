//! The project's chores. `cargo xtask test` runs everything that a change must pass.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod fuzz;
mod leaks;
mod packages;
mod sanitize;
mod step;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use step::{Run, Step};

/// All steps together; who reaches it is killed and has failed.
const TIME_MAX: Duration = Duration::from_secs(1500);

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("test") => test(),
        Some("sanitize") => sanitize::run(&root(), std::env::args().nth(2).as_deref()),
        Some("prove") => pass_on("run --quiet --release --package narrows-prove --"),
        Some("models") => models(std::env::args().nth(2)),
        Some("fuzz") => fuzz::run(&root(), std::env::args().skip(2)),
        Some("mutants") => pass_on("run --quiet --package narrows-mutants --"),
        _ => {
            eprintln!("usage: cargo xtask test     format, lints, docs, every test, model checker, leaks");
            eprintln!("       cargo xtask sanitize AddressSanitizer, ThreadSanitizer");
            eprintln!("       cargo xtask prove    every fault that narrows promises to survive");
            eprintln!("       cargo xtask models   the model checker with a preemption more; takes a filter");
            eprintln!(
                "       cargo xtask fuzz     a fuzzer over all that reads foreign bytes; takes a target, --minutes N"
            );
            eprintln!("       cargo xtask mutants  src/shared broken in every way: does a test notice?");
            eprintln!("--help behind prove and mutants says more");
            ExitCode::from(2)
        }
    }
}

fn test() -> ExitCode {
    let root = root();
    packages::provide(&["socat", "python3", "cc", "c++"]);

    // Tests get a temporary folder of their own: short, as a socket's path has 107 bytes, and empty afterwards.
    let folder = match tempfile::Builder::new().prefix("narrows-").tempdir_in("/tmp") {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("no temporary folder in /tmp: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut run = match Run::start(&root, TIME_MAX) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("no log of the tests in {}: {error}", root.join("target").display());
            return ExitCode::FAILURE;
        }
    };
    let before = leaks::Snapshot::take(folder.path());
    steps(&root, folder.path()).into_iter().for_each(|step| run.step(step));
    run.check("leaks", || before.compare(folder.path()));
    run.end()
}

/// Runs a member of the workspace with the rest of our arguments.
fn pass_on(arguments: &str) -> ExitCode {
    let mut command = cargo(&root(), arguments);
    command.args(std::env::args_os().skip(2));
    run(command)
}

fn run(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) => {
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("cargo: {error}");
            ExitCode::from(2)
        }
    }
}

/// The models whose names contain `filter`.
fn model_checker(root: &Path, filter: Option<&str>) -> Command {
    let mut command = cargo(root, "test --package narrows --release --lib");
    command.arg(filter.unwrap_or("loom"));
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root.join("target/loom"));
    command
}

/// All models, each with one preemption more than in `test`, and what they counted.
fn models(filter: Option<String>) -> ExitCode {
    let mut command = model_checker(&root(), filter.as_deref());
    command.args(["--", "--show-output"]).env("NARROWS_MORE_PREEMPTIONS", "1");
    run(command)
}

fn cargo(root: &Path, arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split(' ')).current_dir(root);
    command
}

fn steps(root: &Path, folder: &Path) -> Vec<Step> {
    let cargo = |arguments| cargo(root, arguments);
    let mut docs = cargo("doc --quiet --workspace --no-deps");
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut tests = cargo("test --workspace --no-fail-fast -- --show-output");
    tests.env("TMPDIR", folder);
    vec![
        Step::new("format", cargo("fmt --all --check")),
        Step::new("lints", cargo("clippy --quiet --workspace --all-targets -- -D warnings")),
        Step::new("docs", docs),
        Step::new("tests", tests),
        Step::new("model checker", model_checker(root, None)),
        Step::new("faults, sampled", cargo("run --quiet --release --package narrows-prove -- --sample")),
        Step::new("fuzz, a minute", cargo("run --quiet --package xtask -- fuzz")),
        Step::new("planted bugs", cargo("run --quiet --package narrows-mutants -- --planted")),
    ]
}

/// The workspace's folder: the one above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
