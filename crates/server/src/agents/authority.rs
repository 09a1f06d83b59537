//! The certificate authority for agents: small, our own, and trusted for nothing else.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use store::KeyHash;
use time::OffsetDateTime;

/// How long an agent's certificate is good.
pub(super) const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How far back certificates begin, for clocks that are behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// PKCS #8 before an Ed25519 seed (RFC 8410, section 7).
const ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why the authority could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key, request or certificate cannot be used.
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up with it.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// Who may connect cannot be told.
    #[error("TLS cannot be set up: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Signs certificates of agents, and that of the listener they talk to.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// The authority of a seed: the same certificate from the same seed, at every start and in
    /// every process.
    pub(super) fn new(seed: &[u8; 32]) -> Result<Self, AuthorityError> {
        let mut key = ED25519.to_vec();
        key.extend_from_slice(seed);
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Patchwright agents");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.serial_number =
            Some(SerialNumber::from_slice(&serial(&key.subject_public_key_info())));
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2076, 1, 1);
        // Ed25519 signs without randomness.
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A token's secret together with whom the agent is to believe.
    pub(super) fn token_text(&self, secret: &str) -> String {
        format!("{secret}.{}", BASE64_URL_SAFE_NO_PAD.encode(&self.certificate))
    }

    /// A certificate for the key of a signing request, and that key's hash. Nothing else of the
    /// request is believed.
    pub(super) fn sign(
        &self,
        request: &str,
        now: Timestamp,
        serial: [u8; 16],
    ) -> Result<(String, KeyHash, Timestamp), AuthorityError> {
        let asked = CertificateSigningRequestParams::from_pem(request)?;
        let key = hash_of(&asked.public_key.subject_public_key_info());
        let until = now + LIFETIME;
        let mut params = leaf(now, until, serial);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("agent {key}").get(..38).unwrap_or("agent"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let request = CertificateSigningRequestParams { params, public_key: asked.public_key };
        Ok((request.signed_by(&self.issuer)?.pem(), key, until))
    }

    /// TLS for the agents' listener: whoever has a certificate of ours shows it; who has none can
    /// only join.
    pub(super) fn listener(
        &self,
        names: &[String],
        now: Timestamp,
        number: [u8; 16],
    ) -> Result<ServerConfig, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(now, now + LIFETIME * 13, number);
        params.distinguished_name.push(DnType::CommonName, "Patchwright");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone(), self.certificate.clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The key in a certificate that TLS has verified.
pub(super) fn key_of(certificate: &CertificateDer<'_>) -> Option<KeyHash> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(hash_of(parsed.tbs_certificate.subject_pki.raw))
}

fn hash_of(info: &[u8]) -> KeyHash {
    KeyHash::from(<[u8; 32]>::from(Sha256::digest(info)))
}

fn leaf(now: Timestamp, until: Timestamp, serial: [u8; 16]) -> CertificateParams {
    let at = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    let mut params = CertificateParams::default();
    params.not_before = at(now - BACKDATED);
    params.not_after = at(until);
    params.serial_number = Some(SerialNumber::from_slice(&positive(serial)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// A serial number is positive (RFC 5280, 4.1.2.2).
const fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    serial[0] = serial[0] & 0x7f | 0x01;
    serial
}

fn serial(info: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(info)[..16]);
    positive(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_authority() {
        let [one, same, other] =
            [[7; 32], [7; 32], [8; 32]].map(|seed| Authority::new(&seed).unwrap().certificate);

        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    #[test]
    fn a_certificate_names_the_key_that_asked_and_nothing_it_asked_for() {
        let authority = Authority::new(&[7; 32]).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::new(vec!["admin.example.org".to_owned()]).unwrap();
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = asked.serialize_request(&key).map(|csr| csr.pem().unwrap());
        // Requests to be an authority may be refused as such; either way none comes out.
        let Ok(request) = request else { return };
        let now = Timestamp::from_second(1_800_000_000).unwrap();

        let Ok((pem, hash, until)) = authority.sign(&request, now, [1; 16]) else { return };

        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(key_of(&CertificateDer::from(pem.contents.clone())), Some(hash));
        assert_eq!(certificate.validity().not_after.timestamp(), until.as_second());
        assert!(!certificate.is_ca());
        assert!(certificate.subject_alternative_name().unwrap().is_none());
    }
}
