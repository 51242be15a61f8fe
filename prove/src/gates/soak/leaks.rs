//! What a round may not leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How long what is on its way out may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What this process had at one moment: descriptors and children.
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub(super) fn take() -> Result<Self> {
        Ok(Self(own()?))
    }

    /// What is there now and was not then, and every name that begins with `prefix`.
    pub(super) fn left(&self, prefix: &str, folder: &Path) -> Result<Vec<String>> {
        let start = Instant::now();
        loop {
            let mut left: Vec<String> = own()?.difference(&self.0).cloned().collect();
            left.extend(names(Path::new("/dev/shm"), prefix)?);
            left.extend(names(folder, "")?);
            if left.is_empty() || start.elapsed() > PATIENCE {
                names(Path::new("/dev/shm"), prefix)?.iter().for_each(|path| drop(fs::remove_file(path)));
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn own() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        let path = entry.path();
        // The one that reads the folder is gone when it is looked at.
        if let Ok(target) = fs::read_link(&path)
            && !target.ends_with("fd")
        {
            found.insert(format!("descriptor {}: {}", entry.file_name().display(), target.display()));
        }
    }
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    found.extend(children.split_whitespace().map(|pid| format!("process {pid}")));
    Ok(found)
}

fn names(folder: &Path, prefix: &str) -> Result<Vec<String>> {
    let is_ours = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
    let entries = fs::read_dir(folder)?.flatten().filter(is_ours);
    Ok(entries.map(|entry| entry.path().display().to_string()).collect())
}

/// The memory in bytes that belongs to this process alone.
pub(super) fn own_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.unwrap_or(0) << 10)
}
