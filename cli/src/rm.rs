//! `narrows rm`: removes names, and what crashes left behind.

use std::ffi::OsString;

use narrows::channel::{self, State};
use narrows::{Address, Error};

use crate::arguments;
use crate::exit::{self, Quit, Usage, say};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  narrows rm jobs           remove the name; who has it open goes on with what it has
  narrows rm --stale        say what a crash left behind
  narrows rm --stale --yes  remove it

Messages that nobody received are lost with the channel.";

/// Remove channels
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to remove
    #[arg(value_name = "ADDRESS", required_unless_present = "stale")]
    addresses: Vec<OsString>,
    /// What crashes left in shared memory: says what it would remove, unless --yes
    #[arg(long, conflicts_with = "addresses")]
    stale: bool,
    /// With --stale: remove it
    #[arg(long)]
    yes: bool,
    /// One JSON object a line: {"address": ..., "removed": true}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.stale {
        return stale(args);
    }
    if args.yes {
        return Err(
            Usage("--yes belongs to --stale; a channel that is named is removed without it".into()).into()
        );
    }
    let mut first_failure = None;
    for argument in &args.addresses {
        let removed = arguments::address(argument)
            .and_then(Address::absolute)
            .and_then(|address| channel::remove(&address).map(|()| address));
        match removed {
            Ok(address) => tell(args, &address, true)?,
            Err(error) => {
                say(&error);
                first_failure.get_or_insert(exit::code(&error.into()));
            }
        }
    }
    first_failure.map_or(Ok(()), |code| Err(Quit::Told(code).into()))
}

fn stale(args: &Args) -> anyhow::Result<()> {
    let (channels, _) = channel::list()?;
    let stale =
        channels.into_iter().filter(|status| status.state == State::Stale).map(|status| status.address);
    let mut found = 0;
    for address in stale {
        found += 1;
        if !args.yes {
            tell(args, &address, false)?;
            continue;
        }
        // Somebody may have taken it up meanwhile, or another `rm` may have been faster.
        match channel::status(&address).and_then(|now| match now.state {
            State::Stale => channel::remove(&address),
            _ => Ok(()),
        }) {
            Ok(()) => tell(args, &address, true)?,
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match (found, args.yes) {
        (0, _) => say("nothing is stale"),
        (_, false) => say("nothing was removed yet: --yes removes these"),
        _ => {}
    }
    Ok(())
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
