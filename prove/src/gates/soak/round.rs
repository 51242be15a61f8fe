//! One round: some channels, everybody who works on them, faults for a while, and the account.

use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use narrows::channel::{Moment, check, remove, status};
use narrows::{Address, Deadline, Error, Receiver, Sender};
use rustix::io::{FdFlags, fcntl_setfd};

use super::account::{Account, Times};
use super::cast::{Cast, Faults};
use super::kinds::{KINDS, Kind, Place, Side};
use super::leaks::Snapshot;
use super::ledger::{Clock, Count, Ledger, MESSAGES, PAGE, Sign};
use super::part::{Cheat, Part, Role};
use crate::random::Random;

/// What a round is made of.
pub(super) struct Plan<'a> {
    /// Rows of [`KINDS`].
    pub(super) kinds: &'a [usize],
    pub(super) length: Duration,
    /// How long anything may take before it counts as stuck.
    pub(super) patience: Duration,
    pub(super) seed: u64,
    /// The gate's own check: one channel on which nothing happens but this.
    pub(super) cheat: Option<Cheat>,
}

/// What one round found.
#[derive(Default)]
pub(super) struct Findings {
    /// By rows of [`KINDS`].
    pub(super) accounts: Vec<(usize, Account)>,
    pub(super) faults: Faults,
    pub(super) signs: Signs,
    pub(super) operations: Times,
    pub(super) since_kill: Times,
    /// The longest operation in nanoseconds, and on which kind of channel.
    pub(super) longest: (u64, &'static str),
    pub(super) since_release: Times,
    pub(super) control: Times,
    pub(super) control_since: Times,
    /// Everything that may not be, in words.
    pub(super) wrong: Vec<String>,
    pub(super) leaks: Vec<String>,
}

/// What the processes did to themselves and to names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Signs {
    pub(super) execs: u64,
    pub(super) opened: u64,
    pub(super) removed: u64,
    pub(super) looks: u64,
}

impl std::ops::AddAssign for Signs {
    fn add_assign(&mut self, other: Self) {
        self.execs += other.execs;
        self.opened += other.opened;
        self.removed += other.removed;
        self.looks += other.looks;
    }
}

/// A figure for whoever looks on.
pub(super) struct Live {
    pub(super) elapsed: Duration,
    pub(super) messages: u64,
    pub(super) faults: u64,
}

/// One channel of the round.
struct Channel {
    row: usize,
    /// As its users open it.
    address: String,
    /// What keeps a nameless one.
    memory: Option<OwnedFd>,
}

struct Round<'a> {
    plan: &'a Plan<'a>,
    ledger: &'a Ledger,
    folder: &'a Path,
    random: Random,
    channels: Vec<Channel>,
    seats: u64,
}

/// Plays a round. `watch` is told how it goes, and may end it early.
pub(super) fn play(plan: &Plan<'_>, mut watch: impl FnMut(&Live) -> bool) -> Result<Findings> {
    let before = Snapshot::take()?;
    let prefix = format!("narrows-soak-{}", std::process::id());
    let folder = tempfile::Builder::new().prefix("narrows-").tempdir()?;
    let mut words = tempfile::tempfile()?;
    let mut findings = {
        let ledger = Ledger::create()?;
        let random = Random::seeded(plan.seed);
        let mut round =
            Round { plan, ledger: &ledger, folder: folder.path(), random, channels: Vec::new(), seats: 0 };
        let mut cast = Cast::new(&ledger, &words, Random::seeded(plan.seed ^ 1), plan.patience);
        round.begin(&prefix, &mut cast)?;
        round.rage(&mut cast, &mut watch)?;
        round.end(&mut cast)?;
        round.settle(cast)?
    };
    let mut text = String::new();
    words.rewind()?;
    words.read_to_string(&mut text)?;
    findings.wrong.extend(text.lines().take(8).map(str::to_owned));
    drop(words);
    findings.leaks = before.left(&prefix, folder.path())?;
    Ok(findings)
}

impl Round<'_> {
    /// Makes the channels and starts everybody.
    fn begin(&mut self, prefix: &str, cast: &mut Cast<'_>) -> Result<()> {
        for (number, row) in self.plan.kinds.iter().enumerate() {
            let kind = &KINDS[*row];
            let name = format!("{prefix}.{number}");
            let address = kind.address(&name, self.folder, &mut self.random);
            let (address, memory) = match kind.place {
                Place::Memfd => nameless(&address)?,
                _ => (address, None),
            };
            self.channels.push(Channel { row: *row, address, memory });
            self.cast_side(cast, Role::Sender, kind.senders)?;
            self.cast_side(cast, Role::Receiver, kind.receivers)?;
        }
        if self.plan.cheat.is_none() {
            let name = format!("shm:{prefix}.names");
            self.channels.push(Channel { row: KINDS.len(), address: name, memory: None });
            self.cast_side(cast, Role::Hermit, Side { victims: 3, survivors: 1, threads: 1 })?;
            self.cast_side(cast, Role::Remover, Side { victims: 1, survivors: 0, threads: 1 })?;
            let prefix = format!("shm:{prefix}");
            self.channels.push(Channel { row: KINDS.len(), address: prefix, memory: None });
            self.cast_side(cast, Role::Watcher, Side { victims: 0, survivors: 1, threads: 1 })?;
            self.cast_side(cast, Role::Control, Side { victims: 0, survivors: 1, threads: 1 })?;
        }
        Ok(())
    }

    /// Starts one side of the last channel.
    fn cast_side(&mut self, cast: &mut Cast<'_>, role: Role, side: Side) -> Result<()> {
        let channel = self.channels.last().context("a channel")?;
        let kind = KINDS.get(channel.row);
        let is_quiet = self.plan.cheat.is_some();
        for at in 0..side.victims + side.survivors {
            let is_victim = at < side.victims && !is_quiet;
            let threads = if is_victim { side.threads } else { 1 };
            let part = Part {
                role,
                parent: std::process::id(),
                ledger: self.ledger.path(),
                channel: self.channels.len() as u64 - 1,
                address: channel.address.clone(),
                seat: self.seats,
                threads,
                is_timed: !is_victim && kind.is_some_and(|kind| kind.is_timed),
                is_restless: is_victim && threads == 1 && matches!(role, Role::Sender | Role::Receiver),
                style: kind.unwrap_or(&KINDS[0]).style(),
                seed: 0,
                cheat: self.plan.cheat.filter(|_| role == Role::Sender && at == 0),
            };
            self.seats += threads;
            cast.add(part, is_victim)?;
        }
        Ok(())
    }

    /// Faults, one after the other, until the time is over or the ledger is full.
    fn rage(&mut self, cast: &mut Cast<'_>, watch: &mut impl FnMut(&Live) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let messages = self.ledger.pages_used() * u64::from(PAGE);
            let live = Live { elapsed: start.elapsed(), messages, faults: cast.faults.total() };
            let is_cheated = self.plan.cheat.is_some() && self.ledger.is(Sign::Execs);
            if !watch(&live) || live.elapsed > self.plan.length || messages > MESSAGES / 16 * 15 || is_cheated
            {
                return Ok(());
            }
            cast.random_moment(12_000);
            if self.plan.cheat.is_none() {
                cast.strike()?;
            }
            cast.tend()?;
        }
    }

    /// Everybody comes to an end: senders at once, receivers when nothing is left.
    fn end(&mut self, cast: &mut Cast<'_>) -> Result<()> {
        cast.calm()?;
        self.ledger.sign(Sign::Stop).store(1, Release);
        let start = Instant::now();
        while !cast.has_ended() && start.elapsed() < self.plan.patience {
            for channel in cast.wind_up()? {
                // One that came after all senders had gone waits for the first: here it is.
                let address = &*self.channels[channel as usize].address;
                drop(Sender::<[u8]>::open_by(address, Duration::from_millis(5)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        cast.evict()
    }

    /// Judges every channel, and takes it away.
    fn settle(&mut self, mut cast: Cast<'_>) -> Result<Findings> {
        let mut findings = Findings { faults: cast.faults, ..Findings::default() };
        findings.wrong.append(&mut cast.wrong);
        for (number, channel) in (0..).zip(&self.channels) {
            let Some(kind) = KINDS.get(channel.row) else { continue };
            if let Err(error) = whole(channel, kind) {
                findings.wrong.push(format!("{}: {error:#}", channel.address));
            }
            let account = Account::of(self.ledger, number, kind.promise, cast.taken(number));
            for (fault, count) in account.faults().iter().filter(|(_, count)| *count > 0) {
                findings.wrong.push(format!("{} ({}): {count} {fault}", kind.name, channel.address));
            }
            findings.accounts.push((channel.row, account));
            let longest = self.ledger.count(number, Count::Longest).load(Acquire);
            findings.longest = findings.longest.max((longest, kind.name));
        }
        // What openers and removers left is in nobody's way.
        if let Some(channel) = self.channels.iter().find(|channel| channel.address.ends_with(".names")) {
            tidy(&channel.address)?;
        }
        let sign = |sign| self.ledger.sign(sign).load(Acquire);
        findings.signs = Signs {
            execs: if self.plan.cheat.is_some() { 0 } else { sign(Sign::Execs) },
            opened: sign(Sign::Opened),
            removed: sign(Sign::Removed),
            looks: sign(Sign::Looks),
        };
        findings.operations.add(self.ledger, Clock::Operation);
        findings.since_kill.add(self.ledger, Clock::SinceKill);
        findings.since_release.add(self.ledger, Clock::SinceRelease);
        findings.control.add(self.ledger, Clock::Control);
        findings.control_since.add(self.ledger, Clock::ControlSinceRelease);
        Ok(findings)
    }
}

/// Makes a channel without a name, for every child to inherit.
fn nameless(address: &str) -> Result<(String, Option<OwnedFd>)> {
    let sender = Sender::<[u8]>::open(address)?;
    let memory = sender.descriptor()?.try_clone_to_owned()?;
    fcntl_setfd(&memory, FdFlags::empty())?;
    Ok((format!("fd:{}", memory.as_raw_fd()), Some(memory)))
}

/// Everybody has left: what is to be gone is gone, and what stays can be used up to its last slot.
fn whole(channel: &Channel, kind: &Kind) -> Result<()> {
    if !kind.is_shared() {
        return Ok(());
    }
    let address: Address = channel.address.parse()?;
    let is_kept = channel.memory.is_some() || channel.address.contains("lifetime=system");
    let found = match status(&address.clone().bare()) {
        Err(Error::NotFound { .. }) if !is_kept => return Ok(()),
        found => found?,
    };
    ensure!(is_kept, "it stayed after the last had left: {found:?}");
    ensure!(found.depth == 0 && found.senders == 0 && found.receivers == 0, "left behind: {found:?}");
    let room = room(&channel.address)?;
    ensure!(room == found.capacity || kind.is_scarce, "{room} messages fit, not {}", found.capacity);
    let mut report = check(&address.clone().bare(), Moment::Rest)?;
    // Memory that somebody reserved and was killed before he used it: the next growth or loan does.
    report.pending.retain(|finding| finding.fact != "spare");
    ensure!(
        report.faults.is_empty() && report.pending.is_empty(),
        "{:?} {:?}",
        report.faults,
        report.pending
    );
    if channel.memory.is_none() {
        remove(&address.bare())?;
    }
    Ok(())
}

/// Messages that fit at once.
fn room(address: &str) -> Result<u64> {
    let mut sender = Sender::<[u8]>::open(address)?;
    let mut receiver = sender.receiver()?;
    let mut sent = 0;
    loop {
        match sender.send_by(b"room", Deadline::Now) {
            Ok(()) => sent += 1,
            Err(Error::Full { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    for _ in 0..sent {
        receiver.recv_by(Deadline::Now)?;
    }
    Ok(sent)
}

/// Receives what is left under a name that is removed with its last user.
fn tidy(address: &str) -> Result<()> {
    let mut receiver = Receiver::<[u8]>::open(address)?;
    drop(receiver.sender()?);
    while receiver.recv_by(Duration::from_secs(2))?.is_some() {}
    Ok(())
}
