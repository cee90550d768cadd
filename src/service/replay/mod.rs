//! Replay: a recording published again, in order, with its recorded spacing times a factor.

mod pacer;
pub mod schedule;
