//! Passkeys (W3C Web Authentication Level 3): who the relying party is, and the two ceremonies.
//!
//! Each ceremony has two halves; what this side must remember between them is bytes for the store,
//! which gives them out once. User verification (a PIN, a finger) is asked for and checked, so that a
//! passkey is two factors in one.

use ledger::passkey::{PasskeyKey, Site};
use store::{NewPasskey, Passkey};
use webauthn_rp::bin::{Decode as _, Encode as _};
use webauthn_rp::request::auth::AuthenticationVerificationOptions;
use webauthn_rp::request::register::{
    CredProtect, PublicKeyCredentialUserEntity, RegistrationVerificationOptions, UserHandle16,
};
use webauthn_rp::request::{
    AsciiDomain, DomainOrigin, ExtensionInfo, Port, PublicKeyCredentialDescriptor, RpId, Scheme,
};
use webauthn_rp::response::register::{CompressedPubKey, DynamicState, StaticState};
use webauthn_rp::response::{AuthTransports, CredentialId};
use webauthn_rp::{
    AuthenticatedCredential, DiscoverableAuthentication16, DiscoverableAuthenticationServerState,
    DiscoverableCredentialRequestOptions, PublicKeyCredentialCreationOptions, Registration,
    RegistrationServerState,
};

use crate::problem::{Kind, Problem};

/// Whom passkeys are bound to: the host of the console's address, and exactly this origin.
#[derive(Debug)]
pub(crate) struct RelyingParty {
    scheme: String,
    host: String,
    port: Port,
    id: Option<RpId>,
}

/// The half of a ceremony that begins it.
#[derive(Debug)]
pub(crate) struct Begun {
    /// For the browser.
    pub(crate) options: serde_json::Value,
    /// To remember.
    pub(crate) state: Vec<u8>,
}

/// Who somebody is for an authenticator.
pub(crate) struct Holder<'a> {
    pub(crate) handle: [u8; 16],
    pub(crate) login: &'a str,
    pub(crate) name: &'a str,
}

impl RelyingParty {
    /// The relying party at an address: `https://cloud.example.org[:PORT]`, or `http://localhost[:PORT]`.
    /// Where an address is on this machine and names no port, any port is this machine's.
    pub(crate) fn of(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is not an address of a console");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if !matches!(scheme, "https" | "http") || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(wrong());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse::<u16>().map_err(|_| wrong())?))
            }
            _ => (authority, None),
        };
        let is_local = host == "localhost";
        if scheme == "http" && !is_local && !is_address(host) {
            return Err(format!("{}: only `localhost` may be without TLS", wrong()));
        }
        let port = match port {
            Some(443) if scheme == "https" => Port::None,
            Some(80) if scheme == "http" => Port::None,
            Some(port) => Port::Val(port),
            None if is_local => Port::Any,
            None => Port::None,
        };
        let id = if is_address(host) {
            None
        } else {
            let domain = AsciiDomain::try_from(host.to_owned()).map_err(|_| wrong())?;
            Some(RpId::Domain(domain))
        };
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), port, id })
    }

    /// Whether browsers let passkeys be bound to it: they must have a name.
    pub(crate) const fn has_passkeys(&self) -> bool {
        self.id.is_some()
    }

    fn id(&self) -> Result<&RpId, Problem> {
        self.id.as_ref().ok_or_else(|| {
            Problem::new(
                Kind::Refused,
                "passkeys are bound to a name, and there is only an address",
            )
            .help("open the console by its name, which `up --url` tells")
        })
    }

    /// Where people sign with passkeys, for whoever verifies it.
    pub(crate) fn site(&self) -> Result<Site, Problem> {
        self.id()?;
        let port = match self.port {
            Port::Val(port) => format!(":{port}"),
            Port::None | Port::NoneVal(_) | Port::Any => String::new(),
        };
        let site = Site::at(&format!("{}://{}{port}", self.scheme, self.host))
            .map_err(|error| Problem::new(Kind::Refused, error.to_string()).help(error.help()))?;
        Ok(if matches!(self.port, Port::Any) { site.at_any_port() } else { site })
    }

    fn origin(&self) -> DomainOrigin<'_, '_> {
        let scheme = if self.scheme == "https" { Scheme::Https } else { Scheme::Other("http") };
        DomainOrigin { scheme, host: &self.host, port: self.port }
    }

    /// Begins the registration of a passkey; the authenticator is told which ones it has already.
    pub(crate) fn begin_registration(
        &self,
        holder: &Holder<'_>,
        known: &[Passkey],
    ) -> Result<Begun, Problem> {
        let odd = || Problem::new(Kind::Refused, "this login or name cannot be told to a passkey");
        let Ok(handle) = UserHandle16::decode(holder.handle);
        let user = PublicKeyCredentialUserEntity {
            name: holder.login.try_into().map_err(|_| odd())?,
            id: &handle,
            display_name: Some(holder.name.try_into().map_err(|_| odd())?),
        };
        let known = known.iter().filter_map(|passkey| {
            let id = CredentialId::<Vec<u8>>::decode(passkey.credential.clone()).ok()?;
            let transports = AuthTransports::decode(0).ok()?;
            Some(PublicKeyCredentialDescriptor { id, transports })
        });
        let mut options =
            PublicKeyCredentialCreationOptions::passkey(self.id()?, user, known.collect());
        // Wished for, not enforced: Chromium refuses authenticators that do not know it, and we ask for
        // user verification at each use anyway.
        let wish = ExtensionInfo::AllowDontEnforceValue;
        options.extensions.cred_protect = CredProtect::UserVerificationRequired(wish);
        let (server, client) = options.start_ceremony().map_err(|_| failed())?;
        begun(&client, server.encode().map_err(|_| failed())?)
    }

    /// Ends the registration.
    pub(crate) fn end_registration(
        &self,
        state: &[u8],
        answer: &serde_json::Value,
        name: domain::cloud::Name,
    ) -> Result<NewPasskey, Problem> {
        let state = RegistrationServerState::<16>::decode(state).map_err(|_| failed())?;
        let json = serde_json::to_vec(answer).map_err(|_| failed())?;
        let answer = Registration::from_json_relaxed(&json).map_err(|error| odd(&error))?;
        let origin = self.origin();
        let options = RegistrationVerificationOptions::<DomainOrigin<'_, '_>, &str> {
            allowed_origins: std::slice::from_ref(&origin),
            error_on_unsolicited_extensions: false,
            ..RegistrationVerificationOptions::default()
        };
        let credential =
            state.verify(self.id()?, &answer, &options).map_err(|error| odd(&error))?;
        let Ok(static_state) = credential.static_state().encode();
        let Ok(dynamic_state) = credential.dynamic_state().encode();
        Ok(NewPasskey {
            name,
            credential: credential.id().as_ref().to_vec(),
            static_state,
            dynamic_state: dynamic_state.to_vec(),
        })
    }

    /// Begins a sign-in by whoever has a passkey.
    pub(crate) fn begin_sign_in(&self) -> Result<Begun, Problem> {
        let options = DiscoverableCredentialRequestOptions::passkey(self.id()?);
        let (server, client) = options.start_ceremony().map_err(|_| failed())?;
        begun(&client, server.encode().map_err(|_| failed())?)
    }

    /// Ends the sign-in by a passkey; gives what changed about it.
    pub(crate) fn end_sign_in(
        &self,
        state: &[u8],
        answer: &Assertion,
        passkey: &Passkey,
        handle: [u8; 16],
    ) -> Result<Vec<u8>, Problem> {
        let damaged = || Problem::new(Kind::Internal, "a kept passkey is damaged");
        let state = DiscoverableAuthenticationServerState::decode(state).map_err(|_| failed())?;
        let Ok(handle) = UserHandle16::decode(handle);
        let id = CredentialId::<&[u8]>::decode(&passkey.credential).map_err(|_| damaged())?;
        let static_state = StaticState::decode(&passkey.static_state).map_err(|_| damaged())?;
        let dynamic = passkey.dynamic_state.as_slice().try_into().map_err(|_| damaged())?;
        let dynamic = DynamicState::decode(dynamic).map_err(|_| damaged())?;
        let mut credential = AuthenticatedCredential::new(id, &handle, static_state, dynamic)
            .map_err(|_| damaged())?;
        let origin = self.origin();
        let options = AuthenticationVerificationOptions::<DomainOrigin<'_, '_>, &str> {
            allowed_origins: std::slice::from_ref(&origin),
            error_on_unsolicited_extensions: false,
            ..AuthenticationVerificationOptions::default()
        };
        state
            .verify(self.id()?, &answer.0, &mut credential, &options)
            .map_err(|error| odd(&error))?;
        let Ok(dynamic_state) = credential.dynamic_state().encode();
        Ok(dynamic_state.to_vec())
    }
}

/// The public key of a passkey, as a key that signs for a tenant.
///
/// # Errors
/// If it is of a kind that few authenticators have, and whose signatures nobody else is to have to
/// verify.
pub(crate) fn public_key(passkey: &Passkey) -> Result<PasskeyKey, Problem> {
    let damaged = || Problem::new(Kind::Internal, "a kept passkey is damaged");
    let StaticState { credential_public_key, .. } =
        StaticState::decode(&passkey.static_state).map_err(|_| damaged())?;
    let key = match &credential_public_key {
        CompressedPubKey::Ed25519(key) => PasskeyKey::ed25519(key.inner()),
        CompressedPubKey::P256(key) => {
            let (x, y_is_odd) = key.as_parts();
            PasskeyKey::p256(x, y_is_odd)
        }
        CompressedPubKey::P384(_) | CompressedPubKey::Rsa(_) => {
            return Err(Problem::new(Kind::Refused, "this passkey signs with RSA or P-384")
                .help("add one that signs with ES256 or Ed25519, as nearly all do"));
        }
    };
    key.map_err(|_| damaged())
}

/// What an authenticator answers at sign-in.
pub(crate) struct Assertion(DiscoverableAuthentication16);

impl Assertion {
    /// Reads `PublicKeyCredential.toJSON()`.
    pub(crate) fn read(answer: &serde_json::Value) -> Result<Self, Problem> {
        let json = serde_json::to_vec(answer).map_err(|_| failed())?;
        DiscoverableAuthentication16::from_json_relaxed(&json)
            .map(Self)
            .map_err(|error| odd(&error))
    }

    /// The authenticator's name for the passkey.
    pub(crate) fn credential(&self) -> Vec<u8> {
        self.0.raw_id().as_ref().to_vec()
    }
}

fn begun(client: &impl serde::Serialize, state: impl AsRef<[u8]>) -> Result<Begun, Problem> {
    let options = serde_json::to_value(client).map_err(|_| failed())?;
    Ok(Begun { options, state: state.as_ref().to_vec() })
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

fn failed() -> Problem {
    Problem::new(Kind::Internal, "the passkey ceremony could not be made")
}

fn odd(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(Kind::Refused, format!("the passkey was not taken: {error}"))
        .help("begin again, in the console at its own address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_bound_to_a_name() {
        let of = |url: &str| RelyingParty::of(url);
        assert!(of("https://cloud.example.org").unwrap().has_passkeys());
        assert!(of("https://cloud.example.org:8443/").unwrap().has_passkeys());
        assert!(of("http://localhost:7077").unwrap().has_passkeys());
        assert!(!of("http://127.0.0.1:7077").unwrap().has_passkeys());
        assert!(!of("https://[::1]:7077").unwrap().has_passkeys());
        for odd in [
            "",
            "cloud.example.org",
            "ftp://x",
            "http://cloud.example.org",
            "https://a@b",
            "https://x/y",
            "https://x:0x",
            "https://",
        ] {
            assert!(of(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn another_origin_is_not_ours() {
        use webauthn_rp::response::Origin;
        let is_ours = |url: &str, origin: &str| {
            RelyingParty::of(url).unwrap().origin() == Origin(origin.into())
        };
        assert!(is_ours("https://cloud.example.org", "https://cloud.example.org"));
        assert!(is_ours("https://cloud.example.org:443", "https://cloud.example.org"));
        assert!(is_ours("https://cloud.example.org:8443", "https://cloud.example.org:8443"));
        assert!(is_ours("http://localhost", "http://localhost:7077"));
        for (url, origin) in [
            ("https://cloud.example.org", "http://cloud.example.org"),
            ("https://cloud.example.org", "https://cloud.example.org:8443"),
            ("https://cloud.example.org", "https://evil.cloud.example.org"),
            ("http://localhost:7077", "http://localhost:7078"),
        ] {
            assert!(!is_ours(url, origin), "{url} {origin}");
        }
    }
}
