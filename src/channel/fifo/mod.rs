//! Named pipes: `fifo:/tmp/jobs`.
//!
//! Either side makes the pipe. Who takes part holds a place in it, by locks on the pipe's own inode, which the
//! kernel gives back whatever happens: the one reader by `flock`, writers by byte locks of their descriptors. One
//! writer holds all bytes, one of many a byte of its own.
//!
//! A frame here is no larger than `PIPE_BUF`, so a write happens whole or not at all: also after a `kill -9` the
//! stream stands between two frames, and the next writer can go on in it.
//!
//! | file | what is in it |
//! |---|---|
//! | `open` | making, finding, places, and who removes the pipe |
//! | `receiver` | reading, the end, what the dead left |

mod open;
mod receiver;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use self::open::{End, Side};
use super::transport::{Exception, OptionSpec, ReceiverEnd, SenderEnd, Transport};
use super::wire::{MAX_MESSAGE, NO_GOODBYE, Outlet, Settings, StreamSender, WIRE};
use crate::address::{Address, Scheme};
use crate::capabilities::{Capabilities, Capability};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::sys::pipe;

pub(super) const FIFO: Transport = Transport {
    scheme: Scheme::Fifo,
    summary: "named pipe: one sender, or several of small messages; `cat` can be the other side",
    capabilities: Capabilities::of(&[
        Capability::End,
        Capability::Deaths,
        Capability::Boundaries,
        Capability::ForeignPeers,
    ]),
    exceptions: &[
        // Whose end came without a good-bye cannot be told where several write.
        Exception {
            gains: Capabilities::of(&[Capability::ManySenders]),
            ..Exception::lacks("writers", "many", &[Capability::Deaths])
        },
        NO_GOODBYE,
    ],
    max_message: None,
    options: &[
        WIRE,
        MAX_MESSAGE,
        OptionSpec::new("writers", "one|many", "one", "many: several senders, of messages up to 4088 bytes"),
        OptionSpec::new("create", "never|only|open", "open", "whether to make the pipe, or take what exists"),
        OptionSpec::new("mode", "OCTAL", "600", "who may open it, where it is made"),
        OptionSpec::new("capacity_bytes", "BYTES", "64K", "how much may be unread; rounded up by the kernel"),
        OptionSpec::new("lifetime", "drained|system", "drained", "removed by who leaves last, or never"),
    ],
    open_sender,
    open_receiver,
};

fn open_sender(address: &Address, deadline: Deadline) -> Result<SenderEnd> {
    let settings = Settings::of(address)?;
    let is_alone = address.choice("writers", &[("one", true), ("many", false)])?.unwrap_or(true);
    let side = if is_alone { Side::OnlyWriter } else { Side::Writer };
    let end = End::open(address, side, deadline)?;
    let mut sender = StreamSender::new(Writer(end), address.text(), settings, is_alone)?;
    if is_alone {
        sender.greet()?;
    }
    Ok(SenderEnd::Other(Box::new(sender)))
}

fn open_receiver(address: &Address, deadline: Deadline) -> Result<ReceiverEnd> {
    let settings = Settings::of(address)?;
    address.choice("writers", &[("one", ()), ("many", ())])?;
    let end = End::open(address, Side::Reader, deadline)?;
    Ok(ReceiverEnd::Other(Box::new(receiver::FifoReceiver::new(address.text(), end, settings))))
}

/// The writing end.
struct Writer(End);

impl Outlet for Writer {
    const CALL: &'static str = "write";
    const FRAME: usize = pipe::ATOMIC;

    fn write(&self, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
        pipe::write(&self.0, pieces)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn grow(&self) {
        if let Ok(bytes) = pipe::capacity(&self.0) {
            pipe::set_capacity(&self.0, bytes * 2).ok();
        }
    }
}
