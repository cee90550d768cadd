//! The long-lived home of everything: redb.

pub(crate) mod load;
pub(crate) mod read;
pub(crate) mod shelf;
pub(crate) mod table;
pub(crate) mod upkeep;
pub(crate) mod write;
