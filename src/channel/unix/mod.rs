//! Unix sockets: `unix:/run/app.sock`, `unix:@name` (abstract).
//!
//! | file | what is in it |
//! |---|---|
//! | `bind` | one living receiver a name, and no file left behind that hinders the next |
//! | `peer` | one connection of a receiver |
//! | `receiver` | many connections served fairly, one message never torn by another |
//! | `datagrams` | one socket for all senders: no connections, and so no end |
//! | `sender` | a stream's outlet, and packets |

mod bind;
mod datagrams;
mod peer;
mod receiver;
mod sender;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketType};
use std::os::unix::ffi::OsStrExt;

use super::place;
use super::transport::{Exception, OptionSpec, ReceiverEnd, SenderEnd, Transport};
use super::wire::{MAX_MESSAGE, NO_GOODBYE, Settings, WIRE, Wire};
use crate::address::{Address, Scheme};
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::sys::poll::Pause;
use crate::sys::{file, socket};

pub(super) const UNIX: Transport = Transport {
    scheme: Scheme::Unix,
    summary: "Unix socket: many senders to the receiver that has the name; other programs can be the other side",
    capabilities: Capabilities::of(&[
        Capability::ManySenders,
        Capability::End,
        Capability::Deaths,
        Capability::Boundaries,
        Capability::ForeignPeers,
        Capability::ReceiverBinds,
    ]),
    exceptions: &[Exception::lacks("type", "dgram", &[Capability::End, Capability::Deaths]), NO_GOODBYE],
    max_message: None,
    options: &[
        OptionSpec::new(
            "type",
            "stream|seqpacket|dgram",
            "stream",
            "bytes, packets of about 200 KiB at most, or such packets without connections",
        ),
        WIRE,
        MAX_MESSAGE,
        OptionSpec::new("mode", "OCTAL", "600", "who may connect, where the receiver makes a file"),
        OptionSpec::new("backlog", "N", "128", "connections that may wait to be accepted"),
    ],
    open_sender,
    open_receiver,
};

const TYPES: [(&str, SocketType); 3] =
    [("stream", SocketType::STREAM), ("seqpacket", SocketType::SEQPACKET), ("dgram", SocketType::DGRAM)];

/// An address, understood.
struct Socket {
    name: SocketAddrUnix,
    kind: SocketType,
    settings: Settings,
    is_abstract: bool,
}

impl Socket {
    fn of(address: &Address) -> Result<Self> {
        let settings = Settings::of(address)?;
        let kind = address.choice("type", &TYPES)?.unwrap_or(SocketType::STREAM);
        if kind != SocketType::STREAM && settings.wire == Wire::Lines {
            return Err(address.invalid(
                "wire=lines has no meaning for packets",
                Some("they keep messages apart themselves: give wire=raw, or leave it out"),
            ));
        }
        let abstract_name = address.name().as_bytes().strip_prefix(b"@");
        let name = match abstract_name {
            Some(b"") => return Err(address.invalid("the name is missing", Some("write unix:@NAME"))),
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(address.path()),
        };
        let name = name.map_err(|_| {
            address.invalid(
                "a socket's path, made absolute, has at most 107 bytes",
                Some("use a shorter one, or an abstract name: unix:@NAME"),
            )
        })?;
        Ok(Self { name, kind, settings, is_abstract: abstract_name.is_some() })
    }
}

fn open_receiver(address: &Address, deadline: Deadline) -> Result<ReceiverEnd> {
    let socket = Socket::of(address)?;
    let bound = bind::bind(address, &socket, deadline)?;
    let (what, settings) = (address.text(), socket.settings);
    Ok(ReceiverEnd::Other(match socket.kind {
        SocketType::DGRAM => Box::new(datagrams::DatagramReceiver::new(what, bound, settings)),
        kind => Box::new(receiver::UnixReceiver::new(what, bound, kind, settings)),
    }))
}

fn open_sender(address: &Address, deadline: Deadline) -> Result<SenderEnd> {
    place::mode(address)?;
    let socket = Socket::of(address)?;
    let descriptor = connect(address, &socket, deadline)?;
    Ok(SenderEnd::Other(match socket.kind {
        SocketType::STREAM => Box::new(sender::stream(address.text(), descriptor, socket.settings)?),
        kind => Box::new(sender::PacketSender::new(address.text(), descriptor, kind, socket.settings)?),
    }))
}

/// Connects, waiting for the receiver by looking again and again: no event tells that a socket listens now, or that
/// an abstract name exists.
fn connect(address: &Address, socket: &Socket, deadline: Deadline) -> Result<std::os::fd::OwnedFd> {
    let what = address.text();
    let mut pause = Pause::new();
    loop {
        if !socket.is_abstract {
            refuse_other_kinds(address)?;
        }
        match socket::connect(&socket.name, socket.kind) {
            Ok(descriptor) => return Ok(descriptor),
            // Nobody has the name yet, nobody has it any more, or too many are waiting.
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => {}
            Err(Errno::PROTOTYPE) => return Err(other_type(address, socket.kind)),
            Err(Errno::ACCESS) => {
                let hint = "its receiver may open it with mode=666";
                return Err(place::refused(&what, address.path(), hint));
            }
            Err(Errno::PERM) => {
                let hint = "its datagram socket is connected to somebody else, and hears nobody but him";
                return Err(place::refused(&what, address.path(), hint));
            }
            Err(errno) => return Err(Error::from_errno(&what, "connect", errno)),
        }
        if !socket.is_abstract
            && let Some(error) = place::no_directory(&what, address.path())
        {
            return Err(error);
        }
        if !pause.sleep(deadline) {
            return Err(Error::TimedOut { what, doing: "opening" });
        }
    }
}

fn other_type(address: &Address, ours: SocketType) -> Error {
    let named = |is_ours: bool| -> Vec<&str> {
        TYPES.iter().filter(|(_, kind)| (*kind == ours) == is_ours).map(|(name, _)| *name).collect()
    };
    Error::Mismatch {
        what: address.bare().text(),
        option: "type".into(),
        theirs: named(false).join(" or ").into(),
        ours: named(true).concat().into(),
    }
}

/// Refuses a path at which something else than a socket stands, also a link to one.
fn refuse_other_kinds(address: &Address) -> Result<()> {
    let Ok(stat) = rustix::fs::lstat(address.path()) else { return Ok(()) };
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_socket() {
        return Ok(());
    }
    Err(Error::WrongKind {
        what: address.text(),
        expected: "a socket".into(),
        found: file::kind_of(stat.st_mode).into(),
        hint: Some(place::instead_of(stat.st_mode).into()),
    })
}
