//! Processors.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The numbers of the processors on which the calling thread may run
/// ([sched_getaffinity(2)](https://man7.org/linux/man-pages/man2/sched_getaffinity.2.html)); never empty.
///
/// ```
/// assert!(!narrows::sys::cpus().is_empty());
/// ```
pub fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).map(|set| {
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        all
    });
    // A machine with more processors than the set has bits refuses the call.
    allowed.unwrap_or_else(|_| (0..std::thread::available_parallelism().map_or(1, usize::from)).collect())
}

/// Keeps the calling thread on one processor
/// ([sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html)).
///
/// # Errors
/// EINVAL where the process may not run there.
///
/// ```
/// std::thread::spawn(|| {
///     let cpu = narrows::sys::cpus()[0];
///     narrows::sys::pin_to_cpu(cpu)?;
///     assert_eq!(narrows::sys::cpus(), [cpu]);
///     std::io::Result::Ok(())
/// }).join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub fn pin_to_cpu(cpu: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
