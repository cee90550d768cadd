//! Who listens, as the engine asks it: answered by the broker, or by a test.

/// Who is subscribed to what.
pub trait Interest {
    /// Whether anybody would get a message on `subject`, alone or in a queue group, wildcards included.
    fn has(&self, subject: &[u8]) -> bool;
    /// Whether anybody is subscribed to `subject` itself, alone or in the queue group `queue`. Wildcards do not count: as in
    /// nats-server, somebody who looks on with `>` does not start a push consumer.
    fn listens(&self, subject: &[u8], queue: Option<&[u8]>) -> bool;
}
