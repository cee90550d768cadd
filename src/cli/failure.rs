//! What a command says when it cannot do what it was asked: the thing, the value, the limit, and what to do next.

use std::fmt;
use std::io;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    /// Whoever read our output went away: nothing to tell, and nobody to tell it to.
    reader_gone: bool,
}

/// What a command comes to.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure described by one sentence without a full stop.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, reader_gone: false }
    }

    /// Adds what the user can do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure of reading or writing, with what was being done.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    /// Whether only the reader of our output went away.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// A failure of writing to the standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        let mut failure = Self::io("standard output", error);
        failure.reader_gone = error.kind() == io::ErrorKind::BrokenPipe;
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(error.to_string())
    }
}
