//! `docs/reliability.md`: the records as one table, fault by fault.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::gates::GATES;
use crate::record::{Record, Rival, Row};

const HEAD: &str = "\
# Reliability

What was broken on purpose, what is promised, and what happened: here, and where the same was done to others.
This page is made by the runs that it tells of (`cargo xtask prove --record`); each section names the command that
repeats it. A figure that begins with **no** is a promise that did not hold.
";

/// Writes the page anew.
pub(crate) fn draw(root: &Path) -> Result<()> {
    let path = root.join("docs/reliability.md");
    std::fs::write(&path, page(&root.join("docs/reliability"))?).with_context(|| path.display().to_string())
}

fn page(folder: &Path) -> Result<String> {
    let mut records = Record::load_all(folder)?;
    let rivals = Rival::load_all(&folder.join("rivals"))?;
    rivals.iter().for_each(|rival| rival.join(&mut records));
    let mut page = HEAD.to_owned();
    for gate in GATES {
        if let Some(record) = records.get(gate.name) {
            page += &section(gate.about, record);
        }
    }
    for rival in &rivals {
        page += &format!("\n{}: `{}`, on {}.\n", rival.name, rival.command, rival.machine);
    }
    Ok(page)
}

fn section(about: &str, record: &Record) -> String {
    let others: BTreeSet<&String> = record.rows.iter().flat_map(|row| row.others.keys()).collect();
    let mut section = format!("\n## {}\n\n{about}\n\n", record.gate);
    let names: String = others.iter().map(|name| format!(" {name} |")).collect();
    section +=
        &format!("| fault | promise | narrows |{names}\n|---|---|---|{}\n", "---|".repeat(others.len()));
    for row in &record.rows {
        section += &line(row, &others);
    }
    section + &format!("\n`{}`: {} s on {}.\n", record.command, record.seconds, record.machine)
}

fn line(row: &Row, others: &BTreeSet<&String>) -> String {
    let cell = |outcome: Option<&crate::record::Outcome>| match outcome {
        Some(outcome) if outcome.held => outcome.figure.clone(),
        Some(outcome) => format!("**no**: {}", outcome.figure),
        None => "–".to_owned(),
    };
    let others: String = others.iter().map(|name| format!(" {} |", cell(row.others.get(*name)))).collect();
    format!("| {} | {} | {} |{others}\n", row.fault, row.promise, cell(Some(&row.ours)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_one_that_its_records_make() {
        let kept = std::fs::read_to_string(crate::root().join("docs/reliability.md")).unwrap();
        assert_eq!(
            kept,
            page(&crate::folder()).unwrap(),
            "run `cargo xtask prove --record` or take the edit back"
        );
    }

    #[test]
    fn what_came_of_rivals_stands_beside_ours() {
        let records = Record::load_all(&crate::folder()).unwrap();
        for rival in Rival::load_all(&crate::folder().join("rivals")).unwrap() {
            for (gate, faults) in &rival.outcomes {
                let Some(record) = records.get(gate) else { continue };
                for fault in faults.keys() {
                    let has = record.rows.iter().any(|row| row.fault == *fault);
                    assert!(has, "{}: the gate {gate} has no row '{fault}'", rival.name);
                }
            }
        }
    }
}
