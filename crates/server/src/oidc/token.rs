//! What a provider's ID token proves, and what its claims mean here.
//!
//! The order is that of OpenID Connect Core 1.0, 3.1.3.7; the clauses are named beside the checks that
//! the library leaves to its callers.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use domain::cloud::{Login, Name, Role};
use jiff::{SignedDuration, Timestamp};
use openidconnect::core::{
    CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AccessTokenHash, ClaimsVerificationError, ClientId, IssuerUrl, Nonce,
    SignatureVerificationError, SigningError,
};
use serde_json::{Map, Value};

use super::file::{Accounts, Mfa};

/// How long ago a token may have been issued: it comes straight from the provider.
const OLDEST: SignedDuration = SignedDuration::from_mins(10);

/// How far the provider's clock may be ahead.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Longest subject (OpenID Connect Core, 2).
const LONGEST_SUBJECT: usize = 255;

/// Longest login made of a claim.
const LONGEST_LOGIN: usize = 120;

/// Signatures that are taken: those by keys that only the provider has. Not `none`, and no HMAC: its
/// key is the client's secret, which is ours as well.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Something that one has, of RFC 8176's words: a key in hardware or software, a smart card, a code.
const POSSESSION: [&str; 5] = ["hwk", "swk", "sc", "pop", "otp"];

/// Something that one knows or is. Texts to a phone are neither (NIST SP 800-63B-4, 3.1.3.3).
const KNOWLEDGE: [&str; 7] = ["pwd", "pin", "fpt", "face", "iris", "retina", "vbm"];

/// Why a token proves nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error(transparent)]
    Claims(#[from] ClaimsVerificationError),
    #[error("its key: {0}")]
    Key(#[from] SignatureVerificationError),
    #[error("it was issued to `{found}`, and we are `{expected}`")]
    Party { found: String, expected: String },
    #[error("it names several audiences, and not to which it was issued")]
    NoParty,
    #[error("it does not belong to the access token beside it")]
    AccessToken,
    #[error("its access token's hash: {0}")]
    Hash(#[from] SigningError),
    #[error("its subject has {0} bytes, or is not ASCII")]
    Subject(usize),
    #[error("it cannot be read")]
    Malformed,
}

/// What a token is compared with.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a IssuerUrl,
    pub(super) client: &'a ClientId,
    pub(super) nonce: &'a Nonce,
    pub(super) now: Timestamp,
}

/// What a verified token says of somebody.
#[derive(Debug)]
pub(super) struct Vouched {
    pub(super) subject: String,
    claims: Map<String, Value>,
}

/// Verifies a token that came from the provider's token endpoint.
pub(super) fn verify(
    token: &CoreIdToken,
    access_token: &AccessToken,
    keys: CoreJsonWebKeySet,
    expected: &Expected<'_>,
) -> Result<Vouched, TokenError> {
    let Expected { issuer, client, nonce, now } = *expected;
    let at = instant(now).ok_or(TokenError::Malformed)?;
    let verifier = CoreIdTokenVerifier::new_public_client(client.clone(), issuer.clone(), keys)
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || at)
        .set_issue_time_verifier_fn(move |issued| {
            let issued = Timestamp::from_second(issued.timestamp()).map_err(|it| it.to_string())?;
            if issued > now + SKEW || issued < now - OLDEST {
                return Err(format!("issued at {issued} (current time is {now})"));
            }
            Ok(())
        });
    let claims = token.claims(&verifier, nonce)?;
    // 3.1.3.7, 4 and 5: whose token it is, where that is said or not plain.
    match claims.authorized_party() {
        Some(party) if party != client => {
            let (found, expected) = (party.to_string(), client.to_string());
            return Err(TokenError::Party { found, expected });
        }
        None if claims.audiences().len() > 1 => return Err(TokenError::NoParty),
        _ => {}
    }
    // 3.1.3.8.
    if let Some(hash) = claims.access_token_hash() {
        let key = token.signing_key(&verifier)?;
        let own = AccessTokenHash::from_token(access_token, token.signing_alg()?, key)?;
        if own != *hash {
            return Err(TokenError::AccessToken);
        }
    }
    let subject = claims.subject().to_string();
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || !subject.is_ascii() {
        return Err(TokenError::Subject(subject.len()));
    }
    Ok(Vouched { subject, claims: payload(token).ok_or(TokenError::Malformed)? })
}

/// All claims of a token whose signature was verified.
fn payload(token: &CoreIdToken) -> Option<Map<String, Value>> {
    let token = token.to_string();
    let payload = BASE64URL.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn instant(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.as_second(), 0)
}

impl Vouched {
    /// Whether the provider saw more than a password: by the words that its operator lists, or else by
    /// the meaning of RFC 8176's.
    pub(super) fn is_strong(&self, mfa: Option<&Mfa>) -> bool {
        let methods = words(self.claims.get("amr"));
        let Some(mfa) = mfa else {
            let one_of = |known: &[&str]| methods.iter().any(|method| known.contains(method));
            return methods.contains(&"mfa") || (one_of(&POSSESSION) && one_of(&KNOWLEDGE));
        };
        let class = self.text("acr");
        methods.iter().any(|method| mfa.amr.iter().any(|it| it == method))
            || class.is_some_and(|class| mfa.acr.iter().any(|it| it == class))
    }

    /// The role that the mapping gives, if any.
    pub(super) fn role(&self, accounts: &Accounts) -> Option<Role> {
        let (first, rest) = accounts.claim.steps().split_first()?;
        let value = rest
            .iter()
            .try_fold(self.claims.get(first)?, |value, step| value.as_object()?.get(step))?;
        let values = words(Some(value));
        let fits = |value: &str| values.contains(&value);
        accounts.roles.iter().find(|it| fits(&it.value)).map(|it| it.role)
    }

    /// Whether the mail address, which the provider has verified, is of one of the domains.
    pub(super) fn is_of(&self, domains: &[String]) -> bool {
        let is_verified = self.claims.get("email_verified") == Some(&Value::Bool(true));
        let domain = self.text("email").and_then(|email| email.rsplit_once('@')).map(|it| it.1);
        domain.is_some_and(|domain| {
            is_verified && domains.iter().any(|it| domain.eq_ignore_ascii_case(it))
        })
    }

    /// What an account made here is called: `corp+anna`. The provider's name in front keeps it out of
    /// the way of everybody else's logins.
    pub(super) fn login(&self, provider: &str) -> Option<Login> {
        let claim = self.text("preferred_username").or_else(|| self.text("email"));
        let mut login = format!("{provider}+");
        login.extend(claim.unwrap_or(&self.subject).to_lowercase().chars().map(|c| match c {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' | '+' | '@' => c,
            _ => '-',
        }));
        login.truncate(LONGEST_LOGIN);
        login.parse().ok()
    }

    /// What the person is called.
    pub(super) fn name(&self) -> Option<Name> {
        self.text("name").and_then(|name| name.trim().parse().ok())
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str().filter(|text| !text.is_empty())
    }
}

/// A claim's words, be it one or a list.
fn words(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::file::{ClaimPath, RoleOf};
    use serde_json::json;

    fn vouched(claims: Value) -> Vouched {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        Vouched { subject: "248289761001".to_owned(), claims }
    }

    #[test]
    fn two_factors_are_two_kinds_of_proof() {
        let is_strong = |amr: &[&str]| vouched(json!({ "amr": amr })).is_strong(None);

        for amr in [&["mfa"][..], &["hwk", "pin"], &["pwd", "otp"], &["swk", "fpt"]] {
            assert!(is_strong(amr), "{amr:?}");
        }
        for amr in [&[][..], &["pwd"], &["hwk"], &["pwd", "pin"], &["otp", "swk"], &["pwd", "sms"]]
        {
            assert!(!is_strong(amr), "{amr:?}");
        }
        assert!(!vouched(json!({})).is_strong(None));
    }

    #[test]
    fn the_operator_may_say_which_words_count() {
        let mfa = Mfa { amr: vec!["otp".to_owned()], acr: vec!["urn:two".to_owned()] };
        let is_strong = |claims| vouched(claims).is_strong(Some(&mfa));

        assert!(is_strong(json!({ "amr": ["otp"] })));
        assert!(is_strong(json!({ "acr": "urn:two" })));
        assert!(!is_strong(json!({ "amr": ["mfa"], "acr": "urn:one" })));
    }

    #[test]
    fn the_first_role_that_fits_counts() {
        let role = |value: &str, role| RoleOf { value: value.to_owned(), role };
        let roles = vec![role("admins", Role::Admin), role("staff", Role::Auditor)];
        let flat = Accounts { claim: ClaimPath::Name("groups".to_owned()), roles: roles.clone() };
        let path = ClaimPath::Path(vec!["realm".to_owned(), "roles".to_owned()]);
        let deep = Accounts { claim: path, roles };

        let of = |claims, accounts: &Accounts| vouched(claims).role(accounts);
        assert_eq!(of(json!({ "groups": ["staff", "admins"] }), &flat), Some(Role::Admin));
        assert_eq!(of(json!({ "groups": "staff" }), &flat), Some(Role::Auditor));
        assert_eq!(of(json!({ "realm": { "roles": ["staff"] } }), &deep), Some(Role::Auditor));
        for none in [json!({}), json!({ "groups": ["x", 1] }), json!({ "groups": { "admins": 1 } })]
        {
            assert_eq!(of(none, &flat), None);
        }
        assert_eq!(of(json!({ "realm": "roles" }), &deep), None);
    }

    #[test]
    fn a_mail_address_counts_once_it_is_verified() {
        let domains = ["example.org".to_owned()];
        let is_of = |email: &str, verified: Value| {
            vouched(json!({ "email": email, "email_verified": verified })).is_of(&domains)
        };

        assert!(is_of("anna@Example.ORG", json!(true)));
        for (email, verified) in [
            ("anna@example.org", json!(false)),
            ("anna@example.org", json!("true")),
            ("anna@example.org", Value::Null),
            ("anna@evil.example.org", json!(true)),
            ("anna@example.org@evil.example", json!(true)),
            ("example.org", json!(true)),
        ] {
            assert!(!is_of(email, verified), "{email}");
        }
    }

    #[test]
    fn a_login_is_made_of_what_there_is() {
        let login = |claims| vouched(claims).login("corp").unwrap().to_string();

        assert_eq!(login(json!({ "preferred_username": "Anna" })), "corp+anna");
        assert_eq!(login(json!({ "email": "anna@example.org" })), "corp+anna@example.org");
        assert_eq!(login(json!({ "preferred_username": "A b\u{202e}" })), "corp+a-b-");
        assert_eq!(login(json!({})), "corp+248289761001");
        assert_eq!(login(json!({ "email": "x".repeat(500) })).len(), LONGEST_LOGIN);
    }
}
