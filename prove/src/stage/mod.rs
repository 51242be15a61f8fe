//! Where operations are interrupted: a channel in a known state, a victim, survivors, and the judgement.
//!
//! ```text
//! mode        the kinds of channel
//! message     what is sent, so that a torn or foreign one is seen
//! operation   what a victim does: a few lines each
//! state       what it finds: a few lines each
//! site        one channel, who takes part, what must still come out of it
//! verdict     what came out, held against what must
//! ```
//!
//! A new operation is a row in `operation::OPERATIONS`, a new state one in `state::STATES`; every gate takes them from
//! there, and the product is theirs to walk.

mod crowd;
mod message;
mod mode;
mod operation;
mod site;
mod state;
mod verdict;

pub(crate) use crowd::Said;
pub(crate) use operation::{Effect, Operation, Outcome, Role, operation};
pub(crate) use site::{Lore, Ready, Settled, Site};

use mode::{MODES, Mode, Scope};
use operation::OPERATIONS;
use state::{STATES, State};

/// An operation, in a state, on a kind of channel.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) mode: &'static Mode,
    pub(crate) state: &'static State,
    pub(crate) operation: &'static Operation,
}

impl Scenario {
    /// The whole product: what can be, and what cannot, with the reason.
    pub(crate) fn all() -> (Vec<Self>, Vec<(Self, &'static str)>) {
        let (mut fitting, mut left_out) = (Vec::new(), Vec::new());
        for mode in MODES {
            for state in STATES {
                for operation in OPERATIONS {
                    let scenario = Self { mode, state, operation };
                    match scenario.misfit() {
                        None => fitting.push(scenario),
                        Some(reason) => left_out.push((scenario, reason)),
                    }
                }
            }
        }
        (fitting, left_out)
    }

    /// An operation that breaks a promise, where a gate must see it: two messages wait, and others are there.
    pub(crate) fn planted(operation: &'static Operation) -> Option<Self> {
        let state = STATES.iter().find(|state| state.name == "waiting")?;
        Some(Self { mode: MODES.first()?, state, operation })
    }

    /// Why it is left out of the product.
    fn misfit(&self) -> Option<&'static str> {
        let Self { mode, state, operation } = self;
        let scope = match mode.scope {
            Scope::Messages(reason) if !operation.moves => Some(reason),
            Scope::Names if operation.moves => Some("as on `many`: the bytes lie elsewhere"),
            Scope::Only(name) if operation.name != name => Some("as on `many`: there is more memory"),
            _ => None,
        };
        let moved = state.moved && !operation.moves;
        let touched = mode.rendezvous && !state.untouched;
        let taken = mode.one && state.holds == Some(operation.role);
        scope
            .or_else(|| (state.misfit)(mode))
            .or_else(|| (operation.misfit)(mode, state))
            .or_else(|| touched.then_some("nothing waits there but with its sender"))
            .or_else(|| moved.then_some("where the ring stands changes nothing of it"))
            .or_else(|| taken.then_some("its one end is another's"))
    }

    /// The same with another operation, if that fits.
    pub(crate) fn with_operation(&self, name: &str) -> Option<Self> {
        let operation = OPERATIONS.iter().find(|operation| operation.name == name)?;
        Some(Self { operation, ..*self }).filter(|scenario| scenario.misfit().is_none())
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", self.mode.name, self.state.name, self.operation.name)
    }
}
