//! Rows of words in aligned columns, and numbers as people read them.

use std::time::Duration;

use anstyle::Style;

/// Which side of its column a cell stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table: a head, then rows of as many cells.
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    pub(crate) fn new(head: &[(&str, Side)]) -> Self {
        let cells = head.iter().map(|(word, _)| ((*word).to_owned(), Style::new().bold())).collect();
        Self { sides: head.iter().map(|(_, side)| *side).collect(), rows: vec![cells] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text, two spaces between the columns, none at the ends of lines.
    pub(crate) fn print(&self, coloured: bool) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].0.chars().count()).max();
        let widths: Vec<usize> = (0..self.sides.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let start = text.len();
            for (column, (cell, style)) in row.iter().enumerate() {
                let space = " ".repeat(widths[column] - cell.chars().count());
                let gap = if column == 0 { "" } else { "  " };
                let style = if coloured { *style } else { Style::new() };
                text += &match self.sides[column] {
                    Side::Left => format!("{gap}{style}{cell}{style:#}{space}"),
                    Side::Right => format!("{gap}{space}{style}{cell}{style:#}"),
                };
            }
            text.truncate(start + text[start..].trim_end().len());
            text.push('\n');
        }
        text
    }
}

/// Whether standard output wants colours: a terminal, and nothing like NO_COLOR speaks against it.
pub(crate) fn coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// A count of bytes in at most four digits: `96`, `128K`, `1.5G`.
pub(crate) fn bytes(count: u64) -> String {
    let Some(unit) = (1..=4).rev().find(|unit| count >> (10 * unit) > 0) else { return count.to_string() };
    let (whole, letter) = (count >> (10 * unit), [' ', 'K', 'M', 'G', 'T'][unit]);
    let tenth = (count >> (10 * (unit - 1)) & 1023) * 10 / 1024;
    if whole < 10 && tenth > 0 { format!("{whole}.{tenth}{letter}") } else { format!("{whole}{letter}") }
}

/// An age in its largest unit: `5s`, `3m`, `2h`, `9d`.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_words() {
        let mut table = Table::new(&[("NAME", Side::Left), ("N", Side::Right), ("STATE", Side::Left)]);
        table.row([("a", Style::new()), ("100", Style::new()), ("x", Style::new().bold())].map(own));
        table.row([("longer", Style::new()), ("1", Style::new()), ("", Style::new())].map(own));
        assert_eq!(table.print(false), "NAME      N  STATE\na       100  x\nlonger    1\n");
        assert!(table.print(true).contains("\u{1b}[1mx\u{1b}[0m"));
    }

    fn own((word, style): (&str, Style)) -> (String, Style) {
        (word.to_owned(), style)
    }

    #[test]
    fn numbers_are_short() {
        for (count, text) in
            [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (128 << 10, "128K"), (1 << 40, "1T")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(
            [0, 59, 60, 7200, 172_800].map(|s| age(Duration::from_secs(s))),
            ["0s", "59s", "1m", "2h", "2d"]
        );
    }
}
