//! Routing: which subscriptions get a message.
