//! Many connections, served in turn.

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SocketType;

use super::bind::{Bound, QUESTION};
use super::peer::{Landing, Peer, Served};
use crate::channel::place;
use crate::channel::transport::RawReceiver;
use crate::channel::wire::{Settings, no_message};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::message::Inbox;
use crate::sys::poll::poll;
use crate::sys::socket;

/// After so many messages the receiver looks who else has something, though the busy ones have more.
const FAIR: u32 = 64;

/// How often a call whose deadline is over goes on because something arrives that is no message yet.
const LAST_LOOKS: u32 = 64;

pub(super) struct UnixReceiver {
    bound: Bound,
    what: Text,
    kind: SocketType,
    settings: Settings,
    peers: Vec<Peer>,
    /// Whose turn it is.
    turn: usize,
    since_look: u32,
    packet: Landing,
    /// A sender was there since this receiver opened.
    was_sent_to: bool,
    /// No descriptor is left for another connection: one must go first.
    is_full: bool,
    died: u64,
    /// What the last peer that did not keep to the format did. Told in place of the end, so that it disturbs
    /// nobody else and is not lost either.
    fault: Option<Error>,
}

impl UnixReceiver {
    pub(super) fn new(what: Text, bound: Bound, kind: SocketType, settings: Settings) -> Self {
        Self {
            bound,
            what,
            kind,
            settings,
            peers: Vec::new(),
            turn: 0,
            since_look: 0,
            packet: Landing::new(kind),
            was_sent_to: false,
            is_full: false,
            died: 0,
            fault: None,
        }
    }

    /// Serves the peers once round, beginning with whose turn it is, up to the first message.
    fn round(&mut self, inbox: &mut dyn Inbox) -> Option<Result<()>> {
        if let Some(delivered) = self.packet.deliver_kept(&self.what, inbox) {
            return Some(delivered);
        }
        for _ in 0..self.peers.len() {
            if self.turn >= self.peers.len() {
                self.turn = 0;
            }
            let Some(peer) = self.peers.get_mut(self.turn) else { break };
            match peer.serve(&self.what, &mut self.packet, inbox) {
                Served::Message(result) => {
                    self.turn += 1;
                    return Some(result);
                }
                Served::Nothing => self.turn += 1,
                Served::Gone { died } => {
                    self.died += died;
                    self.remove();
                }
                Served::Failed(error) => {
                    self.remove();
                    return Some(Err(error));
                }
                Served::Refused(fault) => {
                    let who = socket::peer_pid(peer.socket()).map_or("a peer".into(), place::process);
                    self.fault = Some(fault.of(&who, &self.what));
                    self.remove();
                }
            }
        }
        None
    }

    /// Hangs up on the peer whose turn it is.
    fn remove(&mut self) {
        self.peers.remove(self.turn);
        self.is_full = false;
    }

    /// Waits until somebody has something, and lets in who waits at the door. False where the deadline passed.
    fn look(&mut self, deadline: Deadline) -> Result<bool> {
        self.since_look = 0;
        let fail = |errno| Error::from_errno(&self.what, "poll", errno);
        let mut watched: Vec<PollFd<'_>> =
            self.peers.iter().map(|peer| PollFd::from_borrowed_fd(peer.socket(), PollFlags::IN)).collect();
        let listener = self.bound.socket();
        if !self.is_full {
            watched.push(PollFd::from_borrowed_fd(listener, PollFlags::IN));
        }
        if !poll(&mut watched, deadline).map_err(fail)? {
            return Ok(false);
        }
        let ready: Vec<bool> = watched.iter().map(|watched| !watched.revents().is_empty()).collect();
        for (peer, ready) in self.peers.iter_mut().zip(&ready) {
            peer.is_ready |= *ready;
        }
        if !self.is_full && ready.last() == Some(&true) {
            self.accept()?;
        }
        Ok(true)
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match socket::accept(self.bound.socket()) {
                Ok((_, Some(name))) if name.starts_with(QUESTION) => {}
                Ok((socket, _)) => {
                    self.peers.push(Peer::new(socket, self.kind, self.settings));
                    self.was_sent_to = true;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) if !self.peers.is_empty() => {
                    self.is_full = true;
                    return Ok(());
                }
                Err(errno) => return Err(Error::from_errno(&self.what, "accept", errno)),
            }
        }
    }

    fn at_end(&mut self) -> Result<Option<()>> {
        self.fault.take().map_or(Ok(None), Err)
    }
}

impl RawReceiver for UnixReceiver {
    fn recv(&mut self, inbox: &mut dyn Inbox, deadline: Deadline) -> Result<Option<()>> {
        if self.bound.mark.is_forked() {
            return Err(Error::Forked { what: self.what.clone() });
        }
        self.since_look += 1;
        if self.since_look > FAIR {
            self.look(Deadline::Now)?;
        }
        let mut last_looks = 0;
        loop {
            if let Some(result) = self.round(inbox) {
                return result.map(Some);
            }
            let has_more = self.peers.iter().any(|peer| peer.is_ready);
            let is_alone = self.was_sent_to && self.peers.is_empty();
            if deadline.is_over() {
                last_looks += 1;
                if last_looks > LAST_LOOKS {
                    return Err(no_message(&self.what));
                }
            }
            let until = if has_more || is_alone { Deadline::Now } else { deadline };
            if self.look(until)? || has_more {
                continue;
            }
            // Nobody is connected and nobody waits to be: what was sent is received.
            return if is_alone { self.at_end() } else { Err(no_message(&self.what)) };
        }
    }

    fn died(&self) -> u64 {
        self.died
    }
}
