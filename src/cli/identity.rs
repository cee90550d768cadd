//! Ids of devices and sessions as they are typed, and the subjects that belong to them.

use weir_protocol::subject::{is_literal, is_valid_subject};

use super::failure::{Failure, Outcome};
use crate::service::id::Id;

/// The device that was typed.
pub(crate) fn device(typed: &str) -> Outcome<Id> {
    Id::parse(typed).map_err(|error| Failure::new(format!("device \"{typed}\": {error}")))
}

/// The session that was typed.
pub(crate) fn session(typed: &str) -> Outcome<Id> {
    Id::parse(typed).map_err(|error| Failure::new(format!("session \"{typed}\": {error}")))
}

/// The subject of a device: the prefix and the id's code as one token.
pub(crate) fn device_subject(prefix_typed: &str, device: &Id) -> Outcome<String> {
    Ok(format!("{}.{}", prefix(prefix_typed)?, device.token()))
}

/// The first token(s) of the devices' subjects.
pub(crate) fn prefix(typed: &str) -> Outcome<&str> {
    let typed = typed.trim();
    if !is_valid_subject(typed.as_bytes()) || !is_literal(typed.as_bytes()) {
        return Err(Failure::new(format!(
            "--subject \"{typed}\": give words joined by dots, without spaces, * or >"
        )));
    }
    Ok(typed)
}
