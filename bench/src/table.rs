//! Results for people.

use crate::result::{Distance, Outcome};

/// Rows as they come; remembers the floors for the ratios of later rows.
#[derive(Default)]
pub(crate) struct Table {
    floors: Vec<Outcome>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn head(&self) -> String {
        format!(
            "{:<10} {:<42} {:>5} {:>7} {:>4} {:>8} {:>8} {:>8} {:>10} {:>10} {:>8} {:>8} {:>7} {:>6}",
            "scheme",
            "scenario",
            "wait",
            "size",
            "dist",
            "p50",
            "p99",
            "p99.9",
            "messages/s",
            "bytes/s",
            "cpu send",
            "cpu recv",
            "x floor",
            "spread"
        )
    }

    pub(crate) fn row(&mut self, outcome: &Outcome) -> String {
        if outcome.scheme == "floor" {
            self.floors.push(outcome.clone());
        }
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let time = |ns: Option<f64>| or_dash(ns.map(duration));
        format!(
            "{:<10} {:<42} {:>5} {:>7} {:>4} {:>8} {:>8} {:>8} {:>10} {:>10} {:>8} {:>8} {:>7} {:>6}",
            outcome.scheme,
            outcome.scenario,
            outcome.wait.unwrap_or("-"),
            or_dash(outcome.size_bytes.map(size)),
            outcome.distance.map_or("-", Distance::name),
            time(outcome.p50_ns),
            time(outcome.p99_ns),
            time(outcome.p999_ns),
            or_dash(outcome.messages_per_s.map(|rate| quantity(rate, ""))),
            or_dash(outcome.bytes_per_s.map(|rate| quantity(rate, "B"))),
            time(outcome.sender_cpu_ns),
            time(outcome.receiver_cpu_ns),
            or_dash(self.ratio(outcome).map(|ratio| format!("{ratio:.2}"))),
            or_dash(outcome.spread.map(|spread| format!("{:.0} %", spread * 100.0))),
        )
    }

    /// Times longer than the floor: a spinning latency than the cache line, a sleeping one than the futex, a
    /// message of a stream than one of the ring.
    fn ratio(&self, outcome: &Outcome) -> Option<f64> {
        if outcome.scheme == "floor" {
            return None;
        }
        let floor = |scenario: &str, size: Option<usize>| {
            self.floors.iter().rev().find(|floor| {
                floor.scenario == scenario
                    && floor.distance == outcome.distance
                    && size.is_none_or(|size| floor.size_bytes == Some(size))
            })
        };
        if let Some(p50_ns) = outcome.p50_ns {
            let floor_ns = match outcome.wait {
                Some("sleep") => floor("latency_one_to_one_futex", None).and_then(|floor| floor.p50_ns),
                Some(_) => outcome.floor_p50_ns,
                None if outcome.scenario.ends_with("create") => floor("latency_create", None)?.p50_ns,
                None => floor("latency_open", None)?.p50_ns,
            };
            return floor_ns.map(|floor_ns| p50_ns / floor_ns);
        }
        let has = |word: &str| outcome.scenario.contains(word);
        let ring = match outcome.size_bytes? {
            size if size > 64 => floor("throughput_one_to_one_slot_ring", Some(size)),
            _ if has("roomy_batch") => floor("throughput_one_to_one_ring_roomy_batch", None),
            _ if has("roomy") => floor("throughput_one_to_one_ring_roomy", None),
            _ if has("batch") => floor("throughput_one_to_one_ring_batch", None),
            _ => floor("throughput_one_to_one_ring", None),
        };
        ring?.messages_per_s.zip(outcome.messages_per_s).map(|(floor, rate)| floor / rate)
    }
}

/// A duration in three digits.
pub(crate) fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 999.5 => format!("{} ns", digits(ns)),
        ns if ns < 999_500.0 => format!("{} us", digits(ns / 1e3)),
        ns if ns < 999_500_000.0 => format!("{} ms", digits(ns / 1e6)),
        ns => format!("{} s", digits(ns / 1e9)),
    }
}

/// A quantity in three digits: `12.3 M`.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    let (value, prefix) = match value {
        value if value < 999.5 => (value, ""),
        value if value < 999_500.0 => (value / 1e3, "k"),
        value if value < 999_500_000.0 => (value / 1e6, "M"),
        value => (value / 1e9, "G"),
    };
    format!("{} {prefix}{unit}", digits(value))
}

fn digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A size in powers of 1024 where it is one of their multiples.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(duration(57.26), "57.3 ns");
        assert_eq!(duration(999.9), "1.00 us");
        assert_eq!(quantity(153.4e6, ""), "153 M");
        assert_eq!(quantity(43e9, "B"), "43.0 GB");
        assert_eq!((size(48).as_str(), size(4096).as_str(), size(1 << 24).as_str()), ("48", "4K", "16M"));
    }
}
