//! Why a run has no figure.

use std::fmt;

/// What is printed in the place of a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The row does not apply to this server, or not in the way it was given.
    Unfit(String),
    /// What came back is not what was sent.
    Lost { what: &'static str, sent: u64, received: u64 },
    /// The run could not be made.
    Failed(String),
    /// Another server answers than the one that was named, or something of its user's is in the way: nothing that follows
    /// would be right.
    Wrong(String),
}

impl Fault {
    pub(crate) fn unfit(why: impl Into<String>) -> Self {
        Self::Unfit(why.into())
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    /// Checks that all of `sent` were `received`.
    pub(crate) fn unless_all(what: &'static str, sent: u64, received: u64) -> Result<(), Self> {
        if sent == received { Ok(()) } else { Err(Self::Lost { what, sent, received }) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(why) => write!(f, "- ({why})"),
            Self::Lost { what, sent, received } => write!(f, "LOST: {received} of {sent} {what}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
