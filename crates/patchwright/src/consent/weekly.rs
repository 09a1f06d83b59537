//! Spans that come back each week, as people write them: `tue 02:00 4h`, in UTC.

use domain::change::WeeklyWindow;
use domain::sla::Wait;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const DAY: u16 = 24 * 60;

/// Reads one.
pub(super) fn weekly(text: &str) -> Result<WeeklyWindow, String> {
    let odd =
        || format!("`{text}` is no span of a week: write day, time and length, as `tue 02:00 4h`");
    let mut parts = text.splitn(3, ' ');
    let (Some(day), Some(time), Some(length)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(odd());
    };
    // `tuesday` as well.
    let day = day.to_lowercase();
    let day = DAYS.iter().position(|it| day.starts_with(it)).ok_or_else(odd)?;
    let (hour, minute) = time.split_once(':').ok_or_else(odd)?;
    let number = |text: &str, below: u16| text.parse::<u16>().ok().filter(|it| *it < below);
    let (hour, minute) = (number(hour, 24).ok_or_else(odd)?, number(minute, 60).ok_or_else(odd)?);
    let length: Wait = length.parse().map_err(|error: domain::sla::NoWait| error.to_string())?;
    let length = length.exact().map(|length| length.as_mins()).filter(|minutes| *minutes > 0);
    let minutes = length.and_then(|minutes| u16::try_from(minutes).ok());
    let minutes = minutes.filter(|minutes| *minutes <= 7 * DAY).ok_or_else(|| {
        format!("`{text}` is longer than a week, or nothing: write a length such as `4h`")
    })?;
    let day = u16::try_from(day).map_err(|_| odd())?;
    Ok(WeeklyWindow { begins: day * DAY + hour * 60 + minute, minutes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_as_it_is_written() {
        let read = |text: &str| weekly(text).map(|it| (it.begins, it.minutes));

        assert_eq!(read("mon 00:00 1h"), Ok((0, 60)));
        assert_eq!(read("Tuesday 02:30 4h"), Ok((DAY + 150, 240)));
        assert_eq!(read("sun 23:59 7d"), Ok((7 * DAY - 1, 7 * DAY)));
        for odd in
            ["", "tue", "tue 02:00", "xyz 02:00 4h", "tue 24:00 4h", "tue 02:60 4h", "tue 2 4h"]
        {
            assert!(read(odd).unwrap_err().contains("tue 02:00 4h"), "{odd}");
        }
        for odd in ["tue 02:00 0h", "tue 02:00 8d", "tue 02:00 1bd", "tue 02:00 soon"] {
            assert!(read(odd).is_err(), "{odd}");
        }
        assert_eq!(weekly("tue 02:05 4h").unwrap().to_string(), "tue 02:05 UTC for 4h");
        assert_eq!(weekly("sat 22:00 90m").unwrap().to_string(), "sat 22:00 UTC for 1h 30m");
    }
}
