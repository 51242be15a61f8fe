//! What the demo says: at most 80 columns, the same for a terminal, a pipe and the picture.

use std::path::PathBuf;

use super::race::{self, Row};
use super::screen::{BAR, Ink, Line};
use super::storm::{self, VICTIMS};
use super::subject::Subject;

const INDENT: &str = "   ";
const SCHEME: usize = 7;
/// A number's column.
const COLUMN: usize = 11;
/// A word before its number in the account.
const LABEL: usize = 14;
const COUNT: usize = 11;

pub(crate) fn title() -> Vec<Line> {
    let cpus = narrows::sys::cpus().len();
    let machine = rustix::system::uname().release().to_string_lossy().into_owned();
    let cpus = if cpus == 1 { "1 processor".to_owned() } else { format!("{cpus} processors") };
    let line = Line::new().with(Ink::Bold, "narrows demo");
    vec![line.with(Ink::Dim, format!(" · {cpus}, Linux {machine}")), Line::new()]
}

fn heading(number: u32, name: &str, words: &str) -> Line {
    let line = Line::new().with(Ink::First, number.to_string()).with(Ink::Plain, "  ");
    line.with(Ink::Bold, name.to_owned()).with(Ink::Dim, format!("  {words}"))
}

fn note(words: impl Into<String>) -> Line {
    Line::new().with(Ink::Plain, INDENT).with(Ink::Dim, words)
}

pub(crate) fn race_heading(subject: &Subject, seconds: f64) -> Vec<Line> {
    let which = if subject.is_cut { "the first " } else { "" };
    let words = format!(
        "{which}{} of {} between two processes, {seconds} s each",
        bytes(subject.len),
        subject.name()
    );
    let margin = Line::new().with(Ink::Plain, INDENT).left(Ink::Dim, SCHEME + BAR, "");
    let first = margin.clone().right(Ink::Dim, 2 * COLUMN, "one-way");
    let second = ["bytes/s", "48 B", "sender", "receiver"].iter();
    vec![
        heading(1, "Race", &words),
        Line::new(),
        first.right(Ink::Dim, 2 * COLUMN, "CPU time for 1 MiB"),
        second.fold(margin, |line, word| line.right(Ink::Dim, COLUMN, word)),
    ]
}

/// A mechanism's row, as far as it is known.
pub(crate) fn race_row(row: &Row) -> Line {
    let ink = match row.scheme {
        "shm" => Ink::First,
        "unix" => Ink::Second,
        _ => Ink::Third,
    };
    let time = |ns: Option<f64>| ns.map(duration).unwrap_or_default();
    let [sender, receiver] = row.cpu_ns.map_or([None; 2], |cpu| cpu.map(Some));
    Line::new()
        .with(Ink::Plain, INDENT)
        .left(ink, SCHEME, row.scheme)
        .bar(ink, row.part)
        .right(Ink::Bold, COLUMN, row.bytes_per_s.map(rate).unwrap_or_default())
        .right(Ink::Plain, COLUMN, time(row.latency_ns.map(|ns| ns as f64)))
        .right(Ink::Plain, COLUMN, time(sender))
        .right(Ink::Plain, COLUMN, time(receiver))
}

/// What was checked at the far end.
pub(crate) fn race_check(subject: &Subject, outcomes: &[race::Outcome]) -> Vec<Line> {
    let (start, end) = (&subject.sha256[..8], &subject.sha256[subject.sha256.len() - 8..]);
    let mut lines = vec![Line::new()];
    for wrong in outcomes.iter().filter(|outcome| outcome.sha256 != subject.sha256) {
        let line = Line::new().with(Ink::Plain, INDENT).with(Ink::Bad, "WRONG");
        lines.push(line.with(
            Ink::Plain,
            format!("  {} brought other bytes: SHA-256 {}", wrong.scheme, &wrong.sha256[..8]),
        ));
    }
    if lines.len() == 1 {
        let line = Line::new().with(Ink::Plain, INDENT).with(Ink::Good, "same");
        lines.push(line.with(Ink::Plain, format!("  SHA-256 {start}…{end} at the far end, three times")));
    }
    lines.push(note("The first pass is hashed before the clock starts. After it a checksum of"));
    lines.push(note("every byte is compared with that pass's, in the receiver's time."));
    lines
}

pub(crate) fn storm_heading() -> Vec<Line> {
    let words =
        format!("{VICTIMS} senders and {VICTIMS} receivers of one channel, SIGKILL at random moments");
    vec![Line::new(), heading(2, "Killing", &words), Line::new()]
}

/// How far the killing is.
pub(crate) fn storm_so_far(killed: u64, kills: u64, messages: u64) -> Line {
    Line::new()
        .with(Ink::Plain, INDENT)
        .left(Ink::Dim, SCHEME, "killed")
        .bar(Ink::First, killed as f64 / kills as f64)
        .right(Ink::Bold, COLUMN, format!("{killed} of {kills}"))
        .right(Ink::Plain, COUNT + 2, thousands(messages))
        .with(Ink::Dim, " messages")
}

pub(crate) fn storm_account(outcome: &storm::Outcome) -> Vec<Line> {
    let account = &outcome.account;
    let line = |label: &str, ink: Ink, value: String, words: String| {
        let line =
            Line::new().with(Ink::Plain, INDENT).left(Ink::Plain, LABEL, label).right(ink, COUNT, value);
        line.with(Ink::Dim, if words.is_empty() { words } else { format!("  {words}") })
    };
    let zero = |count: u64| (if count == 0 { Ink::Good } else { Ink::Bad }, thousands(count));
    let fault = |label, count, words: &str| {
        let (ink, value) = zero(count);
        line(label, ink, value, words.to_owned())
    };
    let killed = format!(
        "{} senders and {} receivers in {:.1} s",
        outcome.killed_senders, outcome.killed_receivers, outcome.seconds
    );
    let cut_short = format!("killed inside send; {} of these messages arrived", account.cut_short_arrived);
    let stall = duration(account.longest_stall_ns as f64);
    vec![
        line("killed", Ink::Bold, thousands(outcome.kills), killed),
        line("sent", Ink::Bold, thousands(account.sent), "sends that returned".into()),
        line("cut short", Ink::Bold, thousands(account.cut_short), cut_short),
        line("received", Ink::Bold, thousands(account.received), "sent, or cut short and yet arrived".into()),
        fault("lost", account.lost, "sent, never received"),
        fault("torn", account.torn, "by the checksum in each message"),
        fault("out of order", account.disordered, "of one sender, at one receiver"),
        fault("doubled", account.doubled, "received twice without the flag `redelivered`"),
        line(
            "redelivered",
            Ink::Bold,
            thousands(account.redelivered),
            "flagged: the first receiver died before its ack".into(),
        ),
        line("longest stall", Ink::Bold, stall, "one operation of those who were not killed".into()),
    ]
}

pub(crate) fn leftovers(left: &[PathBuf], processes: u64) -> Vec<Line> {
    let mut lines = vec![Line::new(), heading(3, "Leftovers", ""), Line::new()];
    let line = |label: &str| Line::new().with(Ink::Plain, INDENT).left(Ink::Plain, LABEL, label);
    match left {
        [] => lines.push(
            line("/dev/shm")
                .right(Ink::Good, COUNT, "none")
                .with(Ink::Dim, "  channels removed by their last user"),
        ),
        left => {
            for path in left {
                lines.push(line("left").with(Ink::Bad, path.display().to_string()));
            }
        }
    }
    let words = format!("  of the {} that were started", thousands(processes));
    lines.push(line("processes").right(Ink::Good, COUNT, "none").with(Ink::Dim, words));
    lines
}

/// Two commands to paste.
pub(crate) fn next(command: &str) -> Vec<Line> {
    let line = |arguments: &str| Line::new().with(Ink::Plain, format!("{INDENT}{command} {arguments}"));
    vec![
        Line::new(),
        Line::new().with(Ink::Bold, "Now you").with(Ink::Dim, "  in one shell, and then in another"),
        Line::new(),
        line("recv shm:hello"),
        line("send shm:hello 'hi'"),
    ]
}

fn rate(bytes_per_s: f64) -> String {
    match bytes_per_s {
        rate if rate >= 9.95e9 => format!("{:.1} GB/s", rate / 1e9),
        rate if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
        rate => format!("{:.0} MB/s", rate / 1e6),
    }
}

/// Nanoseconds in three digits.
fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 9.95 && unit != "ns" { 1 } else { 0 };
    format!("{value:.digits$} {unit}")
}

fn bytes(count: u64) -> String {
    match count {
        count if count >= 1 << 20 => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
        count if count >= 1 << 10 => format!("{:.1} KiB", count as f64 / 1024.0),
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    }
}

/// Digits in groups of three.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!([1, 999, 1000, 12_345_678].map(thousands), ["1", "999", "1 000", "12 345 678"]);
        assert_eq!(
            [104.0, 1490.0, 15_400.0, 3.2e6, 4e9].map(duration),
            ["104 ns", "1.5 µs", "15 µs", "3.2 ms", "4.0 s"]
        );
        assert_eq!([12.34e9, 1.5e9, 3e8].map(rate), ["12.3 GB/s", "1.50 GB/s", "300 MB/s"]);
        assert_eq!([1, 2, 2048, 3 << 19].map(bytes), ["1 byte", "2 bytes", "2.0 KiB", "1.5 MiB"]);
    }
}
