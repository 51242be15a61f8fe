//! Names: their permissions, who stands there first, and where a link leads.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use narrows::{Error, Receiver, Sender, channel};
use rustix::fs::Mode;

use crate::{LONG, Peer, Place, SHORT, listen, outcome, say};

pub(crate) fn part(part: &str, words: &str) -> bool {
    match part {
        "umask" => {
            let (umask, address) = words.split_once(' ').unwrap();
            rustix::process::umask(Mode::from_raw_mode(u32::from_str_radix(umask, 8).unwrap()));
            let _receiver = Receiver::<[u8]>::open(address).unwrap();
            say("ready");
            listen();
        }
        "squat" => {
            let _squatter = Receiver::<[u8]>::open(words).unwrap();
            say("ready");
            listen();
        }
        _ => return false,
    }
    true
}

/// What each scheme makes has the mode that was asked for, from its first instant on no more than that.
#[test]
fn the_umask_neither_opens_nor_closes_a_name() {
    for scheme in ["shm", "file", "fifo", "unix"] {
        for umask in ["0", "77", "777"] {
            for (options, mode) in [("", 0o600), (",mode=640", 0o640), (",mode=666", 0o666)] {
                let place = Place::new();
                let address = place.address(scheme, options);
                let _peer = Peer::start("umask", &format!("{umask} {address}")).ready();
                let found = place.path(scheme).metadata().unwrap().mode() & 0o777;
                assert_eq!(found, mode, "{address} under umask {umask}: {found:o}");
            }
        }
    }
}

/// What may stand at a name before it is opened.
const SQUATTERS: [&str; 6] = ["link", "dangling link", "directory", "pipe", "socket", "text"];

fn squat(what: &str, path: &Path, aside: &Path) {
    match what {
        "link" => {
            std::fs::write(aside, "precious").unwrap();
            symlink(aside, path).unwrap();
        }
        "dangling link" => symlink(aside, path).unwrap(),
        "directory" => std::fs::create_dir(path).unwrap(),
        "pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::from_raw_mode(0o600)).unwrap(),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        _ => std::fs::write(path, "text").unwrap(),
    }
}

/// A name that leads elsewhere is refused: nothing is opened, made, changed or removed through it.
#[test]
fn what_stands_at_a_name_is_neither_used_nor_harmed() {
    for scheme in ["shm", "file", "fifo", "unix"] {
        for what in SQUATTERS {
            // What it is made for.
            if matches!((scheme, what), ("fifo", "pipe") | ("unix", "socket")) {
                continue;
            }
            let place = Place::new();
            let (path, aside) = (place.path(scheme), place.folder.path().join("aside"));
            squat(what, &path, &aside);
            let before = path.symlink_metadata().unwrap();
            let address = place.address(scheme, "");
            let opened = [
                Receiver::<[u8]>::open_by(&address, SHORT).err(),
                Sender::<[u8]>::open_by(&address, SHORT).err(),
            ];
            for error in opened {
                let is_right = match error {
                    Some(Error::WrongKind { .. } | Error::Corrupt { .. }) => true,
                    // A socket that does not exist is waited for, also behind a link.
                    Some(Error::TimedOut { .. }) => scheme == "unix" && what == "dangling link",
                    _ => false,
                };
                assert!(is_right, "{address}, a {what}: {error:?}");
            }
            let after = path.symlink_metadata().unwrap();
            assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()), "{scheme}, a {what}");
            match what {
                "link" => assert_eq!(std::fs::read(&aside).unwrap(), b"precious"),
                "dangling link" => assert!(!aside.exists(), "{scheme}: made through a link"),
                "directory" => std::fs::remove_dir(&path).unwrap(),
                "text" => assert_eq!(std::fs::read(&path).unwrap(), b"text"),
                _ => assert!(!after.file_type().is_file()),
            }
        }
    }
}

/// A link to a real channel is no way to it: whoever may set links could send each opener to a channel of his choice.
#[test]
fn a_link_to_a_channel_is_refused() {
    for scheme in ["shm", "file", "fifo", "unix"] {
        let (place, other) = (Place::new(), Place::new());
        let _channel = Receiver::<[u8]>::open(other.address(scheme, "")).unwrap();
        symlink(other.path(scheme), place.path(scheme)).unwrap();
        let receiver = Receiver::<[u8]>::open_by(place.address(scheme, ""), SHORT);
        assert!(matches!(receiver.err(), Some(Error::WrongKind { .. })), "{scheme}");
        let sender = Sender::<[u8]>::open_by(place.address(scheme, ""), SHORT);
        assert!(matches!(sender.err(), Some(Error::WrongKind { .. })), "{scheme}");
        assert!(place.path(scheme).symlink_metadata().unwrap().is_symlink());
    }
}

/// Who makes a name first decides what it is. Who wants nobody else's says so, and can see whose it is.
#[test]
fn a_squatter_is_seen_and_refused_on_demand() {
    let place = Place::new();
    let squatter = Peer::start("squat", &place.shm(",mode=666,capacity=1")).ready();
    let refused = Sender::<[u8]>::open_by(place.shm(",create=only"), LONG).err();
    assert!(matches!(refused, Some(Error::Busy { .. })), "{refused:?}");
    // What is expected of it can be asked for as well.
    for (option, theirs) in [("capacity=64", "1"), ("mode=600", "666")] {
        match Sender::<[u8]>::open_by(place.shm(&format!(",{option}")), LONG).err() {
            Some(Error::Mismatch { theirs: found, .. }) => assert_eq!(&*found, theirs),
            other => panic!("{option}: {other:?}"),
        }
    }
    let status = channel::status(&place.shm("").parse().unwrap()).unwrap();
    assert_eq!((status.creator_pid, status.mode), (squatter.child.id(), 0o666));
    assert_eq!(status.uid, rustix::process::geteuid().as_raw());
}

/// The place of the one receiver is a living process's, and the error says whose.
#[test]
fn a_socket_and_a_pipe_name_who_has_them() {
    for scheme in ["unix", "fifo"] {
        let place = Place::new();
        let squatter = Peer::start("squat", &place.address(scheme, "")).ready();
        let taken = outcome(Receiver::<[u8]>::open_by(place.address(scheme, ""), SHORT));
        assert!(taken.starts_with("Busy") && taken.contains(&squatter.child.id().to_string()), "{taken}");
        let kind = place.path(scheme).metadata().unwrap().file_type();
        assert!(kind.is_socket() || kind.is_fifo());
        squatter.kill();
        drop(Receiver::<[u8]>::open_by(place.address(scheme, ""), LONG).unwrap());
    }
}
