//! `narrows send`: messages from arguments or standard input.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use narrows::channel::Transport;
use narrows::{Address, Capability, Deadline, Error, Sender};

use crate::arguments::{self, Frame};
use crate::exit::{Advised, Usage, say};
use crate::input::Input;
use crate::{envelope, interrupt};

const EXAMPLES: &str = "\
Examples:
  narrows send jobs 'rebuild index'              one message into shared memory
  narrows send jobs -- --help                    after -- nothing is an option
  tail -f app.log | narrows send unix:/run/log   every line is a message
  narrows send shm:images --frame raw < cat.png  all of standard input is one
  narrows recv a --json | narrows send b --json  from channel to channel, exactly

What is sent to shared memory waits there for a receiver. Sockets and named pipes need one: \
without --timeout the command waits 1 second for it, and without bound for room.";

/// How long a receiver may take to appear, unless --timeout says otherwise.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a full channel is borne in silence.
const SILENCE: Duration = Duration::from_secs(2);

/// Send messages: one for each argument, or from standard input
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to: SCHEME:NAME[,KEY=VALUE]...
    address: OsString,
    /// The messages, any bytes; none: standard input
    #[arg(value_name = "MESSAGE", allow_negative_numbers = true)]
    messages: Vec<OsString>,
    /// How input is cut: line, len (each after its length, 32 bits, little-endian), raw (all is one message)
    #[arg(
        long,
        value_enum,
        default_value = "line",
        hide_possible_values = true,
        conflicts_with = "messages"
    )]
    frame: Frame,
    /// Messages are envelopes, one a line, as `recv --json` prints them
    #[arg(long, conflicts_with = "frame")]
    json: bool,
    /// Give up when a single wait, for a receiver or for room, takes longer (500ms, 10s)
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    timeout: Option<Duration>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let address = arguments::address(&args.address)?.absolute()?;
    let row = Transport::of(&address)?;
    // Everything that can be refused is refused before the channel is touched.
    let mut messages: Vec<Vec<u8>> = arguments::bytes(&args.messages).map(<[u8]>::to_vec).collect();
    if args.json {
        for (message, number) in messages.iter_mut().zip(1..) {
            *message =
                envelope::open(message).map_err(|error| Usage(format!("message {number}: {error:#}")))?;
        }
    }
    interrupt::install()?;
    let mut outgoing = Outgoing::open(address.clone(), args.timeout)?;
    if !messages.is_empty() {
        return outgoing.send(messages.iter().map(Vec::as_slice));
    }
    if std::io::stdin().is_terminal() {
        say("every line is a message; Ctrl-D ends");
    }
    let limit = row.max_message.unwrap_or(u64::from(u32::MAX));
    let mut input = Input::new(args.frame, address.text(), limit);
    let mut line = 0;
    loop {
        let batch = input.next()?;
        if batch.is_empty() {
            return Ok(());
        }
        if args.json {
            for sealed in batch.iter() {
                line += 1;
                let message =
                    envelope::open(sealed).with_context(|| format!("line {line} of standard input"))?;
                outgoing.send([&*message].into_iter())?;
            }
        } else {
            outgoing.send(batch.iter())?;
        }
    }
}

/// A sender whose waits end at Ctrl-C.
struct Outgoing {
    sender: Sender,
    address: Address,
    timeout: Option<Duration>,
}

impl Outgoing {
    fn open(address: Address, timeout: Option<Duration>) -> anyhow::Result<Self> {
        let deadline = Deadline::from(timeout.unwrap_or(PATIENCE));
        let opened = interrupt::wait(deadline, || Ok(()), |slice| Sender::open_by(&address, slice));
        let sender = opened.map_err(|error| match error.downcast::<Error>() {
            Ok(error @ (Error::TimedOut { .. } | Error::NotFound { .. } | Error::PeerGone { .. }))
                if needs_receiver(&address) =>
            {
                let remedy = format!(
                    "nobody receives there; start `narrows recv {}` first, or wait longer: --timeout 10s",
                    address.bare()
                );
                Advised { error, remedy }.into()
            }
            Ok(error) => error.into(),
            Err(error) => error,
        })?;
        Ok(Self { sender, address, timeout })
    }

    /// Sends them all, in order.
    fn send<'a>(&mut self, mut messages: impl Iterator<Item = &'a [u8]> + Clone) -> anyhow::Result<()> {
        let Self { sender, address, timeout } = self;
        while messages.clone().next().is_some() {
            let mut complaint = Some(Instant::now() + SILENCE);
            let idle = || {
                if complaint.is_some_and(|at| at <= Instant::now()) && std::io::stderr().is_terminal() {
                    say(format_args!("{} is full; waiting for a receiver to take something", address.bare()));
                    complaint = None;
                }
                Ok(())
            };
            let sent = interrupt::wait(arguments::deadline(*timeout), idle, |slice| {
                sender.send_many(messages.clone(), slice)
            });
            let sent = sent.map_err(|error| match error.downcast() {
                Ok(error @ Error::TimedOut { .. }) => {
                    let remedy = format!("it is full; `narrows recv {}` takes from it", address.bare());
                    Advised { error, remedy }.into()
                }
                Ok(error) => error.into(),
                Err(error) => error,
            })?;
            messages.by_ref().take(sent).for_each(drop);
        }
        Ok(())
    }
}

fn needs_receiver(address: &Address) -> bool {
    Transport::of(address).is_ok_and(|row| {
        row.capabilities.has(Capability::ReceiverBinds) || !row.capabilities.has(Capability::KeepsEarly)
    })
}
