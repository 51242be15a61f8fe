//! Aeron over shared memory (`aeron:ipc`): messages are claimed and written where they lie in its log, and read there.
//!
//! Its media driver gives room back and clears it. Here it is in the process of role 0, in either of two ways: its
//! work is done by role 0 itself, whenever there is nothing else to do (`aeron`), or it has a thread of its own, which
//! shares the cores with the players (`aeronmd`).

mod ends;
mod media;

use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use narrows_bench::goals::{Goal, Limit, Probe, Ratio};
use narrows_bench::scenario::{Act, By, CHANNEL, Pattern};
use narrows_bench::{Case, Player, Scheme, Wait};

use ends::{Bytes, In, Kind, Out, Words};
use media::{Client, Driver};

/// The rival, by what does the media driver's work.
pub(crate) struct Aeron {
    name: &'static str,
    has_thread: bool,
}

/// The driver's work is done by role 0.
pub(crate) const INVOKED: Aeron = Aeron { name: "aeron", has_thread: false };
/// The driver has a thread, which may run on any core.
pub(crate) const ON_A_THREAD: Aeron = Aeron { name: "aeronmd", has_thread: true };

/// What narrows is held to, whichever way the driver runs.
pub(crate) fn goals() -> Vec<Goal> {
    let figures = |rival, [p50, p99, rate]: [&'static str; 3]| {
        let latency = |scheme| Probe::spin(scheme, "latency_one_to_one", 48);
        let stream = |scheme| Probe::spin(scheme, "throughput_one_to_one", 32);
        let goal = |figure, ratio, limit| Goal { figure, ratio, limit };
        [
            goal(p50, Ratio::Latency(latency("shm"), latency(rival)), Limit::AtMost(1.0)),
            goal(p99, Ratio::Tails(latency("shm"), latency(rival)), Limit::AtMost(0.5)),
            goal(rate, Ratio::Rate(stream("shm"), stream(rival)), Limit::AtLeast(1.0)),
        ]
    };
    let invoked = [
        "latency 48 B, one to one, by Aeron's",
        "its p99, by Aeron's p99",
        "throughput 32 B, one to one, by Aeron's",
    ];
    let on_a_thread = [
        "latency 48 B, Aeron's driver on a thread",
        "its p99, Aeron's driver on a thread",
        "throughput 32 B, Aeron's driver on a thread",
    ];
    [figures(INVOKED.name, invoked), figures(ON_A_THREAD.name, on_a_thread)].into_iter().flatten().collect()
}

impl Scheme for Aeron {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cases(&self) -> Vec<Case> {
        CHANNEL.iter().flat_map(|scenario| scenario.cases()).filter(|case| self.has(case)).collect()
    }

    fn play(&self, player: Player) -> Result<()> {
        match player.case().size {
            8 => self.play_as::<Words<1>>(player),
            32 => self.play_as::<Words<4>>(player),
            48 => self.play_as::<Words<6>>(player),
            _ => self.play_as::<Bytes>(player),
        }
    }

    fn clean_up(&self, name: &str) {
        let _ = std::fs::remove_dir_all(directory(name));
    }
}

/// Where the media driver keeps its files.
fn directory(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}

impl Aeron {
    /// Messages that fit a frame, which is as large as a datagram may be; nobody sleeps until a message comes. Where
    /// several send, the one who does the driver's work may be done before the others.
    fn has(&self, case: &Case) -> bool {
        let scenario = case.scenario;
        matches!(scenario.act, Act::PingPong | Act::Stream)
            && scenario.by == By::Copy
            && !scenario.is_roomy
            && case.wait == Some(Wait::Spin)
            && case.size <= media::PAYLOAD_MAX
            && (scenario.senders == 1 || self.has_thread)
    }

    fn play_as<M: Kind>(&self, player: Player) -> Result<()> {
        let (case, role) = (player.case(), player.role());
        let directory = CString::new(directory(player.measurement()).into_os_string().into_encoded_bytes())?;
        let mut driver = None;
        if role == 0 {
            let started = Driver::start(&directory, self.has_thread).context("Aeron's media driver")?;
            match self.has_thread {
                true => started.work_on_a_thread()?,
                false => driver = Some(started),
            }
        }
        let client = Client::connect(&directory, driver).context("Aeron's client")?;
        let is_exclusive = case.scenario.pattern == Pattern::OneToOne;
        let tx = |channel| client.publish(channel, case.size, is_exclusive);
        let rx = |channel| client.subscribe(channel, case.size);
        match (case.scenario.act, role) {
            (Act::PingPong, _) => {
                let (publication, subscription) = (tx(role)?, rx(1 - role)?);
                client.wait_until("the other has both ends", || {
                    publication.is_connected() && subscription.senders() > 0
                })?;
                let (tx, rx) =
                    (Out::<M>::new(publication, driver), In::<M>::new(subscription, &case, driver));
                if role == 0 { player.ping(tx, rx) } else { player.pong(tx, rx) }
            }
            (_, 1) => {
                let subscription = rx(0)?;
                client.wait_until("somebody sends", || subscription.senders() > 0)?;
                player.stream_in(In::<M>::new(subscription, &case, driver))
            }
            _ => {
                let publication = tx(0)?;
                client.wait_until("somebody receives", || publication.is_connected())?;
                player.stream_out(Out::<M>::new(publication, driver))
            }
        }
    }
}
