//! A descriptor that other code of the process may close at any time: a daemon calls `close_range` and never asks.
//! Its number may be another file's by now, so it is believed only after a look at device and inode, and a number
//! that is not ours any more is neither used nor closed.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use super::place::Identity;

const NONE: RawFd = -1;
/// How often it is looked at while the kernel has no memory for the answer.
const LOOKS: usize = 8;

#[derive(Debug)]
pub(super) struct Descriptor {
    number: AtomicI32,
    identity: Identity,
}

impl Descriptor {
    /// Looks after a descriptor of the file with this identity.
    pub(super) fn new(file: OwnedFd, identity: Identity) -> Self {
        Self { number: AtomicI32::new(file.into_raw_fd()), identity }
    }

    /// The descriptor and what it looks like, if it is still that file's.
    pub(super) fn get(&self) -> Option<(BorrowedFd<'_>, Stat)> {
        let number = self.number.load(Ordering::Acquire);
        if number == NONE {
            return None;
        }
        // SAFETY: not -1. The number may be closed or another file's: `fstat` harms neither, and tells.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        // To take a descriptor of ours for lost would leak it.
        let mut looks = std::iter::repeat_with(|| fstat(file)).take(LOOKS);
        let stat = looks.find(|look| !matches!(look, Err(Errno::NOMEM)))?.ok()?;
        (Identity::of(&stat) == self.identity).then_some((file, stat))
    }

    /// Puts a new descriptor of the same file in the place of one that was lost, whose number it may well have.
    pub(super) fn replace(&self, file: OwnedFd) {
        self.number.store(file.into_raw_fd(), Ordering::Release);
    }

    /// Closes it, if it is still that file's.
    pub(super) fn close(&self) {
        let is_ours = self.get().map(|(file, _)| file.as_raw_fd());
        self.number.store(NONE, Ordering::Release);
        if let Some(number) = is_ours {
            // SAFETY: it refers to our file, and nobody uses the number from now on.
            unsafe { rustix::io::close(number) };
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.close();
    }
}
