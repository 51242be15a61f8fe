//! One connection of a receiver.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SocketType;

use crate::channel::wire::{BUFFER, Decoder, Fault, Packet, Settings, Wire, cut_packet, deliver};
use crate::error::{Error, Result, Text};
use crate::message::Inbox;
use crate::sys::socket;

/// The largest packet in bytes. A sender without privileges reaches 416 KiB.
pub(super) const PACKET_MAX: usize = 512 << 10;

pub(super) struct Peer {
    socket: OwnedFd,
    settings: Settings,
    /// Cuts a stream; packets need none.
    decoder: Option<Decoder>,
    /// There may be something to read, or the end.
    pub(super) is_ready: bool,
    /// Its last message was given.
    is_over: bool,
}

/// What serving one peer came to.
pub(super) enum Served {
    Message(Result<()>),
    /// Nothing that is whole yet.
    Nothing,
    Gone {
        died: u64,
    },
    Refused(Fault),
    Failed(Error),
}

impl Peer {
    pub(super) fn new(socket: OwnedFd, kind: SocketType, settings: Settings) -> Self {
        let decoder = (kind == SocketType::STREAM).then(|| Decoder::new(settings, BUFFER));
        Self { socket, settings, decoder, is_ready: true, is_over: false }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Gives its next message. Reads once at most, so that nobody else waits for long.
    pub(super) fn serve(&mut self, what: &Text, packet: &mut [u8], inbox: &mut dyn Inbox) -> Served {
        match &mut self.decoder {
            _ if self.is_over => Served::Gone { died: 0 },
            Some(decoder) => {
                let mut may_read = self.is_ready;
                loop {
                    match decoder.next() {
                        Ok(Some(message)) => return Served::Message(deliver(what, message, inbox)),
                        Err(fault) => return Served::Refused(fault),
                        Ok(None) => {}
                    }
                    if decoder.said_bye() {
                        return Served::Gone { died: 0 };
                    }
                    if !std::mem::take(&mut may_read) {
                        return Served::Nothing;
                    }
                    let space = decoder.space();
                    let room = space.len();
                    match socket::recv(&self.socket, space) {
                        Ok(0) | Err(Errno::CONNRESET) => break,
                        Ok(len) => {
                            decoder.filled(len);
                            self.is_ready = len == room;
                        }
                        Err(errno) => return self.unread(what, errno),
                    }
                }
                self.is_over = true;
                match decoder.finish(true) {
                    Some(line) => Served::Message(deliver(what, line, inbox)),
                    None => Served::Gone { died: decoder.died() },
                }
            }
            None => self.serve_packet(what, packet, inbox),
        }
    }

    fn serve_packet(&mut self, what: &Text, packet: &mut [u8], inbox: &mut dyn Inbox) -> Served {
        if !self.is_ready {
            return Served::Nothing;
        }
        let died = u64::from(self.settings.wire == Wire::Frames);
        match socket::recv_packet(&self.socket, packet) {
            Ok(0) | Err(Errno::CONNRESET) => Served::Gone { died },
            Ok(len) => match cut_packet(&packet[..len.min(PACKET_MAX)], len, self.settings) {
                Ok(Packet::Message(message)) => Served::Message(deliver(what, message, inbox)),
                Ok(Packet::Bye) => Served::Gone { died: 0 },
                Err(fault) => Served::Refused(fault),
            },
            Err(errno) => self.unread(what, errno),
        }
    }

    fn unread(&mut self, what: &Text, errno: Errno) -> Served {
        if errno == Errno::AGAIN {
            self.is_ready = false;
            return Served::Nothing;
        }
        Served::Failed(Error::from_errno(what, "recv", errno))
    }
}
