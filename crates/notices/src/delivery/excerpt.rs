//! What the other side said, as it may be recorded.

use crate::content::Line;

/// Longest excerpt, in characters.
const LONGEST: usize = 160;

/// One harmless line, cut; empty if nothing visible was said.
pub(super) fn excerpt(said: &str) -> String {
    let line = Line::fit(said).map(|line| line.to_string()).unwrap_or_default();
    if line.chars().nth(LONGEST).is_none() {
        return line;
    }
    let cut: String = line.chars().take(LONGEST - 1).collect();
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_and_on_one_line() {
        assert_eq!(excerpt("no\r\nX: y\u{1b}[31m"), "no X: y\u{fffd}[31m");
        assert_eq!(excerpt("\u{7}"), "");
        assert_eq!(excerpt(&"ä".repeat(1000)).chars().count(), LONGEST);
        assert_eq!(excerpt(&"ä".repeat(LONGEST)), "ä".repeat(LONGEST));
    }
}
