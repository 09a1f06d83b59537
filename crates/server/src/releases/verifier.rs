//! Who signs what looks at items came to.

use domain::change::KeyId;
use ledger::attestation::{Attestor, AttestorKey};

/// The verifier, with a key of its own: neither that of orders nor the ledger's, so that whoever has one of
/// these cannot say that something was verified.
pub(super) struct Verifier(Attestor);

impl Verifier {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self(Attestor::new(seed))
    }

    pub(super) fn public(&self) -> AttestorKey {
        self.0.key()
    }
}

impl store::Verifier for Verifier {
    fn key(&self) -> KeyId {
        KeyId::from(self.0.key().id_bytes())
    }

    fn sign(&self, statement: &[u8]) -> Result<String, String> {
        let envelope = self.0.sign(statement).map_err(|error| error.to_string())?;
        serde_json::to_string(&envelope).map_err(|error| error.to_string())
    }
}
