//! Ctrl-C, SIGTERM, closed pipes and kills: the command ends as it should and leaves nothing behind.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{NARROWS, Place, Running, command, narrows, start, until, until_peers};

/// The signal set in which `signal` is caught by a process, or not.
fn catches(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (signal - 1) != 0
}

/// Waits until the command notes signals, and is no longer busy with its start.
fn until_it_waits(running: &Running) {
    until("the command waits", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
        catches(running.pid(), 15) && stat.contains(") S ")
    });
}

#[test]
fn ctrl_c_ends_a_receiver_and_leaves_nothing() {
    let place = Place::new();
    for address in place.every_address() {
        let receiver = start(["recv", &address]);
        until_it_waits(&receiver);
        receiver.signal("INT");
        let said = receiver.said().code(130);
        assert_eq!((said.text(), &*said.err), ("", ""));
        let path = address.split_once(':').unwrap().1;
        assert!(!Path::new(path).exists(), "{address} was left behind");
    }
}

#[test]
fn ctrl_c_ends_a_sender_that_waits_for_input_room_or_a_receiver() {
    let place = Place::new();
    let full = format!("{},capacity=1", place.shm());
    let socket = format!("unix:{}", place.path("socket").display());
    for arguments in
        [vec!["send", &full], vec!["send", &full, "a", "b", "c"], vec!["send", &socket, "--timeout=30s", "a"]]
    {
        let sender = Running::start(&arguments, Stdio::piped());
        until_it_waits(&sender);
        sender.signal("INT");
        sender.said().code(130);
    }
    narrows(["recv", &full]).ok();
}

#[test]
fn other_signals_end_it_in_order_too() {
    let place = Place::new();
    for (signal, code) in [("TERM", 143), ("HUP", 129)] {
        let receiver = start(["recv", &place.shm()]);
        until_it_waits(&receiver);
        receiver.signal(signal);
        receiver.said().code(code);
        assert!(place.leftovers().is_empty());
    }
}

#[test]
fn what_was_made_ignored_stays_ignored() {
    let place = Place::new();
    let address = place.shm();
    let line = format!("trap '' HUP; exec {NARROWS} recv {address}");
    let receiver = Running::spawn(Command::new("sh").args(["-c", &line]).stdout(Stdio::piped()));
    until_peers(&address, "receivers", 1);
    receiver.signal("HUP");
    narrows(["send", &address, "a"]).ok();
    assert_eq!(receiver.said().ok(), b"a\n");
}

#[test]
fn ctrl_c_ends_a_receiver_whose_output_nobody_reads() {
    let place = Place::new();
    let address = place.shm();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let receiver = Running::spawn(command().args(["recv", &address]).stdout(writer));
    until_peers(&address, "receivers", 1);
    let big = "x".repeat(100_000);
    narrows(["send", &address, &big, "second"]).ok();
    // Its first byte here says that the message was taken and does not fit into the pipe.
    reader.read_exact(&mut [0]).unwrap();
    receiver.signal("INT");
    receiver.said().code(130);
    assert_eq!(narrows(["recv", &address]).ok(), b"second\n");
}

#[test]
fn a_closed_output_is_no_failure_and_takes_no_message() {
    let place = Place::new();
    for address in place.every_address() {
        let (reader, writer) = std::io::pipe().unwrap();
        let receiver = Running::spawn(Command::new(NARROWS).args(["recv", &address]).stdout(writer));
        until_it_waits(&receiver);
        drop(reader);
        let said = receiver.said().code(0);
        assert_eq!(said.err, "", "{address}");
    }
    let address = place.shm();
    narrows(["send", &address, "a"]).ok();
    let (_, writer) = std::io::pipe().unwrap();
    Running::spawn(Command::new(NARROWS).args(["recv", &address]).stdout(writer)).said().code(0);
    assert_eq!(narrows(["recv", &address]).ok(), b"a\n");
    for arguments in [&["mechanisms"][..], &["--help"], &["recv", "--help"], &["ls"], &["bench", "--list"]] {
        let (_, writer) = std::io::pipe().unwrap();
        Running::spawn(Command::new(NARROWS).args(arguments).stdout(writer)).said().code(0);
    }
}

#[test]
fn an_output_that_fails_is_a_failure() {
    let place = Place::new();
    let address = place.shm();
    narrows(["send", &address, "a"]).ok();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = Running::spawn(Command::new(NARROWS).args(["recv", &address]).stdout(full)).said().code(1);
    assert!(said.err.contains("standard output: No space left"), "{}", said.err);
}

#[test]
fn a_message_whose_receiver_is_killed_before_it_was_written_comes_again() {
    let place = Place::new();
    let address = format!("{},ack=release", place.shm());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut receiver = Running::spawn(command().args(["recv", &address]).stdout(writer));
    until_peers(&place.shm(), "receivers", 1);
    let big = "x".repeat(100_000);
    narrows(["send", &address, &big]).ok();
    reader.read_exact(&mut [0]).unwrap();
    receiver.kill();
    let said = narrows(["recv", &address, "--json"]).code(0);
    let envelope: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
    assert_eq!((envelope["data"].as_str(), envelope["redelivered"].as_bool()), (Some(&*big), Some(true)));
}

#[test]
fn a_sender_that_is_killed_is_told() {
    let place = Place::new();
    let address = place.shm();
    let receiver = start(["recv", &address]);
    until_peers(&address, "receivers", 1);
    let mut sender = Running::start(["send", &address], Stdio::piped());
    until_peers(&address, "senders", 1);
    sender.kill();
    let said = receiver.said().code(0);
    assert!(said.err.contains("one sender of") && said.err.contains("died"), "{}", said.err);
}

/// Whoever uses a channel whose file is cut is told, and is not killed by SIGBUS.
#[test]
fn a_truncated_channel_is_told_by_both_sides() {
    for part in [["recv"].as_slice(), &["send", "--timeout", "20s"]] {
        let place = Place::new();
        let address = format!("{},capacity=1", place.shm());
        let line = part.iter().copied().chain([address.as_str()]);
        let running = if part[0] == "recv" {
            let running = start(line);
            until_peers(&place.shm(), "receivers", 1);
            running
        } else {
            let running = start(line.chain(["one", "two"]));
            until_peers(&place.shm(), "depth", 1);
            running
        };
        let path = Path::new("/dev/shm").join(place.name());
        std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let said = running.said().code(7);
        assert!(said.err.contains("truncated while it was in use"), "{}", said.err);
        std::fs::remove_file(path).unwrap();
    }
}
