//! `cargo xtask fuzz`: coverage-guided fuzzing of everything that reads a segment, a frame or an address.
//!
//! LLVM's libFuzzer, by the compiler that builds everything else; a C++ compiler compiles it. What the library asserts
//! of its own is asserted. Without AddressSanitizer, for speed: that one sees what is kept (`cargo xtask sanitize`).
//! Inputs that reach something new go to `target/fuzz/corpus`, beside those that are kept in `fuzz/corpus`; what
//! breaks a promise goes to `target/fuzz/broken`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::packages;

/// The targets.
const TARGETS: [&str; 3] = ["segment", "frames", "address"];

/// What makes the compiler count the branches that are taken, and the values that are compared.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-sanitizer-coverage-stack-depth -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// An input that takes longer hangs, on a machine that does other things as well.
const HANG: &str = "-timeout=20";
/// No process may grow beyond, in MiB: the corpus and the fuzzer's own included.
const MOST: &str = "-rss_limit_mb=1024";

const USAGE: &str =
    "usage: cargo xtask fuzz [TARGET] [--minutes N]   all targets: segment frames address; a minute each
       cargo xtask fuzz --keep                   what was found, at its smallest, goes to fuzz/corpus";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Run { target: Option<&'static str>, minutes: u32 },
    Keep,
}

/// Runs what the arguments behind `fuzz` say.
pub(crate) fn run(root: &Path, arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(task) = parse(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if !packages::is_there("c++") {
        println!("SKIPPED: fuzzing needs a C++ compiler (`c++`), which compiles libFuzzer");
        println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    let Some(fuzzers) = build(root) else { return ExitCode::FAILURE };
    let fuzz = Fuzz { root: root.to_path_buf(), fuzzers };
    match task {
        Task::Keep => fuzz.keep(),
        Task::Run { target, minutes } => fuzz.run(lanes(target, Duration::from_secs(60) * minutes)),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Task> {
    let (mut target, mut minutes) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => return (target.is_none() && arguments.next().is_none()).then_some(Task::Keep),
            "--minutes" => minutes = Some(arguments.next()?.parse().ok().filter(|minutes| *minutes > 0)?),
            name => target = Some(*TARGETS.iter().find(|known| **known == name)?),
        }
    }
    Some(Task::Run { target, minutes: minutes.unwrap_or(1) })
}

/// Builds the fuzzers; gives the folder that they are in.
fn build(root: &Path) -> Option<PathBuf> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = root.join("target/fuzz");
    let mut command = crate::cargo(&root.join("fuzz"), "build --quiet --release --bins --target");
    command.arg(&platform).env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder);
    command.status().is_ok_and(|status| status.success()).then(|| folder.join(platform).join("release"))
}

struct Fuzz {
    root: PathBuf,
    fuzzers: PathBuf,
}

/// A target, and for how long it runs.
type Part = (&'static str, Duration);

/// One target on every processor for that time, or all of them in it.
fn lanes(target: Option<&'static str>, time: Duration) -> Vec<Vec<Part>> {
    let [segment, light @ ..] = TARGETS;
    let light = |time: Duration| light.map(|target| (target, time / light.len() as u32)).to_vec();
    match (target, processors()) {
        (Some(target), processors) => vec![vec![(target, time)]; processors],
        (None, 1) => vec![[vec![(segment, time / 2)], light(time / 2)].concat()],
        (None, _) => vec![vec![(segment, time)], light(time)],
    }
}

/// What one run of a target came to.
struct Outcome {
    executions: u64,
    succeeded: bool,
}

impl Fuzz {
    /// Runs lanes side by side, and what stands in each one after the other.
    fn run(&self, lanes: Vec<Vec<Part>>) -> ExitCode {
        let outcomes: Vec<(&str, Outcome)> = std::thread::scope(|scope| {
            let running: Vec<_> = lanes
                .into_iter()
                .map(|lane| {
                    scope.spawn(move || {
                        lane.into_iter().map(|(name, time)| (name, self.fuzz(name, time))).collect::<Vec<_>>()
                    })
                })
                .collect();
            running.into_iter().flat_map(|lane| lane.join().unwrap_or_default()).collect()
        });
        let failed = outcomes.iter().filter(|(_, outcome)| !outcome.succeeded).count();
        for name in outcomes.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>() {
            let executions =
                outcomes.iter().filter(|(of, _)| *of == name).map(|(_, outcome)| outcome.executions);
            println!("{name}: {}", self.count(name, executions.sum()));
        }
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {word}. {} passed; {failed} failed; 0 ignored", outcomes.len() - failed);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(self.fuzzers.join(target));
        command.current_dir(self.root.join("fuzz"));
        command.args([HANG, MOST, "-print_final_stats=1", "-reload=1", "-max_len=1000"]);
        command
    }

    /// One process, for that time. What it says of a broken promise is passed on.
    fn fuzz(&self, target: &str, time: Duration) -> Outcome {
        let broken = self.folder("broken", target);
        let mut command = self.command(target);
        command.arg(format!("-max_total_time={}", time.as_secs().max(1)));
        command.arg(format!("-artifact_prefix={}/", broken.display()));
        command.arg(self.folder("corpus", target)).arg(self.kept(target));
        let mut outcome = Outcome { executions: 0, succeeded: false };
        let Ok(mut child) = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
            return outcome;
        };
        let mut said = Vec::new();
        let lines = child.stderr.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n'));
        for line in lines.map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
                outcome.executions = number.trim().parse().unwrap_or(0);
            }
            // Told at each power of two: at those that take a while.
            let number =
                line.strip_prefix('#').and_then(|rest| rest.split_once("\tpulse")?.0.parse::<u64>().ok());
            if number.is_some_and(|number| number > 1 << 20) {
                println!("{target}: {line}");
            }
            if !line.starts_with('#') && !line.trim_start().starts_with("NEW_FUNC") {
                said.push(line);
            }
        }
        outcome.succeeded = child.wait().is_ok_and(|status| status.success());
        if !outcome.succeeded {
            println!("{}", said.join("\n"));
            let fuzzer = self.fuzzers.join(target);
            println!("{target}: a promise is broken; again: {} {}/...", fuzzer.display(), broken.display());
        }
        outcome
    }

    /// Adds to the executions of a target since `target/` was made; gives both numbers in words.
    fn count(&self, target: &str, executions: u64) -> String {
        let file = self.root.join("target/fuzz").join(format!("executions-{target}"));
        let before: u64 =
            fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let total = before + executions;
        if let Err(error) = fs::write(&file, total.to_string()) {
            println!("{}: {error}", file.display());
        }
        format!("{executions} executions, {total} in all")
    }

    /// Replaces what is kept by the smallest inputs that reach as much as all that were found.
    fn keep(&self) -> ExitCode {
        for target in TARGETS {
            let (kept, smaller) = (self.kept(target), self.folder("smaller", target));
            let _ = fs::remove_dir_all(&smaller);
            let _ = fs::create_dir_all(&smaller);
            let mut command = self.command(target);
            command.args(["-set_cover_merge=1", "-use_counters=0"]).args([
                &smaller,
                &kept,
                &self.folder("corpus", target),
            ]);
            let merged = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
            if !merged {
                println!("{target}: the merge failed");
                return ExitCode::FAILURE;
            }
            match replace(&kept, &smaller) {
                Ok((files, bytes)) => println!("{target}: {files} inputs, {bytes} bytes"),
                Err(error) => {
                    println!("{target}: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        ExitCode::SUCCESS
    }

    fn kept(&self, target: &str) -> PathBuf {
        self.root.join("fuzz/corpus").join(target)
    }

    /// A folder in `target/fuzz`, which is made.
    fn folder(&self, kind: &str, target: &str) -> PathBuf {
        let folder = self.root.join("target/fuzz").join(kind).join(target);
        let _ = fs::create_dir_all(&folder);
        folder
    }
}

/// Puts the files of one folder in the place of another's; gives how many, and their bytes.
fn replace(old: &Path, new: &Path) -> std::io::Result<(usize, u64)> {
    fs::remove_dir_all(old)?;
    fs::create_dir_all(old)?;
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        bytes += fs::copy(entry.path(), old.join(entry.file_name()))?;
        files += 1;
    }
    Ok((files, bytes))
}

/// At most two: a machine that is tested on does other things as well.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_a_target_and_a_time() {
        let parse = |text: &str| parse(text.split_whitespace().map(str::to_owned));
        let run = |target, minutes| Some(Task::Run { target, minutes });
        assert_eq!(parse(""), run(None, 1));
        assert_eq!(parse("--minutes 90 frames"), run(Some("frames"), 90));
        assert_eq!(parse("--keep"), Some(Task::Keep));
        let time = Duration::from_secs(60);
        let total: Duration = lanes(None, time).concat().iter().map(|(_, time)| *time).sum();
        assert_eq!(total, time * processors() as u32);
        for wrong in ["frame", "--minutes", "--minutes 0", "--keep frames", "frames --keep"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
