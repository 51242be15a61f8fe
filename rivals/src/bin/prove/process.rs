//! Forked processes that do what they are told through pipes.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};

/// What a process has to talk with whoever started it.
pub(crate) struct Line {
    orders: PipeReader,
    words: PipeWriter,
}

impl Line {
    /// Waits for an order.
    pub(crate) fn order(&mut self) -> Result<u64> {
        let mut order = [0; 8];
        self.orders.read_exact(&mut order)?;
        Ok(u64::from_le_bytes(order))
    }

    pub(crate) fn say(&mut self, word: u64) -> Result<()> {
        Ok(self.words.write_all(&word.to_le_bytes())?)
    }
}

/// A forked process, killed and reaped when dropped.
pub(crate) struct Peer {
    /// Our child.
    child: Pid,
    /// The one that works: the child, or its child in a namespace.
    worker: Pid,
    orders: PipeWriter,
    words: PipeReader,
}

impl Peer {
    pub(crate) fn start(work: impl FnOnce(Line) -> Result<()>) -> Result<Self> {
        let ((theirs, orders), (words, said)) = (pipe()?, pipe()?);
        let child = start(|| work(Line { orders: theirs, words: said }))?;
        Ok(Self { child, worker: child, orders, words })
    }

    /// Starts it as the first process of a PID namespace of its own.
    pub(crate) fn start_contained(work: impl FnOnce(Line) -> Result<()>) -> Result<Self> {
        let ((theirs, orders), (mut words, mut said)) = (pipe()?, pipe()?);
        let child = start(|| {
            unshare(CloneFlags::CLONE_NEWPID)?;
            let mut to_tell = said.try_clone()?;
            let inner = start(|| work(Line { orders: theirs, words: said.try_clone()? }))?;
            to_tell.write_all(&u64::from(inner.as_raw().cast_unsigned()).to_le_bytes())?;
            drop((to_tell, std::mem::replace(&mut said, pipe()?.1)));
            waitpid(inner, None)?;
            Ok(())
        })?;
        let mut worker = [0; 8];
        words.read_exact(&mut worker)?;
        let worker = Pid::from_raw(u64::from_le_bytes(worker) as i32);
        Ok(Self { child, worker, orders, words })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.worker
    }

    pub(crate) fn tell(&mut self, order: u64) -> Result<()> {
        Ok(self.orders.write_all(&order.to_le_bytes())?)
    }

    /// What it says within the bound.
    pub(crate) fn hears(&mut self, bound: Duration) -> Result<Option<u64>> {
        if !is_readable(&self.words, bound)? {
            return Ok(None);
        }
        let mut word = [0; 8];
        self.words.read_exact(&mut word)?;
        Ok(Some(u64::from_le_bytes(word)))
    }

    /// Waits until it sleeps in the kernel.
    pub(crate) fn falls_asleep(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.worker)).unwrap_or_default();
            if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        bail!("a process does not fall asleep")
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(self) {}

    /// SIGKILL, and what it had said until then that nobody heard.
    pub(crate) fn last_words(mut self) -> Result<Vec<u64>> {
        kill(self.worker, Signal::SIGKILL)?;
        let mut said = Vec::new();
        self.words.read_to_end(&mut said)?;
        Ok(said.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes).collect())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The worker first: whoever waits for it ends then.
        kill(self.worker, Signal::SIGKILL).ok();
        let end = Instant::now() + Duration::from_secs(5);
        while self.worker != self.child && Instant::now() < end {
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
                Ok(nix::sys::wait::WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(100)),
                _ => return,
            }
        }
        kill(self.child, Signal::SIGKILL).ok();
        waitpid(self.child, None).ok();
    }
}

fn is_readable(pipe: &PipeReader, bound: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(bound)?;
    loop {
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn start(work: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: this process has one thread: no lock is held in the child's copy of its memory.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                set_pdeathsig(Signal::SIGKILL)?;
                work()
            }));
            if let Ok(Err(error)) = &outcome {
                eprintln!("{}: {error:#}", getpid());
            }
            std::process::exit(i32::from(!matches!(outcome, Ok(Ok(())))));
        }
    }
}
