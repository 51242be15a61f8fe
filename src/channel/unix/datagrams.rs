//! One socket for all senders: no connections, and so nobody who is seen to come or to go.
//!
//! The kernel keeps one queue, in the order of the sends, of at most `net.unix.max_dgram_qlen` + 1 datagrams; who finds it
//! full waits. What is no message comes from nobody who could be hung up on: it is told at once, and passed over.

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SocketType;

use super::bind::Bound;
use super::peer::{Landed, Landing};
use crate::channel::transport::RawReceiver;
use crate::channel::wire::{Settings, no_message};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::message::Inbox;
use crate::sys::poll::poll_one;
use crate::sys::socket;

/// Goodbyes, which mean nothing here, that a call passes over whose deadline is over.
const LAST_LOOKS: u32 = 64;

pub(super) struct DatagramReceiver {
    bound: Bound,
    what: Text,
    settings: Settings,
    packet: Landing,
}

impl DatagramReceiver {
    pub(super) fn new(what: Text, bound: Bound, settings: Settings) -> Self {
        Self { bound, what, settings, packet: Landing::new(SocketType::DGRAM) }
    }
}

impl RawReceiver for DatagramReceiver {
    fn recv(&mut self, inbox: &mut dyn Inbox, deadline: Deadline) -> Result<Option<()>> {
        let what = &self.what;
        if self.bound.mark.is_forked() {
            return Err(Error::Forked { what: what.clone() });
        }
        if let Some(delivered) = self.packet.deliver_kept(what, inbox) {
            return delivered.map(Some);
        }
        let mut last_looks = 0;
        loop {
            match socket::recv_packet(self.bound.socket(), &mut self.packet.bytes) {
                Ok(len) => match self.packet.deliver_packet(len, self.settings, what, inbox) {
                    Landed::Message(delivered) => return delivered.map(Some),
                    Landed::Refused(fault) => return Err(fault.of("somebody", what)),
                    Landed::Bye => last_looks += u32::from(deadline.is_over()),
                },
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(Error::from_errno(what, "recv", errno)),
            }
            let ready = poll_one(self.bound.socket(), PollFlags::IN, deadline)
                .map_err(|errno| Error::from_errno(what, "poll", errno))?;
            if ready.is_empty() || last_looks > LAST_LOOKS {
                return Err(no_message(what));
            }
        }
    }
}
