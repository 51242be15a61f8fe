//! Places that clean up after themselves, and this executable run again as another process.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use narrows::{Address, Deadline, Error, Receiver, Scheme, Sender};

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A directory of one test.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// An address in this directory: `scheme` and options, as in `unix:` and `,wire=raw`.
    pub(crate) fn address(&self, scheme: Scheme, options: &str) -> String {
        format!("{}{options}", Address::new(scheme, self.path("channel")).unwrap())
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        let name =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        std::fs::read_dir(self.0.path()).unwrap().map(name).collect()
    }
}

/// Both ends in this process, the receiver first.
pub(crate) fn pair(address: &str) -> (Sender, Receiver) {
    let receiver = Receiver::<[u8]>::open_by(address, LONG).unwrap();
    (Sender::open_by(address, LONG).unwrap(), receiver)
}

/// Waits for a condition; panics when it does not come.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All messages up to the end.
pub(crate) fn receive_all(receiver: &mut Receiver) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(message) = receiver.recv_by(LONG).unwrap() {
        all.push(message.to_vec());
    }
    all
}

/// Bytes that tell which message they belong to and where they stand in it: a period that divides no frame's size.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..4099).map(|at| (seed.wrapping_mul(31) ^ at ^ (at >> 8)) as u8).collect();
    let mut bytes = period.repeat(len.div_ceil(period.len()));
    bytes.truncate(len);
    bytes
}

/// Another process of this executable. Killed when dropped.
pub(crate) struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Runs [`peer`] with a role and an address.
    pub(crate) fn start(role: &str, address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["peers::peer", "--exact", "--ignored", "--nocapture"])
            .env("PEER", format!("{role} {address}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// The next thing that it says.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the peer has ended");
            if let Some((_, said)) = line.split_once("@@") {
                return said.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn tell(&mut self, word: &str) {
        writeln!(self.input.as_mut().unwrap(), "{word}").unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end by itself.
    pub(crate) fn finish(mut self) {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn say(what: impl std::fmt::Display) {
    println!("@@{what}");
}

fn listen() -> Option<String> {
    let mut line = String::new();
    let len = std::io::stdin().read_line(&mut line).unwrap();
    (len > 0).then(|| line.trim_end().to_owned())
}

/// What a [`Peer`] does; run as a test it does nothing.
#[test]
#[ignore = "runs inside the other tests' peers"]
fn peer() {
    let Ok(task) = std::env::var("PEER") else { return };
    // The default disposition, as in a C program: a SIGPIPE would end this process.
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (role, address) = task.split_once(' ').unwrap();
    match role {
        // Opens, says so, and sends "N SIZE" patterns of each line that it is told.
        "sender" => {
            let mut sender = Sender::<[u8]>::open_by(address, LONG).unwrap();
            say("open");
            while let Some(order) = listen() {
                let (count, size) = order.split_once(' ').unwrap();
                for number in 0..count.parse().unwrap() {
                    let message = pattern(number, size.parse().unwrap());
                    if number == 0 {
                        say("sending");
                    }
                    if let Err(error) = sender.send(&message) {
                        return say(error);
                    }
                }
                say("sent");
            }
        }
        "sender-until-gone" => {
            let mut sender = Sender::<[u8]>::open_by(address, LONG).unwrap();
            say("open");
            let error = std::iter::repeat_with(|| sender.send_by(b"x", LONG)).find_map(Result::err);
            say(error.unwrap());
        }
        "receiver" => match Receiver::<[u8]>::open_by(address, Duration::from_secs(1)) {
            Ok(mut receiver) => {
                say("open");
                while let Some(order) = listen() {
                    let message = receiver.recv_by(LONG).unwrap();
                    say(format_args!(
                        "{order} {:?} {}",
                        message.map(|message| message.len()),
                        receiver.died()
                    ));
                }
            }
            Err(error) => say(error),
        },
        // Receives with room for two connections.
        "two-connections" => {
            let mut receiver = Receiver::<[u8]>::open_by(address, LONG).unwrap();
            let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
            let limit = libc::rlimit { rlim_cur: open + 2, rlim_max: open + 2 };
            // SAFETY: reads one `rlimit`.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
            say("open");
            while let Some(message) = receiver.recv_by(LONG).unwrap() {
                say(message[0]);
            }
            say("end");
        }
        // Both ends, and a child that tries them and closes them.
        "forker" => {
            let (mut sender, mut receiver) = pair(address);
            sender.send(b"before").unwrap();
            // SAFETY: libtest's other thread only waits, and the child leaves by `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let sent = sender.send(b"from the child");
                let received = receiver.recv_by(LONG);
                let right =
                    matches!((sent, received), (Err(Error::Forked { .. }), Err(Error::Forked { .. })));
                drop((sender, receiver));
                // SAFETY: always sound.
                unsafe { libc::_exit(i32::from(!right)) };
            }
            let mut status = 0;
            // SAFETY: waits for the child made above.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
            sender.send(b"after").unwrap();
            drop(sender);
            // All that was sent is there; a datagram socket has no end.
            let received = std::iter::from_fn(|| receiver.recv_by(Deadline::Now).ok().flatten()).count();
            say(format_args!("{received} {}", receiver.died()));
        }
        role => panic!("no role {role}"),
    }
}
