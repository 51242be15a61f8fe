//! Peers that mean harm: each thing that `docs/security.md` says of them is done here, and what follows is what it says.
//!
//! A hostile peer is a real process: this executable again, as another user where this one is root. What is
//! done with memory that goes away stands in `tests/guard.rs`, with words that are scribbled on in `prove scribbler`, with
//! streams of bytes in `tests/kernel_channels`.

#![allow(clippy::print_stdout)] // peers speak by it, and a skipped test says why

mod held;
mod names;
mod users;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use narrows::Error;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(50);
/// What part a peer plays, and with which words.
const PART: &str = "HOSTILE_PART";
/// Who has no rights: nobody.
const NOBODY: u32 = 65534;

/// Names of one test: in shared memory, and in a folder that everybody may enter.
struct Place {
    name: String,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("narrows-hostile-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("nh-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { name, folder }
    }

    fn path(&self, scheme: &str) -> PathBuf {
        if scheme == "shm" { Path::new("/dev/shm").join(&self.name) } else { self.folder.path().join("x") }
    }

    fn address(&self, scheme: &str, options: &str) -> String {
        match scheme {
            "shm" => format!("shm:{}{options}", self.name),
            scheme => format!("{scheme}:{}{options}", self.path(scheme).display()),
        }
    }

    fn shm(&self, options: &str) -> String {
        self.address("shm", options)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path("shm"));
    }
}

/// Another process; killed when dropped.
struct Peer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(part: &str, words: &str) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), part, words)
    }

    /// As a user without rights, from a copy of this executable that he can reach. `None`: only root can.
    fn start_as_nobody(place: &Place, part: &str, words: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can become another user");
            return None;
        }
        let copy = place.folder.path().join("peer");
        if !copy.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        }
        let mut command = Command::new(copy);
        command.uid(NOBODY).gid(NOBODY);
        Some(Self::start_by(command, part, words))
    }

    fn start_by(mut command: Command, part: &str, words: &str) -> Self {
        command.args(["peer", "--exact", "--ignored", "--nocapture"]).env(PART, format!("{part} {words}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = loop {
            match command.spawn() {
                // What another test forks has the copy open for writing until it execs.
                Err(error)
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy && start.elapsed() < LONG =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                child => break child.unwrap(),
            }
        };
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next thing that it says; `None` where it has ended.
    fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, said)) = line.split_once("@@") {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    #[track_caller]
    fn ready(mut self) -> Self {
        assert_eq!(self.hear().as_deref(), Some("ready"));
        self
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: impl std::fmt::Display) {
    println!("@@{what}");
}

/// Waits to be killed, or until the test is over.
fn listen() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The variant's name and the text, or `ok`.
fn outcome<T>(result: Result<T, Error>) -> String {
    let Err(error) = result else { return "ok".to_owned() };
    let debug = format!("{error:?}");
    let variant = debug.split([' ', '{']).next().unwrap_or_default();
    format!("{variant} {error}")
}

/// What a [`Peer`] does; run as a test it does nothing.
#[test]
#[ignore = "runs inside the other tests' peers"]
fn peer() {
    let Ok(task) = std::env::var(PART) else { return };
    let (part, words) = task.split_once(' ').unwrap();
    // A peer that hangs ends. SAFETY: always sound.
    unsafe { libc::alarm(3 * LONG.as_secs() as u32) };
    let parts = [names::part, held::part, users::part];
    assert!(parts.iter().any(|play| play(part, words)), "no part {part}");
}
