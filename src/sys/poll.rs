//! Waiting for descriptors and for names.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, Result};

use crate::deadline::Deadline;

/// Waits until one of the descriptors is ready: false where the deadline passed first
/// ([poll(2)](https://man7.org/linux/man-pages/man2/poll.2.html)). A signal shortens nothing.
///
/// # Errors
/// ENOMEM, and EINVAL for more descriptors than this process may have.
pub(crate) fn poll(descriptors: &mut [PollFd<'_>], deadline: Deadline) -> Result<bool> {
    loop {
        let left = deadline.remaining().map(|left| Timespec {
            tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match rustix::event::poll(descriptors, left.as_ref()) {
            Err(Errno::INTR) => continue,
            result => return result.map(|ready| ready > 0),
        }
    }
}

/// What one descriptor is ready for; nothing where the deadline passed first.
///
/// # Errors
/// As [`poll`].
pub(crate) fn poll_one(descriptor: impl AsFd, events: PollFlags, deadline: Deadline) -> Result<PollFlags> {
    let mut one = [PollFd::new(&descriptor, events)];
    poll(&mut one, deadline)?;
    Ok(one[0].revents())
}

/// The pauses between looks at something that the kernel cannot wait for: 1 ms, doubling up to 50 ms.
pub(crate) struct Pause(Duration);

impl Pause {
    const LONGEST: Duration = Duration::from_millis(50);

    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(1))
    }

    /// Sleeps for one pause; false, without sleeping, where the deadline is over.
    pub(crate) fn sleep(&mut self, deadline: Deadline) -> bool {
        if deadline.is_over() {
            return false;
        }
        std::thread::sleep(deadline.remaining_within(self.0));
        self.0 = (self.0 * 2).min(Self::LONGEST);
        true
    }
}
