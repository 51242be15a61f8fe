//! The rules of CONTRIBUTING.md that a program can check, and for each a snippet that breaks it.
//!
//! Files are read as tokens, so that neither comments nor strings count as code; comments are looked up by line.

mod broken;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use tokens::{
    flat, functions, ident, idents, in_parentheses, is_punct, last_argument, paths, walk, without_tests,
};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Who may import whom: a module sees its own layer and those before it.
const LAYERS: [(&str, usize); 10] = [
    ("error", 0),
    ("capabilities", 0),
    ("address", 0),
    ("deadline", 0),
    ("atomic", 0),
    ("sys", 1),
    ("segment", 2),
    ("shared", 3),
    ("message", 4),
    ("channel", 5),
];

/// Transports, which do not see each other.
const TRANSPORTS: [&str; 3] = ["shm", "unix", "fifo"];

/// Where unsafe code may stand.
const UNSAFE: [&str; 3] = ["src/sys/", "src/segment/", "src/shared/"];

/// Functions outside that hand their caller's promise down, and hold no promise of their own.
const UNSAFE_PASSED_ON: [(&str, &str); 4] = [
    ("src/channel/guards.rs", "as_slice"),
    ("src/channel/guards.rs", "as_mut_slice"),
    ("src/channel/shm.rs", "as_slice"),
    ("src/channel/shm.rs", "as_mut_slice"),
];

/// Where a slice may be made of shared memory: copies, and the in-place views whose caller vouches.
const SLICES: [&str; 2] = ["src/segment/", "src/shared/"];

/// Where the processor's own atomics may be named: the model checker cannot follow a word into a system call, nor
/// into a mapped file. What the harness of the models counts is no part of them.
const ATOMICS: [&str; 4] = ["src/atomic.rs", "src/sys/", "src/segment/", MODELS];
/// What the model checker runs: tests, though they stand in `src/`.
const MODELS: &str = "src/shared/models/";

/// Words of somebody's desk, and promises to do it later. Split, so that this file is clean.
const WORDS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];

#[test]
fn the_tree_is_tidy() {
    let files: Vec<Source> = sources().iter().map(|path| Source::read(path)).collect();
    let aliases = aliases(&files);
    let mut faults: Vec<String> = files.iter().flat_map(|file| faults(file, &aliases)).collect();
    faults.extend(unpaired_facts(&files));
    faults.extend(texts().iter().flat_map(|path| words(path, &fs::read_to_string(path).unwrap_or_default())));
    assert!(files.len() > 10, "the tree was not found");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// One file: its text, and its tokens without unit tests.
struct Source {
    path: String,
    lines: Vec<String>,
    tokens: Vec<TokenTree>,
}

impl Source {
    fn read(path: &str) -> Self {
        Self::new(path, &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
    }

    fn new(path: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tokens: without_tests(tokens),
        }
    }

    fn is_library(&self) -> bool {
        self.path.starts_with("src/")
    }

    fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn faults(file: &Source, aliases: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = sizes(file);
    found.extend(imports(file, aliases));
    found.extend(unsafe_code(file));
    found.extend(banned(file));
    found.extend(orderings(file).into_iter().filter_map(|(line, fault, _)| Some(file.fault(line, fault?))));
    found
}

fn sizes(file: &Source) -> Vec<String> {
    let mut code = BTreeSet::new();
    walk(&file.tokens, &mut |tokens, at| {
        let span = tokens[at].span();
        match &tokens[at] {
            TokenTree::Group(group) => {
                code.extend([group.span_open().start().line, group.span_close().end().line]);
            }
            _ => code.extend(span.start().line..=span.end().line),
        }
    });
    // A doc comment is an attribute to the tokenizer.
    code.retain(|line| file.lines.get(line - 1).is_some_and(|text| !text.trim_start().starts_with("//")));
    let mut found = Vec::new();
    if code.len() >= FILE_LINES_MAX {
        found.push(file.fault(1, &format!("{} lines of code, {FILE_LINES_MAX} are too many", code.len())));
    }
    for (name, body) in functions(&file.tokens) {
        let first = body.span_open().start().line;
        let lines = code.range(first..=body.span_close().end().line).count();
        if lines > FUNCTION_LINES_MAX {
            found.push(
                file.fault(first, &format!("{name} has {lines} lines, {FUNCTION_LINES_MAX} are too many")),
            );
        }
    }
    found
}

/// Imports run one way: by `use` or by a path in the code, from the crate's root or by `super`.
fn imports(file: &Source, aliases: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    let Some(own) = module_of(&file.path) else { return found };
    let Some(own_layer) = own.first().and_then(|name| layer(name)) else {
        if own.first().is_some_and(|name| name != "lib") {
            found.push(file.fault(1, "this module stands in no layer"));
        }
        return found;
    };
    for (line, path) in paths(&file.tokens, &own) {
        let Some(first) = path.first() else { continue };
        let module = aliases.get(first).unwrap_or(first);
        let Some(seen) = layer(module) else { continue };
        if seen > own_layer {
            found.push(file.fault(line, &format!("{} imports {module}, which stands above it", own[0])));
        }
        let siblings = (own.get(1), path.get(1));
        if let ("channel", "channel", (Some(own), Some(sibling))) =
            (own[0].as_str(), module.as_str(), siblings)
        {
            let is_transport = |name: &String| TRANSPORTS.contains(&name.as_str());
            if own != sibling && is_transport(sibling) && (is_transport(own) || own == "wire") {
                found.push(file.fault(line, &format!("{own} sees its sibling {sibling}")));
            }
        }
    }
    found
}

fn unsafe_code(file: &Source) -> Vec<String> {
    let in_scope = file.is_library() || file.path.starts_with("cli/") || file.path.starts_with("xtask/");
    if !in_scope || UNSAFE.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let mut passed_on = BTreeSet::new();
    for (name, body) in functions(&file.tokens) {
        if UNSAFE_PASSED_ON.contains(&(file.path.as_str(), name.as_str())) {
            passed_on.extend(body.span_open().start().line.saturating_sub(1)..=body.span_close().end().line);
        }
    }
    idents(&file.tokens, |word| word == "unsafe")
        .into_iter()
        .filter(|(line, _)| !passed_on.contains(line))
        .map(|(line, _)| file.fault(line, "unsafe code stands in sys, segment and shared only"))
        .collect()
}

fn banned(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    walk(&file.tokens, &mut |tokens, at| {
        let Some(word) = ident(&tokens[at]) else { return };
        let line = tokens[at].span().start().line;
        let is_macro = tokens.get(at + 1).is_some_and(|next| is_punct(next, '!'));
        let call = tokens.get(at + 1).and_then(in_parentheses);
        let last = call.map(last_argument).unwrap_or_default();
        let mut fault = |what: &str| found.push(file.fault(line, what));
        match word.as_str() {
            "todo" | "unimplemented" | "dbg" if is_macro => fault("unfinished code"),
            "println" | "print" | "eprintln" | "eprint"
                if is_macro && file.is_library() && !file.path.starts_with(MODELS) =>
            {
                fault("the library does not print");
            }
            "wake" | "futex_wake" | "FUTEX_WAKE"
                if last == "1" && !file.path.starts_with("bench/src/floor/") =>
            {
                fault("wakes one of several sleepers: a killed one swallows it");
            }
            "PRIVATE" if at > 2 && ident(&tokens[at - 3]).is_none_or(|of| of != "MapFlags") => {
                fault("a private futex does not work between processes");
            }
            "FUTEX_PRIVATE_FLAG" | "FUTEX_WAKE_PRIVATE" | "FUTEX_WAIT_PRIVATE" => {
                fault("a private futex does not work between processes");
            }
            "kill" if last == "0" => fault("a PID is no proof of life: ask the lock"),
            "test_kill_process" | "test_kill_process_group" => {
                fault("a PID is no proof of life: ask the lock")
            }
            "from_raw_parts" | "from_raw_parts_mut"
                if file.is_library() && !SLICES.iter().any(|folder| file.path.starts_with(folder)) =>
            {
                fault("a slice of memory that others may write");
            }
            _ => {}
        }
    });
    if file.is_library() && !ATOMICS.iter().any(|place| file.path.starts_with(place)) {
        let is_atomic = |path: &[String]| path.get(1..3).is_some_and(|path| path == ["sync", "atomic"]);
        for (line, _) in paths(&file.tokens, &["lib".to_owned()]).iter().filter(|(_, path)| is_atomic(path)) {
            found.push(file.fault(*line, "atomics come from atomic.rs, which the model checker replaces"));
        }
    }
    found
}

/// Each ordering with its line, its fault if it has one, and the comment's text.
fn orderings(file: &Source) -> Vec<(usize, Option<&'static str>, String)> {
    if !file.path.starts_with("src/shared/") {
        return Vec::new();
    }
    let is_ordering = |word: &str| matches!(word, "Acquire" | "Release" | "AcqRel" | "SeqCst");
    idents(&file.tokens, is_ordering)
        .into_iter()
        .filter(|(line, _)| !file.lines[line - 1].trim_start().starts_with("use "))
        .map(|(line, word)| {
            let comment = comment_at(file, line);
            let has = |key: &str| !names(&comment, key).is_empty();
            let fault = match word.as_str() {
                "Acquire" if !has("takes") => Some("an Acquire says what it takes: `// takes: NAME`"),
                "Release" if !has("gives") => Some("a Release says what it gives: `// gives: NAME`"),
                "AcqRel" if !(has("takes") && has("gives")) => {
                    Some("an AcqRel says both: `// takes: NAME; gives: NAME`")
                }
                "SeqCst" if !comment.contains("orders:") => {
                    Some("a SeqCst says what it orders: `// orders: A before B`")
                }
                _ => None,
            };
            (line, fault, comment)
        })
        .collect()
}

/// A fact that is given and never taken orders nothing, and the other way round.
fn unpaired_facts(files: &[Source]) -> Vec<String> {
    let comments: Vec<String> = files.iter().flat_map(orderings).map(|(_, _, comment)| comment).collect();
    let all = |key| comments.iter().flat_map(|comment| names(comment, key)).collect::<BTreeSet<_>>();
    let (given, taken) = (all("gives"), all("takes"));
    given
        .symmetric_difference(&taken)
        .map(|name| {
            format!(
                "src/shared: the fact '{name}' is {} only",
                if given.contains(name) { "given" } else { "taken" }
            )
        })
        .collect()
}

fn words(path: &str, text: &str) -> Vec<String> {
    let has = |line: &str| WORDS.iter().find(|word| line.contains(*word)).copied();
    text.lines()
        .enumerate()
        .filter_map(|(at, line)| Some(format!("{path}:{}: the word '{}'", at + 1, has(line)?)))
        .collect()
}

/// The comment of a line: on it, or the comment lines right above its statement.
fn comment_at(file: &Source, line: usize) -> String {
    let mut comment =
        file.lines[line - 1].split_once("//").map(|(_, text)| text.to_owned()).unwrap_or_default();
    for above in file.lines[..line - 1].iter().rev().take(8).map(|text| text.trim()) {
        if let Some(text) = above.strip_prefix("//") {
            comment = format!("{text} {comment}");
        } else if names_any(&comment) || above.is_empty() || above.ends_with([';', '{', '}']) {
            break;
        }
    }
    comment
}

fn names_any(comment: &str) -> bool {
    ["takes:", "gives:", "orders:"].iter().any(|key| comment.contains(key))
}

/// The names after each `key:`, separated by commas, up to a semicolon, a full stop or a parenthesis.
fn names(comment: &str, key: &str) -> Vec<String> {
    let key = format!("{key}:");
    let lists = comment.split(&key).skip(1).map(|tail| tail.split([';', '.', '(']).next());
    let names = lists.flat_map(|list| list.unwrap_or_default().split(','));
    names.filter_map(|name| name.split_whitespace().next()).map(str::to_owned).collect()
}

/// `src/a/b.rs` is `[a, b]`, `src/a/mod.rs` is `[a]`.
fn module_of(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    Some(parts)
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// What `lib.rs` re-exports: name → module.
fn aliases(files: &[Source]) -> BTreeMap<String, String> {
    let lib = files.iter().find(|file| file.path == "src/lib.rs");
    let mut found = BTreeMap::new();
    for item in lib.iter().flat_map(|lib| lib.tokens.split(|token| is_punct(token, ';'))) {
        let words: Vec<String> = flat(item);
        if let Some(at) = words.iter().position(|word| word == "use") {
            for name in words.iter().skip(at + 2) {
                found.insert(name.clone(), words[at + 1].clone());
            }
        }
    }
    found
}

/// Every Rust file of the repository, relative to its root.
fn sources() -> Vec<String> {
    texts().into_iter().filter(|path| path.ends_with(".rs")).collect()
}

/// Every file that people read.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if [".rs", ".md", ".toml", ".c", ".py", ".sh"].iter().any(|end| name.ends_with(end)) {
                found.push(relative(&path, root));
            }
        }
    }
    found
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).map(PathBuf::from).unwrap_or_default().to_string_lossy().into_owned()
}
