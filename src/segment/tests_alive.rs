//! What only several processes can show. A test runs its own executable again, as the peer: there the same function
//! finds its part in the environment.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::tests::{Name, eventually, word};
use super::*;

const PART: &str = "NARROWS_SEGMENT_PART";

/// A peer process, killed and reaped at the end.
struct Peer(Child);

impl Peer {
    /// Runs the test of this name in another process, through `wrapper` (which may be empty).
    fn wrapped(wrapper: &[&str], test: &str, part: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = match wrapper {
            [] => Command::new(this),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(this);
                command
            }
        };
        let test = format!("segment::tests_alive::{test}");
        command.args(["--exact", &test, "--nocapture", "--test-threads=1"]).env(PART, part);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn new(test: &str, part: &str) -> Self {
        Self::wrapped(&[], test, part)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a child that is not reaped before `self` goes keeps its number.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0);
    }

    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
    }

    fn succeeded(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The part that this process plays, where it is a peer.
fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// The segment that the part's first word names.
fn stage(part: &str) -> (Address, Segment) {
    let address: Address = part.split_whitespace().next().unwrap().parse().unwrap();
    let segment = Segment::open(&address, &Place::of(&address).unwrap()).unwrap().unwrap();
    (address, segment)
}

/// Waits, as a peer, to be killed; not for ever, should the test be gone.
fn stay() -> ! {
    std::thread::sleep(Duration::from_secs(60));
    std::process::exit(1)
}

#[test]
fn a_killed_creator_leaves_a_whole_segment_or_nothing() {
    if let Some(part) = part() {
        let address: Address = part.parse().unwrap();
        let place = Place::of(&address).unwrap();
        loop {
            let made = Segment::create(&address, &place, 1 << 20, 1 << 16, 0o600, &mut |segment| {
                word(segment).store(0xC0FFEE, SeqCst);
                Ok(())
            });
            made.unwrap().unwrap().unlink(Deadline::Never).unwrap();
        }
    }
    let name = Name::new();
    let (mut found, mut missing) = (0, 0);
    for round in 0..40u64 {
        let peer = Peer::new("a_killed_creator_leaves_a_whole_segment_or_nothing", &name.0.to_string());
        eventually("the peer creates", || name.path().exists());
        let moment = Instant::now() + Duration::from_micros(round * 37 % 1000);
        while Instant::now() < moment {}
        drop(peer);
        match name.open() {
            Some(segment) => {
                assert_eq!(word(&segment).load(SeqCst), 0xC0FFEE);
                assert!(segment.unlink(Deadline::Now).unwrap());
                found += 1;
            }
            None => missing += 1,
        }
    }
    assert_eq!(found + missing, 40);
    let mut names = std::fs::read_dir("/dev/shm").unwrap().flatten().map(|entry| entry.file_name());
    assert!(!names.any(|name| name.to_string_lossy().starts_with(".narrows-")));
}

#[test]
fn a_creator_killed_while_it_initialises_leaves_nothing() {
    if let Some(part) = part() {
        let (_, stage) = stage(&part);
        let address: Address = part.split_whitespace().nth(1).unwrap().parse().unwrap();
        let place = Place::of(&address).unwrap();
        let made = Segment::create(&address, &place, 1 << 20, 0, 0o600, &mut |_| {
            word(&stage).store(1, SeqCst);
            stay()
        });
        unreachable!("{made:?}");
    }
    let (stage, name) = (Name::new(), Name::new());
    let stage_segment = stage.create().unwrap();
    let part = format!("{} {}", stage.0, name.0);
    let peer = Peer::new("a_creator_killed_while_it_initialises_leaves_nothing", &part);
    eventually("the peer initialises", || word(&stage_segment).load(SeqCst) == 1);
    assert!(!name.path().exists());
    drop(peer);
    assert!(!name.path().exists());
    let failed = Segment::create(&name.0, &name.place(), 1 << 20, 0, 0o600, &mut |segment| {
        Err(Error::TimedOut { what: segment.what().clone(), doing: "initialising" })
    });
    assert!(failed.is_err() && !name.path().exists());
}

#[test]
fn of_two_creators_exactly_one_wins() {
    const ROUNDS: u32 = 100;
    // Words of the stage: 0 the round, 1 how many peers have done it, 2 how many have won it.
    let play = |stage: &Segment, address: &Address| {
        for round in 1..=ROUNDS {
            while at(stage, 0).load(SeqCst) < round {
                std::hint::spin_loop();
            }
            let place = Place::of(address).unwrap();
            let made = Segment::create(address, &place, 1 << 16, 0, 0o600, &mut |_| Ok(())).unwrap();
            at(stage, 2).fetch_add(u32::from(made.is_some()), SeqCst);
            at(stage, 1).fetch_add(1, SeqCst);
        }
    };
    if let Some(part) = part() {
        let (_, stage) = stage(&part);
        return play(&stage, &part.split_whitespace().nth(1).unwrap().parse().unwrap());
    }
    let (stage, name) = (Name::new(), Name::new());
    let stage_segment = stage.create().unwrap();
    let part = format!("{} {}", stage.0, name.0);
    let peers = [(); 2].map(|()| Peer::new("of_two_creators_exactly_one_wins", &part));
    for round in 1..=ROUNDS {
        at(&stage_segment, 0).store(round, SeqCst);
        eventually("both have tried", || at(&stage_segment, 1).load(SeqCst) == 2 * round);
        assert_eq!(at(&stage_segment, 2).load(SeqCst), round);
        assert!(name.open().unwrap().unlink(Deadline::Now).unwrap());
    }
    assert!(peers.into_iter().all(Peer::succeeded));
}

fn at(segment: &Segment, index: usize) -> &std::sync::atomic::AtomicU32 {
    // SAFETY: within the first page, aligned, only used as atomics.
    unsafe { std::sync::atomic::AtomicU32::from_ptr(segment.base().cast::<u32>().add(index)) }
}

/// What a peer does once it holds place 1 with its mapping alone.
fn take_place(part: &str) -> Segment {
    let (_, segment) = stage(part);
    assert!(segment.try_lock(1).unwrap());
    segment.pin();
    segment
}

fn say(segment: &Segment, value: u32) {
    word(segment).store(value, SeqCst);
}

fn hear(segment: &Segment, value: u32) {
    eventually("the peer says so", || word(segment).load(SeqCst) == value);
}

#[test]
fn the_place_survives_the_closing_of_all_descriptors_and_falls_with_the_process() {
    const TEST: &str = "the_place_survives_the_closing_of_all_descriptors_and_falls_with_the_process";
    if let Some(part) = part() {
        let segment = take_place(&part);
        // SAFETY: every owner of a descriptor in this process can stand it, or is asleep.
        assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
        assert_eq!((segment.holder(1), segment.holder(2)), (Holder::Held, Holder::Free), "reopened by name");
        segment.reserve(1 << 18, 1 << 16).unwrap();
        say(&segment, 1);
        stay()
    }
    let name = Name::new();
    let segment = name.create().unwrap();
    let peer = Peer::new(TEST, &name.0.to_string());
    hear(&segment, 1);
    assert_eq!(segment.holder(1), Holder::Held);
    peer.signal(libc::SIGSTOP);
    eventually("the peer has stopped", || peer.state() == 'T');
    assert_eq!(segment.holder(1), Holder::Held, "a stopped process is not dead");
    peer.signal(libc::SIGKILL);
    eventually("the lock falls, though nobody has reaped the process", || segment.holder(1) == Holder::Free);
}

/// Forks a child that does nothing until it is killed.
fn fork_idler() -> i32 {
    // SAFETY: the child makes only system calls; the alarm ends it should the test fail.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
    }
    assert!(child > 0);
    child
}

fn kill_idler(child: i32) {
    // SAFETY: a process of this test, alive (checked here), which only its alarm would end otherwise.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child lived all the while");
}

#[test]
fn a_forked_child_does_not_keep_its_dead_parents_place() {
    if let Some(part) = part() {
        let (_, segment) = stage(&part);
        assert!(segment.try_lock(1).unwrap() && segment.try_lock(2).unwrap());
        at(&segment, 1).store(fork_idler() as u32, SeqCst); // while the descriptor is open
        segment.pin();
        at(&segment, 2).store(fork_idler() as u32, SeqCst);
        stay()
    }
    let name = Name::new();
    let segment = name.create().unwrap();
    let peer = Peer::new("a_forked_child_does_not_keep_its_dead_parents_place", &name.0.to_string());
    eventually("the peer has forked", || at(&segment, 2).load(SeqCst) != 0);
    let children = [1, 2].map(|index| at(&segment, index).load(SeqCst) as i32);
    assert_eq!(segment.holder(1), Holder::Held);
    peer.signal(libc::SIGKILL);
    eventually("the lock falls", || segment.holder(1) == Holder::Free && segment.holder(2) == Holder::Free);
    children.into_iter().for_each(kill_idler);
}

#[test]
fn no_place_is_kept_by_children_forked_while_others_open() {
    if let Some(part) = part() {
        let done = std::sync::atomic::AtomicBool::new(false);
        drop(stage(&part)); // forks are watched from the first opening on
        std::thread::scope(|scope| {
            let forker = scope.spawn(|| {
                let mut children = Vec::new();
                while !done.load(SeqCst) && children.len() < 200 {
                    children.push(fork_idler());
                }
                children
            });
            let (mut rounds, mut kept) = (0, false);
            while !forker.is_finished() && !kept {
                let (_, segment) = stage(&part);
                kept |= !segment.try_lock(1).unwrap();
                segment.pin();
                drop(segment);
                // A child may have to run before it has closed its copy.
                let end = Instant::now() + Duration::from_secs(5);
                let looking = stage(&part).1;
                while looking.holder(1) != Holder::Free && Instant::now() < end {
                    std::thread::yield_now();
                }
                kept |= looking.holder(1) != Holder::Free;
                rounds += 1;
            }
            done.store(true, SeqCst);
            for child in forker.join().unwrap() {
                kill_idler(child);
                // SAFETY: reaps the child that was just killed.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            }
            assert!(!kept && rounds > 0, "after {rounds} rounds");
        });
        return;
    }
    let name = Name::new();
    let _segment = name.create().unwrap();
    let part = name.0.to_string();
    assert!(Peer::new("no_place_is_kept_by_children_forked_while_others_open", &part).succeeded());
}

#[test]
fn exec_is_death() {
    use std::os::unix::process::CommandExt;
    if let Some(part) = part() {
        let segment = take_place(&part);
        say(&segment, 1);
        hear(&segment, 2);
        panic!("{}", Command::new("sleep").arg("60").exec());
    }
    let name = Name::new();
    let segment = name.create().unwrap();
    let mut peer = Peer::new("exec_is_death", &name.0.to_string());
    hear(&segment, 1);
    assert_eq!(segment.holder(1), Holder::Held);
    say(&segment, 2);
    eventually("the lock falls", || segment.holder(1) == Holder::Free);
    assert!(peer.0.try_wait().unwrap().is_none(), "the process lives on");
}

#[test]
fn two_pid_namespaces_tell_each_other_apart() {
    if let Some(part) = part() {
        let (_, segment) = stage(&part);
        let index: u16 = part.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(segment.try_lock(index).unwrap());
        segment.pin();
        at(&segment, usize::from(index)).store(std::process::id(), SeqCst);
        stay()
    }
    let wrappers: [&[&str]; 2] = [
        &["unshare", "--pid", "--fork", "--kill-child"],
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"],
    ];
    let works = |wrapper: &&&[&str]| {
        let tried = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(wrapper) = wrappers.iter().find(works) else {
        return skipped("no PID namespaces here (unshare --pid)");
    };
    let name = Name::new();
    let segment = name.create().unwrap();
    let peer = |index| {
        Peer::wrapped(wrapper, "two_pid_namespaces_tell_each_other_apart", &format!("{} {index}", name.0))
    };
    let (one, two) = (peer(1), peer(2));
    eventually("both hold a place, both as process 1", || {
        at(&segment, 1).load(SeqCst) == 1 && at(&segment, 2).load(SeqCst) == 1
    });
    assert_eq!((segment.holder(1), segment.holder(2)), (Holder::Held, Holder::Held));
    drop(one);
    eventually("one is dead", || segment.holder(1) == Holder::Free);
    assert_eq!(segment.holder(2), Holder::Held);
    drop(two);
}

/// Past the test harness, which swallows what passing tests print.
fn skipped(reason: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "SKIPPED: {reason}").ok();
}

#[test]
fn a_memfd_is_inherited() {
    if let Some(part) = part() {
        let (address, segment) = stage(&part);
        assert_eq!(address.scheme(), crate::Scheme::Fd);
        assert!(segment.try_lock(1).unwrap());
        segment.pin();
        say(&segment, 1);
        stay()
    }
    let address: Address = "memfd:inherited".parse().unwrap();
    let place = Place::of(&address).unwrap();
    let made = Segment::create(&address, &place, 1 << 16, 4096, 0o600, &mut |_| Ok(())).unwrap().unwrap();
    let file = made.descriptor().unwrap();
    rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    let peer = Peer::new("a_memfd_is_inherited", &format!("fd:{number}"));
    hear(&made, 1);
    assert_eq!(made.holder(1), Holder::Held, "the heir's lock is its own");
    drop(peer);
    eventually("the lock falls", || made.holder(1) == Holder::Free);
}

#[test]
fn nothing_leaks() {
    const TEST: &str = "nothing_leaks";
    let Some(part) = part() else {
        let name = Name::new();
        assert!(Peer::new(TEST, &name.0.to_string()).succeeded());
        return;
    };
    let address: Address = part.parse().unwrap();
    let place = Place::of(&address).unwrap();
    let round = || {
        let made = Segment::create(&address, &place, 1 << 20, 4096, 0o600, &mut |_| Ok(())).unwrap().unwrap();
        assert!(Segment::create(&address, &place, 1 << 20, 0, 0o600, &mut |_| Ok(())).unwrap().is_none());
        let opened = Segment::open(&address, &place).unwrap().unwrap();
        assert!(opened.try_lock(1).unwrap());
        opened.pin();
        assert_eq!(made.holder(1), Holder::Held);
        made.descriptor().unwrap();
        assert!(made.unlink(Deadline::Now).unwrap());
        std::fs::write(place.path().unwrap(), b"short").unwrap();
        assert!(Segment::open(&address, &place).is_err());
        std::fs::remove_file(place.path().unwrap()).unwrap();
    };
    let count = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        (descriptors, maps.lines().filter(|line| line.contains("narrows-segment")).count())
    };
    round();
    let before = count();
    (0..20).for_each(|_| round());
    assert_eq!(count(), before);
    assert_eq!(before.1, 0);
}
