//! What a victim finds. Adding a state takes a row, and a function if no other arranges it.

use anyhow::Result;

use super::mode::{CAPACITY, Mode};
use super::operation::Role;
use super::site::{Fate, Site};

/// How a channel stands when an operation begins.
pub(crate) struct State {
    pub(crate) name: &'static str,
    /// The end that another process has: one to one, nobody else can have it.
    pub(crate) holds: Option<Role>,
    /// A receiver finds nothing.
    pub(crate) empty: bool,
    /// A sender finds no room.
    pub(crate) full: bool,
    /// A sender finds no chunk.
    pub(crate) exhausted: bool,
    /// Others wake up while the victim is at work: its way is not the same each time.
    pub(crate) lively: bool,
    /// Only where the ring stands is special.
    pub(crate) moved: bool,
    /// The survivors are not there yet.
    pub(crate) deserted: bool,
    /// Nothing waits, and nothing was sent.
    pub(crate) untouched: bool,
    /// Why it cannot be on that kind of channel.
    pub(crate) misfit: fn(&Mode) -> Option<&'static str>,
    pub(crate) arrange: fn(&mut Site) -> Result<()>,
}

const fn state(name: &'static str, arrange: fn(&mut Site) -> Result<()>) -> State {
    State {
        name,
        holds: None,
        empty: false,
        full: false,
        exhausted: false,
        lively: false,
        moved: false,
        deserted: false,
        untouched: false,
        misfit: |_| None,
        arrange,
    }
}

const fn empty(name: &'static str, arrange: fn(&mut Site) -> Result<()>) -> State {
    State { empty: true, ..state(name, arrange) }
}

const fn deserted(name: &'static str, arrange: fn(&mut Site) -> Result<()>) -> State {
    State { deserted: true, ..state(name, arrange) }
}

pub(crate) const STATES: &[State] = &[
    State { untouched: true, ..empty("fresh", |_| Ok(())) },
    State { moved: true, ..empty("used", |site| site.pass(2)) },
    state("waiting", |site| site.send(2)),
    State { full: true, ..state("full", |site| site.send(CAPACITY)) },
    State { moved: true, ..state("wrap", |site| site.pass(CAPACITY - 1).and_then(|()| site.send(1))) },
    State { moved: true, ..state("lapped", |site| site.pass(2 * CAPACITY + 1).and_then(|()| site.send(1))) },
    State {
        moved: true,
        full: true,
        ..state("full_lapped", |site| site.pass(CAPACITY + 2).and_then(|()| site.send(CAPACITY)))
    },
    state("large_waiting", |site| site.send_large(2)),
    empty("grown", |site| site.pass_large(2)),
    State { exhausted: true, empty: true, ..state("exhausted", |site| site.hold_all_chunks()) },
    State {
        lively: true,
        holds: Some(Role::Receiver),
        empty: true,
        untouched: true,
        ..state("receiver_asleep", |site| site.sleep_receiver())
    },
    State {
        lively: true,
        misfit: many,
        empty: true,
        untouched: true,
        ..state("receivers_asleep", |site| site.sleep_receiver().and_then(|()| site.sleep_receiver()))
    },
    State {
        lively: true,
        holds: Some(Role::Sender),
        misfit: waits,
        full: true,
        ..state("sender_asleep", |site| site.send(CAPACITY).and_then(|()| site.sleep_sender()))
    },
    State {
        lively: true,
        misfit: |mode| waits(mode).or_else(|| many(mode)),
        full: true,
        ..state("senders_asleep", |site| {
            site.send(CAPACITY)?;
            site.sleep_sender()?;
            site.sleep_sender()
        })
    },
    State { misfit: slots, empty: true, ..state("claim_of_dead", |site| site.strike("send", 1, Fate::Dead)) },
    State {
        misfit: slots,
        empty: true,
        ..state("claim_of_stopped", |site| site.strike("send", 1, Fate::Stopped))
    },
    State {
        misfit: slots,
        empty: true,
        ..state("void_of_stopped", |site| {
            site.strike("send", 1, Fate::Stopped)?;
            site.revoke()
        })
    },
    State {
        misfit: slots,
        ..state("void_of_dead", |site| {
            site.strike("send", 1, Fate::Dead)?;
            site.revoke()?;
            site.send(1)
        })
    },
    State {
        misfit: many,
        ..state("sender_dead", |site| site.send(1).and_then(|()| site.strike("send_large", 0, Fate::Dead)))
    },
    State {
        misfit: many,
        ..state("receiver_dead", |site| site.send(2).and_then(|()| site.strike("recv", 0, Fate::Dead)))
    },
    State {
        misfit: many,
        ..state("holder_dead", |site| {
            site.send_large(2).and_then(|()| site.strike("recv_and_hold", 0, Fate::DeadBehind))
        })
    },
    State {
        misfit: many,
        ..state("holder_stopped", |site| {
            site.send_large(2).and_then(|()| site.strike("recv_and_hold", 0, Fate::StoppedBehind))
        })
    },
    State {
        lively: true,
        holds: Some(Role::Sender),
        misfit: rendezvous,
        full: true,
        untouched: true,
        ..state("sender_waits", |site| site.sleep_sender())
    },
    State {
        lively: true,
        misfit: |mode| rendezvous(mode).or_else(|| many(mode)),
        full: true,
        untouched: true,
        ..state("senders_wait", |site| site.sleep_sender().and_then(|()| site.sleep_sender()))
    },
    State { deserted: true, empty: true, untouched: true, ..state("absent", |site| site.desert()) },
    deserted("unread", |site| site.send(2).and_then(|()| site.desert())),
    deserted("unread_large", |site| site.send_large(2).and_then(|()| site.desert())),
    State {
        misfit: many,
        ..deserted("unread_dead", |site| {
            site.send(1)?;
            site.strike("send", 0, Fate::Dead)?;
            site.desert()
        })
    },
];

fn many(mode: &Mode) -> Option<&'static str> {
    mode.one.then_some("one to one, there is no second of a kind")
}

fn waits(mode: &Mode) -> Option<&'static str> {
    mode.drops.then_some("no sender waits for room")
}

fn rendezvous(mode: &Mode) -> Option<&'static str> {
    (!mode.rendezvous).then_some("there is room: no sender waits for its message")
}

fn slots(mode: &Mode) -> Option<&'static str> {
    if mode.one {
        return Some("one to one, nothing is claimed");
    }
    mode.release.then_some("the first step of a send is the chunk's: the double kills have all others")
}
