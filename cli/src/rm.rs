//! `narrows rm`: removes names, and what crashes left behind.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::FileTypeExt;

use narrows::channel::{self, State};
use narrows::{Address, Deadline, Error, Receiver, Scheme};

use crate::arguments;
use crate::exit::{self, Quit, Usage, say};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  narrows rm jobs           remove the name; who has it open goes on with what it has
  narrows rm --stale        say what crashes left behind
  narrows rm --stale --yes  remove it

Messages that nobody received are lost with the channel.";

/// Remove channels
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to remove
    #[arg(value_name = "ADDRESS", required_unless_present = "stale")]
    addresses: Vec<OsString>,
    /// Of these, or of all in shared memory, what crashes left; says what it would remove, unless --yes
    #[arg(long)]
    stale: bool,
    /// With --stale: remove it
    #[arg(long)]
    yes: bool,
    /// One JSON object a line: {"address": ..., "removed": true}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.yes && !args.stale {
        return Err(Usage("--yes belongs to --stale: without it, what is named is removed".into()).into());
    }
    let mut first_failure = None;
    let mut failed = |error: Error| {
        say(&error);
        first_failure.get_or_insert(exit::code(&error.into()));
    };
    if args.stale {
        let stale = stale(&args.addresses)?;
        for address in &stale {
            match if args.yes { clear(address) } else { Ok(false) } {
                Ok(removed) if removed || !args.yes => tell(args, address, removed)?,
                Ok(_) => {}
                Err(error) => failed(error),
            }
        }
        match (stale.is_empty(), args.yes) {
            (true, _) => say("nothing is stale"),
            (false, false) => say("nothing was removed yet: --yes removes it"),
            _ => {}
        }
    } else {
        for argument in &args.addresses {
            match remove(argument) {
                Ok(address) => tell(args, &address, true)?,
                Err(error) => failed(error),
            }
        }
    }
    first_failure.map_or(Ok(()), |code| Err(Quit::Told(code).into()))
}

fn remove(argument: &OsStr) -> narrows::Result<Address> {
    let address = arguments::address(argument)?.absolute()?;
    match address.scheme() {
        Scheme::Fifo | Scheme::Unix => remove_file(&address)?,
        _ => channel::remove(&address)?,
    }
    Ok(address)
}

/// Named pipes and sockets are files; what else has the name stays.
fn remove_file(address: &Address) -> narrows::Result<()> {
    let what = address.text();
    let path = address.path();
    if !path.is_absolute() {
        let hint = Some("an abstract name goes with its receiver".into());
        return Err(Error::Unsupported { what, capability: "removal".into(), hint });
    }
    let found = path.symlink_metadata().map_err(|error| Error::from_io(&what, "lstat", &error))?.file_type();
    let (fits, expected) = match address.scheme() {
        Scheme::Fifo => (found.is_fifo(), "a named pipe"),
        _ => (found.is_socket(), "a socket"),
    };
    if !fits {
        let (expected, found) = (expected.into(), "something else".into());
        return Err(Error::WrongKind { what, expected, found, hint: Some("rm(1) removes it".into()) });
    }
    std::fs::remove_file(path).map_err(|error| Error::from_io(&what, "unlink", &error))
}

/// What is stale of these, or of everything where none is named.
fn stale(named: &[OsString]) -> narrows::Result<Vec<Address>> {
    let channels = if named.is_empty() {
        channel::list()?.0
    } else {
        let look = |argument: &OsString| channel::status(&arguments::address(argument)?.absolute()?);
        named.iter().map(look).collect::<Result<_, _>>()?
    };
    let stale = channels.into_iter().filter(|status| status.state == State::Stale);
    Ok(stale.map(|status| status.address).collect())
}

/// Removes a stale channel, unless somebody took it up meanwhile: takes part and leaves, which clears what the dead
/// left, as for any last participant.
fn clear(address: &Address) -> narrows::Result<bool> {
    let unmade = address.bare().with("create", "never")?;
    match Receiver::<[u8]>::open_by(&unmade, Deadline::Now) {
        Ok(receiver) => drop(receiver),
        Err(Error::NotFound { .. }) => return Ok(true),
        Err(Error::Busy { .. }) => return Ok(false),
        Err(error) => return Err(error),
    }
    match channel::status(address) {
        Err(Error::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(false),
    }
}

fn tell(args: &Args, address: &Address, removed: bool) -> anyhow::Result<()> {
    let address = address.bare();
    if args.json {
        let object = serde_json::json!({ "address": address.to_string(), "removed": removed });
        Output::text(&format!("{object}\n"))
    } else if args.stale {
        Output::text(&format!("{address}\n"))
    } else {
        Ok(())
    }
}
