//! One kind of channel, scribbled on at one kind of place: the processes, and the watch over them.

use std::fs;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use narrows::{Region, Sender};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::areas::{Focus, Map};
use super::board::{Board, Count, Sign};
use super::victim::{self, OPERATIONS, Role};
use super::words;
use crate::random::Random;
use crate::record::Outcome;
use crate::statistics::thousands;
use crate::tracer::Fork;

/// An operation may end so much later than its deadline; what it waited for a processor does not count.
const MARGIN: Duration = Duration::from_secs(2);
/// A process that ends no operation for so long hangs.
const HANG: Duration = Duration::from_secs(8);
/// Memory that a victim may have of its own, in bytes: its largest message has 300,000.
const HEAP: u64 = 256 << 20;
/// A segment with the default 64 GiB occupies no more than so many bytes.
const FILE: u64 = 1 << 30;

/// Of fewer operations it may be that none met a word that was scribbled on.
const FEW: u64 = 20_000;
/// So many characters of what a process said at its end are told.
const WORDS: usize = 3000;

const CROWD: &[Role] =
    &[Role::Sender, Role::Sender, Role::Receiver, Role::Receiver, Role::Visitor, Role::Mortal];

#[derive(Debug, Clone, Copy)]
pub(super) struct Siege {
    pub(super) mode: &'static str,
    pub(super) options: &'static str,
    pub(super) focus: Focus,
    pub(super) seed: u64,
    /// The run's own seed, which gives this one.
    pub(super) given: u64,
}

/// What sieges came to.
#[derive(Debug, Default)]
pub(super) struct Toll {
    pub(super) words: u64,
    ended: u64,
    received: u64,
    pub(super) corrupt: u64,
    longest: Duration,
    fault: Option<String>,
}

impl std::ops::AddAssign for Toll {
    fn add_assign(&mut self, other: Self) {
        self.words += other.words;
        self.ended += other.ended;
        self.received += other.received;
        self.corrupt += other.corrupt;
        self.longest = self.longest.max(other.longest);
        self.fault = self.fault.take().or(other.fault);
    }
}

impl Toll {
    /// Scribbling that nobody noticed proves nothing, and neither does a channel on which nothing arrives.
    pub(super) fn outcome(&self, focus: Focus) -> Outcome {
        let is_noticed = self.corrupt > 0 || !focus.contradicts() || self.ended < FEW;
        if let Some(fault) = &self.fault {
            return Outcome::new(false, fault.as_str());
        }
        if self.received == 0 || !is_noticed {
            return Outcome::new(false, format!("the scribbling had no effect: {self:?}"));
        }
        let figure = format!(
            "{} words; {} operations, {} messages received, {} `Corrupt`; none worse, none later than {} ms after its \
             deadline",
            thousands(self.words),
            thousands(self.ended),
            thousands(self.received),
            thousands(self.corrupt),
            self.longest.as_millis()
        );
        Outcome::new(true, figure)
    }
}

impl Siege {
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.mode, self.focus.name())
    }

    pub(super) fn run(&self, length: Duration) -> Result<Toll> {
        let names = Names::new();
        let board = Board::new()?;
        let most = self.most_bytes(&names)?;
        let address = |epoch: u64| format!("{}{}", names.address(epoch), self.options);
        let scribbler = Watched::start("the scribbler", &board, 0, || {
            words::scribble(&board, 0, self.focus, self.seed, &address)
        })?;
        let begin = |row: usize, again: u64| {
            let role = CROWD[row - 1];
            let seed = self.seed ^ (row as u64) << 48 ^ again << 56;
            Watched::start(&format!("a {role:?}"), &board, row, || {
                victim::suffer(&board, row, role, seed, &address)
            })
        };
        let mut crowd = vec![scribbler];
        for row in 1..=CROWD.len() {
            crowd.push(begin(row, 0)?);
        }
        let mut random = Random::seeded(self.seed);
        let (end, mut births) = (Instant::now() + length, 0);
        let mut fault = None;
        while Instant::now() < end && fault.is_none() {
            std::thread::sleep(Duration::from_millis(2 + random.below(40)));
            for row in 0..crowd.len() {
                let may_die = row > 0 && CROWD[row - 1] == Role::Mortal;
                if may_die && crowd[row].was_killed() {
                    births += 1;
                    crowd[row] = begin(row, births)?;
                }
                fault = fault.or_else(|| crowd[row].fault(&board, false));
            }
            let epoch = board.get(Sign::Epoch);
            let bytes = fs::metadata(names.path(epoch)).map_or(0, |file| file.blocks() * 512);
            if bytes > most {
                fault = fault.or(Some(format!("the segment occupies {bytes} bytes, and may have {most}")));
            }
            board.sign(Sign::Epoch).store(epoch + 1, Relaxed);
            fs::remove_file(names.path(epoch)).ok();
        }
        board.sign(Sign::Stop).store(1, Relaxed);
        for watched in &mut crowd {
            fault = fault.or_else(|| watched.comes_to_its_end(&board));
        }
        drop(crowd);
        Ok(self.toll(&board, fault))
    }

    fn toll(&self, board: &Board, fault: Option<String>) -> Toll {
        let row = (0..=CROWD.len()).max_by_key(|row| board.count(*row, Count::Longest)).unwrap_or(0);
        let longest = Duration::from_nanos(board.count(row, Count::Longest));
        let late = (longest > MARGIN).then(|| {
            let what = OPERATIONS[board.count(row, Count::LongestDoing) as usize % OPERATIONS.len()];
            format!("{what} ended {longest:?} beyond its deadline")
        });
        let repeat = format!("cargo xtask prove scribbler --only {} --seed {}", self.name(), self.given);
        Toll {
            words: board.total(Count::Words),
            ended: board.total(Count::Ended),
            received: board.total(Count::Received),
            corrupt: board.total(Count::Corrupt),
            longest,
            fault: fault.or(late).map(|fault| format!("{fault} [{repeat}]")),
        }
    }

    /// What a segment of this kind may occupy.
    fn most_bytes(&self, names: &Names) -> Result<u64> {
        let address = names.address(u64::MAX);
        let _sender = Sender::<[u8]>::open(format!("{address}{}", self.options))?;
        Ok(Map::read(&Region::open(&*address)?)?.most_bytes().min(FILE))
    }
}

/// The segments' names; what is left of them goes at the end.
struct Names(String);

impl Names {
    fn new() -> Self {
        Self(format!("narrows-prove-{}-scribbled", std::process::id()))
    }

    fn address(&self, epoch: u64) -> String {
        format!("shm:{}-{epoch}", self.0)
    }

    fn path(&self, epoch: u64) -> PathBuf {
        PathBuf::from(format!("/dev/shm/{}-{epoch}", self.0))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.0) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// A forked process, with what it says of its own end.
struct Watched {
    who: String,
    row: usize,
    fork: Fork,
    words: fs::File,
    ended: (u64, Instant),
}

impl Watched {
    fn start(who: &str, board: &Board, row: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let words: fs::File = rustix::fs::memfd_create("words", rustix::fs::MemfdFlags::CLOEXEC)?.into();
        let fork = Fork::start(|| {
            rustix::stdio::dup2_stderr(words.as_fd())?;
            limit_heap()?;
            work()
        })?;
        Ok(Self {
            who: who.to_owned(),
            row,
            fork,
            words,
            ended: (board.count(row, Count::Ended), Instant::now()),
        })
    }

    /// How it ended, if it did; it can be asked again.
    fn status(&self) -> Option<WaitStatus> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.fork.pid()), flags).ok().filter(|status| *status != WaitStatus::StillAlive)
    }

    fn was_killed(&self) -> bool {
        matches!(self.status(), Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)))
    }

    /// What it did that none may: it ended, or it does not end what it began.
    fn fault(&mut self, board: &Board, may_end: bool) -> Option<String> {
        let doing = OPERATIONS[board.count(self.row, Count::Doing) as usize % OPERATIONS.len()];
        match self.status() {
            Some(WaitStatus::Exited(_, 0)) if may_end => return None,
            Some(status) => {
                let words = self.last_words();
                return Some(format!("{} ended ({doing}): {status:?}{words}", self.who));
            }
            None => {}
        }
        let progress = board.count(self.row, Count::Ended) + board.count(self.row, Count::Words);
        if progress != self.ended.0 {
            self.ended = (progress, Instant::now());
        }
        let hangs = self.ended.1.elapsed() > HANG;
        hangs.then(|| format!("{} hangs: {doing}", self.who))
    }

    fn comes_to_its_end(&mut self, board: &Board) -> Option<String> {
        let end = Instant::now() + HANG;
        while self.status().is_none() {
            if Instant::now() > end {
                let doing = OPERATIONS[board.count(self.row, Count::Doing) as usize % OPERATIONS.len()];
                return Some(format!("{} does not come to its end: {doing}", self.who));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.was_killed() { None } else { self.fault(board, true) }
    }

    fn last_words(&mut self) -> String {
        let mut text = String::new();
        self.words.rewind().and_then(|()| self.words.read_to_string(&mut text)).ok();
        let end = text.char_indices().nth(WORDS).map_or(text.len(), |(at, _)| at);
        format!(": {}", text[..end].trim_end())
    }
}

/// Whoever wants more than is decent is refused, and ends. Not under a checker that maps terabytes for itself.
fn limit_heap() -> Result<()> {
    let used = fs::read_to_string("/proc/self/status")?;
    let kib = used
        .lines()
        .find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let limit = kib.unwrap_or(0_u64) * 1024 + HEAP;
    if limit < 1 << 40 {
        let maximum = getrlimit(Resource::Data).maximum;
        setrlimit(Resource::Data, Rlimit { current: Some(limit), maximum })?;
    }
    Ok(())
}

/// Whether the watch notices what it is there for.
pub(super) fn check_watch() -> Result<()> {
    let board = Board::new()?;
    for how in ["dies", "panics", "hoards", "hangs"] {
        let mut watched = Watched::start(how, &board, 0, || victim::misbehave(&board, 0, how))?;
        let start = Instant::now();
        if how == "hangs" {
            watched.ended.1 = start.checked_sub(HANG).context("a clock that began before")?;
        }
        let mut noticed = false;
        while !noticed && start.elapsed() < HANG {
            std::thread::sleep(Duration::from_millis(1));
            noticed = watched.fault(&board, true).is_some();
        }
        ensure!(noticed, "a victim that {how} is not noticed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scribbling_without_effect_and_any_fault_break_the_promise() {
        let toll = || Toll { words: 9, ended: FEW, received: 9, corrupt: 1, ..Toll::default() };
        assert!(toll().outcome(Focus::Slots).held);
        assert!(!Toll { corrupt: 0, ..toll() }.outcome(Focus::Slots).held);
        assert!(Toll { corrupt: 0, ..toll() }.outcome(Focus::Payloads).held);
        assert!(Toll { corrupt: 0, ended: 9, ..toll() }.outcome(Focus::Slots).held);
        assert!(!Toll { received: 0, ..toll() }.outcome(Focus::Payloads).held);
        assert!(!Toll { fault: Some("it hangs".into()), ..toll() }.outcome(Focus::Slots).held);
    }
}
