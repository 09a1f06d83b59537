//! nginx: simple directives, `name value …;`, within blocks, `name value … { … }`.
//!
//! A block's name is part of a parameter's, and its arguments are the condition. What a directive takes over from a
//! block around it is not worked out: each is told where it stands.

use super::{Force, Parameters};

/// How deep blocks lie in each other.
const DEEPEST: usize = 32;

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

pub(super) fn read(path: &str, text: &str, program: &str, found: &mut Parameters) {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut began = 1;
    let mut tokens = Tokens { text, at: 0, line: 1 };
    loop {
        let token = match tokens.next() {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err(because) => {
                found.unknown(path, tokens.line, because);
                return;
            }
        };
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    began = tokens.line;
                }
                words.push(word);
            }
            Token::End => {
                if let Some((name, values)) = words.split_first() {
                    if name == "include" {
                        found.unknown(path, began, "files that it includes are not looked into");
                    } else {
                        directive(path, began, program, &blocks, name, &values.join(" "), found);
                    }
                }
                words.clear();
            }
            Token::Open => {
                let name = words.first().cloned().unwrap_or_default();
                if name.is_empty() || blocks.len() == DEEPEST {
                    found.unknown(path, tokens.line, "a block that is none, or too deep");
                    return;
                }
                if name.ends_with("_by_lua_block") {
                    found.unknown(
                        path,
                        began,
                        "what comes behind a program in the file is not read",
                    );
                    return;
                }
                blocks.push((name, words[1..].join(" ")));
                words.clear();
            }
            Token::Close => {
                if blocks.pop().is_none() || !words.is_empty() {
                    found.unknown(
                        path,
                        tokens.line,
                        "a block ends that did not begin, or a directive does not",
                    );
                    return;
                }
            }
        }
    }
    if !blocks.is_empty() || !words.is_empty() {
        found.unknown(path, tokens.line, "a block or a directive does not end");
    }
}

fn directive(
    path: &str,
    line: usize,
    program: &str,
    blocks: &[(String, String)],
    name: &str,
    value: &str,
    found: &mut Parameters,
) {
    let mut full = program.to_owned();
    let mut conditions = Vec::new();
    for (block, arguments) in blocks {
        full.push('.');
        full.push_str(block);
        if !arguments.is_empty() {
            conditions.push(format!("{block} {arguments}"));
        }
    }
    full.push('.');
    full.push_str(name);
    let condition = (!conditions.is_empty()).then(|| conditions.join(", "));
    found.push(path, line, full, value, condition, Force::InForce);
}

struct Tokens<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<Token>, &'static str> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'#' => {
                    let rest = &bytes[self.at..];
                    let end = rest.iter().position(|it| *it == b'\n').unwrap_or(rest.len());
                    self.at += end;
                }
                b';' => return Ok(Some(self.mark(Token::End))),
                b'{' => return Ok(Some(self.mark(Token::Open))),
                b'}' => return Ok(Some(self.mark(Token::Close))),
                b'"' | b'\'' => return self.quoted(byte).map(Some),
                _ => return Ok(Some(self.word())),
            }
        }
        Ok(None)
    }

    fn mark(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn quoted(&mut self, quote: u8) -> Result<Token, &'static str> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        while let Some(&byte) = bytes.get(at) {
            if byte == b'\\' {
                at += 1;
            } else if byte == quote {
                let word = self.text[start..at].to_owned();
                self.line += word.matches('\n').count();
                self.at = at + 1;
                return Ok(Token::Word(word));
            }
            at += 1;
        }
        Err("a value in quotes does not end")
    }

    /// To a blank, `;` or `{`; `${name}` is part of it.
    fn word(&mut self) -> Token {
        let bytes = self.text.as_bytes();
        let start = self.at;
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 1,
                b'{' if bytes[start..self.at].ends_with(b"$") => {
                    let rest = &bytes[self.at..];
                    let end = rest.iter().position(|it| matches!(it, b'}' | b'\n' | b' '));
                    self.at += end.unwrap_or(rest.len());
                    if bytes.get(self.at) != Some(&b'}') {
                        continue;
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' => break,
                _ => {}
            }
            self.at += 1;
        }
        // A backslash may have led beyond the end, or into a letter of several bytes.
        self.at = self.at.min(bytes.len());
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        Token::Word(self.text[start..self.at].to_owned())
    }
}
