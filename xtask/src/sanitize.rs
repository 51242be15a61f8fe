//! `cargo xtask sanitize`: the tests under AddressSanitizer, the threaded ones under ThreadSanitizer.
//!
//! Each checker has a folder of its own in `target/`, as everything is compiled for it. What they see and what they
//! cannot see stands in CONTRIBUTING.md.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::step::{Run, Step};

/// For one step, its build included.
const TIME_MAX: Duration = Duration::from_secs(3600);

struct Checker {
    name: &'static str,
    /// What the compiler gets.
    flags: &'static str,
    /// What the program finds in its environment.
    options: fn(&Path) -> (&'static str, String),
    /// Steps: a name, cargo's arguments, the program's.
    runs: &'static [(&'static str, &'static str, &'static str)],
}

const CHECKERS: &[Checker] = &[
    Checker {
        name: "address",
        flags: "-Zsanitizer=address",
        // Processes that are killed cannot free. Allocations beyond all reason are refused, as they are without it.
        options: |_| {
            ("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024".into())
        },
        runs: &[
            // A test that bounds the address space cannot run under a checker that maps terabytes.
            (
                "tests under AddressSanitizer",
                "test --package narrows --no-fail-fast --lib --test conformance --test crash --test kernel_channels \
                 --test region --test threads --test corpus",
                "-- --skip exhausted_supplies_are_named",
            ),
            ("scribbler under AddressSanitizer", "run --package narrows-prove", "-- scribbler --sample"),
        ],
    },
    Checker {
        name: "thread",
        // The standard library comes as it is shipped; what it hands on to us is compiled with us.
        flags: "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer",
        options: |root| {
            let known = root.join("xtask/thread-sanitizer.supp");
            ("TSAN_OPTIONS", format!("halt_on_error=1:suppressions={}", known.display()))
        },
        runs: &[("threads under ThreadSanitizer", "test --package narrows --test threads", "")],
    },
];

/// Runs the checker that is named, or both.
pub(crate) fn run(root: &Path, named: Option<&str>) -> ExitCode {
    let chosen: Vec<&Checker> =
        CHECKERS.iter().filter(|checker| named.is_none_or(|name| name == checker.name)).collect();
    if chosen.is_empty() {
        eprintln!("usage: cargo xtask sanitize [address|thread]");
        return ExitCode::from(2);
    }
    let mut run = match Run::start(root, TIME_MAX) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("no log in {}: {error}", root.join("target").display());
            return ExitCode::FAILURE;
        }
    };
    for checker in chosen {
        for (name, before, behind) in checker.runs {
            run.step(Step::new(name, command(root, checker, before, behind)));
        }
    }
    run.end()
}

/// Only what runs is compiled for the checker, not what compiles: that is what a named target is for.
fn command(root: &Path, checker: &Checker, before: &str, behind: &str) -> Command {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = crate::cargo(root, before);
    command.args(["--target", &target]).args(behind.split(' ').filter(|word| !word.is_empty()));
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", checker.flags);
    command.env("CARGO_TARGET_DIR", root.join("target").join(checker.name));
    let (name, options) = (checker.options)(root);
    command.env(name, options);
    command
}
