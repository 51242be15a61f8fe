//! What waiting and sending cost: processor time, system calls.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use narrows::{Deadline, Receiver, Sender};

use super::ledger::{Ledger, Mark, Sign};
use super::peer::{Peer, Scene, report, soon, start};

const MESSAGES: u64 = 10_000;

/// Nanoseconds that a thread has run.
fn run_ns(pid: u64, tid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn an_idle_receiver_costs_almost_nothing() {
    for options in ["", ",peers=one"] {
        let scene = Scene::new();
        let ledger = Ledger::create(&scene.shm("ledger"));
        let address = format!("{}{options}", scene.shm("channel"));
        let mut sender = Sender::<[u8]>::open(&*address).unwrap();
        let sleeper = start("sleeper", &scene, 0, &address, [0, 0]);
        soon("the receiver to open", || ledger.is_ready(0));
        sender.send(b"one").unwrap();
        soon("the message to arrive", || ledger.mark(0, Mark::Beats).load(SeqCst) == 1);
        let of = |mark| ledger.mark(0, mark).load(SeqCst);
        let (began, before) = (Instant::now(), run_ns(of(Mark::Pid), of(Mark::Tid)));
        std::thread::sleep(Duration::from_secs(2)); // what is measured is doing nothing for a while
        let ran = run_ns(of(Mark::Pid), of(Mark::Tid)) - before;
        let percent = 100.0 * ran as f64 / began.elapsed().as_nanos() as f64;
        report(&format!("an idle receiver ran {percent:.3} % of the time (goal 0.1 %){options}"));
        assert!(percent <= 1.0);
        drop(sender);
        sleeper.ends();
    }
}

/// Does its work where every system call but `read`, `write` and `_exit` is death by SIGKILL. Says how it ended.
fn without_system_calls<T>(work: impl FnOnce() -> T) -> Option<i32> {
    // SAFETY: the process has one other thread, which waits and holds no lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).ok();
        std::mem::forget(work()); // closing its handles would take system calls
        // SAFETY: ends this process, which has one thread; `_exit` would call exit_group, which is not allowed.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    let status = std::process::ExitStatus::from_raw(status);
    status.code().or(status.signal().map(|signal| -signal))
}

/// From here on system calls kill.
fn forbid_system_calls() {
    // SAFETY: changes what this thread, the process's only one, may call.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) } != 0 {
        // SAFETY: always sound.
        unsafe { libc::_exit(77) };
    }
}

/// Sends and receives, each without a system call; then makes one, to show that it would have been seen.
pub(crate) fn ascetic(arguments: &[&str]) {
    let ledger = Ledger::open(arguments[0]);
    let address = arguments[2];
    let sent = without_system_calls(|| {
        soon("the receiver to open", || ledger.is(Sign::Go));
        let mut sender = Sender::<[u8]>::open(address).unwrap();
        forbid_system_calls();
        for _ in 0..MESSAGES {
            sender.send(&[1; 40]).unwrap();
        }
        sender
    });
    let received = without_system_calls(|| {
        let options = address.split_once(',').map_or("peers=many", |(_, options)| options);
        let mut sender = Sender::<[u8]>::open(format!("memfd:own,capacity=16384,{options}")).unwrap();
        for _ in 0..MESSAGES {
            sender.send(&[1; 40]).unwrap();
        }
        let mut receiver = sender.receiver().unwrap();
        let mut place = Default::default();
        forbid_system_calls();
        for _ in 0..MESSAGES {
            receiver.recv_into(&mut place, Deadline::Never).unwrap();
        }
        (sender, receiver)
    });
    let seen = without_system_calls(|| {
        forbid_system_calls();
        std::process::id()
    });
    let outcomes = [(Sign::A, sent), (Sign::B, received), (Sign::C, seen)];
    for (sign, outcome) in outcomes {
        ledger.sign(sign).store(1000_u64.wrapping_add_signed(outcome.unwrap().into()), SeqCst);
    }
}

/// Receives, always watching, until the end.
pub(crate) fn watcher(arguments: &[&str]) {
    let ledger = Ledger::open(arguments[0]);
    let mut receiver = Receiver::<[u8]>::open(format!("{},wait=spin", arguments[2])).unwrap();
    ledger.sign(Sign::Go).store(1, SeqCst);
    let mut count = 0;
    while receiver.recv().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, MESSAGES);
}

#[test]
fn a_message_costs_no_system_call_while_nobody_sleeps() {
    for options in ["", ",peers=one"] {
        let scene = Scene::new();
        let ledger = Ledger::create(&scene.shm("ledger"));
        let address = format!("{}{options}", scene.shm("channel"));
        let watcher = start("watcher", &scene, 0, &format!("{address},capacity=16384"), [0, 0]);
        Peer::ends(start("ascetic", &scene, 1, &address, [0, 0]));
        let outcome = |sign| ledger.sign(sign).load(SeqCst) as i64 - 1000;
        if outcome(Sign::C) == 77 {
            return report("SKIPPED: no right to forbid system calls by seccomp(2)");
        }
        assert_eq!(outcome(Sign::C), -i64::from(libc::SIGKILL), "a system call is not seen");
        assert_eq!(outcome(Sign::A), 0, "{MESSAGES} sends made a system call{options}");
        assert_eq!(outcome(Sign::B), 0, "{MESSAGES} receives made a system call{options}");
        watcher.ends();
    }
}
