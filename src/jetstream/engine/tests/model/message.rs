//! A message as the reference knows it, and the matching of subjects, token by token.

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) seq: u64,
    pub(super) time: i64,
    pub(super) subject: String,
    /// Header lines, in order.
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: String,
}

impl Message {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// As a mirror or a source takes it over: what steered the publish stays behind.
    pub(super) fn copied(&self) -> Self {
        let mut copy = self.clone();
        copy.headers.retain(|(name, _)| !name.starts_with("Nats-Expected-"));
        copy
    }

    /// Bytes of the header block.
    pub(super) fn header_bytes(&self) -> usize {
        if self.headers.is_empty() {
            return 0;
        }
        let lines: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        "NATS/1.0\r\n".len() + lines + 2
    }

    /// What it counts for.
    pub(super) fn cost(&self, is_file: bool) -> i64 {
        let headers = self.header_bytes();
        let frame = match (is_file, headers > 0) {
            (true, true) => 34,
            (true, false) => 30,
            (false, _) => 16,
        };
        i64::try_from(frame + self.subject.len() + headers + self.payload.len()).expect("small")
    }
}

/// Whether a subject matches a filter; an empty filter matches all.
pub(super) fn matches(subject: &str, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    let (subject, filter): (Vec<&str>, Vec<&str>) =
        (subject.split('.').collect(), filter.split('.').collect());
    for (at, token) in filter.iter().enumerate() {
        match *token {
            ">" => return subject.len() > at,
            "*" if at < subject.len() => {}
            token if subject.get(at) == Some(&token) => {}
            _ => return false,
        }
    }
    subject.len() == filter.len()
}
