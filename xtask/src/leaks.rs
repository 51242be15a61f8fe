//! What tests may not leave behind: named objects, files, processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long what is on its way out may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that outlives its process, at one moment.
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks, and from now on adopts orphans, so that a test's left process is ours to see.
    pub(crate) fn take(folder: &Path) -> Self {
        // Where the kernel refuses, orphans go to init and are not seen: the other checks stay.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        Self(look(folder))
    }

    /// What is there now and was not then. Waits for what is on its way out; kills left processes.
    pub(crate) fn compare(&self, folder: &Path) -> Vec<String> {
        let start = Instant::now();
        loop {
            while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
            let left: Vec<String> = look(folder).difference(&self.0).cloned().collect();
            if left.is_empty() || start.elapsed() > PATIENCE {
                kill(&descendants(std::process::id()));
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn look(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for place in [Path::new("/dev/shm"), Path::new("/dev/mqueue"), folder] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            found.insert(format!("{} is left", entry.path().display()));
        }
    }
    for kind in ["shm", "sem", "msg"] {
        let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            found.insert(format!("a System V {kind} is left: key and id {}", words.join(" ")));
        }
    }
    for pid in descendants(std::process::id()) {
        let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
        found.insert(format!("process {} is left: {}", pid.as_raw_nonzero(), name.trim()));
    }
    found
}

/// All processes below one, by the parents that `/proc` shows.
pub(crate) fn descendants(ancestor: u32) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (any name) state parent ...`
        let parent = stat.rsplit(") ").next().and_then(|tail| tail.split(' ').nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(pid, _)| *pid));
        next += 1;
    }
    family[1..].iter().filter_map(|pid| Pid::from_raw(*pid as i32)).collect()
}

/// Ends them.
pub(crate) fn kill(pids: &[Pid]) {
    for pid in pids {
        // One that has ended meanwhile is what we want.
        let _ = rustix::process::kill_process(*pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_file_and_a_left_process_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let before = look(folder.path());
        fs::write(folder.path().join("left"), "").unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found: Vec<String> = look(folder.path()).difference(&before).cloned().collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|line| line.ends_with("left is left")), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with(&format!("process {} ", child.id()))), "{found:?}");
    }
}
