use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::*;

/// The system's own `openssl s_server`, which can do what no library of ours does any more.
struct Server {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["web.example.org".to_owned()]).unwrap();
        let (certificate, key) =
            (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert"])
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .args(options)
            // It ends where nobody speaks to it any more.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // `ACCEPT 127.0.0.1:40123`
        let mut said = said.skip_while(|line| !line.starts_with("ACCEPT "));
        let address = said.next().unwrap()["ACCEPT ".len()..].parse().unwrap();
        // Nobody waits for what it says after that.
        thread::spawn(move || said.count());
        Self { child, address, _directory: directory }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn versions_suites_and_certificate_of_a_real_server_are_told() {
    let server = Server::start(&[]);
    let text = ask(server.address, LIMIT).unwrap();
    assert!(text.contains("TLS 1.0: refused\nTLS 1.1: refused\n"), "{text}");
    assert!(text.contains("TLS 1.2: offered, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "), "{text}");
    assert!(text.contains("TLS 1.3: offered, TLS13_AES_256_GCM_SHA384, "), "{text}");
    assert!(text.contains("certificate 1: name web.example.org\n"), "{text}");
    assert!(text.contains("certificate 1: not after 4096-01-01T00:00:00Z\n"), "{text}");
    assert_eq!(ask(server.address, LIMIT).unwrap(), text, "the same is the same text");
}

#[test]
fn a_version_that_nobody_should_speak_is_found() {
    let options = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let text = ask(Server::start(&options).address, LIMIT).unwrap();
    assert!(text.starts_with("TLS 1.0: refused\nTLS 1.1: offered, suite 0xc0"), "{text}");
    assert!(text.contains("TLS 1.2: refused\nTLS 1.3: refused\n"), "{text}");
    let text = ask(Server::start(&["-tls1", options[1], options[2]]).address, LIMIT).unwrap();
    assert!(text.starts_with("TLS 1.0: offered, suite 0xc0"), "{text}");
}

#[test]
fn a_server_that_wants_to_know_who_we_are_shows_its_certificate_all_the_same() {
    let server = Server::start(&["-Verify", "1", "-tls1_2"]);
    let text = ask(server.address, LIMIT).unwrap();
    assert!(text.contains("TLS 1.2: offered, ") && text.contains("web.example.org"), "{text}");
}

#[test]
fn only_this_host_is_asked() {
    for other in ["192.0.2.1:443", "[2001:db8::1]:443", "0.0.0.0:443", "224.0.0.1:443"] {
        let unseen = ask(other.parse().unwrap(), LIMIT).unwrap_err();
        assert_eq!(unseen.to_string(), "it is no address of this host", "{other}");
    }
}

#[test]
fn whoever_answers_nothing_or_nonsense_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let text = ask(silent.local_addr().unwrap(), Duration::from_millis(100)).unwrap();
    assert_eq!(text.matches("refused").count(), 4, "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let nonsense = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nonsense.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in nonsense.incoming().flatten().enumerate() {
            let mut stream = stream;
            // A record that says it is a hello, with a name longer than what follows.
            let minor = u8::try_from(number + 1).unwrap_or(4);
            let mut bytes = vec![22, 3, minor, 255, 255, 2, 0, 0, 0, 3, minor];
            bytes.extend([255; 64]);
            let _ = stream.write_all(&bytes);
        }
    });
    let text = ask(address, Duration::from_millis(500)).unwrap();
    assert_eq!(text.matches("refused").count(), 4, "{text}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(ask(nobody, LIMIT).unwrap_err().to_string().starts_with("it cannot be reached: "));
}
