//! What is wrong with a name is said with what was found, whose it is and what to do.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use narrows::{Deadline, Error, Receiver, Scheme, Sender};

use crate::peers::{Place, pair};

/// Opens both sides and gives the errors, where there are some.
fn open(address: &str) -> [Option<Error>; 2] {
    let receiver = Receiver::<[u8]>::open_by(address, Deadline::Now);
    [receiver.err(), Sender::<[u8]>::open_by(address, Deadline::Now).err()]
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let place = Place::new();
    for (scheme, options, words) in [
        (Scheme::Unix, ",wire=frame", "write wire=frames or lines or raw"),
        (Scheme::Unix, ",type=raw", "stream or seqpacket or dgram"),
        (Scheme::Unix, ",type=seqpacket,wire=lines", "wire=raw"),
        (Scheme::Unix, ",type=dgram,wire=lines", "wire=raw"),
        (Scheme::Unix, ",max_message=big", "is no number"),
        (Scheme::Unix, ",mode=9", "octal"),
        (Scheme::Unix, ",mod=600", "did you mean mode=?"),
        (Scheme::Unix, ",capacity=3", "has no option"),
        (Scheme::Fifo, ",writers=two", "one or many"),
        (Scheme::Fifo, ",mode=7777", "octal"),
        (Scheme::Fifo, ",create=yes", "never or only or open"),
        (Scheme::Fifo, ",lifetime=process", "drained or system"),
        (Scheme::Fifo, ",capacity_bytes=-1", "is no number"),
    ] {
        for error in open(&place.address(scheme, options)) {
            let error = error.unwrap();
            assert!(
                matches!(error, Error::InvalidAddress { .. }) && error.to_string().contains(words),
                "{error}"
            );
        }
    }
    for (address, words) in [
        ("unix:@", "write unix:@NAME"),
        ("unix:@narrows-test,mode=600", "an abstract name has no mode"),
        ("unix:@narrows-test,backlog=0", "at least 1"),
        ("unix:@narrows-test,type=dgram,backlog=9", "max_dgram_qlen"),
    ] {
        let error = Receiver::<[u8]>::open(address).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(place.entries().is_empty());
}

#[test]
fn a_path_that_cannot_be_says_why() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    std::fs::create_dir(place.path("directory")).unwrap();
    for scheme in [Scheme::Unix, Scheme::Fifo] {
        for (name, kind, words) in [
            ("file", "WrongKind", "is a regular file, not a"),
            ("directory", "WrongKind", "is a directory, not a"),
            ("none/channel", "NotFound", "make it first"),
        ] {
            let address = format!("{scheme}:{}", place.path(name).display());
            for error in open(&address) {
                let error = error.unwrap();
                assert!(
                    format!("{error:?}").starts_with(kind) && error.to_string().contains(words),
                    "{error}"
                );
            }
        }
    }
    let relative = format!("unix:{}", "x".repeat(105));
    let error = Receiver::<[u8]>::open(&relative).err().unwrap();
    assert!(error.to_string().contains("107 bytes"), "{error}");
    std::fs::remove_file(place.path("file")).unwrap();
    assert_eq!(place.entries(), ["directory"]);
}

#[test]
fn a_socket_is_no_pipe_and_a_pipe_no_socket() {
    let place = Place::new();
    let unix = Receiver::<[u8]>::open(place.address(Scheme::Unix, "")).unwrap();
    for error in open(&place.address(Scheme::Fifo, "")) {
        assert!(error.unwrap().to_string().contains("is a socket, not a named pipe"));
    }
    drop(unix);
    let _fifo = Receiver::<[u8]>::open(place.address(Scheme::Fifo, "")).unwrap();
    for error in open(&place.address(Scheme::Unix, "")) {
        assert!(error.unwrap().to_string().contains("is a named pipe, not a socket"));
    }
    std::os::unix::fs::symlink(place.path("nowhere"), place.path("link")).unwrap();
    let error = Receiver::<[u8]>::open(format!("unix:{}", place.path("link").display())).err().unwrap();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn a_socket_of_the_other_type_says_so() {
    let place = Place::new();
    let _receiver = Receiver::<[u8]>::open(place.address(Scheme::Unix, ",type=seqpacket")).unwrap();
    match Sender::<[u8]>::open(place.address(Scheme::Unix, "")) {
        Err(Error::Mismatch { option, .. }) => assert_eq!(&*option, "type"),
        other => panic!("{:?}", other.err()),
    }
    assert!(matches!(Receiver::<[u8]>::open(place.address(Scheme::Unix, "")), Err(Error::Busy { .. })));
}

#[test]
fn somebody_elses_living_socket_is_busy_and_a_dead_one_is_replaced() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "");
    let theirs = UnixListener::bind(place.path("channel")).unwrap();
    match Receiver::<[u8]>::open(&address) {
        Err(Error::Busy { holder, .. }) => {
            assert!(holder.unwrap().starts_with(&format!("process {}", std::process::id())));
        }
        other => panic!("{:?}", other.err()),
    }
    drop(theirs);
    assert_eq!(place.entries(), ["channel"], "std leaves the file");
    assert!(matches!(Sender::<[u8]>::open_by(&address, Deadline::Now), Err(Error::TimedOut { .. })));
    let (mut sender, mut receiver) = pair(&address);
    sender.send(b"x").unwrap();
    assert!(receiver.recv().unwrap().is_some());
}

#[test]
fn a_receiver_removes_only_its_own_file() {
    let place = Place::new();
    let receiver = Receiver::<[u8]>::open(place.address(Scheme::Unix, "")).unwrap();
    std::fs::remove_file(place.path("channel")).unwrap();
    let theirs = UnixListener::bind(place.path("channel")).unwrap();
    drop(receiver);
    assert_eq!(place.entries(), ["channel"]);
    drop(theirs);
}

#[test]
fn an_abstract_name_needs_no_file_and_has_one_receiver() {
    let address = format!("unix:@narrows-test-{}", std::process::id());
    let (mut sender, mut receiver) = pair(&address);
    sender.send(b"x").unwrap();
    assert_eq!(&*receiver.recv().unwrap().unwrap(), b"x");
    let error = Receiver::<[u8]>::open(&address).err().unwrap();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop((sender, receiver));
    drop(Receiver::<[u8]>::open(&address).unwrap());
}

#[test]
fn the_mode_is_what_was_asked_for() {
    let mode = |place: &Place| {
        std::fs::symlink_metadata(place.path("channel")).unwrap().permissions().mode() & 0o777
    };
    for scheme in [Scheme::Unix, Scheme::Fifo] {
        for (options, expected) in [("", 0o600), (",mode=666", 0o666), (",mode=420", 0o420)] {
            let place = Place::new();
            let _receiver = Receiver::<[u8]>::open(place.address(scheme, options)).unwrap();
            assert_eq!(mode(&place), expected, "{scheme}{options}");
        }
    }
    let place = Place::new();
    let _receiver = Receiver::<[u8]>::open(place.address(Scheme::Fifo, ",mode=640")).unwrap();
    let error = Sender::<[u8]>::open(place.address(Scheme::Fifo, ",mode=600")).err().unwrap();
    assert!(matches!(&error, Error::Mismatch { theirs, .. } if &**theirs == "640"), "{error}");
}

#[test]
fn a_pipe_is_made_or_taken_as_asked() {
    let place = Place::new();
    let missing = Receiver::<[u8]>::open(place.address(Scheme::Fifo, ",create=never")).err().unwrap();
    assert!(matches!(missing, Error::NotFound { .. }) && missing.to_string().contains("mkfifo"), "{missing}");
    let _receiver = Receiver::<[u8]>::open(place.address(Scheme::Fifo, ",create=only")).unwrap();
    let taken = Sender::<[u8]>::open(place.address(Scheme::Fifo, ",create=only")).err().unwrap();
    assert!(taken.to_string().contains("create=only"), "{taken}");
    let _sender = Sender::<[u8]>::open(place.address(Scheme::Fifo, "")).unwrap();
    for writers in ["one", "many"] {
        let second = Sender::<[u8]>::open(place.address(Scheme::Fifo, &format!(",writers={writers}")));
        assert!(second.err().unwrap().to_string().contains("writers=many"));
    }
}

#[test]
fn one_of_many_writers_keeps_one_that_wants_to_be_alone_out() {
    let place = Place::new();
    let many = place.address(Scheme::Fifo, ",writers=many");
    let (first, _receiver) = pair(&many);
    let second = Sender::<[u8]>::open(&many).unwrap();
    assert!(matches!(Sender::<[u8]>::open(place.address(Scheme::Fifo, "")), Err(Error::Busy { .. })));
    drop((first, second));
    Sender::<[u8]>::open(place.address(Scheme::Fifo, "")).unwrap();
}

#[test]
fn what_may_not_be_opened_says_whose_it_is() {
    // SAFETY: always sound.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: only root can become somebody else");
        return;
    }
    let place = Place::new();
    let _unix = Receiver::<[u8]>::open(format!("unix:{}", place.path("unix").display())).unwrap();
    let _fifo = Receiver::<[u8]>::open(format!("fifo:{}", place.path("fifo").display())).unwrap();
    std::fs::set_permissions(place.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Borrowed by the thread: it may not remove the folder.
    let as_nobody = || {
        // For this thread only; libc's call would change the whole process.
        // SAFETY: changes nothing in memory.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        ["unix:", "fifo:"].map(|scheme| {
            let address = format!("{scheme}{}", place.path(&scheme[..4]).display());
            let beside = format!("{scheme}{}", place.path("new").display());
            let made = Receiver::<[u8]>::open(&beside).err().unwrap();
            [Some(made), Receiver::<[u8]>::open(&address).err(), Sender::<[u8]>::open(&address).err()]
        })
    };
    let errors = std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    for error in errors.into_iter().flatten() {
        let error = error.unwrap();
        assert!(
            matches!(error, Error::Permission { .. }) && error.to_string().contains("(owner uid 0, mode "),
            "{error}"
        );
    }
}
