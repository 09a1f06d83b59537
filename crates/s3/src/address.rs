//! Where a store is: `s3://BUCKET/PREFIX?endpoint=…&region=…`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use url::{Host, Url};

use crate::error::S3Error;

/// Longest prefix; names of objects come behind it, and a key has 1,024 bytes.
const LONGEST_PREFIX: usize = 512;

/// A bucket and what all names in it begin with, and where that is. Without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) bucket: String,
    /// With a stroke at its end, or empty.
    pub(crate) prefix: String,
    pub(crate) endpoint: Url,
    pub(crate) region: String,
    /// Whether the bucket stands in the path, not in the host's name.
    pub(crate) is_path_style: bool,
    /// Whose certificates are believed, and nobody else's.
    pub(crate) ca: Option<PathBuf>,
    /// Where credentials are, if not in the environment.
    pub(crate) credentials: Option<PathBuf>,
    text: String,
}

impl Address {
    /// Whether a text is meant to be one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("s3:")
    }

    /// Whether objects there are the same objects, however they are reached.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.bucket.clone(), it.prefix.clone(), it.endpoint.clone());
        place(self) == place(other)
    }

    /// Whether it is on this machine, where nobody else listens.
    pub(crate) fn is_here(&self) -> bool {
        is_here(&self.endpoint)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = S3Error;

    fn from_str(text: &str) -> Result<Self, S3Error> {
        let wrong = |why| S3Error::Address { why };
        let url = Url::parse(text).map_err(|_| wrong("it cannot be read"))?;
        if url.scheme() != "s3" {
            return Err(wrong("it does not begin with s3://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("credentials do not belong into an address"));
        }
        if url.port().is_some() || url.fragment().is_some() {
            return Err(wrong("a port or fragment stands in it; a port belongs to `endpoint`"));
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        if !is_bucket(&bucket) {
            return Err(wrong("a bucket's name has 3 to 63 small letters, digits, `.` and `-`"));
        }
        let prefix = prefix(url.path()).ok_or_else(|| {
            wrong("a prefix has letters, digits, `.`, `_` and `-` between strokes, 512 at most")
        })?;
        let (mut endpoint, mut region, mut ca, mut credentials) = (None, None, None, None);
        for (name, value) in url.query_pairs() {
            let place = match &*name {
                "endpoint" => &mut endpoint,
                "region" => &mut region,
                "ca" => &mut ca,
                "credentials" => &mut credentials,
                _ => return Err(wrong("it knows `endpoint`, `region`, `ca` and `credentials`")),
            };
            if value.is_empty() || place.replace(value.into_owned()).is_some() {
                return Err(wrong("something in it is empty or given twice"));
            }
        }
        let is_region = |region: &String| {
            region.len() <= 64
                && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !region.as_ref().is_none_or(is_region) {
            return Err(wrong("a region has letters, digits and `-`"));
        }
        // Names with dots match no certificate of a host.
        let is_path_style = endpoint.is_some() || bucket.contains('.');
        let (endpoint, region) = match (endpoint, region) {
            (Some(endpoint), region) => {
                (own_endpoint(&endpoint)?, region.unwrap_or_else(|| "us-east-1".to_owned()))
            }
            (None, Some(region)) => {
                let endpoint = format!("https://s3.{region}.amazonaws.com");
                (own_endpoint(&endpoint)?, region)
            }
            (None, None) => return Err(wrong("neither `region` nor `endpoint` stands in it")),
        };
        Ok(Self {
            bucket,
            prefix,
            endpoint,
            region,
            is_path_style,
            ca: ca.map(PathBuf::from),
            credentials: credentials.map(PathBuf::from),
            text: text.to_owned(),
        })
    }
}

fn is_bucket(name: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    (3..=63).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
}

/// What names begin with. No part of it can lead elsewhere, or begin with a dot as our own notes do.
fn prefix(path: &str) -> Option<String> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Some(String::new());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_plain);
    (path.len() < LONGEST_PREFIX && path.split('/').all(is_part)).then(|| format!("{path}/"))
}

fn own_endpoint(text: &str) -> Result<Url, S3Error> {
    let wrong = |why| S3Error::Address { why };
    let url = Url::parse(text).map_err(|_| wrong("its endpoint cannot be read"))?;
    let is_odd = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    match url.scheme() {
        _ if is_odd => Err(wrong("its endpoint holds more than a host, a port and a path")),
        "https" if url.has_host() => Ok(url),
        "http" if is_here(&url) => Ok(url),
        _ => Err(wrong("its endpoint is neither https nor on this machine")),
    }
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where() {
        let address: Address = "s3://cloud-history/a/b/?region=eu-central-1".parse().unwrap();
        assert_eq!((&*address.bucket, &*address.prefix), ("cloud-history", "a/b/"));
        assert_eq!(address.endpoint.as_str(), "https://s3.eu-central-1.amazonaws.com/");
        assert!(!address.is_path_style);

        let text = "s3://objects?endpoint=https://ceph.example.org:7480/gate&ca=/etc/ca.pem";
        let address: Address = text.parse().unwrap();
        assert_eq!((&*address.prefix, &*address.region), ("", "us-east-1"));
        assert!(address.is_path_style);
        assert_eq!(address.ca, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(address.to_string(), text);
        let dotted: Address = "s3://a.b.c?region=eu-central-1".parse().unwrap();
        assert!(dotted.is_path_style);
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for text in [
            "s3://",
            "s3:bucket?region=x",
            "s3://ab?region=x",
            "s3://UPPER_case?region=x",
            "s3://bucket",
            "s3://bucket/../other?region=x&region=y",
            "s3://bucket/a//b?region=x",
            "s3://bucket/.hidden?region=x",
            "s3://bucket/a%2fb?region=x",
            "s3://bucket?region=x/y",
            "s3://bucket?region=",
            "s3://bucket?region=x&colour=red",
            "s3://bucket:80?region=x",
            "s3://bucket?region=x#y",
            "s3://AKIA:Pa55word@bucket?region=x",
            "s3://bucket?endpoint=http://store.example.org",
            "s3://bucket?endpoint=http://127.0.0.1.example.org",
            "s3://bucket?endpoint=http://169.254.169.254",
            "s3://bucket?endpoint=https://user:Pa55word@store.example.org",
            "s3://bucket?endpoint=file:///etc/passwd",
            "https://bucket?region=x",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("Pa55word"), "{error}");
        }
        assert!("s3://bucket?endpoint=http://127.0.0.1:9000".parse::<Address>().is_ok());
        assert!("s3://bucket?endpoint=http://[::1]:9000".parse::<Address>().is_ok());
    }
}
