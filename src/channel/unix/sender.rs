//! The sending end.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SocketType;

use crate::channel::transport::RawSender;
use crate::channel::wire::{Kind, Outlet, Settings, StreamSender, Wire, header, no_room};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::sys::poll::poll_one;
use crate::sys::process::ProcessMark;
use crate::sys::socket;

/// A stream socket. The kernel takes writes of up to 32 KiB as one piece of memory, whole or not at all.
pub(super) struct Stream(OwnedFd);

impl Outlet for Stream {
    const CALL: &'static str = "sendmsg";
    const FRAME: usize = 32 << 10;

    fn write(&self, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
        socket::send(&self.0, pieces)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn grow(&self) {
        socket::grow_send_buffer(&self.0).ok();
    }
}

pub(super) fn stream(what: Text, socket: OwnedFd, settings: Settings) -> Result<StreamSender<Stream>> {
    StreamSender::new(Stream(socket), what, settings, true)
}

/// A seqpacket or datagram socket: a packet is a frame, or with `wire=raw` the message itself.
pub(super) struct PacketSender {
    socket: OwnedFd,
    /// The receiver sees the connection, and its end.
    is_connection: bool,
    what: Text,
    wire: Wire,
    /// The largest message in bytes.
    limit: u64,
    mark: ProcessMark,
}

/// What the kernel needs beside a packet's bytes.
const PACKET_OVERHEAD: usize = 32;

impl PacketSender {
    pub(super) fn new(what: Text, socket: OwnedFd, kind: SocketType, settings: Settings) -> Result<Self> {
        let is_connection = kind != SocketType::DGRAM;
        let fail = |call| {
            let what = what.clone();
            move |errno| Error::from_errno(&what, call, errno)
        };
        let room = socket::send_buffer(&socket).map_err(fail("getsockopt"))?;
        let room = room.saturating_sub(PACKET_OVERHEAD + settings.wire.overhead());
        let limit = settings.max_message.min(room as u64);
        let mark = ProcessMark::take().map_err(fail("madvise"))?;
        Ok(Self { socket, is_connection, what, wire: settings.wire, limit, mark })
    }

    fn put(&self, kind: Kind, message: &[u8], deadline: Deadline) -> Result<()> {
        let head = header(kind, message.len());
        let head = if self.wire == Wire::Frames { &head[..] } else { &[] };
        loop {
            match socket::send(&self.socket, &[IoSlice::new(head), IoSlice::new(message)]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => {}
                Err(Errno::MSGSIZE) => return Err(self.too_large(message)),
                // A datagram socket forgets a dead receiver once it has told of him.
                Err(Errno::NOTCONN) => {
                    return Err(Error::PeerGone { what: self.what.clone(), died: 0 });
                }
                Err(errno) => return Err(Error::from_errno(&self.what, "sendmsg", errno)),
            }
            let ready = poll_one(&self.socket, PollFlags::OUT, deadline)
                .map_err(|errno| Error::from_errno(&self.what, "poll", errno))?;
            if ready.is_empty() {
                return Err(no_room(&self.what, deadline));
            }
        }
    }

    fn too_large(&self, message: &[u8]) -> Error {
        Error::TooLarge {
            what: self.what.clone(),
            size: message.len() as u64,
            limit: self.limit,
            hint: Some(
                "a packet is no larger than the socket's buffer: type=stream has no such limit".into(),
            ),
        }
    }
}

impl RawSender for PacketSender {
    fn send(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        if self.mark.is_forked() {
            return Err(Error::Forked { what: self.what.clone() });
        }
        if message.len() as u64 > self.limit {
            return Err(self.too_large(message));
        }
        if self.is_connection && self.wire == Wire::Raw && message.is_empty() {
            return Err(Error::Unsupported {
                what: self.what.clone(),
                capability: "an empty message".into(),
                hint: Some("an empty raw packet looks like the end: wire=frames keeps it apart".into()),
            });
        }
        self.put(Kind::Message, message, deadline)
    }
}

impl Drop for PacketSender {
    fn drop(&mut self) {
        if !self.is_connection || self.wire != Wire::Frames || self.mark.is_forked() {
            return;
        }
        if self.put(Kind::Bye, &[], Deadline::Now).is_err() {
            socket::grow_send_buffer(&self.socket).ok();
            self.put(Kind::Bye, &[], Deadline::Now).ok();
        }
    }
}
