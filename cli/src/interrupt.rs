//! Ctrl-C as a question that waiting code asks, so that handles are closed in order and nothing is left behind.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use narrows::{Deadline, Error};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Quit;

/// How long one sleep lasts at most before Ctrl-C and a closed standard output are looked for.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

static CAUGHT: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From here on Ctrl-C, SIGTERM and SIGHUP are noted; the second of them ends the process at once.
pub(crate) fn install() -> std::io::Result<()> {
    let caught = CAUGHT.get_or_init(Arc::default);
    let again = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // What `nohup` or a shell's `&` made ignored stays ignored.
        if ignored & 1 << (signal - 1) != 0 {
            continue;
        }
        flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
        flag::register(signal, again.clone())?;
        flag::register_usize(signal, caught.clone(), signal as usize)?;
    }
    Ok(())
}

/// The signals that this process was started with as ignored, bit N - 1 for signal N
/// ([proc_pid_status(5)](https://man7.org/linux/man-pages/man5/proc_pid_status.5.html)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Refuses to go on after a signal.
pub(crate) fn check() -> Result<(), Quit> {
    match CAUGHT.get().map_or(0, |caught| caught.load(Ordering::Relaxed)) {
        0 => Ok(()),
        signal => Err(Quit::Signal(signal as u8)),
    }
}

/// Tries `step` in sleeps of at most [`SLICE`] until it succeeds, fails otherwise than by time, or the deadline
/// passes. Between two sleeps `idle` may end it.
pub(crate) fn wait<T>(
    deadline: Deadline,
    mut idle: impl FnMut() -> anyhow::Result<()>,
    mut step: impl FnMut(Deadline) -> narrows::Result<T>,
) -> anyhow::Result<T> {
    loop {
        check()?;
        let slice = match deadline {
            Deadline::Now => Deadline::Now,
            // Never zero, which would mean `Now`: a wait that passes is `TimedOut`, not `Full`.
            _ => Deadline::from(deadline.remaining_within(SLICE).max(Duration::from_nanos(1))),
        };
        match step(slice) {
            Err(Error::TimedOut { .. }) if !deadline.is_over() => idle()?,
            result => return Ok(result?),
        }
    }
}
