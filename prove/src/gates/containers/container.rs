//! A process behind walls, as containers have them: namespaces of its own.

use std::fs;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use narrows::Deadline;
use narrows::sys::{futex_wait, futex_wake_all};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, getuid, setgid, setuid};

use crate::page::Page;
use crate::tracer::{Fork, is_asleep};

/// What a container has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walls {
    /// Processes: its first is number 1, and it sees no others.
    pub(crate) pids: bool,
    /// Users and mounts. `/dev/shm` is the one of all.
    pub(crate) users: bool,
}

/// Users of containers, where this process may choose: nobody's.
const FIRST_USER: u32 = 200_001;
/// Setting up takes at most so long.
const SOON: Duration = Duration::from_secs(30);

// The words of the page between this process and the one that sets up.
const STEP: usize = 0;
const INNER: usize = 1;
// The steps.
const ALONE: u32 = 1;
const MAPPED: u32 = 2;
const BEGUN: u32 = 3;
const REFUSED: u32 = 4;

/// A process in a container. Killed with all that it is in when dropped.
pub(crate) struct Container {
    /// Waits for the process inside, and ends with it.
    outer: Option<Fork>,
    inner: Pid,
}

impl Container {
    /// Does some work in a container of its own. `number` tells its user from others'.
    ///
    /// # Errors
    /// Where the kernel refuses namespaces; see [`refusal`].
    pub(crate) fn start(walls: Walls, number: u32, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let page = Page::new()?;
        let outer = Fork::start(|| {
            let inside = enter(walls, &page).and_then(|()| Fork::start(work));
            let inner = match inside {
                Ok(inner) => inner,
                Err(error) => {
                    step(&page, REFUSED);
                    return Err(error);
                }
            };
            page.word(INNER).store(inner.pid().as_raw() as u64, Release);
            step(&page, BEGUN);
            waitpid(inner.pid(), None)?;
            std::mem::forget(inner); // reaped
            Ok(())
        })?;
        if walls.users {
            await_step(&page, ALONE)?;
            map_users(outer.pid(), number)?;
            step(&page, MAPPED);
        }
        await_step(&page, BEGUN)?;
        let inner = Pid::from_raw(page.word(INNER).load(Acquire) as i32);
        Ok(Self { outer: Some(outer), inner })
    }

    /// SIGKILL to the process inside.
    pub(crate) fn kill(&self) -> Result<()> {
        Ok(kill(self.inner, Signal::SIGKILL)?)
    }

    /// Whether the process inside sleeps in the kernel.
    pub(crate) fn is_asleep(&self) -> bool {
        is_asleep(self.inner)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill().ok();
        // The one inside is dead when this is over, not only the one that waits for it.
        self.outer.take().map(|outer| outer.ends_within(SOON));
    }
}

fn step(page: &Page, step: u32) {
    page.futex(STEP).store(step, Release);
    futex_wake_all(page.futex(STEP));
}

fn await_step(page: &Page, wanted: u32) -> Result<()> {
    let (word, end) = (page.futex(STEP), Instant::now() + SOON);
    loop {
        let seen = word.load(Acquire);
        match seen {
            REFUSED => bail!("the kernel refuses namespaces"),
            seen if seen >= wanted => return Ok(()),
            _ => ensure!(Instant::now() < end, "a container is not set up within {SOON:?}"),
        }
        futex_wait(word, seen, Deadline::from(end));
    }
}

fn enter(walls: Walls, page: &Page) -> Result<()> {
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWPID, walls.pids);
    flags.set(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, walls.users);
    unshare(flags).context("unshare")?;
    if walls.users {
        step(page, ALONE);
        await_step(page, MAPPED)?;
        setgid(Gid::from_raw(0))?;
        setuid(Uid::from_raw(0))?;
        // A change of user takes both away.
        prctl::set_dumpable(true)?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A place of its own, to show that the mounts are its own.
        mount(Some("none"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).context("mount")?;
    }
    Ok(())
}

/// Makes user 0 inside another user outside for each container; this one, where this one may not choose.
fn map_users(outer: Pid, number: u32) -> Result<()> {
    let outside = if getuid().is_root() { FIRST_USER + number } else { getuid().as_raw() };
    if !getuid().is_root() {
        fs::write(format!("/proc/{outer}/setgroups"), "deny")?;
    }
    let group = if getuid().is_root() { outside } else { nix::unistd::getgid().as_raw() };
    fs::write(format!("/proc/{outer}/uid_map"), format!("0 {outside} 1")).context("uid_map")?;
    fs::write(format!("/proc/{outer}/gid_map"), format!("0 {group} 1")).context("gid_map")
}

/// Why there can be no such container here.
pub(crate) fn refusal(walls: Walls) -> Option<String> {
    Container::start(walls, 0, || Ok(())).err().map(|error| format!("{error:#}"))
}
