//! What is broken: waiters and publishers of iceoryx2 are killed, in and out of containers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use iceoryx2::config::Config;
use iceoryx2::node::NodeState;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::Outcome;
use super::process::{Line, Peer};

/// Who sleeps for so long with its message there sleeps until the next one.
const LOST: Duration = Duration::from_millis(200);
/// What has nothing to do with that takes at most so long.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Everything of one fault under one prefix and in one directory, which are removed at the end.
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn new(fault: &str) -> Self {
        set_log_level(LogLevel::Fatal);
        Self(format!("narrows-rivals-{}-{fault}", std::process::id()))
    }

    fn root(&self) -> PathBuf {
        std::env::temp_dir().join(&self.0)
    }

    fn config(&self) -> Result<Config> {
        let mut config = Config::default();
        let prefix = format!("{}_", self.0);
        config.global.prefix = FileName::new(prefix.as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
        let root = self.root();
        let root = iceoryx2::prelude::Path::new(root.as_os_str().as_encoded_bytes());
        config.global.set_root_path(&root.map_err(|error| anyhow!("{error:?}"))?);
        Ok(config)
    }

    pub(crate) fn node(&self) -> Result<Node<ipc::Service>> {
        Ok(NodeBuilder::new().config(&self.config()?).create()?)
    }
}

impl Place {
    /// What bears its prefix in shared memory.
    pub(crate) fn shared(&self) -> impl Iterator<Item = PathBuf> {
        let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        let ours = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&self.0);
        entries.filter(ours).map(|entry| entry.path())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.root()).ok();
        self.shared().for_each(|path| {
            std::fs::remove_file(path).ok();
        });
    }
}

type Event = iceoryx2::service::port_factory::event::PortFactory<ipc::Service>;

fn event(node: &Node<ipc::Service>) -> Result<Event> {
    // Told of the dead as well, where somebody finds them.
    let event = node.service_builder(&"event".try_into()?).event();
    Ok(event.notifier_dead_event(EventId::new(5)).open_or_create()?)
}

fn listener(event: &Event) -> Result<Listener<ipc::Service>> {
    Ok(event.listener_builder().create()?)
}

fn notifier(event: &Event) -> Result<Notifier<ipc::Service>> {
    Ok(event.notifier_builder().create()?)
}

/// A channel of numbers in one direction: nothing is dropped.
pub(crate) struct Numbers(
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, u64, ()>,
);

impl Numbers {
    pub(crate) fn open(node: &Node<ipc::Service>, name: &str) -> Result<Self> {
        let service = node.service_builder(&name.try_into()?).publish_subscribe::<u64>();
        Ok(Self(service.enable_safe_overflow(false).open_or_create()?))
    }

    /// Tries again for a while: a dead publisher's place is taken until somebody has cleaned up behind it.
    pub(crate) fn publisher(&self, node: &Node<ipc::Service>) -> Result<Publisher<ipc::Service, u64, ()>> {
        let end = Instant::now() + SOON / 2;
        loop {
            let publisher = self.0.publisher_builder();
            match publisher.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create() {
                Ok(publisher) => return Ok(publisher),
                Err(error) if Instant::now() > end => return Err(error.into()),
                Err(_) => drop(node.try_cleanup_dead_nodes()),
            }
        }
    }

    pub(crate) fn subscriber(&self) -> Result<Subscriber<ipc::Service, u64, ()>> {
        Ok(self.0.subscriber_builder().create()?)
    }
}

/// Waits for an event whenever it is told to.
fn listen(mut line: Line, place: &Place) -> Result<()> {
    let node = place.node()?;
    let listener = listener(&event(&node)?)?;
    line.say(0)?;
    loop {
        line.order()?;
        listener.try_wait(|_| ())?;
        line.say(1)?;
        listener.blocking_wait(|_| ())?;
        line.say(2)?;
    }
}

/// Two wait for an event; the first is killed 0 to 300 µs before it comes.
pub(crate) fn listener_killed() -> Result<Outcome> {
    const ROUNDS: u64 = 1000;
    let place = Place::new("listener");
    let mut survivor = Peer::start(|line| listen(line, &place))?;
    expect(&mut survivor, 0)?;
    let mut hand = Peer::start(|mut line| {
        let node = place.node()?;
        let notifier = notifier(&event(&node)?)?;
        line.say(0)?;
        loop {
            let victim = Pid::from_raw(line.order()? as i32);
            let pause = Duration::from_micros(line.order()?);
            kill(victim, Signal::SIGKILL)?;
            let killed = Instant::now();
            while killed.elapsed() < pause {}
            notifier.notify().ok();
            line.say(1)?;
        }
    })?;
    expect(&mut hand, 0)?;
    let mut lost = 0;
    for round in 0..ROUNDS {
        let mut victim = Peer::start(|line| listen(line, &place))?;
        expect(&mut victim, 0)?;
        for waiter in [&mut victim, &mut survivor] {
            waiter.tell(0)?;
            expect(waiter, 1)?;
            waiter.falls_asleep()?;
        }
        hand.tell(victim.pid().as_raw() as u64)?;
        hand.tell(round * 7919 % 301)?;
        expect(&mut hand, 1)?;
        victim.kill();
        if survivor.hears(LOST)?.is_none() {
            lost += 1;
            survivor.kill();
            survivor = Peer::start(|line| listen(line, &place))?;
            expect(&mut survivor, 0)?;
        }
    }
    Ok(Outcome { held: lost == 0, figure: format!("{lost} of {ROUNDS} lost") })
}

pub(crate) fn expect(peer: &mut Peer, word: u64) -> Result<()> {
    let said = peer.hears(SOON)?.context("a process says nothing")?;
    ensure!(said == word, "a process says {said} instead of {word}");
    Ok(())
}

/// A publisher is killed between what it sent and its notice of it, which are two calls.
pub(crate) fn publisher_killed() -> Result<Outcome> {
    const ROUNDS: u64 = 50;
    let place = Place::new("publisher");
    let mut subscriber = Peer::start(|mut line| {
        let node = place.node()?;
        let (listener, numbers) = (listener(&event(&node)?)?, Numbers::open(&node, "numbers")?);
        let subscriber = numbers.subscriber()?;
        line.say(0)?;
        loop {
            line.order()?;
            while listener.try_wait(|_| ())? > 0 || subscriber.receive()?.is_some() {}
            line.say(1)?;
            while subscriber.receive()?.is_none() {
                listener.blocking_wait(|_| ())?;
            }
            line.say(2)?;
        }
    })?;
    expect(&mut subscriber, 0)?;
    let publish = |mut line: Line, dies: bool| -> Result<()> {
        let node = place.node()?;
        let (notifier, numbers) = (notifier(&event(&node)?)?, Numbers::open(&node, "numbers")?);
        let publisher = numbers.publisher(&node)?;
        line.say(0)?;
        line.order()?;
        if dies {
            publisher.send_copy(7)?;
            kill(getpid(), Signal::SIGKILL)?;
        }
        notifier.notify()?;
        line.say(1)?;
        line.order().map(drop)
    };
    let mut lost = 0;
    for _ in 0..ROUNDS {
        let mut poster = Peer::start(|line| publish(line, true))?;
        expect(&mut poster, 0)?;
        subscriber.tell(0)?;
        expect(&mut subscriber, 1)?;
        subscriber.falls_asleep()?;
        poster.tell(0)?;
        if subscriber.hears(LOST)?.is_none() {
            // Told by another, it finds what lay there all the time.
            let mut waker = Peer::start(|line| publish(line, false))?;
            expect(&mut waker, 0)?;
            waker.tell(0)?;
            expect(&mut waker, 1)?;
            expect(&mut subscriber, 2)?;
            lost += 1;
        }
        poster.kill();
    }
    let figure = format!("{lost} of {ROUNDS} lost: to send and to notify are two calls");
    Ok(Outcome { held: lost == 0, figure })
}

/// Two that are both PID 1 talk; one is killed again and again.
pub(crate) fn containers() -> Result<Outcome> {
    const KILLS: u64 = 50;
    let place = Place::new("containers");
    let mut caller = Peer::start_contained(|line| call(line, &place))?;
    expect(&mut caller, 0)?;
    let (mut seen, mut goes_on) = (0, 0);
    for _ in 0..KILLS {
        let mut echo = Peer::start_contained(|line| echo(line, &place))?;
        if echo.hears(SOON)? != Some(0) {
            break; // it cannot open what the dead left
        }
        caller.tell(100)?;
        match caller.hears(SOON)? {
            Some(1) => goes_on += 1,
            _ => break,
        }
        echo.kill();
        // Nobody is told; who looks through the list of nodes may find it.
        caller.tell(0)?;
        seen += u64::from(caller.hears(SOON)? == Some(2));
    }
    let figure = format!(
        "{KILLS} kills: talk goes on after {}, the death is told to nobody, seen in the list of nodes {seen} times",
        goes_on
    );
    Ok(Outcome { held: goes_on == KILLS && seen == KILLS, figure })
}

/// Sends numbers and waits until they come back, so many as it is told; told 0, looks for a death.
fn call(mut line: Line, place: &Place) -> Result<()> {
    let node = place.node()?;
    let (there, back) = (Numbers::open(&node, "there")?, Numbers::open(&node, "back")?);
    let (publisher, subscriber) = (there.publisher(&node)?, back.subscriber()?);
    line.say(0)?;
    let mut number = 0;
    loop {
        let count = line.order()?;
        if count == 0 {
            line.say(if sees_dead(place)? { 2 } else { 3 })?;
            continue;
        }
        for _ in 0..count {
            number += 1;
            publisher.send_copy(number)?;
            let end = Instant::now() + SOON / 2;
            loop {
                match subscriber.receive()? {
                    Some(sample) if *sample == number => break,
                    Some(_) => {}
                    None if Instant::now() > end => bail!("number {number} does not come back"),
                    None => std::thread::yield_now(),
                }
            }
        }
        line.say(1)?;
    }
}

fn echo(mut line: Line, place: &Place) -> Result<()> {
    let node = place.node()?;
    let (there, back) = (Numbers::open(&node, "there")?, Numbers::open(&node, "back")?);
    let (publisher, subscriber) = (back.publisher(&node)?, there.subscriber()?);
    line.say(0)?;
    loop {
        match subscriber.receive()? {
            Some(sample) => {
                publisher.send_copy(*sample)?;
            }
            None => std::thread::yield_now(),
        }
    }
}

/// Whether a dead node appears in the list within a second; it is cleaned up then.
fn sees_dead(place: &Place) -> Result<bool> {
    let (config, end) = (place.config()?, Instant::now() + Duration::from_secs(1));
    let mut found = false;
    while !found && Instant::now() < end {
        Node::<ipc::Service>::list(&config, |state| {
            if let NodeState::Dead(view) = state {
                found = true;
                view.blocking_remove_stale_resources(SOON).ok();
            }
            CallbackProgression::Continue
        })?;
    }
    Ok(found)
}
