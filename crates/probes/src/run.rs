//! Tries probes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{HttpProbe, Probe, ProbeKind, ProbeResult, command};

const ONE_TRY: Duration = Duration::from_secs(20);
const MAX_ANSWER: u64 = 4 << 20;

/// Tries until it passes or its time is over.
pub fn run(probe: &Probe) -> ProbeResult {
    let began = Instant::now();
    let limit = Duration::from_secs(probe.within_seconds);
    loop {
        let failure = attempt(&probe.kind).err();
        if failure.is_none() || began.elapsed() >= limit {
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            return ProbeResult { name: probe.name.clone(), failure, took_ms };
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn attempt(kind: &ProbeKind) -> Result<(), String> {
    match kind {
        ProbeKind::Tcp(probe) => connect(probe.port).map(|_| ()),
        ProbeKind::Http(probe) => get(probe),
        ProbeKind::Unit(unit) => {
            let output = command::run(&["systemctl", "is-active", "--", unit], ONE_TRY)?;
            let state = output.text.trim();
            if state == "active" { Ok(()) } else { Err(format!("`{unit}` is {state}")) }
        }
        ProbeKind::Command(probe) => {
            let argv: Vec<&str> = probe.argv.iter().map(String::as_str).collect();
            let output = command::run_with(&argv, &[], ONE_TRY, 4096)?;
            match output.exit {
                Some(exit) if exit == probe.exit => Ok(()),
                Some(exit) => Err(format!("ended with {exit}: {}", output.text.trim())),
                None => Err("did not end in time".to_owned()),
            }
        }
    }
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, ONE_TRY)
        .map_err(|error| format!("port {port}: {error}"))?;
    let limits =
        stream.set_read_timeout(Some(ONE_TRY)).and(stream.set_write_timeout(Some(ONE_TRY)));
    limits.map_err(|error| error.to_string())?;
    Ok(stream)
}

fn get(probe: &HttpProbe) -> Result<(), String> {
    let mut stream = connect(probe.port)?;
    let request =
        format!("GET {} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n", probe.path);
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).unwrap_or("nothing");
    if status != probe.status.to_string() {
        return Err(format!("answered {status}, not {}", probe.status));
    }
    match &probe.contains {
        Some(text) if !answer.contains(text.as_str()) => Err(format!("the answer lacks `{text}`")),
        _ => Ok(()),
    }
}
