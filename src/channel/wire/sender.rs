//! Messages in, bytes out.
//!
//! A deadline may pass when a message is half written. What then happens is the heart of this file:
//!
//! * A message that fits one frame is written by one call, which the kernel does whole or not at all (pipes: by
//!   promise up to `PIPE_BUF`; sockets: in fact). Should it be cut nevertheless, it *counts as sent*.
//! * A larger one goes in parts, and exists only once the frame that ends it was written. If time runs out before,
//!   the rest of the part is *owed*, and after it a [`Kind::Cancel`]: the receiver forgets what it has. The caller
//!   hears that nothing was sent, and that is so.
//! * Lines and raw bytes cannot be taken back: from its first byte on such a message counts as sent.
//!
//! What is owed is written before anything else by the next call, or when the sender is dropped. So the stream
//! is always one that the receiver can cut.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::{HEADER, Kind, Settings, Wire, header, no_room};
use crate::channel::transport::RawSender;
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::sys::poll::poll_one;
use crate::sys::process::ProcessMark;

/// Where the bytes go.
pub(in crate::channel) trait Outlet: Send {
    /// The call that writes, for errors.
    const CALL: &'static str;
    /// The largest frame in bytes, its header included. Written by one call, it goes whole or not at all.
    const FRAME: usize;

    /// Writes what fits now; EAGAIN where nothing does.
    fn write(&self, pieces: &[IoSlice<'_>]) -> Result<usize, Errno>;

    /// What to poll for room.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Makes room for a few last bytes though nobody reads, if the kernel lets it.
    fn grow(&self);
}

/// The sender of every transport that is a stream of bytes.
pub(in crate::channel) struct StreamSender<O: Outlet> {
    outlet: O,
    what: Text,
    settings: Settings,
    /// Whether messages may go in parts, which other senders' frames must not come between.
    is_alone: bool,
    owed: Vec<u8>,
    mark: ProcessMark,
}

impl<O: Outlet> StreamSender<O> {
    /// A sender that shares its stream with others where `is_alone` is false.
    ///
    /// # Errors
    /// `NoSpace` where this process cannot have one page more.
    pub(in crate::channel) fn new(outlet: O, what: Text, settings: Settings, is_alone: bool) -> Result<Self> {
        let mark = ProcessMark::take().map_err(|errno| Error::from_errno(&what, "madvise", errno))?;
        Ok(Self { outlet, what, settings, is_alone, owed: Vec::new(), mark })
    }

    /// Says that a sender begins, now or before its first message.
    pub(in crate::channel) fn greet(&mut self) -> Result<()> {
        if self.settings.wire == Wire::Frames {
            self.owed.extend_from_slice(&header(Kind::Hello, 0));
        }
        match self.settle(Deadline::Now) {
            Err(Error::Full { .. }) => Ok(()),
            result => result,
        }
    }

    /// Refuses what cannot be sent at all.
    fn check(&self, message: &[u8]) -> Result<()> {
        if self.mark.is_forked() {
            return Err(Error::Forked { what: self.what.clone() });
        }
        let (mut limit, mut hint) = (self.settings.max_message, "raise max_message= on both sides");
        let atomic = (O::FRAME - self.settings.wire.overhead()) as u64;
        if !self.is_alone && limit > atomic {
            (limit, hint) = (atomic, "larger ones need writers=one: nobody may come between");
        }
        if message.len() as u64 > limit {
            let (what, size) = (self.what.clone(), message.len() as u64);
            return Err(Error::TooLarge { what, size, limit, hint: Some(hint.into()) });
        }
        if self.settings.wire == Wire::Lines && message.contains(&b'\n') {
            return Err(Error::Unsupported {
                what: self.what.clone(),
                capability: "a newline inside a message".into(),
                hint: Some(
                    "with wire=lines it would be two messages: send it without, or use wire=frames".into(),
                ),
            });
        }
        Ok(())
    }

    /// Writes all, or until the deadline passes; gives how many bytes went.
    fn put(&self, pieces: [&[u8]; 3], deadline: Deadline) -> Result<usize> {
        let total = length(&pieces);
        let mut done = 0;
        while done < total {
            match self.outlet.write(&after(pieces, done).map(IoSlice::new)) {
                Ok(len) => done += len,
                Err(Errno::AGAIN) if self.has_room(deadline)? => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(Error::from_errno(&self.what, O::CALL, errno)),
            }
        }
        Ok(done)
    }

    fn has_room(&self, deadline: Deadline) -> Result<bool> {
        let ready = poll_one(self.outlet.descriptor(), PollFlags::OUT, deadline);
        ready.map(|ready| !ready.is_empty()).map_err(|errno| Error::from_errno(&self.what, "poll", errno))
    }

    /// Writes what is owed.
    fn settle(&mut self, deadline: Deadline) -> Result<()> {
        let done = self.put([&self.owed, &[], &[]], deadline)?;
        self.owed.drain(..done);
        if self.owed.is_empty() { Ok(()) } else { Err(no_room(&self.what, deadline)) }
    }

    fn owe(&mut self, pieces: [&[u8]; 3], done: usize) {
        for piece in after(pieces, done) {
            self.owed.extend_from_slice(piece);
        }
    }

    /// Sends what cannot be taken back.
    fn send_whole(&mut self, pieces: [&[u8]; 3], deadline: Deadline) -> Result<()> {
        let done = self.put(pieces, deadline)?;
        if done == 0 && length(&pieces) > 0 {
            return Err(no_room(&self.what, deadline));
        }
        self.owe(pieces, done);
        Ok(())
    }

    /// Sends what exists only with its end.
    fn send_parts(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        let end = header(Kind::End, 0);
        let mut parts = message.chunks(O::FRAME - 2 * HEADER).enumerate().peekable();
        while let Some((number, part)) = parts.next() {
            let head = header(if number == 0 { Kind::Start } else { Kind::Part }, part.len());
            let pieces = [&head[..], part, if parts.peek().is_none() { &end } else { &[] }];
            let done = self.put(pieces, deadline)?;
            if done == length(&pieces) {
                continue;
            }
            if done > HEADER + part.len() {
                self.owe(pieces, done);
                return Ok(());
            }
            if done > 0 {
                self.owe([&head, part, &[]], done);
            }
            if done > 0 || number > 0 {
                self.owed.extend_from_slice(&header(Kind::Cancel, 0));
            }
            return Err(no_room(&self.what, deadline));
        }
        Ok(())
    }

    /// Sends small messages together, as many as fit one frame's room, and counts them in `sent`.
    fn send_batches(
        &mut self,
        messages: &mut dyn Iterator<Item = &[u8]>,
        deadline: Deadline,
        sent: &mut usize,
    ) -> Result<()> {
        let mut starts = Vec::new();
        let mut batch = Vec::new();
        for message in messages {
            let checked = self.check(message);
            let size = message.len() + self.settings.wire.overhead();
            if checked.is_err() || batch.len() + size > O::FRAME {
                self.send_batch(&mut batch, &mut starts, deadline, sent)?;
            }
            checked?;
            if size > O::FRAME {
                self.send(message, deadline)?;
                *sent += 1;
                continue;
            }
            starts.push(batch.len());
            if self.settings.wire == Wire::Frames {
                batch.extend_from_slice(&header(Kind::Message, message.len()));
            }
            batch.extend_from_slice(message);
            if self.settings.wire == Wire::Lines {
                batch.push(b'\n');
            }
        }
        self.send_batch(&mut batch, &mut starts, deadline, sent)
    }

    /// Sends messages that begin at `starts`. One that is cut counts as sent; those behind it do not.
    fn send_batch(
        &mut self,
        batch: &mut Vec<u8>,
        starts: &mut Vec<usize>,
        deadline: Deadline,
        sent: &mut usize,
    ) -> Result<()> {
        self.settle(deadline)?;
        let done = self.put([batch, &[], &[]], deadline)?;
        let whole = done == batch.len();
        let begun = if whole { starts.len() } else { starts.partition_point(|start| *start < done) };
        let end = starts.get(begun).copied().unwrap_or(batch.len());
        self.owed.extend_from_slice(&batch[done..end]);
        *sent += begun;
        batch.clear();
        starts.clear();
        if whole { Ok(()) } else { Err(no_room(&self.what, deadline)) }
    }
}

impl<O: Outlet> RawSender for StreamSender<O> {
    fn send(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.check(message)?;
        self.settle(deadline)?;
        match self.settings.wire {
            Wire::Frames if HEADER + message.len() > O::FRAME => self.send_parts(message, deadline),
            Wire::Frames => self.send_whole([&header(Kind::Message, message.len()), message, &[]], deadline),
            Wire::Lines => self.send_whole([message, b"\n", &[]], deadline),
            Wire::Raw => self.send_whole([message, &[], &[]], deadline),
        }
    }

    fn send_many(&mut self, messages: &mut dyn Iterator<Item = &[u8]>, deadline: Deadline) -> Result<usize> {
        let mut sent = 0;
        match self.send_batches(messages, deadline, &mut sent) {
            Err(error) if sent == 0 => Err(error),
            _ => Ok(sent),
        }
    }
}

impl<O: Outlet> Drop for StreamSender<O> {
    fn drop(&mut self) {
        if self.mark.is_forked() {
            return;
        }
        if self.settings.wire == Wire::Frames && self.is_alone {
            self.owed.extend_from_slice(&header(Kind::Bye, 0));
        }
        if self.settle(Deadline::Now).is_err() {
            self.outlet.grow();
            self.settle(Deadline::Now).ok();
        }
    }
}

fn length(pieces: &[&[u8]; 3]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// What is left of the pieces after `done` bytes.
fn after(pieces: [&[u8]; 3], mut done: usize) -> [&[u8]; 3] {
    pieces.map(|piece| {
        let here = done.min(piece.len());
        done -= here;
        &piece[here..]
    })
}
