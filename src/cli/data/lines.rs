//! A file as lines, one at a time, each within a limit, so that a file without line ends fills no memory.

use std::io::{self, BufRead};

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The line is longer than allowed; how long it is, nobody has looked.
    #[error("line {line} is longer than {limit} bytes")]
    TooLong {
        /// The line, from 1.
        line: u64,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The lines of a file that are not blank, numbered from 1 as an editor does.
pub(crate) struct Lines<R> {
    source: R,
    line: u64,
    limit: usize,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes, the line end not counted.
    pub(crate) fn new(source: R, limit: usize) -> Self {
        Self { source, line: 0, limit }
    }

    /// The next line with its number; space around it is taken off. None at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, LineError> {
        loop {
            let mut line = Vec::new();
            if !self.read(&mut line)? {
                return Ok(None);
            }
            let trimmed = line.trim_ascii();
            if !trimmed.is_empty() {
                return Ok(Some((self.line, trimmed.to_vec())));
            }
        }
    }

    fn read(&mut self, line: &mut Vec<u8>) -> Result<bool, LineError> {
        self.line += 1;
        loop {
            let available = match self.source.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if available.is_empty() {
                return Ok(!line.is_empty());
            }
            let end = memchr::memchr(b'\n', available);
            let part = available.get(..end.unwrap_or(available.len())).unwrap_or(available);
            line.extend_from_slice(part);
            // A carriage return before the line end is no part of the line.
            if line.strip_suffix(b"\r").unwrap_or(line).len() > self.limit {
                return Err(LineError::TooLong { line: self.line, limit: self.limit });
            }
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, limit: usize, buffer: usize) -> Result<Vec<(u64, String)>, String> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer, text.as_bytes()), limit);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().map_err(|error| error.to_string())? {
            found.push((number, String::from_utf8(line).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn blank_lines_count_and_are_left_out() {
        for buffer in [1, 3, 100] {
            let expected = [(1, "a".to_owned()), (4, "b c".to_owned()), (5, "d".to_owned())];
            assert_eq!(all("a\n\n  \r\n b c \r\nd", 10, buffer).unwrap(), expected);
        }
        assert!(all("", 10, 8).unwrap().is_empty());
        assert!(all("\n\n", 10, 8).unwrap().is_empty());
    }

    #[test]
    fn the_limit_holds_without_a_line_end() {
        for buffer in [1, 4, 100] {
            assert_eq!(all("1234\n12345\r\n", 5, buffer).unwrap().len(), 2);
            assert_eq!(all("1234\n123456", 5, buffer), Err("line 2 is longer than 5 bytes".to_owned()));
        }
    }
}
