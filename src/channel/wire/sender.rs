//! Messages in, bytes out.
//!
//! A deadline may pass when a message is half written: the heart of this file. `Ok` means that the kernel has all of
//! it. After `TimedOut` the message has not arrived, and
//!
//! * the same message, sent again, goes on where it stopped: who retries in short slices gets on;
//! * another message takes its place. A large message goes in parts and exists only with the frame that ends it: the
//!   sender completes the part, and the receiver forgets all of them when something else begins;
//! * what cannot be taken back (lines, raw bytes) is completed first, and so arrives late.
//!
//! A message that fits one frame is written by one call, which the kernel does whole or not at all (pipes: by promise
//! up to `PIPE_BUF`; sockets: in fact; should one be cut, it cannot be taken back).

use std::hash::{BuildHasher, RandomState};
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
    /// What must be written before another message than the one that has begun.
    owed: Vec<u8>,
    begun: Option<Begun>,
    hasher: RandomState,
    mark: ProcessMark,
}

/// A message that ran out of time after some of its encoded bytes were written.
struct Begun {
    written: usize,
    len: usize,
    fingerprint: u64,
}

impl<O: Outlet> StreamSender<O> {
    /// A sender that shares its stream with others where `is_alone` is false.
    ///
    /// # Errors
    /// `NoSpace` where this process cannot have one page more.
    pub(in crate::channel) fn new(outlet: O, what: Text, settings: Settings, is_alone: bool) -> Result<Self> {
        let mark = ProcessMark::take().map_err(|errno| Error::from_errno(&what, "madvise", errno))?;
        let (owed, begun, hasher) = (Vec::new(), None, RandomState::new());
        Ok(Self { outlet, what, settings, is_alone, owed, begun, hasher, mark })
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

    /// Where to go on with this message: at 0 unless it is the one that has begun.
    fn resume(&mut self, message: &[u8], deadline: Deadline) -> Result<usize> {
        match self.begun.take() {
            Some(begun)
                if begun.len == message.len() && begun.fingerprint == self.hasher.hash_one(message) =>
            {
                self.owed.clear();
                Ok(begun.written)
            }
            _ => self.settle(deadline).map(|()| 0),
        }
    }

    /// Remembers how far a message came, and what to write should another one come in its place.
    fn suspend(&mut self, message: &[u8], written: usize, rest: [&[u8]; 3]) {
        if written > 0 {
            self.owed = rest.concat();
            let fingerprint = self.hasher.hash_one(message);
            self.begun = Some(Begun { written, len: message.len(), fingerprint });
        }
    }

    /// Sends what cannot be taken back.
    fn send_whole(&mut self, message: &[u8], start: usize, deadline: Deadline) -> Result<()> {
        let head = header(Kind::Message, message.len());
        let pieces: [&[u8]; 3] = match self.settings.wire {
            Wire::Frames => [&head, message, &[]],
            Wire::Lines => [message, b"\n", &[]],
            Wire::Raw => [message, &[], &[]],
        };
        let done = start + self.put(after(pieces, start), deadline)?;
        if done == length(&pieces) {
            return Ok(());
        }
        self.suspend(message, done, after(pieces, done));
        Err(no_room(&self.what, deadline))
    }

    /// Sends what exists only with its end.
    fn send_parts(&mut self, message: &[u8], start: usize, deadline: Deadline) -> Result<()> {
        let end = header(Kind::End, 0);
        let parts = message.chunks(O::FRAME - 2 * HEADER);
        let (last, stride) = (parts.len() - 1, O::FRAME - HEADER);
        let first = (start / stride).min(last);
        let mut skip = start - first * stride;
        for (number, part) in parts.enumerate().skip(first) {
            let head = header(if number == 0 { Kind::Start } else { Kind::Part }, part.len());
            let pieces = [&head[..], part, if number == last { &end } else { &[] }];
            let done = skip + self.put(after(pieces, skip), deadline)?;
            skip = 0;
            if done == length(&pieces) {
                continue;
            }
            let rest = match done {
                0 => [&[][..]; 3],
                // The end has begun, and cannot be taken back.
                _ if done > HEADER + part.len() => after(pieces, done),
                _ => after([&head, part, &[]], done),
            };
            self.suspend(message, number * stride + done, rest);
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
            if size > O::FRAME || self.begun.is_some() {
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

    /// Sends messages that begin at `starts`.
    fn send_batch(
        &mut self,
        batch: &mut Vec<u8>,
        starts: &mut Vec<usize>,
        deadline: Deadline,
        sent: &mut usize,
    ) -> Result<()> {
        if starts.is_empty() {
            return Ok(());
        }
        self.settle(deadline)?;
        let done = self.put([batch, &[], &[]], deadline)?;
        let ends = starts.iter().copied().skip(1).chain([batch.len()]);
        let whole = ends.clone().take_while(|end| *end <= done).count().min(starts.len());
        *sent += whole;
        if let (Some(start), Some(end)) = (starts.get(whole), ends.clone().nth(whole)) {
            let (before, after) = match self.settings.wire {
                Wire::Frames => (HEADER, 0),
                Wire::Lines => (0, 1),
                Wire::Raw => (0, 0),
            };
            let message = &batch[start + before..end - after];
            self.suspend(message, done - start, [&batch[done..end], &[], &[]]);
            return Err(no_room(&self.what, deadline));
        }
        batch.clear();
        starts.clear();
        Ok(())
    }
}

impl<O: Outlet> RawSender for StreamSender<O> {
    fn send(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.check(message)?;
        let start = self.resume(message, deadline)?;
        if self.settings.wire == Wire::Frames && HEADER + message.len() > O::FRAME {
            self.send_parts(message, start, deadline)
        } else {
            self.send_whole(message, start, deadline)
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
