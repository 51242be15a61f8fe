//! Sleepers are woken: by a message, by room, by the end, and beside a sleeper that is killed.
//!
//! A sleep lasts at most 100 ms by itself, so a wake-up that is lost shows as a late one: a few may be late because
//! the machine is busy, not many.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use narrows::{Deadline, Receiver, Sender};
use rustix::process::Signal;

use super::ledger::{Ledger, Mark, Sign};
use super::peer::{Peer, Random, Scene, is_asleep, report, setting, soon, start};

/// A sleep that nobody ended lasts longer than this.
const LATE: Duration = Duration::from_millis(90);

/// Receives until the end, and counts; sleeps at once where there is nothing.
pub(crate) fn sleeper(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let mut receiver = Receiver::<[u8]>::open(format!("{},wait=sleep", arguments[2])).unwrap();
    ledger.ready(board);
    while receiver.recv().unwrap().is_some() {
        ledger.mark(board, Mark::Beats).fetch_add(1, SeqCst);
    }
    ledger.sign(Sign::A).store(1, SeqCst);
}

/// Sends until it is killed, and counts; sleeps at once where there is no room.
pub(crate) fn pusher(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let mut sender = Sender::<[u8]>::open(format!("{},wait=sleep", arguments[2])).unwrap();
    ledger.ready(board);
    while !ledger.is(Sign::Stop) {
        sender.send(b"one").unwrap();
        ledger.mark(board, Mark::Beats).fetch_add(1, SeqCst);
    }
}

/// A scene of its own for each way to sleep.
struct Bedroom {
    scene: Scene,
    ledger: Ledger,
    address: String,
}

impl Bedroom {
    fn new(options: &str) -> Self {
        let scene = Scene::new();
        let ledger = Ledger::create(&scene.shm("ledger"));
        let address = format!("{},{options}", scene.shm("channel"));
        Self { scene, ledger, address }
    }

    fn start(&self, role: &str, board: u64) -> Peer {
        self.ledger.clear(board);
        start(role, &self.scene, board, &self.address, [0, 0])
    }

    fn beats(&self, board: u64) -> u64 {
        self.ledger.mark(board, Mark::Beats).load(SeqCst)
    }

    /// Waits until that process sleeps.
    fn asleep(&self, board: u64) {
        soon("a process to open", || self.ledger.is_ready(board));
        let (pid, tid) = (self.ledger.mark(board, Mark::Pid), self.ledger.mark(board, Mark::Tid));
        soon("a process to sleep", || is_asleep(pid.load(SeqCst), tid.load(SeqCst)));
    }
}

/// Fails where wake-ups were lost.
fn judge(what: &str, mut delays: Vec<Duration>) {
    delays.sort_unstable();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    let late = delays.iter().filter(|delay| **delay > LATE).count();
    report(&format!(
        "woken {what}: {} times, median {median:.1?}, worst {worst:.1?}, {late} late",
        delays.len()
    ));
    assert!(late <= 2 + delays.len() / 20, "{what}: {late} of {} woke only by themselves", delays.len());
}

#[test]
fn a_receiver_is_woken_by_a_message() {
    for options in ["capacity=4", "peers=one,fence=sleeper", "peers=one,fence=everyone"] {
        let room = Bedroom::new(options);
        let mut sender = Sender::<[u8]>::open(&*room.address).unwrap();
        let sleeper = room.start("sleeper", 0);
        let delays = (0..50).map(|round| {
            room.asleep(0);
            let began = Instant::now();
            sender.send(b"wake up").unwrap();
            soon("the message to arrive", || room.beats(0) > round);
            began.elapsed()
        });
        judge(&format!("by a message, {options}"), delays.collect());
        // The end wakes too.
        room.asleep(0);
        let began = Instant::now();
        drop(sender);
        soon("the end to arrive", || room.ledger.is(Sign::A));
        report(&format!("the end was told after {:.1?}, {options}", began.elapsed()));
        sleeper.ends();
        assert_eq!(room.scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
    }
}

#[test]
fn a_sender_is_woken_by_room() {
    for options in
        ["capacity=2", "capacity=64", "peers=one,capacity=2", "peers=one,fence=everyone,capacity=64"]
    {
        let room = Bedroom::new(options);
        let mut receiver = Receiver::<[u8]>::open(&*room.address).unwrap();
        let pusher = room.start("pusher", 0);
        let delays = (0..50).map(|_| {
            room.asleep(0);
            let before = room.beats(0);
            let began = Instant::now();
            receiver.recv().unwrap().unwrap();
            soon("the sender to go on", || room.beats(0) > before);
            began.elapsed()
        });
        judge(&format!("by room, {options}"), delays.collect());
        pusher.kill();
    }
}

#[test]
fn a_receiver_learns_of_the_last_senders_death() {
    let mut delays = Vec::new();
    for options in ["capacity=4", "peers=one"] {
        for _ in 0..5 {
            let room = Bedroom::new(options);
            let mut receiver = Receiver::<[u8]>::open(format!("{},wait=sleep", room.address)).unwrap();
            let sender = start("idle-sender", &room.scene, 0, &room.address, [0, 0]);
            soon("the sender to open", || room.ledger.is_ready(0));
            let waiting = std::thread::spawn(move || {
                assert!(receiver.recv().unwrap().is_none());
                (Instant::now(), receiver.died())
            });
            let killed = Instant::now();
            sender.kill();
            let (noticed, died) = waiting.join().unwrap();
            assert_eq!(died, 1);
            delays.push(noticed.duration_since(killed));
        }
    }
    let worst = delays.iter().max().unwrap();
    report(&format!("the last sender's death was told at most {worst:.1?} after SIGKILL (goal 250 ms)"));
    assert!(*worst < Duration::from_secs(1));
}

/// A post and the kill of one of two sleepers, in random order, up to 300 µs apart; then a post that wakes the other.
fn beside_a_killed(role: &str, options: &str, mut post: impl FnMut(&Bedroom), rounds: u64) -> Vec<Duration> {
    let mut random = Random::of(role);
    let room = Bedroom::new(options);
    // Senders find it full.
    let mut filler = Sender::<[u8]>::open(&*room.address).unwrap();
    if role == "pusher" {
        while filler.send_by(b"fill", Deadline::Now).is_ok() {}
    }
    let _survivor = room.start(role, 0);
    let mut victim = room.start(role, 1);
    let mut delays = Vec::new();
    for _ in 0..rounds {
        room.asleep(0);
        room.asleep(1);
        let (is_first, pause) = (random.below(2) == 0, random.below(300));
        let wait = |began: Instant| while began.elapsed() < Duration::from_micros(pause) {};
        let before = [room.beats(0), room.beats(1)];
        let began = Instant::now();
        if is_first {
            victim.signal(Signal::KILL);
            wait(Instant::now());
            post(&room);
        } else {
            post(&room);
            wait(Instant::now());
            victim.signal(Signal::KILL);
        }
        victim.kill();
        if room.beats(1) > before[1] {
            post(&room); // the victim still had its share
        }
        soon("the second sleeper to wake", || {
            // Perhaps the victim had its share and could not say so any more.
            if room.beats(0) == before[0] && began.elapsed() > 2 * LATE {
                post(&room);
            }
            room.beats(0) > before[0]
        });
        delays.push(began.elapsed());
        victim = room.start(role, 1);
    }
    delays
}

#[test]
fn a_receiver_wakes_beside_a_killed_one() {
    let rounds = setting("NARROWS_CRASH_KILLS").unwrap_or(100);
    let mut sender = None;
    let post = |room: &Bedroom| {
        sender.get_or_insert_with(|| Sender::<[u8]>::open(&*room.address).unwrap()).send(b"wake up").unwrap();
    };
    judge("beside a killed receiver", beside_a_killed("sleeper", "capacity=8", post, rounds));
}

#[test]
fn a_sender_wakes_beside_a_killed_one() {
    let rounds = setting("NARROWS_CRASH_KILLS").unwrap_or(100);
    let mut receiver = None;
    let post = |room: &Bedroom| {
        let receiver = receiver.get_or_insert_with(|| Receiver::<[u8]>::open(&*room.address).unwrap());
        receiver.recv().unwrap().unwrap();
    };
    judge("beside a killed sender", beside_a_killed("pusher", "capacity=8", post, rounds));
}

/// What a process is registered for with membarrier(2); `None` where the kernel cannot tell (before Linux 6.3).
fn registrations() -> Option<u64> {
    const GET_REGISTRATIONS: libc::c_int = 1 << 9;
    // SAFETY: it takes no memory.
    u64::try_from(unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, 0, 0) }).ok()
}

/// Opens what it knows nothing of but the name, and says what it is registered for, and 1.
pub(crate) fn newcomer(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let _sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    ledger.mark(board, Mark::Beats).store(registrations().unwrap() + 1, SeqCst);
    soon("the end", || ledger.is(Sign::Stop));
}

/// Who is not registered is not fenced by whoever goes to sleep, and would not see that he does.
#[test]
fn whoever_comes_is_registered_for_the_sleepers_barrier_where_there_is_one() {
    const GLOBAL_EXPEDITED: u64 = 1 << 2;
    if registrations().is_none() {
        return report("SKIPPED: the kernel does not tell what is registered for membarrier(2)");
    }
    for (options, registered) in
        [("peers=many", 0), ("peers=one,fence=everyone", 0), ("peers=one,fence=sleeper", GLOBAL_EXPEDITED)]
    {
        let room = Bedroom::new(options);
        let Ok(_receiver) = Receiver::<[u8]>::open(&*room.address) else {
            return report("SKIPPED: no membarrier(2)");
        };
        let newcomer = start("newcomer", &room.scene, 0, &room.scene.shm("channel"), [0, 0]);
        soon("the newcomer", || room.beats(0) > 0);
        assert_eq!(room.beats(0) - 1, registered, "{options}");
        room.ledger.sign(Sign::Stop).store(1, SeqCst);
        newcomer.ends();
    }
}
