//! Forks, and the marks between which a victim is watched. The unsafe part of the tracer.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::Call;

/// Exit codes of a forked process.
const FAILED: i32 = 1;
const PANICKED: i32 = 101;

/// A fork of this process that ends when `work` does. Killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Fork {
    pid: Option<Pid>,
}

impl Fork {
    /// Only from a process of one thread: a fork has only the thread that made it.
    pub(crate) fn start(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let parent = std::process::id();
        // SAFETY: this process has one thread, so the child may use whatever the parent may: no lock is held by a
        // thread that is not there.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => Ok(Self { pid: Some(child) }),
            ForkResult::Child => {
                let ended = catch_unwind(AssertUnwindSafe(|| live_below(parent).and_then(|()| work())));
                let code = match ended {
                    Ok(Ok(())) => 0,
                    Ok(Err(error)) => {
                        eprintln!("a forked process failed: {error:#}");
                        FAILED
                    }
                    Err(_) => PANICKED,
                };
                // SAFETY: always allowed. Destructors and exit handlers belong to the parent.
                unsafe { libc::_exit(code) }
            }
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid.unwrap_or(Pid::from_raw(0))
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) -> Result<()> {
        kill(self.pid(), Signal::SIGCONT).context("SIGCONT")
    }

    /// Whether it sleeps in the kernel.
    pub(crate) fn sleeps(&self) -> bool {
        is_asleep(self.pid())
    }

    /// Whether it came to its end.
    pub(crate) fn has_ended(&self) -> bool {
        is_in_state(self.pid(), 'Z')
    }

    /// Waits until it ended by itself, well; lets it go on where it stops.
    pub(crate) fn ends_within(mut self, bound: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.changes_within(bound.saturating_sub(start.elapsed()))? {
                WaitStatus::Stopped(..) => self.go_on()?,
                WaitStatus::Exited(_, 0) => return Ok(()),
                WaitStatus::Exited(_, PANICKED) => bail!("it panicked"),
                WaitStatus::Exited(_, code) => bail!("it exited with {code}"),
                status => bail!("it ended by {status:?}"),
            }
        }
    }

    /// Waits until it is stopped.
    pub(crate) fn stops_within(mut self, bound: Duration) -> Result<Self> {
        match self.changes_within(bound)? {
            WaitStatus::Stopped(..) => Ok(self),
            status => bail!("it ended by itself: {status:?}"),
        }
    }

    fn changes_within(&mut self, bound: Duration) -> Result<WaitStatus> {
        let start = Instant::now();
        loop {
            match waitpid(self.pid(), Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(status @ WaitStatus::Stopped(..)) => return Ok(status),
                Ok(status) => {
                    self.pid = None;
                    return Ok(status);
                }
                Err(error) => return Err(error).context("waiting for a fork"),
            }
            if start.elapsed() > bound {
                bail!("it neither stopped nor ended within {bound:?}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill(pid, Signal::SIGKILL);
            while matches!(
                waitpid(pid, Some(WaitPidFlag::__WALL)),
                Err(Errno::EINTR) | Ok(WaitStatus::Stopped(..))
            ) {}
        }
    }
}

/// Whether a process sleeps in the kernel.
pub(crate) fn is_asleep(pid: Pid) -> bool {
    is_in_state(pid, 'S')
}

fn is_in_state(pid: Pid, state: char) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|tail| tail.starts_with(state))
}

/// Dies with the parent.
fn live_below(parent: u32) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // 0: the first process of a PID namespace does not see its parent.
    if ![0, parent].contains(&nix::unistd::getppid().as_raw().cast_unsigned()) {
        bail!("the parent is gone");
    }
    Ok(())
}

/// Stops this process until somebody lets it go on.
pub(super) fn stop() {
    // A process can always signal itself.
    let _ = raise(Signal::SIGSTOP);
}

/// Where [`between_marks`] begins and ends.
pub(super) fn marks() -> (u64, u64) {
    (begin as *const () as u64, end as *const () as u64)
}

/// Does what is to be watched.
#[inline(never)]
pub(super) fn between_marks<R>(act: &mut dyn FnMut() -> R) -> R {
    begin();
    let result = act();
    end();
    result
}

#[inline(never)]
extern "C" fn begin() {
    black_box(1);
}

#[inline(never)]
extern "C" fn end() {
    black_box(2);
}

/// The system call that the kernel speaks of.
pub(super) fn entry(info: &libc::ptrace_syscall_info) -> Call {
    // SAFETY: the caller found by `op` that the kernel filled the member `entry`; all its bytes are plain numbers.
    let entry = unsafe { info.u.entry };
    Call { number: entry.nr, arguments: entry.args }
}
