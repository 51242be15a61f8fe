//! Every `console` block of the documentation and of `screens.md` is run, and its output compared; the README's table
//! of mechanisms is what the command prints.
//!
//! `…` stands for any text. NARROWS_UPDATE=1 writes what was printed into the files instead. The shared-memory name
//! `readings` becomes another of the same length; all else happens in a directory of the block's own.

use std::path::Path;

use crate::harness::{NARROWS, Place, Running, narrows};
use std::process::{Command, Stdio};

/// The one shared-memory name that screens use.
const NAME: &str = "readings";

#[test]
fn help_and_errors() {
    check(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/screens.md"));
}

#[test]
fn the_documentation() {
    check(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command.md"));
}

#[test]
fn the_readme_has_the_table_of_mechanisms() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (before, rest) = text.split_once("<!-- mechanisms").unwrap();
    let (mark, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /mechanisms -->").unwrap();
    let table = String::from_utf8(narrows(["mechanisms", "--markdown"]).ok()).unwrap();
    let printed = format!("{before}<!-- mechanisms{mark}-->\n{table}<!-- /mechanisms -->{after}");
    if std::env::var_os("NARROWS_UPDATE").is_some() {
        std::fs::write(file, printed).unwrap();
    } else {
        assert!(text == printed, "README.md has another table; NARROWS_UPDATE=1 accepts what is printed now");
    }
}

fn check(file: impl AsRef<Path>) {
    let text = std::fs::read_to_string(&file).unwrap();
    let mut printed = String::new();
    let mut place = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        printed += line;
        printed.push('\n');
        match line {
            "```console" => place = Some(Place::new()),
            "```" => place = None,
            _ => {}
        }
        let (Some(place), Some(command)) = (&place, line.strip_prefix("$ ")) else { continue };
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
            expected += line;
            expected.push('\n');
        }
        let output = run(place, command);
        printed += if matches(&output, &expected) { &expected } else { &output };
    }
    if std::env::var_os("NARROWS_UPDATE").is_some() {
        std::fs::write(&file, printed).unwrap();
        return;
    }
    for (was, is) in text.lines().zip(printed.lines()) {
        assert_eq!(is, was, "in {}; NARROWS_UPDATE=1 accepts what is printed now", file.as_ref().display());
    }
    assert_eq!(text.lines().count(), printed.lines().count());
}

/// What a command prints, and its exit code where that is not 0.
fn run(place: &Place, command: &str) -> String {
    let path =
        format!("{}:{}", Path::new(NARROWS).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec 2>&1\n{}", command.replace(NAME, place.name())));
    shell.current_dir(place.path("")).env("PATH", path).env("NO_COLOR", "1").env_remove("COLUMNS");
    let said = Running::spawn(shell.stdin(Stdio::null()).stdout(Stdio::piped())).said();
    let directory = place.path("").canonicalize().unwrap();
    let mut output = String::from_utf8_lossy(&said.out).replace(place.name(), NAME);
    output = output.replace(&*directory.to_string_lossy(), "/run");
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    match said.status.code() {
        Some(0) => output,
        code => output + &format!("exit code {}\n", code.unwrap_or(-1)),
    }
}

/// Whether a text is what was expected, where `…` is anything.
fn matches(text: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    assert!(matches("a 12 b\n", "a … b\n") && matches("a\nx\nb\n", "a…b\n") && matches("a\n", "a\n"));
    assert!(!matches("a 12 c\n", "a … b\n") && !matches("a\nb\n", "a\n") && !matches("ab", "ab…b"));
}
