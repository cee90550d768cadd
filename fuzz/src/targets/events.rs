//! The body of `POST /monitor/{device}`: refused with a reason, or events whose messages say what the body said.

use bytes::Bytes;
use weir::service::event::{self, Event};
use weir::service::id::Id;
use weir::sys::random::Random;

/// What means something in a body.
pub const WORDS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"type\":",
    "\"id\":",
    "\"symbol\":",
    "\"timestamp\":",
    "\"data\":",
    "\"2026-01-31T12:00:00Z\"",
    "null",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "1e999",
    "[[[[[[[[",
    "{\"type\":\"a\"}",
];

/// See the module.
pub fn body(bytes: &[u8]) {
    let device = Id::parse("dev-1").expect("an id");
    match event::parse(bytes, 1_767_225_600_000_000_000, &Random::from_seed(1)) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(events) => {
            assert!(!events.is_empty(), "an empty array is refused");
            assert!(events.len() <= bytes.len(), "an event has a byte at least");
            for event in events {
                let headers = event.headers(&device);
                assert_eq!(Event::of_message(&headers, &event.data).as_ref(), Some(&event));
            }
        }
    }
    // The older form: the event is the payload.
    let _ = Event::of_message(&[], &Bytes::copy_from_slice(bytes));
}
