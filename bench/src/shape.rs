//! The shapes of the plain broker's rows, and the ready-made frames that go through them: the same for a server and for the
//! relay.

/// Bytes of frames that are made ahead and sent again and again: more than is written at once.
const RING_BYTES: usize = 256 * 1024;

/// Who publishes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    OneToOne,
    OneToTen,
    /// Ten pairs, each with a subject of its own.
    TenToTen,
    /// One publisher, ten members of one queue group.
    Queue,
    /// One publisher, a thousand subjects in turn, one subscriber with a wildcard.
    Rotating,
}

/// All shapes.
pub(crate) const SHAPES: [Shape; 5] =
    [Shape::OneToOne, Shape::OneToTen, Shape::TenToTen, Shape::Queue, Shape::Rotating];

impl Shape {
    /// The name in a row's id.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "1-1",
            Self::OneToTen => "1-10",
            Self::TenToTen => "10-10",
            Self::Queue => "queue",
            Self::Rotating => "subjects",
        }
    }

    pub(crate) fn publishers(self) -> usize {
        match self {
            Self::TenToTen => 10,
            Self::OneToOne | Self::OneToTen | Self::Queue | Self::Rotating => 1,
        }
    }

    pub(crate) fn subscribers(self) -> usize {
        match self {
            Self::OneToOne | Self::Rotating => 1,
            Self::OneToTen | Self::TenToTen | Self::Queue => 10,
        }
    }

    /// The subscribers of a publisher, as places in the order of connecting.
    pub(crate) fn audience(self, publisher: usize) -> std::ops::Range<usize> {
        match self {
            Self::TenToTen => publisher..publisher + 1,
            Self::OneToOne | Self::OneToTen | Self::Queue | Self::Rotating => 0..self.subscribers(),
        }
    }

    /// Whether a message goes to one of its publisher's audience, not to all.
    pub(crate) fn shares(self) -> bool {
        self == Self::Queue
    }

    pub(crate) fn subject(self, publisher: usize, message: usize) -> String {
        match self {
            Self::OneToOne | Self::OneToTen | Self::Queue => "bench.flow".to_owned(),
            Self::TenToTen => format!("bench.flow.{publisher}"),
            Self::Rotating => format!("bench.flow.{:03}", message % 1000),
        }
    }

    pub(crate) fn subscription(self, subscriber: usize) -> String {
        match self {
            Self::OneToOne | Self::OneToTen => "SUB bench.flow 1\r\n".to_owned(),
            Self::TenToTen => format!("SUB bench.flow.{subscriber} 1\r\n"),
            Self::Queue => "SUB bench.flow workers 1\r\n".to_owned(),
            Self::Rotating => "SUB bench.flow.* 1\r\n".to_owned(),
        }
    }
}

/// Ready-made frames, one after the other; after the last one the first one follows.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Length of each frame.
    length: usize,
    /// The frame that is next.
    next: usize,
}

impl Frames {
    /// What a publisher sends.
    pub(crate) fn published(shape: Shape, publisher: usize, size: usize) -> Self {
        Self::new(shape, size, |message| format!("PUB {} {size}\r\n", shape.subject(publisher, message)))
    }

    /// What a subscriber gets from `publisher`.
    pub(crate) fn delivered(shape: Shape, publisher: usize, size: usize) -> Self {
        Self::new(shape, size, |message| format!("MSG {} 1 {size}\r\n", shape.subject(publisher, message)))
    }

    fn new(shape: Shape, size: usize, line: impl Fn(usize) -> String) -> Self {
        let length = line(0).len() + size + 2;
        let count = match shape {
            Shape::Rotating => 1000 * RING_BYTES.div_ceil(1000 * length),
            Shape::OneToOne | Shape::OneToTen | Shape::TenToTen | Shape::Queue => RING_BYTES.div_ceil(length),
        };
        let mut bytes = Vec::with_capacity(count * length);
        for message in 0..count {
            bytes.extend_from_slice(line(message).as_bytes());
            bytes.resize(bytes.len() + size, b'x');
            bytes.extend_from_slice(b"\r\n");
        }
        Self { bytes, length, next: 0 }
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The next frames, at most `limit` and at least one: their bytes and how many they are.
    pub(crate) fn take(&mut self, limit: usize) -> (&[u8], usize) {
        let total = self.bytes.len() / self.length;
        let from = self.next;
        let count = limit.clamp(1, total - from);
        self.next = (from + count) % total;
        let bytes = self.bytes.get(from * self.length..(from + count) * self.length).unwrap_or_default();
        (bytes, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_row_have_one_length_and_come_round() {
        for shape in SHAPES {
            for size in [16, 1024, 65_536] {
                let mut frames = Frames::published(shape, 0, size);
                let total = frames.bytes.len() / frames.length();
                assert_eq!(total * frames.length(), frames.bytes.len());
                let first = frames.take(1).0.to_vec();
                assert!(first.starts_with(format!("PUB {} {size}\r\nxx", shape.subject(0, 0)).as_bytes()));
                let mut taken = 1;
                while taken < total {
                    taken += frames.take(7).1;
                }
                assert_eq!((taken, frames.take(1).0), (total, &first[..]), "{shape:?} {size}");
            }
        }
        let mut rotating = Frames::published(Shape::Rotating, 0, 16);
        let _ = rotating.take(999);
        assert!(rotating.take(1).0.starts_with(b"PUB bench.flow.999 16\r\n"));
        assert!(rotating.take(1).0.starts_with(b"PUB bench.flow.000 16\r\n"));
    }
}
