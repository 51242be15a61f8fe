//! Other people's programs on the other side.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use narrows::{Receiver, Scheme, Sender};

use crate::peers::{LONG, Place, pattern, receive_all, wait_for};

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a program; `None`, with a word about it, where it is not installed.
fn start(name: &str, arguments: &[&str]) -> Option<Program> {
    let child = Command::new(name).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    match child {
        Ok(child) => Some(Program(child)),
        Err(error) => {
            println!("skipped: {name}: {error}");
            None
        }
    }
}

impl Program {
    /// Writes its whole input.
    fn write(&mut self, bytes: &[u8]) {
        self.0.stdin.take().unwrap().write_all(bytes).unwrap();
    }

    fn lines(&mut self) -> std::io::Lines<BufReader<std::process::ChildStdout>> {
        BufReader::new(self.0.stdout.take().unwrap()).lines()
    }
}

#[test]
fn socat_sends_lines() {
    for options in ["", ",type=5"] {
        let place = Place::new();
        let wire = if options.is_empty() { ",wire=lines" } else { ",wire=raw,type=seqpacket" };
        let mut receiver = Receiver::<[u8]>::open(place.address(Scheme::Unix, wire)).unwrap();
        let path = format!("UNIX-CONNECT:{}{options}", place.path("channel").display());
        let Some(mut socat) = start("socat", &["-u", "-", &path]) else { return };
        socat.write(b"one\n\nlast");
        let received = receive_all(&mut receiver);
        match options {
            "" => assert_eq!(received, [&b"one"[..], b"", b"last"]),
            _ => assert_eq!(received.concat(), b"one\n\nlast"),
        }
    }
}

#[test]
fn socat_receives_lines() {
    let place = Place::new();
    let path = format!("UNIX-LISTEN:{}", place.path("channel").display());
    let Some(mut socat) = start("socat", &["-u", &path, "-"]) else { return };
    let mut sender = Sender::<[u8]>::open_by(place.address(Scheme::Unix, ",wire=lines"), LONG).unwrap();
    sender.send(b"hello").unwrap();
    sender.send(b"").unwrap();
    drop(sender);
    let lines: Vec<String> = socat.lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["hello", ""]);
}

#[test]
fn cat_reads_and_writes_a_pipe() {
    for wire in ["lines", "raw"] {
        let place = Place::new();
        let address = place.address(Scheme::Fifo, &format!(",wire={wire}"));
        let mut receiver = Receiver::<[u8]>::open(&address).unwrap();
        let to = format!("cat > '{}'", place.path("channel").display());
        let mut shell = start("sh", &["-c", &to]).unwrap();
        shell.write(b"one\ntwo\n");
        let received = receive_all(&mut receiver);
        match wire {
            "lines" => assert_eq!(received, [b"one", b"two"]),
            _ => assert_eq!(received.concat(), b"one\ntwo\n"),
        }
        drop(receiver);
        assert!(place.entries().is_empty());

        // The sender makes the pipe and waits for the reader.
        let sending = address.clone();
        let thread = std::thread::spawn(move || {
            Sender::<[u8]>::open_by(&sending, LONG).unwrap().send(&[b'x'; 100_000]).unwrap();
        });
        wait_for("the pipe", || !place.entries().is_empty());
        let mut cat = start("cat", &[place.path("channel").to_str().unwrap()]).unwrap();
        let text: String = cat.lines().map(Result::unwrap).collect();
        assert!(text == "x".repeat(100_000), "{wire}: {} bytes", text.len());
        thread.join().unwrap();
        assert!(place.entries().is_empty(), "narrows' last participant removed it");
    }
}

/// The script of `docs/wire.md`, in a file.
fn script(place: &Place) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wire.md")).unwrap();
    let (_, rest) = page.split_once("```python\n").unwrap();
    let path = place.path("wire.py");
    std::fs::write(&path, rest.split_once("```").unwrap().0).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_pages_python_sends() {
    let place = Place::new();
    let mut receiver = Receiver::<[u8]>::open(place.address(Scheme::Unix, "")).unwrap();
    let path = place.path("channel");
    let arguments = [&script(&place), "send", path.to_str().unwrap(), "one", "", "three\nlines"];
    let Some(_python) = start("python3", &arguments) else { return };
    assert_eq!(receive_all(&mut receiver), [&b"one"[..], b"", b"three\nlines"]);
    assert_eq!(receiver.died(), 0, "it said goodbye");
}

#[test]
fn the_pages_python_receives_what_was_cut_and_given_up() {
    let place = Place::new();
    let path = place.path("channel");
    let Some(mut python) = start("python3", &[&script(&place), "recv", path.to_str().unwrap()]) else {
        return;
    };
    let address = place.address(Scheme::Unix, "");
    let mut sender = Sender::<[u8]>::open_by(&address, LONG).unwrap();
    let large = String::from_utf8(pattern(1, 1 << 20).iter().map(|byte| b'a' + byte % 26).collect()).unwrap();
    sender.send(b"hello").unwrap();
    sender.send(b"").unwrap();
    // Python reads slowly: some of these are given up in the middle.
    let mut expected = vec!["5 hello".to_owned(), "0 ".to_owned()];
    for _ in 0..50 {
        if sender.send_by(large.as_bytes(), std::time::Duration::from_micros(300)).is_ok() {
            expected.push(format!("{} {}", large.len(), &large[..40]));
        }
    }
    sender.send_by(large.as_bytes(), LONG).unwrap();
    expected.push(format!("{} {}", large.len(), &large[..40]));
    drop(sender);
    let lines: Vec<String> = python.lines().map(Result::unwrap).collect();
    assert_eq!(lines, expected);
}
