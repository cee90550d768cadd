//! A message as a subscriber sees it.

use bytes::Bytes;
use weir_protocol::header;

/// What arrived. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published; for a JetStream delivery, where it was stored.
    pub subject: String,
    /// Where an answer is wanted.
    pub reply: Option<String>,
    /// The whole header block; empty when there is none.
    pub headers: Bytes,
    /// The payload.
    pub payload: Bytes,
}

impl Message {
    /// The first header of this exact name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header::get_str(&self.headers, name)
    }

    /// The status code on the first line of the headers, such as 503 for no responders.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        header::status(&self.headers).map(|status| status.code)
    }

    /// The words after the status code.
    #[must_use]
    pub fn status_text(&self) -> String {
        header::status(&self.headers)
            .map(|status| String::from_utf8_lossy(status.description).into_owned())
            .unwrap_or_default()
    }

    /// Bytes that this message keeps in memory, nearly.
    pub(super) fn size(&self) -> usize {
        self.subject.len()
            + self.reply.as_ref().map_or(0, String::len)
            + self.headers.len()
            + self.payload.len()
    }
}
