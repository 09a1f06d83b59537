//! What services of this host offer over TLS: versions, suites, certificates. Asked where the owner says so, and nobody
//! but this host.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::change::FileHash;
use domain::configuration::document::DocumentRules;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    SupportedProtocolVersion,
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::host::Host;
use super::page::{Unseen, in_order};
use super::{Page, Pages};

/// Most addresses that are asked.
const MOST: usize = 64;

/// How long one handshake may take.
pub(super) const LIMIT: Duration = Duration::from_secs(3);

/// Most certificates of a chain that are shown.
const MOST_CERTIFICATES: usize = 10;

/// Suites of TLS 1.0 and 1.1 that servers have had (RFC 4346, RFC 4492).
const OLD_SUITES: [u16; 9] =
    [0xc013, 0xc014, 0xc009, 0xc00a, 0x0033, 0x0039, 0x002f, 0x0035, 0x000a];

/// What each address offers that the owner names.
pub(super) fn endpoints(host: &dyn Host, rules: &DocumentRules) -> Pages {
    if rules.tls.len() > MOST {
        return Err(Unseen::new(format!("more than {MOST} addresses are named")));
    }
    let page = |address: &SocketAddr| (format!("policy:tls/{address}"), host.tls(*address));
    Ok(rules.tls.iter().map(page).collect())
}

/// Asks a service of this host.
pub(super) fn ask(address: SocketAddr, limit: Duration) -> Page {
    if !is_own(address.ip()) {
        return Err(Unseen::new("it is no address of this host"));
    }
    let mut facts = Vec::new();
    for (name, minor) in [("TLS 1.0", 1), ("TLS 1.1", 2)] {
        let chosen = old(address, limit, minor).map_err(|error| unreachable(&error))?;
        facts.push(chosen.map_or_else(
            || format!("{name}: refused"),
            |suite| format!("{name}: offered, suite 0x{suite:04x}"),
        ));
    }
    let mut chain = Vec::new();
    for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        let Some(met) = current(address, limit, version).map_err(|error| unreachable(&error))?
        else {
            facts.push(format!("{name}: refused"));
            continue;
        };
        let suite = met.negotiated_cipher_suite().map(|it| format!("{:?}", it.suite()));
        let group = met.negotiated_key_exchange_group().map(|it| format!("{:?}", it.name()));
        let chosen = ["offered".to_owned()].into_iter().chain(suite).chain(group);
        facts.push(format!("{name}: {}", chosen.collect::<Vec<_>>().join(", ")));
        if let Some(certificates) = met.peer_certificates() {
            chain = certificates.to_vec();
        }
    }
    for (number, certificate) in chain.iter().take(MOST_CERTIFICATES).enumerate() {
        let shown = certificate_of(certificate);
        facts.extend(shown.into_iter().map(|fact| format!("certificate {}: {fact}", number + 1)));
    }
    Ok(in_order(facts))
}

fn unreachable(error: &io::Error) -> Unseen {
    Unseen::new(format!("it cannot be reached: {error}"))
}

/// Whether an address is this host's: only then may somebody listen at it.
fn is_own(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && UdpSocket::bind((address, 0)).is_ok()
}

/// A connection that ends in time, however slowly somebody answers.
struct Hurried {
    stream: TcpStream,
    deadline: Instant,
}

impl Hurried {
    fn connect(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + limit;
        Ok(Self { stream: TcpStream::connect_timeout(&address, limit)?, deadline })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Hurried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Hurried {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Which suite a server takes with a version that no library speaks any more; none where it takes none.
fn old(address: SocketAddr, limit: Duration, minor: u8) -> io::Result<Option<u16>> {
    let mut stream = Hurried::connect(address, limit)?;
    // Whatever goes wrong from here on is a way to refuse.
    if stream.write_all(&hello(minor)).is_err() {
        return Ok(None);
    }
    let mut head = [0; 5];
    // A handshake's record with the version of which was asked.
    if stream.read_exact(&mut head).is_err() || head[..3] != [22, 3, minor] {
        return Ok(None);
    }
    // Kind, length, version, random, length of the session's name.
    let mut message = [0; 4 + 2 + 32 + 1];
    if stream.read_exact(&mut message).is_err() || message[0] != 2 || message[4..6] != [3, minor] {
        return Ok(None);
    }
    let mut rest = vec![0; usize::from(message[38]) + 2];
    if stream.read_exact(&mut rest).is_err() {
        return Ok(None);
    }
    let suite = [rest[rest.len() - 2], rest[rest.len() - 1]];
    Ok(Some(u16::from_be_bytes(suite)))
}

/// A `ClientHello` of TLS 1.0 or 1.1 (RFC 4346 §7.4.1.2). It begins nothing that is secret, so that its random
/// bytes need not be.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([0x50; 32]);
    body.push(0);
    let suites: Vec<u8> = OLD_SUITES.iter().flat_map(|it| it.to_be_bytes()).collect();
    body.extend([0, 2 * 9]);
    body.extend(suites);
    // No compression.
    body.extend([1, 0]);
    // Groups x25519, secp256r1, secp384r1, and points that are not compressed (RFC 4492 §5.1).
    let extensions = [
        0, 10, 0, 8, 0, 6, 0, 29, 0, 23, 0, 24, //
        0, 11, 0, 2, 1, 0,
    ];
    body.extend([0, 18]);
    body.extend(extensions);
    let length = u16::try_from(body.len()).unwrap_or_default();
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

/// A handshake with a version of today, as far as it comes; none where the server refuses it.
fn current(
    address: SocketAddr,
    limit: Duration,
    version: &'static SupportedProtocolVersion,
) -> io::Result<Option<ClientConnection>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looking(provider)))
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let mut met = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = Hurried::connect(address, limit)?;
    while met.is_handshaking() {
        let moved =
            if met.wants_write() { met.write_tls(&mut stream) } else { met.read_tls(&mut stream) };
        // A server that wants our certificate shows its own before it ends.
        if !matches!(moved, Ok(1..)) || met.process_new_packets().is_err() {
            break;
        }
    }
    Ok(met.protocol_version().is_some().then_some(met))
}

/// What a certificate says of itself.
fn certificate_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let fingerprint = FileHash::from(<[u8; 32]>::from(Sha256::digest(certificate)));
    let mut facts = vec![format!("SHA-256 {fingerprint}")];
    let Ok((_, read)) = X509Certificate::from_der(certificate) else {
        facts.push("it is not understood".to_owned());
        return facts;
    };
    let moment = |seconds: i64| {
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| seconds.to_string(), |it| it.to_string())
    };
    facts.push(format!("subject {}", read.subject()));
    facts.push(format!("issuer {}", read.issuer()));
    facts.push(format!("not before {}", moment(read.validity().not_before.timestamp())));
    facts.push(format!("not after {}", moment(read.validity().not_after.timestamp())));
    if let Ok(Some(names)) = read.subject_alternative_name() {
        let name = |it: &GeneralName<'_>| match it {
            GeneralName::DNSName(name) => format!("name {name}"),
            GeneralName::IPAddress(bytes) => {
                match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(four), _) => format!("name {}", IpAddr::from(four)),
                    (_, Ok(sixteen)) => format!("name {}", IpAddr::from(sixteen)),
                    _ => "a name that is not understood".to_owned(),
                }
            }
            other => format!("name {other:?}"),
        };
        let mut names: Vec<_> = names.value.general_names.iter().take(200).map(name).collect();
        names.sort();
        facts.extend(names);
    }
    facts.push(format!("signed with {}", read.signature_algorithm.algorithm));
    facts
}

/// Looks at certificates and believes none: nothing is said to these servers that is not for everybody.
#[derive(Debug)]
struct Looking(Arc<CryptoProvider>);

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
