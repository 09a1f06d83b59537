//! Files as a real system has them: this machine's, and those of a stock root that `PATCHWRIGHT_STOCK_ROOT` names
//! (`mmdebstrap --variant=minbase --include=openssh-server,nginx,postgresql,sudo,snmpd bookworm ROOT`).

use std::path::{Path, PathBuf};

use domain::configuration::secret::{FingerprintKey, Redacted, Redaction, redact};

/// Texts below a root's `/etc`, with their paths inside of it.
fn texts(root: &Path) -> Vec<(String, String)> {
    let mut directories: Vec<PathBuf> = vec![root.join("etc")];
    let mut texts = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(entry.path())
            {
                let path = entry.path();
                let inside = path.strip_prefix(root).unwrap_or(&path).display();
                texts.push((format!("/{inside}"), text));
            }
        }
    }
    texts
}

fn redacted(path: &str, text: &str) -> Option<Redacted> {
    match redact(path, text.as_bytes(), &FingerprintKey::from([1; 32])) {
        Redaction::Text(redacted) => Some(redacted),
        Redaction::Withheld { .. } => None,
    }
}

#[test]
fn nothing_but_secrets_is_lost_of_this_machines_files() {
    for (path, text) in texts(Path::new("/")) {
        let Some(once) = redacted(&path, &text) else { continue };

        let (mut restored, mut at) = (String::new(), 0);
        for secret in &once.secrets {
            restored.push_str(&once.text[at..secret.marker.start]);
            restored.push_str(&text[secret.original.clone()]);
            at = secret.marker.end;
        }
        restored.push_str(&once.text[at..]);
        assert!(restored == text, "{path}");
        let twice = redacted(&path, &once.text).unwrap();
        assert!(twice.text == once.text, "{path}");
    }
}

#[test]
fn a_stock_system_has_its_keys_and_hardly_anything_else() {
    let Some(root) = std::env::var_os("PATCHWRIGHT_STOCK_ROOT") else {
        eprintln!("skipped: PATCHWRIGHT_STOCK_ROOT names no root");
        return;
    };
    let texts = texts(Path::new(&root));
    assert!(texts.len() > 100, "{}", texts.len());
    let with = |(path, text): &(String, String)| {
        let found = redacted(path, text)?.secrets;
        (!found.is_empty()).then(|| (path.clone(), found))
    };
    let found: Vec<_> = texts.iter().filter_map(with).collect();

    // What a stock system really has: the keys that sshd made, and no password.
    let is_key = |path: &str| {
        path.starts_with("/etc/ssh/ssh_host_") || path.starts_with("/etc/ssl/private/")
    };
    let (keys, wrong): (Vec<_>, Vec<_>) = found.iter().partition(|(path, _)| is_key(path));
    let has_keys = texts.iter().any(|(_, text)| text.contains("-----BEGIN OPENSSH PRIVATE KEY"));
    assert!(!has_keys || !keys.is_empty());
    assert!(wrong.len() * 100 <= texts.len(), "{} of {}: {wrong:?}", wrong.len(), texts.len());
}
