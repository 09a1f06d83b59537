//! Since when each line of a file is there.
//!
//! ```
//! use domain::configuration::blame::blame;
//!
//! let versions = ["Port 22\n", "Port 22\nUsePAM yes\n", "Port 2222\nUsePAM yes\n"];
//! assert_eq!(blame(&versions).unwrap(), [2, 1]);
//! ```

use super::diff::{Line, TooLarge, diff};

/// Of each line of the last version, the first version from which on it was there, counted from 0. The oldest comes
/// first.
///
/// # Errors
/// If a version is too large to be compared.
pub fn blame<T: AsRef<str>>(versions: &[T]) -> Result<Vec<usize>, TooLarge> {
    let mut since: Vec<usize> = Vec::new();
    let mut before = "";
    for (number, version) in versions.iter().enumerate() {
        let after = version.as_ref();
        let mut next = Vec::with_capacity(since.len());
        let mut at = 0;
        for hunk in diff(before, after)?.hunks {
            next.extend_from_slice(&since[at..hunk.before.start]);
            at = hunk.before.start;
            for line in hunk.lines {
                match line {
                    Line::Same { .. } => {
                        next.push(since[at]);
                        at += 1;
                    }
                    Line::Removed { .. } => at += 1,
                    Line::Added { .. } => next.push(number),
                }
            }
        }
        next.extend_from_slice(&since[at..]);
        (since, before) = (next, after);
    }
    Ok(since)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_that_comes_again_is_new() {
        assert_eq!(blame(&["a\nb\n", "a\n", "a\nb\n"]).unwrap(), [0, 2]);
        assert_eq!(blame(&["a\n", "", "a\n"]).unwrap(), [2]);
        assert_eq!(blame(&["a", "a\nb"]).unwrap().len(), 2);
        assert!(blame::<&str>(&[]).unwrap().is_empty());
    }

    proptest! {
        /// Each line of the last version has one, and it was in all versions from there on.
        #[test]
        fn lines_were_there_from_then_on(
            versions in prop::collection::vec(prop::collection::vec("[abc]", 0..8), 1..8),
        ) {
            let texts: Vec<String> = versions
                .iter()
                .map(|lines| lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect())
                .collect();
            let since = blame(&texts).unwrap();
            let last = versions.last().unwrap();
            prop_assert_eq!(since.len(), last.len());
            for (line, first) in last.iter().zip(since) {
                prop_assert!(versions[first..].iter().all(|version| version.contains(line)));
            }
        }
    }
}
