//! Reading a PUB or HPUB by comparing it with the one before.
//!
//! Publishers mostly send control lines that differ in nothing from the last one: same subject, same reply, same size. Such a line
//! says what the last one said, and need not be taken apart again. What differs in any byte is the decoder's to read.

use crate::op::Publish;

/// A PUB or HPUB that was decoded, as a template for those that follow in the same buffer.
#[derive(Debug, Clone, Copy)]
pub struct Template<'a> {
    /// With its line end.
    line: &'a [u8],
    /// Bytes of headers and payload.
    size: usize,
    publish: Publish<'a>,
}

impl<'a> Template<'a> {
    /// The template that `publish` is; `None` if that was not decoded from all of `operation`.
    #[inline]
    pub fn new(operation: &'a [u8], publish: Publish<'a>) -> Option<Template<'a>> {
        let size = publish.headers.len().saturating_add(publish.payload.len());
        let line = operation.len().checked_sub(size)?.checked_sub(b"\r\n".len())?;
        let line = operation.get(..line).filter(|line| line.ends_with(b"\n"))?;
        Some(Template { line, size, publish })
    }

    /// The operation at the start of `bytes` and its length, if it is whole and its control line is the template's. Subject and reply
    /// are then the template's own slices. `None` says nothing about `bytes`.
    ///
    /// Only between operations, and as long as the limits are those that the template was decoded under.
    #[inline]
    pub fn decode(&self, bytes: &'a [u8]) -> Option<(Publish<'a>, usize)> {
        let body = bytes.strip_prefix(self.line)?;
        let (body, rest) = body.split_at_checked(self.size)?;
        if !rest.starts_with(b"\r\n") {
            return None;
        }
        let (headers, payload) = body.split_at_checked(self.publish.headers.len())?;
        let end = self.line.len().saturating_add(self.size).saturating_add(b"\r\n".len());
        let tail = match self.publish.tail.len() {
            0 => &[][..],
            length => bytes.get(end.checked_sub(length)?..end)?,
        };
        let Publish { subject, reply, .. } = self.publish;
        Some((Publish { subject, reply, headers, payload, tail }, end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::ClientDecoder;
    use crate::op::ClientOp;

    fn operation() -> impl Strategy<Value = Vec<u8>> {
        let subject = prop_oneof![Just("a"), Just("a.b")];
        let reply = prop_oneof![3 => Just(""), 1 => Just("r "), 1 => Just("\tr  ")];
        let headers = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(2))];
        let end = prop_oneof![8 => Just("\r\n"), 1 => Just("\n")];
        let after = prop_oneof![20 => Just("\r\n"), 1 => Just("\n\r")];
        (subject, reply, headers, 2..5_usize, end, after, any::<u8>()).prop_map(
            |(subject, reply, headers, size, end, after, fill)| {
                let (verb, headers) = match headers {
                    Some(headers) => ("HPUB", format!("{headers} ")),
                    None => ("PUB", String::new()),
                };
                let mut bytes = format!("{verb} {subject} {reply}{headers}{size}{end}").into_bytes();
                bytes.extend(std::iter::repeat_n(fill, size));
                bytes.extend_from_slice(after.as_bytes());
                bytes
            },
        )
    }

    proptest! {
        /// Whatever a template reads, the decoder would have read so; and it reads what repeats a line.
        #[test]
        fn a_template_reads_as_the_decoder_does(first in operation(), second in operation(), cut in 0..40_usize) {
            let mut decoder = ClientDecoder::default();
            decoder.set_headers(true);
            let Ok(Some((ClientOp::Pub(publish), taken))) = decoder.decode(&first) else { return Ok(()) };
            prop_assert_eq!(taken, first.len());
            let template = Template::new(&first, publish).unwrap();
            for second in [&second[..], &first[..], second.get(..cut).unwrap_or(&second), first.get(..cut).unwrap_or(&first)] {
                let decoded = decoder.clone().decode(second);
                if let Some((publish, taken)) = template.decode(second) {
                    prop_assert_eq!(decoded, Ok(Some((ClientOp::Pub(publish), taken))));
                } else {
                    prop_assert!(second != first);
                }
            }
        }
    }
}
