//! The file that is raced with.

use std::path::{Path, PathBuf};

use anyhow::Context;
use narrows::Error;

use super::race::sha256;
use super::stream;
use crate::exit::Usage;

pub(crate) struct Subject {
    pub(crate) path: PathBuf,
    /// Bytes that are streamed.
    pub(crate) len: u64,
    /// Whether they are not all that it has.
    pub(crate) is_cut: bool,
    pub(crate) sha256: String,
}

impl Subject {
    /// A file, or this program's own.
    pub(crate) fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let path = match path {
            Some(path) => std::path::absolute(path)?,
            None => std::env::current_exe().context("cannot find this program's file")?,
        };
        let what = || path.display().to_string();
        let bytes = stream::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let hint = Some("--file names a file that can be read".into());
                anyhow::Error::new(Error::NotFound { what: what().into(), hint })
            }
            std::io::ErrorKind::PermissionDenied => {
                let hint = Some("--file names a file that can be read".into());
                Error::Permission { what: what().into(), owner: None, hint }.into()
            }
            _ => anyhow::Error::new(error).context(format!("cannot read '{}'", what())),
        })?;
        if bytes.is_empty() {
            return Err(
                Usage(format!("'{}' is empty: --file names a file with something in it", what())).into()
            );
        }
        let size = std::fs::metadata(&path)?.len();
        let len = bytes.len() as u64;
        Ok(Self { path, len, is_cut: size > len, sha256: sha256(&bytes) })
    }

    /// Its name without the directory, cut so that it fits into a line.
    pub(crate) fn name(&self) -> String {
        const LETTERS: usize = 20;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name: String =
            name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        match name.chars().count() {
            0..=LETTERS => name,
            _ => name.chars().take(LETTERS - 1).chain(['…']).collect(),
        }
    }
}
