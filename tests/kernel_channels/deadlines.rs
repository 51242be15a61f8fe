//! A deadline never leaves half a message in the stream, and a signal never repeats one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use narrows::{Deadline, Error, Receiver, Scheme, Sender};

use crate::peers::{LONG, Place, pair, pattern, receive_all, wait_for};

const SHORT: Duration = Duration::from_millis(5);

/// Sends until there is no room; gives how many went.
fn fill(sender: &mut Sender, size: usize, deadline: impl Into<Deadline> + Copy) -> usize {
    let mut sent = 0;
    loop {
        match sender.send_by(&pattern(sent, size), deadline) {
            Ok(()) => sent += 1,
            Err(Error::Full { .. } | Error::TimedOut { .. }) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_message_that_ran_out_of_time_was_not_sent() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",writers=many"),
    ] {
        for size in [3, 4000, 50_000, 100_000, 1 << 20] {
            if size > 4088 && options.contains("many") || size > 200_000 && options.contains("seq") {
                continue;
            }
            let place = Place::new();
            let address = place.address(scheme, options);
            let (mut sender, mut receiver) = pair(&address);
            let mut sent = fill(&mut sender, size, Deadline::Now);
            assert!(matches!(sender.send_by(&pattern(0, size), Deadline::Now), Err(Error::Full { .. })));
            assert!(matches!(sender.send_by(&pattern(0, size), SHORT), Err(Error::TimedOut { .. })));
            for number in 0..sent {
                assert!(
                    *receiver.recv_by(LONG).unwrap().unwrap() == *pattern(number, size),
                    "{address} {size}"
                );
            }
            let nothing = receiver.recv_by(Deadline::Now).unwrap_err();
            assert!(matches!(nothing, Error::TimedOut { .. }), "{address} {size}: {nothing}");
            // What was owed is paid, and the stream goes on.
            let reader = std::thread::spawn(move || (receive_all(&mut receiver), receiver.died()));
            for number in 0..3 {
                sender.send_by(&pattern(number, size), LONG).unwrap();
            }
            // A reader at work, a deadline that is sometimes too short: those that went arrive, no others.
            let messages: Vec<Vec<u8>> = (0..4).map(|number| pattern(number, size)).collect();
            let mut expected: Vec<&[u8]> = messages[..3].iter().map(Vec::as_slice).collect();
            for number in 0..100 {
                if sender.send_by(&messages[number % 4], Duration::from_micros(50)).is_ok() {
                    expected.push(&messages[number % 4]);
                    sent += 1;
                }
            }
            drop(sender);
            let (received, died) = reader.join().unwrap();
            assert!(received == expected, "{address} {size}: {} of {}", received.len(), expected.len());
            assert_eq!(died, 0, "{address} {size}: {sent}");
        }
    }
}

#[test]
fn a_message_that_is_sent_again_goes_on_where_it_stopped() {
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",wire=lines"),
        (Scheme::Unix, ",wire=raw"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",wire=lines"),
    ] {
        let place = Place::new();
        let (mut sender, mut receiver) = pair(&place.address(scheme, options));
        let messages: Vec<Vec<u8>> = (0..5).map(|number| vec![b'a' + number; 300_000]).collect();
        let expected = messages.clone();
        let reader = std::thread::spawn(move || receive_all(&mut receiver));
        let mut rounds = 0;
        for message in &messages {
            // Far too short for all of it at once: without progress this never ends.
            while let Err(error) = sender.send_by(message, Duration::from_nanos(1)) {
                assert!(matches!(error, Error::TimedOut { .. }), "{error}");
                rounds += 1;
            }
        }
        let mut rest = messages.iter().map(Vec::as_slice);
        while rest.len() > 0 {
            match sender.send_many(rest.clone(), Duration::from_nanos(1)) {
                Ok(sent) => rest.by_ref().take(sent).for_each(drop),
                Err(error) => assert!(matches!(error, Error::TimedOut { .. }), "{error}"),
            }
        }
        drop(sender);
        assert!(rounds > 0);
        assert!(reader.join().unwrap().concat() == expected.concat().repeat(2), "{scheme}{options}");
    }
}

#[test]
fn a_line_that_has_begun_is_completed_before_another() {
    for scheme in [Scheme::Unix, Scheme::Fifo] {
        let place = Place::new();
        let (mut sender, mut receiver) = pair(&place.address(scheme, ",wire=lines"));
        let long = vec![b'x'; 1 << 20];
        assert!(matches!(sender.send_by(&long, SHORT), Err(Error::TimedOut { .. })));
        assert!(matches!(sender.send_by(b"next", Deadline::Now), Err(Error::Full { .. })));
        let reader = std::thread::spawn(move || receive_all(&mut receiver));
        sender.send_by(b"next", LONG).unwrap();
        drop(sender);
        assert!(reader.join().unwrap() == [&long[..], b"next"]);
    }
}

#[test]
fn a_goodbye_finds_room_where_a_message_does_not() {
    for (scheme, options) in [(Scheme::Unix, ""), (Scheme::Unix, ",type=seqpacket"), (Scheme::Fifo, "")] {
        let place = Place::new();
        let (mut sender, mut receiver) = pair(&place.address(scheme, options));
        let sent = fill(&mut sender, 1000, Deadline::Now);
        drop(sender);
        assert_eq!(receive_all(&mut receiver).len(), sent);
        assert_eq!(receiver.died(), 0, "{scheme}{options}");
    }
}

#[test]
fn opening_ends_at_the_deadline_and_leaves_nothing() {
    for scheme in [Scheme::Unix, Scheme::Fifo] {
        for deadline in [Deadline::Now, Deadline::from(Duration::from_millis(30))] {
            let place = Place::new();
            let start = Instant::now();
            let error = Sender::<[u8]>::open_by(place.address(scheme, ""), deadline).err().unwrap();
            assert!(matches!(error, Error::TimedOut { doing: "opening", .. }), "{error}");
            assert!(start.elapsed() < Duration::from_secs(5));
            assert!(place.entries().is_empty());
        }
    }
}

#[test]
fn a_receive_ends_at_its_deadline_while_half_a_message_is_there() {
    use std::io::Write;
    let place = Place::new();
    let mut receiver = Receiver::<[u8]>::open(place.address(Scheme::Unix, "")).unwrap();
    let mut peer = std::os::unix::net::UnixStream::connect(place.path("channel")).unwrap();
    peer.write_all(b"nw1m\x05\0\0\0he").unwrap();
    for deadline in [Deadline::Now, Deadline::from(SHORT)] {
        assert!(matches!(receiver.recv_by(deadline), Err(Error::TimedOut { .. })));
    }
    peer.write_all(b"llo").unwrap();
    assert_eq!(&*receiver.recv_by(LONG).unwrap().unwrap(), b"hello");
    // Frames that never become a message keep nobody past the deadline.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let endless = b"nw1h\0\0\0\0".repeat(8192);
            while !stop.load(Ordering::Relaxed) {
                if peer.write_all(&endless).is_err() {
                    break;
                }
            }
        });
        let start = Instant::now();
        assert!(matches!(receiver.recv_by(Duration::from_millis(50)), Err(Error::TimedOut { .. })));
        assert!(start.elapsed() < Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        drop(receiver);
    });
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_storm_of_signals_neither_loses_nor_repeats() {
    // SAFETY: the handler only counts; without SA_RESTART, so that calls are interrupted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    for (scheme, options) in [
        (Scheme::Unix, ""),
        (Scheme::Unix, ",type=seqpacket"),
        (Scheme::Unix, ",type=dgram"),
        (Scheme::Fifo, ""),
        (Scheme::Fifo, ",wire=lines"),
    ] {
        let place = Place::new();
        let (mut sender, mut receiver) = pair(&place.address(scheme, options));
        let (send_thread, receive_thread) = (AtomicU32::new(0), AtomicU32::new(0));
        let done = AtomicBool::new(false);
        // SAFETY: always sound.
        let gettid = || unsafe { libc::gettid() } as u32;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send_thread.store(gettid(), Ordering::Release);
                for number in 0..3000 {
                    let text = format!("{number}:{}", "x".repeat(number * 13 % 9000));
                    sender.send_by(text.as_bytes(), LONG).unwrap();
                }
                drop(sender);
                wait_for("the end", || done.load(Ordering::Acquire));
            });
            scope.spawn(|| {
                wait_for("threads", || {
                    [&send_thread, &receive_thread].iter().all(|tid| tid.load(Ordering::Acquire) > 0)
                });
                while !done.load(Ordering::Acquire) {
                    for tid in [&send_thread, &receive_thread] {
                        let (pid, tid) = (std::process::id(), tid.load(Ordering::Acquire));
                        // SAFETY: both threads live until `done`.
                        unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGUSR1) };
                    }
                }
            });
            receive_thread.store(gettid(), Ordering::Release);
            for number in 0..3000 {
                let message = receiver.recv_by(LONG).unwrap().unwrap();
                assert!(message.starts_with(format!("{number}:").as_bytes()), "{scheme}{options}");
                assert_eq!(message.len(), format!("{number}:").len() + number * 13 % 9000);
            }
            // The end, which a datagram socket has not.
            assert!(!matches!(receiver.recv_by(SHORT), Ok(Some(_))));
            done.store(true, Ordering::Release);
        });
    }
    assert!(SIGNALS.load(Ordering::Relaxed) > 1000, "the storm came");
}
