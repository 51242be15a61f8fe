//! The gates: each breaks something on purpose and says what held.

mod blocked;
mod calls;
mod containers;
mod double;
mod kill;
mod scribbler;
pub(crate) mod soak;
pub(crate) mod starvation;
mod stop;
mod wakeups;

use anyhow::Result;

use crate::Plan;
use crate::record::Record;

/// One way of breaking things.
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// An error is one of the gate itself; what did not hold stands in the record.
    pub(crate) run: fn(&Plan) -> Result<Record>,
}

/// All gates, in the order of the chart.
pub(crate) const GATES: &[Gate] = &[
    kill::GATE,
    double::GATE,
    blocked::GATE,
    stop::GATE,
    calls::GATE,
    wakeups::GATE,
    containers::GATE,
    soak::GATE,
    starvation::GATE,
    scribbler::GATE,
];
