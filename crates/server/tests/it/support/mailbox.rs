//! A mail server that takes everything, and keeps it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use notices::delivery::{Smtp, SmtpSettings, SmtpTls};
use server::NoticeSettings;

pub(crate) struct Mailbox {
    port: u16,
    got: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<(u16, Vec<String>)>>,
}

impl Mailbox {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::<Vec<String>>::default());
        let keeps = Arc::clone(&got);
        let refused = Arc::new(Mutex::<(u16, Vec<String>)>::default());
        let judges = Arc::clone(&refused);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                take(&stream.unwrap(), &keeps, &judges);
            }
        });
        Self { port, got, refused }
    }

    /// Answers to mails with these words with a code from now on, and keeps none of them.
    pub(crate) fn refuse(&self, code: u16, words: &[&str]) {
        let words = words.iter().map(|it| (*it).to_owned()).collect();
        *self.refused.lock().unwrap() = (code, words);
    }

    /// Notices go there by mail.
    pub(crate) fn settings(&self) -> NoticeSettings {
        let mail = Smtp::new(SmtpSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: SmtpTls::None,
            credentials: None,
            roots: None,
            from: "patch@cloud.example".parse().unwrap(),
            from_name: "Cloud patching".parse().unwrap(),
        });
        NoticeSettings { mail: Some(mail.unwrap()), ..NoticeSettings::default() }
    }

    /// The subjects of all that it got so far.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let subject = |mail: &String| {
            let line = mail.lines().find_map(|line| line.strip_prefix("Subject: "));
            line.unwrap_or_else(|| panic!("{mail}")).to_owned()
        };
        self.got.lock().unwrap().iter().map(subject).collect()
    }
}

/// One conversation (RFC 5321). A mail is kept before it is answered for.
fn take(stream: &TcpStream, keeps: &Mutex<Vec<String>>, judges: &Mutex<(u16, Vec<String>)>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut out = stream;
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes());
    if say("220 here").is_err() {
        return;
    }
    while let Some(line) = lines.next() {
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let said = match &*word {
            "DATA" => {
                let _ = say("354 go on");
                let mail: Vec<_> = lines.by_ref().take_while(|line| line != ".").collect();
                let mail = mail.join("\n");
                let (code, words) = &*judges.lock().unwrap();
                if words.iter().any(|word| mail.contains(word)) {
                    say(&format!("{code} not like this"))
                } else {
                    keeps.lock().unwrap().push(mail);
                    say("250 kept")
                }
            }
            "QUIT" => {
                let _ = say("221 bye");
                return;
            }
            _ => say("250 fine"),
        };
        if said.is_err() {
            return;
        }
    }
}
