//! Where control lines and payloads end, the same in both directions.
//!
//! Remembers how far an unfinished line has been searched, or how long an operation will be once its line is known. Refuses as soon
//! as it can be known: bytes that begin no verb, a line beyond its limit, a payload without CR LF behind it.

use memchr::memchr;

use super::arguments::trim_start;
use super::unknown;
use crate::error::ProtocolError;

/// Finds the ends of control lines and payloads.
#[derive(Debug, Clone)]
pub(super) struct Framing {
    state: State,
    max_control_line: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The line end is not among the first `scanned` bytes.
    Line { scanned: usize },
    /// The whole operation has `frame` bytes; its line has been found good.
    Payload { frame: usize },
}

/// A control line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// Without the line end.
    pub(super) text: &'a [u8],
    /// Where the next thing begins.
    pub(super) end: usize,
}

/// A payload behind its control line, headers included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) payload: &'a [u8],
    pub(super) end: usize,
}

impl Framing {
    pub(super) fn new(max_control_line: usize) -> Framing {
        Framing { state: State::Line { scanned: 0 }, max_control_line }
    }

    pub(super) fn needed(&self) -> Option<usize> {
        match self.state {
            State::Line { .. } => None,
            State::Payload { frame } => Some(frame),
        }
    }

    pub(super) fn done(&mut self) {
        self.state = State::Line { scanned: 0 };
    }

    /// The control line at the start of `bytes`, when it is worth reading: whole, and its payload not known to be unfinished.
    #[inline]
    pub(super) fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        verbs: &[Verb],
    ) -> Result<Option<Line<'a>>, ProtocolError> {
        let scanned = match self.state {
            State::Line { scanned } => scanned,
            State::Payload { frame } if bytes.len() < frame => {
                check_terminator_begun(bytes, frame)?;
                return Ok(None);
            }
            State::Payload { .. } => 0,
        };
        let unseen = bytes.get(scanned..).unwrap_or_default();
        let Some(at) = memchr(b'\n', unseen) else {
            self.incomplete(bytes, verbs)?;
            self.state = State::Line { scanned: bytes.len() };
            return Ok(None);
        };
        let at = scanned.saturating_add(at);
        let text = bytes.get(..at).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Some(Line { text, end: at.saturating_add(1) }))
    }

    /// Judges a line whose end has not come: a byte that no verb has, and a line that is too long already, are errors now.
    #[cold]
    fn incomplete(&self, bytes: &[u8], verbs: &[Verb]) -> Result<(), ProtocolError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(verb) = verbs.iter().find(|verb| verb.fits(bytes)) else { return Err(unknown(bytes)) };
        // The CR may be the first half of the line end.
        let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        // The blank that ends a verb is none of its arguments'.
        let verb = verb.text.len().saturating_add(usize::from(verb.blank));
        self.check(line.get(verb..).unwrap_or_default())
    }

    /// Checks the arguments' length against the limit. Blanks in front do not count, but as the caller has to keep them until
    /// the line is whole, there may be no more of them than the limit.
    #[inline]
    pub(super) fn check(&self, arguments: &[u8]) -> Result<(), ProtocolError> {
        let limit = self.max_control_line;
        if arguments.len() <= limit {
            return Ok(());
        }
        let trimmed = trim_start(arguments).len();
        if trimmed > limit || arguments.len().saturating_sub(trimmed) > limit {
            return Err(ProtocolError::ControlLineTooLong { limit });
        }
        Ok(())
    }

    /// The `size` bytes behind `line`, and the end of the operation; `None` when they have not all come.
    #[inline]
    pub(super) fn payload<'a>(
        &mut self,
        bytes: &'a [u8],
        line: Line<'_>,
        size: usize,
    ) -> Result<Option<Frame<'a>>, ProtocolError> {
        let end = line.end.saturating_add(size).saturating_add(2);
        let Some((payload, terminator)) =
            bytes.get(line.end..end).and_then(|bytes| bytes.split_at_checked(size))
        else {
            self.state = State::Payload { frame: end };
            check_terminator_begun(bytes, end)?;
            return Ok(None);
        };
        if terminator != b"\r\n" {
            return Err(unknown(terminator));
        }
        self.done();
        Ok(Some(Frame { payload, end }))
    }
}

/// Of an operation of `frame` bytes all but the last has come at most: if that is the CR, it has to be one.
fn check_terminator_begun(bytes: &[u8], frame: usize) -> Result<(), ProtocolError> {
    match bytes.split_last() {
        Some((last, before)) if before.len().saturating_add(2) == frame && *last != b'\r' => {
            Err(unknown(&[*last]))
        }
        Some(_) | None => Ok(()),
    }
}

/// A verb as the head of an unfinished line.
pub(super) struct Verb {
    text: &'static [u8],
    /// Whether a blank has to follow.
    blank: bool,
}

impl Verb {
    pub(super) const fn bare(text: &'static [u8]) -> Verb {
        Verb { text, blank: false }
    }

    pub(super) const fn with_blank(text: &'static [u8]) -> Verb {
        Verb { text, blank: true }
    }

    fn fits(&self, line: &[u8]) -> bool {
        match line.split_at_checked(self.text.len()) {
            None => self.text.get(..line.len()).is_some_and(|head| head.eq_ignore_ascii_case(line)),
            Some((head, rest)) => {
                head.eq_ignore_ascii_case(self.text)
                    && (!self.blank || matches!(rest.first(), None | Some(b' ' | b'\t')))
            }
        }
    }
}
