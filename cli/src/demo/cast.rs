//! The demo's processes: this program again, in a part. None outlives the demo, and none is waited for without bound.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use narrows::Deadline;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::interrupt;

/// How often a waiting parent looks.
pub(crate) const GLANCE: Duration = Duration::from_millis(5);

/// A process in a part; killed and reaped when dropped.
pub(crate) struct Actor {
    child: Child,
    part: String,
}

impl Actor {
    /// Starts this program as `narrows demo PART ARGUMENTS...`.
    pub(crate) fn start(part: &str, arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("cannot find this program's file")?;
        let mut command = Command::new(this);
        command.args(["demo", part, "--parent", &std::process::id().to_string()]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // A group of its own: Ctrl-C reaches the parent alone, which ends the others in order.
        command.stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start a {part}"))?;
        Ok(Self { child, part: part.to_owned() })
    }

    /// SIGKILL, and waits until it is gone; fails where it was gone before.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.child.kill().with_context(|| format!("cannot kill a {}", self.part))?;
        self.child.wait().with_context(|| format!("cannot wait for a {}", self.part))?;
        Ok(())
    }

    /// Whether it came to a good end; fails where it came to a bad one.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        match self.child.try_wait()? {
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(self.failure(status)),
            None => Ok(false),
        }
    }

    /// Fails where it ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        ensure!(!self.has_ended()?, "a {} ended too early", self.part);
        Ok(())
    }

    fn failure(&mut self, status: ExitStatus) -> anyhow::Error {
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut words);
        }
        let words = words.trim().trim_start_matches("narrows: ");
        anyhow::anyhow!("a {} failed ({status}): {words}", self.part)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until all came to a good end, calling `idle` between two looks.
pub(crate) fn end(
    actors: &mut [Actor],
    deadline: Deadline,
    mut idle: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    loop {
        let mut running = None;
        for actor in &mut *actors {
            if !actor.has_ended()? {
                running = Some(&actor.part);
            }
        }
        let Some(running) = running else { return Ok(()) };
        interrupt::check()?;
        if deadline.is_over() {
            bail!("a {running} did not end in time");
        }
        idle()?;
        std::thread::sleep(GLANCE);
    }
}

/// Called in a part: from here on it dies with its parent.
pub(crate) fn follow(parent: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let is_mine = getppid().is_some_and(|pid| pid.as_raw_nonzero().get() as u32 == parent);
    ensure!(is_mine, "this is a part of `narrows demo`, which is not there");
    Ok(())
}
