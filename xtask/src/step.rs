//! One step: a command that is run, timed, bounded and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::leaks;

/// How often a silent step is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many lines of a step that fails are told again at the very end.
const TOLD_AGAIN: usize = 60;

/// A command and its name.
pub(crate) struct Step {
    name: &'static str,
    command: Command,
}

/// Steps one after the other: what they print goes to a log, what fails is told as it comes and again at the end.
pub(crate) struct Run {
    start: Instant,
    /// All steps together; who reaches it is killed and has failed.
    time_max: Duration,
    log: File,
    log_path: PathBuf,
    tally: Tally,
    /// The steps that did not succeed, each with the last lines it showed.
    broken: Vec<(&'static str, VecDeque<String>)>,
}

/// What the runners counted.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    skips: Vec<String>,
}

/// What a runner says, without what it says of tests that pass: of those there are thousands.
#[derive(Default)]
struct Digest {
    among_successes: bool,
    last: VecDeque<String>,
}

impl Step {
    pub(crate) fn new(name: &'static str, command: Command) -> Self {
        Self { name, command }
    }
}

impl Run {
    pub(crate) fn start(root: &Path, time_max: Duration) -> io::Result<Self> {
        let log_path = root.join("target/test.log");
        std::fs::create_dir_all(root.join("target"))?;
        let log = File::create(&log_path)?;
        let (tally, broken) = (Tally::default(), Vec::new());
        Ok(Self { start: Instant::now(), time_max, log, log_path, tally, broken })
    }

    /// Runs a step for as long as there is time, counts its tests.
    ///
    /// A step that fails without a failed test (a lint, a build error, the bound) counts as one failure.
    pub(crate) fn step(&mut self, mut step: Step) {
        let start = Instant::now();
        let bound = self.time_max.saturating_sub(self.start.elapsed());
        let failed_before = self.tally.failed;
        let mut digest = Digest::default();
        let succeeded = match step.command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn() {
            Ok(child) => follow(child, bound, |line| {
                self.tally.line(&line);
                // The log is a help; the tests do not fail for a full disk.
                let _ = writeln!(self.log, "{line}");
                digest.line(line);
            }),
            Err(error) => {
                digest.show(format!("{}: {error}", step.name));
                false
            }
        };
        if !succeeded && self.tally.failed == failed_before {
            self.tally.failed += 1;
        }
        self.conclude(step.name, start, succeeded, digest);
    }

    /// A step that is a function: it gives the complaints.
    pub(crate) fn check(&mut self, name: &'static str, complaints: impl FnOnce() -> Vec<String>) {
        let start = Instant::now();
        let mut digest = Digest::default();
        complaints().into_iter().for_each(|complaint| digest.show(complaint));
        let succeeded = digest.last.is_empty();
        self.tally.failed += u64::from(!succeeded);
        self.conclude(name, start, succeeded, digest);
    }

    fn conclude(&mut self, name: &'static str, start: Instant, succeeded: bool, digest: Digest) {
        let word = if succeeded { "ok" } else { "FAILED" };
        say(&format!("== {name}: {word}, {:.1} s", start.elapsed().as_secs_f64()));
        if !succeeded {
            self.broken.push((name, digest.last));
        }
    }

    /// Tells what failed and what was skipped, and counts.
    pub(crate) fn end(self) -> ExitCode {
        let Tally { passed, failed, skipped, skips } = self.tally;
        for reason in skips {
            say(&format!("skipped: {reason}"));
        }
        for (name, last) in self.broken {
            say(&format!("\n== {name} failed; what it said last:"));
            last.iter().for_each(|line| say(line));
        }
        let seconds = self.start.elapsed().as_secs_f64();
        say(&format!("{seconds:.0} s; all that was printed: {}", self.log_path.display()));
        say(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Digest {
    fn line(&mut self, line: String) {
        match line.as_str() {
            "successes:" => self.among_successes = true,
            "failures:" => self.among_successes = false,
            _ if line.starts_with("test result: ") => self.among_successes = false,
            _ => {}
        }
        let passed = line.starts_with("test ") && (line.ends_with(" ok") || line.ends_with(" ignored"));
        if !(self.among_successes || passed || line.is_empty() || line.starts_with("running ")) {
            self.show(line);
        }
    }

    fn show(&mut self, line: String) {
        say(&line);
        if self.last.len() == TOLD_AGAIN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl Tally {
    /// Takes in one line of a runner.
    ///
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; ...` ends a binary; `SKIPPED: why` is printed by a test that
    /// cannot run here and that its runner counts as passed.
    fn line(&mut self, line: &str) {
        if let Some(reason) = line.trim_start().strip_prefix("SKIPPED: ") {
            self.passed = self.passed.saturating_sub(1);
            self.skipped += 1;
            self.skips.push(reason.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += before(result, " passed");
            self.failed += before(result, " failed");
            self.skipped += before(result, " ignored");
        }
    }
}

/// The number that stands before a word: 12 in `ok. 12 passed`.
fn before(text: &str, word: &str) -> u64 {
    let head = text.split(word).next().unwrap_or_default();
    head.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Hands over what the child prints until it ends; kills it and all that it started when the time is over.
fn follow(mut child: Child, bound: Duration, mut line: impl FnMut(String)) -> bool {
    let deadline = Instant::now() + bound;
    let (sender, lines) = mpsc::channel();
    let output = child.stdout.take();
    std::thread::spawn(move || {
        for line in
            output.into_iter().flat_map(|output| BufReader::new(output).split(b'\n')).map_while(Result::ok)
        {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    loop {
        match lines.recv_timeout(LOOK_EVERY) {
            Ok(text) => line(text),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            // A process that a test left may hold the pipe open: the end of the child ends the step.
            Err(mpsc::RecvTimeoutError::Timeout) if matches!(child.try_wait(), Ok(Some(_))) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() > deadline {
            line(format!("out of time after {:.0} s, killed", bound.as_secs_f64()));
            leaks::kill(&leaks::descendants(child.id()));
            let _ = child.kill();
            let _ = child.wait();
            return false;
        }
    }
    child.wait().is_ok_and(|status| status.success())
}

/// Nothing in a test: what it says of failures would be taken for one by who reads the whole.
fn say(line: &str) {
    if !cfg!(test) {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_counted() {
        let mut tally = Tally::default();
        tally.line("test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out");
        tally.line("SKIPPED: no socat");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (11, 3, 2));
        assert_eq!(tally.skips, ["no socat"]);
    }

    #[test]
    fn what_takes_too_long_is_killed_and_has_failed() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let root = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(root.path(), Duration::from_millis(50)).expect("a log");
        run.step(Step::new("slow", command));
        assert_eq!(run.tally.failed, 1);
        assert_eq!(run.broken, [("slow", VecDeque::from(["out of time after 0 s, killed".to_owned()]))]);
        assert_eq!(run.end(), ExitCode::FAILURE);
    }

    #[test]
    fn what_fails_is_shown_and_told_again() {
        let said = "running 3 tests\ntest a ... ok\ntest b ... FAILED\n\nsuccesses:\n    a\n\nfailures:\n\n---- b\nit broke\ntest result: FAILED.";
        let mut digest = Digest::default();
        said.lines().for_each(|line| digest.line(line.to_owned()));
        assert_eq!(
            digest.last,
            ["test b ... FAILED", "failures:", "---- b", "it broke", "test result: FAILED."]
        );
    }
}
