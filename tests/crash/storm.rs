//! SIGKILL and SIGSTOP at random moments under load.
//!
//! Beside the victims stand a sender and a receiver that nothing happens to: the survivors, whose longest operation is
//! the stall that the deaths cause. One to one there is room for one survivor only.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rustix::process::Signal;

use super::ledger::{Ledger, Mark, Sign};
use super::peer::{Peer, Random, Scene, report, setting, soon};
use super::traffic::{HEADER, Part, Style, assert_sound, assert_whole, longest, room};

/// No operation of a survivor lasts longer, whoever dies or is stopped beside it.
const STALL: Duration = Duration::from_secs(2);
/// One ledger has room for so many kills.
const ROUND: u64 = 100;

struct Storm {
    name: &'static str,
    options: &'static str,
    style: Style,
    /// Who is killed, and who is not.
    senders: (u64, u64),
    receivers: (u64, u64),
    kills: u64,
}

/// Everybody in a storm, by their boards: the survivors first.
struct Cast<'a> {
    storm: &'a Storm,
    scene: Scene,
    ledger: Ledger,
    random: Random,
    peers: Vec<Peer>,
    ids: u32,
    killed_senders: u64,
    killed_receivers: u64,
}

impl Storm {
    fn run(&self) {
        let kills = setting("NARROWS_CRASH_KILLS").unwrap_or(self.kills);
        let (mut stall, mut killed, mut received, mut redelivered) = (Duration::ZERO, 0, 0, 0);
        let mut random = Random::of(self.name);
        while killed < kills {
            let count = ROUND.min(kills - killed);
            let (worst, account) = self.round(count, random.next());
            stall = stall.max(worst);
            received += account.received;
            redelivered += account.redelivered;
            killed += count;
        }
        report(&format!(
            "storm {}: {killed} killed, {received} messages received, {redelivered} again, longest stall {stall:.1?}",
            self.name
        ));
    }

    fn round(&self, kills: u64, seed: u64) -> (Duration, super::ledger::Account) {
        let scene = Scene::new();
        let fresh = self.chunks(&scene.shm("fresh"));
        let ledger = Ledger::create(&scene.shm("ledger"));
        let random = Random::seeded(seed);
        let mut cast = Cast {
            storm: self,
            scene,
            ledger,
            random,
            peers: Vec::new(),
            ids: 0,
            killed_senders: 0,
            killed_receivers: 0,
        };
        cast.ledger.sign(Sign::Go).store(1, SeqCst);
        let everybody = self.senders.0 + self.senders.1 + self.receivers.0 + self.receivers.1;
        for board in 0..everybody {
            let peer = cast.start(board);
            cast.peers.push(peer);
        }
        for _ in 0..kills {
            cast.strike();
            assert_sound(&cast.scene.shm("channel"));
        }
        cast.ledger.sign(Sign::Stop).store(1, SeqCst);
        std::mem::take(&mut cast.peers).into_iter().for_each(Peer::ends);
        let account = cast.settle();
        let address = cast.scene.shm("channel");
        assert_eq!(self.chunks(&address), fresh, "{}: chunks", self.name);
        assert_whole(&address);
        narrows::channel::remove(&address.parse().unwrap()).unwrap();
        narrows::channel::remove(&cast.scene.shm("fresh").parse().unwrap()).unwrap();
        assert_eq!(cast.scene.left().into_iter().collect::<Vec<_>>(), ["ledger"]);
        let survivors = 0..self.senders.1 + self.receivers.1;
        let stall = survivors.map(|board| longest(&cast.ledger, board)).max().unwrap();
        assert!(stall < STALL, "{}: a survivor stood still for {stall:?}", self.name);
        (stall, account)
    }

    fn options(&self) -> String {
        format!("{},lifetime=system", self.options)
    }

    /// The messages of the largest size that fit at once.
    fn chunks(&self, address: &str) -> u64 {
        room(&format!("{address},{}", self.options()), *self.style.sizes.iter().max().unwrap())
    }
}

impl Cast<'_> {
    fn survivors(&self) -> u64 {
        self.storm.senders.1 + self.storm.receivers.1
    }

    fn is_sender(&self, board: u64) -> bool {
        match board.checked_sub(self.survivors()) {
            None => board < self.storm.senders.1,
            Some(victim) => victim < self.storm.senders.0,
        }
    }

    fn start(&mut self, board: u64) -> Peer {
        self.ledger.clear(board);
        self.ids += 1;
        let part = Part {
            address: format!("{},{}", self.scene.shm("channel"), self.storm.options()),
            ledger: self.scene.shm("ledger"),
            board,
            id: self.ids,
            style: self.storm.style.clone(),
            count: None,
            seed: self.random.next(),
        };
        let arguments = part.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Peer::start(if self.is_sender(board) { "sender" } else { "receiver" }, &arguments)
    }

    /// Kills one victim that is at work, perhaps after it was stopped, and puts another in its place. Others are
    /// stopped for a while meanwhile.
    fn strike(&mut self) {
        let victims = self.peers.len() as u64 - self.survivors();
        let board = self.survivors() + self.random.below(victims);
        // One in four is hit while it opens, or before.
        let least = self.random.below(4) * 5;
        let beats = || self.ledger.mark(board, Mark::Beats).load(SeqCst);
        soon(&format!("{}: board {board} to work", self.storm.name), || beats() >= least);
        let other = self.survivors() + self.random.below(victims);
        self.peers[other as usize].signal(Signal::STOP);
        self.random.moment(800);
        if self.random.below(3) == 0 {
            self.peers[board as usize].signal(Signal::STOP);
            self.random.moment(2000);
        }
        let next = self.start_over(board);
        self.peers[board as usize] = next;
        if other != board {
            self.random.moment(500);
            self.peers[other as usize].signal(Signal::CONT);
        }
    }

    fn start_over(&mut self, board: u64) -> Peer {
        let victim = &self.peers[board as usize];
        victim.signal(Signal::KILL);
        match self.is_sender(board) {
            true => self.killed_senders += 1,
            false => self.killed_receivers += 1,
        }
        // One to one its place must be free again as soon as it is gone.
        let status = rustix::process::waitid(
            rustix::process::WaitId::Pid(victim.pid()),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        );
        assert!(status.unwrap().is_some());
        self.start(board)
    }

    /// What may be missing is what killed receivers had taken; what may be there too is what killed senders had begun.
    fn settle(&self) -> super::ledger::Account {
        let account = self.ledger.account();
        let (name, style) = (self.storm.name, &self.storm.style);
        let seen = format!(
            "{name}: {account:?}, {} senders and {} receivers killed",
            self.killed_senders, self.killed_receivers
        );
        println!("{seen}");
        assert!(account.sent > 0 && account.received > 0, "{seen}");
        assert_eq!(account.faults, 0, "{seen}");
        assert!(account.in_flight <= self.killed_senders * style.batch, "{seen}");
        match style.leased {
            true => {
                assert_eq!(account.lost, 0, "{seen}");
                assert!(account.redelivered <= self.killed_receivers, "{seen}");
            }
            false => {
                assert!(account.lost <= self.killed_receivers * style.batch, "{seen}");
                assert_eq!(account.redelivered, 0, "{seen}");
            }
        }
        if self.killed_receivers == 0 || style.leased {
            assert_eq!(account.holes, 0, "{seen}");
        }
        account
    }
}

fn mixed() -> Style {
    Style { sizes: vec![HEADER, 48, 5000], batch: 8, in_place: true, leased: false }
}

const MANY: &str = "capacity=1024,participants=16,memory_max=4194304";

#[test]
fn senders_are_killed() {
    let storm = Storm {
        name: "of senders",
        options: MANY,
        style: mixed(),
        senders: (3, 1),
        receivers: (0, 1),
        kills: 60,
    };
    storm.run();
}

#[test]
fn receivers_are_killed() {
    let storm = Storm {
        name: "of receivers",
        options: MANY,
        style: mixed(),
        senders: (0, 1),
        receivers: (3, 1),
        kills: 60,
    };
    storm.run();
}

#[test]
fn everybody_is_killed() {
    for (name, options) in [
        ("of all", MANY),
        ("with capacity 1", "capacity=1,participants=8,memory_max=65536"),
        ("with capacity 7", "capacity=7,participants=8,memory_max=65536"),
    ] {
        let storm = Storm { name, options, style: mixed(), senders: (2, 1), receivers: (2, 1), kills: 40 };
        storm.run();
    }
}

#[test]
fn what_the_killed_had_not_released_comes_again() {
    let style = Style { leased: true, batch: 1, ..mixed() };
    let options = "capacity=64,participants=8,memory_max=1048576,ack=release";
    let storm =
        Storm { name: "with ack=release", options, style, senders: (1, 1), receivers: (2, 1), kills: 60 };
    storm.run();
}

#[test]
fn one_to_one_the_sender_is_killed() {
    for (name, options) in
        [("of one sender", "peers=one,capacity=64"), ("of one sender, capacity 1", "peers=one,capacity=1")]
    {
        let storm = Storm { name, options, style: mixed(), senders: (1, 0), receivers: (0, 1), kills: 30 };
        storm.run();
    }
}

#[test]
fn one_to_one_the_receiver_is_killed() {
    let storm = Storm {
        name: "of one receiver",
        options: "peers=one,capacity=64",
        style: mixed(),
        senders: (0, 1),
        receivers: (1, 0),
        kills: 30,
    };
    storm.run();
    let style = Style { leased: true, batch: 1, ..mixed() };
    let options = "peers=one,capacity=64,ack=release";
    let storm = Storm {
        name: "of one receiver, ack=release",
        options,
        style,
        senders: (0, 1),
        receivers: (1, 0),
        kills: 30,
    };
    storm.run();
}
