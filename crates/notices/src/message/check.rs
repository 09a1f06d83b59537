//! Tries the templates of a language before anybody waits for their messages.

use std::collections::BTreeSet;

use minijinja::Value;
use minijinja::value::Serde;

use super::context::Context;
use super::error::TemplateError;
use super::{FORMS, Templates, clocks, digest, drift};
use crate::content::{Kind, Notice};
use crate::sample::{Fullness, sample, sample_clocks, sample_drift};

/// Renders each kind full and bare, and looks for names in what was not come through.
pub(super) fn check(templates: &Templates, language: &str) -> Result<(), TemplateError> {
    let mut notices = Vec::new();
    for &kind in Kind::ALL {
        let both = [Fullness::Bare, Fullness::Full].map(|fullness| sample(kind, fullness));
        let [bare, full] = &both;
        let context = Value::from(Serde(Context::new(full)));
        check_names(templates, language, kind.as_str(), &context)?;
        for notice in [bare, full] {
            templates.message(language, notice)?;
            templates.entry(language, notice)?;
        }
        notices.extend(both);
    }
    let refs: Vec<&Notice> = notices.iter().collect();
    for notices in [&refs[..1], &refs[..]] {
        let context = digest::context(notices);
        check_names(templates, language, digest::NAME, &context)?;
        templates.render(language, digest::NAME, &context)?;
    }
    for fullness in [Fullness::Bare, Fullness::Full] {
        for (name, context) in [
            (clocks::NAME, clocks::context(&sample_clocks(fullness))),
            (drift::NAME, drift::context(&sample_drift(fullness))),
        ] {
            check_names(templates, language, name, &context)?;
            templates.render(language, name, &context)?;
        }
    }
    Ok(())
}

/// A branch that no sample comes through may name what there is not.
fn check_names(
    templates: &Templates,
    language: &str,
    name: &str,
    context: &Value,
) -> Result<(), TemplateError> {
    let known: BTreeSet<String> = context.try_iter()?.map(|key| key.to_string()).collect();
    let functions: BTreeSet<&str> = templates.environment.globals().map(|(name, _)| name).collect();
    for form in FORMS {
        let file = format!("{language}/{name}.{form}");
        let template = templates.environment.get_template(&file)?;
        let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        names.sort();
        let is_missing = |name: &&String| {
            !known.contains(*name) && !functions.contains(name.as_str()) && *name != "loop"
        };
        if let Some(variable) = names.iter().find(is_missing) {
            return Err(TemplateError::Missing {
                line: line_of(template.source(), variable),
                file,
                variable: variable.clone(),
                known: known.into_iter().collect(),
            });
        }
    }
    Ok(())
}

/// The first line with this word, counted from 1.
fn line_of(source: &str, word: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = |line: &str| line.split(|c| !is_word(c)).any(|it| it == word);
    source.lines().position(has).map_or(1, |place| place + 1)
}
