//! One channel, what was sent into it, and what there is of it in the system.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Context, Result};
use narrows::channel::{self, Moment};
use narrows::{Address, Deadline, Error, Receiver, Sender};

use super::supply::{SHM, descriptors, free_pages};

/// The channel that every operation is about; nobody else sees it.
const NAME: &str = "shm:starved";

/// Fills a place with the message of this number.
fn fill(place: &mut Vec<u8>, number: u64, size: usize) {
    place.clear();
    place.resize(size, number as u8);
    let ends = number.to_le_bytes();
    let len = size.min(ends.len());
    place[..len].copy_from_slice(&ends[..len]);
    place[size - len..].copy_from_slice(&ends[..len]);
}

/// A channel and the handles of this process.
pub(super) struct Scene {
    pub(super) address: String,
    pub(super) sender: Option<Sender>,
    pub(super) receiver: Option<Receiver>,
    /// Further handles.
    pub(super) senders: Vec<Sender>,
    /// What is in the channel, by number and size.
    expected: VecDeque<(u64, usize)>,
    sent: u64,
    /// Room for a message, taken before anything is missing.
    pub(super) scratch: Vec<u8>,
    /// What the next message received should be.
    likeness: Vec<u8>,
}

impl Scene {
    pub(super) fn new(options: &str) -> Self {
        let address =
            [NAME, options].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
        Self {
            address,
            sender: None,
            receiver: None,
            senders: Vec::new(),
            expected: VecDeque::new(),
            sent: 0,
            scratch: Vec::with_capacity(1 << 20),
            likeness: Vec::with_capacity(1 << 20),
        }
    }

    pub(super) fn bare(&self) -> narrows::Result<Address> {
        NAME.parse()
    }

    pub(super) fn open_sender(&mut self) -> narrows::Result<()> {
        self.sender = Some(Sender::open_by(&*self.address, Deadline::Now)?);
        Ok(())
    }

    pub(super) fn open_receiver(&mut self) -> narrows::Result<()> {
        self.receiver = Some(Receiver::open_by(&*self.address, Deadline::Now)?);
        Ok(())
    }

    pub(super) fn open_both(&mut self) -> narrows::Result<()> {
        self.open_receiver()?;
        self.open_sender()
    }

    /// The next message of a size.
    pub(super) fn message(&mut self, size: usize) -> Vec<u8> {
        let mut message = std::mem::take(&mut self.scratch);
        fill(&mut message, self.sent, size);
        message
    }

    pub(super) fn send(&mut self, size: usize) -> narrows::Result<()> {
        let message = self.message(size);
        let sent = self.sender.as_mut().map(|sender| sender.send_by(&message, Deadline::Now));
        self.scratch = message;
        if let Some(sent) = sent {
            sent?;
            self.was_sent(size);
        }
        Ok(())
    }

    pub(super) fn was_sent(&mut self, size: usize) {
        self.expected.push_back((self.sent, size));
        self.sent += 1;
    }

    /// Receives what stands at the front and compares it with what was sent.
    pub(super) fn recv(&mut self) -> narrows::Result<()> {
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        let received = receiver.recv_by(Deadline::Now)?;
        self.was_received(received.as_deref().unwrap_or_default())
    }

    /// What was received is the next that was sent.
    pub(super) fn was_received(&mut self, message: &[u8]) -> narrows::Result<()> {
        let expected = self.expected.pop_front();
        if let Some((number, size)) = expected {
            fill(&mut self.likeness, number, size);
            if message == self.likeness {
                return Ok(());
            }
        }
        let problem = format!("another message came where {expected:?} was sent").into();
        Err(Error::Corrupt { what: NAME.into(), problem, hint: None })
    }

    /// Everything that was sent comes, and the channel works.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.receiver.is_none() {
            self.open_receiver().context("opening a receiver afterwards")?;
        }
        while !self.expected.is_empty() {
            self.recv().context("receiving what was sent")?;
        }
        if self.sender.is_none() {
            self.open_sender().context("opening a sender afterwards")?;
        }
        for size in [9, 2000, 150_000] {
            self.send(size).with_context(|| format!("sending {size} bytes afterwards"))?;
            self.recv().with_context(|| format!("receiving {size} bytes afterwards"))?;
        }
        match self.receiver.as_mut().map(|receiver| receiver.recv_by(Deadline::Now)) {
            Some(Err(Error::TimedOut { .. })) => Ok(()),
            other => anyhow::bail!("a message too many: {other:?}"),
        }
    }

    /// Closes everything, and removes what stays.
    pub(super) fn close(self) {
        let address = self.bare();
        drop(self);
        if let Ok(address) = address {
            channel::remove(&address).ok();
        }
    }

    /// What a check of the memory finds, and the bytes that it says are reserved for nothing yet.
    pub(super) fn check(&self) -> Result<(Vec<String>, bool)> {
        match channel::check(&self.bare()?, Moment::Rest) {
            Ok(report) => {
                let spare = report.pending.iter().any(|finding| finding.fact == "spare");
                let broken =
                    report.pending.iter().filter(|finding| !["spare", "retired"].contains(&finding.fact));
                let broken = report.faults.iter().chain(broken).map(ToString::to_string).collect();
                Ok((broken, spare))
            }
            Err(Error::NotFound { .. }) => Ok((Vec::new(), false)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What there is of a process in the system: all that an operation could leave behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traces {
    pub(super) names: BTreeSet<String>,
    pub(super) descriptors: Vec<u64>,
    pub(super) mappings: usize,
    pub(super) free_pages: u64,
}

impl Traces {
    pub(super) fn now() -> Result<Self> {
        let names = std::fs::read_dir(SHM)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        Ok(Self {
            names: names.collect(),
            descriptors: descriptors()?,
            mappings: maps.lines().filter(|line| line.contains(SHM)).count(),
            free_pages: free_pages()?,
        })
    }

    /// What is there now and was not before, but for pages.
    pub(super) fn leaks(&self, now: &Self) -> Vec<String> {
        let mut leaks = Vec::new();
        if now.names != self.names {
            leaks.push(format!("names: {:?} before, {:?} now", self.names, now.names));
        }
        if now.descriptors != self.descriptors {
            leaks.push(format!("descriptors: {:?} before, {:?} now", self.descriptors, now.descriptors));
        }
        if now.mappings != self.mappings {
            leaks.push(format!("mappings: {} before, {} now", self.mappings, now.mappings));
        }
        leaks
    }
}
