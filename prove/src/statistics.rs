//! Figures as people read them.

use std::fmt;

use hdrhistogram::Histogram;

/// Promised of survivors, in µs: 99 of 100, and all.
const P99_MAX_US: u64 = 10_000;
const LONGEST_US: u64 = 100_000;

/// Durations, by their percentiles.
pub(crate) struct Micros(Option<Histogram<u64>>);

impl Micros {
    pub(crate) fn of<'a>(micros: impl Iterator<Item = &'a u32>) -> Self {
        let mut histogram = Histogram::new(3).ok();
        for value in micros {
            if let Some(histogram) = &mut histogram {
                // It grows as it is needed.
                let _ = histogram.record(u64::from(*value));
            }
        }
        Self(histogram)
    }

    /// Whether they keep what is promised of survivors.
    pub(crate) fn holds(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|all| all.value_at_quantile(0.99) <= P99_MAX_US && all.max() <= LONGEST_US)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(all) = self.0.as_ref().filter(|all| !all.is_empty()) else {
            return write!(out, "nothing measured");
        };
        let at = |quantile| all.value_at_quantile(quantile);
        write!(
            out,
            "p50 {} µs, p99 {} µs, longest {} µs of {}",
            at(0.5),
            at(0.99),
            all.max(),
            thousands(all.len())
        )
    }
}

/// 1,234,567.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = (0..digits.len().div_ceil(3))
        .rev()
        .map(|group| &digits[digits.len().saturating_sub(3 * group + 3)..digits.len() - 3 * group])
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_promises_are_held_against_percentiles() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(thousands).each_ref().map(String::as_str)
        );
        assert!(Micros::of([9_000; 100].iter()).holds());
        assert!(!Micros::of([11_000; 100].iter()).holds());
        assert!(!Micros::of([1, 200_000].iter()).holds());
    }
}
