//! Clocks and the boot's id.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds on the monotonic clock, which setting the time does not move and which stands while the machine
/// sleeps. The same in every process of a boot.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since 1970.
pub(crate) fn realtime_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

fn nanoseconds(time: Timespec) -> u64 {
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// The random number of this boot ([random(4)](https://man7.org/linux/man-pages/man4/random.4.html)), zero where
/// `/proc` does not tell it: what stood in a file under another number was written before a reboot.
pub(crate) fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    for (at, digit) in digits.take(32).enumerate() {
        id[at / 2] |= (digit as u8) << if at % 2 == 0 { 4 } else { 0 };
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_read_back() {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let hex: String = boot_id().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, text.trim().replace('-', ""));
    }

    #[test]
    fn the_clocks_go_forward() {
        assert!(monotonic_ns() <= monotonic_ns());
        let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        assert!(realtime_ns().abs_diff(epoch) < 10_000_000_000);
    }
}
