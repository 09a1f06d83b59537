//! The two ways to a repository's server: smart HTTP and SSH.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use devices::{Conversation, Heard, Limits, Target};
use domain::device::HostKeyFingerprint;
use reach::{Reach, Unreachable};
use url::Url;

use super::packet::first_flush;
use super::{Remote, credential};
use crate::blocking;
use crate::error::{SourceError, excerpt};
use crate::web::Web;

/// Most bytes of a list of references.
const LARGEST_LIST: u64 = 16 << 20;

/// Most bytes of an answer with its pack.
const LARGEST_PACK: u64 = 64 << 20;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(120);

const LIST: &str = "the list of references";
const PACK: &str = "what is fetched of the repository";

/// Where a server is.
pub(super) enum Door {
    Http(Url),
    Ssh { host: String, port: u16, path: String, user: Option<String> },
}

impl Door {
    /// Of an address that may be reached.
    pub(super) fn of(address: &str, reach: &Reach) -> Result<Self, SourceError> {
        let is_ssh = address.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("ssh://"));
        if !is_ssh {
            let url = reach.check(address)?;
            if url.query().is_some() {
                return Err(odd("a repository's address has no query"));
            }
            return Ok(Self::Http(url));
        }
        let url = Url::parse(address).map_err(|error| odd(&error.to_string()))?;
        let is_odd = url.password().is_some() || url.query().is_some() || url.fragment().is_some();
        let path = url.path();
        if is_odd || path.len() < 2 || path.contains('%') {
            return Err(odd("give `ssh://[USER@]HOST[:PORT]/PATH`"));
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        reach.check_host(&host)?;
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(ToOwned::to_owned);
        Ok(Self::Ssh { host, port: url.port().unwrap_or(22), path: path.to_owned(), user })
    }

    pub(super) fn host_of(address: &str) -> String {
        let url = Url::parse(address).ok();
        url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned()
    }
}

fn odd(reason: &str) -> SourceError {
    SourceError::Closed(Unreachable::Malformed { reason: reason.to_owned() })
}

/// A server that has said what it has.
pub(super) enum Wire {
    Http { web: Box<Web>, url: Url, authorization: Option<String>, said: Vec<u8> },
    Ssh { talk: Box<Conversation>, host: String, said: Vec<u8> },
}

impl Wire {
    pub(super) async fn begin(remote: &Remote<'_>, reach: &Reach) -> Result<Self, SourceError> {
        match Door::of(remote.url, reach)? {
            Door::Http(url) => http(url, remote, reach).await,
            Door::Ssh { host, port, path, user } => {
                ssh((host, port, path, user), remote, reach).await
            }
        }
    }

    pub(super) fn advertisement(&self) -> &[u8] {
        let (Self::Http { said, .. } | Self::Ssh { said, .. }) = self;
        said
    }

    pub(super) fn host_key(&self) -> Option<HostKeyFingerprint> {
        match self {
            Self::Http { .. } => None,
            Self::Ssh { talk, .. } => Some(talk.host_key().clone()),
        }
    }

    /// Asks for a pack; the answer as it came.
    pub(super) async fn ask(self, request: Vec<u8>) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Http { web, url, authorization, .. } => {
                blocking(move || {
                    let mut headers = vec![
                        ("content-type", "application/x-git-upload-pack-request"),
                        ("accept", "application/x-git-upload-pack-result"),
                    ];
                    headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
                    let url = below(&url, "git-upload-pack");
                    let answer = web.post(&url, &headers, &request, (PACK, LARGEST_PACK))?;
                    if answer.status != 200 {
                        return Err(web.refused(&answer));
                    }
                    Ok(answer.body)
                })
                .await
            }
            Self::Ssh { mut talk, host, .. } => {
                let failed = |error| SourceError::ssh(&host, error);
                talk.say(request).await.map_err(failed)?;
                let mut said = Vec::new();
                loop {
                    match heard(&mut talk, &host).await {
                        Ok(Heard::Data(part)) => said.extend_from_slice(&part),
                        // What is said to people beside an answer that is whole.
                        Err(SourceError::Refused { .. }) if said.ends_with(b"0000") => break,
                        Ok(_) => break,
                        Err(error) => return Err(error),
                    }
                    if said.len() as u64 > LARGEST_PACK {
                        return Err(SourceError::TooLarge { what: PACK, most: LARGEST_PACK });
                    }
                }
                talk.end().await;
                Ok(said)
            }
        }
    }

    /// Leaves without asking.
    pub(super) async fn end(self) {
        if let Self::Ssh { mut talk, .. } = self {
            // It ends the command as it should; whatever comes of it.
            let _ = talk.say(b"0000".to_vec()).await;
            talk.end().await;
        }
    }
}

/// An address below a repository's.
fn below(url: &Url, name: &str) -> Url {
    let mut below = url.clone();
    below.set_path(&format!("{}/{name}", url.path().trim_end_matches('/')));
    below
}

async fn http(url: Url, remote: &Remote<'_>, reach: &Reach) -> Result<Wire, SourceError> {
    let authorization = remote.password.map(|password| {
        let word = format!("{}:{}", remote.user.unwrap_or("git"), password.reveal());
        format!("Basic {}", BASE64_STANDARD.encode(word))
    });
    let web = Box::new(Web::new(&url, (reach, remote.roots), PATIENCE));
    blocking(move || {
        let mut list = below(&url, "info/refs");
        list.set_query(Some("service=git-upload-pack"));
        let mut headers = vec![("accept", "application/x-git-upload-pack-advertisement")];
        headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
        let answer = web.get(&list, &headers, (LIST, LARGEST_LIST))?;
        if answer.status != 200 {
            return Err(web.refused(&answer));
        }
        let kind = answer.headers.get("content-type").and_then(|it| it.to_str().ok());
        if kind != Some("application/x-git-upload-pack-advertisement") {
            return Err(SourceError::malformed("its server does not speak git's smart protocol"));
        }
        Ok(Wire::Http { web, url, authorization, said: answer.body })
    })
    .await
}

async fn ssh(
    (host, port, path, user): (String, u16, String, Option<String>),
    remote: &Remote<'_>,
    reach: &Reach,
) -> Result<Wire, SourceError> {
    let (asked, at) = (reach.clone(), host.clone());
    let found = blocking(move || Ok(asked.find(&at, port)?)).await?;
    let address = found.first().ok_or_else(|| Unreachable::Closed { host: host.clone() })?;
    let credential = credential(remote).ok_or_else(|| SourceError::Own {
        what: "signing in over SSH",
        reason: "neither key nor password is given".to_owned(),
    })?;
    let target = Target {
        // Exactly the one that was looked at, whatever the name stands for a moment later.
        address: address.ip().to_string(),
        port,
        user: user.or_else(|| remote.user.map(ToOwned::to_owned)).unwrap_or("git".to_owned()),
        credential,
        enable: None,
        host_key: remote.host_key.clone(),
    };
    // As git itself quotes it for the other side's shell.
    let command = format!("git-upload-pack '{}'", path.replace('\'', "'\\''"));
    let begun = Conversation::begin(&target, &Limits::default(), &command).await;
    let mut talk = begun.map_err(|error| SourceError::ssh(&host, error))?;
    let (mut said, mut at) = (Vec::new(), 0);
    loop {
        let Heard::Data(more) = heard(&mut talk, &host).await? else {
            return Err(SourceError::malformed("the list of references breaks off"));
        };
        said.extend_from_slice(&more);
        if said.len() as u64 > LARGEST_LIST {
            return Err(SourceError::TooLarge { what: LIST, most: LARGEST_LIST });
        }
        let (next, is_whole) = first_flush(&said, at)?;
        at = next;
        if is_whole {
            return Ok(Wire::Ssh { talk: Box::new(talk), host, said });
        }
    }
}

/// The next part of an answer, or its end. What is said beside it says why it ends.
async fn heard(talk: &mut Conversation, host: &str) -> Result<Heard, SourceError> {
    let mut aside = Vec::new();
    loop {
        match talk.hear().await.map_err(|error| SourceError::ssh(host, error))? {
            Heard::Data(part) => return Ok(Heard::Data(part)),
            Heard::Aside(part) if aside.len() < 4096 => aside.extend_from_slice(&part),
            Heard::Aside(_) => {}
            Heard::End if aside.is_empty() => return Ok(Heard::End),
            Heard::End => {
                let said = excerpt(&String::from_utf8_lossy(&aside));
                return Err(SourceError::Refused { said });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_ssh_lead_to_a_repository() {
        for address in [
            "https://git.acme.example/app.git",
            "ssh://git.acme.example/app.git",
            "ssh://git@git.acme.example:2222/srv/it's.git",
        ] {
            assert!(Door::of(address, &Reach::public()).is_ok(), "{address}");
        }
        for address in [
            "",
            "/srv/app.git",
            "file:///srv/app.git",
            "ext::sh -c id",
            "git://git.acme.example/app.git",
            "git@git.acme.example:app.git",
            "http://git.acme.example/app.git",
            "https://git.acme.example/app.git?x=1",
            "https://x:y@git.acme.example/app.git",
            "ssh://git:secret@git.acme.example/app.git",
            "ssh://git.acme.example",
            "ssh://-oProxyCommand=id/app.git",
            "ssh://127.0.0.1/app.git",
            "ssh://10.0.0.1/app.git",
            "ssh://[::1]/app.git",
            "ssh://localhost/app.git",
        ] {
            assert!(Door::of(address, &Reach::public()).is_err(), "{address}");
        }
    }

    #[test]
    fn what_is_asked_lies_below_the_address() {
        let url = Url::parse("https://a.example/app.git/").unwrap();
        assert_eq!(below(&url, "info/refs").as_str(), "https://a.example/app.git/info/refs");
    }
}
