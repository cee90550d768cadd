//! Refusals, defaults and updates as nats-server has them.
