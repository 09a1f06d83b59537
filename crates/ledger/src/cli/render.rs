//! Results for people and for programs.

use jiff::Timestamp;
use serde_json::json;

use crate::Envelope;
use crate::checkpoint::TrustedCheckpoint;
use crate::verify::Verified;

/// Foreign text on one line: what could drive a terminal or reorder a line becomes visible.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            let reorders = matches!(
                character,
                '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}' | '\u{2029}'
                    | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            );
            if character.is_control() || reorders { char::REPLACEMENT_CHARACTER } else { character }
        })
        .collect()
}

/// `label     value` lines below a heading.
struct Lines(String);

impl Lines {
    fn new(heading: &str) -> Self {
        Self(plain(heading))
    }

    fn line(&mut self, label: &str, value: &str) {
        use std::fmt::Write as _;
        let _ = write!(self.0, "\n  {label:<12}{}", plain(value));
    }
}

pub(super) fn human(verified: &Verified, witnesses_asked: bool) -> String {
    let Verified { origin, size, root, tiles, .. } = verified;
    let mut lines = Lines::new(&format!("{origin}: sound"));
    let span = verified
        .span
        .map(|(first, last)| format!(", {} to {}", seconds(first), seconds(last)))
        .unwrap_or_default();
    lines.line("entries", &format!("{size}, each read{span}"));
    lines.line("tiles", &format!("{tiles}, each computed again"));
    lines.line("root", &root.to_string());
    for key in &verified.signed_by {
        lines.line("signed by", &key.to_string());
    }
    for cosigned in &verified.cosigned {
        let (name, at) = (cosigned.witness.name(), seconds(cosigned.at));
        lines.line("cosigned by", &format!("{name}, {at}"));
    }
    if verified.awaiting > 0 {
        let told = format!("{} later entries, not cosigned yet and not read", verified.awaiting);
        lines.line("waiting", &told);
    }
    if !witnesses_asked {
        lines.line("witnesses", "none asked for");
    }
    lines.line(
        "continues",
        &match verified.continues {
            Some(earlier) => format!("the earlier checkpoint of {earlier} entries"),
            None => "not asked: keep a checkpoint and give it with --since".to_owned(),
        },
    );
    lines.line(
        "payloads",
        &match verified.payloads {
            Some(count) => format!("{} as committed, {} not here", count.held, count.absent),
            None => "not asked".to_owned(),
        },
    );
    lines.0
}

pub(super) fn json(verified: &Verified) -> String {
    let cosigned: Vec<_> = verified
        .cosigned
        .iter()
        .map(|cosigned| json!({ "witness": cosigned.witness.to_string(), "at": cosigned.at }))
        .collect();
    let signed_by: Vec<_> = verified.signed_by.iter().map(ToString::to_string).collect();
    json!({
        "sound": true,
        "origin": verified.origin,
        "size": verified.size,
        "root": verified.root.to_string(),
        "signed_by": signed_by,
        "cosigned": cosigned,
        "awaiting": verified.awaiting,
        "tiles": verified.tiles,
        "bytes": verified.bytes,
        "first_at": verified.span.map(|(first, _)| first),
        "last_at": verified.span.map(|(_, last)| last),
        "continues": verified.continues,
        "payloads": verified.payloads.map(|count| json!({
            "held": count.held,
            "absent": count.absent,
        })),
    })
    .to_string()
}

pub(super) fn entry(envelope: &Envelope, head: &TrustedCheckpoint) -> String {
    let (index, size) = (envelope.sequence, head.size());
    let mut lines =
        Lines::new(&format!("entry {index} is in {}, of {size} entries", head.origin()));
    lines.line("at", &format!("{} by the clock {}", envelope.at, envelope.clock));
    lines.line("actor", &format!("{} as {}", envelope.actor, envelope.role));
    lines.line("kind", &envelope.kind);
    lines.line("object", &format!("{}, version {}", envelope.object, envelope.version));
    if let Some(tenant) = &envelope.tenant {
        lines.line("tenant", tenant);
    }
    for commitment in &envelope.commitments {
        lines.line("commits to", &format!("{} {}", commitment.sha256.to_hex(), commitment.part));
    }
    if let Some(previous) = &envelope.previous {
        lines.line("previous", &previous.to_hex());
    }
    lines.line("root", &head.root().to_string());
    lines.0
}

/// The entry is canonical JSON already.
pub(super) fn entry_json(entry: &[u8], head: &TrustedCheckpoint) -> String {
    json!({
        "sound": true,
        "origin": head.origin(),
        "size": head.size(),
        "root": head.root().to_string(),
        "entry": serde_json::from_slice::<serde_json::Value>(entry).ok(),
    })
    .to_string()
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        let shown = plain("a\u{1b}[2Jb\nc\u{202e}d\u{9b}");

        assert_eq!(shown, "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}");
    }
}
