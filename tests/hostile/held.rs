//! What a peer can hold hostage: places, memory, locks. Deadlines hold, the rest goes on, and death gives all back.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Instant;

use narrows::{Deadline, Error, Receiver, Sender, channel};

use crate::{LONG, Peer, Place, SHORT, listen, outcome, say};

const LARGE: usize = 256 << 10;
/// Where the locks begin that say who is alive, and the one that allows to remove the name (`src/segment`).
const LOCKS: i64 = 1 << 62;
const REMOVAL: i64 = LOCKS + 0xFFFF;

pub(crate) fn part(part: &str, words: &str) -> bool {
    match part {
        "endpoints" => {
            let sender = Sender::<[u8]>::open(words).unwrap();
            let mut all: Vec<_> = std::iter::from_fn(|| sender.try_clone().ok()).collect();
            // One cannot be made any more: all are taken.
            assert!(all.len() > 4 && sender.try_clone().is_err());
            say("ready");
            listen();
            all.clear();
        }
        "memory" => {
            let mut sender = Sender::<[u8]>::open(words).unwrap();
            let loans: Vec<_> = std::iter::from_fn(|| sender.loan_by(LARGE, Deadline::Now).ok()).collect();
            assert!(!loans.is_empty());
            say("ready");
            listen();
        }
        "messages" => {
            let mut receiver = Receiver::<[u8]>::open(words).unwrap();
            let mut held = Vec::new();
            say("ready");
            while held.len() < 3 {
                held.push(receiver.recv_in_place(LONG).unwrap().unwrap());
            }
            say("held");
            listen();
        }
        "one" => {
            let _sender = Sender::<[u8]>::open(words).unwrap();
            say("ready");
            listen();
        }
        "lock" => {
            let mut words = words.split(' ');
            let mut number = || words.next().unwrap().parse().unwrap();
            let (start, len) = (number(), number());
            // The right to read is enough: a shared lock keeps out those that are not.
            let file = File::open(words.next().unwrap()).unwrap();
            // SAFETY: all zero is a valid `flock`.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            (lock.l_type, lock.l_start, lock.l_len) = (libc::F_RDLCK as i16, start, len);
            // SAFETY: the call reads one `flock`.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }, 0);
            say("ready");
            listen();
        }
        _ => return false,
    }
    true
}

/// An operation that cannot end well ends in its time.
#[track_caller]
fn in_time<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
    result
}

#[test]
fn endpoints_that_one_process_takes_are_told_and_come_back() {
    let place = Place::new();
    let (mut sender, mut receiver) = {
        let sender = Sender::<[u8]>::open(place.shm(",participants=3")).unwrap();
        let receiver = sender.receiver().unwrap();
        (sender, receiver)
    };
    let greedy = Peer::start("endpoints", &place.shm("")).ready();
    let refused = in_time(|| outcome(Receiver::<[u8]>::open_by(place.shm(""), SHORT)));
    assert!(refused.starts_with("NoSpace") && refused.contains("12 endpoints"), "{refused}");
    sender.send_by(b"goes on", LONG).unwrap();
    assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"goes on");
    greedy.kill();
    drop(Receiver::<[u8]>::open_by(place.shm(""), LONG).unwrap());
}

#[test]
fn memory_that_is_held_delays_no_one_beyond_his_deadline() {
    for (part, options) in [("memory", ""), ("messages", ""), ("messages", ",ack=release")] {
        let place = Place::new();
        let address = place.shm(&format!(",memory_max=1M{options}"));
        let mut sender = Sender::<[u8]>::open(&address).unwrap();
        let greedy = Peer::start(part, &place.shm("")).ready();
        let greedy = match part {
            "messages" => {
                (0..3).for_each(|_| sender.send_by(&[7; LARGE], LONG).unwrap());
                let mut greedy = greedy;
                assert_eq!(greedy.hear().as_deref(), Some("held"));
                greedy
            }
            _ => greedy,
        };
        // What is left, if anything.
        let taken: Vec<_> = std::iter::from_fn(|| sender.loan_by(LARGE, Deadline::Now).ok()).collect();
        let now = sender.send_by(&[7; LARGE], Deadline::Now);
        assert!(matches!(now, Err(Error::Full { .. })), "{part}{options}: {now:?}");
        let later = in_time(|| sender.send_by(&[7; LARGE], SHORT));
        assert!(matches!(later, Err(Error::TimedOut { .. })), "{part}{options}: {later:?}");
        // A small message needs no chunk, but with ack=release.
        if options.is_empty() {
            sender.send_by(b"small", SHORT).unwrap();
        }
        drop(taken);
        greedy.kill();
        sender.send_by(&[7; LARGE], LONG).unwrap();
        channel::remove(&place.shm("").parse().unwrap()).unwrap();
    }
}

#[test]
fn the_one_senders_place_is_told_and_comes_back() {
    let place = Place::new();
    let mut receiver = Receiver::<[u8]>::open(place.shm(",peers=one")).unwrap();
    let holder = Peer::start("one", &place.shm("")).ready();
    let refused = in_time(|| outcome(Sender::<[u8]>::open_by(place.shm(""), SHORT)));
    assert!(refused.starts_with("Busy") && refused.contains(&holder.child.id().to_string()), "{refused}");
    assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })));
    holder.kill();
    Sender::<[u8]>::open_by(place.shm(""), LONG).unwrap().send_by(b"x", LONG).unwrap();
    assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"x");
}

/// Who may read the file may also lock it: it looks as if all places were taken. Nobody hangs.
#[test]
fn a_strangers_locks_hinder_newcomers_alone() {
    let place = Place::new();
    let path = place.path("shm").display().to_string();
    let (mut sender, mut receiver) = {
        let sender = Sender::<[u8]>::open(place.shm("")).unwrap();
        let receiver = sender.receiver().unwrap();
        (sender, receiver)
    };
    let locker = Peer::start("lock", &format!("{} 1000 {path}", LOCKS + 1)).ready();
    let refused = in_time(|| outcome(Receiver::<[u8]>::open_by(place.shm(""), SHORT)));
    assert!(refused.starts_with("NoSpace") && refused.contains("participants' places"), "{refused}");
    sender.send_by(b"goes on", LONG).unwrap();
    assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"goes on");
    locker.kill();
    drop(Receiver::<[u8]>::open_by(place.shm(""), LONG).unwrap());
}

/// A lock where a dead one's was keeps him from being seen as dead: waits for him end by their deadlines.
#[test]
fn a_strangers_lock_hides_a_death_as_long_as_it_lasts() {
    let place = Place::new();
    let mut receiver = Receiver::<[u8]>::open(place.shm("")).unwrap();
    let dies = Peer::start("one", &place.shm("")).ready();
    // The dead one's place is the second.
    let path = place.path("shm").display().to_string();
    dies.kill();
    let locker = Peer::start("lock", &format!("{} 1 {path}", LOCKS + 1)).ready();
    assert!(matches!(in_time(|| receiver.recv_by(SHORT)), Err(Error::TimedOut { .. })));
    locker.kill();
    assert!(receiver.recv_by(LONG).unwrap().is_none(), "the end");
    assert_eq!(receiver.died(), 1);
}

/// The lock under which names are removed: who holds it keeps the name from going, and is not waited for without end.
#[test]
fn a_name_that_is_kept_by_a_lock_is_told() {
    let place = Place::new();
    let path = place.path("shm").display().to_string();
    let receiver = Receiver::<[u8]>::open(place.shm("")).unwrap();
    let locker = Peer::start("lock", &format!("{REMOVAL} 1 {path}")).ready();
    let refused = in_time(|| outcome(channel::remove(&place.shm("").parse().unwrap())));
    assert!(refused.starts_with("TimedOut"), "{refused}");
    in_time(|| drop(receiver));
    let refused = in_time(|| outcome(Receiver::<[u8]>::open_by(place.shm(""), SHORT)));
    assert!(refused.starts_with("TimedOut"), "{refused}");
    locker.kill();
    drop(Receiver::<[u8]>::open_by(place.shm(""), LONG).unwrap());
    assert!(!place.path("shm").exists());
}
