//! Nobody dies: every message arrives once, whole and in its sender's order, however it is sent and received.

use std::sync::atomic::Ordering::SeqCst;

use super::ledger::{Ledger, Sign};
use super::peer::{Peer, Random, Scene, soon};
use super::traffic::{HEADER, Part, Style, assert_sound, assert_whole, room};

const MIXED: &[usize] = &[HEADER, 40, 48, 49, 64, 300, 5000];

/// Sends `total` messages from so many senders to so many receivers, and settles the account.
fn run(options: &str, senders: u64, receivers: u64, total: u64, style: &Style) {
    let scene = Scene::new();
    let mut random = Random::of("stress");
    let ledger = Ledger::create(&scene.shm("ledger"));
    let address = scene.shm("channel");
    let created = format!("{address},{options},lifetime=system");
    // Small messages first: a pool at its limit has as many chunks for them as when it met them, and no more once all
    // memory went to large ones.
    let before = room(&created, HEADER);
    let part = |board: u64, random: &mut Random| Part {
        address: created.clone(),
        ledger: scene.shm("ledger"),
        board,
        id: board as u32,
        style: style.clone(),
        count: Some(total / senders),
        seed: random.next(),
    };
    let peers: Vec<Peer> = (0..senders + receivers)
        .map(|board| {
            let arguments = part(board, &mut random).arguments();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Peer::start(if board < senders { "sender" } else { "receiver" }, &arguments)
        })
        .collect();
    let boards = 0..senders + receivers;
    soon("everybody to open", || boards.clone().all(|board| ledger.is_ready(board)));
    ledger.sign(Sign::Go).store(1, SeqCst);
    let mut peers = peers.into_iter();
    for mut sender in peers.by_ref().take(senders as usize) {
        while sender.is_running() {
            assert_sound(&address);
        }
        sender.ends();
    }
    ledger.sign(Sign::Stop).store(1, SeqCst);
    peers.for_each(Peer::ends);
    let account = ledger.account();
    let expected = total / senders * senders;
    assert_eq!((account.sent, account.received, account.in_flight), (expected, expected, 0), "{options}");
    assert_eq!((account.lost, account.faults, account.redelivered), (0, 0, 0), "{options}: {account:?}");
    assert_whole(&address);
    assert_eq!(room(&created, HEADER), before, "{options}");
    narrows::channel::remove(&address.parse().unwrap()).unwrap();
    assert_eq!(scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
}

fn mixed(batch: u64) -> Style {
    Style { sizes: MIXED.to_vec(), batch, in_place: true, leased: false }
}

#[test]
fn many_to_many() {
    let small = Style { sizes: vec![HEADER, 40, 48], batch: 1, in_place: false, leased: false };
    for (senders, receivers) in [(1, 1), (2, 2), (4, 1), (1, 4)] {
        for capacity in [1, 2, 7, 1024] {
            run(&format!("capacity={capacity},participants=8"), senders, receivers, 2000, &mixed(8));
        }
        run("capacity=64,participants=8", senders, receivers, 4000, &small);
    }
}

#[test]
fn many_to_many_asleep_and_spinning() {
    for wait in ["sleep", "spin"] {
        run(&format!("capacity=7,participants=8,wait={wait}"), 2, 2, 1000, &mixed(4));
    }
}

#[test]
fn acknowledged_on_release() {
    let leased = Style { leased: true, ..mixed(4) };
    for (senders, receivers) in [(1, 1), (2, 2), (4, 1), (1, 4)] {
        run("capacity=7,participants=8,ack=release", senders, receivers, 1000, &leased);
    }
    run("capacity=1024,participants=8,ack=release", 2, 2, 2000, &leased);
    run("capacity=7,peers=one,ack=release", 1, 1, 1000, &leased);
}

#[test]
fn one_to_one() {
    for capacity in [1, 2, 7, 1024] {
        for fence in ["sleeper", "everyone"] {
            run(&format!("peers=one,capacity={capacity},fence={fence}"), 1, 1, 2000, &mixed(8));
        }
    }
    run("peers=one,capacity=16,slot_bytes=400", 1, 1, 2000, &mixed(8));
    for wait in ["sleep", "spin"] {
        run(&format!("peers=one,capacity=7,wait={wait}"), 1, 1, 1000, &mixed(4));
    }
}

#[test]
fn a_pool_at_its_limit() {
    let large = Style { sizes: vec![40, 20_000, 60_000], batch: 4, in_place: true, leased: false };
    run("capacity=64,participants=8,memory_max=524288", 2, 2, 600, &large);
    run(
        "capacity=64,participants=8,memory_max=524288,ack=release",
        2,
        2,
        600,
        &Style { leased: true, ..large },
    );
}
