//! What a store says: pages of lists, errors, ranges. All of it is foreign.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// Deepest element that is read; a list has four levels.
const DEEPEST: usize = 8;

/// A page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) keys: Vec<String>,
    /// Where the next one begins, if there is one.
    pub(crate) next: Option<String>,
}

/// A page as `ListObjectsV2` answers it.
pub(crate) fn page(text: &str) -> Option<Page> {
    let (mut page, mut is_truncated, mut token, mut is_list) =
        (Page::default(), false, None, false);
    elements(text, |path, text| match path {
        [list, contents, key] if list == "ListBucketResult" && contents == "Contents" => {
            if key == "Key" {
                page.keys.push(decoded(&text)?);
            }
            Some(())
        }
        [list, name] if list == "ListBucketResult" => {
            match name.as_str() {
                "IsTruncated" => is_truncated = text.trim() == "true",
                "NextContinuationToken" => token = Some(text),
                _ => {}
            }
            Some(())
        }
        [name] => {
            is_list = name == "ListBucketResult";
            Some(())
        }
        _ => Some(()),
    })?;
    // One that goes on nowhere would be a list that ends early, silently.
    page.next = match (is_truncated, token.filter(|token| !token.is_empty())) {
        (true, Some(token)) => Some(token),
        (true, None) => return None,
        (false, _) => None,
    };
    is_list.then_some(page)
}

/// The name of what went wrong, where an answer says one.
pub(crate) fn code(text: &str) -> Option<String> {
    let mut code = None;
    elements(text, |path, text| {
        if let [error, name] = path
            && error == "Error"
            && name == "Code"
        {
            code = Some(text.trim().to_owned());
        }
        Some(())
    });
    code.filter(|code| {
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Tells each element where it ends: the names of it and of those around it, and its own text.
fn elements(text: &str, mut tell: impl FnMut(&[String], String) -> Option<()>) -> Option<()> {
    let mut reader = Reader::from_str(text);
    let (mut path, mut texts): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                if path.len() == DEEPEST {
                    return None;
                }
                path.push(String::from_utf8(start.local_name().as_ref().to_vec()).ok()?);
                texts.push(String::new());
            }
            Event::Empty(_) | Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            // Entities of its own are nothing that a store writes.
            Event::DocType(_) => return None,
            Event::Text(text) => {
                if let Some(own) = texts.last_mut() {
                    *own += &text.xml10_content().ok()?;
                }
            }
            Event::CData(text) => *texts.last_mut()? += &text.decode().ok()?,
            Event::GeneralRef(reference) => *texts.last_mut()? += &referred(&reference)?,
            Event::End(_) => {
                tell(&path, texts.pop()?)?;
                path.pop()?;
            }
            Event::Eof => return path.is_empty().then_some(()),
        }
    }
}

/// A character by its number, or one of the five that XML knows by name.
fn referred(reference: &BytesRef<'_>) -> Option<String> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character.to_string());
    }
    quick_xml::escape::resolve_predefined_entity(&reference.decode().ok()?).map(str::to_owned)
}

/// A key as `encoding-type=url` writes it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// First and last byte of `bytes FIRST-LAST/TOTAL`.
pub(crate) fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, _) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_read() {
        let text = r#"<?xml version="1.0"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>bucket</Name><Prefix/><IsTruncated>true</IsTruncated>
              <Contents><Key>a%2Fb</Key><Size>3</Size><Owner><ID>x</ID></Owner></Contents>
              <NextContinuationToken>1&amp;2&#x2B;</NextContinuationToken>
              <Contents><Key>a/c</Key></Contents>
            </ListBucketResult>"#;
        let page = page(text).unwrap();
        assert_eq!(page.keys, ["a/b", "a/c"]);
        assert_eq!(page.next.as_deref(), Some("1&2+"));
    }

    #[test]
    fn what_is_no_page_is_none() {
        let deep = "<a>".repeat(100_000);
        for text in [
            "",
            "<html></html>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key></Contents>",
            "<ListBucketResult><Contents><Key>%f</Key></Contents></ListBucketResult>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult></ListBucketResult>",
            "<ListBucketResult><Contents><Key>&a;</Key></Contents></ListBucketResult>",
            &deep,
        ] {
            assert_eq!(page(text), None, "{}", text.get(..80).unwrap_or(text));
        }
    }

    #[test]
    fn only_names_are_taken_from_errors() {
        let error = |code| format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        assert_eq!(code(&error("NoSuchBucket")).as_deref(), Some("NoSuchBucket"));
        assert_eq!(code(&error("a\u{1b}[2J")), None);
        assert_eq!(code("not XML <"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_hurts(text in ".{0,300}", tags in "[</>a&;#x!\\[\\]?\" -]{0,200}") {
            for text in [&text, &tags] {
                page(text);
                code(text);
                content_range(text);
                decoded(text);
            }
        }
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 3-9/10"), Some((3, 9)));
        assert_eq!(content_range("bytes 3-9/*"), Some((3, 9)));
        for text in ["", "bytes */10", "bytes 9-3/10", "items 3-9/10", "bytes 3-/10"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
