//! Choices from a list of numbers, so that whatever is made of them shrinks when the list does.
//!
//! Promises: the same numbers make the same choices; a number that is not there is 0, and 0 is always the simplest choice.

/// Numbers that are read one after another.
pub struct Tape<'a> {
    words: &'a [u32],
    at: usize,
}

impl<'a> Tape<'a> {
    pub fn new(words: &'a [u32]) -> Self {
        Self { words, at: 0 }
    }

    /// A number below `n`; 0 when `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        let word = self.words.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        usize::try_from((u64::from(word) * n as u64) >> 32).expect("below a usize")
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// One of these.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}
