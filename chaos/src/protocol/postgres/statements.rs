//! Names that a client gave to statements and portals, and the text behind them. Bounded: the oldest is forgotten first.

use std::collections::BTreeMap;
use std::sync::Arc;

/// So much of a statement's text is kept, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Names that are longer are not kept.
const NAME_BYTES_MAX: usize = 256;
const NAMES_MAX: usize = 1024;
const BYTES_MAX: usize = 256 * 1024;

pub(super) type Text = Arc<[u8]>;

#[derive(Debug)]
struct Named {
    since: u64,
    text: Option<Text>,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    all: BTreeMap<Box<[u8]>, Named>,
    bytes: usize,
    clock: u64,
}

fn cost(name: &[u8], text: Option<&Text>) -> usize {
    name.len() + text.map_or(0, |text| text.len())
}

impl Names {
    /// The text behind a name; `None` when the name or its text is not known.
    pub fn text(&self, name: &[u8]) -> Option<Text> {
        self.all.get(name)?.text.clone()
    }

    pub fn insert(&mut self, name: &[u8], text: Option<Text>) {
        self.remove(name);
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        self.bytes += cost(name, text.as_ref());
        self.clock += 1;
        self.all.insert(name.into(), Named { since: self.clock, text });
        while self.bytes > BYTES_MAX || self.all.len() > NAMES_MAX {
            let oldest = self.all.iter().min_by_key(|(_, named)| named.since).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        if let Some((name, named)) = self.all.remove_entry(name) {
            self.bytes -= cost(&name, named.text.as_ref());
        }
    }

    pub fn clear(&mut self) {
        self.all.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_name_is_forgotten_when_there_are_too_many() {
        let mut names = Names::default();
        for index in 0..=NAMES_MAX {
            names.insert(format!("s{index}").as_bytes(), Some(Arc::from(b"SELECT 1".as_slice())));
        }
        assert_eq!(names.text(b"s0"), None);
        assert_eq!(names.text(b"s1").as_deref(), Some(b"SELECT 1".as_slice()));
    }

    #[test]
    fn the_texts_together_are_bounded() {
        let mut names = Names::default();
        for index in 0..500 {
            names.insert(format!("s{index}").as_bytes(), Some(Arc::from(vec![b'x'; TEXT_BYTES_MAX])));
            names.insert(b"", Some(Arc::from(vec![b'y'; TEXT_BYTES_MAX])));
        }
        assert!(names.bytes <= BYTES_MAX, "{}", names.bytes);
        assert!(names.text(b"").is_some());
        names.clear();
        assert_eq!(names.bytes, 0);
    }
}
