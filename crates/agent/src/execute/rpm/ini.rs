//! Configuration files of dnf: sections with values, of which one may go on in lines that begin with a
//! blank.

/// The sections of a file, each with its values, in their order.
pub(super) fn parse(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let begins = line.trim_start();
        if let Some(name) = begins.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            sections.push((name.0.trim().to_owned(), Vec::new()));
            continue;
        }
        let Some((_, values)) = sections.last_mut() else { continue };
        if line.starts_with([' ', '\t'])
            && let Some((_, value)) = values.last_mut()
        {
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((key, value)) = line.split_once('=') {
            values.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sections
}

/// The words of a list.
pub(super) fn words(value: &str) -> impl Iterator<Item = String> {
    value.split([',', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// What dnf takes for yes; `None` where it is neither yes nor no.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}
