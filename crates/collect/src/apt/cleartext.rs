//! The cleartext signature framework (RFC 9580 §7), as far as archives use it.
//!
//! The frame is read here and not by the `OpenPGP` library: whatever the network sends passes
//! through it before any signature is checked, so it must cost no more than one pass. (The
//! library looks for the end of the text anew in all of it after each line; 256 kB of empty lines
//! cost it half a minute.) It is also strict, as apt is: one message and nothing around it.

/// A signed text and its signature, not verified yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    /// The text that was signed: dashes unescaped, trailing blanks removed, plain newlines, none
    /// after the last line.
    pub(super) text: String,
    /// The armored signature block.
    pub(super) signature: &'a str,
}

const MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// Takes one clear-signed message apart; the reason where the file is anything else.
pub(super) fn unframe(file: &str) -> Result<Framed<'_>, &'static str> {
    let mut rest = file;
    if next_line(&mut rest) != Some(MESSAGE) {
        return Err("it does not begin as a signed message");
    }
    loop {
        match next_line(&mut rest) {
            Some("") => break,
            // Anything else could be mistaken for a part of the text.
            Some(line) if line.starts_with("Hash: ") => {}
            _ => return Err("it has a header other than `Hash`"),
        }
    }
    let mut text = String::with_capacity(rest.len());
    let signature = loop {
        let before = rest;
        let line = next_line(&mut rest).ok_or("its signature is missing")?;
        if line == SIGNATURE {
            break before;
        }
        let line = match line.strip_prefix('-') {
            None => line,
            Some(dashed) => dashed.strip_prefix(' ').ok_or("a dash in its text is not escaped")?,
        };
        if line.contains('\r') {
            return Err("it has a carriage return in the middle of a line");
        }
        text.push_str(line.trim_end_matches([' ', '\t']));
        text.push('\n');
    };
    text.pop();
    while next_line(&mut rest).ok_or("its signature does not end")? != END {}
    if !rest.trim_ascii().is_empty() {
        return Err("something follows its signature");
    }
    let signature = &signature[..signature.len() - rest.len()];
    Ok(Framed { text, signature })
}

/// The next line without its end; `None` at the end of the file.
fn next_line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    if rest.is_empty() {
        return None;
    }
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    *rest = after;
    Some(line.strip_suffix('\r').unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN PGP SIGNATURE-----\n\niHUE\n-----END PGP SIGNATURE-----\n";

    fn file(headers: &str, text: &str) -> String {
        format!("{MESSAGE}\n{headers}\n{text}{BLOCK}")
    }

    #[test]
    fn a_message_is_taken_apart() {
        let file = file("Hash: SHA256\n", "Origin: A \t\n- - dashed\n\nlast\n");

        let framed = unframe(&file).unwrap();

        assert_eq!(framed.text, "Origin: A\n- dashed\n\nlast");
        assert_eq!(framed.signature, BLOCK);
    }

    #[test]
    fn line_ends_of_the_network_make_no_difference() {
        let plain = file("Hash: SHA256\n", "Origin: A\nlast\n");
        let network = plain.replace('\n', "\r\n");

        assert_eq!(unframe(&network).unwrap().text, unframe(&plain).unwrap().text);
    }

    #[test]
    fn an_empty_text_is_a_text() {
        assert_eq!(unframe(&file("", "")).unwrap().text, "");
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let good = file("Hash: SHA256\n", "Origin: A\n");
        for (bad, reason) in [
            (String::new(), "it does not begin as a signed message"),
            (format!("\n{good}"), "it does not begin as a signed message"),
            (file("Comment: x\n", "a\n"), "it has a header other than `Hash`"),
            (file(" Hash: SHA256\n", "a\n"), "it has a header other than `Hash`"),
            (file("", "-escape\n"), "a dash in its text is not escaped"),
            (file("", &format!("{MESSAGE}\n")), "a dash in its text is not escaped"),
            (file("", "a\rb\n"), "it has a carriage return in the middle of a line"),
            (format!("{MESSAGE}\n\ntext\n"), "its signature is missing"),
            (good.replace(END, ""), "its signature does not end"),
            (format!("{good}Origin: B\n"), "something follows its signature"),
            (format!("{good}{good}"), "something follows its signature"),
        ] {
            assert_eq!(unframe(&bad).unwrap_err(), reason, "{bad:?}");
        }
    }

    proptest::proptest! {
        /// Whatever the text, framing it as gpg does and taking it apart gives it back.
        #[test]
        fn framing_is_undone(lines in proptest::collection::vec("-? ?[!-~]{0,6}( [!-~]+)?", 0..20)) {
            let escaped: String = lines
                .iter()
                .map(|line| match line.strip_prefix('-') {
                    Some(_) => format!("- {line}\n"),
                    None => format!("{line}\n"),
                })
                .collect();
            let trimmed: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();

            let file = file("Hash: SHA512\n", &escaped);
            let framed = unframe(&file).unwrap();

            proptest::prop_assert_eq!(framed.text, trimmed.join("\n"));
        }
    }
}
