//! The workspace's copy that mutants live in. The sources themselves never carry a switch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::edits::{Edit, Mutated};

/// What says which mutant is on.
const MODULE: &str = include_str!("switch.rs");
/// What a build does not need, or makes.
const LEFT_OUT: [&str; 4] = ["target", ".git", "rivals", "fuzz"];

/// A copy of the workspace.
pub(crate) struct Tree {
    pub(crate) folder: PathBuf,
    /// The mutated files, by their paths in the workspace.
    files: BTreeMap<String, Mutated>,
}

impl Tree {
    /// Copies what changed since the last time; files that are alike keep their dates, for cargo's sake.
    pub(crate) fn grow(root: &Path, folder: &Path, edits: &BTreeMap<String, Vec<Edit>>) -> Result<Self> {
        let mut paths = BTreeSet::new();
        list(root, Path::new(""), &mut paths)?;
        let mut files = BTreeMap::new();
        for path in &paths {
            let name = path.to_string_lossy().into_owned();
            let mut bytes = fs::read(root.join(path))?;
            if let Some(edits) = edits.get(&name) {
                let mutated = Mutated::of(std::str::from_utf8(&bytes)?, edits);
                bytes = mutated.text.clone().into_bytes();
                files.insert(name, mutated);
            } else if name == "src/lib.rs" {
                bytes.extend_from_slice(b"\nmod mutant;\n");
            } else if name == "Cargo.toml" {
                bytes = renamed(std::str::from_utf8(&bytes)?, folder)?.into_bytes();
            }
            put(&folder.join(path), &bytes)?;
        }
        let module = PathBuf::from("src/mutant.rs");
        put(&folder.join(&module), MODULE.as_bytes())?;
        paths.insert(module);
        let mut there = BTreeSet::new();
        list(folder, Path::new(""), &mut there)?;
        for path in there.difference(&paths) {
            fs::remove_file(folder.join(path))?;
        }
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// Whose text stands at a place of a file of the copy.
    pub(crate) fn culprit(&self, file: &str, place: &std::ops::Range<usize>) -> Option<u32> {
        self.files.get(file)?.culprit(place)
    }
}

/// Another version, so that what is built of it stands beside what is built of the workspace itself.
fn renamed(manifest: &str, folder: &Path) -> Result<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let table = manifest.find("[workspace.package]").context("no version")?;
    let start = table + manifest[table..].find("version = \"").context("no version")? + "version = \"".len();
    let end = start + manifest[start..].find('"').context("no version")?;
    Ok(format!("{}+{name}{}", &manifest[..end], &manifest[end..]))
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

fn list(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(below)).with_context(|| root.display().to_string())? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if below.as_os_str().is_empty() && LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else if entry.file_type()?.is_file() {
            found.insert(path);
        }
    }
    Ok(())
}
