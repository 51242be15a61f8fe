//! `narrows check`: whether a channel's memory is sound, and who has what of it.

use std::ffi::OsString;
use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use narrows::channel::{self, Finding, Holding, Moment, Report};
use serde::Serialize;

use crate::arguments;
use crate::exit::Quit;
use crate::output::Output;
use crate::table::{self, Side, Table};

const EXAMPLES: &str = "\
Examples:
  narrows check jobs            is its memory sound, who has what of it, what awaits repair
  narrows check jobs --at-rest  look closer: everybody who has it open does nothing now
  narrows check jobs --json | jq .faults

What deaths left is no fault: whoever opens the channel or waits in it next repairs it. \
Exit code 7 where there are faults.";

/// Check a channel's memory: faults, what awaits repair, who holds what
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The channel
    address: OsString,
    /// Nobody uses it now, but for receivers that wait: leftovers count as faults
    #[arg(long)]
    at_rest: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let address = arguments::address(&args.address)?.absolute()?;
    let report = channel::check(&address, if args.at_rest { Moment::Rest } else { Moment::Any })?;
    Output::text(&if args.json { json(&report)? } else { text(&report) })?;
    if report.faults.is_empty() { Ok(()) } else { Err(Quit::Told(7).into()) }
}

fn text(report: &Report) -> String {
    let moment = if report.at_rest { "at rest" } else { "in use" };
    let mut text = match (report.faults.len(), report.pending.len()) {
        (0, 0) => format!("sound, {moment}\n"),
        (0, pending) => format!("sound, {moment}; {pending} to repair\n"),
        (faults, pending) => format!("corrupt, {moment}: {faults} faults, {pending} to repair\n"),
    };
    for (word, findings) in [("fault", &report.faults), ("repair", &report.pending)] {
        for Finding { fact, place, found, rule } in findings {
            let _ = writeln!(text, "{word}: {place}: {found} [{fact}: {rule}]");
        }
    }
    if !report.holdings.is_empty() {
        text.push('\n');
        text += &holdings(&report.holdings);
    }
    text
}

fn holdings(holdings: &[Holding]) -> String {
    use Side::{Left, Right};
    let head = [
        ("PARTICIPANT", Right),
        ("PID", Right),
        ("PROCESS", Left),
        ("ENDPOINTS", Right),
        ("CLAIMS", Right),
        ("CHUNKS", Right),
        ("BYTES", Right),
        ("STATE", Left),
    ];
    let mut table = Table::new(&head);
    for holding in holdings {
        let (word, colour) =
            if holding.alive { ("alive", AnsiColor::Green) } else { ("dead", AnsiColor::Red) };
        let plain = |word: String| (word, Style::new());
        table.row([
            plain(holding.participant.to_string()),
            plain(holding.pid.to_string()),
            plain(holding.name.clone()),
            plain(holding.endpoints.to_string()),
            plain(holding.claims.to_string()),
            plain(holding.chunks.to_string()),
            plain(table::bytes(holding.bytes)),
            (word.to_owned(), colour.on_default()),
        ]);
    }
    table.print(table::coloured())
}

/// A report as `--json` prints it.
#[derive(Serialize)]
struct Json<'a> {
    sound: bool,
    at_rest: bool,
    faults: Vec<JsonFinding<'a>>,
    pending: Vec<JsonFinding<'a>>,
    holdings: Vec<JsonHolding<'a>>,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    fact: &'a str,
    place: &'a str,
    found: &'a str,
    rule: &'a str,
}

#[derive(Serialize)]
struct JsonHolding<'a> {
    participant: u16,
    pid: u32,
    name: &'a str,
    alive: bool,
    endpoints: u64,
    claims: u64,
    chunks: u64,
    bytes: u64,
}

impl<'a> From<&'a Finding> for JsonFinding<'a> {
    fn from(finding: &'a Finding) -> Self {
        let Finding { fact, place, found, rule } = finding;
        Self { fact, place, found, rule }
    }
}

impl<'a> From<&'a Holding> for JsonHolding<'a> {
    fn from(holding: &'a Holding) -> Self {
        let Holding { participant, pid, name, alive, endpoints, claims, chunks, bytes } = holding;
        Self {
            participant: *participant,
            pid: *pid,
            name,
            alive: *alive,
            endpoints: *endpoints,
            claims: *claims,
            chunks: *chunks,
            bytes: *bytes,
        }
    }
}

fn json(report: &Report) -> anyhow::Result<String> {
    let json = Json {
        sound: report.faults.is_empty(),
        at_rest: report.at_rest,
        faults: report.faults.iter().map(JsonFinding::from).collect(),
        pending: report.pending.iter().map(JsonFinding::from).collect(),
        holdings: report.holdings.iter().map(JsonHolding::from).collect(),
    };
    Ok(serde_json::to_string(&json)? + "\n")
}
