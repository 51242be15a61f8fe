//! The ring, and the messages that wait in it.

use std::collections::HashMap;

use super::super::layout::Ack;
use super::super::participants::Role;
use super::super::slot::{About, Slot, State};
use super::look::Message;
use super::{Audit, facts, steady};
use crate::shared::chunks;

/// A message that stood in its slot in both looks.
struct Waiting {
    slot: usize,
    message: Message,
}

/// A slot by the next position that will be used in it, on the scale of the first slot's.
#[derive(Clone, Copy)]
struct Next {
    slot: usize,
    position: i128,
}

impl Audit<'_> {
    /// Gives the references of all chunks that messages name, whether they are steady or not.
    pub(super) fn slots(&mut self, messages: &[Message]) -> HashMap<u64, usize> {
        let waiting = match self.shared.layout.config.is_pair() {
            true => self.pair(messages),
            false => self.ring(messages),
        };
        let named = self.named(messages);
        self.messages(&waiting);
        named
    }

    fn count(&self) -> i128 {
        self.shared.layout.slot_count.into()
    }

    fn ring(&mut self, messages: &[Message]) -> Vec<Waiting> {
        let steady = steady(&self.first.slots, &self.second.slots);
        let base = steady.first().map_or(0, |(_, word)| Slot(*word).lap());
        let (mut nexts, mut standing, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, word) in steady {
            let word = Slot(word);
            let Some(state) = word.state().filter(|state| self.fits(*state, word.owner())) else {
                self.fault(&facts::SLOT, format!("slot {slot}"), format!("{word:?}"));
                continue;
            };
            let position = i128::from(word.laps_after(base)) * self.count() + slot as i128;
            let passed = if state == State::Empty { 0 } else { self.count() };
            nexts.push(Next { slot, position: position + passed });
            if matches!(state, State::Claimed | State::Full) {
                standing.push(Next { slot, position });
            }
            match state {
                State::Full => waiting.push(Waiting { slot, message: messages[slot] }),
                State::Claimed | State::Void => {
                    self.holding(word.owner()).claims += 1;
                    let found = format!("{word:?}");
                    self.owned(word.owner(), true, format!("slot {slot}"), found);
                }
                State::Empty => {}
            }
        }
        let (tail, head) = (self.first.hints.tail, self.first.hints.head);
        let laps = (tail as i64).wrapping_sub(head as i64) >> self.count().trailing_zeros();
        self.expect(laps.abs() < 1 << 39, &facts::TAIL, "TAIL", format!("{tail}, and HEAD {head}"));
        let (tail, head) = (self.on_scale(tail, base), self.on_scale(head, base));
        self.order(&nexts, tail, head);
        self.bounded(&standing, standing.iter().map(|next| next.position).min());
        for next in standing.iter().filter(|next| next.position < head) {
            let found =
                format!("{} positions beyond the message in slot {}", head - next.position, next.slot);
            self.fault(&facts::HEAD, "HEAD", found);
        }
        waiting
    }

    /// Where a hint points, where the first slot's position at lap `base` is 0.
    fn on_scale(&self, hint: u64, base: u64) -> i128 {
        let (lap, slot) = (hint >> self.count().trailing_zeros(), hint & (self.count() as u64 - 1));
        i128::from(Slot::new(State::Empty, lap, 0).laps_after(base)) * self.count() + i128::from(slot)
    }

    fn fits(&self, state: State, owner: u16) -> bool {
        match state {
            State::Empty => owner == 0,
            State::Full => owner == 0 || self.is_participant(owner),
            State::Claimed | State::Void => self.is_participant(owner),
        }
    }

    /// The next positions of all slots are as many positions in a row, and the hints are not beyond the first.
    fn order(&mut self, nexts: &[Next], tail: i128, head: i128) {
        let mut sorted = nexts.to_vec();
        sorted.sort_unstable_by_key(|next| next.position);
        // Where some are elsewhere, most are right; of as many, those that TAIL agrees with.
        let agrees = |start: usize| sorted.get(start).is_some_and(|next| tail <= next.position);
        let (mut best, mut end) = (0..0, 0);
        for start in 0..sorted.len() {
            while end < sorted.len() && sorted[end].position - sorted[start].position < self.count() {
                end += 1;
            }
            if (end - start, agrees(start)) > (best.len(), agrees(best.start)) {
                best = start..end;
            }
        }
        let Some(first) = sorted.get(best.start).map(|next| next.position) else { return };
        for (at, next) in sorted.iter().enumerate() {
            if !best.contains(&at) {
                let laps = (next.position - first).div_euclid(self.count());
                self.fault(&facts::CONTIGUOUS, format!("slot {}", next.slot), format!("{laps:+} laps away"));
            }
        }
        let slot = sorted[best.start].slot;
        for (fact, name, hint) in [(&facts::TAIL, "TAIL", tail), (&facts::HEAD, "HEAD", head)] {
            let found = format!("{} positions beyond the unused one in slot {slot}", hint - first);
            self.expect(hint <= first, fact, name, found);
        }
    }

    /// From `head` or the first message to the last there are no more positions than the capacity.
    fn bounded(&mut self, standing: &[Next], head: Option<i128>) {
        let capacity = i128::from(self.shared.layout.config.room());
        let last = standing.iter().max_by_key(|next| next.position);
        if let (Some(last), Some(head)) = (last, head)
            && last.position - head >= capacity
        {
            let found = format!("{} positions after the first, of {capacity}", last.position - head);
            self.fault(&facts::BOUNDED, format!("slot {}", last.slot), found);
        }
    }

    fn pair(&mut self, messages: &[Message]) -> Vec<Waiting> {
        let count = self.shared.layout.slot_count;
        let capacity = i128::from(self.shared.layout.config.capacity);
        let (before, after) = (&self.first.hints, &self.second.hints);
        let (tails, heads) = ((before.tail, after.tail), (before.head, after.head));
        let shared_heads = (before.shared_head, after.shared_head);
        let (mut nexts, mut standing, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, stamp) in steady(&self.first.slots, &self.second.slots) {
            let Some(position) = stamp.checked_sub(1) else {
                nexts.push(Next { slot, position: slot as i128 });
                continue;
            };
            if position & (count - 1) != slot as u64 {
                self.fault(&facts::STAMP, format!("slot {slot}"), format!("{stamp}"));
                continue;
            }
            nexts.push(Next { slot, position: i128::from(position) + self.count() });
            if position >= heads.1 {
                standing.push(Next { slot, position: position.into() });
                waiting.push(Waiting { slot, message: messages[slot] });
            }
        }
        self.order(&nexts, tails.0.into(), heads.0.into());
        self.bounded(&standing, Some(heads.1.into()));
        let last = standing.iter().map(|next| next.position).max();
        if let Some(last) = last.filter(|last| *last >= i128::from(tails.1) + capacity) {
            self.fault(&facts::TAIL, "TAIL", format!("{}, and a message at {last}", tails.1));
        }
        let quarter = u64::from(self.shared.layout.config.capacity.div_ceil(4) as u32);
        let is_settled = self.report.at_rest && self.has_alive(Role::Receiver);
        let batch = if is_settled { 0 } else { self.shared.layout.config.capacity };
        let follows = shared_heads.0 <= heads.1 && heads.0 < shared_heads.1.saturating_add(quarter + batch);
        let found = format!("{}, and HEAD {}", shared_heads.0, heads.1);
        self.expect(follows, &facts::SHARED_HEAD, "shared head", found);
        waiting
    }

    /// What the slots name that have a message or had one at the first look.
    fn named(&self, messages: &[Message]) -> HashMap<u64, usize> {
        let is_pair = self.shared.layout.config.is_pair();
        let has_message = |word: u64| match is_pair {
            true => word > self.first.hints.head,
            false => Slot(word).is(State::Full),
        };
        let full = self.first.slots.iter().enumerate().filter(|(_, word)| has_message(**word));
        full.filter(|(slot, _)| messages[*slot].about.is_chunk())
            .map(|(slot, _)| (messages[slot].reference, slot))
            .collect()
    }

    fn messages(&mut self, waiting: &[Waiting]) {
        let mut named = HashMap::new();
        for Waiting { slot, message: Message { about, reference } } in waiting {
            let place = format!("slot {slot}");
            if !about.is_chunk() {
                let fits = *about == About::inline(about.len())
                    && about.len() as u64 <= self.shared.layout.inline_max()
                    && self.shared.layout.config.ack == Ack::OnTake;
                self.expect(fits, &facts::MESSAGE, place, format!("a message described by {:#x}", about.0));
                continue;
            }
            if ![About::chunk(), About::watched()].contains(about) {
                self.fault(&facts::MESSAGE, place, format!("a message described by {:#x}", about.0));
                continue;
            }
            let (id, version) = (*reference as u32, (reference >> 32) as u32);
            let found = format!("it names chunk {id} at version {version}");
            if let Some(other) = named.insert(*reference, slot) {
                self.fault(&facts::ONCE, place.clone(), format!("{found}, as slot {other} does"));
            }
            let exists = id < self.second.extents.chunks_known();
            let word = self.second.chunks.get(id as usize).map(|word| chunks::Word(*word));
            let ahead = word.map_or(0, |word| word.version().wrapping_sub(version) as i32);
            let is_loaned = ahead == 0 && word.is_some_and(|word| word.is(chunks::State::Loaned));
            if !exists || ahead < 0 || is_loaned {
                let state = word.map_or(String::new(), |word| format!(", which is {word:?}"));
                self.fault(&facts::REFERENCE, place, found + &state);
            } else if word.is_some_and(|word| ahead > 0 || !word.is(chunks::State::Queued)) {
                self.pending(&facts::TAKEN, place, found);
            }
        }
    }
}
