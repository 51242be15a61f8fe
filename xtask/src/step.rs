//! One step: a command that is run, timed, bounded and counted.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::leaks;

/// How often a silent step is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A command and its name.
pub(crate) struct Step {
    name: &'static str,
    command: Command,
}

/// What the runners counted, and which steps did not succeed.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) skips: Vec<String>,
    pub(crate) broken: Vec<&'static str>,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.skips.extend(other.skips);
        self.broken.extend(other.broken);
    }
}

impl Step {
    pub(crate) fn new(name: &'static str, command: Command) -> Self {
        Self { name, command }
    }

    /// Runs it for at most `bound`, shows what it prints, counts its tests.
    ///
    /// A step that fails without a failed test (a lint, a build error, the bound) counts as one failure.
    pub(crate) fn run(mut self, bound: Duration) -> Tally {
        let start = Instant::now();
        let mut tally = Tally::default();
        let succeeded = match self.command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn() {
            Ok(child) => follow(self.name, child, bound, &mut tally),
            Err(error) => {
                println!("{}: {error}", self.name);
                false
            }
        };
        tally.conclude(self.name, start, succeeded)
    }
}

/// A step that is a function: it gives the complaints.
pub(crate) fn check(name: &'static str, complaints: impl FnOnce() -> Vec<String>) -> Tally {
    let start = Instant::now();
    let complaints = complaints();
    for complaint in &complaints {
        println!("{name}: {complaint}");
    }
    Tally::default().conclude(name, start, complaints.is_empty())
}

impl Tally {
    fn conclude(mut self, name: &'static str, start: Instant, succeeded: bool) -> Self {
        if !succeeded {
            self.failed = self.failed.max(1);
            self.broken.push(name);
        }
        let word = if succeeded { "ok" } else { "FAILED" };
        println!("== {name}: {word}, {:.1} s", start.elapsed().as_secs_f64());
        self
    }

    /// Takes in one line of a runner.
    ///
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; ...` ends a binary; `SKIPPED: why` is printed by a test that
    /// cannot run here and that its runner counts as passed.
    fn line(&mut self, line: &str) {
        if let Some(reason) = line.trim_start().strip_prefix("SKIPPED: ") {
            self.passed = self.passed.saturating_sub(1);
            self.skipped += 1;
            self.skips.push(format!("skipped: {reason}"));
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

/// Passes on what the child prints until it ends; kills it and all that it started when the time is over.
fn follow(name: &str, mut child: Child, bound: Duration, tally: &mut Tally) -> bool {
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
            Ok(line) => {
                println!("{line}");
                tally.line(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            // A process that a test left may hold the pipe open: the end of the child ends the step.
            Err(mpsc::RecvTimeoutError::Timeout) if matches!(child.try_wait(), Ok(Some(_))) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() > deadline {
            println!("{name}: out of time, killed");
            leaks::kill(&leaks::descendants(child.id()));
            let _ = child.kill();
            let _ = child.wait();
            return false;
        }
    }
    child.wait().is_ok_and(|status| status.success())
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
        assert_eq!(tally.skips, ["skipped: no socat"]);
    }

    #[test]
    fn what_takes_too_long_is_killed_and_has_failed() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let tally = Step::new("slow", command).run(Duration::from_millis(50));
        assert_eq!((tally.failed, tally.broken.as_slice()), (1, ["slow"].as_slice()));
    }
}
