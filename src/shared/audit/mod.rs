//! Whether a segment's words may stand beside each other as they do.
//!
//! | file | what is there |
//! |---|---|
//! | here | what is found, and the order of the looks |
//! | `facts` | the invariants, by name |
//! | `look` | everything that has an owner, looked at twice |
//! | `tables` | header lines, places, endpoints |
//! | `slots` | the ring, many to many and one to one; the messages in it |
//! | `pool` | extents, chunks, the file's memory |
//!
//! Nothing is changed, no place is taken. Peers may be at work meanwhile: everything is looked at twice, and what is
//! the same in both looks stood there together at the moment between them. That is sound because no word that has an
//! owner ever comes back: each carries a lap, a version or a generation. Only such words are compared with each
//! other; of a hint the first look's value bounds what was true then from one side, the second's from the other.

pub(crate) mod facts;
mod look;
mod pool;
mod slots;
mod tables;

use std::fmt;

use super::participants::{FREE, LEAVING};
use super::repair::Structures;
use crate::segment::{Holder, Segment};
use facts::Fact;
use look::Look;

/// What the caller knows of a channel while it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing: peers may be at work. Where nobody alive takes part, it is checked as at rest.
    Any,
    /// Nobody sends, receives, opens or closes, but that receivers may wait for messages.
    Rest,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The invariant's name.
    pub fact: &'static str,
    /// Where: "slot 7", "chunk 3", "participant 2".
    pub place: String,
    /// What is there: of a slot its state, lap and owner, of a chunk its state, version and holder.
    pub found: String,
    /// What may be there; of what awaits repair, what will be done.
    pub rule: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}; {} ({})", self.place, self.found, self.rule, self.fact)
    }
}

/// What one participant has in its hands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Its number, as findings name it.
    pub participant: u16,
    /// Its process id, as it saw itself when it opened.
    pub pid: u32,
    /// Its process's name when it opened.
    pub name: String,
    /// Whether the kernel still holds its lock.
    pub alive: bool,
    /// Senders and receivers that it has open.
    pub endpoints: u64,
    /// Slots that it claimed and did not commit.
    pub claims: u64,
    /// Chunks of large messages that it fills, or received and did not release.
    pub chunks: u64,
    /// The size of these chunks, in bytes.
    pub bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Whether it was checked as at rest.
    pub at_rest: bool,
    /// What cannot be: a broken peer, foreign writes, a fault of this library. The first thousand.
    pub faults: Vec<Finding>,
    /// What deaths left, and whoever opens or uses the channel next will repair. The first thousand.
    pub pending: Vec<Finding>,
    /// Who has what.
    pub holdings: Vec<Holding>,
}

/// What a participant's place was at the moment between the looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody's.
    Free,
    Alive,
    /// Its lock is free, and the place names it still.
    Dead,
    /// It changed between the looks.
    Changing,
}

/// One check under way.
struct Audit<'a> {
    shared: &'a Structures,
    first: Look,
    second: Look,
    standings: Vec<Standing>,
    report: Report,
}

/// Checks all invariants of a segment.
pub(crate) fn audit(shared: &Structures, segment: &Segment, moment: Moment) -> Report {
    let first = Look::first(shared, || {
        let metadata = segment.metadata().ok().filter(|metadata| metadata.is_exact);
        metadata.map(|metadata| metadata.allocated)
    });
    let messages = Look::messages(shared);
    let holders: Vec<Holder> = (0..shared.layout.config.participants).map(|at| segment.holder(at)).collect();
    let second = Look::second(shared, &first);
    let standing = |((before, after), holder): ((&u64, &u64), &Holder)| match (before & 0xff, holder) {
        _ if before != after => Standing::Changing,
        (FREE, _) => Standing::Free,
        (_, Holder::Free) => Standing::Dead,
        _ => Standing::Alive,
    };
    let standings: Vec<_> = first.places.iter().zip(&second.places).zip(&holders).map(standing).collect();
    let nobody = holders.iter().all(|holder| *holder == Holder::Free)
        && first.hints.attach == second.hints.attach
        && !standings.contains(&Standing::Changing);
    let report = Report { at_rest: moment == Moment::Rest || nobody, ..Report::default() };
    let mut audit = Audit { shared, first, second, standings, report };
    audit.holdings();
    audit.lines(segment);
    audit.places(&holders);
    audit.endpoints();
    let named = audit.slots(&messages);
    audit.pool(&named);
    audit.report.holdings.retain(|holding| holding.participant != 0);
    audit.report
}

impl Audit<'_> {
    fn fault(&mut self, fact: &Fact, place: impl Into<String>, found: impl Into<String>) {
        keep(&mut self.report.faults, fact, place.into(), found.into());
    }

    fn pending(&mut self, fact: &Fact, place: impl Into<String>, found: impl Into<String>) {
        keep(&mut self.report.pending, fact, place.into(), found.into());
    }

    fn expect(&mut self, holds: bool, fact: &Fact, place: impl Into<String>, found: impl Into<String>) {
        if !holds {
            self.fault(fact, place, found);
        }
    }

    fn is_participant(&self, owner: u16) -> bool {
        (1..=self.shared.layout.config.participants).contains(&owner)
    }

    fn standing(&self, owner: u16) -> Standing {
        let standing = owner.checked_sub(1).and_then(|at| self.standings.get(usize::from(at)));
        standing.copied().unwrap_or(Standing::Changing)
    }

    /// What names `owner` may name only who is there; at rest, if `passing`, only who died.
    fn owned(&mut self, owner: u16, passing: bool, place: String, found: String) {
        match self.standing(owner) {
            Standing::Free => {
                self.fault(&facts::OWNED, place, format!("{found}; the place of participant {owner} is free"))
            }
            Standing::Dead => {
                self.pending(&facts::ABANDONED, place, format!("{found}; participant {owner} is dead"))
            }
            Standing::Alive if passing && self.report.at_rest => self.fault(&facts::QUIET, place, found),
            Standing::Alive | Standing::Changing => {}
        }
    }

    /// The account of one who is there; what nobody has is counted for participant 0.
    fn holding(&mut self, owner: u16) -> &mut Holding {
        let at = self.report.holdings.iter().position(|holding| holding.participant == owner).unwrap_or(0);
        &mut self.report.holdings[at]
    }

    fn holdings(&mut self) {
        self.report.holdings.push(Holding::default());
        for (owner, standing) in (1..).zip(&self.standings) {
            if !matches!(standing, Standing::Alive | Standing::Dead) {
                continue;
            }
            let identity = self.shared.participants.identity(owner);
            self.report.holdings.push(Holding {
                participant: owner,
                pid: identity.pid,
                name: identity.name(),
                alive: *standing == Standing::Alive,
                ..Holding::default()
            });
        }
    }
}

/// How many findings of a kind are kept: foreign bytes contradict everything.
const KEPT: usize = 1000;

fn keep(findings: &mut Vec<Finding>, fact: &Fact, place: String, found: String) {
    if findings.len() < KEPT {
        findings.push(Finding { fact: fact.name, place, found, rule: fact.rule });
    }
}

/// The words that are the same in both looks, and where they stand.
fn steady(first: &[u64], second: &[u64]) -> Vec<(usize, u64)> {
    let both = first.iter().zip(second).enumerate();
    both.filter(|(_, (before, after))| before == after).map(|(at, (word, _))| (at, *word)).collect()
}

/// Whether a place is on its way out.
fn is_leaving(word: u64) -> bool {
    word & 0xff == LEAVING
}
