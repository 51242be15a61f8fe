//! The reading end.

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::open::End;
use crate::channel::transport::RawReceiver;
use crate::channel::wire::{BUFFER, Decoder, Settings, no_message};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::message::Inbox;
use crate::sys::pipe;
use crate::sys::poll::poll_one;

/// How often a call whose deadline is over goes on because something arrives that is no message yet.
const LAST_READS: u32 = 64;

pub(super) struct FifoReceiver {
    end: End,
    what: Text,
    decoder: Decoder,
    /// The last read left nothing: the kernel must say that there is more.
    is_dry: bool,
    /// What is written can no longer be cut: it is thrown away until all writers have gone.
    is_broken: bool,
}

impl FifoReceiver {
    /// Reads all that a pipe can hold at once, so that between two reads it stands between two frames: the next
    /// receiver can go on there, whatever happens to this one.
    pub(super) fn new(what: Text, end: End, settings: Settings) -> Self {
        let buffer = pipe::capacity(&end).map_or(BUFFER, |capacity| capacity.max(BUFFER));
        Self { end, what, decoder: Decoder::new(settings, buffer), is_dry: true, is_broken: false }
    }

    fn fail(&self, call: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| Error::from_errno(&self.what, call, errno)
    }
}

impl RawReceiver for FifoReceiver {
    fn recv(&mut self, inbox: &mut dyn Inbox, deadline: Deadline) -> Result<Option<()>> {
        if self.end.is_forked() {
            return Err(Error::Forked { what: self.what.clone() });
        }
        for reads in 0u32.. {
            match self.decoder.deliver_next(&self.what, inbox) {
                Ok(Some(delivered)) => return delivered.map(Some),
                Ok(None) => {}
                Err(fault) => {
                    self.is_broken = true;
                    self.decoder.discard();
                    return Err(fault.of("a writer", &self.what));
                }
            }
            if reads > LAST_READS && deadline.is_over() {
                break;
            }
            if self.is_dry
                && poll_one(&self.end, PollFlags::IN, deadline).map_err(self.fail("poll"))?.is_empty()
            {
                break;
            }
            let space = self.decoder.space();
            let room = space.len();
            match pipe::read(&self.end, space) {
                // Nobody writes any more; and somebody did, or the poll would not have ended.
                Ok(0) => {
                    self.is_dry = true;
                    self.is_broken = false;
                    return self.decoder.deliver_last(false, &self.what, inbox).transpose();
                }
                Ok(len) => {
                    self.is_dry = len < room;
                    if !self.is_broken {
                        self.decoder.filled(len);
                    }
                }
                Err(Errno::AGAIN) => self.is_dry = true,
                Err(errno) => return Err(self.fail("read")(errno)),
            }
        }
        Err(no_message(&self.what))
    }

    fn died(&self) -> u64 {
        self.decoder.died()
    }
}
