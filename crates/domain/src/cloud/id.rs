//! Typed identifiers: `ci_01h455vb4pex5vsknk084sn02q` (the `TypeID` specification 0.3: a `UUIDv7` in
//! Crockford's base 32 behind a word that says what it names).
//!
//! Read and written here, because the library at hand (`type-safe-id` 0.3.3) panics on long prefixes
//! and identifiers come from strangers.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// What an [`Id`] names.
pub trait IdKind: 'static {
    /// The word before the underscore.
    const PREFIX: &'static str;
}

/// Identifier of one kind of thing; sorts by the time at which it was made.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

impl<K: IdKind> Id<K> {
    /// A new identifier from the time and randomness, both of which come from the caller.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self::of(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// An identifier that follows from what it names: the first bytes of a hash of it.
    pub const fn of_content(hash: [u8; 16]) -> Self {
        Self::of(uuid::Builder::from_custom_bytes(hash).into_uuid())
    }

    /// The identifier of these 128 bits.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::of(Uuid::from_bytes(bytes))
    }

    /// Its 128 bits.
    pub const fn as_bytes(&self) -> [u8; 16] {
        *self.uuid.as_bytes()
    }

    const fn of(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }
}

/// A text that is not an identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an identifier `{prefix}_…`")]
pub struct InvalidId {
    prefix: &'static str,
    given: String,
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .and_then(decode)
            .map(|number| Self::of(Uuid::from_u128(number)))
            .ok_or_else(|| InvalidId { prefix: K::PREFIX, given: text.chars().take(64).collect() })
    }
}

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}_{}", K::PREFIX, encode(self.uuid.as_u128())))
    }
}

/// Crockford's digits, in lower case as `TypeID` wants them.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 128 bits in digits of five bits, the first of which has two to spare.
const LENGTH: usize = 26;

fn encode(number: u128) -> String {
    let digit = |at: usize| DIGITS[(number >> (5 * at) & 31) as usize] as char;
    (0..LENGTH).rev().map(digit).collect()
}

fn decode(text: &str) -> Option<u128> {
    // A first digit beyond 7 would need more than 128 bits.
    if text.len() != LENGTH || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0, |number: u128, byte| {
        let digit = DIGITS.iter().position(|&digit| digit == byte)?;
        Some(number << 5 | digit as u128)
    })
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $alias:ident = $kind:ident, $prefix:literal;)+) => {
        mod kind {
            $(
                #[derive(Debug)]
                pub enum $kind {}

                impl super::IdKind for $kind {
                    const PREFIX: &'static str = $prefix;
                }
            )+
        }

        $($(#[$doc])* pub type $alias = Id<kind::$kind>;)+
    };
}

kinds! {
    /// A tenant, or [`PROVIDER`].
    TenantId = Tenant, "ten";
    /// A person.
    UserId = User, "usr";
    /// A signed-in browser or terminal.
    SessionId = Session, "ses";
    /// A passkey.
    PasskeyId = Passkey, "pky";
    /// Who a person is at somebody else's.
    ExternalIdentityId = ExternalIdentity, "xid";
    /// The first half of a sign-in that waits for the other.
    CeremonyId = Ceremony, "cer";
    /// An API token.
    TokenId = Token, "tok";
    /// A configuration item.
    CiId = Ci, "ci";
    /// A group of configuration items.
    GroupId = Group, "grp";
    /// An agent: one key on one host.
    AgentId = Agent, "agt";
    /// A one-time permission to join.
    JoinTokenId = JoinToken, "jnt";
    /// A patch, for all items alike.
    PatchId = Patch, "pat";
    /// A patch that an item lacks.
    FindingId = Finding, "fnd";
    /// An advisory that somebody brought.
    AdvisoryId = Advisory, "adv";
    /// A version of an image.
    ImageId = Image, "img";
    /// Something that the lab is asked to do.
    JobId = Job, "job";
    /// A patch or an alteration on its way into the cloud.
    ChangeId = Change, "chg";
    /// Changes that go out together, wave by wave.
    ReleaseId = Release, "rel";
    /// What a look after an order came to.
    VerificationId = Verification, "vrf";
    /// What an audit of an item came to.
    AuditId = Audit, "aud";
    /// A baseline that somebody put in.
    BaselineId = Baseline, "bsl";
    /// To which items a baseline applies.
    BindingId = Binding, "bnd";
    /// That somebody answers for a rule that an item does not keep.
    WaiverId = Waiver, "wvr";
    /// A machine's disks as they were before a step.
    SnapshotId = Snapshot, "snp";
    /// An alteration of a file that nobody agreed to, or nobody can explain.
    DriftId = Drift, "drf";
    /// Of leave to alter files first and to explain it afterwards.
    BreakGlassId = BreakGlass, "bgl";
    /// What a tenant is told of a change, once.
    NoticeId = Notice, "ntc";
    /// Where a tenant is told.
    ChannelId = Channel, "chn";
    /// A recorded event.
    EventId = Event, "evt";
}

/// The provider in the place of a tenant: it owns the cloud's own items and people.
pub const PROVIDER: TenantId = TenantId::of(Uuid::nil());

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_id_reads_back_and_says_what_it_names() {
        let id = CiId::new(at(1_700_000_000), [7; 10]);

        let text = id.to_string();

        assert!(text.starts_with("ci_01h"), "{text}");
        assert_eq!(text.parse(), Ok(id));
        assert!(text.parse::<UserId>().is_err());
        assert_eq!(serde_json::from_str::<CiId>(&format!("\"{text}\"")).unwrap(), id);
    }

    #[test]
    fn later_ids_sort_later_as_ids_and_as_text() {
        let (a, b) = (CiId::new(at(1), [255; 10]), CiId::new(at(2), [0; 10]));

        assert!(a < b && a.to_string() < b.to_string());
    }

    /// From the specification's `valid.json`.
    #[test]
    fn the_official_vectors() {
        let vectors = [
            ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
            ("00000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
            ("0000000000000000000000000g", "00000000-0000-0000-0000-000000000010"),
            ("0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
            ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ];
        for (text, uuid) in vectors {
            let uuid: Uuid = uuid.parse().unwrap();
            assert_eq!(decode(text), Some(uuid.as_u128()));
            assert_eq!(encode(uuid.as_u128()), text);
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "ci",
            "ci_",
            "ci_01h455vb4pex5vsknk084sn02",
            "CI_01h455vb4pex5vsknk084sn02q",
            "ci_81h455vb4pex5vsknk084sn02q",
            "ci_01h455vb4pex5vsknk084sn02q\0",
            "x_ci_01h455vb4pex5vsknk084sn02q",
        ] {
            assert!(text.parse::<CiId>().is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_number_reads_back(number: u128) {
            proptest::prop_assert_eq!(decode(&encode(number)), Some(number));
            let id = CiId::from_bytes(number.to_be_bytes());
            proptest::prop_assert_eq!(id.as_bytes(), number.to_be_bytes());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<CiId>();
        }
    }
}
