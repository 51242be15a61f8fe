//! Completion scripts and manual pages, read by the programs that they are for.

use std::process::{Command, Stdio};

use crate::harness::{Place, Running, narrows};

/// The verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = String::from_utf8(narrows(["--help"]).ok()).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// Gives a text to a program; `None`, with a word about it, where it is not installed.
fn feed(program: &[&str], input: &str) -> Option<Vec<u8>> {
    let found =
        Command::new("sh").args(["-c", "command -v \"$0\"", program[0]]).stdout(Stdio::null()).status();
    if !found.unwrap().success() {
        println!("SKIPPED: there is no {}", program[0]);
        return None;
    }
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let said = Running::spawn(&mut command).feed(input.as_bytes()).said();
    assert!(said.status.success() && said.err.is_empty(), "{program:?}: {}", said.err);
    Some(said.out)
}

#[test]
fn every_shell_can_read_its_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(narrows(["completion", shell]).ok()).unwrap();
        assert!(verbs().iter().all(|verb| script.contains(verb.as_str())), "{shell}");
        if matches!(shell, "bash" | "zsh" | "fish") {
            feed(&[shell, "-n"], &script);
        }
    }
}

#[test]
fn bash_completes_verbs_and_options() {
    let script = String::from_utf8(narrows(["completion", "bash"]).ok()).unwrap();
    for (words, expected) in [
        ("narrows se", "send"),
        ("narrows re", "recv"),
        ("narrows recv --ti", "--timeout"),
        ("narrows rm --st", "--stale"),
        ("narrows completion z", "zsh"),
    ] {
        let last = words.split(' ').next_back().unwrap();
        let before = words.split(' ').count() - 1;
        let line = format!(
            "COMP_WORDS=({words}); COMP_CWORD={before}; _narrows narrows '{last}' x; echo \"${{COMPREPLY[@]}}\""
        );
        let Some(out) = feed(&["bash"], &format!("{script}\n{line}\n")) else { return };
        assert_eq!(String::from_utf8(out).unwrap().trim(), expected, "{words}");
    }
}

#[test]
fn every_verb_has_a_page_that_renders() {
    let place = Place::new();
    let directory = place.path("man1");
    let missing = narrows(["man", "--to", directory.to_str().unwrap()]).code(3);
    assert!(missing.err.contains("man1"), "{}", missing.err);
    std::fs::create_dir(&directory).unwrap();
    narrows(["man", "--to", directory.to_str().unwrap()]).ok();
    let verbs: Vec<String> = verbs().into_iter().filter(|verb| verb != "help").collect();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), verbs.len() + 1);
    for verb in verbs.iter().map(String::as_str).chain([""]) {
        let (name, sections) = match verb {
            "" => (
                "narrows".to_owned(),
                &["NAME", "SYNOPSIS", "OPTIONS", "SUBCOMMANDS", "EXIT STATUS", "EXAMPLES"][..],
            ),
            verb => {
                (format!("narrows-{verb}"), &["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"][..])
            }
        };
        let page = std::fs::read_to_string(directory.join(format!("{name}.1"))).unwrap();
        let arguments = ["man", verb];
        let printed = narrows(&arguments[..if verb.is_empty() { 1 } else { 2 }]).ok();
        assert!(page.as_bytes() == printed, "{name}");
        // All warnings are errors of ours.
        let Some(text) = feed(&["groff", "-man", "-Tascii", "-ww", "-P-cbou"], &page) else { continue };
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for section in sections {
            assert!(lines.contains(section), "{name}: no {section} in\n{text}");
        }
        assert!(text.contains("User Commands") && text.contains("narrows 0."), "{text}");
    }
}
