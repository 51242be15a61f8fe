//! How messages are cut out of a stream of bytes.
//!
//! `docs/wire.md` is the whole format for readers in other languages. A frame is a header of eight bytes,
//! `nw1` (magic and version), a letter (the [`Kind`]), the payload's length (`u32`, little-endian), and the payload.

mod decoder;
mod sender;

#[cfg(any(test, fuzzing))]
pub use decoder::judge::judge_stream;
pub(super) use decoder::{BUFFER, Decoder, Fault, Packet, cut_packet};
pub(super) use sender::{Outlet, StreamSender};

use crate::address::Address;
use crate::capabilities::Capability;
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::message::{Inbox, wrong_size};

use super::transport::{Exception, OptionSpec};

/// The bytes before every payload.
pub(super) const HEADER: usize = 8;

/// What every frame begins with: a name and the format's version.
const MAGIC: [u8; 3] = *b"nw1";

/// The option `wire`, for the tables.
pub(super) const WIRE: OptionSpec = OptionSpec {
    key: "wire",
    values: "frames|lines|raw",
    default: "frames",
    meaning: "how messages are cut out of the bytes: narrows' frames, a line each, or not at all",
};

/// Lines and raw bytes have no place for a good-bye.
pub(super) const NO_GOODBYE: Exception = Exception::lacks("wire", "lines|raw", &[Capability::Deaths]);

/// The option `max_message`, for the tables.
pub(super) const MAX_MESSAGE: OptionSpec = OptionSpec {
    key: "max_message",
    values: "BYTES",
    default: "64M",
    meaning: "the largest message: a sender refuses more, a receiver hangs up on who announces more",
};

/// What [`MAX_MESSAGE`] says.
const MAX_MESSAGE_DEFAULT: u64 = 64 << 20;

/// What a message is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// A frame, or several where it is large.
    Frames,
    /// A line: the bytes up to a newline, or up to the end.
    Lines,
    /// Whatever arrived.
    Raw,
}

impl Wire {
    /// The bytes that a small message costs beside its own.
    pub(super) const fn overhead(self) -> usize {
        match self {
            Self::Frames => HEADER,
            Self::Lines => 1,
            Self::Raw => 0,
        }
    }
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A whole message. Parts before it that have no end are forgotten: their sender ran out of time.
    Message = b'm',
    /// The first part of a message that goes on in the next frames; parts before it are forgotten likewise.
    Start = b's',
    /// A part that is neither the first nor the last. One without a start belongs to a message whose beginning
    /// another receiver had, and is dropped.
    Part = b'p',
    /// The last part: with it, the message has arrived.
    End = b'e',
    /// A sender begins. Needed where one follows another in the same stream (a FIFO), elsewhere ignored.
    Hello = b'h',
    /// The sender closes in order. An end without it is a death.
    Bye = b'b',
}

impl Kind {
    fn of(letter: u8) -> Option<Self> {
        [Self::Message, Self::Start, Self::Part, Self::End, Self::Hello, Self::Bye]
            .into_iter()
            .find(|kind| *kind as u8 == letter)
    }

    /// Whether it carries bytes of a message.
    const fn has_payload(self) -> bool {
        matches!(self, Self::Message | Self::Start | Self::Part | Self::End)
    }
}

/// The header of a frame whose payload has `len` bytes, which fit a `u32` because senders cut messages up.
pub(super) fn header(kind: Kind, len: usize) -> [u8; HEADER] {
    let [a, b, c] = MAGIC;
    let [d, e, f, g] = (len as u32).to_le_bytes();
    [a, b, c, kind as u8, d, e, f, g]
}

/// What an address says about its wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) wire: Wire,
    pub(super) max_message: u64,
}

impl Settings {
    /// # Errors
    /// `InvalidAddress` where an option's value has no meaning.
    pub(super) fn of(address: &Address) -> Result<Self> {
        let words = [("frames", Wire::Frames), ("lines", Wire::Lines), ("raw", Wire::Raw)];
        Ok(Self {
            wire: address.choice("wire", &words)?.unwrap_or(Wire::Frames),
            max_message: address.number("max_message")?.unwrap_or(MAX_MESSAGE_DEFAULT),
        })
    }
}

/// Copies a message to where the receiver wants it.
///
/// # Errors
/// `Mismatch` where it has not the size of the receiver's type.
pub(super) fn deliver(what: &Text, message: &[u8], inbox: &mut dyn Inbox) -> Result<()> {
    let Some(room) = inbox.room(message.len()) else {
        return Err(wrong_size(what, message.len() as u64, inbox.size()));
    };
    room.copy_from_slice(message);
    Ok(())
}

/// The error of a send that found no room in time.
pub(super) fn no_room(what: &Text, deadline: Deadline) -> Error {
    match deadline {
        Deadline::Now => Error::Full { what: what.clone() },
        _ => Error::TimedOut { what: what.clone(), doing: "sending to" },
    }
}

/// The error of a receive that found no message in time.
pub(super) fn no_message(what: &Text) -> Error {
    Error::TimedOut { what: what.clone(), doing: "receiving from" }
}
