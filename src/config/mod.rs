//! What the user typed, and what is resolved from it.
