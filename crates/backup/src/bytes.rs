//! Numbers and texts one after another.

use crate::error::{BackupError, Result};

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// Reads what was written so; whatever does not fit is damage.
pub(crate) struct Reader<'a> {
    left: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { left: bytes, what }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let what = self.what;
        let (taken, left) =
            self.left.split_at_checked(length).ok_or_else(|| BackupError::damaged(what))?;
        self.left = left;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| BackupError::damaged(self.what))
    }

    /// How many things follow, each of so many bytes at least.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize> {
        let count = self.u32()? as usize;
        if count.saturating_mul(each) > self.left.len() {
            return Err(BackupError::damaged(self.what));
        }
        Ok(count)
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.left.is_empty() { Ok(()) } else { Err(BackupError::damaged(self.what)) }
    }
}
