//! An operator's templates take the places of ours, and are refused with file, line and name where
//! they would fail later.

use std::fs;
use std::path::Path;

use notices::content::Kind;
use notices::sample::{Fullness, sample};
use notices::{TemplateError, Templates};
use tempfile::TempDir;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

fn refused(files: &[(&str, &str)]) -> TemplateError {
    Templates::load(directory(files).path()).unwrap_err()
}

#[test]
fn a_directory_takes_the_places_of_ours_one_by_one() {
    let directory = directory(&[
        ("de/planned.subject", "Geplant:\n  {{ title }}"),
        (
            "de/planned.txt",
            "{{ window.from.date }} {{ window.from.clock }} {% include '_ask.txt' %}",
        ),
        ("de/_ask.txt", "{% if ask.by %}bis {{ ask.by.utc }} UTC{% endif %}"),
        ("en/started.subject", "Off we go"),
    ]);
    let templates = Templates::load(directory.path()).unwrap();
    let planned = sample(Kind::Planned, Fullness::Full);

    let german = templates.message("de-AT", &planned).unwrap();
    assert_eq!(german.subject.as_str(), "Geplant: openssl 3.0.17-1~deb12u2 for Debian 12");
    assert_eq!(german.text, "2026-03-10 23:00 bis 2026-03-09 09:00 UTC\n");
    assert!(german.html.contains("We plan a patch"), "what it lacks is taken from the English");

    let started = sample(Kind::Started, Fullness::Full);
    for language in ["en", "de", "fr"] {
        assert_eq!(templates.message(language, &started).unwrap().subject.as_str(), "Off we go");
    }
    let french = templates.message("fr", &planned).unwrap();
    assert!(french.text.starts_with("We plan a patch"));
    assert_eq!(templates.languages().collect::<Vec<_>>(), ["en", "de"]);
}

#[test]
fn a_narrower_language_falls_back_to_the_wider_one_and_what_is_missing_is_known() {
    let directory = directory(&[
        ("de/planned.subject", "Geplant: {{ title }}"),
        ("de/planned.txt", "Geplant für {{ window.text }}"),
        ("de-AT/planned.subject", "Servus: {{ title }}"),
    ]);
    let templates = Templates::load(directory.path()).unwrap();
    let planned = sample(Kind::Planned, Fullness::Full);

    let austrian = templates.message("de-AT", &planned).unwrap();
    assert!(austrian.subject.as_str().starts_with("Servus: "), "{austrian:?}");
    assert!(austrian.text.starts_with("Geplant für "), "{austrian:?}");
    assert!(austrian.html.contains("We plan a patch"), "{austrian:?}");

    for (language, speaks) in
        [("en", true), ("en-GB", true), ("de", true), ("de-CH", true), ("fr", false), ("", false)]
    {
        assert_eq!(templates.speaks(language), speaks, "{language}");
    }
    let gaps: Vec<_> = templates.gaps().collect();
    let [(german, of_german), (narrower, _)] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((*german, *narrower), ("de", "de-AT"));
    assert!(!of_german.contains(&"planned.txt") && of_german.contains(&"planned.html"));
    assert!(
        of_german.contains(&"clocks.txt")
            && of_german.contains(&"drift.html")
            && of_german.contains(&"_words.txt")
    );
    assert_eq!(Templates::english().gaps().count(), 0);
}

#[test]
fn a_name_that_is_not_there_is_told_with_file_and_line() {
    let error = refused(&[("de/failed.txt", "Hallo\n\n{{ windw.text }}\n")]);
    assert_eq!(error.to_string(), "`de/failed.txt`, line 3: there is no `windw`");
    assert!(error.help().contains("window"), "{}", error.help());

    let error = refused(&[("de/failed.html", "<p>\n{{ window.txt }}\n")]);
    assert_eq!(error.to_string(), "`de/failed.html`, line 2: there is no `window.txt`");

    // In a branch that no sample comes through.
    let error =
        refused(&[("de/planned.txt", "x\n{% if sequence > 999 %}\n{{ titel }}{% endif %}")]);
    assert_eq!(error.to_string(), "`de/planned.txt`, line 3: there is no `titel`");

    // In a part, told where it stands.
    let error = refused(&[("de/_ask.txt", "\n{{ asc.mode }}")]);
    assert_eq!(error.to_string(), "`de/_ask.txt`, line 2: there is no `asc`");

    // Of what is about many things as well.
    let error =
        refused(&[("de/drift.txt", "{% for drift in drifts %}\n{{ drift.pfad }}{% endfor %}")]);
    assert_eq!(error.to_string(), "`de/drift.txt`, line 2: there is no `drift.pfad`");

    // Only a full notice has an impact: what does not do for a bare one is refused.
    let error = refused(&[("de/planned.txt", "{{ impact.install.text }}")]);
    assert!(
        matches!(error, TemplateError::Missing { .. } | TemplateError::Wrong { .. }),
        "{error}"
    );
}

#[test]
fn what_cannot_be_a_template_is_refused() {
    let error = refused(&[("de/planed.txt", "x")]);
    assert_eq!(error.to_string(), "`de/planed.txt` is the template of nothing");
    assert!(error.help().contains("<kind>.txt"));

    assert!(matches!(refused(&[("deutsch!/planned.txt", "x")]), TemplateError::Language { .. }));

    let error = refused(&[("de/planned.txt", "a\n{% if x\n")]);
    let TemplateError::Wrong { file, line, .. } = &error else { panic!("{error}") };
    assert_eq!((file.as_str(), *line), ("de/planned.txt", 2), "{error}");

    assert!(matches!(refused(&[("de/digest.subject", " \n")]), TemplateError::NoSubject { .. }));
    assert!(matches!(
        refused(&[("de/planned.txt", &"x".repeat(300_000))]),
        TemplateError::TooLarge { .. }
    ));
    assert!(matches!(
        refused(&[(
            "de/planned.txt",
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
        )]),
        TemplateError::Wrong { .. }
    ));
    assert!(matches!(Templates::load(Path::new("/nowhere")), Err(TemplateError::File { .. })));
}

#[test]
fn templates_are_shared_by_threads() {
    const fn shared<T: Send + Sync + Clone>() {}
    shared::<Templates>();
}
