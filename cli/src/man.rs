//! `narrows man`: manual pages, made of what the help is made of.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use narrows::Error;

use crate::exit::Usage;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  narrows man | man -l -                                   the page of the command
  narrows man send                                         the page of a verb, unformatted
  narrows man --to ~/.local/share/man/man1; man narrows    all of them, for man(1) to find";

/// Print a manual page, or write all of them to a directory
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The verb; none: the command as a whole
    verb: Option<String>,
    /// Write all pages to this directory: narrows.1, narrows-send.1, ...
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "verb")]
    to: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, command: Command) -> anyhow::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    if let Some(directory) = &args.to {
        return verbs(&command).chain([&command]).try_for_each(|command| write(command, directory));
    }
    let page = match &args.verb {
        None => &command,
        Some(verb) => verbs(&command).find(|command| command.get_name() == verb).ok_or_else(|| {
            let known: Vec<&str> = verbs(&command).map(Command::get_name).collect();
            Usage(format!("there is no verb '{verb}'; these are: {}", known.join(", ")))
        })?,
    };
    Output::text(&String::from_utf8(render(page)?.1)?)
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

fn write(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let (name, page) = render(command)?;
    let path = directory.join(name);
    let what = path.display().to_string().into();
    Ok(std::fs::write(&path, page).map_err(|error| Error::from_io(&what, "write", &error))?)
}

/// A page and its file's name.
fn render(command: &Command) -> io::Result<(String, Vec<u8>)> {
    let man = Man::new(command.clone());
    let name = command.get_display_name().unwrap_or(command.get_name());
    // Without a date: the version says more.
    let mut page = Vec::new();
    writeln!(page, ".TH {name} 1 \"\" \"narrows {}\" \"User Commands\"", env!("CARGO_PKG_VERSION"))?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut rest = sections(&help);
    if !command.has_subcommands() {
        rest.control("SH", ["SEE ALSO"]).text([roman("narrows(1)")]);
    }
    rest.to_writer(&mut page)?;
    Ok((man.get_filename(), page))
}

/// What stands behind the options in the help, in the order of manual pages.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    for section in ["EXIT STATUS", "NOTES", EXAMPLES_SECTION] {
        let paragraphs = help.split("\n\n").map(placed).filter(|(place, _)| *place == section);
        for (number, (_, text)) in paragraphs.enumerate() {
            if number == 0 {
                roff.control("SH", [section]);
            } else {
                roff.control("PP", []);
            }
            if section == EXAMPLES_SECTION {
                roff.control("nf", []);
                for line in text.lines() {
                    roff.text([roman(line.trim_start())]);
                }
                roff.control("fi", []);
            } else {
                roff.text([roman(text)]);
            }
        }
    }
    roff
}

const EXAMPLES_SECTION: &str = "EXAMPLES";

/// The section in which a paragraph of the help belongs, and what it says there.
fn placed(paragraph: &str) -> (&'static str, &str) {
    if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
        (EXAMPLES_SECTION, examples)
    } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
        ("EXIT STATUS", codes)
    } else {
        ("NOTES", paragraph)
    }
}
