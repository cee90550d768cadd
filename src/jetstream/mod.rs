//! JetStream as deterministic state machines, and the driver that owns them.
