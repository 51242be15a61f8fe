//! What came out of a channel, judged once nobody sends or receives any more.

use std::ops::AddAssign;
use std::sync::atomic::Ordering::Acquire;

use super::ledger::{self, AGAIN, CLASSES, Clock, Count, FIRST, Ledger, PAGE, Page, WITHDRAWN};

/// What a channel promises of the messages whose sends returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// All arrive.
    Kept,
    /// All arrive but those that a killed receiver had taken: at most what its call under way could hold.
    Taken,
    /// What a receiver that dies had not received dies with it, as the kernel's buffers do.
    Buffered,
}

/// The account of one channel, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Sends that returned.
    pub(super) sent: u64,
    /// Sends that were begun and never returned, as their process was killed.
    pub(super) cut_short: u64,
    /// Messages that arrived, of both kinds.
    pub(super) received: u64,
    /// Deliveries that were flagged as perhaps not the first.
    pub(super) redelivered: u64,
    /// Sends that the channel refused, or gave up at their deadline.
    pub(super) refused: u64,
    /// Sent and not received, or not received although what was begun after it was; without those that died with
    /// their receivers, as far as the promise allows it.
    pub(super) lost: u64,
    /// Not received, and the promise allows it.
    pub(super) died: u64,
    /// Received twice without the flag.
    pub(super) doubled: u64,
    /// Received although its send was refused.
    pub(super) revived: u64,
    pub(super) torn: u64,
    pub(super) disordered: u64,
    /// Received from another channel, or never sent.
    pub(super) strange: u64,
}

impl Account {
    /// Judges a channel whose killed receivers may have taken so many messages with them.
    pub(super) fn of(ledger: &Ledger, channel: u64, promise: Promise, taken: u64) -> Self {
        let count = |count| ledger.count(channel, count).load(Acquire);
        let mut account = Self {
            torn: count(Count::Torn),
            disordered: count(Count::Disordered),
            strange: count(Count::Strange),
            ..Self::default()
        };
        for page in 0..ledger.pages_used() {
            if let Some(found) = ledger.page(page).filter(|found| found.channel == channel) {
                account.add_page(ledger, page * u64::from(PAGE), found);
            }
        }
        account.add_blanks(
            [Count::BlanksBegun, Count::BlanksDone, Count::BlanksReceived, Count::BlanksAgain].map(count),
        );
        account.died = match promise {
            Promise::Kept => 0,
            Promise::Taken => account.lost.min(taken),
            Promise::Buffered => account.lost,
        };
        account.lost -= account.died;
        account
    }

    fn add_page(&mut self, ledger: &Ledger, first: u64, page: Page) {
        // Messages of the send that was cut short, which may be missing from the last on.
        let mut missing = 0;
        for at in 0..page.begun {
            let cells = ledger.cells(first + u64::from(at & !7));
            let cell = (cells >> (at % 8 * 8)) as u32 & 0xff;
            let firsts = cell & FIRST;
            let has_arrived = cell & (FIRST | AGAIN) != 0;
            let is_done = at < page.done;
            self.received += u64::from(has_arrived);
            self.redelivered += u64::from((cell & AGAIN) >> 3);
            self.doubled += u64::from(firsts > 1);
            if cell & WITHDRAWN != 0 {
                self.refused += 1;
                self.revived += u64::from(has_arrived);
                continue;
            }
            self.sent += u64::from(is_done);
            self.cut_short += u64::from(!is_done);
            match (is_done, has_arrived) {
                (true, false) => self.lost += 1,
                (false, false) => missing += 1,
                (false, true) => self.lost += std::mem::take(&mut missing),
                (true, true) => {}
            }
        }
    }

    /// Blanks all look alike: there may be no fewer than were sent, and no more than were begun.
    fn add_blanks(&mut self, [begun, done, received, again]: [u64; 4]) {
        self.sent += done;
        self.cut_short += begun - done;
        self.received += received;
        self.redelivered += again;
        self.lost += done.saturating_sub(received + again);
        self.doubled += received.saturating_sub(begun);
    }

    /// What may never happen.
    pub(super) fn faults(&self) -> [(&'static str, u64); 6] {
        [
            ("lost", self.lost),
            ("torn", self.torn),
            ("doubled", self.doubled),
            ("out of order", self.disordered),
            ("refused, yet delivered", self.revived),
            ("never sent there", self.strange),
        ]
    }

    pub(super) fn holds(&self) -> bool {
        self.faults().iter().all(|(_, count)| *count == 0)
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.cut_short += other.cut_short;
        self.received += other.received;
        self.redelivered += other.redelivered;
        self.refused += other.refused;
        self.lost += other.lost;
        self.died += other.died;
        self.doubled += other.doubled;
        self.revived += other.revived;
        self.torn += other.torn;
        self.disordered += other.disordered;
        self.strange += other.strange;
    }
}

/// How long something took, often.
#[derive(Debug, Clone)]
pub(super) struct Times(Vec<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(vec![0; CLASSES as usize])
    }
}

impl AddAssign<&Self> for Times {
    fn add_assign(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl Times {
    pub(super) fn add(&mut self, ledger: &Ledger, clock: Clock) {
        for (class, count) in (0..).zip(&mut self.0) {
            *count += ledger.class(clock, class).load(Acquire);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time in nanoseconds that this part of all do not exceed; of 1 the longest.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let rank = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        let class = self.0.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        class.map_or(0, |class| ledger::class_end(class as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::ledger::Hand;
    use super::*;

    const CHANNEL: u64 = 3;

    fn judged(promise: Promise, taken: u64, acts: impl FnOnce(&Ledger, &mut Hand<'_>)) -> Account {
        let ledger = Ledger::create().unwrap();
        acts(&ledger, &mut Hand::new(&ledger, CHANNEL));
        Account::of(&ledger, CHANNEL, promise, taken)
    }

    /// Sends three, the last cut short.
    fn send(hand: &mut Hand<'_>) -> [u32; 3] {
        let first = hand.begin(2).unwrap();
        hand.done(first + 2);
        [first, first + 1, hand.begin(1).unwrap()]
    }

    fn receive(ledger: &Ledger, id: u32) {
        ledger.received(CHANNEL, id, false).unwrap();
    }

    #[test]
    fn all_that_arrives_once_is_well() {
        let account = judged(Promise::Kept, 0, |ledger, hand| {
            let [first, second, _] = send(hand);
            receive(ledger, first);
            receive(ledger, second);
            ledger.received(CHANNEL, second, true).unwrap();
        });
        let sound = Account { sent: 2, cut_short: 1, received: 2, redelivered: 1, ..Account::default() };
        assert_eq!(account, sound);
        assert!(account.holds());
    }

    #[test]
    fn one_that_is_missing_is_lost_unless_it_died_with_its_receiver() {
        for (promise, taken, lost) in [
            (Promise::Kept, 0, 1),
            (Promise::Kept, 1, 1),
            (Promise::Taken, 0, 1),
            (Promise::Taken, 1, 0),
            (Promise::Buffered, 0, 0),
        ] {
            let account = judged(promise, taken, |ledger, hand| receive(ledger, send(hand)[1]));
            assert_eq!((account.lost, account.died), (lost, 1 - lost), "{promise:?} {taken}");
            assert_eq!(account.holds(), lost == 0);
        }
    }

    #[test]
    fn what_was_cut_short_arrives_as_a_prefix() {
        let account = judged(Promise::Kept, 0, |ledger, hand| {
            let first = hand.begin(3).unwrap();
            receive(ledger, first);
            receive(ledger, first + 2);
        });
        assert_eq!((account.cut_short, account.received, account.lost), (3, 2, 1));
    }

    #[test]
    fn every_other_fault_is_seen() {
        let account = judged(Promise::Kept, 0, |ledger, hand| {
            let [first, second, third] = send(hand);
            for id in [first, first, second, third] {
                receive(ledger, id);
            }
            let refused = hand.begin(2).unwrap();
            hand.withdraw(refused..refused + 2);
            receive(ledger, refused);
            assert_eq!(ledger.received(CHANNEL + 1, first, false), None);
            assert_eq!(ledger.received(CHANNEL, 1 << 20, false), None);
            assert_eq!(ledger.received(CHANNEL, first + 100, false), None);
            ledger.count(CHANNEL, Count::Torn).fetch_add(1, Relaxed);
            ledger.count(CHANNEL, Count::Disordered).fetch_add(1, Relaxed);
        });
        assert_eq!((account.doubled, account.refused, account.revived), (1, 2, 1));
        assert_eq!((account.torn, account.disordered, account.strange), (1, 1, 2));
        assert!(!account.holds());
    }

    #[test]
    fn neighbours_and_pages_do_not_mix() {
        let account = judged(Promise::Kept, 0, |ledger, hand| {
            let mut last = None;
            for _ in 0..3 * PAGE / 5 {
                let first = hand.begin(5).unwrap();
                for id in first..first + 5 {
                    let (_, order) = ledger.received(CHANNEL, id, false).unwrap();
                    assert!(last < Some(order));
                    last = Some(order);
                    (0..40).for_each(|_| assert!(ledger.received(CHANNEL, id, true).is_some()));
                }
                hand.done(first + 5);
            }
        });
        let sent = u64::from(3 * PAGE / 5 * 5);
        assert_eq!((account.sent, account.received, account.redelivered), (sent, sent, 31 * sent));
        assert!(account.holds(), "{account:?}");
    }

    #[test]
    fn blanks_are_counted() {
        let account = |begun, done, received| {
            let mut account = Account::default();
            account.add_blanks([begun, done, received, 0]);
            (account.lost, account.doubled)
        };
        assert_eq!([account(3, 2, 2), account(3, 2, 3)], [(0, 0); 2]);
        assert_eq!([account(3, 2, 1), account(3, 2, 4)], [(1, 0), (0, 1)]);
    }

    #[test]
    fn quantiles_are_those_of_the_classes() {
        let ledger = Ledger::create().unwrap();
        (0..99).for_each(|_| ledger.time(Clock::Operation, 1000));
        ledger.time(Clock::Operation, 1_000_000);
        let mut times = Times::default();
        times.add(&ledger, Clock::Operation);
        assert_eq!(times.count(), 100);
        for (part, at_least, at_most) in [(0.5, 1000, 1250), (0.99, 1000, 1250), (1.0, 1_000_000, 1_250_000)]
        {
            let found = times.quantile(part);
            assert!((at_least..=at_most).contains(&found), "{part}: {found}");
        }
    }
}
