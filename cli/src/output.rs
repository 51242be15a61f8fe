//! Standard output: nothing is taken for it before it has room, and a closed one ends the command quietly.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::exit::Quit;
use crate::interrupt;

/// What a pipe that poll(2) calls writable takes without blocking: PIPE_BUF
/// ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
const STEP: usize = 4096;

/// Standard output.
pub(crate) struct Output {
    scratch: Vec<u8>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { scratch: Vec::new() }
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal() -> bool {
        std::io::IsTerminal::is_terminal(&std::io::stdout())
    }

    /// Prints a text.
    pub(crate) fn text(text: &str) -> anyhow::Result<()> {
        write(text.as_bytes())
    }

    /// Waits until there is room, so that no message is taken that could not be printed.
    pub(crate) fn wait_for_room(&self) -> anyhow::Result<()> {
        while !has_room(interrupt::SLICE)? {
            interrupt::check()?;
        }
        Ok(())
    }

    /// Refuses to go on where nobody reads any more.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        has_room(Duration::ZERO).map(drop)
    }

    /// Prints a message between its marks; a short one in one piece, so that it never mixes with another writer's.
    pub(crate) fn message(&mut self, before: &[u8], message: &[u8], after: &[u8]) -> anyhow::Result<()> {
        if before.len() + message.len() + after.len() <= STEP {
            self.scratch.clear();
            self.scratch.extend([before, message, after].into_iter().flatten());
            return write(&self.scratch);
        }
        [before, message, after].into_iter().try_for_each(write)
    }
}

/// Whether standard output takes bytes now, or within `patience`.
fn has_room(patience: Duration) -> anyhow::Result<bool> {
    let stdout = std::io::stdout();
    let events = wait_for(stdout.as_fd(), PollFlags::OUT, patience)?;
    if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
        return Err(Quit::Closed.into());
    }
    Ok(events.contains(PollFlags::OUT))
}

/// Writes all of it, in steps that do not block, so that Ctrl-C ends it.
fn write(mut bytes: &[u8]) -> anyhow::Result<()> {
    let stdout = std::io::stdout();
    let mut first = true;
    while !bytes.is_empty() {
        // A short write that follows `wait_for_room` needs no second look.
        if !(first && bytes.len() <= STEP) {
            while !has_room(interrupt::SLICE)? {
                interrupt::check()?;
            }
        }
        first = false;
        match rustix::io::write(stdout.as_fd(), &bytes[..bytes.len().min(STEP)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::PIPE) => return Err(Quit::Closed.into()),
            Err(errno) => return Err(std::io::Error::from(errno)).context("cannot write to standard output"),
        }
    }
    Ok(())
}

/// Waits for events of a descriptor; none where the time passes first.
pub(crate) fn wait_for(
    descriptor: BorrowedFd<'_>,
    events: PollFlags,
    patience: Duration,
) -> anyhow::Result<PollFlags> {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, events)];
    let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    match poll(&mut descriptors, Some(&patience)) {
        Ok(_) => Ok(descriptors[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(errno) => Err(std::io::Error::from(errno)).context("cannot wait for a descriptor"),
    }
}
