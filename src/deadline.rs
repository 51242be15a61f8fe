//! How long an operation may take.

use std::time::{Duration, Instant};

/// The latest moment at which an operation gives up. Measured on the monotonic clock, so that setting the
/// system's time changes nothing ([clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)).
///
/// Every blocking operation takes `impl Into<Deadline>`: a [`Duration`] counts from now, an [`Instant`] is taken
/// as it is.
///
/// ```
/// use narrows::Deadline;
/// use std::time::Duration;
/// assert!(Deadline::Now.is_over());
/// assert!(!Deadline::from(Duration::from_secs(60)).is_over());
/// assert_eq!(Deadline::Never.remaining(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// Look, do not wait.
    Now,
    /// Wait until then.
    At(Instant),
    /// Wait for as long as it takes.
    Never,
}

impl Deadline {
    /// Whether nothing may be waited for any more.
    pub fn is_over(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// The time left: `Some(0)` when over, `None` when there is no bound.
    pub fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::At(at) => Some(at.saturating_duration_since(Instant::now())),
            Self::Never => None,
        }
    }

    /// The time left, but at most `bound`: how long one sleep inside a longer wait may last.
    pub fn remaining_within(&self, bound: Duration) -> Duration {
        self.remaining().map_or(bound, |left| left.min(bound))
    }
}

impl From<Duration> for Deadline {
    /// A duration too long for the clock to count means [`Deadline::Never`].
    fn from(from_now: Duration) -> Self {
        match (from_now, Instant::now().checked_add(from_now)) {
            (Duration::ZERO, _) => Self::Now,
            (_, Some(at)) => Self::At(at),
            (_, None) => Self::Never,
        }
    }
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Self::At(at)
    }
}
