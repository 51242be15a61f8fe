//! The lines behind the header, who takes part, and which ends they have open.

use crate::atomic::Ordering::Relaxed;

use super::super::layout::{self, Ack, Full, PLACE_BYTES, Peers};
use super::super::participants::{FREE, LIVE, RETIRED, Role, WAITS};
use super::{Audit, Standing, facts, is_leaving, steady};
use crate::segment::{Holder, Segment};

const SENDER: u64 = Role::Sender as u64;
const RECEIVER: u64 = Role::Receiver as u64;

impl Audit<'_> {
    fn word(&self, at: u64) -> u64 {
        self.shared.memory.word(at).load(Relaxed)
    }

    /// The words of the header's page behind the header.
    pub(super) fn lines(&mut self, segment: &Segment) {
        let attach = self.second.hints.attach;
        self.expect(attach & !RETIRED != 0, &facts::ATTACHED, "attach word", format!("{attach:#x}"));
        if attach & RETIRED != 0 && segment.has_name() && segment.is_named() {
            self.pending(&facts::RETIRED, "the name", "the segment is retired");
        }
        let (deaths, epoch) = (self.first.hints.deaths, self.second.hints.senders_epoch);
        self.expect(deaths <= epoch, &facts::COUNTED, "deaths", format!("{deaths} of {epoch} changes"));
        let config = self.shared.layout.config;
        let mut used = vec![
            layout::ATTACH,
            layout::SENDERS_EPOCH,
            layout::DEATHS,
            layout::RECEIVER_DEATHS,
            layout::TAIL,
            layout::HEAD,
            layout::POOL_SLEEPERS,
        ];
        if config.is_pair() {
            used.extend([layout::SHARED_HEAD, layout::RECEIVER_SLEEPS, layout::SENDER_SLEEPS]);
            for (name, at) in
                [("receiver's bed", layout::RECEIVER_SLEEPS), ("sender's bed", layout::SENDER_SLEEPS)]
            {
                let word = self.word(at);
                self.expect(word <= 2, &facts::BED, name, word.to_string());
            }
        }
        if config.ack == Ack::OnRelease {
            used.push(layout::RETURNED);
        }
        if config.full == Full::Drop {
            used.push(layout::DISCARDED);
        }
        let unused =
            (layout::ATTACH..self.shared.layout.participants).step_by(8).filter(|at| !used.contains(at));
        self.unused(unused);
    }

    pub(super) fn unused(&mut self, words: impl Iterator<Item = u64>) {
        for at in words {
            let word = self.word(at);
            if word != 0 {
                self.fault(&facts::UNUSED, format!("word at {at}"), format!("{word:#x}"));
            }
        }
    }

    pub(super) fn places(&mut self, holders: &[Holder]) {
        for (at, word) in steady(&self.first.places, &self.second.places) {
            let (owner, start) = (at as u16 + 1, self.shared.layout.participants + at as u64 * PLACE_BYTES);
            let name = format!("participant {owner}");
            let pid = self.shared.participants.identity(owner).pid;
            let is_known = word & !RETIRED & 0xffff_fffc == 0 && word & 3 != 3 && word & RETIRED == 0;
            if !is_known || word & 0xff != FREE && pid == 0 {
                self.fault(&facts::PLACE, name, format!("{word:#x}, process {pid}"));
                continue;
            }
            self.unused((start + 32..start + PLACE_BYTES).step_by(8));
            match self.standing(owner) {
                Standing::Dead => self.pending(&facts::DEAD, name, format!("process {pid} died")),
                Standing::Alive if self.report.at_rest && is_leaving(word) => {
                    self.fault(&facts::QUIET, name, "LEAVING".to_owned());
                }
                Standing::Free if self.report.at_rest && holders[at] == Holder::Held => {
                    self.fault(&facts::QUIET, name, "FREE, and its lock is held".to_owned());
                }
                _ => {}
            }
        }
    }

    pub(super) fn endpoints(&mut self) {
        let is_one = self.shared.layout.config.peers == Peers::One;
        for (at, word) in steady(&self.first.endpoints, &self.second.endpoints) {
            let (role, owner) = (word & 0xff, (word >> 16) as u16);
            let name = format!("endpoint {at}");
            let found = match role {
                SENDER => format!("a sender of participant {owner}"),
                RECEIVER => format!("a receiver of participant {owner}"),
                _ => format!("{word:#x}"),
            };
            let fits = match role {
                FREE => word & 0xffff_ffff == 0,
                SENDER | RECEIVER => {
                    (word & 0xff00 == 0 || role == RECEIVER && word & 0xff00 == WAITS)
                        && self.is_participant(owner)
                        && (!is_one || at as u64 + 1 == role)
                }
                _ => false,
            };
            if !fits {
                self.fault(&facts::ENDPOINT, name, found);
            } else if role != FREE {
                self.holding(owner).endpoints += 1;
                let epoch = self.second.hints.senders_epoch;
                let counted = epoch != 0 || role != SENDER || !self.report.at_rest;
                if !counted && self.standing(owner) == Standing::Alive {
                    self.fault(&facts::EPOCH, name.clone(), format!("{found}, and none was counted"));
                }
                self.owned(owner, false, name, found);
            }
        }
    }

    /// Whether somebody alive has this end of a channel one to one open.
    pub(super) fn has_alive(&self, role: Role) -> bool {
        let word = self.second.endpoints.get(role as usize - 1).copied().unwrap_or_default();
        word & 0xff == role as u64
            && self.first.endpoints.get(role as usize - 1) == Some(&word)
            && self.standing((word >> 16) as u16) == Standing::Alive
    }
}

const _: () = assert!(FREE == 0 && LIVE == 1);
