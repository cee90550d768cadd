//! `weir demo`: this machine as a device, beside simulated ones, recorded and replayed.

mod proc;
