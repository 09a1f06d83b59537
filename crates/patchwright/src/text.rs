//! Text for people: what comes from foreign bytes is made harmless, columns are aligned.

use unicode_width::UnicodeWidthStr;

/// Foreign text on one line: control characters (escape sequences, newlines, bidirectional
/// overrides) become visible replacements, so that an advisory or a host name can neither drive
/// the terminal nor forge a line (requirements.md, T13).
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || reorders { char::REPLACEMENT_CHARACTER } else { character }
        })
        .collect()
}

/// Text padded with spaces to a display width; longer text is cut with an ellipsis.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let taken = text.width();
    if taken <= width {
        return format!("{text}{}", " ".repeat(width - taken));
    }
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        let next = unicode_width::UnicodeWidthChar::width(character).unwrap_or(0);
        if used + next + 1 > width {
            break;
        }
        cut.push(character);
        used += next;
    }
    format!("{cut}…{}", " ".repeat(width.saturating_sub(used + 1)))
}

/// `1 package`, `2 packages`.
pub(crate) fn count(number: usize, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn columns_keep_their_width() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("日本語", 5), "日本…");
    }
}
