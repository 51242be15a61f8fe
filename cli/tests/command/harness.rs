//! Starts the command, waits with a bound, and leaves nothing behind.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes, however loaded the machine is.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// The command under test.
pub(crate) const NARROWS: &str = env!("CARGO_BIN_EXE_narrows");

/// The command, with every signal as it is by default: a caller in the background may have made Ctrl-C ignored.
pub(crate) fn command() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", NARROWS]);
    command
}

/// Names that no other test uses; what still has them at the end fails the test.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    name: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{:05}{number:02}", std::process::id() % 100_000);
        Self { directory: tempfile::tempdir().unwrap(), name }
    }

    /// An eight-letter name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn shm(&self) -> String {
        format!("shm:{}", self.name)
    }

    /// An address of each transport that two strangers can meet at.
    pub(crate) fn every_address(&self) -> [String; 4] {
        let directory = self.directory.path().display();
        [
            self.shm(),
            format!("file:{directory}/file"),
            format!("unix:{directory}/socket"),
            format!("fifo:{directory}/fifo"),
        ]
    }

    /// What there is in shared memory of this place's name.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = std::fs::read_dir("/dev/shm").unwrap().filter_map(|entry| entry.ok());
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.contains(&self.name)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.leftovers();
        for name in &left {
            let _ = std::fs::remove_file(format!("/dev/shm/{name}"));
        }
        assert!(std::thread::panicking() || left.is_empty(), "left behind: {left:?}");
    }
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Its standard output, where it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Vec<u8> {
        assert!(self.status.success(), "{}: {}", self.status, self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{:?} {}", String::from_utf8_lossy(&self.out), self.err);
        self
    }
}

/// A command that runs; killed where the test ends first.
pub(crate) struct Running {
    child: Child,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts `narrows` with standard input as given and both outputs collected.
    pub(crate) fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: Stdio) -> Self {
        Self::spawn(command().args(arguments).stdin(input).stdout(Stdio::piped()))
    }

    /// Starts any command whose standard output is collected if it is piped.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().map(collect);
        let err = child.stderr.take().map(collect);
        Self { child, out, err }
    }

    /// Writes to its standard input and closes it.
    pub(crate) fn feed(mut self, input: &[u8]) -> Self {
        let mut stdin = self.child.stdin.take().unwrap();
        // It may have refused its arguments and gone.
        let _ = stdin.write_all(input);
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn said(mut self) -> Said {
        until("the command ends", || self.child.try_wait().unwrap().is_some());
        let status = self.child.wait().unwrap();
        let out = self.out.take().map_or_else(Vec::new, |out| out.join().unwrap());
        let err = self.err.take().map_or_else(Vec::new, |err| err.join().unwrap());
        Said { status, out, err: String::from_utf8(err).unwrap() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Starts `narrows` with nothing on its standard input.
pub(crate) fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
    Running::start(arguments, Stdio::null())
}

/// Runs `narrows` to its end with nothing on its standard input.
#[track_caller]
pub(crate) fn narrows(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
    start(arguments).said()
}

/// Runs `narrows` to its end on an input.
#[track_caller]
pub(crate) fn narrows_on(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Said {
    Running::start(arguments, Stdio::piped()).feed(input).said()
}

/// Runs a line of shell in which `narrows` is the command under test.
#[track_caller]
pub(crate) fn shell(line: &str) -> Said {
    let directory = std::path::Path::new(NARROWS).parent().unwrap().display();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped());
    Running::spawn(&mut command).said()
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < BOUND, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a channel in memory has as many `senders` or `receivers`.
#[track_caller]
pub(crate) fn until_peers(address: &str, which: &str, count: u64) {
    until(which, || {
        let said = narrows(["ls", address, "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&said.out).unwrap_or_default();
        json[which] == count
    });
}
