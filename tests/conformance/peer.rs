//! The other process: this executable again, which does what it is told, one command after another.
//!
//! Commands come over a Unix socket that is its standard input; each is answered by one line, `ok ...` or
//! `error VARIANT text`. Its standard output is the memory that it inherits, if there is any.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use narrows::channel::InPlace;
use narrows::{Error, Received, Receiver, Sender};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::account::{self, pattern};
use crate::place::{LONG, Place, SHORT};

/// The argument that makes this executable a peer.
pub(crate) const ROLE: &str = "--as-a-peer";

// ---- The side of the test.

thread_local! {
    /// Whether this test killed somebody: then the next opener clears what was left.
    pub(crate) static KILLED: Cell<bool> = const { Cell::new(false) };
}

/// A peer, led by its test. It is killed when this is dropped, and when the test's thread ends.
pub(crate) struct Peer {
    child: Child,
    control: BufReader<UnixStream>,
    address: String,
}

impl Peer {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_by(place, Command::new(std::env::current_exe().expect("this executable")))
    }

    /// A peer of another user, from a copy of the executable that he can reach.
    pub(crate) fn start_as(place: &Place, user: u32, executable: &std::path::Path) -> Self {
        let mut command = Command::new(executable);
        command.uid(user).gid(user);
        Self::start_by(place, command)
    }

    fn start_by(place: &Place, mut command: Command) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_read_timeout(Some(LONG)).expect("a bound");
        let memory = place.memory().map_or(Stdio::null(), Stdio::from);
        command.arg(ROLE).stdin(OwnedFd::from(theirs)).stdout(memory);
        let child = spawn(&mut command);
        Self { child, control: BufReader::new(ours), address: place.peer_address() }
    }

    /// Gives a command without waiting for its answer.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.control.get_mut(), "{command}").expect("the peer lives");
    }

    /// The answer to the oldest command that has none.
    pub(crate) fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let length = self.control.read_line(&mut line).expect("the peer answers in time");
        assert!(length > 0, "the peer ended without an answer");
        let line = line.trim_end();
        line.strip_prefix("ok").map(|text| text.trim().to_owned()).ok_or(line.to_owned())
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        match self.answer() {
            Ok(answer) => answer,
            Err(error) => panic!("{command}: {error}"),
        }
    }

    /// The error that a command gets.
    #[track_caller]
    pub(crate) fn ask_in_vain(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer().expect_err("an error")
    }

    #[track_caller]
    pub(crate) fn sender(&mut self) {
        self.ask(&format!("sender {}", self.address));
    }

    #[track_caller]
    pub(crate) fn receiver(&mut self) {
        self.ask(&format!("receiver {}", self.address));
    }

    /// Tells it to open, which may have to wait for the other side.
    pub(crate) fn tell_open(&mut self, end: &str) {
        self.tell(&format!("{end} {}", self.address));
    }

    /// Lets it send the messages `0..count` of a sender.
    pub(crate) fn tell_send(&mut self, sender: u32, count: u32, size: usize) {
        self.tell(&format!("send {sender} 0 {count} {size}"));
    }

    /// What it received, from its answer to `drain` or `recv`.
    #[track_caller]
    pub(crate) fn received(&mut self) -> account::Received {
        parse(&self.answer().expect("received"))
    }

    /// Kills it by SIGKILL and waits until it is dead. It stays a zombie: that is dead enough.
    pub(crate) fn kill(&mut self) {
        KILLED.set(true);
        self.signal(Signal::KILL);
        let _ =
            rustix::process::waitid(WaitId::Pid(self.pid()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("a signal");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// A copy of the executable may be busy: what another test forks has it open for writing until it execs.
fn spawn(command: &mut Command) -> Child {
    let start = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && start.elapsed() < LONG => {
                std::thread::sleep(Duration::from_millis(1));
            }
            child => return child.expect("a peer"),
        }
    }
}

impl Drop for Peer {
    /// Hangs up, which ends it in order; kills it where it is stopped or does not listen.
    fn drop(&mut self) {
        let _ = self.control.get_ref().shutdown(Shutdown::Both);
        let start = Instant::now();
        while !std::thread::panicking()
            && start.elapsed() < SHORT * 10
            && matches!(self.child.try_wait(), Ok(None))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `1:0 1:1 end` as pairs; a redelivered one is `1:0!`.
pub(crate) fn parse(answer: &str) -> account::Received {
    let pair = |word: &str| {
        let (sender, number) = word.trim_end_matches('!').split_once(':')?;
        Some((sender.parse().ok()?, number.parse().ok()?))
    };
    answer.split(' ').filter_map(pair).collect()
}

// ---- The side of the peer.

#[derive(Default)]
struct Puppet {
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    held: VecDeque<Received>,
    in_place: VecDeque<InPlace>,
    loans: Vec<narrows::channel::Loan>,
}

type Outcome = Result<String, Box<dyn std::error::Error>>;

/// Serves commands until the test hangs up.
pub(crate) fn serve() -> ExitCode {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).expect("a socket");
    let mut answers = socket.try_clone().expect("a socket");
    let mut puppet = Puppet::default();
    for command in BufReader::new(socket).lines().map_while(Result::ok) {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match puppet.obey(&words) {
            Ok(answer) => format!("ok {answer}\n"),
            Err(error) => format!("error {}\n", describe(&*error)),
        };
        if answers.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// The variant's name, then the text.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let name = error.downcast_ref::<Error>().map(|error| format!("{error:?}")).unwrap_or_default();
    let name = name.split([' ', '{']).next().unwrap_or_default();
    format!("{name} {error}").replace('\n', " ")
}

impl Puppet {
    fn obey(&mut self, words: &[&str]) -> Outcome {
        match *words {
            ["sender", address] => self.sender = Some(Sender::open_by(address, LONG)?),
            ["receiver", address] => self.receiver = Some(Receiver::open_by(address, LONG)?),
            ["close"] => drop((self.sender.take(), self.receiver.take())),
            ["send", sender, first, count, size] => {
                let first = first.parse::<u32>()?;
                for number in first..first + count.parse::<u32>()? {
                    let message = account::message(sender.parse()?, number, size.parse()?);
                    self.sender()?.send_by(&message, LONG)?;
                }
            }
            ["pattern", size, seed] => {
                self.sender()?.send_by(&pattern(size.parse()?, seed.parse()?), LONG)?;
            }
            ["deliver", sender, number, size] => {
                let message = account::message(sender.parse()?, number.parse()?, size.parse()?);
                self.sender()?.send_delivered(&message, LONG)?;
            }
            ["flood", sender, size] => self.flood(sender.parse()?, size.parse()?)?,
            ["recv", count] => return self.receive(count.parse()?, None),
            ["drain"] => return self.receive(usize::MAX, None),
            ["drain", log] => return self.receive(usize::MAX, Some(File::create(log)?)),
            ["hold"] => {
                let message = self.receiver()?.recv_by(LONG)?.ok_or("the end")?;
                let answer = label(&message, message.redelivered())?;
                self.held.push_back(message);
                return Ok(answer);
            }
            ["hold-in-place"] => {
                let message = self.receiver()?.recv_in_place(LONG)?.ok_or("the end")?;
                self.in_place.push_back(message);
            }
            ["release"] => {
                self.held.clear();
                self.in_place.clear();
            }
            ["loan", size] => {
                let loan = self.sender()?.loan(size.parse()?)?;
                self.loans.push(loan);
            }
            ["died"] => return Ok(self.receiver()?.died().to_string()),
            _ => return Err(format!("unknown command {words:?}").into()),
        }
        Ok(String::new())
    }

    fn sender(&mut self) -> Result<&mut Sender, &'static str> {
        self.sender.as_mut().ok_or("no sender is open")
    }

    fn receiver(&mut self) -> Result<&mut Receiver, &'static str> {
        self.receiver.as_mut().ok_or("no receiver is open")
    }

    /// Sends until it is killed.
    fn flood(&mut self, sender: u32, size: usize) -> Result<(), Box<dyn std::error::Error>> {
        for number in 0.. {
            self.sender()?.send_by(&account::message(sender, number, size), LONG)?;
        }
        Ok(())
    }

    /// Receives so many, or up to the end; writes each down before it takes the next, if there is a log.
    fn receive(&mut self, count: usize, mut log: Option<File>) -> Outcome {
        let mut answer = String::new();
        for _ in 0..count {
            let Some(message) = self.receiver()?.recv_by(LONG)? else {
                answer.push_str("end");
                break;
            };
            let label = label(&message, message.redelivered())?;
            if let Some(log) = &mut log {
                log.write_all(format!("{label} ").as_bytes())?;
            }
            write!(answer, "{label} ")?;
        }
        Ok(answer)
    }
}

fn label(message: &[u8], redelivered: bool) -> Result<String, String> {
    let (sender, number) = account::read(message)?;
    Ok(format!("{sender}:{number}{}", if redelivered { "!" } else { "" }))
}
