//! `narrows recv`: messages to standard output.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::Duration;

use narrows::{Address, Error, Received, Receiver, Scheme, channel};

use crate::arguments::{self, Frame};
use crate::exit::say;
use crate::output::Output;
use crate::{envelope, interrupt};

const EXAMPLES: &str = "\
Examples:
  narrows recv jobs                       print messages until the senders are gone
  narrows recv jobs -n 1 --timeout 10s    one; exit code 124 if none comes
  narrows recv jobs --json | jq -c .data  a text, an object, or {\"base64\": TEXT}
  narrows recv shm:images -n 1 --frame raw > cat.png

A message is taken when standard output has room for it. With ack=release in the address it \
counts as received after it was written: if this command is killed before, it comes again.";

/// How often --follow looks for a new sender after the last one left.
const FOLLOW: Duration = Duration::from_millis(20);

/// Receive messages, and print them
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where from: SCHEME:NAME[,KEY=VALUE]...
    address: OsString,
    /// End after this many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = arguments::count)]
    count: Option<u64>,
    /// Give up when a single message takes longer to come (500ms, 10s)
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    timeout: Option<Duration>,
    /// Do not end when the last sender leaves
    #[arg(short, long)]
    follow: bool,
    /// Print envelopes, one a line, which `send --json` turns back into the same bytes
    #[arg(long, conflicts_with = "frame")]
    json: bool,
    /// How messages are set apart: line, len (each after its length, 32 bits, little-endian), raw (not at all)
    #[arg(long, value_enum, default_value = "line", hide_possible_values = true)]
    frame: Frame,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let address = arguments::address(&args.address)?.absolute()?;
    interrupt::install()?;
    let new = std::io::stderr().is_terminal() && !exists(&address);
    let deadline = arguments::deadline(args.timeout);
    let receiver = interrupt::wait(deadline, || Ok(()), |slice| Receiver::open_by(&address, slice))?;
    if new {
        let bare = address.bare();
        say(format_args!("waiting for a sender: narrows send {bare} MESSAGE; Ctrl-C ends"));
    }
    let mut incoming = Incoming { receiver, args, output: Output::new() };
    let mut left = args.count;
    while left != Some(0) {
        incoming.output.wait_for_room()?;
        let Some(message) = incoming.next()? else { break };
        incoming.print(&message)?;
        // Acknowledged by its drop, now that it is written.
        drop(message);
        left = left.map(|left| left - 1);
    }
    match incoming.receiver.died() {
        0 => {}
        1 => say(format_args!("one sender of {} died without closing", address.bare())),
        died => say(format_args!("{died} senders of {} died without closing", address.bare())),
    }
    Ok(())
}

/// A receiver whose waits end at Ctrl-C, and when nobody reads standard output any more.
struct Incoming<'a> {
    receiver: Receiver,
    args: &'a Args,
    output: Output,
}

impl Incoming<'_> {
    /// Waits for a message; `None` at the end, which --follow does not heed.
    fn next(&mut self) -> anyhow::Result<Option<Received>> {
        let Self { receiver, args, output } = self;
        let deadline = arguments::deadline(args.timeout);
        loop {
            let message = interrupt::wait(deadline, || output.check(), |slice| receiver.recv_by(slice))?;
            if message.is_some() || !args.follow {
                return Ok(message);
            }
            if deadline.is_over() {
                let what = receiver.address().bare().text();
                return Err(Error::TimedOut { what, doing: "receiving from" }.into());
            }
            output.check()?;
            std::thread::sleep(deadline.remaining_within(FOLLOW));
        }
    }

    fn print(&mut self, message: &Received) -> anyhow::Result<()> {
        if self.args.json {
            let sealed = envelope::seal(message, message.redelivered())?;
            return self.output.message(b"", sealed.as_bytes(), b"\n");
        }
        match self.args.frame {
            Frame::Line => self.output.message(b"", message, b"\n"),
            Frame::Raw => self.output.message(b"", message, b""),
            Frame::Len => {
                let len = u32::try_from(message.len()).map_err(|_| Error::TooLarge {
                    what: self.receiver.address().text(),
                    size: message.len() as u64,
                    limit: u32::MAX.into(),
                    hint: Some("lengths have 32 bits: receive it with --frame raw".into()),
                })?;
                self.output.message(&len.to_le_bytes(), message, b"")
            }
        }
    }
}

/// Whether something of that name is there already.
fn exists(address: &Address) -> bool {
    match address.scheme() {
        Scheme::Fd => true,
        Scheme::Unix => false,
        scheme if scheme.is_path() => address.path().exists(),
        _ => !matches!(channel::status(address), Err(Error::NotFound { .. })),
    }
}
