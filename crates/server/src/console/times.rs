//! Instants and lengths, as pages tell them.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

/// An instant, to the minute.
pub(super) fn moment(at: Timestamp) -> Markup {
    html! { time.when datetime=(at) { (at.strftime("%F %R")) " UTC" } }
}

/// An instant, and how far it is away.
pub(super) fn moment_away(at: Timestamp, now: Timestamp) -> Markup {
    html! { (moment(at)) " " span class="quiet when" { "(" (away(at, now)) ")" } }
}

/// How far away an instant is: `in 3 days`, `2 hours ago`.
pub(super) fn away(at: Timestamp, now: Timestamp) -> String {
    if now < at {
        format!("in {}", length(at.duration_since(now)))
    } else {
        format!("{} ago", length(now.duration_since(at)))
    }
}

/// A length in the unit that matters. What is left is never told longer than it is.
pub(super) fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_words() {
        let told = [1, 119, 3600, 90_000, 200_000].map(|it| length(SignedDuration::from_secs(it)));
        assert_eq!(told, ["1 second", "1 minute", "1 hour", "25 hours", "2 days"]);
    }

    #[test]
    fn what_is_to_come_and_what_was_are_told_apart() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(away(at(7200), at(0)), "in 2 hours");
        assert_eq!(away(at(0), at(7200)), "2 hours ago");
        assert_eq!(away(at(5), at(5)), "0 seconds ago", "the instant itself is too late");
        assert_eq!(
            moment(at(90)).into_string(),
            "<time class=\"when\" datetime=\"1970-01-01T00:01:30Z\">1970-01-01 00:01 UTC</time>"
        );
    }
}
