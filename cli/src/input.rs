//! Standard input, cut into messages.

use std::ops::Range;
use std::os::fd::AsFd;

use anyhow::{Context, bail};
use narrows::Error;
use narrows::error::Text;
use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::arguments::Frame;
use crate::interrupt;
use crate::output::wait_for;

/// How much is asked for at once.
const READ: usize = 256 << 10;

/// Standard input as a row of messages, of which those that have arrived whole can be sent together.
pub(crate) struct Input {
    cutter: Cutter,
    ended: bool,
}

impl Input {
    /// `limit` is the largest message in bytes; `what` names the channel in errors.
    pub(crate) fn new(frame: Frame, what: Text, limit: u64) -> Self {
        Self { cutter: Cutter::new(frame, what, limit), ended: false }
    }

    /// Waits for messages; at the end of the input there are none.
    pub(crate) fn next(&mut self) -> anyhow::Result<Messages<'_>> {
        self.cutter.discard();
        while !self.cutter.cut(self.ended)? && !self.ended {
            self.ended = read_more(&mut self.cutter.buffer)? == 0;
        }
        Ok(Messages { buffer: &self.cutter.buffer, ranges: &self.cutter.messages })
    }
}

/// Messages that lie in the input's buffer.
pub(crate) struct Messages<'a> {
    buffer: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Messages<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let buffer = self.buffer;
        self.ranges.iter().map(move |range| &buffer[range.clone()])
    }
}

/// All of standard input; more than `limit` bytes are not waited for.
pub(crate) fn read_all(limit: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() as u64 <= limit && read_more(&mut bytes)? > 0 {}
    Ok(bytes)
}

/// Waits for bytes, adds them and gives their number, 0 at the end.
fn read_more(buffer: &mut Vec<u8>) -> anyhow::Result<usize> {
    let stdin = std::io::stdin();
    loop {
        interrupt::check()?;
        if wait_for(stdin.as_fd(), PollFlags::IN, interrupt::SLICE)?.is_empty() {
            continue;
        }
        buffer.reserve(READ);
        match rustix::io::read(stdin.as_fd(), rustix::buffer::spare_capacity(buffer)) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(std::io::Error::from(errno)).context("cannot read standard input"),
        }
    }
}

/// Finds messages in a growing buffer; looks at no byte twice.
struct Cutter {
    frame: Frame,
    what: Text,
    limit: u64,
    buffer: Vec<u8>,
    messages: Vec<Range<usize>>,
    /// Where the first message begins that is not whole yet.
    rest: usize,
    /// Up to where no end of it was found.
    searched: usize,
    /// Whether `raw` has given its one message.
    done: bool,
}

impl Cutter {
    fn new(frame: Frame, what: Text, limit: u64) -> Self {
        let (buffer, messages) = (Vec::new(), Vec::new());
        Self { frame, what, limit, buffer, messages, rest: 0, searched: 0, done: false }
    }

    /// Forgets the messages that were cut.
    fn discard(&mut self) {
        self.messages.clear();
        self.buffer.drain(..self.rest);
        self.searched -= self.rest;
        self.rest = 0;
    }

    /// Cuts what is whole; says whether there is any.
    fn cut(&mut self, ended: bool) -> anyhow::Result<bool> {
        match self.frame {
            Frame::Line => self.cut_lines(ended)?,
            Frame::Len => self.cut_lengths(ended)?,
            Frame::Raw => {
                self.check(self.buffer.len() as u64)?;
                if ended && !self.done {
                    self.take(0..self.buffer.len(), self.buffer.len());
                    self.done = true;
                }
            }
        }
        Ok(!self.messages.is_empty())
    }

    fn cut_lines(&mut self, ended: bool) -> anyhow::Result<()> {
        while let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + at;
            self.check((end - self.rest) as u64)?;
            self.take(self.rest..end, end + 1);
        }
        self.searched = self.buffer.len();
        self.check((self.searched - self.rest) as u64)?;
        if ended && self.rest < self.searched {
            self.take(self.rest..self.searched, self.searched);
        }
        Ok(())
    }

    fn cut_lengths(&mut self, ended: bool) -> anyhow::Result<()> {
        while let Some(head) = self.buffer[self.rest..].first_chunk::<4>() {
            let len = u32::from_le_bytes(*head);
            self.check(len.into())?;
            let start = self.rest + head.len();
            if self.buffer.len() - start < len as usize {
                break;
            }
            self.take(start..start + len as usize, start + len as usize);
        }
        let left = self.buffer.len() - self.rest;
        if ended && left > 0 {
            bail!("standard input ends within a message: {left} bytes are left over, its length counted in");
        }
        Ok(())
    }

    fn take(&mut self, message: Range<usize>, rest: usize) {
        self.messages.push(message);
        self.rest = rest;
        self.searched = rest;
    }

    fn check(&self, size: u64) -> narrows::Result<()> {
        if size <= self.limit {
            return Ok(());
        }
        let hint = match self.frame {
            Frame::Line => "standard input is cut at newlines: is --frame what it should be?",
            Frame::Len => {
                "every message follows its length, 32 bits little-endian: is --frame what it should be?"
            }
            Frame::Raw => {
                "--frame raw sends all of standard input as one message: is --frame what it should be?"
            }
        };
        Err(Error::TooLarge { what: self.what.clone(), size, limit: self.limit, hint: Some(hint.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `input` in pieces and gives the messages.
    fn cut(frame: Frame, input: &[u8], piece: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut cutter = Cutter::new(frame, "shm:x".into(), 1000);
        let mut found = Vec::new();
        let pieces = input.chunks(piece).map(|piece| (piece, false)).chain([(&[][..], true)]);
        for (piece, ended) in pieces {
            cutter.buffer.extend_from_slice(piece);
            cutter.cut(ended)?;
            found.extend(cutter.messages.iter().map(|range| cutter.buffer[range.clone()].to_vec()));
            cutter.discard();
        }
        Ok(found)
    }

    #[test]
    fn the_last_line_needs_no_newline_and_empty_lines_count() {
        for piece in 1..8 {
            assert_eq!(cut(Frame::Line, b"a\n\nbc", piece).unwrap(), [b"a".to_vec(), vec![], b"bc".to_vec()]);
            assert_eq!(cut(Frame::Line, b"a\n", piece).unwrap(), [b"a"]);
            assert!(cut(Frame::Line, b"", piece).unwrap().is_empty());
        }
    }

    #[test]
    fn raw_is_one_message_even_an_empty_one() {
        assert_eq!(cut(Frame::Raw, b"a\nb", 1).unwrap(), [b"a\nb"]);
        assert_eq!(cut(Frame::Raw, b"", 1).unwrap(), [b""]);
    }

    #[test]
    fn what_is_too_long_or_cut_off_is_refused() {
        for frame in [Frame::Line, Frame::Raw] {
            let error = cut(frame, &[b'x'; 1001], 100).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Error::TooLarge { limit: 1000, .. })), "{error}");
            assert_eq!(cut(frame, &[b'x'; 1000], 100).unwrap().len(), 1);
        }
        let error = cut(Frame::Len, &[0xFF, 0xFF, 0xFF, 0xFF], 1).unwrap_err();
        assert!(error.to_string().contains("4294967295"), "{error}");
        let error = cut(Frame::Len, &[3, 0, 0, 0, b'a'], 2).unwrap_err();
        assert!(error.to_string().contains("ends within a message"), "{error}");
    }

    proptest! {
        #[test]
        fn lengths_frame_any_bytes(
            messages in proptest::collection::vec(proptest::collection::vec(0u8.., 0..20), 0..9),
            piece in 1usize..50,
        ) {
            let input: Vec<u8> = messages
                .iter()
                .flat_map(|message| [&(message.len() as u32).to_le_bytes()[..], message].concat())
                .collect();
            prop_assert_eq!(cut(Frame::Len, &input, piece).unwrap(), messages);
        }
    }
}
