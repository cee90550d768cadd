//! What stands behind a verb: arguments between blanks, read by nom, and the sizes among them. Everything borrows from the line.

use memchr::memchr2;
use nom::bytes::complete::{take_while, take_while1};
use nom::combinator::{all_consuming, opt};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::op::{Subscribe, Unsubscribe};

pub(super) const ARGUMENT_COUNT: &str = "wrong number of arguments";
pub(super) const BAD_SIZE: &str = "bad size";
/// The digits of a size.
const MAX_SIZE_DIGITS: usize = 9;

#[inline]
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub(super) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// An argument and the blanks in front of it.
#[inline]
fn argument(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    preceded(take_while(is_blank), take_while1(|byte| !is_blank(byte))).parse(input)
}

/// A CR separates too, as it does for nats-server in SUB and UNSUB.
fn is_loose_blank(byte: u8) -> bool {
    is_blank(byte) || byte == b'\r'
}

fn loose_argument(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    preceded(take_while(is_loose_blank), take_while1(|byte| !is_loose_blank(byte))).parse(input)
}

/// Exactly these arguments, then blanks at most.
#[inline]
fn whole<'a, T>(
    arguments: impl Parser<&'a [u8], Output = T, Error = ()>,
    blank: fn(u8) -> bool,
    input: &'a [u8],
) -> Option<T> {
    all_consuming(terminated(arguments, take_while(blank))).parse(input).ok().map(|(_, arguments)| arguments)
}

type Bytes2or3<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);
type Bytes3or4<'a> = (&'a [u8], &'a [u8], &'a [u8], Option<&'a [u8]>);
type Bytes3to5<'a> = (&'a [u8], &'a [u8], &'a [u8], Option<&'a [u8]>, Option<&'a [u8]>);

/// `<subject> [reply] <size>` with one space between the arguments and none around them, which has to be told from every
/// other spelling here, not judged: what is not of this form gets `None` and goes the general way.
#[inline]
pub(super) fn canonical_publish(input: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let digits = input.iter().rev().take(MAX_SIZE_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, last) = input.split_at_checked(input.len().checked_sub(digits)?)?;
    let rest = rest.strip_suffix(b" ")?;
    let size = size(last)?;
    match memchr2(b' ', b'\t', rest) {
        None if rest.is_empty() => None,
        None => Some((rest, &[], size)),
        Some(at) => {
            let (subject, reply) = rest.split_at_checked(at)?;
            let reply = reply.strip_prefix(b" ")?;
            let is_one_token = !reply.is_empty() && memchr2(b' ', b'\t', reply).is_none();
            (is_one_token && !subject.is_empty()).then_some((subject, reply, size))
        }
    }
}

/// `<subject> [reply] <size>`
#[inline]
pub(super) fn publish_arguments(input: &[u8]) -> Option<Bytes2or3<'_>> {
    whole((argument, argument, opt(argument)), is_blank, input)
}

/// `<subject> [reply] <header size> <size>`, and `<subject> <sid> [reply] <size>`
pub(super) fn header_arguments(input: &[u8]) -> Option<Bytes3or4<'_>> {
    whole((argument, argument, argument, opt(argument)), is_blank, input)
}

/// `<subject> <sid> [reply] <header size> <size>`
pub(super) fn message_arguments(input: &[u8]) -> Option<Bytes3to5<'_>> {
    whole((argument, argument, argument, opt(argument), opt(argument)), is_blank, input)
}

/// `<subject> [queue] <sid>`
pub(super) fn subscribe(input: &[u8]) -> Option<Subscribe<'_>> {
    let (subject, second, third) =
        whole((loose_argument, loose_argument, opt(loose_argument)), is_loose_blank, input)?;
    Some(match third {
        Some(sid) => Subscribe { subject, queue: second, sid },
        None => Subscribe { subject, queue: &[], sid: second },
    })
}

/// `<sid> [max]`
pub(super) fn unsubscribe(input: &[u8]) -> Option<Unsubscribe<'_>> {
    let (sid, max) = whole((loose_argument, opt(loose_argument)), is_loose_blank, input)?;
    let max = max.and_then(size).filter(|max| *max > 0);
    Some(Unsubscribe { sid, max: max.map(|max| max as u64) })
}

/// One to nine decimal digits.
#[inline]
pub(super) fn size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > MAX_SIZE_DIGITS {
        return None;
    }
    // Nine digits fit into an u32.
    let mut value: u32 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    usize::try_from(value).ok()
}

/// The size of the headers and of headers and payload together; else what is wrong with them.
pub(super) fn sizes(headers: &[u8], total: &[u8]) -> Result<(usize, usize), &'static str> {
    let headers = size(headers).ok_or("bad header size")?;
    let total = size(total).ok_or(BAD_SIZE)?;
    if headers > total { Err("header size beyond the total") } else { Ok((headers, total)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The short way and the general way read the same, and the short way reads every canonical line.
        #[test]
        fn the_short_way_agrees_with_the_general_one(input in proptest::collection::vec(
            prop_oneof![3 => Just(b'1'), 2 => Just(b' '), 1 => Just(b'\t'), 2 => Just(b'a'), 1 => any::<u8>()], 0..16)) {
            let general = publish_arguments(&input).and_then(|(subject, second, third)| {
                let (reply, last) = third.map_or((&[][..], second), |third| (second, third));
                Some((subject, reply, size(last)?))
            });
            let canonical = general.is_some_and(|_| {
                input.split(|&b| b == b' ').all(|part| !part.is_empty()) && !input.contains(&b'\t')
            });
            prop_assert_eq!(canonical_publish(&input), general.filter(|_| canonical));
        }
    }
}
