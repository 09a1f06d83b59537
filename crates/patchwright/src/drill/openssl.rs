//! A tenant's signature, verified by OpenSSL alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

/// Holds a DSSE envelope against a public key (PEM).
///
/// # Errors
/// Where it is none, or OpenSSL does not find its signature good.
pub(super) fn verify(envelope: &Path, key: &Path) -> Result<()> {
    let text = fs::read_to_string(envelope)?;
    let carried: Value = serde_json::from_str(&text).context("no envelope")?;
    let part = |value: &Value| -> Result<Vec<u8>> {
        Ok(BASE64_STANDARD.decode(value.as_str().context("no text")?)?)
    };
    let payload = part(&carried["payload"])?;
    let signature = part(&carried["signatures"][0]["sig"])?;
    let kind = carried["payloadType"].as_str().context("no type")?;
    // PAE of the DSSE protocol.
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend_from_slice(&payload);
    let place = tempfile::tempdir()?;
    let (message, mark) = (place.path().join("signed"), place.path().join("signature"));
    fs::write(&message, signed)?;
    fs::write(&mark, signature)?;
    let output = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
        .arg(key)
        .arg("-in")
        .arg(&message)
        .arg("-sigfile")
        .arg(&mark)
        .output()
        .context("cannot start `openssl`")?;
    if !output.status.success() {
        bail!("OpenSSL refuses the signature of `{}`", envelope.display());
    }
    Ok(())
}
