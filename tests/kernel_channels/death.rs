//! `kill -9` of either side, at any moment; hostile peers; names left behind.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Barrier;
use std::time::Duration;

use narrows::{Error, Receiver, Scheme, Sender};
use rustix::fs::{Mode, OFlags};

use crate::peers::{LONG, Peer, Place, pair, pattern, wait_for};

#[test]
fn a_killed_sender_is_counted_and_what_it_had_sent_arrives() {
    for (scheme, options) in [(Scheme::Unix, ""), (Scheme::Unix, ",type=seqpacket"), (Scheme::Fifo, "")] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let mut receiver = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
        let mut sender = Peer::start("sender", &address);
        assert_eq!(sender.hear(), "open");
        sender.tell("3 100");
        assert_eq!(sender.hear(), "sending");
        assert_eq!(sender.hear(), "sent");
        sender.kill();
        for number in 0..3 {
            assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(number, 100));
        }
        assert!(receiver.recv_by(LONG).unwrap().is_none(), "{address}");
        assert_eq!(receiver.died(), 1, "{address}");
    }
}

#[test]
fn a_sender_killed_inside_a_message_leaves_nothing_of_it() {
    for (scheme, options) in [(Scheme::Unix, ""), (Scheme::Fifo, "")] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let mut receiver = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
        for round in 0..10 {
            let mut victim = Peer::start("sender", &address);
            assert_eq!(victim.hear(), "open");
            // The second message is larger than any buffer: its sender is killed inside it.
            victim.tell("1 10");
            assert_eq!(victim.hear(), "sending");
            assert_eq!(victim.hear(), "sent");
            victim.tell("1 60000000");
            assert_eq!(victim.hear(), "sending");
            assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(0, 10));
            let unfinished = receiver.recv_by(Duration::from_millis(round));
            assert!(matches!(unfinished, Err(Error::TimedOut { .. })), "{address}");
            victim.kill();
            // A FIFO's next sender begins in the same stream, with the dead one's half before it.
            let mut next = Sender::<[u8]>::open_by(&address, LONG).unwrap();
            let thread = std::thread::spawn(move || next.send_by(&pattern(7, 100_000), LONG).unwrap());
            assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(7, 100_000), "{address}");
            thread.join().unwrap();
            assert!(receiver.recv_by(LONG).unwrap().is_none());
            assert_eq!(receiver.died(), round + 1, "{address}");
        }
    }
}

#[test]
fn a_killed_senders_neighbours_go_on() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "");
    let mut receiver = Receiver::<[u8]>::open(&address).unwrap();
    let mut victim = Peer::start("sender", &address);
    assert_eq!(victim.hear(), "open");
    victim.tell("1 60000000");
    assert_eq!(victim.hear(), "sending");
    let mut living = Sender::<[u8]>::open_by(&address, LONG).unwrap();
    for number in 0..100 {
        living.send_by(&pattern(number, 2000), LONG).unwrap();
        if number == 50 {
            victim.kill();
        }
        assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(number, 2000));
    }
    wait_for("the death", || {
        assert!(receiver.recv_by(Duration::from_millis(1)).is_err(), "the living one is still there");
        receiver.died() == 1
    });
}

#[test]
fn a_sender_learns_that_its_receiver_was_killed_and_gets_no_signal() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Unix, ",type=dgram"),
        (Scheme::Unix, ",wire=lines"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",wire=raw"),
    ] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let mut receiver = Peer::start("receiver", &address);
        assert_eq!(receiver.hear(), "open");
        let mut sender = Sender::<[u8]>::open_by(&address, LONG).unwrap();
        sender.send(b"one").unwrap();
        receiver.tell("got");
        assert_eq!(receiver.hear(), "got Some(3) 0");
        // Blocked in the middle of a large message, or between two.
        let thread = std::thread::spawn(move || {
            loop {
                if let Err(error) =
                    sender.send_by(&vec![b'x'; if scheme == Scheme::Fifo { 4000 } else { 100_000 }], LONG)
                {
                    return (error, sender);
                }
            }
        });
        receiver.kill();
        let (error, mut sender) = thread.join().unwrap();
        assert!(matches!(error, Error::PeerGone { .. }), "{address}: {error}");
        assert!(matches!(sender.send(b"x"), Err(Error::PeerGone { .. })), "it stays gone");
        drop(sender);
        // The next receiver takes the name that the dead one left.
        let mut next = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
        Sender::<[u8]>::open_by(&address, LONG).unwrap().send(b"again").unwrap();
        assert!(next.recv_by(LONG).unwrap().unwrap().starts_with(b"again"));
        drop(next);
        assert!(place.entries().is_empty(), "{address}: {:?}", place.entries());
    }
}

#[test]
fn sigpipe_never_comes() {
    for (scheme, options) in [(Scheme::Unix, ""), (Scheme::Unix, ",type=dgram"), (Scheme::Fifo, "")] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let receiver = Receiver::<[u8]>::open(&address).unwrap();
        let mut sender = Peer::start("sender-until-gone", &address);
        assert_eq!(sender.hear(), "open");
        drop(receiver);
        assert!(sender.hear().contains("is gone"));
        sender.finish();
    }
}

#[test]
fn of_receivers_that_start_at_once_on_a_dead_ones_name_one_wins() {
    for round in 0..10 {
        let place = Place::new();
        let address = place.address(Scheme::Unix, if round % 2 == 0 { "" } else { ",type=dgram" });
        let mut dead = Peer::start("receiver", &address);
        assert_eq!(dead.hear(), "open");
        dead.kill();
        assert_eq!(place.entries(), ["channel"], "its file is left");
        let mut rivals: Vec<Peer> = (0..6).map(|_| Peer::start("receiver", &address)).collect();
        let said: Vec<String> = rivals.iter_mut().map(Peer::hear).collect();
        let winner = said.iter().position(|said| said == "open").expect("one wins");
        let pid = format!("process {}", rivals[winner].pid());
        for (number, said) in said.iter().enumerate() {
            assert!(
                number == winner
                    || said.contains("is busy") && (said.contains(&pid) || !said.contains("held")),
                "{said:?}"
            );
        }
        // The winner's name leads to the winner.
        Sender::<[u8]>::open_by(&address, LONG).unwrap().send(b"hello").unwrap();
        rivals[winner].tell("got");
        assert_eq!(rivals[winner].hear(), "got Some(5) 0");
    }
}

#[test]
fn a_second_receiver_is_told_who_the_first_is_and_disturbs_nothing() {
    for (scheme, options) in [(Scheme::Unix, ""), (Scheme::Unix, ",type=seqpacket"), (Scheme::Fifo, "")] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let mut first = Peer::start("receiver", &address);
        assert_eq!(first.hear(), "open");
        let Err(Error::Busy { holder, .. }) = Receiver::<[u8]>::open(&address) else {
            panic!("two receivers")
        };
        assert!(holder.unwrap().starts_with(&format!("process {}, ", first.pid())));
        let mut sender = Sender::<[u8]>::open_by(&address, LONG).unwrap();
        sender.send(b"still here").unwrap();
        first.tell("got");
        assert_eq!(first.hear(), "got Some(10) 0");
        drop(sender);
        first.tell("end");
        assert_eq!(first.hear(), "end None 0", "the question was no sender");
    }
}

#[test]
fn a_hostile_peer_loses_its_connection_and_nobody_else_anything() {
    let place = Place::new();
    let (mut good, mut receiver) = pair(&place.address(Scheme::Unix, ",max_message=1M"));
    let hostile: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"nw1m\xff\xff\xff\xff\xff\xff\xff\x0f",
        b"nw1s\xff\xff\x0f\0",
        b"nw9m\0\0\0\0",
        b"\0\0\0\0\0\0\0\x10",
    ];
    for (number, bytes) in hostile.into_iter().enumerate() {
        let mut peer = UnixStream::connect(place.path("channel")).unwrap();
        peer.write_all(bytes).unwrap();
        good.send(&pattern(number, 5000)).unwrap();
        assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(number, 5000));
        if bytes[3] != b's' {
            assert!(receiver.recv_by(Duration::from_millis(5)).is_err());
            peer.set_read_timeout(Some(LONG)).unwrap();
            assert!(!matches!(peer.read(&mut [0]), Ok(1)), "it is hung up on");
        }
    }
    drop(good);
    let Err(Error::Corrupt { problem, .. }) = receiver.recv_by(LONG) else {
        panic!("the fault is told at the end")
    };
    assert!(problem.contains(&format!("process {}", std::process::id())), "{problem}");
    assert!(receiver.recv_by(LONG).unwrap().is_none(), "and only once");
}

#[test]
fn a_pipe_that_was_spoilt_is_told_and_good_again_after_its_end() {
    let place = Place::new();
    let address = place.address(Scheme::Fifo, "");
    let mut receiver = Receiver::<[u8]>::open(&address).unwrap();
    std::fs::write(place.path("channel"), "hello\nnot narrows\n").unwrap();
    let error = receiver.recv_by(LONG).unwrap_err().to_string();
    assert!(error.contains("'hello\\nno', which is no frame") && error.contains("wire=lines"), "{error}");
    assert!(receiver.recv_by(LONG).unwrap().is_none());
    Sender::<[u8]>::open_by(&address, LONG).unwrap().send(b"good").unwrap();
    assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"good");
}

#[test]
fn a_receiver_that_follows_a_killed_one_begins_with_a_whole_message() {
    let place = Place::new();
    let address = place.address(Scheme::Fifo, "");
    // It dies with a hello, a start and a part in its hands.
    let mut victim = std::fs::File::from(
        rustix::fs::open(make_pipe(&place), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap(),
    );
    let mut sender = Peer::start("sender", &address);
    assert_eq!(sender.hear(), "open");
    sender.tell("1 300000");
    let (mut taken, mut len) = (vec![0; 8 + 2 * 4088], 0);
    wait_for("the message's beginning", || {
        len += victim.read(&mut taken[len..]).unwrap_or(0);
        len == taken.len()
    });
    let mut next = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
    drop(victim);
    sender.tell("1 100");
    assert!(*next.recv_by(LONG).unwrap().unwrap() == *pattern(0, 100), "it begins in the middle");
    sender.finish();
    assert!(next.recv_by(LONG).unwrap().is_none());
}

fn make_pipe(place: &Place) -> std::path::PathBuf {
    let path = place.path("channel");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn of_threads_that_replace_a_dead_name_at_once_one_wins() {
    for round in 0..300 {
        let place = Place::new();
        let address = place.address(Scheme::Unix, if round % 2 == 0 { "" } else { ",type=dgram" });
        drop(UnixListener::bind(place.path("channel")).unwrap());
        let start = Barrier::new(4);
        let open = || {
            start.wait();
            Receiver::<[u8]>::open(&address)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(
            results
                .iter()
                .flat_map(|result| result.as_ref().err())
                .all(|error| matches!(error, Error::Busy { .. }))
        );
        assert!(Sender::<[u8]>::open_by(&address, LONG).is_ok());
    }
}

#[test]
fn a_forked_child_is_refused_and_its_closing_disturbs_nobody() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Unix, ",type=dgram"),
        (Scheme::Fifo, ""),
    ] {
        let place = Place::new();
        let mut forker = Peer::start("forker", &place.address(scheme, options));
        assert_eq!(forker.hear(), "2 0", "{scheme}{options}");
        forker.finish();
        assert!(place.entries().is_empty());
    }
}
