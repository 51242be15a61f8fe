//! What rivals leave behind, in shared memory and in the directory for temporary files.

use std::io::Result;
use std::process::{Child, Command, Stdio};

/// Removes whatever has a name that begins with this.
pub(crate) fn remove(prefix: &str) {
    for directory in [std::path::Path::new("/dev/shm"), &std::env::temp_dir()] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                let _ = std::fs::remove_dir_all(entry.path()).or_else(|_| std::fs::remove_file(entry.path()));
            }
        }
    }
}

/// A process that waits until this one is gone, by whatever death, and then removes what its players left: they die
/// with it, and nobody else is there to do it.
pub(crate) fn remove_after_death() -> Result<Child> {
    // It has the only other end of the pipe; the players are given a second to die.
    let script = r#"trap "" INT TERM HUP; cat; sleep 1; rm -rf "/dev/shm/$0"* "${TMPDIR:-/tmp}/$0"*"#;
    let prefix = format!("narrows-bench-{}-", std::process::id());
    let mut shell = Command::new("sh");
    shell.args(["-c", script, &prefix]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
}
