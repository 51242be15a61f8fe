//! One channel in a known state: who takes part in it, what must still come out of it, and what survivors do.

mod beside;
mod survivors;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use narrows::channel::InPlace;
use narrows::{Deadline, Error, Receiver, Sender};

use super::crowd::{Report, Said, Sleeper, say};
use super::message::{self, LARGE, SMALL};
use super::mode::{CAPACITY, Mode, Scope};
use super::operation::{Effect, OPERATIONS, Operation, Outcome, Part, Role};
use super::state::State;
use super::verdict::Ledger;
use crate::tracer::{Place, Stop, Victim};

pub(crate) use watch::Watch;

/// Numbers for the messages of one victim.
const VICTIM_IDS: usize = 3;

/// What becomes of another that is interrupted while a state is arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Dead,
    Stopped,
    /// At the end of its operation, with what it has in its hands.
    DeadBehind,
    StoppedBehind,
}

/// Where operations change what others see, learnt once.
#[derive(Default)]
pub(crate) struct Lore(RefCell<HashMap<String, Place>>);

/// A channel, its survivors, and the others.
pub(crate) struct Site<'a> {
    mode: &'static Mode,
    state: &'static State,
    lore: &'a Lore,
    name: String,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    held: Vec<InPlace>,
    sleepers: Vec<Sleeper>,
    stopped: Vec<(Victim, Report)>,
    ids: u64,
    ledger: Ledger,
    /// The longest operation of a survivor since the victim's death.
    longest: Duration,
}

/// A victim in front of its operation, and what it will say of it.
pub(crate) struct Ready {
    pub(crate) victim: Victim,
    pub(crate) report: Report,
}

/// What survivors found.
pub(crate) struct Settled {
    /// How many messages the victim sent or took.
    pub(crate) progress: usize,
    pub(crate) longest: Duration,
}

impl<'a> Site<'a> {
    /// Makes a channel and brings it into a state, with room for a victim of that role.
    pub(crate) fn arrange(
        mode: &'static Mode,
        state: &'static State,
        role: Role,
        lore: &'a Lore,
    ) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("narrows-prove-{}-{number}", std::process::id());
        let mut site = Self {
            mode,
            state,
            lore,
            name,
            sender: None,
            receiver: None,
            held: Vec::new(),
            sleepers: Vec::new(),
            stopped: Vec::new(),
            ids: 0,
            ledger: Ledger::default(),
            longest: Duration::ZERO,
        };
        site.open_missing(true, true)?;
        (state.arrange)(&mut site).with_context(|| format!("the state {}", state.name))?;
        site.make_way(role);
        Ok(site)
    }

    /// The address with its options.
    fn address(&self) -> String {
        format!("{},{}", self.plain(), self.mode.options)
    }

    fn plain(&self) -> String {
        if self.mode.scope == Scope::Names {
            format!("file:{}", self.path().display())
        } else {
            format!("shm:{}", self.name)
        }
    }

    fn bare(&self) -> Result<narrows::Address> {
        Ok(self.plain().parse()?)
    }

    fn path(&self) -> PathBuf {
        let folder = if self.mode.scope == Scope::Names { std::env::temp_dir() } else { "/dev/shm".into() };
        folder.join(&self.name)
    }

    /// Opens the ends that are not there and that are wanted.
    fn open_missing(&mut self, sender: bool, receiver: bool) -> Result<(), Error> {
        if sender && self.sender.is_none() {
            self.sender = Some(Sender::open(self.address().as_str())?);
        }
        if receiver && self.receiver.is_none() {
            self.receiver = Some(Receiver::open(self.address().as_str())?);
        }
        Ok(())
    }

    fn has_sleeper(&self, role: Role) -> bool {
        self.sleepers.iter().any(|sleeper| sleeper.role == role)
    }

    /// One to one, leaves a victim of that role its end.
    pub(crate) fn make_way(&mut self, role: Role) {
        if !self.mode.one {
            return;
        }
        match role {
            Role::Sender => self.sender = None,
            Role::Receiver => self.receiver = None,
            Role::Nobody => {}
        }
    }

    fn sender(&mut self) -> Result<&mut Sender> {
        self.sender.as_mut().context("this site has no sender")
    }

    fn receiver(&mut self) -> Result<&mut Receiver> {
        self.receiver.as_mut().context("this site has no receiver")
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    // What states are made of.

    /// Sends small messages that wait; fewer where fewer fit.
    pub(super) fn send(&mut self, count: usize) -> Result<()> {
        self.post(count, SMALL)
    }

    pub(super) fn send_large(&mut self, count: usize) -> Result<()> {
        self.post(count, LARGE)
    }

    fn post(&mut self, count: usize, len: usize) -> Result<()> {
        for _ in 0..count {
            let id = self.id();
            match self.sender()?.send_by(&message::write(id, len), Deadline::Now) {
                Ok(()) => self.ledger.certain.push_back(id),
                Err(Error::Full { .. }) if count == CAPACITY => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Small messages go through.
    pub(super) fn pass(&mut self, count: usize) -> Result<()> {
        self.pass_of(count, SMALL)
    }

    pub(super) fn pass_large(&mut self, count: usize) -> Result<()> {
        self.pass_of(count, LARGE)
    }

    fn pass_of(&mut self, count: usize, len: usize) -> Result<()> {
        for _ in 0..count {
            let bytes = message::write(0, len);
            self.sender()?.send_by(&bytes, Deadline::Now)?;
            ensure!(
                self.receiver()?.recv_by(Deadline::Now)?.is_some(),
                "a message that was sent is not there"
            );
        }
        Ok(())
    }

    /// Takes messages and keeps them in place until no chunk is left.
    pub(super) fn hold_all_chunks(&mut self) -> Result<()> {
        let bytes = message::write(0, LARGE);
        loop {
            match self.sender()?.send_by(&bytes, Deadline::Now) {
                Ok(()) => {}
                Err(Error::Full { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let held = self.receiver()?.recv_in_place(Deadline::Now)?;
            self.held.push(held.context("a message that was sent is not there")?);
        }
    }

    pub(super) fn sleep_receiver(&mut self) -> Result<()> {
        if self.mode.one {
            self.receiver = None;
        }
        self.sleepers.push(Sleeper::receiver(&self.address())?);
        Ok(())
    }

    pub(super) fn sleep_sender(&mut self) -> Result<()> {
        if self.mode.one {
            self.sender = None;
        }
        let id = self.id();
        self.ledger.possible.push(id);
        self.sleepers.push(Sleeper::sender(&self.address(), id)?);
        Ok(())
    }

    /// Another begins an operation and is interrupted behind its `change`th change (0: before it begins).
    pub(super) fn strike(&mut self, operation: &str, change: usize, fate: Fate) -> Result<()> {
        let operation =
            OPERATIONS.iter().find(|known| known.name == operation).context("no such operation")?;
        let Ready { mut victim, report } = self.ready(operation)?;
        let victims = std::mem::take(&mut self.ledger.victims);
        match operation.effect {
            Effect::Adds(count) => self.ledger.possible.extend(&victims[..count]),
            Effect::Takes(count)
                if !self.mode.release || fate == Fate::Stopped || fate == Fate::StoppedBehind =>
            {
                let doubtful: Vec<u64> = self.ledger.certain.iter().copied().take(count).collect();
                self.ledger.doubtful.extend(doubtful);
            }
            Effect::Takes(_) | Effect::Nothing | Effect::Removes => {}
        }
        match fate {
            Fate::DeadBehind | Fate::StoppedBehind => victim.finish()?,
            Fate::Dead | Fate::Stopped if change > 0 => self.advance(&mut victim, operation, change)?,
            Fate::Dead | Fate::Stopped => {}
        }
        match fate {
            Fate::Dead | Fate::DeadBehind => victim.kill(),
            Fate::Stopped | Fate::StoppedBehind => self.stopped.push((victim, report)),
        }
        Ok(())
    }

    /// Another than the victim begins an operation and is killed at a place on its way. False: behind its operation, as
    /// its way did not lead past the place.
    pub(crate) fn kill_at(&mut self, operation: &Operation, place: Place) -> Result<bool> {
        let Ready { mut victim, .. } = self.another(operation, false)?;
        let stop = victim.run_to(place)?;
        victim.kill();
        Ok(stop == Stop::There)
    }

    /// Another than the victim, in front of an operation that it will not finish. It may live on and keep what it took.
    fn another(&mut self, operation: &Operation, keeps: bool) -> Result<Ready> {
        let victims = std::mem::take(&mut self.ledger.victims);
        let ready = self.ready(operation)?;
        let its = std::mem::replace(&mut self.ledger.victims, victims);
        match operation.effect {
            Effect::Adds(count) => self.ledger.possible.extend(&its[..count]),
            // What was released is gone, also with ack=release: recv_in_place ends with that.
            Effect::Takes(count) if keeps || !self.mode.release || operation.releases => {
                let doubtful: Vec<u64> = self.ledger.certain.iter().copied().take(count).collect();
                self.ledger.doubtful.extend(doubtful);
            }
            Effect::Takes(_) | Effect::Nothing | Effect::Removes => {}
        }
        Ok(ready)
    }

    fn advance(&self, victim: &mut Victim, operation: &Operation, change: usize) -> Result<()> {
        let key = format!("{}/{}/{}/{change}", self.mode.name, self.state.name, operation.name);
        let known = self.lore.0.borrow().get(&key).copied();
        if let Some(place) = known {
            ensure!(victim.run_to(place)? == Stop::There, "{key}: another way was taken");
            return Ok(());
        }
        let mut watch = self.watch();
        let place = victim.advance(change, || watch.changed())?;
        self.lore.0.borrow_mut().insert(key, place);
        Ok(())
    }

    /// Somebody steps over the claim in the way.
    pub(super) fn revoke(&mut self) -> Result<()> {
        match self.receiver()?.recv_by(Deadline::Now) {
            Err(Error::TimedOut { .. }) => Ok(()),
            Ok(_) => bail!("there was a message"),
            Err(error) => Err(error.into()),
        }
    }

    /// The survivors leave.
    pub(super) fn desert(&mut self) -> Result<()> {
        (self.sender, self.receiver) = (None, None);
        Ok(())
    }

    // What gates do.

    /// A victim in front of its operation.
    pub(crate) fn ready(&mut self, operation: &Operation) -> Result<Ready> {
        let ids: Vec<u64> = (0..VICTIM_IDS).map(|_| self.id()).collect();
        self.ledger.victims.clone_from(&ids);
        self.ledger.before = self.ledger.certain.len();
        self.may_drop(operation);
        let part = Part { address: self.address(), ids };
        let (report, writer) = Report::new()?;
        let act = operation.act;
        let victim = Victim::start(
            || act(part),
            |outcome: Outcome| {
                // Nobody may be there to listen any more.
                let _ = say(writer, &Said::from(&outcome));
            },
        )?;
        Ok(Ready { victim, report })
    }

    /// Where there is no room for all that it sends, the oldest messages may be dropped.
    fn may_drop(&mut self, operation: &Operation) {
        let Effect::Adds(count) = operation.effect else { return };
        let waiting = self.ledger.certain.len() + self.ledger.possible.len();
        let excess = (waiting + count).saturating_sub(CAPACITY);
        if self.mode.drops {
            self.ledger.doubtful.extend(self.ledger.certain.iter().take(excess));
        }
    }

    /// What others see of the channel.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(self.path())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // Of a site that did not settle.
        let _ = std::fs::remove_file(self.path());
    }
}
