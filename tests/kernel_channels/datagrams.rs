//! `unix:,type=dgram`: no connections, no end; the kernel's short queue; what other programs send.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use narrows::{Deadline, Error, Receiver, Scheme, Sender};

use crate::peers::{LONG, Peer, Place, pair, pattern};

const SHORT: Duration = Duration::from_millis(20);

fn address(place: &Place) -> String {
    place.address(Scheme::Unix, ",type=dgram")
}

#[track_caller]
fn assert_nothing(receiver: &mut Receiver) {
    assert!(matches!(receiver.recv_by(Deadline::Now), Err(Error::TimedOut { .. })));
}

#[test]
fn every_size_arrives_whole_and_no_end_ever() {
    for wire in ["frames", "raw"] {
        let place = Place::new();
        let address = format!("{},wire={wire}", address(&place));
        let (mut sender, mut receiver) = pair(&address);
        let Err(Error::TooLarge { limit, hint, .. }) = sender.send(&vec![0; 1 << 20]) else {
            panic!("it went")
        };
        assert!(hint.unwrap().contains("type=stream"));
        for (number, size) in [0, 1, 8, 4096, 65536, limit as usize].into_iter().enumerate() {
            sender.send_by(&pattern(number, size), LONG).unwrap();
            assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(number, size), "{address}: {size}");
        }
        assert!(matches!(sender.send(&vec![0; limit as usize + 1]), Err(Error::TooLarge { .. })));
        sender.send(b"last").unwrap();
        drop(sender);
        assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"last", "it outlives its sender");
        assert!(matches!(receiver.recv_by(SHORT), Err(Error::TimedOut { .. })));
        assert_eq!(receiver.died(), 0);
        drop(receiver);
        assert!(place.entries().is_empty());
    }
}

#[test]
fn a_full_queue_is_waited_for_until_the_deadline() {
    let place = Place::new();
    let (mut sender, mut receiver) = pair(&address(&place));
    let length: usize =
        std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    let sent =
        (0..).take_while(|number| sender.send_by(&pattern(*number, 40), Deadline::Now).is_ok()).count();
    assert!(sent > 0 && sent <= length + 1, "{sent}");
    assert!(matches!(sender.send_by(b"late", Deadline::Now), Err(Error::Full { .. })));
    let start = Instant::now();
    assert!(matches!(sender.send_by(b"late", SHORT), Err(Error::TimedOut { .. })));
    assert!(start.elapsed() >= SHORT);
    let mut second = sender.try_clone().unwrap();
    assert!(matches!(second.send_by(b"late", Deadline::Now), Err(Error::Full { .. })), "it is one queue");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (sent..sent + 1000).for_each(|number| sender.send_by(&pattern(number, 40), LONG).unwrap())
        });
        for number in 0..sent + 1000 {
            assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(number, 40), "{number}");
        }
    });
    assert_nothing(&mut receiver);
}

#[test]
fn a_sender_that_waits_for_room_learns_that_its_receiver_was_killed() {
    let place = Place::new();
    let address = address(&place);
    let mut receiver = Peer::start("receiver", &address);
    assert_eq!(receiver.hear(), "open");
    let mut sender = Sender::<[u8]>::open_by(&address, LONG).unwrap();
    while sender.send_by(b"x", Deadline::Now).is_ok() {}
    let asleep = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            asleep.store(true, Ordering::Release);
            sender.send_by(b"x", LONG)
        });
        crate::peers::wait_for("the sender", || asleep.load(Ordering::Acquire));
        receiver.kill();
        assert!(matches!(waiting.join().unwrap(), Err(Error::PeerGone { .. })));
    });
    for deadline in [Deadline::Now, Deadline::from(LONG)] {
        assert!(matches!(sender.send_by(b"x", deadline), Err(Error::PeerGone { .. })), "it stays gone");
    }
    assert_eq!(place.entries(), ["channel"], "its file is left");
    let gone = Sender::<[u8]>::open_by(&address, Deadline::Now).err().unwrap();
    assert!(matches!(gone, Error::TimedOut { .. }), "{gone}");
    let (mut sender, mut next) = pair(&address);
    sender.send(b"again").unwrap();
    assert_eq!(&*next.recv_by(LONG).unwrap().unwrap(), b"again");
}

#[test]
fn what_is_no_message_is_told_at_once_and_passed_over() {
    let place = Place::new();
    let (mut good, mut receiver) = pair(&format!("{},max_message=1000", address(&place)));
    let hostile = UnixDatagram::unbound().unwrap();
    hostile.connect(place.path("channel")).unwrap();
    let long = [&b"nw1m\xe9\x03\0\0"[..], &[0; 1001]].concat();
    for (bytes, words) in [
        (&b""[..], "no frame"),
        (b"GET / HTTP/1.1\r\n\r\n", "'GET / HT', which is no frame"),
        (b"nw1m\xff\xff\xff\xffx", "no frame"),
        (b"nw1s\x01\0\0\0x", "no frame"),
        (b"nw9m\0\0\0\0", "version 9"),
        (&long, "max_message=1000"),
    ] {
        hostile.send(bytes).unwrap();
        good.send(b"good").unwrap();
        match receiver.recv_by(LONG) {
            Err(Error::Corrupt { problem, .. }) => assert!(problem.contains(words), "{problem}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"good");
    }
}

#[test]
fn a_goodbye_means_nothing_and_many_keep_nobody_past_the_deadline() {
    let place = Place::new();
    let goodbyes = |count| {
        let hostile = UnixDatagram::unbound().unwrap();
        (0..count).for_each(|_| assert!(hostile.send_to(b"nw1b\0\0\0\0", place.path("channel")).is_ok()));
    };
    let trial = || {
        // A queue is as long as its network namespace says, and this thread gets one of its own.
        // SAFETY: changes nothing in memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("SKIPPED: only root can have a longer queue");
            return;
        }
        std::fs::write("/proc/sys/net/unix/max_dgram_qlen", "300").unwrap();
        let (mut good, mut receiver) = pair(&address(&place));
        goodbyes(10);
        good.send(b"good").unwrap();
        assert_eq!(&*receiver.recv_by(Deadline::Now).unwrap().unwrap(), b"good");
        goodbyes(200);
        good.send(b"good").unwrap();
        assert_nothing(&mut receiver);
        assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"good");
    };
    std::thread::scope(|scope| scope.spawn(trial).join().unwrap());
}

#[test]
fn the_other_side_is_any_program() {
    let place = Place::new();
    let address = format!("{},wire=raw", address(&place));
    let mut receiver = Receiver::<[u8]>::open(&address).unwrap();
    let theirs = UnixDatagram::unbound().unwrap();
    for message in [&b"<13>one"[..], b"", b"two\nlines"] {
        theirs.send_to(message, place.path("channel")).unwrap();
        assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), message);
    }
    drop(receiver);
    let theirs = UnixDatagram::bind(place.path("channel")).unwrap();
    let mut sender = Sender::<[u8]>::open_by(&address, LONG).unwrap();
    for message in [&b"one"[..], b""] {
        sender.send(message).unwrap();
        let mut bytes = [0; 100];
        assert_eq!(theirs.recv(&mut bytes).unwrap(), message.len());
        assert_eq!(&bytes[..message.len()], message);
    }
    assert!(matches!(Receiver::<[u8]>::open(&address), Err(Error::Busy { .. })));
    drop(theirs);
    drop(Receiver::<[u8]>::open(&address).expect("what it left is replaced"));
}

#[test]
fn a_second_receiver_is_told_who_the_first_is() {
    let place = Place::new();
    let abstract_name = format!("unix:@narrows-dgram-{},type=dgram", std::process::id());
    for address in [address(&place), abstract_name] {
        let mut first = Peer::start("receiver", &address);
        assert_eq!(first.hear(), "open");
        // An abstract name is another one for another type.
        let other = if address.contains('@') { &address } else { &place.address(Scheme::Unix, "") };
        for rival in [&address, other] {
            match Receiver::<[u8]>::open(rival) {
                Err(Error::Busy { holder, .. }) => {
                    let holder = holder.expect("the holder is told");
                    assert!(holder.starts_with(&format!("process {}, ", first.pid())), "{holder}");
                }
                other => panic!("{:?}", other.err()),
            }
        }
        Sender::<[u8]>::open_by(&address, LONG).unwrap().send(b"still here").unwrap();
        first.tell("got");
        assert_eq!(first.hear(), "got Some(10) 0", "the question was no message");
    }
}

#[test]
fn a_socket_of_another_type_says_so() {
    let types = ["stream", "seqpacket", "dgram"];
    for theirs in types {
        let place = Place::new();
        let _receiver =
            Receiver::<[u8]>::open(place.address(Scheme::Unix, &format!(",type={theirs}"))).unwrap();
        for ours in types.into_iter().filter(|ours| *ours != theirs) {
            match Sender::<[u8]>::open(place.address(Scheme::Unix, &format!(",type={ours}"))) {
                Err(Error::Mismatch { option, theirs: told, ours: mine, .. }) => {
                    assert_eq!((&*option, &*mine), ("type", ours));
                    assert!(told.contains(theirs) && !told.contains(ours), "{told}");
                }
                other => panic!("{:?}", other.err()),
            }
        }
    }
}

/// A datagram socket that is connected hears its own peer alone.
#[test]
fn a_socket_that_hears_another_alone_says_so() {
    let place = Place::new();
    let (theirs, another) = (
        UnixDatagram::bind(place.path("channel")).unwrap(),
        UnixDatagram::bind(place.path("another")).unwrap(),
    );
    theirs.connect(place.path("another")).unwrap();
    let refused = Sender::<[u8]>::open(address(&place)).err().unwrap();
    assert!(
        matches!(refused, Error::Permission { .. }) && refused.to_string().contains("connected"),
        "{refused}"
    );
    for options in [",type=dgram", ""] {
        let busy = Receiver::<[u8]>::open(place.address(Scheme::Unix, options)).err().unwrap();
        assert!(matches!(busy, Error::Busy { .. }), "{busy}");
    }
    drop(another);
}
