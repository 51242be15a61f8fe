//! A process writes random and plausible words over a segment in which others send and receive.
//!
//! ```text
//! areas    where things lie, as a stranger works it out
//! words    the scribbler, and what it writes
//! victim   what the others do meanwhile
//! board    what they tell each other
//! siege    one kind of channel, scribbled on at one kind of place: the processes, and the watch over them
//! ```
//!
//! The channel is replaced every few milliseconds, so that there is always a whole one to break, and messages in it.

mod areas;
mod board;
mod siege;
mod victim;
mod words;

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use self::areas::Focus;
use self::siege::{Siege, Toll};
use super::Gate;
use crate::Plan;
use crate::record::{Outcome, Record};
use crate::statistics::thousands;

pub(crate) const GATE: Gate = Gate {
    name: "scribbler",
    about: "A process writes random and plausible words over a live channel, at full speed and word by word, while others \
            open, send, receive, hold, look, remove and die.",
    run,
};

const PROMISE: &str = "`Corrupt`, the deadline, or bytes that may be the scribbler's";

/// The kinds of channels: a name, and what stands behind the address.
const MODES: &[(&str, &str)] = &[
    ("many", ",capacity=64,participants=16,memory_max=8388608"),
    ("many-leased", ",capacity=7,participants=16,ack=release,memory_max=8388608"),
    ("many-asleep", ",capacity=2,participants=16,wait=sleep,memory_max=1048576"),
    ("many-huge", ""),
    ("one", ",peers=one,capacity=16,participants=16,memory_max=8388608"),
    ("one-wide", ",peers=one,capacity=16,participants=16,slot_bytes=4000,fence=everyone,memory_max=8388608"),
    ("one-leased", ",peers=one,capacity=7,participants=16,ack=release,wait=sleep,memory_max=8388608"),
];

/// How long each kind of channel is scribbled on at each kind of place.
const WHOLE: Duration = Duration::from_secs(4);
const SAMPLE: Duration = Duration::from_millis(250);
/// Words of a whole run; the goal.
const WORDS: u64 = 100_000_000;

fn run(plan: &Plan) -> Result<Record> {
    areas::check_places()?;
    siege::check_watch()?;
    let seed = plan.seed();
    let mut record = Record::new(GATE.name, plan.command(GATE.name));
    let cases: Vec<(Focus, Siege)> = cases(plan, seed).collect();
    let bar = ProgressBar::new(cases.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta}")?);
    let length = if plan.sample { SAMPLE } else { WHOLE };
    let (mut words, mut corrupt) = (0, 0);
    for focus in Focus::ALL {
        let mut toll = Toll::default();
        for (_, siege) in cases.iter().filter(|(of, _)| *of == focus) {
            bar.set_message(siege.name());
            toll += siege.run(length)?;
            bar.inc(1);
        }
        if toll.words > 0 {
            words += toll.words;
            corrupt += toll.corrupt;
            record.row(&format!("words over {}", focus.about()), PROMISE, toll.outcome(focus));
        }
    }
    bar.finish_and_clear();
    if plan.only.is_none() {
        let enough = plan.sample || words >= WORDS;
        let figure = format!("{} words, {} `Corrupt`", thousands(words), thousands(corrupt));
        let promise = "at least 100,000,000 words under load in a whole run, and somebody notices";
        record.row("all of that", promise, Outcome::new(enough && corrupt > 0, figure));
    }
    Ok(record)
}

fn cases(plan: &Plan, seed: u64) -> impl Iterator<Item = (Focus, Siege)> {
    let all = Focus::ALL.into_iter().flat_map(|focus| MODES.iter().map(move |mode| (focus, *mode)));
    all.enumerate()
        .map(move |(number, (focus, (mode, options)))| {
            (focus, Siege { mode, options, focus, seed: seed.wrapping_add(number as u64) << 8, given: seed })
        })
        .filter(|(_, siege)| plan.only.as_ref().is_none_or(|only| siege.name().contains(only)))
}
