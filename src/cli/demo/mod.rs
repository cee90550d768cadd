//! `weir demo`: this machine as a device, beside simulated ones, recorded and replayed.

mod device;
mod feed;
mod ledger;
mod post;
mod proc;
mod witness;
