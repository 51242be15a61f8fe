//! `narrows mechanisms`: the table of transports, as the library has it.

use std::fmt::Write;

use anstyle::Style;
use narrows::channel::{Exception, OptionSpec, Transport};
use narrows::{Capabilities, Capability};
use serde::Serialize;

use crate::output::Output;
use crate::table::{self, Side, Table};

const EXAMPLES: &str = "\
Examples:
  narrows mechanisms
  narrows mechanisms --json | jq -r 'select(.capabilities | index(\"end\")).scheme'";

/// Show every mechanism: what it can do, its limits, its options
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// One JSON object a line
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Tables in Markdown
    #[arg(long)]
    markdown: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    Output::text(&if args.json {
        Transport::ALL.iter().map(json).collect::<anyhow::Result<String>>()?
    } else if args.markdown {
        markdown()
    } else {
        plain()
    })
}

/// A column a scheme, a row a capability; then the options, each set of them once.
fn plain() -> String {
    let names: Vec<String> = Transport::ALL.iter().map(|row| format!("{}:", row.scheme)).collect();
    let head: Vec<(&str, Side)> =
        [""].into_iter().chain(names.iter().map(String::as_str)).map(|word| (word, Side::Left)).collect();
    let mut table = Table::new(&head);
    let mut line = |name: &str, cell: &dyn Fn(&Transport) -> String| {
        let cells = std::iter::once(name.to_owned()).chain(Transport::ALL.iter().map(cell));
        table.row(cells.map(|cell| (cell, Style::new())));
    };
    for capability in Capability::ALL {
        line(capability.name(), &|row| has(row, capability, "yes", "-").to_owned());
    }
    line("largest message", &largest);
    let mut text = table.print(table::coloured());
    for row in Transport::ALL {
        let _ = write!(text, "\n{}: {}\n", row.scheme, row.summary);
        text += &match options_like(row) {
            Some(earlier) => format!("  options as {earlier}\n"),
            None => options(row),
        };
    }
    text
}

/// `wire=lines|raw: no deaths`, its option between marks.
fn told(exception: &Exception, mark: &str) -> String {
    let lacks = exception.lacks.iter().map(|capability| format!("no {capability}"));
    let changes: Vec<String> =
        exception.gains.iter().map(|capability| capability.to_string()).chain(lacks).collect();
    format!("{mark}{}={}{mark}: {}", exception.key, exception.values, changes.join(", "))
}

fn options(row: &Transport) -> String {
    let options = row.options;
    let width = |length: fn(&OptionSpec) -> usize| options.iter().map(length).max().unwrap_or(0);
    let setting = width(|option| option.key.len() + 1 + option.values.len());
    let default = width(|option| option.default.len());
    let line = |option: &OptionSpec| {
        let OptionSpec { key, values, .. } = option;
        format!(
            "  {:<setting$}  {:<default$}  {}\n",
            format!("{key}={values}"),
            option.default,
            option.meaning
        )
    };
    let exception = |exception: &Exception| format!("  with {}\n", told(exception, ""));
    options.iter().map(line).chain(row.exceptions.iter().map(exception)).collect()
}

fn markdown() -> String {
    let schemes: String = Transport::ALL.iter().map(|row| format!(" `{}:` |", row.scheme)).collect();
    let mut text = format!("| |{schemes}\n|---|{}\n", ":-:|".repeat(Transport::ALL.len()));
    for capability in Capability::ALL {
        let cells: String =
            Transport::ALL.iter().map(|row| format!(" {} |", has(row, capability, "✓", ""))).collect();
        let _ = writeln!(text, "| {capability}: {} |{cells}", capability.meaning());
    }
    let cells: String = Transport::ALL.iter().map(|row| format!(" {} |", largest(row))).collect();
    let _ = writeln!(text, "| largest message |{cells}");
    text += "\n| scheme | what it is | options (default) |\n|---|---|---|\n";
    for row in Transport::ALL {
        let options = match options_like(row) {
            Some(earlier) => format!("as `{}", earlier.replacen(':', ":`", 1)),
            None => markdown_options(row),
        };
        let _ = writeln!(text, "| `{}:` | {} | {options} |", row.scheme, row.summary);
    }
    text
}

fn markdown_options(row: &Transport) -> String {
    let option = |option: &OptionSpec| format!("`{}={}` ({})", option.key, option.values, option.default);
    let options = row.options.iter().map(option).collect::<Vec<_>>().join(", ");
    let exceptions = row.exceptions.iter().map(|exception| format!("; with {}", told(exception, "`")));
    (options + &exceptions.collect::<String>()).replace('|', "\\|")
}

#[derive(Serialize)]
struct Json<'a> {
    scheme: &'a str,
    summary: &'a str,
    capabilities: Vec<&'a str>,
    exceptions: Vec<JsonException<'a>>,
    max_message_bytes: Option<u64>,
    options: Vec<JsonOption<'a>>,
}

#[derive(Serialize)]
struct JsonException<'a> {
    key: &'a str,
    values: &'a str,
    lacks: Vec<&'a str>,
    gains: Vec<&'a str>,
}

#[derive(Serialize)]
struct JsonOption<'a> {
    key: &'a str,
    values: &'a str,
    default: &'a str,
    meaning: &'a str,
}

fn json(row: &Transport) -> anyhow::Result<String> {
    let option = |option: &OptionSpec| {
        let OptionSpec { key, values, default, meaning } = *option;
        JsonOption { key, values, default, meaning }
    };
    let names = |set: Capabilities| set.iter().map(Capability::name).collect();
    let exception = |exception: &Exception| {
        let Exception { key, values, lacks, gains } = *exception;
        JsonException { key, values, lacks: names(lacks), gains: names(gains) }
    };
    let json = Json {
        scheme: row.scheme.name(),
        summary: row.summary,
        capabilities: names(row.capabilities),
        exceptions: row.exceptions.iter().map(exception).collect(),
        max_message_bytes: row.max_message,
        options: row.options.iter().map(option).collect(),
    };
    Ok(serde_json::to_string(&json)? + "\n")
}

/// `shm:`, or `shm:, without create=`, where an earlier row has all options of this one.
fn options_like(row: &Transport) -> Option<String> {
    let same = |a: &OptionSpec, b: &OptionSpec| (a.key, a.values, a.default) == (b.key, b.values, b.default);
    let knows = |row: &Transport, option| row.options.iter().any(|other| same(other, option));
    let mut earlier = Transport::ALL.iter().take_while(|earlier| earlier.scheme != row.scheme);
    let like = earlier.find(|earlier| row.options.iter().all(|option| knows(earlier, option)))?;
    let missing = like.options.iter().filter(|option| !knows(row, option));
    let missing: Vec<String> = missing.map(|option| format!("{}=", option.key)).collect();
    let without = if missing.is_empty() { String::new() } else { format!(", without {}", missing.join(" ")) };
    (!row.options.is_empty()).then(|| format!("{}:{without}", like.scheme))
}

/// What the mechanism sets, or else what an option does.
fn largest(row: &Transport) -> String {
    let option = row.options.iter().find(|option| matches!(option.key, "max_message" | "memory_max"));
    match (row.max_message, option) {
        (Some(limit), _) => table::bytes(limit),
        (None, Some(option)) => option.default.to_owned(),
        (None, None) => "memory".to_owned(),
    }
}

fn has(row: &Transport, capability: Capability, yes: &'static str, no: &'static str) -> &'static str {
    if row.capabilities.has(capability) { yes } else { no }
}
