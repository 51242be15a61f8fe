//! What others see of a channel, before and after.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// So much of a segment is watched for changes: its tables, slots and first descriptors.
const WATCHED: usize = 32 << 10;

/// A channel's words, and what they were.
pub(crate) struct Watch {
    path: PathBuf,
    file: Option<File>,
    before: Vec<u8>,
    now: Vec<u8>,
}

impl Watch {
    pub(super) fn new(path: PathBuf) -> Self {
        let mut watch = Self { path, file: None, before: vec![0; WATCHED], now: vec![0; WATCHED] };
        watch.changed();
        watch
    }

    /// Whether it is another than when this was asked last.
    pub(crate) fn changed(&mut self) -> bool {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut self.now, 0).ok()).unwrap_or(0);
        self.now[read..].fill(0);
        let changed = self.now != self.before;
        std::mem::swap(&mut self.now, &mut self.before);
        changed
    }

    /// What they see now.
    pub(crate) fn image(&self) -> &[u8] {
        &self.before
    }
}
