//! Memory that goes away under a process: `Corrupt` with the guard, death by SIGBUS without.
//!
//! Peers are real processes: this executable again, which does its part until it gets an error and says it.

#![allow(clippy::print_stdout)] // peers speak by it

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use narrows::{Deadline, Error, Receiver, Region, Sender, channel, guard};
use rustix::fs::{FallocateFlags, fallocate};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);
const LARGE: usize = 1 << 20;

/// A channel of one test, in shared memory.
struct Place(String);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("narrows-guard-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn address(&self, options: &str) -> String {
        format!("shm:{}{options}", self.0)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/dev/shm").join(&self.0)
    }

    /// Cuts the file under whoever uses it.
    fn cut(&self, len: u64) {
        File::options().write(true).open(self.path()).unwrap().set_len(len).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

/// Another process; killed when dropped.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(part: &str, address: &str, guarded: bool) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), part, address, guarded)
    }

    fn start_by(mut command: Command, part: &str, address: &str, guarded: bool) -> Self {
        command.args(["peer", "--exact", "--ignored", "--nocapture"]);
        command.env("GUARD_PART", format!("{part} {guarded} {address}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut peer = Self { child, input, output };
        assert_eq!(peer.hear().as_deref(), Some("ready"), "{part}");
        peer
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

    fn go_on(&mut self) {
        writeln!(self.input, "go on").unwrap();
    }

    /// It gets the error that it should, and ends in order.
    #[track_caller]
    fn assert_told(mut self, what: &str) {
        let said = self.hear().unwrap_or_else(|| panic!("{what}: {:?}", self.child.wait()));
        assert!(said.contains("is corrupt: it was truncated"), "{what}: {said}");
        assert!(self.child.wait().unwrap().success(), "{what}: it ends in order");
    }

    /// It dies of the signal.
    #[track_caller]
    fn assert_dies(mut self, what: &str) {
        assert_eq!(self.hear(), None, "{what}");
        assert_eq!(self.child.wait().unwrap().signal(), Some(libc::SIGBUS), "{what}");
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

fn listen() {
    let mut line = [0; 6];
    std::io::stdin().read_exact(&mut line).unwrap();
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- The parts of a peer.

/// What a [`Peer`] does; run as a test it does nothing.
#[test]
#[ignore = "runs inside the other tests' peers"]
fn peer() {
    let Ok(task) = std::env::var("GUARD_PART") else { return };
    let mut words = task.splitn(3, ' ');
    let (part, guarded, address) =
        (words.next().unwrap(), words.next() == Some("true"), words.next().unwrap());
    // A peer that hangs ends. SAFETY: always sound.
    unsafe { libc::alarm(LONG.as_secs() as u32) };
    // Deaths are quick without a core dump.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
    if part == "own-handler" {
        // SAFETY: the handler makes system calls alone.
        unsafe { libc::signal(libc::SIGBUS, own_handler as *const () as usize) };
    }
    if part == "sent" {
        // SAFETY: as it is in programs of other languages: Rust's own handler swallows the first that is sent.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
    if guarded {
        guard::install();
        guard::install();
    }
    match part {
        "recv" | "recv-now" => {
            let mut receiver = Receiver::<[u8]>::open(address).unwrap();
            say("ready");
            say(loop {
                let until = if part == "recv" { Deadline::Never } else { Deadline::Now };
                match receiver.recv_by(until) {
                    Ok(Some(_)) | Err(Error::TimedOut { .. }) => {}
                    Ok(None) => panic!("the end"),
                    Err(error) => break error,
                }
            });
            assert!(matches!(receiver.recv_by(Deadline::Now), Err(Error::Corrupt { .. })), "it stays so");
        }
        "send" | "send-large" => {
            let mut sender = Sender::<[u8]>::open(address).unwrap();
            let message = vec![b'x'; if part == "send" { 32 } else { LARGE }];
            say("ready");
            say(std::iter::repeat_with(|| sender.send(&message)).find_map(Result::err).unwrap());
            assert!(matches!(sender.send_by(&message, Deadline::Now), Err(Error::Corrupt { .. })));
            assert!(matches!(sender.loan(LARGE), Err(Error::Corrupt { .. })));
        }
        "threads" => threads(address),
        "hold" => {
            let mut receiver = Receiver::<[u8]>::open(address).unwrap();
            let message = receiver.recv_in_place(LONG).unwrap().unwrap();
            say("ready");
            listen();
            let mut bytes = vec![1; LARGE];
            message.read_at(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0), "the view reads as zeros");
            message.read_at(0, &mut bytes);
            drop(message);
            say(receiver.recv().unwrap_err());
        }
        "loan" => {
            let mut sender = Sender::<[u8]>::open(address).unwrap();
            let mut loan = sender.loan(LARGE).unwrap();
            say("ready");
            listen();
            loan.write_at(0, &[7; LARGE]);
            say(Error::from(sender.commit(loan).unwrap_err()));
        }
        "region" => {
            let region = Region::open(address).unwrap();
            let mut bytes = [0; 8];
            region.read_at(0, &mut bytes).unwrap();
            say("ready");
            listen();
            let error = region.read_at(region.len() - 8, &mut bytes).unwrap_err();
            assert_eq!(region.write_at(0, &bytes), Err(error.clone()));
            assert!(region.atomic_u32(0).is_err());
            say(error);
        }
        "status" => {
            say("ready");
            let address = address.parse().unwrap();
            say(loop {
                match channel::status(&address).and_then(|_| channel::check(&address, channel::Moment::Any)) {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            });
        }
        "hole" => hole(address),
        "child" => child(address),
        "many" => many(address),
        "foreign" | "own-handler" => foreign(address),
        "sent" => {
            say("ready");
            // SAFETY: always sound.
            unsafe { libc::raise(libc::SIGBUS) };
        }
        part => panic!("no part {part}"),
    }
}

/// Four receivers and four senders on one mapping, which all touch what is gone at once.
fn threads(address: &str) {
    let sender = Sender::<[u8]>::open(address).unwrap();
    let mut receiver = sender.receiver().unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (mut sender, mut receiver) = (sender.try_clone().unwrap(), receiver.try_clone().unwrap());
                scope.spawn(move || match number % 2 {
                    0 => std::iter::repeat_with(|| sender.send(&[0; 100])).find_map(Result::err).unwrap(),
                    _ => std::iter::repeat_with(|| receiver.recv()).find_map(Result::err).unwrap(),
                })
            })
            .collect();
        say("ready");
        let mut errors: Vec<Error> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        errors.dedup();
        assert_eq!(errors.len(), 1, "{errors:?}");
        say(&errors[0]);
    });
    assert!(sender.try_clone().is_err() && receiver.recv().is_err());
}

/// In a small `/dev/shm` of its own: fills it, and makes a hole where messages lie.
fn hole(address: &str) {
    let (mut sender, name) = (Sender::<[u8]>::open(address).unwrap(), address.trim_start_matches("shm:"));
    sender.send(b"before").unwrap();
    say("ready");
    let segment = File::options().write(true).open(format!("/dev/shm/{name}")).unwrap();
    let mut filling = File::create("/dev/shm/filling").unwrap();
    fallocate(&segment, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 96 << 10).unwrap();
    while filling.write_all(&[1; 4096]).is_ok() {}
    say(std::iter::repeat_with(|| sender.send(b"after")).find_map(Result::err).unwrap());
}

/// A child of a guarded process is guarded in its own mappings.
fn child(address: &str) {
    let mut before = Receiver::<[u8]>::open(address).unwrap();
    say("ready");
    listen();
    // SAFETY: libtest's other thread only waits, and the child leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        assert!(matches!(before.recv_by(Deadline::Now), Err(Error::Forked { .. })));
        let place = Place::new();
        let mut own = Receiver::<[u8]>::open(place.address("").as_str()).unwrap();
        drop(before);
        place.cut(0);
        let told = matches!(own.recv(), Err(Error::Corrupt { .. }));
        drop((own, place));
        // SAFETY: always sound.
        unsafe { libc::_exit(i32::from(!told)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child was told");
    say(before.recv().unwrap_err());
}

/// More mappings than are guarded: those in excess are used as ever, and their places are given again.
fn many(address: &str) {
    let limit = rustix::process::Rlimit { current: Some(4096), maximum: Some(4096) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let place = Place::new();
    let own = place.address("");
    let (mut sender, mut receiver) =
        (Sender::<[u8]>::open(own.as_str()).unwrap(), Receiver::<[u8]>::open(own.as_str()).unwrap());
    let mut regions: Vec<Region> = (0..2100).map(|_| Region::open(address).unwrap()).collect();
    let mut bytes = [0; 8];
    assert!(regions.iter().all(|region| region.read_at(0, &mut bytes).is_ok()));
    regions.truncate(1000);
    sender.send(b"not forked").unwrap();
    assert!(receiver.recv().unwrap().is_some());
    regions.push(Region::open(address).unwrap());
    say("ready");
    listen();
    let mut errors = regions.iter().map(|region| region.read_at(0, &mut bytes).unwrap_err());
    let first = errors.next().unwrap();
    assert!(errors.all(|error| error == first));
    say(first);
}

/// Touches a mapping that is none of narrows', beside one that is, and was there before.
fn foreign(address: &str) {
    drop(Receiver::<[u8]>::open(address).unwrap());
    let file = tempfile::tempfile().unwrap();
    file.set_len(LARGE as u64).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a new mapping, which nothing else uses.
    let base =
        unsafe { libc::mmap(std::ptr::null_mut(), LARGE, protection, libc::MAP_SHARED, descriptor, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    let _channel = Receiver::<[u8]>::open(address).unwrap();
    file.set_len(0).unwrap();
    say("ready");
    // SAFETY: mapped; what it raises is the point.
    unsafe { base.cast::<u8>().read_volatile() };
    say("went on");
}

extern "C" fn own_handler(_: libc::c_int) {
    // SAFETY: both are allowed in a handler.
    unsafe {
        libc::write(1, b"@@mine\n".as_ptr().cast(), 7);
        libc::_exit(0);
    }
}

// ---- The tests.

/// Lengths to cut to: all of it, all but the header's page, in the midst of what is reserved at birth.
const LENGTHS: [u64; 3] = [0, 4096, 40_000];

#[test]
fn a_receiver_is_told_asleep_watching_and_looking() {
    for (part, options) in [
        ("recv", ""),
        ("recv", ",wait=spin"),
        ("recv", ",wait=sleep"),
        ("recv", ",peers=one"),
        ("recv", ",ack=release"),
        ("recv-now", ""),
    ] {
        for len in LENGTHS {
            let place = Place::new();
            let peer = Peer::start(part, &place.address(options), true);
            place.cut(len);
            peer.assert_told(&format!("{part}{options} {len}"));
        }
    }
}

#[test]
fn a_sender_is_told_that_waits_for_room_or_for_memory() {
    for (part, options, depth) in [
        ("send", ",capacity=64", 64),
        ("send", ",capacity=64,peers=one", 64),
        ("send", ",capacity=64,wait=spin", 64),
        ("send-large", ",capacity=64,memory_max=4M", 3),
    ] {
        for len in LENGTHS {
            let place = Place::new();
            let peer = Peer::start(part, &place.address(options), true);
            let address = place.address("").parse().unwrap();
            eventually("it is full", || channel::status(&address).unwrap().depth >= depth);
            place.cut(len);
            peer.assert_told(&format!("{part}{options} {len}"));
        }
    }
}

#[test]
fn both_sides_of_a_stream_are_told() {
    for (part, options) in
        [("send", ""), ("send", ",peers=one"), ("send-large", ""), ("send-large", ",ack=release")]
    {
        for len in LENGTHS {
            let place = Place::new();
            let address = place.address(options);
            let (receiver, sender) = (Peer::start("recv", &address, true), Peer::start(part, &address, true));
            let address = place.address("").parse().unwrap();
            eventually("messages flow", || channel::status(&address).unwrap().sent > 100);
            place.cut(len);
            sender.assert_told(&format!("{part}{options} {len}"));
            receiver.assert_told(&format!("recv{options} {len}"));
        }
    }
}

#[test]
fn threads_of_one_mapping_are_all_told() {
    for _ in 0..5 {
        let place = Place::new();
        let peer = Peer::start("threads", &place.address(",capacity=16"), true);
        place.cut(0);
        peer.assert_told("threads");
    }
}

#[test]
fn views_in_place_read_zeros_and_the_next_step_tells() {
    for part in ["hold", "loan"] {
        for len in LENGTHS {
            let place = Place::new();
            let mut sender = Sender::<[u8]>::open(place.address("").as_str()).unwrap();
            sender.send(&[9; LARGE]).unwrap();
            let mut peer = Peer::start(part, &place.address(""), true);
            // It must not be touched here any more, not even to close it.
            std::mem::forget(sender);
            place.cut(len);
            peer.go_on();
            peer.assert_told(&format!("{part} {len}"));
        }
    }
}

#[test]
fn a_region_tells_too() {
    let place = Place::new();
    Region::create(place.address("").as_str(), 100_000).unwrap();
    let mut peer = Peer::start("region", &place.address(""), true);
    place.cut(5000);
    peer.go_on();
    peer.assert_told("region");
}

#[test]
fn two_thousand_mappings_are_guarded_and_more_are_used() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < 4096) {
        return println!("SKIPPED: a process may have no more than {hard:?} descriptors");
    }
    let place = Place::new();
    Region::create(place.address("").as_str(), 8192).unwrap();
    let mut peer = Peer::start("many", &place.address(""), true);
    place.cut(0);
    peer.go_on();
    peer.assert_told("many");
}

#[test]
fn who_looks_from_outside_is_told() {
    let place = Place::new();
    let keeper = Peer::start("recv", &place.address(""), true);
    let mut peer = Peer::start("status", &place.address(""), true);
    place.cut(8192);
    // The file may be found cut when it is opened next.
    let said = peer.hear().unwrap();
    assert!(said.contains("is corrupt: it"), "{said}");
    assert!(peer.child.wait().unwrap().success());
    keeper.assert_told("recv");
}

#[test]
fn a_hole_that_finds_no_room_is_told() {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs -o size=1m none /dev/shm && exec \"$@\"", "sh"]);
    let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/dev/shm"]).output();
    if !may.is_ok_and(|may| may.status.success()) {
        return println!("SKIPPED: no right to mount a /dev/shm of its own");
    }
    for guarded in [true, false] {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -t tmpfs -o size=1m none /dev/shm && exec \"$@\"", "sh"]);
        command.arg(std::env::current_exe().unwrap());
        let peer = Peer::start_by(command, "hole", "shm:hole", guarded);
        if guarded { peer.assert_told("hole") } else { peer.assert_dies("hole") }
    }
}

#[test]
fn a_forked_child_is_guarded_in_what_it_opens_itself() {
    let place = Place::new();
    let mut peer = Peer::start("child", &place.address(""), true);
    peer.go_on();
    place.cut(0);
    peer.assert_told("child");
}

#[test]
fn without_the_guard_it_dies() {
    for (part, options) in [("recv", ",wait=spin"), ("hold", ""), ("region", "")] {
        let place = Place::new();
        match part {
            "region" => drop(Region::create(place.address("").as_str(), 100_000).unwrap()),
            "hold" => {
                let mut sender = Sender::<[u8]>::open(place.address("").as_str()).unwrap();
                sender.send(&[9; LARGE]).unwrap();
                std::mem::forget(sender);
            }
            _ => {}
        }
        let mut peer = Peer::start(part, &place.address(options), false);
        place.cut(0);
        let _ = writeln!(peer.input, "go on");
        peer.assert_dies(part);
    }
}

/// What is none of ours goes where it went before.
#[test]
fn other_faults_are_passed_on() {
    for guarded in [true, false] {
        let place = Place::new();
        Peer::start("foreign", &place.address(""), guarded).assert_dies("a fault elsewhere");
        Peer::start("sent", &place.address(""), guarded).assert_dies("a signal that is sent");
        let mut own = Peer::start("own-handler", &place.address(""), guarded);
        assert_eq!(own.hear().as_deref(), Some("mine"), "the handler from before is called");
        assert!(own.child.wait().unwrap().success());
    }
}
