//! `Region` against programs that know nothing of narrows, and against each way to misuse it.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use narrows::sys::{pass_descriptor, take_descriptor};
use narrows::{Address, Error, Region, Scheme};

/// A name in `/dev/shm` that no other test has; removed at the end, also of a failed test.
struct Name(String);

impl Name {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self(format!("narrows-region-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn address(&self) -> String {
        format!("shm:{}", self.0)
    }

    fn path(&self) -> PathBuf {
        Path::new("/dev/shm").join(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        std::fs::remove_file(self.path()).ok();
    }
}

/// Another program, which prints a line when it is ready, and checks what it finds when it gets one.
struct Program(Child);

impl Program {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn check(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Past the test harness, which swallows what passing tests print.
fn skipped(reason: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {reason}").ok();
}

fn exists(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn open_file(path: &Path) -> Result<Region, Error> {
    Region::open(Address::new(Scheme::File, path).unwrap())
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, words: &[&str]) {
    let text = result.err().expect("an error").to_string();
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

/// The bytes that both sides agree on: theirs at 0, ours at 100, of 5000.
fn meet(name: &Name, program: Program) {
    let region = Region::open(name.address()).unwrap();
    assert_eq!(region.len(), 5000);
    let mut theirs = [0; 6];
    region.read_at(0, &mut theirs).unwrap();
    assert_eq!(&theirs, b"theirs");
    region.write_at(100, b"ours").unwrap();
    program.check();
}

const PYTHON: &str = r#"
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
name, create = sys.argv[1], sys.argv[2] == "create"
# Before 3.13 the tracker removes at exit whatever this process opened, also others'.
if sys.version_info >= (3, 13):
    memory = SharedMemory(name, create, 5000, track=False)
else:
    memory = SharedMemory(name, create, 5000)
    resource_tracker.unregister(memory._name, "shared_memory")
assert memory.size == 5000, memory.size
memory.buf[0:6] = b"theirs"
print("ready", flush=True)
sys.stdin.readline()
found = bytes(memory.buf[100:104])
memory.close()
sys.exit(0 if found == b"ours" else 1)
"#;

fn python(name: &Name, verb: &str) -> Option<Program> {
    if !exists("python3") {
        skipped("no python3");
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON, &name.0, verb]);
    Some(Program::start(command))
}

#[test]
fn what_python_made_is_opened() {
    let name = Name::new();
    if let Some(program) = python(&name, "create") {
        meet(&name, program);
        assert!(name.path().exists());
        Region::remove(name.address()).unwrap();
    }
}

#[test]
fn python_opens_what_was_made() {
    let name = Name::new();
    let _made = Region::create(name.address(), 5000).unwrap();
    if let Some(program) = python(&name, "open") {
        meet(&name, program);
    }
}

const C: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **words) {
    int create = count > 2 && !strcmp(words[2], "create");
    int file = shm_open(words[1], create ? O_RDWR | O_CREAT | O_EXCL : O_RDWR, 0600);
    if (file < 0 || (create && ftruncate(file, 5000))) return 2;
    char *bytes = mmap(0, 5000, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED) return 3;
    memcpy(bytes, "theirs", 6);
    puts("ready");
    fflush(stdout);
    getchar();
    return memcmp(bytes + 100, "ours", 4) ? 1 : 0;
}
"#;

fn c(folder: &Path, name: &Name, verb: &str) -> Option<Program> {
    if !exists("cc") {
        skipped("no cc");
        return None;
    }
    let (source, program) = (folder.join("peer.c"), folder.join("peer"));
    std::fs::write(&source, C).unwrap();
    // -lrt: where shm_open is not in the C library itself.
    let built = Command::new("cc").arg(source).arg("-o").arg(&program).arg("-lrt").status().unwrap();
    assert!(built.success());
    let mut command = Command::new(program);
    command.arg(format!("/{}", name.0)).arg(verb);
    Some(Program::start(command))
}

#[test]
fn what_c_made_is_opened() {
    let (name, folder) = (Name::new(), tempfile::tempdir().unwrap());
    if let Some(program) = c(folder.path(), &name, "create") {
        meet(&name, program);
    }
}

#[test]
fn c_opens_what_was_made() {
    let (name, folder) = (Name::new(), tempfile::tempdir().unwrap());
    let _made = Region::create(name.address(), 5000).unwrap();
    if let Some(program) = c(folder.path(), &name, "open") {
        meet(&name, program);
    }
}

const PART: &str = "NARROWS_REGION_PART";

/// This test again, as another process; the part tells it what to play.
fn again(test: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, part).stdout(Stdio::null());
    command
}

#[test]
fn two_processes_count_on_one_word() {
    const TIMES: u64 = 200_000;
    let count = |address: &str| {
        let region = Region::open(address).unwrap();
        (0..TIMES).for_each(|_| {
            region.atomic_u64(8).unwrap().fetch_add(1, Ordering::Relaxed);
        });
    };
    if let Ok(address) = std::env::var(PART) {
        return count(&address);
    }
    let name = Name::new();
    let region = Region::create(name.address(), 64).unwrap();
    let mut other = again("two_processes_count_on_one_word", &name.address()).spawn().unwrap();
    count(&name.address());
    assert!(other.wait().unwrap().success());
    assert_eq!(region.atomic_u64(8).unwrap().load(Ordering::Relaxed), 2 * TIMES);
}

#[test]
fn a_mapped_file_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal, 50% full");
    let address = Address::new(Scheme::File, &path).unwrap().with("mode", "0640").unwrap();
    let region = Region::open_or_create(&address, 10_000).unwrap();
    region.write_at(9_990, b"0123456789").unwrap();
    region.sync().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes.len(), &bytes[9_990..]), (10_000, &b"0123456789"[..]));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);

    std::fs::write(&path, b"short").unwrap();
    let mut bytes = [0; 5];
    open_file(&path).unwrap().read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"short");
    drop(region);
    Region::remove(&address).unwrap();
    assert!(!path.exists());
}

#[test]
fn the_length_changes_and_the_bytes_stay() {
    let name = Name::new();
    let mut region = Region::create(name.address(), 100).unwrap();
    region.write_at(90, &[7; 10]).unwrap();
    region.resize(1 << 20).unwrap();
    let mut bytes = [1; 20];
    region.read_at(90, &mut bytes).unwrap();
    assert_eq!(bytes, [[7; 10], [0; 10]].concat()[..]);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(name.path()).unwrap());
    assert_eq!(blocks * 512, 1 << 20, "really there");
    region.resize(95).unwrap();
    refused(region.read_at(90, &mut bytes), &["110 bytes", "at most 95", "20 bytes at offset 90"]);
    region.resize(0).unwrap();
    assert!(region.is_empty() && region.read_at(0, &mut []).is_ok());
    refused(region.read_at(0, &mut bytes), &["at most 0"]);
    region.resize(8).unwrap();
    assert_eq!(Region::open(name.address()).unwrap().len(), 8);

    let whole = rustix::fs::statfs("/dev/shm").unwrap();
    let too_much = whole.f_blocks * whole.f_bsize as u64 * 2;
    refused(region.resize(too_much), &["/dev/shm", "MiB free", "64 MiB", "--shm-size"]);
    assert_eq!((region.len(), Region::open(name.address()).unwrap().len()), (8, 8));
    let other = Name::new();
    refused(Region::create(other.address(), too_much), &["no room for 'shm:narrows-region-", "/dev/shm"]);
    refused(Region::create(other.address(), u64::MAX), &["no room for"]);
    assert!(!other.path().exists());
}

#[test]
fn ranges_are_checked() {
    let name = Name::new();
    let region = Region::create(name.address(), 4096).unwrap();
    region.write_at(4096, &[]).unwrap();
    region.write_at(4095, &[1]).unwrap();
    refused(region.write_at(4096, &[1]), &["shm:narrows-region-", "1 bytes at offset 4096"]);
    refused(region.write_at(u64::MAX, &[1, 2]), &["2 bytes at offset"]);
    refused(region.read_at(4097, &mut []), &["at most 4096"]);
    assert!(region.atomic_u32(4092).is_ok() && region.atomic_u64(4088).is_ok());
    refused(region.atomic_u32(4096), &["at most 4096"]);
    refused(region.atomic_u64(4092), &["multiple of 8"]);
    refused(region.atomic_u32(2), &["multiple of 4"]);
}

#[test]
fn a_region_for_reading_is_not_written() {
    let name = Name::new();
    let region = Region::create(name.address(), 4096).unwrap();
    region.write_at(0, b"x").unwrap();
    let mut looking = Region::open_read_only(name.address()).unwrap();
    let mut byte = [0];
    looking.read_at(0, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    refused(looking.write_at(0, b"y"), &["no permission", "opened for reading alone"]);
    refused(looking.atomic_u32(0), &["opened for reading alone"]);
    refused(looking.resize(1), &["opened for reading alone"]);
}

#[test]
fn create_means_what_it_says() {
    let name = Name::new();
    let with = |options: &str| format!("{}{options}", name.address());
    refused(Region::open(with("")), &["does not exist: create it first"]);
    refused(Region::open_or_create(with(",create=never"), 8), &["does not exist"]);
    refused(Region::remove(with("")), &["does not exist"]);
    let made = Region::open_or_create(with(",create=only,mode=0604"), 8).unwrap();
    refused(Region::open_or_create(with(",create=only"), 8), &["busy", "the name is taken"]);
    refused(Region::create(with(""), 8), &["the name is taken: open what exists, or remove it"]);
    assert_eq!(Region::open_or_create(with(",create=open"), 8).unwrap().len(), made.len());
    assert_eq!(Region::open_or_create(with(",create=never"), 8).unwrap().len(), made.len());
    refused(Region::open_or_create(with(""), 9), &["exists with length=8, not length=9"]);
    assert!(Region::open(with(",mode=604")).is_ok());
    refused(Region::open(with(",mode=600")), &["exists with mode=0604, not mode=0600"]);
    refused(Region::open(with(",create=only")), &["contradicts"]);
    refused(Region::create(with(",mode=8"), 8), &["mode=8 is no mode", "mode=0660"]);
    refused(Region::open(with(",capacity=8")), &["has no option 'capacity'", "mode, create"]);
}

#[test]
fn what_cannot_be_a_region_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let address = |path: &Path| Address::new(Scheme::File, path).unwrap();
    refused(open_file(folder.path()), &["is a directory, not a regular file"]);
    refused(open_file(Path::new("/dev/zero")), &["a character device"]);
    refused(Region::remove(address(folder.path())), &["a directory"]);
    refused(Region::create(address(&folder.path().join("no/x")), 1), &["/no' does not exist", "mkdir -p"]);
    refused(Region::create(address(Path::new("/proc/x")), 1), &["'file:/proc/x'"]);
    refused(Region::open("fifo:/tmp/x"), &["does not support memory", "shm: file: memfd: fd:"]);
    refused(Region::open("memfd:x"), &["pass its descriptor"]);
    refused(Region::remove("memfd:x"), &["does not support removal"]);
    refused(Region::open("fd:60000"), &["'fd:60000' does not exist", "nothing is open"]);
    refused(Region::create("fd:0", 1), &["does not support creation"]);
    let pipe = std::io::pipe().unwrap().0;
    refused(Region::from_descriptor(pipe.into()), &["a named pipe"]);
}

#[test]
fn anonymous_memory_is_passed_on_and_cannot_shrink() {
    let mut made = Region::create("memfd:passed", 4096).unwrap();
    made.write_at(0, b"hello").unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    pass_descriptor(&here, made.as_fd()).unwrap();
    let mut taken = Region::from_descriptor(take_descriptor(&there).unwrap()).unwrap();
    let mut bytes = [0; 5];
    taken.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    taken.resize(8192).unwrap();
    refused(made.resize(100), &["sealed"]);
    assert_eq!(made.len(), 4096, "as it was");
    let inherited = Region::open(format!("fd:{}", taken.as_fd().as_raw_fd())).unwrap();
    assert_eq!(inherited.len(), 8192);
    drop(there);
    assert_eq!(pass_descriptor(&here, made.as_fd()).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    let (here, there) = UnixStream::pair().unwrap();
    (&here).write_all(b"x").unwrap();
    assert_eq!(take_descriptor(&there).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    drop(here);
    assert_eq!(take_descriptor(&there).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_owner_and_mode_are_named_to_who_may_not() {
    const TEST: &str = "the_owner_and_mode_are_named_to_who_may_not";
    if let Ok(address) = std::env::var(PART) {
        refused(Region::open(&address), &["no permission", &address, "uid 0, gid 0, mode 0604", "mode=0660"]);
        assert!(Region::open_read_only(&address).is_ok());
        refused(Region::remove(&address), &["no permission", "of the directory: uid 0"]);
        refused(Region::create("file:/narrows-region", 1), &["no permission", "choose another"]);
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let name = Name::new();
    let _made = Region::create(format!("{},mode=604", name.address()), 4096).unwrap();
    match again(TEST, &name.address()).uid(65534).gid(65534).status() {
        Ok(status) => assert!(status.success()),
        Err(error) => skipped(&format!("another user cannot run this executable: {error}")),
    }
}

#[test]
fn exhausted_supplies_are_named() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = |resource, current| {
        setrlimit(resource, Rlimit { current: Some(current), ..getrlimit(resource) }).unwrap();
    };
    let Ok(part) = std::env::var(PART) else {
        let (name, folder) = (Name::new(), tempfile::tempdir().unwrap());
        let sparse = folder.path().join("sparse");
        std::fs::File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
        let part = format!("{} {}", name.address(), sparse.display());
        assert!(again("exhausted_supplies_are_named", &part).status().unwrap().success());
        assert!(!name.path().exists());
        return;
    };
    let (address, sparse) = part.split_once(' ').unwrap();
    limit(Resource::Fsize, 4096);
    refused(
        Region::create(address, 8192),
        &["file size that this process may make (4096 bytes, 8192 needed)"],
    );
    limit(Resource::As, 1 << 38);
    refused(open_file(Path::new(sparse)), &["address space", "ulimit -v"]);
    limit(Resource::Nofile, 0);
    refused(Region::create(address, 4096), &["no room for", "descriptors of this process", "ulimit -n"]);
    refused(open_file(Path::new(sparse)), &["descriptors of this process"]);
}
