//! What is said to a repository's server, and what it says (`gitprotocol-pack`, version 0): pure.

use std::collections::BTreeMap;

use super::pack::ObjectId;
use super::packet::{Packet, Packets, flush, line};
use crate::error::{SourceError, excerpt};
use domain::configuration::secret::LARGEST;

/// Most references of a repository.
const MOST_REFERENCES: usize = 200_000;

/// References that are told where the wanted one is not there.
const TOLD: usize = 5;

/// Most commits at which a server may say that it sends no more.
const MOST_SHALLOW: usize = 100_000;

/// What a server says that it has, and can.
#[derive(Debug, Default)]
pub(crate) struct Advertisement {
    references: BTreeMap<String, Reference>,
    capabilities: Vec<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// What is fetched.
    pub(crate) target: ObjectId,
    /// What a tag leads to.
    pub(crate) peeled: Option<ObjectId>,
}

impl Reference {
    /// The commit, as far as the server says.
    pub(crate) fn commit(&self) -> ObjectId {
        self.peeled.unwrap_or(self.target)
    }
}

impl Advertisement {
    pub(crate) fn read(text: &[u8]) -> Result<Self, SourceError> {
        let mut packets = Packets(text);
        let mut found = Self::default();
        let (mut is_first, mut is_service) = (true, false);
        while let Some(packet) = packets.next()? {
            let Packet::Data(data) = packet else {
                // Over HTTP the service is named first, in a part of its own.
                if std::mem::take(&mut is_service) {
                    continue;
                }
                break;
            };
            let said = String::from_utf8_lossy(data);
            let said = said.trim_end_matches('\n');
            if let Some(error) = said.strip_prefix("ERR ") {
                return Err(SourceError::Refused { said: excerpt(error) });
            }
            if said.starts_with('#') {
                is_service = true;
                continue;
            }
            if said == "version 1" || said.starts_with("shallow ") {
                continue;
            }
            let (said, capabilities) = said.split_once('\0').unwrap_or((said, ""));
            if std::mem::take(&mut is_first) {
                found.capabilities = capabilities.split(' ').map(ToOwned::to_owned).collect();
                found.check()?;
            }
            found.add(said)?;
        }
        if is_first {
            return Err(SourceError::malformed("it lists no references"));
        }
        Ok(found)
    }

    /// Whether we understand what it would send.
    fn check(&self) -> Result<(), SourceError> {
        let format = self.capabilities.iter().find_map(|it| it.strip_prefix("object-format="));
        if let Some(format) = format.filter(|format| *format != "sha1") {
            let reason = format!("its objects are named by {format}, which is not read");
            return Err(SourceError::malformed(reason));
        }
        Ok(())
    }

    fn add(&mut self, said: &str) -> Result<(), SourceError> {
        let odd = || SourceError::malformed("a reference is none");
        let (digits, name) = said.split_once(' ').ok_or_else(odd)?;
        let id = ObjectId::from_hex(digits.as_bytes()).ok_or_else(odd)?;
        // A repository without any says so.
        if name == "capabilities^{}" {
            return Ok(());
        }
        if self.references.len() >= MOST_REFERENCES {
            return Err(SourceError::TooMany { most: MOST_REFERENCES, of: "references" });
        }
        if let Some(name) = name.strip_suffix("^{}") {
            if let Some(known) = self.references.get_mut(name) {
                known.peeled = Some(id);
            }
        } else {
            self.references.insert(name.to_owned(), Reference { target: id, peeled: None });
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &str) -> Result<Reference, SourceError> {
        self.references.get(name).copied().ok_or_else(|| {
            let known: Vec<_> = self.references.keys().take(TOLD).map(|it| excerpt(it)).collect();
            let known = match known.len() {
                0 => "; it is empty".to_owned(),
                _ => format!("; it has {}", known.join(", ")),
            };
            SourceError::NoReference { name: excerpt(name), known }
        })
    }

    fn can(&self, what: &str) -> bool {
        self.capabilities.iter().any(|it| it == what)
    }

    /// Asks for a reference with so many commits of its history, and for nothing that would not be looked into.
    pub(crate) fn request(&self, wanted: &Reference, depth: u32) -> Result<Vec<u8>, SourceError> {
        if !self.can("side-band-64k") || !self.can("shallow") {
            let reason = "its server can neither send parts nor leave history out";
            return Err(SourceError::malformed(reason));
        }
        let filters = self.can("filter");
        let mut text = Vec::new();
        let mut want = format!("want {} side-band-64k shallow", wanted.target);
        for capability in ["ofs-delta", "no-progress", "filter"] {
            if self.can(capability) {
                want.push(' ');
                want.push_str(capability);
            }
        }
        line(&format!("{want} agent=patchwright"), &mut text);
        line(&format!("deepen {depth}"), &mut text);
        if filters {
            // A filter leaves out what has as many bytes or more.
            line(&format!("filter blob:limit={}", LARGEST + 1), &mut text);
        }
        flush(&mut text);
        line("done", &mut text);
        Ok(text)
    }
}

/// What a server answers to a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Commits whose parents it did not send.
    pub(crate) shallow: Vec<ObjectId>,
    pub(crate) pack: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(text: &[u8]) -> Result<Self, SourceError> {
        let mut packets = Packets(text);
        let mut answer = Self::default();
        let mut is_pack = false;
        while let Some(packet) = packets.next()? {
            match packet {
                Packet::Flush if is_pack => break,
                Packet::Flush => {}
                Packet::Data(data) if is_pack => answer.take(data)?,
                Packet::Data(data) => {
                    let said = String::from_utf8_lossy(data);
                    let said = said.trim_end_matches('\n');
                    if said == "NAK" || said.starts_with("ACK ") {
                        is_pack = true;
                    } else if let Some(id) = said.strip_prefix("shallow ") {
                        let id = ObjectId::from_hex(id.as_bytes());
                        let odd = || SourceError::malformed("a commit's name is none");
                        answer.shallow.push(id.ok_or_else(odd)?);
                        if answer.shallow.len() > MOST_SHALLOW {
                            let of = "commits without their parents";
                            return Err(SourceError::TooMany { most: MOST_SHALLOW, of });
                        }
                    } else if let Some(error) = said.strip_prefix("ERR ") {
                        return Err(SourceError::Refused { said: excerpt(error) });
                    } else {
                        return Err(SourceError::malformed(said));
                    }
                }
            }
        }
        if answer.pack.is_empty() {
            return Err(SourceError::malformed("there is no pack in it"));
        }
        Ok(answer)
    }

    /// A part: of the pack, of what it says to people, or of an error.
    fn take(&mut self, data: &[u8]) -> Result<(), SourceError> {
        match data.split_first() {
            Some((1, part)) => self.pack.extend_from_slice(part),
            Some((2, _)) => {}
            Some((3, said)) => {
                let said = excerpt(&String::from_utf8_lossy(said));
                return Err(SourceError::Refused { said });
            }
            _ => return Err(SourceError::malformed("a part of the pack is of no kind")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "95d09f2b10159347eece71399a7e2e907ea3df4f";
    const TAG: &str = "1111111111111111111111111111111111111111";

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut text = Vec::new();
        for it in lines {
            match *it {
                "" => flush(&mut text),
                it => line(it, &mut text),
            }
        }
        text
    }

    fn advertised() -> Vec<u8> {
        packets(&[
            "# service=git-upload-pack",
            "",
            &format!("{ID} HEAD\0side-band-64k shallow ofs-delta filter object-format=sha1"),
            &format!("{ID} refs/heads/main"),
            &format!("{TAG} refs/tags/v1"),
            &format!("{ID} refs/tags/v1^{{}}"),
            "",
        ])
    }

    #[test]
    fn references_are_found_by_their_whole_names() {
        let read = Advertisement::read(&advertised()).unwrap();
        assert_eq!(read.find("HEAD").unwrap().commit().to_string(), ID);
        let tag = read.find("refs/tags/v1").unwrap();
        assert_eq!((tag.commit().to_string().as_str(), tag.target.to_string().as_str()), (ID, TAG));
        let missing = read.find("refs/heads/other").unwrap_err().to_string();
        assert!(missing.contains("refs/heads/main"), "{missing}");
        let request = read.request(&tag, 32).unwrap();
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains(&format!("want {TAG} ")) && request.contains("deepen 32\n"));
        assert!(request.contains("filter blob:limit=1048577\n"), "{request}");
        assert!(request.ends_with("00000009done\n"));
    }

    #[test]
    fn what_is_no_advertisement_is_refused() {
        for text in [
            packets(&[]),
            packets(&["ERR access denied"]),
            packets(&["<html>"]),
            packets(&[&format!("{ID} HEAD\0object-format=sha256"), ""]),
            packets(&[&format!("{} HEAD\0x", &ID[1..]), ""]),
            b"<!DOCTYPE html>".to_vec(),
        ] {
            assert!(Advertisement::read(&text).is_err(), "{}", String::from_utf8_lossy(&text));
        }
        let empty = packets(&[&format!("{} capabilities^{{}}\0x", "0".repeat(40)), ""]);
        let empty = Advertisement::read(&empty).unwrap().find("HEAD").unwrap_err();
        assert!(empty.to_string().ends_with("it is empty"), "{empty}");
    }

    #[test]
    fn a_pack_comes_in_parts_and_errors_are_told() {
        let mut text = packets(&[&format!("shallow {ID}"), "", "NAK"]);
        text.extend_from_slice(b"0009\x01PACK000c\x02working0006\x01!0000");
        let answer = Answer::read(&text).unwrap();
        assert_eq!((answer.pack.as_slice(), answer.shallow.len()), (&b"PACK!"[..], 1));
        let mut text = packets(&["NAK"]);
        text.extend_from_slice(b"000a\x03fatal");
        let error = Answer::read(&text).unwrap_err().to_string();
        assert!(error.ends_with("fatal"), "{error}");
        assert!(Answer::read(&packets(&["NAK", ""])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_said_makes_it_panic(text in proptest::collection::vec(0_u8.., 0..400)) {
            let _ = Advertisement::read(&text);
            let _ = Answer::read(&text);
            let mut with = advertised();
            with.truncate(text.len());
            with.extend_from_slice(&text);
            let _ = Advertisement::read(&with);
        }
    }
}
