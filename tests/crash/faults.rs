//! What a participant can do to itself, and what others must think of it then.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use narrows::channel::{remove, status};
use narrows::{Address, Deadline, Error, Receiver, Sender};
use rustix::process::{Pid, Signal};

use super::ledger::{Ledger, Mark, Sign};
use super::peer::{Peer, Scene, report, soon, start};

/// Whoever waits learns of a death within this time; the goal is 250 ms.
const NOTICED: Duration = Duration::from_secs(1);

fn parsed(address: &str) -> Address {
    address.parse().unwrap()
}

/// Sends a small message, and one for each size; then stays until the end.
pub(crate) fn talker(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    for size in [1, 3000, 100_000, 3 << 20] {
        sender.send(&vec![size as u8; size]).unwrap();
    }
    ledger.ready(board);
    soon("the end", || ledger.is(Sign::Stop));
}

/// Closes every descriptor, as daemons do, fills their numbers with other files, and works on.
pub(crate) fn daemon(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    let mut receiver = Receiver::<[u8]>::open(format!("{}.in", arguments[2])).unwrap();
    // SAFETY: nothing else that owns a descriptor is dropped: the process ends by `exit`.
    assert_eq!(unsafe { libc::close_range(0, u32::MAX, 0) }, 0);
    for _ in 0..16 {
        std::mem::forget(std::fs::File::open("/dev/null").unwrap());
    }
    ledger.ready(board);
    while let Some(received) = receiver.recv().unwrap() {
        sender.send(&received).unwrap();
    }
    sender.send(format!("{} died", receiver.died()).as_bytes()).unwrap();
    drop((sender, receiver));
    std::process::exit(0);
}

#[test]
fn a_daemon_that_closes_all_descriptors_lives() {
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = scene.shm("channel");
    let mut receiver = Receiver::<[u8]>::open(&*address).unwrap();
    let daemon = start("daemon", &scene, 0, &address, [0, 0]);
    soon("the daemon to close its descriptors", || ledger.is_ready(0));
    let looked = status(&parsed(&address)).unwrap();
    assert_eq!(looked.senders, 1, "{looked:?}");
    assert!(looked.peers.iter().all(|peer| peer.alive), "{looked:?}");
    let talker = start("talker", &scene, 1, &format!("{address}.in"), [0, 0]);
    for size in [1, 3000, 100_000, 3 << 20] {
        let received = receiver.recv_by(Duration::from_secs(20)).unwrap().unwrap();
        assert!(*received == *vec![size as u8; size], "{size} bytes");
    }
    // Its own look at the others' locks must not take the wrong file for theirs.
    let looked = status(&parsed(&format!("{address}.in"))).unwrap();
    assert_eq!((looked.senders, looked.receivers), (1, 1), "{looked:?}");
    soon("the talker to be done", || ledger.is_ready(1));
    talker.kill();
    let received = receiver.recv_by(Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!(&*received, b"1 died");
    daemon.ends();
    assert!(receiver.recv().unwrap().is_none());
    drop(receiver);
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Forks a child that never execs and keeps everything it inherited; waits to be killed.
pub(crate) fn parent(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    sender.send(b"from the parent").unwrap();
    let child = fork(|| soon("the end", || ledger.is(Sign::Stop)));
    ledger.sign(Sign::A).store(child.as_raw_nonzero().get() as u64, SeqCst);
    ledger.ready(board);
    soon("being killed", || ledger.is(Sign::Stop));
}

/// Forks a child that does its work and exits, with 0 where the work did not fail.
fn fork<T>(work: impl FnOnce() -> T) -> Pid {
    // SAFETY: the process has one other thread, which waits and holds no lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
        // SAFETY: always sound.
        unsafe { libc::_exit(i32::from(failed)) };
    }
    Pid::from_raw(child).expect("a child")
}

/// Waits until a child made by [`fork`] exits, and says whether its work was done.
fn succeeded(child: Pid) -> bool {
    let mut found = None;
    soon("a forked child to exit", || {
        found = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::NOHANG).unwrap();
        found.is_some()
    });
    found.unwrap().1.exit_status() == Some(0)
}

#[test]
fn a_forked_child_does_not_keep_its_killed_parent_alive() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = format!("{},participants=2", scene.shm("channel"));
    let mut receiver = Receiver::<[u8]>::open(&*address).unwrap();
    let parent = start("parent", &scene, 0, &address, [0, 0]);
    soon("the parent to fork", || ledger.is_ready(0));
    assert_eq!(&*receiver.recv().unwrap().unwrap(), b"from the parent");
    let killed = Instant::now();
    parent.kill();
    assert!(receiver.recv().unwrap().is_none());
    assert!(killed.elapsed() < NOTICED, "noticed after {:?}", killed.elapsed());
    assert_eq!(receiver.died(), 1);
    // The only other place is free again, its old holder's child living.
    let mut sender = Sender::<[u8]>::open(&*address).unwrap();
    sender.send(b"from the next").unwrap();
    assert_eq!(&*receiver.recv().unwrap().unwrap(), b"from the next");
    drop((sender, receiver));
    ledger.sign(Sign::Stop).store(1, SeqCst);
    let child = Pid::from_raw(ledger.sign(Sign::A).load(SeqCst) as i32).unwrap();
    assert!(succeeded(child));
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Holds one of everything, forks, and lets the child try it all.
pub(crate) fn family(arguments: &[&str]) {
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    let mut receiver = sender.receiver().unwrap();
    let large = vec![3; 3000];
    sender.send(&large).unwrap();
    let guard = receiver.recv_in_place(Deadline::Now).unwrap().unwrap();
    let mut loan = sender.loan(3000).unwrap();
    loan.write_at(0, &large);
    let mut of_child = Some((sender, receiver, guard, loan));
    let child = fork(|| {
        let (mut sender, mut receiver, guard, mut loan) = of_child.take().unwrap();
        let is_forked = |error: &Error| matches!(error, Error::Forked { .. });
        assert!(is_forked(&sender.send(b"x").unwrap_err()));
        assert!(is_forked(&sender.send(&large).unwrap_err()));
        assert!(is_forked(&sender.loan(3000).err().unwrap()));
        assert!(is_forked(&sender.try_clone().err().unwrap()));
        assert!(is_forked(&sender.receiver().err().unwrap()));
        assert!(is_forked(&receiver.recv().err().unwrap()));
        assert!(is_forked(&receiver.recv_in_place(Deadline::Now).err().unwrap()));
        assert!(is_forked(&receiver.try_clone().err().unwrap()));
        assert_eq!((guard.len(), receiver.died()), (3000, 0));
        let mut bytes = [1; 8];
        guard.read_at(0, &mut bytes);
        assert_eq!(bytes, [0; 8], "there is nothing to read");
        loan.write_at(0, &[9; 3000]);
        assert!(is_forked(&sender.commit(loan).unwrap_err().error));
        drop((guard, sender, receiver));
        let mut anew = Sender::<[u8]>::open(arguments[2]).unwrap();
        anew.send(b"from the child").unwrap();
        anew.send(&large).unwrap();
    });
    assert!(succeeded(child), "the child failed");
    let (mut sender, mut receiver, guard, loan) = of_child.unwrap();
    assert_eq!(&*receiver.recv().unwrap().unwrap(), b"from the child");
    assert!(*receiver.recv().unwrap().unwrap() == *large);
    assert!(*guard.to_owned() == *large, "what the parent holds was given away");
    sender.commit(loan).unwrap();
    assert!(*receiver.recv().unwrap().unwrap() == *large, "what the parent had on loan was given away");
    sender.send(b"from the parent").unwrap();
    assert_eq!(&*receiver.recv().unwrap().unwrap(), b"from the parent");
}

#[test]
fn a_forked_child_gets_forked_and_opens_anew() {
    let scene = Scene::new();
    let _ledger = Ledger::create(&scene.shm("ledger"));
    start("family", &scene, 0, &scene.shm("channel"), [0, 0]).ends();
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Opens, sends, and becomes another program.
pub(crate) fn changeling(arguments: &[&str]) {
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    sender.send(b"before").unwrap();
    let part = ["idler", arguments[0], arguments[1]].join("\n");
    let mut next = Command::new(std::env::current_exe().unwrap());
    next.args(["--exact", "peer::role", "--nocapture"]).env(super::peer::PART, part);
    panic!("{}", next.exec());
}

/// Does nothing until the end.
pub(crate) fn idler(arguments: &[&str]) {
    let ledger = Ledger::open(arguments[0]);
    ledger.ready(arguments[1].parse().unwrap());
    soon("the end", || ledger.is(Sign::Stop));
}

#[test]
fn exec_is_death() {
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let mut receiver = Receiver::<[u8]>::open(scene.shm("channel")).unwrap();
    let mut changeling = start("changeling", &scene, 0, &scene.shm("channel"), [0, 0]);
    soon("the other program", || ledger.is_ready(0));
    assert_eq!(&*receiver.recv().unwrap().unwrap(), b"before");
    let began = Instant::now();
    assert!(receiver.recv().unwrap().is_none());
    assert!(began.elapsed() < NOTICED, "noticed after {:?}", began.elapsed());
    assert_eq!(receiver.died(), 1);
    assert!(changeling.is_running());
    ledger.sign(Sign::Stop).store(1, SeqCst);
    changeling.ends();
}

#[test]
fn a_stopped_peer_is_not_dead() {
    for options in ["", ",peers=one"] {
        let scene = Scene::new();
        let ledger = Ledger::create(&scene.shm("ledger"));
        let address = format!("{}{options}", scene.shm("channel"));
        let mut receiver = Receiver::<[u8]>::open(&*address).unwrap();
        let talker = start("talker", &scene, 0, &address, [0, 0]);
        soon("the talker to be done", || ledger.is_ready(0));
        talker.signal(Signal::STOP);
        for _ in 0..4 {
            receiver.recv().unwrap().unwrap();
        }
        // Longer than any look for the dead takes to come round.
        let waited = receiver.recv_by(Duration::from_millis(400));
        assert!(matches!(waited, Err(Error::TimedOut { .. })), "{waited:?}");
        let looked = status(&parsed(&scene.shm("channel"))).unwrap();
        assert_eq!((looked.senders, looked.died), (1, 0), "{looked:?}");
        if !options.is_empty() {
            let refusal = Sender::<[u8]>::open(&*address).err().unwrap();
            let pid = talker.pid().as_raw_nonzero().to_string();
            assert!(
                matches!(&refusal, Error::Busy { holder: Some(holder), .. } if holder.contains(&pid)),
                "{refusal}"
            );
        }
        talker.signal(Signal::CONT);
        ledger.sign(Sign::Stop).store(1, SeqCst);
        talker.ends();
        assert!(receiver.recv().unwrap().is_none());
        assert_eq!(receiver.died(), 0);
    }
}

/// Sends its pid as it sees it, and stays.
pub(crate) fn namesake(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    sender.send(std::process::id().to_string().as_bytes()).unwrap();
    ledger.ready(board);
    soon("the end", || ledger.is(Sign::Stop));
}

#[test]
fn two_namespaces_with_the_same_pid_are_told_apart() {
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let trial = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if !trial.is_ok_and(|output| output.status.success()) {
        return report("SKIPPED: no right to make a PID namespace with unshare(1)");
    }
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = scene.shm("channel");
    let mut receiver = Receiver::<[u8]>::open(&*address).unwrap();
    let begin =
        |board: &str| Peer::wrapped(&unshare, "namesake", &[&scene.shm("ledger"), board, &address, "0", "0"]);
    let (first, second) = (begin("0"), begin("1"));
    soon("both to send", || ledger.is_ready(0) && ledger.is_ready(1));
    for _ in 0..2 {
        assert_eq!(&*receiver.recv().unwrap().unwrap(), b"1");
    }
    let looked = status(&parsed(&address)).unwrap();
    assert_eq!(looked.peers.iter().filter(|peer| peer.pid == 1 && peer.alive).count(), 2, "{looked:?}");
    first.kill();
    soon("the first to be seen dead", || status(&parsed(&address)).unwrap().senders == 1);
    let waited = receiver.recv_by(Duration::from_millis(400));
    assert!(matches!(waited, Err(Error::TimedOut { .. })), "one pid 1 lives: {waited:?}");
    assert_eq!(receiver.died(), 1);
    second.kill();
    assert!(receiver.recv_by(Duration::from_secs(20)).unwrap().is_none());
    assert_eq!(receiver.died(), 2);
}

#[test]
fn a_full_table_names_the_remedy_and_has_room_when_one_leaves_or_dies() {
    for participants in [2, 3, 4] {
        let scene = Scene::new();
        let ledger = Ledger::create(&scene.shm("ledger"));
        let address = format!("{},participants={participants}", scene.shm("channel"));
        let receiver = Receiver::<[u8]>::open(&*address).unwrap();
        let begin = |board: u64| {
            ledger.clear(board);
            let peer = start("idle-sender", &scene, board, &address, [0, 0]);
            soon("a sender to open", || ledger.is_ready(board));
            peer
        };
        let refused = || match Sender::<[u8]>::open(&*address) {
            Err(Error::NoSpace { hint: Some(hint), .. }) => assert!(hint.contains("participants="), "{hint}"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("there was a place too many"),
        };
        let mut senders: Vec<Peer> = (1..participants).map(&begin).collect();
        refused();
        ledger.sign(Sign::Stop).store(1, SeqCst);
        senders.drain(..).for_each(Peer::ends);
        ledger.sign(Sign::Stop).store(0, SeqCst);
        let mut senders: Vec<Peer> = (1..participants).map(&begin).collect();
        refused();
        senders.pop().unwrap().kill();
        let last = Sender::<[u8]>::open(&*address).unwrap();
        refused();
        drop((last, receiver));
        senders.into_iter().for_each(Peer::kill);
        remove(&parsed(&scene.shm("channel"))).ok(); // the last of two left it in order
    }
}

/// Opens a sender, and stays.
pub(crate) fn idle_sender(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let _sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    ledger.ready(board);
    ledger.mark(board, Mark::Beats).store(1, SeqCst);
    soon("the end", || ledger.is(Sign::Stop));
}
