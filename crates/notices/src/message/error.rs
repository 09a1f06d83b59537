//! What is wrong with templates: the file, the line, and what is missing.

use std::io;
use std::path::PathBuf;

use minijinja::ErrorKind;

/// Why templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory whose name is no language.
    #[error("`{name}` is not the tag of a language")]
    Language {
        /// Its name.
        name: String,
    },
    /// A file that nothing asks for.
    #[error("`{file}` is the template of nothing")]
    Unknown {
        /// Which.
        file: String,
    },
    /// More than anybody writes.
    #[error("`{file}` has {size} bytes, more than a template may have")]
    TooLarge {
        /// Which.
        file: String,
        /// Its size in bytes.
        size: u64,
    },
    /// It names what there is not.
    #[error("`{file}`, line {line}: there is no `{variable}`")]
    Missing {
        /// Which file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What it names.
        variable: String,
        /// What there is in its place.
        known: Vec<String>,
    },
    /// It cannot be read, or not be carried out.
    #[error("`{file}`, line {line}: {reason}")]
    Wrong {
        /// Which file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A subject in which nothing is said.
    #[error("`{file}` says nothing")]
    NoSubject {
        /// Which.
        file: String,
    },
}

impl TemplateError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::File { .. } => {
                "the directory and its files must be readable, as UTF-8".to_owned()
            }
            Self::Language { .. } => "name directories `de`, `fr`, `de-AT`".to_owned(),
            Self::Unknown { .. } => {
                "name files `<kind>.subject`, `<kind>.txt`, `<kind>.html`, or begin the name of a \
                 part with `_`; `docs/notices.md` lists the kinds"
                    .to_owned()
            }
            Self::TooLarge { .. } => "keep pictures and styles out of it".to_owned(),
            Self::Missing { known, .. } if known.is_empty() => {
                "`docs/notices.md` lists what there is".to_owned()
            }
            Self::Missing { known, .. } => format!("there is {}", known.join(", ")),
            Self::Wrong { .. } => "templates are written in Jinja's language".to_owned(),
            Self::NoSubject { .. } => "let it say one line for every notice".to_owned(),
        }
    }
}

impl From<minijinja::Error> for TemplateError {
    /// The innermost error, which says where it is.
    fn from(error: minijinja::Error) -> Self {
        let mut cause: &minijinja::Error = &error;
        let mut next = std::error::Error::source(cause);
        while let Some(source) = next {
            if let Some(inner) = source.downcast_ref::<minijinja::Error>() {
                cause = inner;
            }
            next = source.source();
        }
        let file = cause.name().unwrap_or("?").to_owned();
        let line = cause.line().unwrap_or(0);
        let detail = cause.detail().map(str::to_owned);
        if cause.kind() == ErrorKind::UndefinedError {
            let named = detail.as_deref().and_then(|it| it.split(['`', '\'']).nth(1));
            let spelt = || Some(cause.template_source()?.get(cause.range()?)?.trim().to_owned());
            let variable = named.map(str::to_owned).or_else(spelt).or(detail);
            let variable = variable.unwrap_or_else(|| "value".to_owned());
            return Self::Missing { file, line, variable, known: Vec::new() };
        }
        let reason = match detail {
            Some(detail) => format!("{}: {detail}", cause.kind()),
            None => cause.kind().to_string(),
        };
        Self::Wrong { file, line, reason }
    }
}
