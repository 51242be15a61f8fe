//! What every transport must do: one list of cases × the table of transports.
//!
//! Each pair is a test of its own, named `variant::case`. A case declares the capabilities that it needs; where a
//! transport lacks one, the pair becomes `variant::case (refused)` and asserts that using it is refused. Peers
//! are real processes wherever the case is about processes: this executable again, led by commands (`peer`).
//! Every wait is bounded, and a watchdog turns what hangs into a failure. Nothing may be left behind.

mod account;
mod cases;
mod peer;
mod place;
mod refusal;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed};
use narrows::Capability;

use place::{Trial, VARIANTS, Variant};

/// One thing that transports must do.
pub(crate) struct Case {
    name: &'static str,
    needs: &'static [Capability],
    run: fn(&Trial),
}

/// After this long a test hangs. The longest takes a few seconds.
const WATCHDOG: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(peer::ROLE) {
        return peer::serve();
    }
    let arguments = Arguments::from_args();
    let trials =
        VARIANTS.iter().flat_map(|variant| cases::all().map(move |case| trial(variant, case))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(variant: &'static Variant, case: &'static Case) -> libtest_mimic::Trial {
    let missing: Vec<Capability> = case.needs.iter().copied().filter(|need| !variant.has(*need)).collect();
    let refused = if missing.is_empty() { "" } else { " (refused)" };
    let name = format!("{}::{}{refused}", variant.name, case.name);
    let title = name.clone();
    libtest_mimic::Trial::test(title, move || {
        watched(&name, variant, move |trial| match missing.as_slice() {
            [] => (case.run)(trial),
            missing => missing.iter().for_each(|capability| refusal::check(trial, *capability)),
        })
    })
}

/// Runs a case in a thread of its own, for as long as the watchdog allows, and looks at what it left.
fn watched(
    name: &str,
    variant: &'static Variant,
    run: impl FnOnce(&Trial) + Send + 'static,
) -> Result<(), Failed> {
    let trial = Trial::new(variant);
    let remains = trial.remains();
    let (done, outcome) = mpsc::channel();
    let body = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&trial)));
        // Peers die with this thread, so it ends after the result is known.
        let _ = done.send(result.map_err(|panic| place::text_of(&*panic)).map(|()| peer::KILLED.get()));
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body)?;
    let result = match outcome.recv_timeout(WATCHDOG) {
        Ok(result) => {
            let _ = thread.join();
            result.and_then(|killed| remains.check(killed))
        }
        Err(_) => Err(format!("hangs: no end after {} s", WATCHDOG.as_secs())),
    };
    remains.clear();
    result.map_err(Failed::from)
}
