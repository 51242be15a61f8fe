//! A process that is stopped, killed or troubled at an exact place in the middle of an operation.
//!
//! The victim is a fork of this process, so its instructions lie where ours lie, and a place that one victim passed
//! can be named to the next: an address, and how often it was passed. It prepares, stops itself, and then does what
//! it is there for between two marks.

mod machine;
mod process;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub(crate) use process::{Fork, is_asleep};

/// So many instructions are an operation at most.
const STEPS_MAX: usize = 400_000;

/// What a victim does by itself takes at most so long.
const BOUND: Duration = Duration::from_secs(10);
/// A victim that is not asleep is stopped again before that.
const BRIEF: Duration = Duration::from_micros(300);
const PAUSE: Duration = Duration::from_micros(50);

/// A place on an operation's way: in front of the instruction at `address`, passed for the `nth` time (from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) address: u64,
    pub(crate) nth: u32,
}

/// The way that an operation takes when nobody interferes.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Every instruction, in order.
    pub(crate) steps: Vec<Place>,
    /// The steps behind which others see something else than before.
    pub(crate) changes: Vec<usize>,
}

/// Where a victim was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// In front of the place that was asked for.
    There,
    /// Behind its operation: it did not pass the place.
    Finished,
}

/// A system call of the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) arguments: [u64; 6],
}

/// A process under our hands. Killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Victim(Fork);

impl Victim {
    /// Starts one that prepares, and stops in front of what `prepare` gave. What that gives in turn it reports to
    /// `report`, then it ends.
    ///
    /// # Errors
    /// Where it fails before it stops.
    pub(crate) fn start<A, R>(prepare: impl FnOnce() -> Result<A>, report: impl FnOnce(R)) -> Result<Self>
    where
        A: FnMut() -> R,
    {
        let fork = Fork::start(|| {
            ptrace::traceme()?;
            let mut act = prepare()?;
            process::stop();
            let result = process::between_marks(&mut act);
            process::stop();
            report(result);
            Ok(())
        })?;
        let victim = Self(fork);
        match victim.wait_within(BOUND).context("while it prepares")? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                // Stops at system calls are told from other traps, and say which call it is.
                let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
                ptrace::setoptions(victim.pid(), options)?;
                Ok(victim)
            }
            other => bail!("the victim did not come to its stage: {other:?}"),
        }
    }

    fn pid(&self) -> Pid {
        self.0.pid()
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid().as_raw()
    }

    fn wait(&self) -> Result<WaitStatus> {
        loop {
            match waitpid(self.pid(), Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => {}
                result => return result.context("waiting for the victim"),
            }
        }
    }

    /// Follows the operation from its first instruction to its last. `looks` says whether others see something else
    /// than when it was asked last.
    pub(crate) fn record(&mut self, mut looks: impl FnMut() -> bool) -> Result<Trace> {
        let (begin, end) = process::marks();
        let mut trace = Trace::default();
        let mut passed = Passed::default();
        let mut inside = false;
        for _ in 0..STEPS_MAX {
            let address = machine::pc(self.pid())?;
            if address == end {
                return Ok(trace);
            }
            inside |= address == begin;
            let place = passed.pass(address);
            ptrace::step(self.pid(), None)?;
            match self.wait()? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                other => bail!("the victim's way ended early: {other:?}"),
            }
            if inside {
                trace.steps.extend(place);
                if looks() {
                    trace.changes.push(trace.steps.len() - 1);
                }
            }
        }
        bail!("the operation has more than {STEPS_MAX} instructions")
    }

    /// Lets it go on until others have seen `changes` changes, and says where that is.
    pub(crate) fn advance(&mut self, changes: usize, mut looks: impl FnMut() -> bool) -> Result<Place> {
        let mut passed = Passed::default();
        let mut left = changes;
        for _ in 0..STEPS_MAX {
            let address = machine::pc(self.pid())?;
            let place = passed.pass(address);
            if let (0, Some(place)) = (left, place) {
                return Ok(place);
            }
            if address == process::marks().1 {
                bail!("the operation makes fewer than {changes} changes");
            }
            ptrace::step(self.pid(), None)?;
            self.wait()?;
            left -= usize::from(left > 0 && looks());
        }
        bail!("the operation has more than {STEPS_MAX} instructions")
    }

    /// Lets it finish its operation; it stops behind it.
    pub(crate) fn finish(&mut self) -> Result<()> {
        machine::clear_breakpoint(self.pid());
        ptrace::cont(self.pid(), None)?;
        match self.wait_within(BOUND)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(()),
            other => bail!("the victim ended by itself: {other:?}"),
        }
    }

    /// Lets it go on to a place.
    pub(crate) fn run_to(&mut self, place: Place) -> Result<Stop> {
        if !machine::set_breakpoint(self.pid(), place.address) {
            return self.step_to(place);
        }
        for _ in 0..place.nth {
            ptrace::cont(self.pid(), None)?;
            match self.wait()? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(Stop::Finished),
                other => bail!("the victim ended by itself: {other:?}"),
            }
        }
        Ok(Stop::There)
    }

    /// As [`run_to`](Self::run_to), where the processor has no register for it.
    fn step_to(&mut self, place: Place) -> Result<Stop> {
        let (_, end) = process::marks();
        let mut passed = Passed::default();
        for _ in 0..STEPS_MAX {
            let address = machine::pc(self.pid())?;
            if address == end {
                return Ok(Stop::Finished);
            }
            if passed.pass(address) == Some(place) {
                return Ok(Stop::There);
            }
            ptrace::step(self.pid(), None)?;
            self.wait()?;
        }
        bail!("the operation has more than {STEPS_MAX} instructions")
    }

    /// SIGKILL. What its mapping holds is let go when this returns.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Leaves it untraced and stopped by SIGSTOP; [`Fork::go_on`] wakes it.
    pub(crate) fn leave_stopped(self) -> Result<Fork> {
        machine::clear_breakpoint(self.pid());
        ptrace::detach(self.pid(), Signal::SIGSTOP)?;
        self.0.stops_within(BOUND)
    }

    /// Lets it go on for good.
    pub(crate) fn let_go(self) -> Result<Fork> {
        machine::clear_breakpoint(self.pid());
        ptrace::detach(self.pid(), None)?;
        Ok(self.0)
    }

    /// Lets it go on to the next system call. `None`: it finished before.
    pub(crate) fn next_call(&mut self) -> Result<Option<Call>> {
        // Without a breakpoint, the calls by which it stops itself count as well.
        machine::set_breakpoint(self.pid(), process::marks().1);
        ptrace::syscall(self.pid(), None)?;
        match self.wait_within(BOUND)? {
            WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGTRAP) => return Ok(None),
            other => bail!("the victim ended by itself: {other:?}"),
        }
        let info = ptrace::syscall_info(self.pid())?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            bail!("the victim stands behind a system call");
        }
        Ok(Some(process::entry(&info)))
    }

    /// Lets the call in front of which it stands be made, or fail with `errno`; it stands behind it then.
    pub(crate) fn pass_call(&mut self, errno: Option<i32>) -> Result<()> {
        if errno.is_some() {
            machine::skip_call(self.pid())?;
        }
        self.enter_call()?;
        match self.wait_within(BOUND)? {
            WaitStatus::PtraceSyscall(_) => {}
            other => bail!("the victim ended inside a system call: {other:?}"),
        }
        if let Some(errno) = errno {
            machine::set_result(self.pid(), -i64::from(errno))?;
        }
        Ok(())
    }

    /// Lets it into the call in front of which it stands, and does not wait for it to come out.
    pub(crate) fn enter_call(&mut self) -> Result<()> {
        Ok(ptrace::syscall(self.pid(), None)?)
    }

    /// Waits until it sleeps in the call that it was let into. False: it stands behind it.
    pub(crate) fn falls_asleep(&self) -> Result<bool> {
        let start = Instant::now();
        loop {
            match self.look()? {
                WaitStatus::StillAlive if self.0.sleeps() => return Ok(true),
                WaitStatus::StillAlive if start.elapsed() > BOUND => {
                    bail!("it neither sleeps in a system call nor comes out")
                }
                WaitStatus::StillAlive => std::thread::yield_now(),
                WaitStatus::PtraceSyscall(_) => return Ok(false),
                other => bail!("the victim ended inside a system call: {other:?}"),
            }
        }
    }

    fn wait_within(&self, bound: Duration) -> Result<WaitStatus> {
        let start = Instant::now();
        loop {
            match self.look()? {
                WaitStatus::StillAlive if start.elapsed() > bound => bail!("the victim hangs"),
                WaitStatus::StillAlive if start.elapsed() < BRIEF => std::thread::yield_now(),
                WaitStatus::StillAlive => std::thread::sleep(PAUSE), // it sleeps, and others work beside it
                status => return Ok(status),
            }
        }
    }

    fn look(&self) -> Result<WaitStatus> {
        match waitpid(self.pid(), Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
            Err(Errno::EINTR) => Ok(WaitStatus::StillAlive),
            result => result.context("waiting for the victim"),
        }
    }

    /// Lets it run on any processor, beside whoever watches it.
    pub(crate) fn let_roam(&self) -> Result<()> {
        let mut all = CpuSet::new();
        (0..CpuSet::count()).try_for_each(|cpu| all.set(cpu))?;
        Ok(sched_setaffinity(self.pid(), &all)?)
    }
}

/// What was passed, and how often.
#[derive(Default)]
struct Passed {
    times: HashMap<u64, u32>,
    last: u64,
}

impl Passed {
    /// Passes an address. `None`: the same instruction goes on; one that repeats itself stops a step at a time, and
    /// at a breakpoint only once.
    fn pass(&mut self, address: u64) -> Option<Place> {
        if std::mem::replace(&mut self.last, address) == address {
            return None;
        }
        let nth = self.times.entry(address).or_default();
        *nth += 1;
        Some(Place { address, nth: *nth })
    }
}
