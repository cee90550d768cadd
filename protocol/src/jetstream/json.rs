//! JSON as the JetStream API speaks it: Go's `encoding/json`, to the byte and to the word.
//!
//! Requests reject unknown fields, match names without case, and name what is wrong in Go's words; responses keep Go's
//! field order, its rules for leaving fields out and its escaping. [`json_struct!`](crate::json_struct) and [`json_enum!`](crate::json_enum) declare a type
//! with its fields once for both directions. Deliberately absent: what a field means.

mod binary;
mod syntax;
mod timestamp;

use std::collections::BTreeMap;

pub use binary::Base64;
pub use syntax::{Node, Value};
pub use timestamp::Timestamp;

use syntax::{Parser, SyntaxError};

/// A value that can be read from and written to JSON.
pub trait Json {
    /// The Go type that errors name.
    fn go_type() -> String
    where
        Self: Sized;
    /// Takes the value of `node`; what does not fit is reported to `context`. `go` names the Go type where it
    /// differs from [`Json::go_type`]; for a sequence it names the type of the elements.
    fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>);
    /// Appends the value.
    fn encode(&self, out: &mut String);
    /// Whether Go's `omitempty` leaves the value out.
    fn is_empty(&self) -> bool;
}

/// An object with known fields.
pub trait Struct {
    /// The Go name of the type, without package.
    const GO_NAME: &'static str;
    /// Takes a field if it is one of this type; `exact` forbids a difference in case.
    fn decode_field(&mut self, name: &str, exact: bool, node: &Node<'_>, context: &mut Context<'_>) -> bool;
    /// Appends the fields in their order.
    fn encode_fields(&self, out: &mut ObjectWriter<'_>);
}

/// What decoding knows about where it is and what went wrong first.
#[derive(Debug)]
pub struct Context<'a> {
    strict: bool,
    error: Option<String>,
    owner: &'a str,
    field_owner: &'a str,
    path: Vec<String>,
}

impl Context<'_> {
    /// Reports an error; only the first counts.
    pub fn fail(&mut self, error: String) {
        self.error.get_or_insert(error);
    }

    /// Reports a value of the wrong kind.
    pub fn mismatch(&mut self, node: &Node<'_>, go: &str) {
        self.mismatch_as(node.value.kind(), go);
    }

    /// Reports a value of the wrong kind, described by `what`.
    pub fn mismatch_as(&mut self, what: &str, go: &str) {
        let error = if self.path.is_empty() {
            format!("json: cannot unmarshal {what} into Go value of type {go}")
        } else {
            let path = self.path.join(".");
            format!(
                "json: cannot unmarshal {what} into Go struct field {}.{path} of type {go}",
                self.field_owner
            )
        };
        self.fail(error);
    }

    /// Runs `decode` inside the field `name` of the current object.
    pub fn field(&mut self, name: &str, decode: impl FnOnce(&mut Self)) {
        let (owner, field_owner) = (self.owner, self.field_owner);
        self.field_owner = owner;
        self.path.push(name.to_owned());
        decode(self);
        self.path.pop();
        (self.owner, self.field_owner) = (owner, field_owner);
    }

    /// Runs `decode` inside the embedded object `name`: part of the path, yet the same object.
    pub fn embedded(&mut self, name: &str, decode: impl FnOnce(&mut Self) -> bool) -> bool {
        self.path.push(name.to_owned());
        let found = decode(self);
        self.path.pop();
        found
    }
}

/// Decodes a request: unknown fields are errors. Several values one after the other are laid over each other, and no
/// value at all is the default, as Go's decoder does.
///
/// # Errors
/// The text that follows `invalid JSON: ` in error 10025.
pub fn decode_strict<T: Json + Default>(input: &[u8]) -> Result<T, String> {
    let mut parser = Parser::new(input);
    let mut value = T::default();
    let strict_error = |error| match error {
        SyntaxError::Truncated => "unexpected EOF".to_owned(),
        SyntaxError::Unexpected { text, offset } => format!("{text} at offset {offset}"),
    };
    while let Some(node) = parser.next_value().map_err(strict_error)? {
        take(&mut value, &node, true)?;
    }
    Ok(value)
}

/// Decodes one value; unknown fields are passed over.
///
/// # Errors
/// What Go's `json.Unmarshal` says.
pub fn decode_lenient<T: Json + Default>(input: &[u8]) -> Result<T, String> {
    let mut parser = Parser::new(input);
    let lenient_error = |error| match error {
        SyntaxError::Truncated => "unexpected end of JSON input".to_owned(),
        SyntaxError::Unexpected { text, .. } => text,
    };
    let node = parser.next_value().map_err(lenient_error)?;
    let Some(node) = node else { return Err("unexpected end of JSON input".to_owned()) };
    parser.finish().map_err(lenient_error)?;
    let mut value = T::default();
    take(&mut value, &node, false)?;
    Ok(value)
}

fn take<T: Json>(value: &mut T, node: &Node<'_>, strict: bool) -> Result<(), String> {
    let mut context = Context { strict, error: None, owner: "", field_owner: "", path: Vec::new() };
    value.decode(node, "", &mut context);
    context.error.map_or(Ok(()), Err)
}

/// The value as JSON text.
pub fn encode(value: &impl Json) -> String {
    let mut out = String::new();
    value.encode(&mut out);
    out
}

/// Appends the fields of an object.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Writes an object with what `fields` appends.
    pub fn write(out: &'a mut String, fields: impl FnOnce(&mut ObjectWriter<'_>)) {
        out.push('{');
        fields(&mut ObjectWriter { out, first: true });
        out.push('}');
    }

    fn key(&mut self, name: &str) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    /// Appends a field.
    pub fn field(&mut self, name: &str, value: &impl Json) {
        self.key(name);
        value.encode(self.out);
    }

    /// Appends a field unless Go would leave it out.
    pub fn field_unless_empty(&mut self, name: &str, value: &impl Json) {
        if !value.is_empty() {
            self.field(name, value);
        }
    }

    /// Appends a string.
    pub fn text_field(&mut self, name: &str, text: &str) {
        self.key(name);
        encode_text(text, self.out);
    }
}

/// Appends a string with Go's escapes: those of JSON, those that make it safe in HTML, and the two line separators.
pub fn encode_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

impl<T: Struct> Json for T {
    fn go_type() -> String {
        format!("server.{}", T::GO_NAME)
    }

    fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => {}
            Value::Object(fields) => {
                let owner = std::mem::replace(&mut context.owner, T::GO_NAME);
                for (name, node) in fields {
                    let known = self.decode_field(name, true, node, context)
                        || self.decode_field(name, false, node, context);
                    if !known && context.strict {
                        context.fail(format!("json: unknown field {}", syntax::quote(name.as_bytes())));
                    }
                }
                context.owner = owner;
            }
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Array(_) => {
                let go = if go.is_empty() { T::go_type() } else { go.trim_start_matches('*').to_owned() };
                context.mismatch(node, &go);
            }
        }
    }

    fn encode(&self, out: &mut String) {
        ObjectWriter::write(out, |object| self.encode_fields(object));
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl Json for String {
    fn go_type() -> String {
        "string".to_owned()
    }

    fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => {}
            Value::Text(text) => self.clone_from(text),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                context.mismatch(node, if go.is_empty() { "string" } else { go });
            }
        }
    }

    fn encode(&self, out: &mut String) {
        encode_text(self, out);
    }

    fn is_empty(&self) -> bool {
        String::is_empty(self)
    }
}

impl Json for bool {
    fn go_type() -> String {
        "bool".to_owned()
    }

    fn decode(&mut self, node: &Node<'_>, _go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => {}
            Value::Bool(value) => *self = *value,
            Value::Number(_) | Value::Text(_) | Value::Array(_) | Value::Object(_) => {
                context.mismatch(node, "bool");
            }
        }
    }

    fn encode(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }

    fn is_empty(&self) -> bool {
        !self
    }
}

macro_rules! integers {
    ($($type:ty => $go:literal),*) => { $(
        impl Json for $type {
            fn go_type() -> String {
                $go.to_owned()
            }

            fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>) {
                let go = if go.is_empty() { $go } else { go };
                match &node.value {
                    Value::Null => {}
                    Value::Number(digits) => match digits.parse() {
                        Ok(value) => *self = value,
                        Err(_) => context.mismatch_as(&format!("number {digits}"), go),
                    },
                    Value::Bool(_) | Value::Text(_) | Value::Array(_) | Value::Object(_) => {
                        context.mismatch(node, go);
                    }
                }
            }

            fn encode(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }

            fn is_empty(&self) -> bool {
                *self == 0
            }
        }
    )* };
}

integers!(i64 => "int64", u64 => "uint64", i32 => "int32");

impl<T: Json + Default> Json for Option<T> {
    fn go_type() -> String {
        T::go_type()
    }

    fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>) {
        if node.value == Value::Null {
            *self = None;
        } else {
            self.get_or_insert_default().decode(node, go, context);
        }
    }

    fn encode(&self, out: &mut String) {
        match self {
            Some(value) => value.encode(out),
            None => out.push_str("null"),
        }
    }

    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

impl<T: Json + Default> Json for Vec<T> {
    fn go_type() -> String {
        format!("[]{}", T::go_type())
    }

    fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => self.clear(),
            Value::Array(items) => {
                self.clear();
                for item in items {
                    let mut value = T::default();
                    value.decode(item, go, context);
                    self.push(value);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
                let element = if go.is_empty() { T::go_type() } else { go.to_owned() };
                context.mismatch(node, &format!("[]{element}"));
            }
        }
    }

    fn encode(&self, out: &mut String) {
        out.push('[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            item.encode(out);
        }
        out.push(']');
    }

    fn is_empty(&self) -> bool {
        Vec::is_empty(self)
    }
}

impl<T: Json + Default> Json for BTreeMap<String, T> {
    fn go_type() -> String {
        format!("map[string]{}", T::go_type())
    }

    fn decode(&mut self, node: &Node<'_>, go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => self.clear(),
            Value::Object(fields) => {
                for (name, node) in fields {
                    let mut value = T::default();
                    value.decode(node, go, context);
                    self.insert(name.clone(), value);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Array(_) => {
                context.mismatch(node, &Self::go_type());
            }
        }
    }

    fn encode(&self, out: &mut String) {
        out.push('{');
        for (index, (name, value)) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            encode_text(name, out);
            out.push(':');
            value.encode(out);
        }
        out.push('}');
    }

    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
}

/// The text of Go's errors for an enumeration: `can not unmarshal "\"x\""`.
#[must_use]
pub fn cannot_unmarshal(node: &Node<'_>) -> String {
    format!("can not unmarshal {}", syntax::quote(node.raw))
}

/// Bytes as Go's `%q` shows them.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    syntax::quote(bytes)
}

/// Declares a struct with its JSON fields, in Go's order.
///
/// After a field's type comes `=> {"name"}`, `{"name" omit}` (left out when empty), either with a Go type in
/// parentheses where errors name another than the Rust type says (`("int")`, `("time.Duration")`, for sequences the
/// element's), or `{embed "Name"}` for a Go-embedded struct (an `Option` of one included).
#[macro_export]
macro_rules! json_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident as $go:literal {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty => { $($spec:tt)* } ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::jetstream::json::Struct for $name {
            const GO_NAME: &'static str = $go;

            #[allow(unused_variables)]
            fn decode_field(
                &mut self,
                name: &str,
                exact: bool,
                node: &$crate::jetstream::json::Node<'_>,
                context: &mut $crate::jetstream::json::Context<'_>,
            ) -> bool {
                $( $crate::json_struct!(@decode self, $field, name, exact, node, context, $($spec)*); )*
                false
            }

            #[allow(unused_variables)]
            fn encode_fields(&self, out: &mut $crate::jetstream::json::ObjectWriter<'_>) {
                $( $crate::json_struct!(@encode self, $field, out, $($spec)*); )*
            }
        }
    };
    (@decode $self:ident, $field:ident, $name:ident, $exact:ident, $node:ident, $context:ident, embed $go:literal) => {
        if $context.embedded($go, |context| {
            $crate::jetstream::json::Embedded::decode_embedded(&mut $self.$field, $name, $exact, $node, context)
        }) {
            return true;
        }
    };
    (@decode $self:ident, $field:ident, $name:ident, $exact:ident, $node:ident, $context:ident,
        $key:literal $(omit)? $(($go:literal))?) => {
        if if $exact { $name == $key } else { $name.eq_ignore_ascii_case($key) } {
            let go: &str = concat!($($go)?);
            $context.field($key, |context| {
                $crate::jetstream::json::Json::decode(&mut $self.$field, $node, go, context);
            });
            return true;
        }
    };
    (@encode $self:ident, $field:ident, $out:ident, embed $go:literal) => {
        $crate::jetstream::json::Embedded::encode_embedded(&$self.$field, $out);
    };
    (@encode $self:ident, $field:ident, $out:ident, $key:literal omit $(($go:literal))?) => {
        $out.field_unless_empty($key, &$self.$field);
    };
    (@encode $self:ident, $field:ident, $out:ident, $key:literal $(($go:literal))?) => {
        $out.field($key, &$self.$field);
    };
}

/// A struct whose fields stand among those of another (Go's embedding).
pub trait Embedded {
    /// As [`Struct::decode_field`].
    fn decode_embedded(
        &mut self,
        name: &str,
        exact: bool,
        node: &Node<'_>,
        context: &mut Context<'_>,
    ) -> bool;
    /// As [`Struct::encode_fields`].
    fn encode_embedded(&self, out: &mut ObjectWriter<'_>);
}

impl<T: Struct> Embedded for T {
    fn decode_embedded(
        &mut self,
        name: &str,
        exact: bool,
        node: &Node<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        self.decode_field(name, exact, node, context)
    }

    fn encode_embedded(&self, out: &mut ObjectWriter<'_>) {
        self.encode_fields(out);
    }
}

impl<T: Struct + Default> Embedded for Option<T> {
    fn decode_embedded(
        &mut self,
        name: &str,
        exact: bool,
        node: &Node<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        if let Some(value) = self {
            return value.decode_field(name, exact, node, context);
        }
        let mut value = T::default();
        let found = value.decode_field(name, exact, node, context);
        if found {
            *self = Some(value);
        }
        found
    }

    fn encode_embedded(&self, out: &mut ObjectWriter<'_>) {
        if let Some(value) = self {
            value.encode_fields(out);
        }
    }
}

/// Declares an enumeration of exact strings; the first is the default (Go's zero value). `fold` ignores case.
#[macro_export]
macro_rules! json_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident $($fold:ident)? {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal $(| $alias:literal)* ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The word in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }

        impl $crate::jetstream::json::Json for $name {
            fn go_type() -> String {
                concat!("server.", stringify!($name)).to_owned()
            }

            fn decode(
                &mut self,
                node: &$crate::jetstream::json::Node<'_>,
                _go: &str,
                context: &mut $crate::jetstream::json::Context<'_>,
            ) {
                let fold: &str = concat!($(stringify!($fold))?);
                let raw = if fold.is_empty() { node.raw.to_vec() } else { node.raw.to_ascii_lowercase() };
                $( if raw == concat!("\"", $text, "\"").as_bytes()
                    $(|| raw == concat!("\"", $alias, "\"").as_bytes())* {
                    *self = Self::$variant;
                    return;
                } )*
                context.fail($crate::jetstream::json::cannot_unmarshal(node));
            }

            fn encode(&self, out: &mut String) {
                $crate::jetstream::json::encode_text(self.as_str(), out);
            }

            fn is_empty(&self) -> bool {
                *self == Self::default()
            }
        }
    };
}

#[cfg(test)]
mod tests;
