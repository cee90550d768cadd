//! Sockets, connections, tasks.
