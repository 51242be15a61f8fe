//! Bytes in, messages out.

use std::ops::Range;

use super::{HEADER, Kind, MAGIC, Settings, Wire, deliver};
use crate::error::{Error, Result, Text};
use crate::message::{Inbox, no_memory};

/// How many bytes are read at once, unless said otherwise. The buffer never grows: what is longer is collected as it
/// arrives.
pub(in crate::channel) const BUFFER: usize = 64 << 10;

/// Memory that is kept for the next large message.
const KEEP: usize = 4 << 20;

/// What a peer sent that contradicts the format.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::channel) struct Fault {
    found: String,
    hint: &'static str,
}

impl Fault {
    /// The error, where `who` sent it.
    pub(in crate::channel) fn of(self, who: &str, what: &Text) -> Error {
        let problem = format!("{who} sends {}", self.found).into();
        Error::Corrupt { what: what.clone(), problem, hint: Some(self.hint.into()) }
    }
}

/// Why no message comes.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Fault(Fault),
    /// This process has no memory to collect so many bytes in. They lie where they did.
    NoMemory {
        size: u64,
    },
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Where the message lies that was just given.
#[derive(Debug)]
enum Given {
    Nothing,
    Buffered(Range<usize>),
    Collected,
}

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy)]
enum Place {
    Header,
    Payload { kind: Kind, left: usize, is_wanted: bool },
}

/// What the sender at hand said about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
    Silent,
    Hello,
    Bye,
}

/// Cuts one stream into messages. Memory follows the bytes that arrived, never a length that was announced.
pub(in crate::channel) struct Decoder {
    wire: Wire,
    max_message: u64,
    /// `buffer[start..end]` is read and not yet looked at.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    place: Place,
    /// The message that is being collected, or was just given.
    message: Vec<u8>,
    given: Given,
    /// What was given had no place to go to: it comes again.
    is_back: bool,
    /// The message is being joined from parts.
    is_joining: bool,
    manners: Manners,
    died: u64,
}

impl Decoder {
    pub(in crate::channel) fn new(settings: Settings, buffer: usize) -> Self {
        Self {
            wire: settings.wire,
            max_message: settings.max_message,
            buffer: vec![0; buffer].into(),
            start: 0,
            end: 0,
            place: Place::Header,
            message: Vec::new(),
            given: Given::Nothing,
            is_back: false,
            is_joining: false,
            manners: Manners::Silent,
            died: 0,
        }
    }

    /// Whether the sender said goodbye.
    pub(in crate::channel) fn said_bye(&self) -> bool {
        self.manners == Manners::Bye
    }

    /// How many senders ended without a goodbye. Only frames have one.
    pub(in crate::channel) fn died(&self) -> u64 {
        self.died
    }

    /// Where to read the next bytes to. There is room once [`deliver_next`](Self::deliver_next) has
    /// given all it could.
    pub(in crate::channel) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Says that `len` bytes were read to [`space`](Self::space).
    pub(in crate::channel) fn filled(&mut self, len: usize) {
        self.end += len;
    }

    /// Delivers the next message, if all its bytes have arrived. One for which this process has no memory comes again
    /// the next time.
    ///
    /// # Errors
    /// [`Fault`] where the bytes are no frames, or the message is too large. Nothing more can be cut from this
    /// stream then.
    pub(in crate::channel) fn deliver_next(
        &mut self,
        what: &Text,
        inbox: &mut dyn Inbox,
    ) -> Result<Option<Result<()>>, Fault> {
        let delivered = match self.next() {
            Ok(message) => message.map(|message| deliver(what, message, inbox)),
            Err(Refusal::NoMemory { size }) => return Ok(Some(Err(no_memory(what, size)))),
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        self.keep_undelivered(delivered.as_ref());
        Ok(delivered)
    }

    /// Says that the stream ended, after [`deliver_next`](Self::deliver_next) gave all it could: delivers a last line
    /// without a newline. A sender that said hello and no goodbye is dead, and so is a silent one where `was_there` says
    /// that the stream was its own.
    pub(in crate::channel) fn deliver_last(
        &mut self,
        was_there: bool,
        what: &Text,
        inbox: &mut dyn Inbox,
    ) -> Option<Result<()>> {
        let delivered = self.finish(was_there).map(|line| deliver(what, line, inbox));
        self.keep_undelivered(delivered.as_ref());
        delivered
    }

    fn keep_undelivered(&mut self, delivered: Option<&Result<()>>) {
        self.is_back = matches!(delivered, Some(Err(Error::NoSpace { .. })));
    }

    /// The next message, as far as its bytes have arrived.
    fn next(&mut self) -> Result<Option<&[u8]>, Refusal> {
        if std::mem::take(&mut self.is_back) {
            return Ok(Some(self.given()));
        }
        self.forget_given();
        match self.wire {
            Wire::Frames => self.next_frame(),
            Wire::Lines => self.next_line(),
            Wire::Raw => Ok(self.take_all()),
        }
    }

    fn given(&self) -> &[u8] {
        match &self.given {
            Given::Nothing => &[],
            Given::Buffered(range) => &self.buffer[range.clone()],
            Given::Collected => &self.message,
        }
    }

    /// Makes room for so many more bytes of the message.
    fn reserve(&mut self, len: usize) -> Result<(), Refusal> {
        let size = (self.message.len() + len) as u64;
        self.message.try_reserve(len).map_err(|_| Refusal::NoMemory { size })
    }

    /// Forgets what was read and is not given.
    pub(in crate::channel) fn discard(&mut self) {
        (self.start, self.end, self.place) = (0, 0, Place::Header);
        self.manners = Manners::Silent;
        self.message.clear();
        self.is_joining = false;
    }

    /// The stream ended: the last line, if no newline was behind it.
    fn finish(&mut self, was_there: bool) -> Option<&[u8]> {
        self.forget_given();
        self.bury_unclosed(was_there);
        (self.start, self.end, self.place) = (0, 0, Place::Header);
        self.manners = Manners::Silent;
        self.given = Given::Collected;
        Some(&*self.message).filter(|line| self.wire == Wire::Lines && !line.is_empty())
    }

    fn next_frame(&mut self) -> Result<Option<&[u8]>, Refusal> {
        loop {
            let here = self.end - self.start;
            match self.place {
                Place::Header => {
                    let Some((kind, left)) = parse_header(&self.buffer[self.start..self.end])? else {
                        return Ok(None);
                    };
                    let is_wanted = self.begin(kind, left)?;
                    self.start += HEADER;
                    self.place = Place::Payload { kind, left, is_wanted };
                }
                Place::Payload { kind: Kind::Message, left, .. }
                    if self.message.is_empty() && left <= here =>
                {
                    self.place = Place::Header;
                    return Ok(Some(self.give_buffered(left)));
                }
                Place::Payload { kind, left, is_wanted } => {
                    let taken = left.min(here);
                    if is_wanted {
                        self.reserve(taken)?;
                        self.message.extend_from_slice(&self.buffer[self.start..self.start + taken]);
                    }
                    self.start += taken;
                    if taken < left {
                        self.place = Place::Payload { kind, left: left - taken, is_wanted };
                        return Ok(None);
                    }
                    self.place = Place::Header;
                    if is_wanted && matches!(kind, Kind::Message | Kind::End) {
                        (self.given, self.is_joining) = (Given::Collected, false);
                        return Ok(Some(&self.message));
                    }
                }
            }
        }
    }

    /// Does what a frame's kind says, and tells whether its payload is wanted.
    fn begin(&mut self, kind: Kind, len: usize) -> Result<bool, Fault> {
        match kind {
            Kind::Message | Kind::Start => {
                self.message.clear();
                self.is_joining = kind == Kind::Start;
            }
            Kind::Part | Kind::End => {}
            Kind::Hello => {
                self.bury_unclosed(false);
                self.manners = Manners::Hello;
            }
            Kind::Bye => self.manners = Manners::Bye,
        }
        let whole = (self.message.len() + len) as u64;
        if whole > self.max_message {
            return Err(too_large(whole, self.max_message));
        }
        Ok(kind == Kind::Message || self.is_joining)
    }

    fn next_line(&mut self) -> Result<Option<&[u8]>, Refusal> {
        let bytes = &self.buffer[self.start..self.end];
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let len = newline.unwrap_or(bytes.len());
        let whole = (self.message.len() + len) as u64;
        if whole > self.max_message {
            return Err(too_large(whole, self.max_message).into());
        }
        self.reserve(len)?;
        self.message.extend_from_slice(&self.buffer[self.start..self.start + len]);
        self.start += len + usize::from(newline.is_some());
        if newline.is_none() {
            return Ok(None);
        }
        self.given = Given::Collected;
        Ok(Some(&self.message))
    }

    fn take_all(&mut self) -> Option<&[u8]> {
        let here = self.end - self.start;
        (here > 0).then(|| self.give_buffered(here))
    }

    /// Gives the next so many bytes from where they were read to.
    fn give_buffered(&mut self, len: usize) -> &[u8] {
        let range = self.start..self.start + len;
        self.start = range.end;
        self.given = Given::Buffered(range);
        self.given()
    }

    fn forget_given(&mut self) {
        if let Given::Collected = std::mem::replace(&mut self.given, Given::Nothing) {
            self.message.clear();
            self.message.shrink_to(KEEP);
        }
    }

    /// Counts the sender that said no goodbye; what it left unfinished goes with it.
    fn bury_unclosed(&mut self, was_there: bool) {
        if self.wire == Wire::Frames {
            self.message.clear();
            self.is_joining = false;
            let is_dead = match self.manners {
                Manners::Silent => was_there,
                Manners::Hello => true,
                Manners::Bye => false,
            };
            self.died += u64::from(is_dead);
        }
    }
}

/// What a seqpacket socket's packet holds.
pub(in crate::channel) enum Packet<'a> {
    Message(&'a [u8]),
    Bye,
}

/// Reads one packet, whose real length is `len` where `bytes` is only its beginning. A packet is one frame, or with
/// `wire=raw` the message itself.
pub(in crate::channel) fn cut_packet(
    bytes: &[u8],
    len: usize,
    settings: Settings,
) -> Result<Packet<'_>, Fault> {
    let overhead = settings.wire.overhead();
    if (len as u64).saturating_sub(overhead as u64) > settings.max_message || len > bytes.len() {
        return Err(too_large(len as u64, settings.max_message.min(bytes.len() as u64)));
    }
    if settings.wire != Wire::Frames {
        return Ok(Packet::Message(bytes));
    }
    match parse_header(bytes)? {
        Some((Kind::Message, payload)) if HEADER + payload == len => Ok(Packet::Message(&bytes[HEADER..])),
        Some((Kind::Bye, _)) if len == HEADER => Ok(Packet::Bye),
        _ => Err(no_frame(bytes)),
    }
}

/// The header that the bytes begin with; `None` where it may become one when more arrives.
fn parse_header(bytes: &[u8]) -> Result<Option<(Kind, usize)>, Fault> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(no_frame(bytes));
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let [_, _, _, letter, length @ ..] = *header;
    let len = u32::from_le_bytes(length) as usize;
    match Kind::of(letter) {
        Some(kind) if len == 0 || kind.has_payload() => Ok(Some((kind, len))),
        _ => Err(no_frame(bytes)),
    }
}

fn too_large(len: u64, limit: u64) -> Fault {
    Fault {
        found: format!("a message of {len} bytes or more, above max_message={limit}"),
        hint: "raise max_message= on the receiver if that is meant",
    }
}

fn no_frame(bytes: &[u8]) -> Fault {
    let shown = bytes[..bytes.len().min(HEADER)].escape_ascii();
    match bytes {
        [b'n', b'w', version, ..] if version.is_ascii_digit() && *version != MAGIC[2] => Fault {
            found: format!("'{shown}', a frame of version {}; known is 1", *version as char),
            hint: "use the same release of narrows on both sides",
        },
        _ => Fault {
            found: format!("'{shown}', which is no frame"),
            hint: "if it is no narrows program, give wire=lines or wire=raw",
        },
    }
}

#[cfg(any(test, fuzzing))]
#[path = "judge.rs"]
pub(super) mod judge;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
