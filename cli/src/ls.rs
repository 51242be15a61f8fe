//! `narrows ls`: what exists, who uses it, and what was left behind.

use std::ffi::OsString;
use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use narrows::channel::{self, Kind, Peer, State, Status};
use serde::Serialize;

use crate::arguments;
use crate::exit::say;
use crate::output::Output;
use crate::table::{self, Side, Table};

const EXAMPLES: &str = "\
Examples:
  narrows ls               every channel in shared memory
  narrows ls jobs          everything about one, and the processes that use it
  narrows ls file:./queue  a channel in a file, which only its address finds
  narrows ls --json | jq -r 'select(.state == \"stale\").address'

KIND is many (senders and receivers, any number) or one (of each). \
STATE is live (somebody takes part), unread (nobody does, messages wait), stale (left by a crash, \
see `narrows rm --stale`) or idle (nobody takes part, and it was made to stay).";

/// List channels: depth, senders, receivers, state
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// One channel, with everything about it
    address: Option<OsString>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Some(address) = &args.address else { return list(args.json) };
    let status = channel::status(&arguments::address(address)?.absolute()?)?;
    Output::text(&if args.json { json(&status)? } else { everything(&status) })
}

fn list(as_json: bool) -> anyhow::Result<()> {
    let (mut channels, hidden) = channel::list()?;
    channels.sort_by_cached_key(|status| status.address.to_string());
    if as_json {
        Output::text(&channels.iter().map(json).collect::<anyhow::Result<String>>()?)?;
    } else if !channels.is_empty() {
        Output::text(&rows(&channels))?;
    } else if Output::is_terminal() {
        say("no channel in shared memory; `narrows recv NAME` makes one");
    }
    match hidden {
        0 => {}
        1 => say("one more object may not be looked into; its owner and root see it"),
        hidden => {
            say(format_args!("{hidden} more objects may not be looked into; their owners and root see them"))
        }
    }
    Ok(())
}

fn rows(channels: &[Status]) -> String {
    use Side::{Left, Right};
    let head = [
        ("ADDRESS", Left),
        ("KIND", Left),
        ("DEPTH", Right),
        ("SEND", Right),
        ("RECV", Right),
        ("OWNER", Left),
        ("MODE", Right),
        ("BYTES", Right),
        ("STATE", Left),
        ("AGE", Right),
    ];
    let mut table = Table::new(&head);
    for status in channels {
        let plain = |word: String| (word, Style::new());
        table.row([
            plain(status.address.to_string()),
            plain(peers_word(status.kind).to_owned()),
            plain(format!("{}/{}", status.depth, status.capacity)),
            plain(status.senders.to_string()),
            plain(status.receivers.to_string()),
            plain(user(status.uid)),
            plain(mode(status.mode)),
            plain(table::bytes(status.bytes)),
            (state(status.state).to_owned(), colour(status.state)),
            plain(table::age(status.age)),
        ]);
    }
    table.print(table::coloured())
}

/// Everything about one channel, a line each.
fn everything(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}  {value}");
    };
    line("address", status.address.to_string());
    line("kind", kind(status.kind).to_owned());
    line("state", state(status.state).to_owned());
    line("depth", format!("{} of {} messages", status.depth, status.capacity));
    line(
        "sent",
        match status.discarded {
            0 => status.sent.to_string(),
            discarded => format!("{}; {discarded} dropped to make room", status.sent),
        },
    );
    line(
        "senders",
        match status.died {
            0 => status.senders.to_string(),
            died => format!("{}; {died} died without closing", status.senders),
        },
    );
    line("receivers", status.receivers.to_string());
    line("owner", format!("{}, group {}, mode {}", user(status.uid), group(status.gid), mode(status.mode)));
    line("memory", format!("{}, at most {}", table::bytes(status.bytes), table::bytes(status.bytes_max)));
    line("made", format!("{} ago by process {}", table::age(status.age), status.creator_pid));
    let options: Vec<String> = status.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    line("options", options.join(","));
    if !status.peers.is_empty() {
        text.push('\n');
        text += &peers(&status.peers);
    }
    text
}

fn peers(peers: &[Peer]) -> String {
    use Side::{Left, Right};
    let head = [("PID", Right), ("PROCESS", Left), ("SENDERS", Right), ("RECEIVERS", Right), ("STATE", Left)];
    let mut table = Table::new(&head);
    for peer in peers {
        let (word, colour) = if peer.alive { ("alive", AnsiColor::Green) } else { ("dead", AnsiColor::Red) };
        table.row([
            (peer.pid.to_string(), Style::new()),
            (peer.name.clone(), Style::new()),
            (peer.senders.to_string(), Style::new()),
            (peer.receivers.to_string(), Style::new()),
            (word.to_owned(), colour.on_default()),
        ]);
    }
    table.print(table::coloured())
}

/// A channel as `--json` prints it: units in the names, nothing abbreviated.
#[derive(Serialize)]
struct Json<'a> {
    address: String,
    kind: &'a str,
    state: &'a str,
    depth: u64,
    capacity: u64,
    senders: u32,
    receivers: u32,
    died: u64,
    sent: u64,
    discarded: u64,
    owner: String,
    uid: u32,
    gid: u32,
    mode: String,
    bytes: u64,
    bytes_max: u64,
    age_ms: u64,
    creator_pid: u32,
    options: std::collections::BTreeMap<&'a str, &'a str>,
    peers: Vec<JsonPeer<'a>>,
}

#[derive(Serialize)]
struct JsonPeer<'a> {
    pid: u32,
    name: &'a str,
    senders: u32,
    receivers: u32,
    alive: bool,
}

impl<'a> From<&'a Peer> for JsonPeer<'a> {
    fn from(peer: &'a Peer) -> Self {
        let Peer { pid, name, senders, receivers, alive } = peer;
        Self { pid: *pid, name, senders: *senders, receivers: *receivers, alive: *alive }
    }
}

fn json(status: &Status) -> anyhow::Result<String> {
    let json = Json {
        address: status.address.to_string(),
        kind: kind(status.kind),
        state: state(status.state),
        depth: status.depth,
        capacity: status.capacity,
        senders: status.senders,
        receivers: status.receivers,
        died: status.died,
        sent: status.sent,
        discarded: status.discarded,
        owner: user(status.uid),
        uid: status.uid,
        gid: status.gid,
        mode: mode(status.mode),
        bytes: status.bytes,
        bytes_max: status.bytes_max,
        age_ms: status.age.as_millis() as u64,
        creator_pid: status.creator_pid,
        options: status.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        peers: status.peers.iter().map(JsonPeer::from).collect(),
    };
    Ok(serde_json::to_string(&json)? + "\n")
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::ManyToMany => "many-to-many",
        Kind::OneToOne => "one-to-one",
        _ => "unknown",
    }
}

/// The same, as the option `peers=` has it.
fn peers_word(kind: Kind) -> &'static str {
    match kind {
        Kind::ManyToMany => "many",
        Kind::OneToOne => "one",
        _ => "?",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::Unread => "unread",
        State::Stale => "stale",
        State::Idle => "idle",
    }
}

fn colour(state: State) -> Style {
    match state {
        State::Live => AnsiColor::Green.on_default(),
        State::Unread => AnsiColor::Yellow.on_default(),
        State::Stale => AnsiColor::Red.on_default(),
        State::Idle => Style::new(),
    }
}

fn mode(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

/// A user's name, or the number where /etc/passwd does not know it
/// ([passwd(5)](https://man7.org/linux/man-pages/man5/passwd.5.html)).
fn user(uid: u32) -> String {
    name_in("/etc/passwd", uid)
}

fn group(gid: u32) -> String {
    name_in("/etc/group", gid)
}

fn name_in(file: &str, id: u32) -> String {
    let id = id.to_string();
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    let entry = lines.lines().find(|line| line.split(':').nth(2) == Some(&id));
    entry.and_then(|line| line.split(':').next()).unwrap_or(&id).to_owned()
}
