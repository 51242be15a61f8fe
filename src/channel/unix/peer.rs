//! One connection of a receiver, and how a packet is read.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SocketType;

use crate::channel::wire::{BUFFER, Decoder, Fault, Packet, Settings, Wire, cut_packet, deliver};
use crate::error::{Error, Result, Text};
use crate::message::Inbox;
use crate::sys::socket;

/// The largest packet in bytes. A sender without privileges reaches 416 KiB.
const PACKET_MAX: usize = 512 << 10;

/// Where packets land, one at a time.
pub(super) struct Landing {
    pub(super) bytes: Box<[u8]>,
    /// The message of the last one, if this process had no memory for it.
    kept: Option<Range<usize>>,
}

impl Landing {
    /// Room for packets; streams need none.
    pub(super) fn new(kind: SocketType) -> Self {
        let len = if kind == SocketType::STREAM { 0 } else { PACKET_MAX };
        Self { bytes: vec![0; len].into(), kept: None }
    }

    /// Delivers what was kept.
    pub(super) fn deliver_kept(&mut self, what: &Text, inbox: &mut dyn Inbox) -> Option<Result<()>> {
        self.kept.take().map(|range| self.deliver(range, what, inbox))
    }

    /// Delivers the packet that landed, whose real length is `len`.
    pub(super) fn deliver_packet(
        &mut self,
        len: usize,
        settings: Settings,
        what: &Text,
        inbox: &mut dyn Inbox,
    ) -> Landed {
        match cut_packet(&self.bytes[..len.min(PACKET_MAX)], len, settings) {
            Ok(Packet::Message(message)) => {
                let range = len - message.len()..len;
                Landed::Message(self.deliver(range, what, inbox))
            }
            Ok(Packet::Bye) => Landed::Bye,
            Err(fault) => Landed::Refused(fault),
        }
    }

    fn deliver(&mut self, range: Range<usize>, what: &Text, inbox: &mut dyn Inbox) -> Result<()> {
        let delivered = deliver(what, &self.bytes[range.clone()], inbox);
        self.kept = matches!(delivered, Err(Error::NoSpace { .. })).then_some(range);
        delivered
    }
}

/// What a packet was.
pub(super) enum Landed {
    Message(Result<()>),
    Bye,
    Refused(Fault),
}

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
    pub(super) fn serve(&mut self, what: &Text, packet: &mut Landing, inbox: &mut dyn Inbox) -> Served {
        match &mut self.decoder {
            Some(decoder) => {
                let mut may_read = self.is_ready && !self.is_over;
                loop {
                    match decoder.deliver_next(what, inbox) {
                        Ok(Some(delivered)) => return Served::Message(delivered),
                        Err(fault) => return Served::Refused(fault),
                        Ok(None) => {}
                    }
                    if self.is_over || decoder.said_bye() {
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
                match decoder.deliver_last(true, what, inbox) {
                    Some(delivered) => Served::Message(delivered),
                    None => Served::Gone { died: decoder.died() },
                }
            }
            None => self.serve_packet(what, packet, inbox),
        }
    }

    fn serve_packet(&mut self, what: &Text, packet: &mut Landing, inbox: &mut dyn Inbox) -> Served {
        if !self.is_ready {
            return Served::Nothing;
        }
        let died = u64::from(self.settings.wire == Wire::Frames);
        match socket::recv_packet(&self.socket, &mut packet.bytes) {
            Ok(0) | Err(Errno::CONNRESET) => Served::Gone { died },
            Ok(len) => match packet.deliver_packet(len, self.settings, what, inbox) {
                Landed::Message(delivered) => Served::Message(delivered),
                Landed::Bye => Served::Gone { died: 0 },
                Landed::Refused(fault) => Served::Refused(fault),
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

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, socketpair};

    use super::*;
    use crate::channel::wire::{Kind, header};

    /// No memory, or enough.
    struct Memory(Option<Vec<u8>>);

    impl Inbox for Memory {
        fn room(&mut self, len: usize) -> Option<&mut [u8]> {
            let held = self.0.as_mut()?;
            held.resize(len, 0);
            Some(held)
        }
    }

    #[test]
    fn a_packet_that_there_is_no_memory_for_comes_again() {
        let (kind, settings) = (SocketType::SEQPACKET, Settings { wire: Wire::Frames, max_message: 1 << 20 });
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
                .unwrap();
        for message in [&b"first"[..], b"second"] {
            let packet = [&header(Kind::Message, message.len())[..], message].concat();
            rustix::io::write(&theirs, &packet).unwrap();
        }
        let (mut peer, mut packet, what) =
            (Peer::new(ours, kind, settings), Landing::new(kind), "unix:x".into());
        let none = peer.serve(&what, &mut packet, &mut Memory(None));
        assert!(matches!(none, Served::Message(Err(Error::NoSpace { .. }))));
        let again = packet.deliver_kept(&what, &mut Memory(None));
        assert!(matches!(again, Some(Err(Error::NoSpace { .. }))));
        let mut memory = Memory(Some(Vec::new()));
        assert!(matches!(packet.deliver_kept(&what, &mut memory), Some(Ok(()))));
        assert_eq!(memory.0.as_deref(), Some(&b"first"[..]));
        assert!(packet.deliver_kept(&what, &mut memory).is_none());
        assert!(matches!(peer.serve(&what, &mut packet, &mut memory), Served::Message(Ok(()))));
        assert_eq!(memory.0.as_deref(), Some(&b"second"[..]));
    }
}
