//! Openers, leavers and removers of one name at the same moment.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use narrows::channel::{State, remove, status};
use narrows::{Deadline, Error, Receiver, Sender};
use rustix::process::Signal;

use super::ledger::{Ledger, Mark, Sign};
use super::peer::{Peer, Random, Scene, report, setting, soon, start};
use super::traffic::{HEADER, assert_whole, check, message};

/// Opens, sends one message and closes; so often, all beginning at once.
pub(crate) fn visitor(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let (visits, seed): (u64, u64) = (arguments[3].parse().unwrap(), arguments[4].parse().unwrap());
    let mut random = Random::seeded(seed);
    let mut buffer = Vec::new();
    ledger.ready(board);
    soon("the sign to begin", || ledger.is(Sign::Go));
    for sequence in 0..visits {
        let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
        let id = ledger.begin(board as u32, 1).unwrap();
        message(id, board as u32, sequence, random.one_of(&[HEADER, 300]), &mut buffer);
        sender.send(&buffer).unwrap();
        ledger.done(id, 1);
    }
}

/// Opens, receives what is there and closes; again and again.
pub(crate) fn collector(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    ledger.ready(board);
    soon("the sign to begin", || ledger.is(Sign::Go));
    while !ledger.is(Sign::Stop) {
        collect(&ledger, arguments[2]);
    }
}

fn collect(ledger: &Ledger, address: &str) {
    let mut receiver = Receiver::<[u8]>::open(address).unwrap();
    while let Ok(Some(received)) = receiver.recv_by(Deadline::Now) {
        ledger.received(check(&received).0, false);
    }
}

/// Everybody opens, sends and closes at once; gives what is left in `/dev/shm`, and the account.
fn crowd(lifetime: &str, visitors: u64, visits: u64, collectors: u64) -> (Scene, Ledger) {
    let scene = Scene::new();
    let mut random = Random::of(lifetime);
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = format!("{},lifetime={lifetime},capacity=4096", scene.shm("channel"));
    let peers: Vec<Peer> = (0..visitors + collectors)
        .map(|board| {
            let role = if board < visitors { "visitor" } else { "collector" };
            start(role, &scene, board, &address, [visits, random.next()])
        })
        .collect();
    soon("everybody to start", || (0..visitors + collectors).all(|board| ledger.is_ready(board)));
    ledger.sign(Sign::Go).store(1, SeqCst);
    let mut peers = peers.into_iter();
    peers.by_ref().take(visitors as usize).for_each(Peer::ends);
    ledger.sign(Sign::Stop).store(1, SeqCst);
    peers.for_each(Peer::ends);
    (scene, ledger)
}

#[test]
fn drained_nothing_is_lost_and_nothing_is_left() {
    let (scene, ledger) = crowd("drained", 12, 20, 2);
    // What nobody came for is still there.
    if scene.left().contains("channel") {
        assert_eq!(status(&scene.shm("channel").parse().unwrap()).unwrap().state, State::Unread);
        collect(&ledger, &scene.shm("channel"));
    }
    let account = ledger.account();
    assert_eq!((account.sent, account.lost, account.faults), (240, 0, 0), "{account:?}");
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

#[test]
fn drained_the_unread_stays_for_who_comes_later() {
    let (scene, ledger) = crowd("drained", 100, 1, 0);
    let found = status(&scene.shm("channel").parse().unwrap()).unwrap();
    assert_eq!((found.state, found.depth, found.peers.len()), (State::Unread, 100, 0));
    collect(&ledger, &scene.shm("channel"));
    let account = ledger.account();
    assert_eq!((account.sent, account.lost, account.faults), (100, 0, 0), "{account:?}");
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

#[test]
fn process_nothing_is_left() {
    let (scene, ledger) = crowd("process", 12, 20, 1);
    let account = ledger.account();
    assert_eq!((account.sent, account.faults), (240, 0), "{account:?}");
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

#[test]
fn system_exactly_the_unread_is_left() {
    let (scene, ledger) = crowd("system", 12, 20, 0);
    let address = scene.shm("channel").parse().unwrap();
    let found = status(&address).unwrap();
    assert_eq!((found.state, found.depth, found.peers.len()), (State::Unread, 240, 0));
    collect(&ledger, &scene.shm("channel"));
    let account = ledger.account();
    assert_eq!((account.lost, account.faults), (0, 0), "{account:?}");
    assert_eq!(status(&address).unwrap().state, State::Idle);
    remove(&address).unwrap();
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Opens the address when everybody does, sends once, and waits for the end.
pub(crate) fn guest(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    ledger.ready(board);
    soon("the sign to begin", || ledger.is(Sign::Go));
    let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
    sender.send(b"one").unwrap();
    ledger.mark(board, Mark::Beats).store(1, SeqCst);
    soon("the end", || ledger.is(Sign::Stop));
}

#[test]
fn openers_of_a_retired_segment_meet_in_one_new_channel() {
    for _ in 0..10 {
        let scene = Scene::new();
        let ledger = Ledger::create(&scene.shm("ledger"));
        // A second name keeps a retired segment findable, as a kill between retiring and unlinking does.
        drop(Sender::<[u8]>::open(format!("{},lifetime=system", scene.shm("old"))).unwrap());
        let path = |part: &str| scene.shm(part).replace("shm:", "/dev/shm/");
        std::fs::hard_link(path("old"), path("channel")).unwrap();
        remove(&scene.shm("old").parse().unwrap()).unwrap();
        let address = scene.shm("channel");
        let guests: Vec<Peer> = (0..4).map(|board| start("guest", &scene, board, &address, [0, 0])).collect();
        soon("the guests to start", || (0..4).all(|board| ledger.is_ready(board)));
        ledger.sign(Sign::Go).store(1, SeqCst);
        soon("the guests to open", || (0..4).all(|board| ledger.mark(board, Mark::Beats).load(SeqCst) == 1));
        let found = status(&address.parse().unwrap()).unwrap();
        assert_eq!((found.senders, found.depth), (4, 4), "{found:?}");
        ledger.sign(Sign::Stop).store(1, SeqCst);
        guests.into_iter().for_each(Peer::ends);
        let mut receiver = Receiver::<[u8]>::open(&*address).unwrap();
        for _ in 0..4 {
            assert_eq!(&*receiver.recv().unwrap().unwrap(), b"one");
        }
        assert!(receiver.recv().unwrap().is_none());
        drop(receiver);
        assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
    }
}

/// Removes the name for as long as the others open it.
pub(crate) fn remover(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    ledger.ready(board);
    soon("the sign to begin", || ledger.is(Sign::Go));
    while !ledger.is(Sign::Stop) {
        match remove(&arguments[2].parse().unwrap()) {
            Ok(()) => drop(ledger.sign(Sign::A).fetch_add(1, SeqCst)),
            Err(Error::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Opens a channel, sends to itself and closes, so often.
pub(crate) fn hermit(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    ledger.ready(board);
    soon("the sign to begin", || ledger.is(Sign::Go));
    for _ in 0..arguments[3].parse::<u64>().unwrap() {
        let mut sender = Sender::<[u8]>::open(arguments[2]).unwrap();
        let mut receiver = sender.receiver().unwrap();
        sender.send(b"one").unwrap();
        // Perhaps another's message, perhaps taken by another; but it is whole.
        match receiver.recv_by(Deadline::Now) {
            Ok(received) => assert_eq!(&*received.unwrap(), b"one"),
            Err(error) => assert!(matches!(error, Error::TimedOut { .. }), "{error}"),
        }
    }
}

#[test]
fn removing_while_others_open_harms_nobody() {
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = scene.shm("channel");
    let removers: Vec<Peer> = (0..2).map(|board| start("remover", &scene, board, &address, [0, 0])).collect();
    let hermits: Vec<Peer> = (2..6).map(|board| start("hermit", &scene, board, &address, [100, 0])).collect();
    soon("everybody to start", || (0..6).all(|board| ledger.is_ready(board)));
    ledger.sign(Sign::Go).store(1, SeqCst);
    hermits.into_iter().for_each(Peer::ends);
    ledger.sign(Sign::Stop).store(1, SeqCst);
    removers.into_iter().for_each(Peer::ends);
    assert!(ledger.sign(Sign::A).load(SeqCst) > 0);
    remove(&address.parse().unwrap()).ok();
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Receives what is left, until the end; brings a sender, as there may never have been one.
fn drain(address: &str) {
    let mut receiver = Receiver::<[u8]>::open(address).unwrap();
    drop(receiver.sender().unwrap());
    while receiver.recv().unwrap().is_some() {}
}

#[test]
fn openers_and_closers_are_killed_and_the_name_stays_usable() {
    let mut random = Random::of("openers killed");
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = format!("{},participants=6,capacity=16", scene.shm("channel"));
    let kills = setting("NARROWS_CRASH_KILLS").unwrap_or(60);
    let begin =
        |random: &mut Random, board| start("hermit", &scene, board, &address, [u64::MAX, random.next()]);
    ledger.sign(Sign::Go).store(1, SeqCst);
    let mut hermits: Vec<Peer> = (0..4).map(|board| begin(&mut random, board)).collect();
    for _ in 0..kills {
        let board = random.below(4);
        soon("a hermit to start", || ledger.is_ready(board));
        random.moment(1000);
        ledger.clear(board);
        let next = begin(&mut random, board);
        std::mem::replace(&mut hermits[board as usize], next).kill();
    }
    hermits.into_iter().for_each(Peer::kill);
    report(&format!("openers: {kills} killed while they opened, sent, received, closed, reaped or removed"));
    // Whatever they left, the next opener finds its way; then all of it can be used.
    drain(&address);
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

#[test]
fn reapers_are_killed_while_they_reap() {
    let mut random = Random::of("reapers killed");
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    // Few places and a pool with little room: what is not given back is soon missed.
    let options = "participants=6,capacity=16,memory_max=65536,lifetime=system";
    let address = format!("{},{options}", scene.shm("channel"));
    let begin =
        |random: &mut Random, board| start("reaper", &scene, board, &address, [u64::MAX, random.next()]);
    ledger.sign(Sign::Go).store(1, SeqCst);
    let mut reapers: Vec<Peer> = (0..5).map(|board| begin(&mut random, board)).collect();
    for _ in 0..setting("NARROWS_CRASH_KILLS").unwrap_or(60) {
        // Two die at once: whoever comes next finds one dead while it repairs the other.
        for board in [random.below(5), random.below(5)] {
            soon("a reaper to start", || ledger.is_ready(board));
            random.moment(700);
            ledger.clear(board);
            reapers[board as usize].signal(Signal::KILL);
            let next = begin(&mut random, board);
            std::mem::replace(&mut reapers[board as usize], next).kill();
        }
    }
    reapers.into_iter().for_each(Peer::kill);
    drain(&address);
    assert_eq!(super::traffic::room(&address, 3000), 16);
    assert_whole(&scene.shm("channel"));
    remove(&scene.shm("channel").parse().unwrap()).unwrap();
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Attaches, which reaps, holds all that can be held, and goes; again and again.
pub(crate) fn reaper(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    ledger.ready(board);
    loop {
        let mut sender = match Sender::<[u8]>::open(arguments[2]) {
            Ok(sender) => sender,
            Err(Error::NoSpace { .. }) => continue, // the dead are not all gone yet
            Err(error) => panic!("{error}"),
        };
        let mut receiver = sender.receiver().unwrap();
        let mut guards = Vec::new();
        for _ in 0..3 {
            sender.send_by(&[5; 3000], Duration::from_millis(1)).ok();
            guards.extend(receiver.recv_in_place(Deadline::Now).ok().flatten());
        }
    }
}

#[test]
fn after_everybody_is_killed_the_next_opener_goes_on() {
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = scene.shm("channel");
    ledger.sign(Sign::Go).store(1, SeqCst);
    let guests: Vec<Peer> = (0..3).map(|board| start("guest", &scene, board, &address, [0, 0])).collect();
    soon("the guests to open", || (0..3).all(|board| ledger.mark(board, Mark::Beats).load(SeqCst) == 1));
    let differs = |capacity: u64| Receiver::<[u8]>::open(format!("{address},capacity={capacity}")).map(drop);
    let refusal = differs(16).unwrap_err();
    assert!(matches!(&refusal, Error::Mismatch { option, .. } if &**option == "capacity"), "{refusal}");
    guests.into_iter().for_each(Peer::kill);
    // Dead, with messages unread: not replaced, and all of them there.
    assert_eq!(status(&address.parse().unwrap()).unwrap().state, State::Unread);
    assert!(matches!(differs(16), Err(Error::Mismatch { .. })));
    let mut receiver = Receiver::<[u8]>::open(&*address).unwrap();
    for _ in 0..3 {
        assert_eq!(&*receiver.recv().unwrap().unwrap(), b"one");
    }
    assert!(receiver.recv().unwrap().is_none());
    assert_eq!(receiver.died(), 3);
    drop(receiver);
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

/// Opens a channel with nothing in it, and stays.
pub(crate) fn tenant(arguments: &[&str]) {
    let (ledger, board) = (Ledger::open(arguments[0]), arguments[1].parse().unwrap());
    let _receiver = Receiver::<[u8]>::open(arguments[2]).unwrap();
    ledger.ready(board);
    soon("the end", || ledger.is(Sign::Stop));
}

#[test]
fn what_the_dead_left_empty_is_replaced_with_other_options() {
    let scene = Scene::new();
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = scene.shm("channel");
    let tenant = start("tenant", &scene, 0, &address, [0, 0]);
    soon("the tenant to open", || ledger.is_ready(0));
    assert!(matches!(Sender::<[u8]>::open(format!("{address},peers=one")), Err(Error::Mismatch { .. })));
    tenant.kill();
    assert_eq!(status(&address.parse().unwrap()).unwrap().state, State::Stale);
    let sender = Sender::<[u8]>::open(format!("{address},peers=one,capacity=3")).unwrap();
    assert_eq!(status(&address.parse().unwrap()).unwrap().capacity, 3);
    drop(sender);
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}
