//! One test of one mutant, in a room of its own: whatever it leaves or starts ends with it.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::gates::Trial;

/// How often a running test is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    /// Killed at its bound.
    Hung,
}

/// What is switched on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Switch<'a> {
    Mutant(u32),
    /// No mutant; the places that are passed are noted in this file.
    Trace(&'a Path),
}

/// A memory of its own in `/dev/shm`, and processes that end with the first one. As root or as a user who may.
const ROOM: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const FURNISH: &str = "mount -t tmpfs tmpfs /dev/shm && exec \"$0\" \"$@\"";

/// The arguments of unshare(1) that work here; `None` where the kernel refuses rooms.
static WALLS: LazyLock<Option<Vec<&'static str>>> = LazyLock::new(|| {
    let tries = [ROOM.to_vec(), [&["--map-root-user"], &ROOM[..]].concat()];
    tries.into_iter().find(|walls| {
        let mut command = Command::new("unshare");
        command.args(walls).args(["sh", "-c", FURNISH, "true"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
});

/// Runs a test for at most `bound`. Also gives how long it took.
pub(crate) fn run(trial: &Trial, switch: Switch<'_>, bound: Duration) -> Result<(End, Duration)> {
    let attic = tempfile::Builder::new().prefix("nm-").tempdir_in("/tmp").context("/tmp")?;
    let mut output = tempfile::tempfile()?;
    let mut command = Command::new("nice");
    command.args(["-n", "10"]);
    if let Some(walls) = &*WALLS {
        command.arg("unshare").args(walls).args(["sh", "-c", FURNISH]);
    }
    command.arg(&trial.program).args(&trial.arguments).current_dir(&trial.folder).env("TMPDIR", attic.path());
    match switch {
        Switch::Mutant(id) => command.env("NARROWS_MUTANT", id.to_string()),
        Switch::Trace(file) => command.env("NARROWS_REACHED", file),
    };
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?).process_group(0);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| trial.program.display().to_string())?;
    let end = wait(&mut child, start + bound)?;
    let elapsed = start.elapsed();
    if end == End::Failed {
        let mut said = Vec::new();
        output.rewind()?;
        output.read_to_end(&mut said)?;
        if !(trial.is_finding)(&String::from_utf8_lossy(&said)) {
            return Ok((End::Passed, elapsed));
        }
    }
    Ok((end, elapsed))
}

fn wait(child: &mut Child, bound: Instant) -> Result<End> {
    loop {
        if let Some(status) = child.try_wait()? {
            end_group(child);
            return Ok(if status.success() { End::Passed } else { End::Failed });
        }
        if Instant::now() > bound {
            end_group(child);
            child.wait()?;
            return Ok(End::Hung);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Ends what is left of a test: without walls around it, its process group is all that we know.
fn end_group(child: &Child) {
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A test without a mutant: which places it passes, and how long it takes.
pub(crate) fn trace(trial: &Trial, places: usize, bound: Duration) -> Result<(End, Duration, Vec<bool>)> {
    let file = tempfile::NamedTempFile::new()?;
    File::options().write(true).open(file.path())?.set_len(places as u64)?;
    let (end, elapsed) = run(trial, Switch::Trace(file.path()), bound)?;
    let reached = fs::read(file.path())?.into_iter().map(|byte| byte != 0).collect();
    Ok((end, elapsed, reached))
}
