//! How the command ends: one exit code for each thing that a script can do about it.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use narrows::Error;

/// An end that needs no words.
#[derive(Debug)]
pub(crate) enum Quit {
    /// A signal asked for it.
    Signal(u8),
    /// Nobody reads standard output any more.
    Closed,
    /// The words were said already.
    Told(u8),
}

impl fmt::Display for Quit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => write!(out, "ended by signal {number}"),
            Self::Closed => out.write_str("standard output is closed"),
            Self::Told(code) => write!(out, "ended with code {code}"),
        }
    }
}

impl std::error::Error for Quit {}

/// Arguments that make no sense, where clap cannot see it.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error of the library with what to do about it on the command line.
#[derive(Debug)]
pub(crate) struct Advised {
    /// What went wrong.
    pub(crate) error: Error,
    /// What to type instead.
    pub(crate) remedy: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.error, self.remedy)
    }
}

impl std::error::Error for Advised {}

/// Says what went wrong, unless nothing did, and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if !error.is::<Quit>() && !is_closed(error) {
        say(format_args!("{error:#}"));
    }
    ExitCode::from(code(error))
}

/// One line of words on standard error.
pub(crate) fn say(words: impl fmt::Display) {
    // Where standard error is closed nobody listens.
    let _ = writeln!(std::io::stderr(), "narrows: {words}");
}

/// The exit code of any failure.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if let Some(quit) = error.downcast_ref::<Quit>() {
        return match quit {
            Quit::Signal(number) => 128 + number,
            Quit::Closed => 0,
            Quit::Told(code) => *code,
        };
    }
    if is_closed(error) {
        return 0;
    }
    if error.is::<Usage>() {
        return 2;
    }
    let advised = error.downcast_ref::<Advised>().map(|advised| &advised.error);
    advised.or_else(|| error.downcast_ref()).map_or(1, code_of)
}

/// Whether a verb that prints by the standard library found nobody to read it.
fn is_closed(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io_errors.map(std::io::Error::kind).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

fn code_of(error: &Error) -> u8 {
    match error {
        Error::InvalidAddress { .. } => 2,
        Error::NotFound { .. } => 3,
        Error::Permission { .. } => 4,
        Error::Busy { .. } | Error::Full { .. } | Error::NoSpace { .. } => 5,
        Error::PeerGone { .. } | Error::Evicted { .. } => 6,
        Error::WrongKind { .. } | Error::Mismatch { .. } | Error::Corrupt { .. } => 7,
        Error::TimedOut { .. } => 124,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_exit_code() {
        let what = || "shm:x".into();
        let hint = None;
        for (expected, error) in [
            (2, Error::InvalidAddress { address: what(), problem: what(), hint: hint.clone() }),
            (3, Error::NotFound { what: what(), hint: hint.clone() }),
            (4, Error::Permission { what: what(), owner: None, hint: hint.clone() }),
            (5, Error::Busy { what: what(), holder: None, hint: hint.clone() }),
            (5, Error::Full { what: what() }),
            (5, Error::NoSpace { what: what(), supply: what(), hint: hint.clone() }),
            (6, Error::PeerGone { what: what(), died: 1 }),
            (6, Error::Evicted { what: what() }),
            (7, Error::WrongKind { what: what(), expected: what(), found: what(), hint: hint.clone() }),
            (7, Error::Mismatch { what: what(), option: what(), theirs: what(), ours: what() }),
            (7, Error::Corrupt { what: what(), problem: what(), hint: hint.clone() }),
            (124, Error::TimedOut { what: what(), doing: "receiving from" }),
            (1, Error::TooLarge { what: what(), size: 2, limit: 1, hint: hint.clone() }),
            (1, Error::Forked { what: what() }),
            (1, Error::Unsupported { what: what(), capability: what(), hint: hint.clone() }),
            (1, Error::Os { what: what(), call: "open", errno: 5 }),
        ] {
            assert_eq!(code(&error.clone().into()), expected, "{error}");
            let advised = Advised { error: error.clone(), remedy: "do".into() };
            assert_eq!(code(&advised.into()), expected, "{error}");
            assert_eq!(code(&anyhow::Error::new(error).context("line 3")), expected);
        }
    }

    #[test]
    fn ends_without_an_error_have_their_codes() {
        assert_eq!(code(&Quit::Signal(2).into()), 130);
        assert_eq!(code(&Quit::Closed.into()), 0);
        assert_eq!(code(&Quit::Told(3).into()), 3);
        assert_eq!(code(&Usage("no".into()).into()), 2);
        assert_eq!(code(&anyhow::anyhow!("anything")), 1);
    }
}
