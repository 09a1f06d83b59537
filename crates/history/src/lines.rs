//! Lines of contents, by their hashes.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

/// Hash and length of each line, its end included. Who makes two lines of one hash has larger deltas, and no more.
pub(crate) fn lines(content: &[u8]) -> impl Iterator<Item = (u64, usize)> + '_ {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', content).map(|end| end + 1);
    let rest = content.last().is_some_and(|&last| last != b'\n').then_some(content.len());
    ends.chain(rest).map(move |end| {
        let line = &content[start..end];
        start = end;
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(line);
        (hasher.finish(), line.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lines_are_all_of_a_content(content in "[ab\n]{0,40}") {
            let lengths: Vec<usize> = lines(content.as_bytes()).map(|(_, length)| length).collect();
            let expected: Vec<usize> = content.split_inclusive('\n').map(str::len).collect();
            proptest::prop_assert_eq!(lengths, expected);
        }
    }
}
