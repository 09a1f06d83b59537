//! Control-file paragraphs (`deb822(5)`, Debian Policy 5.1), without copying.
//!
//! dpkg's status file, package indices, release files and deb822 apt sources share this syntax.
//! The reader is lenient where dpkg and apt are: unknown lines are skipped, never fatal, because
//! a hostile or damaged stanza must not hide its neighbours.

/// One `Name: value` of a paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Field name as written; compare without regard to case.
    pub name: &'a str,
    /// Value with its continuation lines, outer white space removed.
    pub value: &'a str,
}

/// One paragraph: the text between blank lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paragraph<'a> {
    text: &'a str,
}

impl<'a> Paragraph<'a> {
    /// The fields in the order written.
    pub fn fields(self) -> Fields<'a> {
        Fields { rest: self.text }
    }

    /// The first field of this name, compared without regard to case.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// Splits a text into paragraphs at blank lines (lines of white space only count as blank).
pub fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { rest: text }
}

/// Iterator of [`paragraphs`].
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Paragraph<'a>;

    fn next(&mut self) -> Option<Paragraph<'a>> {
        let mut rest = self.rest;
        loop {
            let (line, after) = split_line(rest);
            if !is_blank(line) {
                break;
            }
            if after.is_empty() {
                self.rest = "";
                return None;
            }
            rest = after;
        }
        let start = rest;
        let mut length = 0;
        while !rest.is_empty() {
            let (line, after) = split_line(rest);
            if is_blank(line) {
                break;
            }
            length += rest.len() - after.len();
            rest = after;
        }
        self.rest = rest;
        Some(Paragraph { text: &start[..length] })
    }
}

/// Iterator of [`Paragraph::fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while !self.rest.is_empty() {
            let (line, mut after) = split_line(self.rest);
            let value_end_of = |after: &str| self.rest.len() - after.len();
            let name_end = line.find(':');
            // Continuation lines start with white space; a line may also be a `#` comment.
            let mut end = value_end_of(after);
            while after.starts_with([' ', '\t']) {
                let (_, next) = split_line(after);
                end = value_end_of(next);
                after = next;
            }
            let whole = &self.rest[..end];
            self.rest = after;
            if line.starts_with(['#', ' ', '\t']) {
                continue;
            }
            if let Some(colon) = name_end {
                return Some(Field {
                    name: line[..colon].trim_end(),
                    value: whole[colon + 1..].trim(),
                });
            }
        }
        None
    }
}

fn split_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_fields_are_split() {
        let text = "\n# note\nPackage: a\nDescription: one\n two\n .\n three\n\n \t\nPackage: b\n";

        let all: Vec<Paragraph<'_>> = paragraphs(text).collect();

        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("package"), Some("a"));
        assert_eq!(all[0].get("Description"), Some("one\n two\n .\n three"));
        assert_eq!(all[1].get("PACKAGE"), Some("b"));
    }

    #[test]
    fn damaged_lines_hide_nothing() {
        let text = " stray continuation\nno colon here\nPackage: a\n";

        let fields: Vec<Field<'_>> = paragraphs(text).next().unwrap().fields().collect();

        assert_eq!(fields, [Field { name: "Package", value: "a" }]);
    }
}
