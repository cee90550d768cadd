//! Bytes in JSON: standard base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::syntax::{Node, Value};
use super::{Context, Json};

/// Bytes that JSON carries as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Bytes);

impl Json for Base64 {
    fn go_type() -> String {
        "[]uint8".to_owned()
    }

    fn decode(&mut self, node: &Node<'_>, _go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => self.0 = Bytes::new(),
            Value::Text(text) => match STANDARD.decode(text) {
                Ok(bytes) => self.0 = bytes.into(),
                Err(error) => context.fail(format!("illegal base64 data: {error}")),
            },
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                context.mismatch(node, "[]uint8");
            }
        }
    }

    fn encode(&self, out: &mut String) {
        out.push('"');
        STANDARD.encode_string(&self.0, out);
        out.push('"');
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
