//! Messages of every size, many senders, order, fairness, the end.

use std::sync::Barrier;
use std::time::Duration;

use narrows::{Deadline, Error, Receiver, Scheme, Sender};

use crate::peers::{LONG, Peer, Place, pair, pattern, receive_all, wait_for};

#[test]
fn every_size_arrives_whole() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",capacity_bytes=1M"),
    ] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let (mut sender, mut receiver) = pair(&address);
        let mut sizes =
            vec![0, 1, 7, 8, 4079, 4080, 4081, 4088, 4089, 4096, 65520, 65528, 65529, 65536, 130000];
        if options != ",type=seqpacket" {
            sizes.extend([1 << 20, (1 << 20) + 1, 5 << 20]);
        }
        let expected = sizes.clone();
        let thread = std::thread::spawn(move || {
            for (number, size) in sizes.into_iter().enumerate() {
                sender.send_by(&pattern(number, size), LONG).unwrap();
            }
        });
        for (number, size) in expected.into_iter().enumerate() {
            let message = receiver.recv_by(LONG).unwrap().unwrap();
            assert!(*message == *pattern(number, size), "{address}: {size} bytes");
        }
        thread.join().unwrap();
        assert!(receiver.recv_by(LONG).unwrap().is_none(), "{address}");
        assert_eq!(receiver.died(), 0, "{address}");
    }
}

#[test]
fn the_limit_is_the_last_size_that_goes() {
    for (scheme, options, limit) in [
        (Scheme::Unix, ",max_message=70000", 70000),
        (Scheme::Unix, ",type=seqpacket,max_message=70000", 70000),
        (Scheme::Fifo, ",max_message=70000", 70000),
        (Scheme::Fifo, ",writers=many", 4088),
        (Scheme::Fifo, ",writers=many,wire=lines", 4095),
        (Scheme::Fifo, ",writers=many,wire=raw", 4096),
    ] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let (mut sender, mut receiver) = pair(&address);
        let thread = std::thread::spawn(move || {
            sender.send_by(&vec![b'x'; limit], LONG).unwrap();
            sender.send_by(&vec![b'x'; limit + 1], LONG).unwrap_err()
        });
        let mut len = 0;
        while len < limit {
            len += receiver.recv_by(LONG).unwrap().unwrap().len();
        }
        assert_eq!(len, limit, "{address}");
        match thread.join().unwrap() {
            Error::TooLarge { size, limit: told, .. } => {
                assert_eq!((size, told), (limit as u64 + 1, limit as u64))
            }
            error => panic!("{address}: {error}"),
        }
        assert!(receiver.recv_by(LONG).unwrap().is_none());
    }
}

#[test]
fn a_packet_is_limited_by_the_sockets_buffer_and_the_error_says_by_how_much() {
    let place = Place::new();
    let (mut sender, mut receiver) = pair(&place.address(Scheme::Unix, ",type=seqpacket"));
    let Err(Error::TooLarge { limit, hint, .. }) = sender.send(&vec![0; 1 << 20]) else { panic!("it went") };
    assert!(hint.unwrap().contains("type=stream"));
    sender.send(&pattern(3, limit as usize)).unwrap();
    assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *pattern(3, limit as usize));
    assert!(matches!(sender.send(&vec![0; limit as usize + 1]), Err(Error::TooLarge { .. })));
}

#[test]
fn batches_keep_order_and_boundaries() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",wire=lines"),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",writers=many"),
        (Scheme::Fifo, ",wire=lines"),
    ] {
        let place = Place::new();
        let (mut sender, mut receiver) = pair(&place.address(scheme, options));
        let messages: Vec<Vec<u8>> = (0..20_000)
            .map(|number: usize| format!("{number}{}", "-".repeat(number % 97)).into_bytes())
            .collect();
        let expected = messages.clone();
        let thread = std::thread::spawn(move || {
            for some in messages.chunks(1000) {
                let sent = sender.send_many(some.iter().map(Vec::as_slice), LONG).unwrap();
                assert_eq!(sent, some.len());
            }
        });
        assert!(receive_all(&mut receiver) == expected, "{scheme}{options}");
        thread.join().unwrap();
    }
}

#[test]
fn many_senders_do_not_tear_each_others_messages() {
    for (scheme, options, size) in [
        (Scheme::Unix, "", 100_000),
        (Scheme::Unix, ",type=seqpacket", 4088),
        (Scheme::Fifo, ",writers=many", 4088),
    ] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let mut receiver = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
        let mut senders: Vec<Peer> = (0..4).map(|_| Peer::start("sender", &address)).collect();
        for sender in &mut senders {
            assert_eq!(sender.hear(), "open");
        }
        senders.iter_mut().for_each(|sender| sender.tell(&format!("200 {size}")));
        let patterns: Vec<Vec<u8>> = (0..200).map(|number| pattern(number, size)).collect();
        for count in 0..800 {
            let message = receiver.recv_by(LONG).unwrap().unwrap();
            assert!(
                patterns.iter().any(|pattern| **pattern == *message),
                "{address}: message {count} is torn"
            );
        }
        senders.into_iter().for_each(Peer::finish);
        assert!(receiver.recv_by(LONG).unwrap().is_none());
        assert_eq!(receiver.died(), 0);
    }
}

#[test]
fn a_busy_sender_does_not_keep_another_from_being_heard() {
    for options in ["", ",type=seqpacket"] {
        let place = Place::new();
        let address = place.address(Scheme::Unix, options);
        let (mut busy, mut receiver) = pair(&address);
        let waiting =
            std::iter::repeat_with(|| busy.send_by(&[b'x'; 32], Deadline::Now)).take_while(Result::is_ok);
        assert!(waiting.count() > 100, "the socket is full");
        receiver.recv_by(LONG).unwrap().unwrap();
        let mut quiet = Sender::<[u8]>::open_by(&address, LONG).unwrap();
        quiet.send(b"me too").unwrap();
        let heard = (0..100).position(|_| *receiver.recv_by(LONG).unwrap().unwrap() == *b"me too");
        assert!(heard.is_some(), "{address}");
    }
}

#[test]
fn the_end_comes_after_the_last_message_and_a_new_sender_resumes() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",writers=many"),
    ] {
        let place = Place::new();
        let address = place.address(scheme, options);
        let mut receiver = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
        let early = receiver.recv_by(Duration::from_millis(20)).unwrap_err();
        assert!(matches!(early, Error::TimedOut { .. }), "no sender was there yet: {early}");
        for round in [b"one", b"two"] {
            let mut sender = Sender::<[u8]>::open_by(&address, LONG).unwrap();
            sender.send(round).unwrap();
            sender.send(b"").unwrap();
            drop(sender);
            assert_eq!(receive_all(&mut receiver), [round.to_vec(), vec![]], "{address}");
            assert!(receiver.recv_by(LONG).unwrap().is_none(), "the end is still the end");
        }
        // One that says nothing was a sender too.
        drop(Sender::<[u8]>::open_by(&address, LONG).unwrap());
        assert!(receiver.recv_by(LONG).unwrap().is_none());
        assert_eq!(receiver.died(), 0, "{address}");
    }
}

#[test]
fn a_silent_sender_ends_too() {
    for (scheme, options) in [(Scheme::Unix, ""), (Scheme::Fifo, ""), (Scheme::Fifo, ",writers=many")] {
        let place = Place::new();
        let (sender, mut receiver) = pair(&place.address(scheme, options));
        drop(sender);
        assert!(receiver.recv_by(LONG).unwrap().is_none());
    }
}

#[test]
fn nothing_is_left_behind() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=dgram"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",writers=many"),
    ] {
        for receiver_first in [true, false] {
            let place = Place::new();
            let (sender, receiver) = pair(&place.address(scheme, options));
            assert_eq!(place.entries(), ["channel"]);
            if receiver_first {
                drop(receiver);
                drop(sender);
            } else {
                drop(sender);
                drop(receiver);
            }
            assert!(place.entries().is_empty(), "{scheme}{options} {receiver_first}: {:?}", place.entries());
        }
    }
    let place = Place::new();
    drop(pair(&place.address(Scheme::Fifo, ",lifetime=system")));
    assert_eq!(place.entries(), ["channel"], "it is to stay");
}

#[test]
fn both_sides_that_leave_at_once_leave_no_pipe_behind() {
    for _ in 0..1000 {
        let place = Place::new();
        let (sender, receiver) = pair(&place.address(Scheme::Fifo, ""));
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                drop(sender);
            });
            start.wait();
            drop(receiver);
        });
        assert!(place.entries().is_empty());
    }
}

#[test]
fn a_pipe_that_somebody_else_made_stays() {
    let place = Place::new();
    assert!(std::process::Command::new("mkfifo").arg(place.path("channel")).status().unwrap().success());
    drop(pair(&place.address(Scheme::Fifo, ",create=never")));
    assert_eq!(place.entries(), ["channel"]);
}

#[test]
fn a_sender_waits_for_its_receiver() {
    for scheme in [Scheme::Unix, Scheme::Fifo] {
        let place = Place::new();
        let address = place.address(scheme, "");
        let waiting = address.clone();
        let thread =
            std::thread::spawn(move || Sender::<[u8]>::open_by(&waiting, LONG).unwrap().send(b"patience"));
        if scheme == Scheme::Fifo {
            wait_for("the sender's pipe", || !place.entries().is_empty());
        }
        let mut receiver = Receiver::<[u8]>::open_by(&address, LONG).unwrap();
        assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"patience");
        thread.join().unwrap().unwrap();
    }
}

#[test]
fn what_one_receiver_cannot_share_is_refused() {
    for scheme in [Scheme::Unix, Scheme::Fifo] {
        let place = Place::new();
        let (mut sender, receiver) = pair(&place.address(scheme, ""));
        assert!(matches!(receiver.try_clone(), Err(Error::Unsupported { .. })));
        assert!(matches!(sender.loan(1), Err(Error::Unsupported { .. })));
        assert!(matches!(sender.receiver(), Err(Error::Busy { .. })));
        assert_eq!(
            sender.try_clone().is_ok(),
            scheme == Scheme::Unix,
            "a FIFO's sender is alone unless told"
        );
    }
}

#[test]
fn a_receiver_without_descriptors_serves_whom_it_has_and_then_the_others() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "");
    let mut receiver = Peer::start("two-connections", &address);
    assert_eq!(receiver.hear(), "open");
    let mut senders: Vec<Sender> = (0..6).map(|_| Sender::open_by(&address, LONG).unwrap()).collect();
    for number in 0..6u8 {
        senders[usize::from(number)].send(&[number]).unwrap();
    }
    let mut heard = vec![receiver.hear(), receiver.hear()];
    drop(senders);
    heard.extend((2..6).map(|_| receiver.hear()));
    heard.sort();
    assert_eq!(heard, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(receiver.hear(), "end");
    receiver.finish();
}
