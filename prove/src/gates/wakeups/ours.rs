//! How narrows waits: for a message, for room, for a chunk, for the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use narrows::channel::{Moment, check, remove, status};
use narrows::{Address, Deadline, Error, Receiver, Sender};

use super::side::{Side, Wait};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Message,
    Room,
    Chunk,
    End,
}

/// A kind of wait, on a channel of its own.
pub(crate) struct Ours {
    what: For,
    name: String,
    options: &'static str,
    /// Messages that are there when a sender waits.
    full: u64,
}

/// How long an end that must be free soon is waited for.
const SOON: Duration = Duration::from_secs(5);
const SMALL: [u8; 8] = [1; 8];
/// A message that takes one of eight chunks.
const LARGE: [u8; 8000] = [2; 8000];

impl Ours {
    /// Makes the channel, which stays until it is removed.
    pub(crate) fn new(what: For, name: &str, options: &'static str) -> Result<Self> {
        let mut ours = Self { what, name: format!("shm:{name}"), options, full: 0 };
        if matches!(what, For::Room | For::Chunk) {
            ours.sender().prepare()?;
            ours.full = status(&ours.address()?)?.depth;
        }
        Ok(ours)
    }

    fn address(&self) -> Result<Address> {
        Ok(self.name.parse()?)
    }

    fn to_open(&self) -> String {
        format!("{},{},participants=16,lifetime=system,wait=sleep", self.name, self.options)
    }

    fn sender(&self) -> Sending {
        let message = if self.what == For::Chunk { LARGE.as_slice() } else { &SMALL };
        Sending { address: self.to_open(), message, stays: !self.is_single(), end: None }
    }

    fn receiver(&self) -> Receiving {
        Receiving { address: self.to_open(), stays: !self.is_single(), end: None }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Ok(address) = self.address() {
            remove(&address).ok();
        }
    }
}

impl Wait for Ours {
    fn waiter(&self) -> Box<dyn Side + '_> {
        match self.what {
            For::Message => Box::new(self.receiver()),
            For::End => Box::new(Ending(self.receiver())),
            For::Room | For::Chunk => Box::new(self.sender()),
        }
    }

    fn poster(&self) -> Box<dyn Side + '_> {
        match self.what {
            For::Message => Box::new(Posting(self.sender())),
            For::End => Box::new(Leaving(self.sender())),
            For::Room | For::Chunk => Box::new(Taking(self.receiver())),
        }
    }

    fn is_posted(&self) -> Result<bool> {
        let status = status(&self.address()?)?;
        Ok(match self.what {
            For::Message => status.depth > 0,
            For::Room | For::Chunk => status.depth < self.full,
            For::End => status.senders == 0,
        })
    }

    fn faults(&self) -> Result<Vec<String>> {
        match check(&self.address()?, Moment::Any) {
            Ok(report) => Ok(report.faults.iter().map(ToString::to_string).collect()),
            Err(Error::NotFound { .. }) => Ok(Vec::new()), // nobody opened it: the other lanes were faster
            Err(error) => Err(error.into()),
        }
    }

    fn is_single(&self) -> bool {
        self.options.contains("peers=one")
    }

    fn bound(&self) -> Option<Duration> {
        Some(Duration::from_millis(5))
    }
}

/// Tries again while the one end there can be is that of somebody who is not quite dead yet.
fn open<T>(open: impl Fn() -> Result<T, Error>) -> Result<T> {
    let give_up = Instant::now() + SOON;
    loop {
        match open() {
            Err(Error::Busy { .. }) if Instant::now() < give_up => std::thread::yield_now(),
            opened => return Ok(opened?),
        }
    }
}

struct Sending {
    address: String,
    message: &'static [u8],
    /// Whether there can be others beside it.
    stays: bool,
    end: Option<Sender>,
}

impl Sending {
    fn end(&mut self) -> Result<&mut Sender> {
        match &mut self.end {
            Some(end) => Ok(end),
            closed => Ok(closed.insert(open(|| Sender::open(self.address.as_str()))?)),
        }
    }
}

/// Waits for room.
impl Side for Sending {
    fn prepare(&mut self) -> Result<()> {
        let message = self.message;
        loop {
            match self.end()?.send_by(message, Deadline::Now) {
                Ok(()) => {}
                Err(Error::Full { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn act(&mut self) -> Result<bool> {
        let message = self.message;
        self.end()?.send(message)?;
        Ok(true)
    }

    fn leave(&mut self) {
        if !self.stays {
            self.end = None;
        }
    }
}

/// Posts a message.
struct Posting(Sending);

impl Side for Posting {
    fn prepare(&mut self) -> Result<()> {
        self.0.end().map(drop)
    }

    fn act(&mut self) -> Result<bool> {
        self.0.act()
    }

    fn leave(&mut self) {
        self.0.leave();
    }
}

/// Posts the end.
struct Leaving(Sending);

impl Side for Leaving {
    fn prepare(&mut self) -> Result<()> {
        self.0.end().map(drop)
    }

    fn act(&mut self) -> Result<bool> {
        self.0.end = None;
        Ok(true)
    }
}

struct Receiving {
    address: String,
    /// Whether there can be others beside it.
    stays: bool,
    end: Option<Receiver>,
}

impl Receiving {
    fn end(&mut self) -> Result<&mut Receiver> {
        match &mut self.end {
            Some(end) => Ok(end),
            closed => Ok(closed.insert(open(|| Receiver::open(self.address.as_str()))?)),
        }
    }
}

/// Waits for a message.
impl Side for Receiving {
    fn prepare(&mut self) -> Result<()> {
        loop {
            match self.end()?.recv_by(Deadline::Now) {
                Ok(Some(_)) => {}
                Ok(None) | Err(Error::TimedOut { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn act(&mut self) -> Result<bool> {
        Ok(self.end()?.recv()?.is_some())
    }

    fn leave(&mut self) {
        if !self.stays {
            self.end = None;
        }
    }
}

/// Waits for the end.
struct Ending(Receiving);

impl Side for Ending {
    fn prepare(&mut self) -> Result<()> {
        self.0.prepare()
    }

    fn act(&mut self) -> Result<bool> {
        Ok(!self.0.act()?)
    }

    fn leave(&mut self) {
        self.0.leave();
    }
}

/// Posts room.
struct Taking(Receiving);

impl Side for Taking {
    fn prepare(&mut self) -> Result<()> {
        self.0.end().map(drop)
    }

    fn act(&mut self) -> Result<bool> {
        Ok(self.0.end()?.recv_by(SOON)?.is_some())
    }

    fn leave(&mut self) {
        self.0.leave();
    }
}
