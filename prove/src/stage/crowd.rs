//! Other processes of a site: asleep, stopped or dead where it matters.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use narrows::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use super::message;
use super::operation::{Outcome, Role};
use crate::tracer::Fork;

/// Whatever another process is waited for takes at most so long.
pub(super) const BOUND: Duration = Duration::from_secs(10);

/// What a process tells of its operation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) error: Option<String>,
    /// How many messages were sent.
    pub(crate) sent: usize,
    /// Messages by their numbers, and whether they came again. `None`: torn.
    pub(crate) received: Vec<(Option<u64>, bool)>,
}

impl From<&Outcome> for Said {
    fn from(outcome: &Outcome) -> Self {
        let error = outcome.error.as_ref().map(ToString::to_string);
        Self { error, sent: outcome.sent, received: outcome.received.clone() }
    }
}

/// A pipe from another process.
pub(crate) struct Report(PipeReader);

impl Report {
    pub(crate) fn new() -> Result<(Self, PipeWriter)> {
        let (reader, writer) = pipe().context("a pipe")?;
        Ok((Self(reader), writer))
    }

    /// All that was said, once the other process ended.
    pub(crate) fn read(mut self) -> Result<Said> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            bail!("it said nothing");
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}

pub(crate) fn say(mut to: PipeWriter, said: &Said) -> Result<()> {
    Ok(to.write_all(&serde_json::to_vec(said)?)?)
}

/// A process that sleeps in an operation until it is done.
pub(super) struct Sleeper {
    pub(super) role: Role,
    fork: Fork,
    report: Report,
}

impl Sleeper {
    /// One that receives one message.
    pub(super) fn receiver(address: &str) -> Result<Self> {
        let address = format!("{address},wait=sleep");
        Self::start(Role::Receiver, move || {
            let mut said = Said::default();
            let mut receiver: Receiver = Receiver::open(address.as_str())?;
            if let Some(message) = receiver.recv_by(BOUND)? {
                said.received.push((message::read(&message), message.redelivered()));
            }
            Ok(said)
        })
    }

    /// One that sends one message.
    pub(super) fn sender(address: &str, id: u64) -> Result<Self> {
        let address = format!("{address},wait=sleep");
        Self::start(Role::Sender, move || {
            let mut sender: Sender = Sender::open(address.as_str())?;
            sender.send_by(&message::write(id, message::SMALL), BOUND)?;
            Ok(Said::default())
        })
    }

    fn start(role: Role, work: impl FnOnce() -> Result<Said>) -> Result<Self> {
        let (report, writer) = Report::new()?;
        let fork = Fork::start(|| say(writer, &work()?))?;
        let sleeper = Self { role, fork, report };
        let start = Instant::now();
        while !sleeper.fork.sleeps() {
            if start.elapsed() > BOUND {
                bail!("it does not fall asleep");
            }
            std::thread::yield_now();
        }
        Ok(sleeper)
    }

    /// Waits until it is done.
    pub(super) fn done_within(self, bound: Duration) -> Result<Said> {
        self.fork.ends_within(bound)?;
        self.report.read()
    }

    pub(super) fn is_done(&self) -> bool {
        self.fork.has_ended()
    }
}
