//! Another user: what the permissions of a name let him do, and what not.

use std::fs::File;

use narrows::{Deadline, Error, Receiver, Region, Sender, channel, guard};

use crate::{LONG, Peer, Place, SHORT, listen, outcome, say};

pub(crate) fn part(part: &str, words: &str) -> bool {
    let parsed = || words.parse().unwrap();
    match part {
        "every-verb" => {
            say(outcome(Sender::<[u8]>::open_by(words, SHORT)));
            say(outcome(Receiver::<[u8]>::open_by(words, SHORT)));
            say(outcome(channel::status(&parsed())));
            say(outcome(channel::remove(&parsed())));
            say(outcome(Region::open(words)));
        }
        "socket-verbs" => {
            say(outcome(Sender::<[u8]>::open_by(words, SHORT)));
            say(outcome(Receiver::<[u8]>::open_by(words, SHORT)));
        }
        "visit" => {
            let mut receiver = Receiver::<[u8]>::open_by(words, LONG).unwrap();
            say("ready");
            while let Ok(Some(_)) = receiver.recv_by(LONG) {}
            drop(receiver);
            say("left");
            say(outcome(Sender::<[u8]>::open_by(words, SHORT)));
        }
        "cut" => {
            let name = words.trim_start_matches("shm:");
            let file = File::options().write(true).open(format!("/dev/shm/{name}"));
            say(if file.and_then(|file| file.set_len(0)).is_ok() { "cut" } else { "refused" });
        }
        "remove" => say(outcome(channel::remove(&parsed()))),
        "make" => {
            let _theirs = Receiver::<[u8]>::open(words).unwrap();
            say("ready");
            listen();
        }
        _ => return false,
    }
    true
}

/// What nobody's attempts come to, in order.
fn attempts<const N: usize>(place: &Place, part: &str, address: &str) -> Option<[String; N]> {
    let mut peer = Peer::start_as_nobody(place, part, address)?;
    Some(std::array::from_fn(|_| peer.hear().unwrap()))
}

fn variants<const N: usize>(said: &[String; N]) -> [&str; N] {
    said.each_ref().map(|said| said.split(' ').next().unwrap_or_default())
}

/// 600: nothing. 604: a look. 606 and more: everything but to remove what is another's.
#[test]
fn the_mode_says_what_another_user_may() {
    for (mode, expected) in [
        ("600", ["Permission"; 5]),
        ("604", ["Permission", "Permission", "ok", "Permission", "Permission"]),
        ("666", ["ok", "ok", "ok", "Permission", "ok"]),
    ] {
        let place = Place::new();
        let mut owner = Receiver::<[u8]>::open(place.shm(&format!(",mode={mode}"))).unwrap();
        let Some(said) = attempts::<5>(&place, "every-verb", &place.shm("")) else { return };
        assert_eq!(variants(&said), expected, "mode {mode}: {said:#?}");
        for refused in said.iter().filter(|said| said.starts_with("Permission")) {
            assert!(refused.contains("uid 0"), "it says whose it is: {refused}");
        }
        // Nothing that he did hinders those who may.
        Sender::<[u8]>::open_by(place.shm(""), LONG).unwrap().send_by(b"x", LONG).unwrap();
        assert_eq!(&*owner.recv_by(LONG).unwrap().unwrap(), b"x", "mode {mode}");
    }
}

#[test]
fn a_sockets_mode_says_who_may_connect() {
    for (mode, expected) in [("600", "Permission"), ("666", "ok")] {
        let place = Place::new();
        let _receiver = Receiver::<[u8]>::open(place.address("unix", &format!(",mode={mode}"))).unwrap();
        let Some(said) = attempts::<2>(&place, "socket-verbs", &place.address("unix", "")) else { return };
        assert_eq!(variants(&said)[0], expected, "mode {mode}: {said:#?}");
        assert_ne!(variants(&said)[1], "ok", "the name is taken: {said:#?}");
    }
}

/// In a sticky directory another user may not remove the name: who leaves last leaves it usable, too.
#[test]
fn another_user_who_leaves_last_closes_no_channel() {
    let place = Place::new();
    let owner = Sender::<[u8]>::open(place.shm(",mode=666")).unwrap();
    let Some(peer) = Peer::start_as_nobody(&place, "visit", &place.shm("")) else { return };
    let mut peer = peer.ready();
    drop(owner);
    assert_eq!(peer.hear().as_deref(), Some("left"));
    assert_eq!(peer.hear().as_deref(), Some("ok"), "he opens it again");
    drop(Receiver::<[u8]>::open_by(place.shm(""), LONG).unwrap());
    assert!(!place.path("shm").exists(), "its owner takes it away");
}

/// Who may not take the name away does not take the channel away from those who use it.
#[test]
fn a_removal_that_is_refused_changes_nothing() {
    let place = Place::new();
    let mut owner = Receiver::<[u8]>::open(place.shm(",mode=666")).unwrap();
    let Some([said]) = attempts(&place, "remove", &place.shm("")) else { return };
    assert!(said.starts_with("Permission"), "{said}");
    let Some([said]) = attempts(&place, "remove", &place.shm("")) else { return };
    assert!(said.starts_with("Permission"), "{said}");
    Sender::<[u8]>::open_by(place.shm(""), LONG).unwrap().send_by(b"x", LONG).unwrap();
    assert_eq!(&*owner.recv_by(LONG).unwrap().unwrap(), b"x", "the same channel as before");
}

/// Write permission is enough to cut the file; only the guard stands between that and SIGBUS.
#[test]
fn who_may_write_may_cut_and_the_guard_tells() {
    guard::install();
    for (mode, expected) in [("666", "cut"), ("604", "refused")] {
        let place = Place::new();
        let mut owner = Receiver::<[u8]>::open(place.shm(&format!(",mode={mode}"))).unwrap();
        let Some([said]) = attempts(&place, "cut", &place.shm("")) else { return };
        assert_eq!(said, expected, "mode {mode}");
        let received = owner.recv_by(Deadline::Now);
        match expected {
            "cut" => assert!(matches!(received, Err(Error::Corrupt { .. })), "{received:?}"),
            _ => assert!(matches!(received, Err(Error::TimedOut { .. })), "{received:?}"),
        }
    }
}

/// Another user's channel is opened where he allows it; whose it is, is told.
#[test]
fn a_squatter_of_another_user_is_seen() {
    let place = Place::new();
    let Some(peer) = Peer::start_as_nobody(&place, "make", &place.shm(",mode=666")) else { return };
    let _peer = peer.ready();
    assert_eq!(channel::status(&place.shm("").parse().unwrap()).unwrap().uid, crate::NOBODY);
    let refused = Sender::<[u8]>::open_by(place.shm(",create=only"), SHORT).err();
    assert!(matches!(refused, Some(Error::Busy { .. })), "{refused:?}");
}
