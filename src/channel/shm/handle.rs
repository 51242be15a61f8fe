//! What senders and receivers of a segment share: the endpoint, and what is done while waiting.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::shared::Contradiction;
use crate::shared::attachment::Attachment;
use crate::shared::extents::Backing;
use crate::shared::layout::Peers;
use crate::shared::pair::Bed;
use crate::shared::participants::{Endpoint, Role};
use crate::shared::repair::Structures;
use crate::shared::wait::{IDLE, Spinner, WATCH, WaitMode};
use crate::sys::guard::MappingMark;

/// How long an operation goes on where others change what it looks at, its deadline notwithstanding: what honest
/// peers leave in the way is gone by then.
const GRACE: Duration = Duration::from_millis(20);

/// Ends an operation that finds no end by itself.
#[derive(Default)]
pub(super) struct Patience {
    rounds: u32,
    /// Until when others may stand in the way of what has no time left.
    grace: Option<Instant>,
    /// When it first lay down to sleep.
    asleep_since: Option<Instant>,
}

impl Patience {
    /// Whether it is over, asked when something stood in the way and may be gone.
    #[cold]
    pub(super) fn is_over(&mut self, deadline: Deadline) -> bool {
        if !deadline.is_over() {
            return false;
        }
        let now = Instant::now();
        now >= *self.grace.get_or_insert(now + GRACE)
    }

    /// The same, asked when there is news: the clock is looked at now and then.
    #[inline]
    pub(super) fn is_over_by_now(&mut self, deadline: Deadline) -> bool {
        self.rounds = self.rounds.wrapping_add(1);
        self.rounds.is_multiple_of(64) && self.is_over(deadline)
    }

    /// Until when the next sleep may last: also for one who is alone, as a newcomer can die between what it changed
    /// and waking whom that concerns. What was slept through by then is at most half of the wait, or [`WATCH`].
    pub(super) fn sleep_until(&mut self, deadline: Deadline) -> Deadline {
        let waited = self.asleep_since.get_or_insert_with(Instant::now).elapsed();
        deadline.remaining_within((waited / 2).clamp(WATCH, IDLE)).into()
    }
}

/// One thread's end of a channel, closed when dropped.
pub(super) struct Handle {
    pub(super) attachment: Arc<Attachment>,
    endpoint: Endpoint,
    /// Whether the endpoint says that it waits.
    waits: bool,
    role: Role,
    mark: MappingMark,
    pub(super) me: u16,
    pub(super) mode: WaitMode,
    pub(super) spinner: Spinner,
    pub(super) what: Text,
    last_round: Option<Instant>,
}

impl Handle {
    pub(super) fn open(attachment: Arc<Attachment>, role: Role, mode: WaitMode) -> Result<Self> {
        let endpoint = match open_endpoint(&attachment, role) {
            Ok(endpoint) => endpoint,
            Err(_) => {
                attachment.reap();
                open_endpoint(&attachment, role).map_err(|holder| occupied(&attachment, role, holder))?
            }
        };
        match role {
            Role::Sender => attachment.shared.wake_receivers(), // a sender is news to them
            // The receiver before this one may have died between taking and waking.
            Role::Receiver if attachment.shared.layout.config.is_pair() => {
                attachment.shared.pair.rouse(Bed::Sender);
            }
            Role::Receiver => {}
        }
        let spinner = Spinner::new(mode, crate::sys::cpus().len());
        let (mark, me, what) = (attachment.mark(), attachment.me.owner(), attachment.segment.what().clone());
        Ok(Self { attachment, endpoint, waits: false, role, mark, me, mode, spinner, what, last_round: None })
    }

    /// Refuses a handle that was made before a fork, or whose memory went away: asked before each operation, before each
    /// sleep, and before what was copied out of a chunk is believed.
    #[inline(always)]
    pub(super) fn check(&self) -> Result<()> {
        if self.mark.is_void() { Err(self.void()) } else { Ok(()) }
    }

    #[cold]
    fn void(&self) -> Error {
        self.attachment.segment.explain(Error::Forked { what: self.what.clone() })
    }

    #[cold]
    pub(super) fn corrupt(&self, fault: Contradiction) -> Error {
        self.attachment.segment.corrupt(fault.0)
    }

    pub(super) fn shared(&self) -> &Structures {
        &self.attachment.shared
    }

    /// Says whether this receiver waits for a message, for senders that want to hand one over at once.
    #[inline]
    pub(super) fn mark(&mut self, waits: bool) {
        if self.waits != waits {
            self.waits = waits;
            self.attachment.shared.participants.mark(&mut self.endpoint, waits);
        }
    }

    /// Looks for the dead, and whether the file is as long as it was, at most once every idle period: who sleeps on
    /// memory that is still there would not learn that the rest is not.
    pub(super) fn round(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.last_round.is_none_or(|last| now.duration_since(last) >= IDLE) {
            self.last_round = Some(now);
            self.attachment.segment.measure()?;
            self.attachment.reap();
        }
        Ok(())
    }

    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.attachment.segment.descriptor()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.mark.is_void() {
            return;
        }
        self.attachment.shared.participants.close(self.endpoint);
        if self.role == Role::Sender {
            self.attachment.shared.wake_receivers();
        }
    }
}

/// One to one, each role has its one endpoint; else any will do.
fn open_endpoint(attachment: &Attachment, role: Role) -> Result<Endpoint, u16> {
    let one = attachment.shared.layout.config.peers == Peers::One;
    let fixed = one.then_some(if role == Role::Sender { 0 } else { 1 });
    attachment.shared.participants.open(role, attachment.me.owner(), fixed)
}

#[cold]
fn occupied(attachment: &Attachment, role: Role, holder: u16) -> Error {
    let what = attachment.segment.what().clone();
    if holder == 0 {
        let endpoints = attachment.shared.layout.config.endpoints;
        let supply = format!("its {endpoints} endpoints").into();
        return Error::NoSpace {
            what,
            supply,
            hint: Some("close some, or create it with participants=N".into()),
        };
    }
    let identity = attachment.shared.participants.identity(holder);
    let name = identity.name();
    let (one, other) = if role == Role::Sender { ("sender", "send") } else { ("receiver", "receive") };
    Error::Busy {
        what,
        holder: Some(format!("process {} ({name}), its one {one}", identity.pid).into()),
        hint: Some(
            format!("it was made with peers=one; to {other} from several, create it with peers=many").into(),
        ),
    }
}
