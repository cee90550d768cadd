//! Mutations of inputs: the same seed gives the same inputs.

/// The longest input that is made.
pub const BYTES_MAX: usize = 4096;

/// A source of mutations.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A source whose mutations follow from `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    /// One of the corpus, changed a few times; `words` mean something to the target.
    pub fn input(&mut self, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut bytes = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, corpus, words);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below(bytes.len() + 1 - at).min(64);
        match self.below(11) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(if self.below(2) == 0 { 1 } else { 255 })
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => bytes.insert(at, self.next() as u8),
            6 => {
                let other = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                let piece = &other[from..from + self.below(other.len() + 1 - from).min(256)];
                bytes.splice(at..end, piece.iter().copied());
            }
            7 => self.number(bytes, at),
            8 => {
                let edge = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                let width = [1, 2, 4, 8][self.below(4)];
                let end = bytes.len().min(at + width);
                bytes[at..end].fill(edge);
            }
            _ => {
                let word = words.get(self.below(words.len())).copied().unwrap_or("0");
                let end = if self.below(2) == 0 { at } else { end };
                bytes.splice(at..end, word.bytes());
            }
        }
    }

    /// The number in decimal digits at or behind `at` becomes another.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else {
            return;
        };
        let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let edges = [0, 1, 2, 10, 255, 4096, 65_536, 1 << 31, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];
        let value = match self.below(4) {
            0 => self.next() % 100,
            1 => self.next() % 10_000,
            _ => edges[self.below(edges.len())].wrapping_sub(self.next() % 2),
        };
        bytes.splice(start..start + digits, value.to_string().bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_input() {
        let corpus = [b"PUB a 5\r\nhello\r\n".to_vec(), Vec::new(), vec![7; 300]];
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..1000).map(|_| mutator.input(&corpus, &["SUB"])).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let mut different = inputs(1);
        different.sort();
        different.dedup();
        assert!(different.len() > 500, "{} different inputs of 1000", different.len());
        assert!(inputs(3).iter().all(|input| input.len() <= BYTES_MAX));
    }
}
