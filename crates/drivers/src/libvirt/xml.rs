//! XML as libvirt speaks it: a small tree, bounded in depth and number.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

const DEEPEST: usize = 48;
const MOST_ELEMENTS: usize = 20_000;

/// An element with what is inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// As it is written, with its prefix.
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    text: String,
}

impl Element {
    /// Reads a document with one root.
    pub(super) fn parse(document: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(document);
        // The document itself stands below all of it.
        let mut open = vec![Self::default()];
        let mut count = 0;
        loop {
            let event = reader.read_event().map_err(|error| error.to_string())?;
            if let Event::Start(_) | Event::Empty(_) = event {
                count += 1;
                if count > MOST_ELEMENTS || open.len() > DEEPEST {
                    return Err("it has too many elements".to_owned());
                }
            }
            let current = open.last_mut().ok_or("it closes what was not open")?;
            match event {
                Event::Start(start) => open.push(Self::begun(&start)?),
                Event::Empty(start) => current.children.push(Self::begun(&start)?),
                Event::Text(text) => {
                    current.text += &text.xml10_content().map_err(|error| error.to_string())?;
                }
                Event::CData(text) => {
                    current.text += &text.decode().map_err(|error| error.to_string())?;
                }
                Event::GeneralRef(reference) => current.text += &referred(&reference)?,
                Event::End(_) => {
                    let closed = open.pop().ok_or("it closes what was not open")?;
                    let parent = open.last_mut().ok_or("it closes what was not open")?;
                    parent.children.push(closed);
                }
                // An entity of its own is nothing that libvirt writes.
                Event::DocType(_) => return Err("it declares a document type".to_owned()),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        match (open.pop(), open.is_empty()) {
            (Some(mut document), true) if document.children.len() == 1 => {
                Ok(document.children.remove(0))
            }
            _ => Err("it ends in the middle".to_owned()),
        }
    }

    fn begun(start: &BytesStart<'_>) -> Result<Self, String> {
        let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string());
        let mut element = Self { name: utf8(start.name().as_ref())?, ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| error.to_string())?;
            element.attributes.push((utf8(attribute.key.as_ref())?, value.into_owned()));
        }
        Ok(element)
    }

    /// The first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.all(name).next()
    }

    /// All children of a name.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// An attribute's value.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What stands between its tags, without space around it.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// Whether an element of the document has this.
    pub(super) fn any(&self, has: &mut dyn FnMut(&Self) -> bool) -> bool {
        has(self) || self.children.iter().any(|child| child.any(has))
    }
}

/// A character by its number, or one of the five that XML knows by name.
fn referred(reference: &quick_xml::events::BytesRef<'_>) -> Result<Cow<'static, str>, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character.to_string().into());
    }
    let name = reference.decode().map_err(|error| error.to_string())?;
    let known = quick_xml::escape::resolve_predefined_entity(&name);
    known.map(Cow::Borrowed).ok_or_else(|| format!("it refers to an unknown `{name}`"))
}

/// Text between tags and in attributes (XML 1.0 §2.4).
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_document_is_found() {
        let document = "<?xml version='1.0'?><!-- no --><domain type='qemu'><name>a &amp; &#98;</name>\
                        <m:x xmlns:m='urn:x'/><source file='/a&apos;b'/></domain>";
        let domain = Element::parse(document).unwrap();

        assert_eq!(domain.attribute("type"), Some("qemu"));
        assert_eq!(domain.child("name").unwrap().text(), "a & b");
        assert_eq!(domain.child("source").unwrap().attribute("file"), Some("/a'b"));
        assert_eq!(domain.child("m:x").unwrap().attribute("xmlns:m"), Some("urn:x"));
        assert!(domain.any(&mut |element| element.name == "source"));
        assert!(domain.child("nothing").is_none());
    }

    #[test]
    fn what_is_torn_deep_endless_or_has_entities_is_refused() {
        let deep = "<a>".repeat(100_000);
        let wide = format!("<a>{}</a>", "<b/>".repeat(MOST_ELEMENTS));
        let entities = "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>";
        for document in
            ["", "<a", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a>&x;</a>", entities, &deep, &wide]
        {
            let start: String = document.chars().take(40).collect();
            assert!(Element::parse(document).is_err(), "{start}");
        }
    }
}
