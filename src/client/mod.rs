//! Our own NATS client, over TCP or an in-process pipe.
