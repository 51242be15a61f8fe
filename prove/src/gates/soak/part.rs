//! A process of the soak: this program again, told by its environment what to do.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::kinds::Style;
use super::ledger::{Ledger, Mark, Sign};
use super::{guests, receiving, sending};
use crate::random::Random;

/// What a process is told, as JSON.
const PART: &str = "NARROWS_PROVE_SOAK";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Sender,
    Receiver,
    /// Opens a name that others remove, sends, receives, closes.
    Hermit,
    /// Removes that name.
    Remover,
    /// Looks at all channels from outside.
    Watcher,
    /// Has no channel, and shows what the load alone costs.
    Control,
    /// Does nothing, and lives as long as its parent.
    Bystander,
}

/// What one process of the gate's own check does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cheat {
    /// Says that it sent, and did not.
    Lose,
    Double,
    Tear,
    Swap,
    /// Says that it was refused, and sends.
    Revive,
    /// Leaves a name behind.
    Litter,
    /// Leaves a descriptor open.
    Hoard,
    /// Does not come to an end.
    Stay,
    /// Comes to a bad one.
    Fail,
}

/// All that one process has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) parent: u32,
    pub(super) ledger: PathBuf,
    /// Its row in the ledger.
    pub(super) channel: u64,
    pub(super) address: String,
    /// Its first thread's seat; the others' follow.
    pub(super) seat: u64,
    pub(super) threads: u64,
    /// Nothing happens to it, and its operations are timed.
    pub(super) is_timed: bool,
    /// It now and then becomes another program, or starts one.
    pub(super) is_restless: bool,
    pub(super) style: Style,
    pub(super) seed: u64,
    pub(super) cheat: Option<Cheat>,
}

impl Part {
    pub(super) fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        command.env(PART, serde_json::to_string(self)?);
        Ok(command)
    }

    /// Starts it; what it has to say goes to the end of a file.
    pub(super) fn start(&self, words: &File) -> Result<Child> {
        let mut command = self.command()?;
        // A group of its own: Ctrl-C reaches the gate alone, which ends the others in order.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words.try_clone()?).process_group(0);
        command.spawn().with_context(|| format!("cannot start a {:?}", self.role))
    }
}

/// Plays a part where this process was started for one.
pub(crate) fn play_if_asked() -> Option<ExitCode> {
    let part = std::env::var(PART).ok()?;
    Some(match play(&part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn play(text: &str) -> Result<()> {
    let part: Part = serde_json::from_str(text)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() as u32 != part.parent) {
        return Ok(()); // its parent was killed before it could follow
    }
    let ledger = Ledger::open(&part.ledger)?;
    let before = descriptors()?;
    let outcome = match part.threads {
        1 => thread(&part, &ledger, 0),
        threads => std::thread::scope(|scope| {
            let spawn = |at| {
                scope.spawn({
                    let (part, ledger) = (&part, &ledger);
                    move || thread(part, ledger, at)
                })
            };
            let threads: Vec<_> = (0..threads).map(spawn).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
        }),
    };
    outcome.with_context(|| format!("a {:?} of {}", part.role, part.address))?;
    let left = descriptors()?;
    ensure!(left <= before, "a {:?} of {} left {} descriptors open", part.role, part.address, left - before);
    Ok(())
}

fn thread(part: &Part, ledger: &Ledger, at: u64) -> Result<()> {
    let desk = Desk { part, ledger, seat: part.seat + at, random: Random::seeded(part.seed ^ at << 32) };
    match part.role {
        Role::Sender => sending::run(desk),
        Role::Receiver => receiving::run(desk),
        Role::Hermit => guests::hermit(desk),
        Role::Remover => guests::remover(desk),
        Role::Watcher => guests::watcher(desk),
        Role::Control => guests::control(desk),
        Role::Bystander => loop {
            std::thread::park();
        },
    }
}

fn descriptors() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// What a thread works with.
pub(super) struct Desk<'a> {
    pub(super) part: &'a Part,
    pub(super) ledger: &'a Ledger,
    pub(super) seat: u64,
    pub(super) random: Random,
}

impl Desk<'_> {
    /// Whether senders come to an end.
    pub(super) fn is_ending(&self) -> bool {
        self.ledger.is(Sign::Stop)
    }

    /// Whether this one is to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.ledger.mark(self.seat, Mark::Leave).load(std::sync::atomic::Ordering::Acquire) != 0
    }

    /// When something began, where that is of interest.
    pub(super) fn began(&self) -> Option<u64> {
        self.part.is_timed.then(narrows_bench::clock::now_ns)
    }

    /// An operation is finished; where it is timed, it began then.
    pub(super) fn beat(&self, began: Option<u64>) {
        self.ledger.beat(self.part.channel, self.seat, began);
    }

    /// Rests for a moment, so that the others find the channel empty, or full.
    pub(super) fn pause(&mut self, at_most_us: u64) {
        std::thread::sleep(std::time::Duration::from_micros(self.random.below(at_most_us)));
    }

    /// Now and then becomes another program, which is death to what it had open; or starts one that stays behind.
    pub(super) fn wander(&mut self) -> Result<()> {
        if !self.part.is_restless || !self.random.once_in(20) {
            return Ok(());
        }
        let mut next = self.part.clone();
        next.seed = self.random.next();
        if self.random.once_in(2) {
            self.ledger.add(Sign::Execs);
            return Err(next.command()?.exec()).context("cannot become another program");
        }
        next.role = Role::Bystander;
        next.threads = 1;
        next.parent = std::process::id();
        let mut child = next.command()?.spawn()?;
        self.pause(5000);
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

/// An end that was opened; `None` where trying again later is in order: all places taken, some by dead ones that are
/// not gone yet; nobody there who receives.
pub(super) fn opened<T>(desk: &mut Desk<'_>, result: narrows::Result<T>) -> Result<Option<T>> {
    use narrows::Error;
    match result {
        Ok(end) => {
            desk.ledger.add(Sign::Opened);
            desk.beat(None);
            Ok(Some(end))
        }
        Err(error) if error.is_temporary() || matches!(error, Error::PeerGone { .. }) => {
            desk.beat(None);
            desk.pause(1000);
            Ok(None)
        }
        Err(error) => Err(error).context("opening"),
    }
}
