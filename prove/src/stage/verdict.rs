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
    /// How many of them it says that it sent, where it came to say anything.
    pub(super) said: Option<usize>,
    /// How many messages were certain when the victim began.
    pub(super) before: usize,
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
            let unflagged = flags.iter().filter(|again| !**again).count();
            // Who can say what it received was not to be robbed of it.
            if unflagged > 1 || self.said.is_some() && flags.len() > 1 {
                faults.push(format!("message {id} came {} times, {unflagged} times unflagged", flags.len()));
            }
            let known = [&self.possible, &self.doubtful, &self.victims].iter().any(|ids| ids.contains(id));
            if !known && !self.certain.contains(id) {
                faults.push(format!("message {id} was never sent"));
            }
        }
        let has = |id: &u64| times.contains_key(id);
        let waited = |count: usize| self.certain.iter().take(count);
        let (takes, adds) = match effect {
            // What it says that it took came elsewhere.
            Effect::Takes(count) if self.said.is_none() => (count, 0),
            Effect::Adds(count) => (0, count),
            Effect::Removes if !waited(self.before).any(has) => (self.before, 0),
            Effect::Takes(_) | Effect::Nothing | Effect::Removes => (0, 0),
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
        if let Some(said) = self.said.filter(|said| *said != sent) {
            faults.push(format!("it says that it sent {said} of {:?}, and {sent} came", self.victims));
        }
        faults.extend(self.disorder());
        Verdict { progress: sent + taken, faults }
    }

    /// What the survivors received came in the order in which it was sent, but for what comes again.
    fn disorder(&self) -> Option<String> {
        let came: Vec<u64> = self.came.iter().filter(|(_, again)| !again).filter_map(|(id, _)| *id).collect();
        let certain: Vec<u64> = self.certain.iter().copied().collect();
        [&certain, &self.victims].into_iter().find_map(|sent| {
            let mut kept: Vec<u64> = came.iter().copied().filter(|id| sent.contains(id)).collect();
            kept.dedup(); // what comes twice is a fault of its own
            let due: Vec<u64> = sent.iter().copied().filter(|id| kept.contains(id)).collect();
            (kept != due).then(|| format!("{kept:?} came instead of {due:?}"))
        })
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
        let said = |said, came: &[u64]| Ledger { said: Some(said), ..ledger(came) };
        assert_eq!(said(1, &[1, 2, 3, 7]).judge(Effect::Adds(1)), good(1));
        assert_eq!(said(0, &[1, 2, 3, 7]).judge(Effect::Adds(1)).faults.len(), 1, "an error, and it came");
        assert_eq!(said(1, &[1, 2, 3]).judge(Effect::Adds(1)).faults.len(), 1, "sent, and it did not come");
        assert_eq!(said(0, &[2, 3]).judge(Effect::Takes(1)).faults.len(), 1, "took what it does not have");
        let mut robbed = said(0, &[1, 2, 3]);
        robbed.came[0].1 = true;
        robbed.elsewhere.push((Some(1), false));
        assert_eq!(robbed.judge(Effect::Takes(1)).faults.len(), 1);
        let mut torn = ledger(&[1, 2, 3]);
        torn.elsewhere.push((None, false));
        assert_eq!(torn.judge(Effect::Nothing).faults, ["a message is torn"]);
    }
}
