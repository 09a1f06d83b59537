//! `patchwright image`: brings images, and has the lab work with those that a control plane has.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::kind::Kind;
use super::names::Names;
use super::output::{json as to_json, text};
use super::{describe, get};
use crate::failure::{helped, usage};
use crate::text::plain;

/// How often is looked how far a job is.
const LOOK: Duration = Duration::from_millis(500);

/// Longest part of a log read at once: three attempts at their longest, and what is said of them.
const LONGEST_LOG: usize = 64 << 20;

/// Exit status where a VM may not be made from a version.
const NOT_ADMITTED: u8 = 3;

/// Keep the images of a control plane.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Bring an image, and take it up as the next version of a series.
    Import {
        /// The image: raw or qcow2.
        file: PathBuf,
        /// Its series; begun where there is none of this name.
        #[arg(long, value_name = "SERIES")]
        name: String,
        /// Whose it will be; one's own tenant's otherwise.
        #[arg(long)]
        tenant: Option<String>,
        /// The version that it was made from.
        #[arg(long, value_name = "IMAGE")]
        parent: Option<String>,
        /// Print the version as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// List versions, as `get images` does.
    List {
        /// Only of this series.
        #[arg(value_name = "SERIES")]
        name: Option<String>,
        #[command(flatten)]
        access: Access,
    },
    /// Tell all about a version, as `describe image` does.
    Show {
        /// Which: an id, or `SERIES:NUMBER`.
        image: String,
        #[command(flatten)]
        access: Access,
    },
    /// Make a version that stood its test the one that new VMs are made from.
    Publish {
        /// Which: an id, or `SERIES:NUMBER`.
        image: String,
        /// For how many minutes the version that was current is still admitted; a day otherwise.
        #[arg(long, value_name = "MINUTES")]
        grace: Option<u32>,
        #[command(flatten)]
        access: Access,
    },
    /// Take a version out of use; it stays as a record.
    Retire {
        /// Which: an id, or `SERIES:NUMBER`.
        image: String,
        /// Remove its bytes too.
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Tell whether a VM may be made from a version now; exit status 3 where it may not.
    Admit {
        /// Which: an id, `SERIES:NUMBER`, or a series for its current version.
        image: String,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Follow a job to its end; exit status 1 where nothing good came of it.
    Wait {
        /// Which.
        job: String,
        /// Print the job as JSON when it has ended.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Call a job off.
    Cancel {
        /// Which.
        job: String,
        #[command(flatten)]
        access: Access,
    },
}

/// Runs the command.
pub(crate) fn run(command: &ImageCommand) -> Result<ExitCode> {
    match command {
        ImageCommand::Import { file, name, tenant, parent, json, access } => {
            let import =
                Import { file, name, tenant: tenant.as_deref(), parent: parent.as_deref() };
            import.run(&connect(access)?, *json)
        }
        ImageCommand::List { name, access } => get::images(name.as_deref(), access),
        ImageCommand::Show { image, access } => describe::one(Kind::Image, image, access),
        ImageCommand::Publish { image, grace, access } => {
            let body = grace.map_or_else(|| json!({}), |grace| json!({ "grace_minutes": grace }));
            take_step(&connect(access)?, image, "publish", Some(&body))
        }
        ImageCommand::Retire { image, forget, access } => {
            let connection = connect(access)?;
            let code = take_step(&connection, image, "retire", None)?;
            if *forget {
                forget_content(&connection, image)?;
            }
            Ok(code)
        }
        ImageCommand::Admit { image, json, access } => admit(&connect(access)?, image, *json),
        ImageCommand::Wait { job, json, access } => {
            if !Kind::Job.is_id(job) {
                return Err(usage(
                    format!("`{}` is no job's id", plain(job)),
                    "see `patchwright get jobs`",
                ));
            }
            follow(&connect(access)?, job, *json)
        }
        ImageCommand::Cancel { job, access } => {
            let path = format!("/jobs/{}/cancel", encoded(job));
            let ended = connect(access)?.change(&Change::of("POST", &path))?.body;
            println!("{} called off", plain(&Kind::Job.name_line(&ended)));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Asks the lab for a job with a version that the control plane has: `prove`, `bake` or `test`, as it
/// understands the request. With `wait`, stage and log are shown until it ends, and the exit status is 1
/// where nothing good came of it.
pub(crate) fn submit(
    access: &Access,
    kind: &str,
    image: &str,
    request: &Value,
    wait: bool,
) -> Result<ExitCode> {
    let connection = connect(access)?;
    let image = Names::new(&connection).find(Kind::Image, image)?;
    let path = format!("/images/{}/jobs", encoded(&text(&image["id"])));
    let body = json!({ "kind": kind, "request": request });
    let change = Change { body: Some(&body), is_repeatable: true, ..Change::of("POST", &path) };
    let job = connection.change(&change)?.body;
    let id = text(&job["id"]);
    if wait {
        eprintln!("{} waits; it goes on without this command", plain(&id));
        return follow(&connection, &id, false);
    }
    println!("{} {}", plain(&Kind::Job.name_line(&job)), plain(&text(&job["state"])));
    Ok(ExitCode::SUCCESS)
}

/// An image that is brought.
struct Import<'a> {
    file: &'a PathBuf,
    name: &'a str,
    tenant: Option<&'a str>,
    parent: Option<&'a str>,
}

impl Import<'_> {
    fn run(&self, connection: &Connection, is_json: bool) -> Result<ExitCode> {
        let names = Names::new(connection);
        let tenant = match self.tenant {
            Some(tenant) => names.tenant_id(tenant)?,
            None => names.own_tenant()?,
        };
        let parent = self.parent.map(|it| names.find(Kind::Image, it)).transpose()?;
        let parent = parent.map(|parent| parent["id"].clone());
        let content = self.upload(connection, &tenant)?;
        let body = json!({
            "tenant": tenant, "name": self.name, "sha256": content["sha256"], "parent": parent,
        });
        let change =
            Change { body: Some(&body), is_repeatable: true, ..Change::of("POST", "/images") };
        let image = connection.change(&change)?.body;
        let out = &mut io::stdout().lock();
        if is_json {
            writeln!(out, "{}", to_json(&image, true))?;
        } else {
            let name = plain(&Kind::Image.name_of(&image));
            let (id, release) = (plain(&text(&image["id"])), plain(&text(&image["release"])));
            writeln!(out, "{name} taken up  {id}  {release}")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn upload(&self, connection: &Connection, tenant: &str) -> Result<Value> {
        let unreadable = || format!("cannot read `{}`", self.file.display());
        let file = File::open(self.file).with_context(unreadable)?;
        let about = file.metadata().with_context(unreadable)?;
        if !about.is_file() {
            let error = anyhow!("`{}` is no file", self.file.display());
            return Err(helped(error, "name a raw or qcow2 image"));
        }
        let bar = shown(ProgressBar::new(about.len()), "{bar:30} {bytes} of {total_bytes} {eta}");
        let path = format!("/images/content?tenant={}", encoded(tenant));
        let answer = connection.upload(&path, bar.wrap_read(file), about.len());
        bar.finish_and_clear();
        answer
    }
}

fn take_step(
    connection: &Connection,
    image: &str,
    step: &str,
    body: Option<&Value>,
) -> Result<ExitCode> {
    let image = Names::new(connection).find(Kind::Image, image)?;
    let path = format!("/images/{}/{step}", encoded(&text(&image["id"])));
    // One that somebody altered meanwhile is not what was meant.
    let version = format!("\"{}\"", image["version"]);
    let change = Change { body, if_match: Some(&version), ..Change::of("POST", &path) };
    let altered = connection.change(&change)?.body;
    println!("{} is {}", plain(&Kind::Image.name_of(&altered)), plain(&text(&altered["state"])));
    Ok(ExitCode::SUCCESS)
}

fn forget_content(connection: &Connection, image: &str) -> Result<()> {
    let image = Names::new(connection).find(Kind::Image, image)?;
    let path = format!("/images/{}/content", encoded(&text(&image["id"])));
    connection.change(&Change::of("DELETE", &path))?;
    println!("the bytes of {} are removed", plain(&Kind::Image.name_of(&image)));
    Ok(())
}

fn admit(connection: &Connection, image: &str, is_json: bool) -> Result<ExitCode> {
    let image = Names::new(connection).find(Kind::Image, image)?;
    let path = format!("/images/{}/admission", encoded(&text(&image["id"])));
    let answer = connection.get(&path)?;
    let is_admitted = answer["admitted"] == true;
    let out = &mut io::stdout().lock();
    let name = plain(&Kind::Image.name_of(&image));
    if is_json {
        writeln!(out, "{}", to_json(&answer, true))?;
    } else if is_admitted {
        writeln!(out, "{name} is admitted")?;
    } else {
        let word = |field: &str| plain(&text(&answer[field]));
        writeln!(out, "{name} is refused: {}", word("detail"))?;
        let because = word("because");
        if !because.is_empty() && matches!(word("reason").as_str(), "exploited" | "unknown") {
            writeln!(out, "  because: {because}")?;
        }
        writeln!(out, "  help: {}", word("help"))?;
    }
    Ok(if is_admitted { ExitCode::SUCCESS } else { ExitCode::from(NOT_ADMITTED) })
}

/// Shows stage and log of a job until it ends, then what came of it.
fn follow(connection: &Connection, id: &str, is_json: bool) -> Result<ExitCode> {
    let bar = shown(ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}");
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut log = Log { connection, id, from: 0, rest: String::new() };
    let job = loop {
        // Asked first: what is added before the end is read after it.
        let job = connection.get(&format!("/jobs/{}", encoded(id)))?;
        let stage = if job["stage"].is_null() { &job["state"] } else { &job["stage"] };
        bar.set_message(plain(&format!("{}: {}", text(&job["kind"]), text(stage))));
        let has_ended = !matches!(job["state"].as_str(), Some("queued" | "running"));
        let lines = log.news(has_ended)?;
        bar.suspend(|| lines.iter().try_for_each(|line| writeln!(io::stderr(), "{line}")))?;
        if has_ended {
            break job;
        }
        thread::sleep(LOOK);
    };
    bar.finish_and_clear();
    ended(&job, is_json)
}

/// Tells what came of a job.
fn ended(job: &Value, is_json: bool) -> Result<ExitCode> {
    let is_good = job["state"] == "done" && job["result"]["passed"] == true;
    let out = &mut io::stdout().lock();
    if is_json {
        writeln!(out, "{}", to_json(job, true))?;
    } else {
        let verdict = match (job["state"].as_str(), is_good) {
            (Some("done"), true) => "passed".to_owned(),
            (Some("done"), false) => "did not pass".to_owned(),
            _ => text(&job["state"]),
        };
        writeln!(out, "{} {}", plain(&Kind::Job.name_line(job)), plain(&verdict))?;
        for (field, word) in [("made", "made"), ("error", "why")] {
            let value = text(&job[field]);
            if !value.is_empty() {
                writeln!(out, "  {word}: {}", plain(&value))?;
            }
        }
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A job's log, line by line.
struct Log<'a> {
    connection: &'a Connection,
    id: &'a str,
    from: u64,
    /// A line that has no end yet.
    rest: String,
}

impl Log<'_> {
    /// The lines that came since; at the end also one that has no end.
    fn news(&mut self, is_end: bool) -> Result<Vec<String>> {
        let path = format!("api/v1/jobs/{}/log?from={}", encoded(self.id), self.from);
        let bytes = self.connection.file(&path, LONGEST_LOG)?.unwrap_or_default();
        self.from += bytes.len() as u64;
        Ok(self.lines(&bytes, is_end))
    }

    fn lines(&mut self, bytes: &[u8], is_end: bool) -> Vec<String> {
        self.rest.push_str(&String::from_utf8_lossy(bytes));
        let (whole, rest) = match (is_end, self.rest.rfind('\n')) {
            (true, _) => (self.rest.as_str(), ""),
            (false, Some(end)) => self.rest.split_at(end + 1),
            (false, None) => return Vec::new(),
        };
        let lines = whole.lines().map(|line| readable(line.trim_end_matches('\r'))).collect();
        self.rest = rest.to_owned();
        lines
    }
}

/// A console's line: what moves a cursor and paints says nothing, and is left out.
fn readable(line: &str) -> String {
    let text = anstream::adapter::strip_str(line).to_string();
    let text: String = text.chars().filter(|it| !matches!(it, '\u{1b}' | '\r' | '\u{8}')).collect();
    plain(&text)
}

/// On a terminal; nowhere else.
fn shown(bar: ProgressBar, template: &str) -> ProgressBar {
    let is_seen = io::stderr().is_terminal();
    let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    bar.set_draw_target(target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_in_whole_lines_that_drive_no_terminal() {
        let connection = Connection::new("http://127.0.0.1:1", None, None).unwrap();
        let mut log = Log { connection: &connection, id: "job_1", from: 0, rest: String::new() };

        assert_eq!(log.lines(b"one\r\ntw", false), ["one"]);
        assert!(log.lines(b"o", false).is_empty());
        assert_eq!(log.lines(b"\n\x1b[2Jthree", false), ["two"]);
        assert_eq!(log.lines(b"", true), ["three"]);
    }

    #[test]
    fn only_what_is_done_and_passed_is_a_success() {
        let code = |job: Value| format!("{:?}", ended(&job, false).unwrap());
        let good = format!("{:?}", ExitCode::SUCCESS);

        assert_eq!(code(json!({ "state": "done", "result": { "passed": true } })), good);
        for bad in [
            json!({ "state": "done", "result": { "passed": false } }),
            json!({ "state": "done", "result": null }),
            json!({ "state": "failed", "error": "no" }),
            json!({ "state": "cancelled" }),
        ] {
            assert_ne!(code(bad.clone()), good, "{bad}");
        }
    }
}
