//! For the fuzz targets: whatever a repository's server may say.

use crate::git::objects::Objects;
use crate::git::pack::ObjectId;
use crate::git::talk::{Advertisement, Answer};
use crate::git::walk::Walk;
use domain::configuration::secret::FingerprintKey;
use domain::source::SourceSettings;

/// A list of references, and an answer to what is asked then. What is asked holds nothing of what was said but names
/// of objects.
pub fn talk(list: &[u8], answer: &[u8]) {
    if let Ok(list) = Advertisement::read(list)
        && let Ok(reference) = list.find("HEAD")
        && let Ok(request) = list.request(&reference, 32)
    {
        assert!(request.is_ascii() && request.ends_with(b"0009done\n"));
    }
    let _ = Answer::read(answer);
}

/// A pack, and the way in it from one commit to another. What is told has no control characters in its paths.
pub fn pack(pack: &[u8], tip: [u8; 20], known: Option<[u8; 20]>) {
    let (tip, known) = (ObjectId::from(tip), known.map(ObjectId::from));
    let Ok(objects) = Objects::of(pack.to_vec(), tip) else { return };
    let settings = SourceSettings::Git {
        url: String::new(),
        reference: "HEAD".to_owned(),
        user: None,
        files: Vec::new(),
        past: 0,
        authorities: Vec::new(),
    };
    let key = FingerprintKey::from([7; 32]);
    let Ok(mut found) = Walk::find(objects, tip, known, &[], (settings, key)) else { return };
    while let Ok(Some(step)) = found.walk.step() {
        for document in step.documents {
            let path = document.path();
            assert!(path.starts_with('/') && !path.contains(char::is_control), "{path:?}");
            assert!(path.split('/').all(|name| name != ".."), "{path:?}");
        }
    }
}

/// Certificates as somebody gives them. What is taken is shown on one line, and is taken again.
pub fn authority(pem: &str) {
    let now = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 56);
    let Ok(found) = crate::authority::read(pem, now) else { return };
    for it in &found {
        assert!(!it.subject.contains(char::is_control), "{:?}", it.subject);
        assert_eq!(crate::authority::read(&it.pem, now).as_deref(), Ok(std::slice::from_ref(it)));
    }
}
