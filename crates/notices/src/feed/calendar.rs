//! A tenant's calendar of changes, as RFC 5545 wants it.
//!
//! Written here: the library at hand (`icalendar` 0.17) folds some last lines at 76 octets, and
//! where a date or an identifier were forgotten it would take the clock and chance.

use jiff::Timestamp;

use super::{Course, Feed, Standing};
use crate::content::{Ask, Draft, News, Notice};
use crate::delivery::MailAddress;
use crate::message::{TemplateError, Templates};

/// Longest line, in octets without its end (RFC 5545 3.1).
const LONGEST_LINE: usize = 75;

/// Who wrote it (RFC 5545 3.7.3).
const PRODUCT: &str = "-//Patchwright//Notices 1//EN";

/// How a change stands in a calendar (RFC 5545 3.8.1.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Tentative,
    Confirmed,
    Cancelled,
}

impl Feed<'_> {
    /// The calendar: an event for each change, as its newest notice says and as it stands since. A
    /// change that is put off or cancelled stays as a cancelled event, so that it leaves the calendars
    /// that have it.
    ///
    /// # Errors
    /// If a template cannot do a notice.
    pub fn calendar(&self, templates: &Templates, language: &str) -> Result<String, TemplateError> {
        let mut lines = Lines::default();
        lines.begin("VCALENDAR");
        lines.add("VERSION", "2.0");
        lines.add("PRODID", PRODUCT);
        lines.add("CALSCALE", "GREGORIAN");
        lines.add("METHOD", "PUBLISH");
        lines.add_text("X-WR-CALNAME", &format!("Changes: {}", self.tenant.name));
        for notice in self.newest().into_values() {
            let standing = self.standing_of(notice);
            let answered = (standing.course == Course::Agreed).then(|| notice.answered());
            let text = templates.message(language, answered.as_ref().unwrap_or(notice))?.text;
            lines.event(notice, standing, &text);
        }
        lines.end("VCALENDAR");
        Ok(lines.0)
    }
}

/// Lines as they are written (RFC 5545 3.1).
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Nothing where nobody knows when it is, or was planned.
    fn event(&mut self, notice: &Notice, standing: Standing, text: &str) {
        let draft = notice.draft();
        let Some(window) = draft.news.window().or(draft.news.before()) else { return };
        self.begin("VEVENT");
        self.add("UID", &format!("{}.{}@patchwright", draft.change, draft.tenant.id));
        self.add("DTSTAMP", &utc(draft.published_at));
        self.add("LAST-MODIFIED", &utc(draft.published_at));
        self.add("SEQUENCE", &standing.revision.to_string());
        self.add("DTSTART", &utc(window.from));
        self.add("DTEND", &utc(window.until.max(next_second(window.from))));
        let [name, address] = organizer(draft);
        self.add(&name, &address);
        self.add_text("SUMMARY", draft.title.as_str());
        self.add_text("DESCRIPTION", text.trim_end());
        self.add("URL", &notice.link());
        self.add_text("CATEGORIES", draft.category.as_str());
        self.add(
            "STATUS",
            match status(&draft.news, standing.course) {
                Status::Tentative => "TENTATIVE",
                Status::Confirmed => "CONFIRMED",
                Status::Cancelled => "CANCELLED",
            },
        );
        // The systems are altered; nobody's time is taken.
        self.add("TRANSP", "TRANSPARENT");
        self.end("VEVENT");
    }

    fn begin(&mut self, component: &str) {
        self.add("BEGIN", component);
    }

    fn end(&mut self, component: &str) {
        self.add("END", component);
    }

    /// A property of type TEXT (RFC 5545 3.3.11).
    fn add_text(&mut self, name: &str, text: &str) {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\\' | ';' | ',' => escaped.extend(['\\', c]),
                '\n' => escaped.push_str("\\n"),
                c => escaped.push(c),
            }
        }
        self.add(name, &escaped);
    }

    /// A property without line ends in it, folded between characters.
    fn add(&mut self, name: &str, value: &str) {
        let mut length = 0;
        for c in name.chars().chain([':']).chain(value.chars()) {
            if length + c.len_utf8() > LONGEST_LINE {
                self.0.push_str("\r\n ");
                length = 1;
            }
            self.0.push(c);
            length += c.len_utf8();
        }
        self.0.push_str("\r\n");
    }
}

/// Whom to ask: `METHOD:PUBLISH` wants one (RFC 5546 3.2.1). Where the contact has no plain mail
/// address, it is whoever is behind the links.
fn organizer(draft: &Draft) -> [String; 2] {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-@".contains(c);
    let at = draft.contact.at.as_str();
    let address = match at.parse::<MailAddress>() {
        Ok(_) if at.chars().all(is_plain) => format!("mailto:{at}"),
        _ => draft.link_base.to_string(),
    };
    // A quoted value has no way to hold a quote (RFC 5545 3.2).
    let name = draft.contact.name.as_str().replace('"', "'");
    [format!("ORGANIZER;CN=\"{name}\""), address]
}

/// What waits for an answer is not sure.
const fn status(news: &News, course: Course) -> Status {
    match (news, course) {
        (_, Course::Off)
        | (
            News::Cancelled { .. } | News::Delayed { window: None, .. },
            Course::AsTold | Course::Agreed,
        ) => Status::Cancelled,
        (_, Course::Agreed)
        | (
            News::Started { .. }
            | News::Completed { .. }
            | News::Failed { .. }
            | News::Disputed { .. },
            Course::AsTold,
        ) => Status::Confirmed,
        (News::Lapsed { .. }, Course::AsTold) => Status::Tentative,
        (
            News::Planned { ask, .. }
            | News::Reminder { ask, .. }
            | News::Emergency { ask, .. }
            | News::Delayed { ask, .. },
            Course::AsTold,
        ) => match ask {
            Ask::Answer { .. } | Ask::Explicit => Status::Tentative,
            Ask::Nothing | Ask::Told => Status::Confirmed,
        },
    }
}

/// The end of an event is after its start, also in whole seconds (RFC 5545 3.8.2.2).
fn next_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().saturating_add(1)).unwrap_or(Timestamp::MAX)
}

/// `20260310T220000Z` (RFC 5545 3.3.5, form 2).
fn utc(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader does first (RFC 5545 3.1).
    fn unfolded(folded: &str) -> String {
        folded.replace("\r\n ", "")
    }

    proptest::proptest! {
        #[test]
        fn lines_are_folded_at_75_octets_and_unfold_again(text in "[a-z ä€𝄞,;\\\\\n]{0,400}") {
            let mut lines = Lines::default();
            lines.add_text("SUMMARY", &text);

            let folded = lines.0;
            proptest::prop_assert!(folded.ends_with("\r\n"));
            for line in folded.trim_end_matches("\r\n").split("\r\n") {
                proptest::prop_assert!(line.len() <= 75, "{} octets", line.len());
            }
            let escaped = unfolded(folded.trim_end_matches("\r\n"));
            let read = escaped["SUMMARY:".len()..]
                .replace("\\\\", "\u{1}")
                .replace("\\n", "\n")
                .replace("\\,", ",")
                .replace("\\;", ";")
                .replace('\u{1}', "\\");
            proptest::prop_assert_eq!(read, text);
        }
    }

    #[test]
    fn a_line_of_75_octets_is_not_folded() {
        let mut lines = Lines::default();
        lines.add("X", &"a".repeat(73));
        lines.add("X", &"a".repeat(74));

        assert_eq!(lines.0.split("\r\n").map(str::len).collect::<Vec<_>>(), [75, 75, 2, 0]);
    }
}
