//! Planted bugs in the copy, and whether those who must find them do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::edits::Edit;
use crate::gates::{Gate, build_all};
use crate::hunt;
use crate::planted::{Change, PLANTED, Planted};
use crate::tree::Tree;
use crate::trial::{self, End, Switch};

/// A test without a bug.
const CONTROL_MAX: Duration = Duration::from_secs(120);
/// What a race decides is tried so often.
const TRIES: usize = 3;

/// Plants all bugs whose name contains `only`, and gives those that were not found.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<Vec<&'static str>> {
    let edits = edits(root)?;
    let chosen: Vec<(u32, &Planted)> =
        (1..).zip(PLANTED).filter(|(_, bug)| only.is_none_or(|only| bug.name.contains(only))).collect();
    let names: BTreeSet<&str> = chosen.iter().map(|(_, bug)| bug.gate).collect();
    let gates: Vec<&'static Gate> = names.into_iter().map(Gate::find).collect::<Result<_>>()?;
    let target = root.join("target");
    let ready = build_all(&gates, &target, |refusals| {
        ensure!(refusals.is_empty(), "{}", refusals.iter().map(|refusal| &*refusal.text).collect::<String>());
        Ok(Tree::grow(root, &target.join("mutants/planted"), &edits)?.folder)
    })?;
    let mut unfound = Vec::new();
    let mut bounds = BTreeMap::new();
    for (id, bug) in chosen {
        let Some(gate) = ready.iter().find(|ready| ready.gate.name == bug.gate) else { continue };
        let test = gate.find(bug.test)?;
        if !bounds.contains_key(test) {
            let (end, elapsed) = trial::run(&gate.trial(test), Switch::Mutant(0), CONTROL_MAX)?;
            ensure!(end == End::Passed, "{test} without a bug: {end:?}");
            bounds.insert(test, hunt::bound(elapsed));
        }
        let start = Instant::now();
        let mut end = End::Passed;
        for _ in 0..if gate.gate.is_model { 1 } else { TRIES } {
            end = trial::run(&gate.trial(test), Switch::Mutant(id), bounds[test])?.0;
            if end != End::Passed {
                break;
            }
        }
        let word = match end {
            End::Passed => "NOT FOUND",
            End::Failed => "found",
            End::Hung => "found (hangs)",
        };
        println!("{}: {word} by {test}, {:.1} s", bug.name, start.elapsed().as_secs_f64());
        if end == End::Passed {
            unfound.push(bug.name);
        }
    }
    Ok(unfound)
}

/// What plants all bugs.
fn edits(root: &Path) -> Result<BTreeMap<String, Vec<Edit>>> {
    let mut edits: BTreeMap<String, Vec<Edit>> = BTreeMap::new();
    for (index, bug) in PLANTED.iter().enumerate() {
        for change in bug.changes {
            let text = fs::read_to_string(root.join(change.file)).context(change.file)?;
            let edit = edit(index as u32 + 1, change, &text).with_context(|| format!("\"{}\"", bug.name))?;
            edits.entry(change.file.to_owned()).or_default().push(edit);
        }
    }
    Ok(edits)
}

/// Both versions of a place, behind the switch.
fn edit(bug: u32, change: &Change, text: &str) -> Result<Edit> {
    let tokens = flat(text)?;
    let old: Vec<String> = flat(change.old)?.into_iter().map(|token| token.0).collect();
    let mut found = Vec::new();
    let mut function = String::new();
    for (at, (token, _)) in tokens.iter().enumerate() {
        if token == "fn" {
            function = tokens.get(at + 1).map(|next| next.0.clone()).unwrap_or_default();
        }
        let here = tokens.get(at..at + old.len()).unwrap_or_default();
        if function == change.within && here.iter().map(|token| &token.0).eq(&old) {
            found.push(here[0].1.start..here[old.len() - 1].1.end);
        }
    }
    let [place] = &found[..] else {
        bail!("{} places of {} in {} read `{}`", found.len(), change.within, change.file, change.old);
    };
    let is_expression = !change.old.ends_with([';', '}']);
    let (open, close) = if is_expression { ("(", ")") } else { ("", "") };
    let before = format!("{open}if crate::mutant::on({bug}) {{ {} }} else {{ ", change.new);
    Ok(Edit::around(bug, place.clone(), before, format!(" }}{close}")))
}

/// A text's tokens, each with its place.
fn flat(text: &str) -> Result<Vec<(String, Range<usize>)>> {
    fn walk(stream: TokenStream, found: &mut Vec<(String, Range<usize>)>) {
        for tree in stream {
            let TokenTree::Group(group) = tree else {
                found.push((tree.to_string(), tree.span().byte_range()));
                continue;
            };
            let (open, close) = match group.delimiter() {
                Delimiter::Parenthesis => ("(", ")"),
                Delimiter::Brace => ("{", "}"),
                Delimiter::Bracket => ("[", "]"),
                Delimiter::None => ("", ""),
            };
            found.push((open.to_owned(), group.span_open().byte_range()));
            walk(group.stream(), found);
            found.push((close.to_owned(), group.span_close().byte_range()));
        }
    }
    let stream = text.parse().map_err(|error| anyhow::anyhow!("{error}: {text}"))?;
    let mut found = Vec::new();
    walk(stream, &mut found);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edits::Mutated;

    #[test]
    fn every_bug_has_its_place() {
        let planted = edits(&crate::root()).unwrap();
        let changes: usize = PLANTED.iter().map(|bug| bug.changes.len()).sum();
        assert_eq!(planted.values().map(Vec::len).sum::<usize>(), changes);
    }

    #[test]
    fn a_place_is_found_by_its_tokens_and_only_once() {
        let text = "fn a() { x(1); } // x\nfn b() { x(\n 1); y(2) }";
        let change = |within, old| Change { file: "", within, old, new: "z()" };
        let edits = [edit(7, &change("b", "x(1);"), text).unwrap()];
        let planted =
            "fn a() { x(1); } // x\nfn b() { if crate::mutant::on(7) { z() } else { x(\n 1); } y(2) }";
        assert_eq!(Mutated::of(text, &edits).text, planted);
        assert!(edit(7, &change("b", "x(2)"), text).is_err());
        assert!(edit(7, &change("c", "x(1)"), text).is_err());
    }
}
