//! JSON of others, as values.
//!
//! serde_json's own [`Value`] takes an object that begins with a certain private key for whatever the text behind it holds, and
//! reads that as JSON, where its limit of nesting begins anew: text in text in text takes the stack. What comes from outside is
//! read as [`Plain`], or with [`object`]: there every key is a key.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain(pub Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

/// For fields: `#[serde(flatten, deserialize_with = "json::object")]`.
///
/// # Errors
/// What is no object.
pub fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let entries = BTreeMap::<String, Plain>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|(key, value)| (key, value.0)).collect())
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Plain(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, Plain(value))) = entries.next_entry()? {
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, serde::Deserialize)]
    struct Row {
        id: u64,
        #[serde(flatten, deserialize_with = "object")]
        other: Map<String, Value>,
    }

    #[test]
    fn values_are_those_of_serde_json() {
        let text =
            r#"{"a":[1,-2,2.5,18446744073709551615,1e300,"\u00e9",null,true,false,{}],"b":{"c":"d"},"":[]}"#;
        assert_eq!(
            serde_json::from_str::<Plain>(text).unwrap().0,
            serde_json::from_str::<Value>(text).unwrap()
        );
        let row: Row = serde_json::from_str(r#"{"id":7,"x":[null,{"y":1}],"z":"w"}"#).unwrap();
        assert_eq!((row.id, Value::Object(row.other)), (7, json!({"x":[null,{"y":1}],"z":"w"})));
        for text in ["", "{", "[1,]", "nul", r#"{"a":1"#, "1 2"] {
            serde_json::from_str::<Plain>(text).unwrap_err();
        }
    }

    #[test]
    fn every_key_is_a_key_and_text_stays_text() {
        // Ten texts in one another, the brackets of each as deep as JSON may be.
        let mut text = "0".to_owned();
        for _ in 0..10 {
            let inside = serde_json::to_string(&text).unwrap();
            let object = format!(r#"{{"$serde_json::private::RawValue":{inside}}}"#);
            text = format!("{}{object}{}", "[".repeat(120), "]".repeat(120));
        }
        let mut value = serde_json::from_str::<Plain>(&text).unwrap().0;
        while let Value::Array(mut items) = value {
            value = items.pop().unwrap();
        }
        assert!(value["$serde_json::private::RawValue"].is_string(), "{value}");
        let text = r#"{"id":1,"x":{"\u0024serde_json::private::RawValue":"[1]"}}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        assert_eq!(row.other["x"], json!({"$serde_json::private::RawValue": "[1]"}));
    }
}
