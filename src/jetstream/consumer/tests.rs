//! The consumer as a table of scenarios in virtual time.
