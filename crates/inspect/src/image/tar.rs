//! Tar archives as a stream (POSIX.1-2001 pax and GNU), with a limit on everything.

use std::io::{self, Read};

const BLOCK: usize = 512;

/// Longest name or link target given in an extension.
const MAX_NAME: u64 = 64 * 1024;
/// Longest pax extension (it may carry file attributes besides).
const MAX_EXTENSION: u64 = 1 << 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Another name of a member that came before.
    HardLink,
    /// A device, a pipe, a sparse file, or something unknown.
    Other,
}

/// One member; its content, if any, is read from the archive next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Path as written.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: MemberKind,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Where the content begins in the archive.
    pub(crate) offset: u64,
}

/// Something read forward that can leave bytes out.
pub(crate) trait Forward: Read + Sized {
    /// Leaves out `count` bytes.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Forward for &[u8] {}

/// Reads members one after the other.
#[derive(Debug)]
pub(crate) struct Members<R> {
    archive: R,
    position: u64,
    /// Where the next header is.
    next: u64,
}

/// Names and sizes from extensions, for the next member.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Forward> Members<R> {
    /// Reads an archive from its beginning.
    pub(crate) fn new(archive: R) -> Self {
        Self { archive, position: 0, next: 0 }
    }

    /// The next member, `None` at the end of the archive.
    ///
    /// # Errors
    /// `InvalidData` where the archive breaks its format's rules.
    #[allow(clippy::should_implement_trait)] // An iterator could not lend the content.
    pub(crate) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.archive.skip(self.next - self.position)?;
            self.position = self.next;
            let Some(header) = self.header()? else { return Ok(None) };
            let stated = number(&header[124..136])?;
            let kind = header[156];
            let size = match kind {
                b'L' | b'K' | b'x' | b'g' => stated,
                _ => extensions.size.unwrap_or(stated),
            };
            if kind == b'S' {
                self.sparse_map(&header)?;
            }
            let padded = size.checked_next_multiple_of(BLOCK as u64);
            self.next = padded
                .and_then(|padded| self.position.checked_add(padded))
                .ok_or_else(|| damaged(&format!("a member of {size} bytes")))?;
            match kind {
                b'L' => extensions.path = Some(self.name(size)?),
                b'K' => extensions.link = Some(self.name(size)?),
                b'x' => self.pax(size, &mut extensions)?,
                // Defaults for all members: they name none.
                b'g' => {}
                _ => return Ok(Some(self.member(&header, kind, size, extensions))),
            }
        }
    }

    /// The content of the member returned last, or what is left of it.
    pub(crate) fn content(&mut self) -> impl Read + '_ {
        Content { members: self }
    }

    /// Gives the archive back, to read what follows its end.
    pub(crate) fn into_inner(self) -> R {
        self.archive
    }

    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut header = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.archive.read(&mut header[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        self.position += BLOCK as u64;
        if header == [0; BLOCK] {
            return Ok(None);
        }
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, &byte)| u64::from(if (148..156).contains(&at) { b' ' } else { byte }))
            .sum();
        if number(&header[148..156])? == sum {
            Ok(Some(header))
        } else {
            Err(damaged("the checksum of a header is wrong"))
        }
    }

    fn member(&self, header: &[u8; BLOCK], kind: u8, size: u64, extensions: Extensions) -> Member {
        let kind = match kind {
            0 | b'0' | b'7' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Link,
            b'5' => MemberKind::Directory,
            _ => MemberKind::Other,
        };
        let path = extensions.path.unwrap_or_else(|| {
            let name = text(&header[..100]);
            // POSIX puts the front of a long name here; GNU uses the room for times.
            let prefix =
                if &header[257..263] == b"ustar\0" { text(&header[345..500]) } else { &[] };
            if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
        });
        let link = extensions.link.unwrap_or_else(|| text(&header[157..257]).to_vec());
        Member { path, kind, link, size, offset: self.position }
    }

    fn extension(&mut self, size: u64, limit: u64) -> io::Result<Vec<u8>> {
        if size > limit {
            return Err(damaged(&format!("an extension of {size} bytes")));
        }
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    fn name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        self.extension(size, MAX_NAME).map(|name| text(&name).to_vec())
    }

    /// Records of `length key=value\n`; the length counts itself.
    fn pax(&mut self, size: u64, extensions: &mut Extensions) -> io::Result<()> {
        let bytes = self.extension(size, MAX_EXTENSION)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (record, after) =
                pax_record(rest).ok_or_else(|| damaged("a pax record is damaged"))?;
            rest = after;
            let Some(equals) = record.iter().position(|&byte| byte == b'=') else { continue };
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => extensions.path = Some(value.to_vec()),
                b"linkpath" => extensions.link = Some(value.to_vec()),
                b"size" => extensions.size = Some(decimal(value)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Old GNU sparse files: more of the map follows the header, in blocks of its own.
    fn sparse_map(&mut self, header: &[u8; BLOCK]) -> io::Result<()> {
        let mut more = header[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            self.archive.read_exact(&mut block)?;
            self.position += BLOCK as u64;
            more = block[504] != 0;
        }
        Ok(())
    }
}

/// The rest of a member's content with its padding.
struct Content<'a, R> {
    members: &'a mut Members<R>,
}

impl<R: Forward> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.members.next - self.members.position;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.members.archive.read(&mut buffer[..length])?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.members.position += count as u64;
        Ok(count)
    }
}

fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space]).ok()?).ok()?;
    let record = bytes.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &bytes[length..]))
}

fn decimal(digits: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| damaged("a number is damaged"))
}

/// Octal digits, or since GNU tar 1.13 a big-endian number behind a set top bit.
fn number(field: &[u8]) -> io::Result<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        if high.iter().any(|&byte| byte != 0) {
            return Err(damaged("a number is beyond 64 bits"));
        }
        return Ok(low.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)));
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(end);
    if after.first().is_some_and(|&byte| byte != b' ' && byte != 0) {
        return Err(damaged("a number is damaged"));
    }
    // At most 12 digits of 3 bits.
    Ok(digits.iter().fold(0, |number, &digit| number << 3 | u64::from(digit - b'0')))
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the tar archive is damaged: {what}"))
}
