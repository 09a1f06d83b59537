//! `patchwright clocks`: what is overdue or about to be, and who holds the ball.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::connection::{Connection, encoded};
use super::contexts::{Access, connect};
use super::names::Names;
use super::output::{
    BAD, BOLD, Cell, DIM, GOOD, Table, WARN, json as to_json, moment, style_of, styled, text, yaml,
};
use crate::failure::usage;
use crate::text::{count, fit};

/// Widest title shown.
const WIDEST: usize = 44;

/// What a change waits for is late; the due date can still be kept.
const OVERDUE: u8 = 3;

/// Nobody looked at a clock in time.
const UNKNOWN: u8 = 4;

/// A due date passed.
const BREACHED: u8 = 5;

/// List the clocks of the SLA that run, the earliest due first, and who holds the ball.
#[derive(Debug, Args)]
pub(crate) struct ClocksArgs {
    /// Only this tenant's, by id or short name.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only what is due within this time, such as `3d` or `12h`.
    #[arg(long, value_name = "TIME", value_parser = within)]
    within: Option<SignedDuration>,
    /// Only what is late: a due date passed, or a stage took longer than agreed.
    #[arg(long)]
    overdue: bool,
    /// Also what is settled.
    #[arg(long)]
    all: bool,
    /// Clocks at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 200,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Form,
    /// End with 5 where a due date passed, else with 3 where a stage is late, else with 4 where nobody
    /// knows; whether it is shown or beyond the limit.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each clock.
    Table,
    /// As the API has them.
    Json,
    /// The same as YAML.
    Yaml,
}

fn within(text: &str) -> Result<SignedDuration, String> {
    let wait: domain::sla::Wait =
        text.parse().map_err(|error: domain::sla::NoWait| error.to_string())?;
    wait.exact().ok_or_else(|| "business days have no length of their own".to_owned())
}

/// Runs the command.
pub(crate) fn run(arguments: &ClocksArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let now = Timestamp::now();
    let wanted = wanted(arguments, &names, now)?;
    let (clocks, code) = look(&connection, arguments, &wanted, now)?;
    let code = if arguments.exit_code { code } else { 0 };
    let out = &mut io::stdout().lock();
    match arguments.output {
        Form::Table => styled(out, &screen(&clocks, &names, now, arguments.limit))?,
        Form::Json => writeln!(out, "{}", to_json(&Value::Array(clocks), true))?,
        Form::Yaml => write!(out, "{}", yaml(&Value::Array(clocks)))?,
    }
    Ok(ExitCode::from(code))
}

/// The clocks that are shown, and how all of them stand that are asked for.
fn look(
    connection: &Connection,
    arguments: &ClocksArgs,
    wanted: &str,
    now: Timestamp,
) -> Result<(Vec<Value>, u8)> {
    let which = if arguments.overdue { "&overdue=true" } else { "" };
    let clocks = asked(connection, &format!("{wanted}{which}&limit={}", arguments.limit))?;
    let is_whole = clocks.len() < usize::from(arguments.limit) || !arguments.exit_code;
    let code =
        if is_whole { worst(&clocks, now) } else { beyond(connection, arguments, wanted, now)? };
    Ok((clocks, code))
}

/// Which clocks are wanted, late or not, as a path.
fn wanted(arguments: &ClocksArgs, names: &Names<'_>, now: Timestamp) -> Result<String> {
    let mut path = format!("/clocks?settled={}", arguments.all);
    if let Some(tenant) = &arguments.tenant {
        let _ = write!(path, "&tenant={}", encoded(&names.tenant_id(tenant)?));
    }
    if let Some(within) = arguments.within {
        let before = now.checked_add(within).map_err(|_| {
            usage("the time reaches further than there are dates", "name a shorter one")
        })?;
        let _ = write!(path, "&due_before={}", encoded(&before.to_string()));
    }
    Ok(path)
}

fn asked(connection: &Connection, path: &str) -> Result<Vec<Value>> {
    let mut answer = connection.get(path)?;
    Ok(answer.as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// How all wanted clocks stand, where not all are shown: the earliest late one tells, since what is
/// past its due date was due first.
fn beyond(
    connection: &Connection,
    arguments: &ClocksArgs,
    wanted: &str,
    now: Timestamp,
) -> Result<u8> {
    let first = |which| asked(connection, &format!("{wanted}&{which}=true&limit=1"));
    let late = worst(&first("overdue")?, now);
    if late != 0 || arguments.overdue {
        return Ok(late);
    }
    Ok(worst(&first("unknown")?, now))
}

/// With what the command ends: the worst of these.
fn worst(clocks: &[Value], now: Timestamp) -> u8 {
    let any = |is_it: &dyn Fn(&Value) -> bool| clocks.iter().any(is_it);
    if any(&|clock| is_breached(clock, now)) {
        BREACHED
    } else if any(&|clock| clock["standing"] == "overdue") {
        OVERDUE
    } else if any(&|clock| clock["standing"] == "unknown") {
        UNKNOWN
    } else {
        0
    }
}

/// Whether a due date passed, also one that nobody looked at since.
fn is_breached(clock: &Value, now: Timestamp) -> bool {
    let is_past = || {
        clock["due"]
            .as_str()
            .and_then(|at| at.parse().ok())
            .is_some_and(|due: Timestamp| due <= now)
    };
    let is_open = clock["settled"] != true;
    clock["state"] == "breached" || is_open && clock["standing"] == "overdue" && is_past()
}

/// How a clock stands, in a word: what nobody looked at since its date is late all the same.
fn stands(clock: &Value, now: Timestamp) -> String {
    let word = match text(&clock["standing"]).as_str() {
        _ if is_breached(clock, now) => "breached",
        "overdue" => "overdue",
        "unknown" => "unknown",
        "near" => "near",
        _ => return text(&clock["state"]),
    };
    word.to_owned()
}

fn screen(clocks: &[Value], names: &Names<'_>, now: Timestamp, limit: u16) -> String {
    let mut out = String::new();
    if clocks.is_empty() {
        let _ = writeln!(out, "{GOOD}✓{GOOD:#} no such clock runs");
        return out;
    }
    let of = |word: &str| clocks.iter().filter(|clock| stands(clock, now) == word).count();
    let _ = write!(out, "{BOLD}{}{BOLD:#}", count(clocks.len(), "clock", "clocks"));
    for (word, told, style) in [
        ("breached", "breached", BAD),
        ("overdue", "overdue", WARN),
        ("unknown", "unknown", WARN),
        ("near", "about to be", WARN),
    ] {
        let number = of(word);
        if number > 0 {
            let _ = write!(out, "  {style}{number} {told}{style:#}");
        }
    }
    let _ = writeln!(out, "\n");
    let heads = ["DUE", "LEFT", "STATE", "PRIORITY", "TENANT", "CHANGE", "STANDS AT", "BALL"];
    let mut table = Table::new(&heads);
    for clock in clocks {
        let (state, priority) = (stands(clock, now), text(&clock["priority"]));
        let style = match &*state {
            "breached" => BAD,
            "overdue" | "unknown" | "near" => WARN,
            "met" => GOOD,
            _ => DIM,
        };
        let due = clock["due"].as_str().and_then(|text| text.parse().ok());
        table.row(vec![
            Cell::from(moment(&clock["due"])),
            Cell::from(due.map_or_else(|| "–".to_owned(), |due| left(due, now))),
            Cell::from(&state).styled(style),
            Cell::from(&priority).styled(style_of(&priority)),
            Cell::from(names.tenant(&text(&clock["tenant"]))),
            Cell::from(fit(&text(&clock["title"]), WIDEST)),
            Cell::from(stands_at(clock)),
            Cell::from(clock["holder"].as_str().unwrap_or("–").replace('_', " ")),
        ]);
    }
    out.push_str(&table.take());
    if clocks.len() == usize::from(limit) {
        let _ = writeln!(out, "{DIM}… there may be more: --limit, --within, --tenant{DIM:#}");
    }
    out
}

/// Where it stands, and what is owed beside the patch.
fn stands_at(clock: &Value) -> String {
    let phase = text(&clock["phase"]).replace('_', " ");
    match clock["owed"].as_str() {
        Some(owed) => {
            format!("{phase}, owes {} by {}", owed.replace('_', " "), moment(&clock["owed_by"]))
        }
        None => phase,
    }
}

/// How much time is left, or how much too much was taken.
pub(super) fn left(due: Timestamp, now: Timestamp) -> String {
    let seconds = due.duration_since(now).as_secs();
    let (sign, seconds) = if seconds < 0 { ("−", -seconds) } else { ("", seconds) };
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{sign}{minutes} min"),
        (0, _) => format!("{sign}{hours} h {minutes} min"),
        _ => format!("{sign}{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use serde_json::json;

    use super::*;

    #[test]
    fn time_left_is_told_in_two_units() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |seconds| left(Timestamp::from_second(seconds).unwrap(), now);

        assert_eq!(after(59), "0 min");
        assert_eq!(after(3 * 3600 + 120), "3 h 2 min");
        assert_eq!(after(2 * 86_400 + 5 * 3600), "2 d 5 h");
        assert_eq!(after(-90_000), "−1 d 1 h");
    }

    #[test]
    fn the_worst_clock_decides_whoever_looked_last() {
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let clock = |standing: &str, state: &str, due: &str| json!({ "standing": standing, "state": state, "due": due });
        let ahead = "2026-12-02T00:00:00Z";
        let in_time = clock("in_time", "ok", ahead);
        let unknown = clock("unknown", "ok", ahead);
        let slow = clock("overdue", "overdue", ahead);
        let unseen = clock("overdue", "ok", "2026-12-01T00:00:00Z");
        let missed = clock("settled", "breached", ahead);

        assert_eq!(worst(&[], now), 0);
        assert_eq!(worst(&[in_time.clone(), clock("near", "warn", ahead)], now), 0);
        assert_eq!(worst(&[in_time.clone(), unknown.clone()], now), UNKNOWN);
        assert_eq!(worst(&[unknown.clone(), slow.clone()], now), OVERDUE);
        assert_eq!(worst(&[slow.clone(), unseen.clone()], now), BREACHED);
        assert_eq!(worst(&[missed, unknown], now), BREACHED);
        assert_eq!(stands(&unseen, now), "breached");
        assert_eq!((stands(&slow, now), stands(&in_time, now)), ("overdue".into(), "ok".into()));
    }

    /// A control plane whose first clocks are in time, and which answers so many questions.
    fn cloud(clocks: usize, late: Value, questions: usize) -> (Connection, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let in_time =
            json!({ "standing": "in_time", "state": "ok", "due": "2099-01-01T00:00:00Z" });
        let asked = thread::spawn(move || {
            let mut asked = Vec::new();
            for stream in listener.incoming().take(questions) {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let body = if path.contains("overdue=true") {
                    late.clone()
                } else if path.contains("unknown=true") {
                    json!([])
                } else {
                    json!(vec![in_time.clone(); clocks])
                };
                let body = body.to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", body.len());
                let head = head + "content-type: application/json\r\nconnection: close\r\n\r\n";
                stream.write_all((head + &body).as_bytes()).unwrap();
                asked.push(path);
            }
            asked
        });
        (Connection::new(&url, None, None).unwrap(), asked)
    }

    type Asked = thread::JoinHandle<Vec<String>>;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        clocks: ClocksArgs,
    }

    fn looked(line: &[&str], clocks: usize, late: Value, questions: usize) -> (usize, u8) {
        let line = [&["clocks"][..], line].concat();
        let arguments = <Line as clap::Parser>::parse_from(line).clocks;
        let (connection, asked) = cloud(clocks, late, questions);
        let (found, code) =
            look(&connection, &arguments, "/clocks?settled=false", Timestamp::now()).unwrap();
        assert_eq!(asked.join().unwrap().len(), questions);
        (found.len(), code)
    }

    #[test]
    fn what_is_late_beyond_the_limit_is_not_passed_over() {
        let late =
            json!([{ "standing": "overdue", "state": "overdue", "due": "2099-06-01T00:00:00Z" }]);
        let missed =
            json!([{ "standing": "overdue", "state": "ok", "due": "2020-06-01T00:00:00Z" }]);

        assert_eq!(looked(&["--exit-code"], 200, late.clone(), 2), (200, OVERDUE));
        assert_eq!(looked(&["--exit-code"], 200, missed.clone(), 2), (200, BREACHED));
        assert_eq!(looked(&["--exit-code"], 200, json!([]), 3), (200, 0), "nor is it unknown");
        assert_eq!(looked(&["--exit-code"], 199, json!([]), 1), (199, 0), "these are all");
        // The server chooses them, and not the client among the first two hundred.
        assert_eq!(looked(&["--overdue", "--exit-code"], 200, late, 1), (1, OVERDUE));
        assert_eq!(looked(&["--overdue", "--exit-code"], 200, missed, 1), (1, BREACHED));
    }

    #[test]
    fn a_time_is_a_wait_of_the_sla() {
        assert_eq!(within("3d"), Ok(SignedDuration::from_hours(72)));
        assert!(within("3bd").is_err() && within("soon").is_err());
    }
}
