//! What came out of a channel, held against what must.

use std::collections::{BTreeMap, VecDeque};

use super::operation::Effect;

/// What may and what must come out of a site.
#[derive(Debug, Default, Clone)]
pub(super) struct Ledger {
    /// Sent and not taken, in order.
    pub(super) certain: VecDeque<u64>,
    /// Of others that were stopped or killed: may come.
    pub(super) possible: Vec<u64>,
    /// Of others that were stopped or killed with them in their hands: may be missing.
    pub(super) doubtful: Vec<u64>,
    /// What the victim sends, in order.
    pub(super) victims: Vec<u64>,
    /// What the survivors received, in order.
    pub(super) came: Vec<(Option<u64>, bool)>,
    /// What others received.
    pub(super) elsewhere: Vec<(Option<u64>, bool)>,
}

/// What came of one interrupted operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many messages the victim sent or took.
    pub(crate) progress: usize,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

impl Ledger {
    /// Judges what an interrupted operation of this effect left.
    pub(super) fn judge(&self, effect: Effect) -> Verdict {
        let mut faults = Vec::new();
        let mut times: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
        for (id, again) in self.came.iter().chain(&self.elsewhere) {
            match id {
                Some(id) => times.entry(*id).or_default().push(*again),
                None => faults.push("a message is torn".to_owned()),
            }
        }
        for (id, flags) in &times {
            if flags.iter().filter(|again| !**again).count() > 1 {
                faults.push(format!("message {id} came twice, unflagged"));
            }
            let known = [&self.possible, &self.doubtful, &self.victims].iter().any(|ids| ids.contains(id));
            if !known && !self.certain.contains(id) {
                faults.push(format!("message {id} was never sent"));
            }
        }
        let has = |id: &u64| times.contains_key(id);
        let (takes, adds) = match effect {
            Effect::Takes(count) => (count, 0),
            Effect::Adds(count) => (0, count),
            Effect::Removes if self.came.is_empty() => (self.certain.len(), 0),
            Effect::Nothing | Effect::Removes => (0, 0),
        };
        // What the victim took is gone from the front.
        let due: Vec<u64> = self.certain.iter().copied().filter(|id| !self.doubtful.contains(id)).collect();
        let taken = due.iter().take(takes).take_while(|id| !has(id)).count();
        let lost: Vec<u64> = due[taken..].iter().copied().filter(|id| !has(id)).collect();
        if !lost.is_empty() {
            faults.push(format!("lost: {lost:?}"));
        }
        let sent = self.victims.iter().take_while(|id| has(id)).count();
        if self.victims.iter().filter(|id| has(id)).count() != sent || sent > adds {
            faults.push(format!("of {:?} came what is no prefix", self.victims));
        }
        faults.extend(self.disorder());
        Verdict { progress: sent + taken, faults }
    }

    /// What the survivors received came in the order in which it was sent, but for what comes again.
    fn disorder(&self) -> Option<String> {
        let came: Vec<u64> = self.came.iter().filter(|(_, again)| !again).filter_map(|(id, _)| *id).collect();
        let kept: Vec<u64> = came.into_iter().filter(|id| self.certain.contains(id)).collect();
        let due: Vec<u64> = self.certain.iter().copied().filter(|id| kept.contains(id)).collect();
        (kept != due).then(|| format!("{kept:?} came instead of {due:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(came: &[u64]) -> Ledger {
        Ledger {
            certain: [1, 2, 3].into(),
            victims: vec![7, 8],
            came: came.iter().map(|id| (Some(*id), false)).collect(),
            ..Ledger::default()
        }
    }

    #[test]
    fn what_is_lost_torn_doubled_swapped_or_foreign_is_a_fault() {
        let verdict = |came: &[u64], effect| ledger(came).judge(effect);
        let good = |progress| Verdict { progress, faults: Vec::new() };
        assert_eq!(verdict(&[1, 2, 3], Effect::Nothing), good(0));
        assert_eq!(verdict(&[1, 2, 3, 7], Effect::Adds(2)), good(1));
        assert_eq!(verdict(&[2, 3], Effect::Takes(2)), good(1));
        for (came, effect) in [
            (&[1, 3][..], Effect::Takes(2)),
            (&[2, 3], Effect::Nothing),
            (&[1, 2, 3, 3], Effect::Nothing),
            (&[2, 1, 3], Effect::Nothing),
            (&[1, 2, 3, 8], Effect::Adds(2)),
            (&[1, 2, 3, 7], Effect::Nothing),
            (&[1, 2, 3, 9], Effect::Adds(2)),
        ] {
            assert_eq!(verdict(came, effect).faults.len(), 1, "{came:?}");
        }
        let mut torn = ledger(&[1, 2, 3]);
        torn.elsewhere.push((None, false));
        assert_eq!(torn.judge(Effect::Nothing).faults, ["a message is torn"]);
    }
}
