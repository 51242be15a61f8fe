//! The second act: senders and receivers of one channel are killed at random moments, and nothing is lost.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cast::{self, Actor, GLANCE};
use super::ledger::{Account, Ledger};
use super::scene::Scene;
use super::screen::Line;
use super::words;

/// Those of each kind that are killed, beside one that is not.
pub(crate) const VICTIMS: usize = 3;

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) kills: u64,
    pub(crate) killed_senders: u64,
    pub(crate) killed_receivers: u64,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) account: Account,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sender,
    Receiver,
}

/// A process of the storm, and its number.
struct Member {
    kind: Kind,
    number: u64,
    actor: Actor,
}

struct Storm<'a> {
    scene: &'a Scene,
    ledger: Ledger,
    address: String,
    /// Processes started so far.
    started: u64,
}

/// Kills `kills` processes in about `time`; fewer where that takes twice as long.
pub(crate) fn run(scene: &Scene, kills: u64, time: Duration) -> anyhow::Result<Outcome> {
    let address = format!("{},ack=release,capacity=256", scene.shm("storm"));
    let mut storm = Storm { scene, ledger: Ledger::create()?, address, started: 0 };
    let mut random = Random::new();
    let mut cast = vec![storm.start(Kind::Sender, true)?, storm.start(Kind::Receiver, true)?];
    let survivors = cast.len();
    storm.until_open(&mut cast)?;
    for _ in 0..VICTIMS {
        cast.push(storm.start(Kind::Sender, false)?);
        cast.push(storm.start(Kind::Receiver, false)?);
    }
    let start = Instant::now();
    let (mut killed_senders, mut killed_receivers) = (0, 0);
    for killed in 0..kills {
        if start.elapsed() > 2 * time {
            break;
        }
        // At a random moment of its share of the time.
        let share = (killed as f64 + random.unit()) / kills as f64;
        storm.pause(start + time.mul_f64(share), killed, kills)?;
        cast.iter_mut().try_for_each(|member| member.actor.check())?;
        let at = survivors + (random.unit() * (cast.len() - survivors) as f64) as usize;
        let victim = cast.swap_remove(at);
        victim.actor.kill()?;
        match victim.kind {
            Kind::Sender => killed_senders += 1,
            Kind::Receiver => killed_receivers += 1,
        }
        cast.push(storm.start(victim.kind, false)?);
    }
    let seconds = start.elapsed().as_secs_f64();
    // Who came after the end would wait for senders that never come.
    storm.until_open(&mut cast)?;
    storm.ledger.stop()?;
    let mut actors: Vec<Actor> = cast.into_iter().map(|member| member.actor).collect();
    cast::end(&mut actors, scene.bound(), || Ok(()))?;
    let account = storm.ledger.account()?;
    Ok(Outcome {
        kills: killed_senders + killed_receivers,
        killed_senders,
        killed_receivers,
        seconds,
        account,
    })
}

impl Storm<'_> {
    fn start(&mut self, kind: Kind, survivor: bool) -> anyhow::Result<Member> {
        let number = self.started;
        self.started += 1;
        let part = if kind == Kind::Sender { "sender" } else { "receiver" };
        let mut arguments: Vec<OsString> = vec!["--ledger".into(), self.ledger.path().into()];
        arguments.extend(["--address", &self.address, "--number", &number.to_string()].map(OsString::from));
        arguments.extend(survivor.then(|| "--survivor".into()));
        Ok(Member { kind, number, actor: self.scene.start(part, arguments)? })
    }

    /// Waits until everybody has opened the channel.
    fn until_open(&self, cast: &mut [Member]) -> anyhow::Result<()> {
        for member in cast {
            while !self.ledger.has_opened(member.number)? {
                self.scene.check()?;
                member.actor.check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Waits for a moment, showing how it goes.
    fn pause(&self, until: Instant, killed: u64, kills: u64) -> anyhow::Result<()> {
        loop {
            self.scene.check()?;
            let begun = self.ledger.begun()?;
            self.scene.show(|| vec![Line::new(), words::storm_so_far(killed, kills, begun)]);
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => std::thread::sleep(left.min(GLANCE)),
            }
        }
    }
}

/// Numbers that nobody foresees; SplitMix64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self(now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32)
    }

    /// At least 0, less than 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as f64 / 2.0_f64.powi(64)
    }
}
