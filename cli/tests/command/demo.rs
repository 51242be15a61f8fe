//! The demo: its account, its manners, and that it leaves nothing however it ends.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{NARROWS, Running, narrows, start, until};

/// A small file to race with.
const FILE: &str = concat!("--file=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
const QUICK: [&str; 5] = ["demo", "--seconds=0.2", "--kills=20", FILE, "--json"];
const LONG: [&str; 3] = ["demo", "--seconds=4", FILE];

/// What a demo that a process ran has in shared memory and among the temporary files.
fn leftovers(pid: u32) -> Vec<String> {
    let directories = ["/dev/shm".into(), std::env::temp_dir()].map(|path| std::fs::read_dir(path).unwrap());
    let entries =
        directories.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    entries.filter(|name| name.starts_with(&format!("narrows-demo-{pid}-"))).collect()
}

/// The processes that it started and that run.
fn parts(pid: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok());
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_part = |process: &u32| {
        let words = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&format!("\0--parent\0{pid}\0"))
    };
    processes.filter(is_part).collect()
}

#[test]
fn the_account_is_exact_and_nothing_is_left() {
    let running = start(QUICK);
    let pid = running.pid();
    let said = running.said().code(0);
    assert_eq!(said.err, "");
    let object: Value = serde_json::from_str(said.text()).unwrap();
    let killing = &object["killing"];
    for nothing in ["lost", "torn", "doubled", "disordered"] {
        assert_eq!(killing[nothing], 0, "{killing}");
    }
    assert!(killing["kills"].as_u64() > Some(0), "{killing}");
    assert!(killing["sent"].as_u64() > Some(0), "{killing}");
    let arrived = killing["sent"].as_u64().unwrap() + killing["cut_short_arrived"].as_u64().unwrap();
    assert_eq!(killing["received"], arrived, "{killing}");
    assert_eq!(object["leftovers"], Value::Array(Vec::new()));
    assert_eq!(object["same"], true);
    let schemes: Vec<&str> =
        object["race"].as_array().unwrap().iter().map(|row| row["scheme"].as_str().unwrap()).collect();
    assert_eq!(schemes, ["shm", "unix", "fifo"]);
    for row in object["race"].as_array().unwrap() {
        assert_eq!(row["sha256"], object["file"]["sha256"]);
        for figure in ["bytes_per_s", "latency_p50_ns", "sender_cpu_ns_per_mib", "receiver_cpu_ns_per_mib"] {
            assert!(row[figure].as_f64() > Some(0.0), "{row}");
        }
    }
    assert_eq!((leftovers(pid), parts(pid)), (vec![], vec![]));
}

#[test]
fn without_a_terminal_it_says_plain_lines_of_at_most_80_columns() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("demo.svg");
    let mut command = Command::new(NARROWS);
    command.args(["demo", "--seconds=0.1", "--kills=5", "--svg"]).arg(&svg).env_remove("CARGO");
    let said = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped())).said().code(0);
    let text = said.text();
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}");
    }
    assert!(text.contains(&format!("{NARROWS} send shm:hello 'hi'")), "{text}");
    let picture = std::fs::read_to_string(svg).unwrap();
    for word in ["narrows demo", "Race", "Killing", "Leftovers", "received"] {
        assert!(text.contains(word) && picture.contains(word), "{word}");
    }
}

#[test]
fn ctrl_c_ends_it_and_everything_that_it_started() {
    for moment in ["-there", "storm"] {
        let seconds = if moment == "storm" { "--seconds=0.3" } else { "--seconds=4" };
        let running = start([LONG[0], LONG[2], seconds]);
        let pid = running.pid();
        let is_there = |name: &String| name.ends_with(moment) || name.ends_with(&format!(".{moment}"));
        until("the demo is under way", || !parts(pid).is_empty() && leftovers(pid).iter().any(is_there));
        running.signal("INT");
        let said = running.said().code(130);
        assert_eq!(said.err, "");
        assert_eq!((leftovers(pid), parts(pid)), (vec![], vec![]));
    }
}

#[test]
fn a_part_that_dies_is_told_and_nothing_hangs() {
    let running = start(LONG);
    let pid = running.pid();
    until("the race is under way", || parts(pid).len() == 2);
    let killed = Command::new("kill").args(["-s", "KILL", &parts(pid)[0].to_string()]).status().unwrap();
    assert!(killed.success());
    let said = running.said().code(1);
    assert!(said.err.contains("failed (signal: 9"), "{}", said.err);
    assert_eq!((leftovers(pid), parts(pid)), (vec![], vec![]));
}

#[test]
fn a_demo_that_is_killed_takes_its_parts_with_it() {
    let mut running = start(LONG);
    let pid = running.pid();
    until("the race is under way", || parts(pid).len() == 2);
    running.kill();
    until("its parts are gone", || parts(pid).is_empty());
    for name in leftovers(pid) {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}"));
        let _ = std::fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

#[test]
fn what_it_cannot_race_with_is_told() {
    let missing = narrows(["demo", "--file=/nothing/there"]).code(3);
    assert!(missing.err.contains("'/nothing/there' does not exist"), "{}", missing.err);
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for (file, code, words) in [(empty.as_path(), 2, "is empty"), (directory.path(), 1, "directory")] {
        let said = narrows(["demo".as_ref(), "--file".as_ref(), file.as_os_str()]).code(code);
        assert!(said.err.contains(words), "{}", said.err);
    }
    narrows(["demo", "--seconds=0"]).code(2);
    narrows(["demo", "--kills=0"]).code(2);
}
