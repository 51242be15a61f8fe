//! The time, and the boot's id.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since 1970, as the system's clock has it.
pub(crate) fn realtime_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
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
    fn the_clock_is_the_systems() {
        let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        assert!(realtime_ns().abs_diff(epoch) < 10_000_000_000);
    }
}
