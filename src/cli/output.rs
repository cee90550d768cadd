//! Everything that commands print on the standard output: lines, JSON, tables. Errors go to the standard error, by
//! the caller. A terminal gets the same text as a pipe.

use std::io::{self, Write};

use serde::Serialize;

use super::failure::{Failure, Outcome};

/// Prints one line.
pub(crate) fn line(text: impl AsRef<str>) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// Prints bytes as they are, and a line end if they have none.
pub(crate) fn bytes(payload: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    let end: &[u8] = if payload.ends_with(b"\n") { b"" } else { b"\n" };
    out.write_all(payload)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// Prints a record as one line of JSON.
pub(crate) fn record(value: &impl Serialize) -> Outcome {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(error) => Err(Failure::new(format!("the answer does not fit JSON: {error}"))),
    }
}

/// Says something on the standard error: progress and remarks that are no part of the result.
pub(crate) fn remark(text: impl AsRef<str>) {
    // Nobody is left to hear that the standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// A number of things: `1 message`, `2 messages`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A table with a head, columns as wide as their widest cell, two spaces between them.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row; an empty cell prints as `-`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(
            cells.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }).collect(),
        );
    }

    /// Prints the table.
    pub(crate) fn print(&self) -> Outcome {
        line(self.to_string())
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            write!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Names and values, the values in one column.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> Outcome {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let lines: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{:<width$} {value}", format!("{name}:")))
        .collect();
    line(lines.join("\n"))
}

/// A moment (nanoseconds since 1970) as RFC 3339 with milliseconds, in UTC.
pub(crate) fn moment(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| nanos.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["DEVICE", "BUFFER"]);
        table.row(["a-long-name".to_owned(), "5m".to_owned()]);
        table.row(["ä".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "DEVICE       BUFFER\na-long-name  5m\nä            -");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|number| count(number, "gap")), ["0 gaps", "1 gap", "2 gaps"]);
    }

    #[test]
    fn moments_have_milliseconds_and_a_zone() {
        assert_eq!(moment(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123Z");
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
    }
}
