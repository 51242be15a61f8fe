//! Where the demo plays: names that no other has, a bound on its time, and what is shown while it plays.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use narrows::{Address, Deadline, Scheme, channel};

use super::cast::Actor;
use super::screen::Line;
use crate::interrupt;

/// The whole demo takes no longer, whatever hangs.
const BOUND: Duration = Duration::from_secs(30);
/// The time between two pictures.
const FRAME: Duration = Duration::from_millis(50);

pub(crate) struct Scene {
    /// Begins the name of everything that the demo makes.
    name: String,
    directory: PathBuf,
    bound: Deadline,
    started: Cell<u64>,
    live: Option<RefCell<Live>>,
}

/// Lines that are drawn again and again.
struct Live {
    lines: MultiProgress,
    bars: Vec<ProgressBar>,
    coloured: bool,
    drawn: Option<Instant>,
}

impl Scene {
    /// `is_live`: lines are drawn while it plays.
    pub(crate) fn new(is_live: bool, coloured: bool) -> anyhow::Result<Self> {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("narrows-demo-{}-{:06x}", std::process::id(), now.subsec_nanos() >> 8);
        let directory = std::env::temp_dir().join(&name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        let live = is_live.then(|| {
            let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            RefCell::new(Live { lines, bars: Vec::new(), coloured, drawn: None })
        });
        Ok(Self { name, directory, bound: BOUND.into(), started: Cell::new(0), live })
    }

    pub(crate) fn shm(&self, part: &str) -> String {
        format!("shm:{}.{part}", self.name)
    }

    /// An address that a scheme has for a part.
    pub(crate) fn address(&self, scheme: Scheme, part: &str) -> anyhow::Result<Address> {
        let name = format!("{}.{part}", self.name);
        Ok(match scheme {
            Scheme::Fifo => Address::new(scheme, self.directory.join(name).into_os_string())?,
            Scheme::Unix => Address::new(scheme, format!("@{name}"))?,
            _ => Address::new(scheme, name)?,
        })
    }

    /// Starts a process in a part.
    pub(crate) fn start(&self, part: &str, arguments: Vec<OsString>) -> anyhow::Result<Actor> {
        self.started.set(self.started.get() + 1);
        Actor::start(part, arguments)
    }

    /// How many processes were started.
    pub(crate) fn started(&self) -> u64 {
        self.started.get()
    }

    pub(crate) fn bound(&self) -> Deadline {
        self.bound
    }

    /// Refuses to go on after Ctrl-C, and when the demo takes too long.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        interrupt::check()?;
        ensure!(!self.bound.is_over(), "it took longer than {BOUND:?}: is the machine very busy?");
        Ok(())
    }

    /// Draws lines in place of those that were drawn before, now and then.
    pub(crate) fn show(&self, lines: impl FnOnce() -> Vec<Line>) {
        let Some(live) = &self.live else { return };
        let mut live = live.borrow_mut();
        if live.drawn.is_some_and(|drawn| drawn.elapsed() < FRAME) {
            return;
        }
        live.drawn = Some(Instant::now());
        for (at, line) in lines().iter().enumerate() {
            if live.bars.len() == at {
                let style =
                    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = live.lines.add(ProgressBar::new_spinner().with_style(style));
                live.bars.push(bar);
            }
            live.bars[at].set_message(line.paint(live.coloured));
            live.bars[at].tick();
        }
    }

    /// Takes away what was drawn, to make room for what stays.
    pub(crate) fn clear(&self) {
        let Some(live) = &self.live else { return };
        let mut live = live.borrow_mut();
        live.bars.drain(..).for_each(|bar| bar.finish_and_clear());
        live.drawn = None;
    }

    /// What the demo made and is still there.
    pub(crate) fn left(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for directory in [PathBuf::from("/dev/shm"), self.directory.clone()] {
            let entries = std::fs::read_dir(&directory);
            for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&self.name) {
                    left.push(entry.path());
                }
            }
        }
        Ok(left)
    }
}

impl Drop for Scene {
    /// Removes what an end before the end left; the processes are gone by now.
    fn drop(&mut self) {
        self.clear();
        for path in self.left().unwrap_or_default() {
            if let Some(name) = path.strip_prefix("/dev/shm").ok().and_then(|name| name.to_str())
                && let Ok(address) = Address::new(Scheme::Shm, name)
            {
                let _ = channel::remove(&address);
            }
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
