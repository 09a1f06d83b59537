//! Which contents are much alike: by lines that they have in common.
//!
//! Of all lines' hashes the smallest few stand for a content (a bottom-k sketch: Broder, "On the resemblance and
//! containment of documents", 1997): two contents share about as large a part of these as of their lines.

use std::collections::HashMap;
use std::sync::Arc;

use crate::lines::lines;

/// How many lines stand for a content.
const LINES: usize = 12;

/// Lines that are shorter say nothing.
const SHORTEST_LINE: usize = 5;

/// Most bytes of contents that are kept to be leaned on.
const MOST_BYTES: usize = 128 << 20;

/// Contents that others may be like.
#[derive(Default)]
pub(crate) struct Likeness {
    contents: Vec<(usize, Arc<[u8]>)>,
    bytes: usize,
    /// Which content had the line last.
    lines: HashMap<u64, usize>,
}

impl Likeness {
    /// Adds a content under its number, unless there are too many.
    pub(crate) fn offer(&mut self, number: usize, content: &Arc<[u8]>) {
        if self.bytes + content.len() > MOST_BYTES {
            return;
        }
        self.bytes += content.len();
        for line in sketch(content) {
            self.lines.insert(line, self.contents.len());
        }
        self.contents.push((number, Arc::clone(content)));
    }

    /// The content that has most lines in common with this one, the last of those that have as many.
    pub(crate) fn of(&self, content: &[u8]) -> Option<(usize, &Arc<[u8]>)> {
        let mut found = [(usize::MAX, 0); LINES];
        for line in sketch(content) {
            let Some(&at) = self.lines.get(&line) else { continue };
            let place = found.iter_mut().find(|(it, _)| *it == at || *it == usize::MAX);
            if let Some((it, count)) = place {
                (*it, *count) = (at, *count + 1);
            }
        }
        let (at, count) = found.into_iter().max_by_key(|&(at, count)| (count, at))?;
        let (number, content) = self.contents.get(at).filter(|_| count > 0)?;
        Some((*number, content))
    }
}

/// The smallest hashes of a content's lines, each once.
fn sketch(content: &[u8]) -> Vec<u64> {
    let mut smallest: Vec<u64> = Vec::with_capacity(LINES + 1);
    for (hash, _) in lines(content).filter(|&(_, length)| length >= SHORTEST_LINE) {
        if smallest.len() == LINES && smallest.last().is_some_and(|&last| hash > last) {
            continue;
        }
        if let Err(place) = smallest.binary_search(&hash) {
            smallest.insert(place, hash);
            smallest.truncate(LINES);
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: u32, to: u32) -> Arc<[u8]> {
        let lines: Vec<_> = (from..to).map(|line| format!("option_{line} = {line}\n")).collect();
        lines.concat().into_bytes().into()
    }

    #[test]
    fn the_most_alike_is_found() {
        let mut likeness = Likeness::default();
        for (number, content) in [(3, lines(0, 100)), (5, lines(1000, 1100)), (8, lines(50, 150))] {
            likeness.offer(number, &content);
        }

        let found = |content: &[u8]| likeness.of(content).map(|(number, _)| number);
        assert_eq!(found(&lines(1001, 1105)), Some(5));
        assert_eq!(found(&lines(55, 160)), Some(8));
        assert_eq!(found(&lines(2000, 2100)), None);
        assert_eq!(found(b""), None);
    }

    #[test]
    fn what_is_too_much_is_not_kept() {
        let mut likeness = Likeness { bytes: MOST_BYTES - 10, ..Likeness::default() };

        likeness.offer(1, &lines(0, 10));

        assert!(likeness.contents.is_empty() && likeness.lines.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_a_sketch(content: Vec<u8>) {
            let sketch = sketch(&content);
            proptest::prop_assert!(sketch.len() <= LINES && sketch.is_sorted_by(|a, b| a < b));
        }
    }
}
