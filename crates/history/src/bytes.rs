//! Numbers and strings as bytes, and back out of bytes that may be anything.

/// Reads what [`Put`] wrote; gives up at the first byte that is out of place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) const fn left(&self) -> usize {
        self.left.len()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    /// LEB128 in its shortest form, so that one number has one encoding.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let digits = u64::from(byte & 0x7f);
            if shift == 63 && digits > 1 {
                return None;
            }
            number |= digits << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A length that what is left can hold: bounds what a caller allocates for it.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|&count| count <= self.left.len())
    }

    /// Bytes behind their length.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// Writes what [`Reader`] reads.
pub(crate) trait Put {
    fn put_number(&mut self, number: u64);
    fn put_signed(&mut self, number: i64);
    fn put_bytes(&mut self, bytes: &[u8]);

    fn put_length(&mut self, length: usize) {
        self.put_number(length as u64);
    }
}

impl Put for Vec<u8> {
    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.push((number & 0x7f) as u8);
    }

    fn put_signed(&mut self, number: i64) {
        self.put_number((number << 1 ^ number >> 63).cast_unsigned());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_length(bytes.len());
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_put_reads_back(number: u64, signed: i64, bytes: Vec<u8>) {
            let mut put = Vec::new();
            put.put_number(number);
            put.put_signed(signed);
            put.put_bytes(&bytes);

            let mut reader = Reader::new(&put);
            proptest::prop_assert_eq!(reader.number(), Some(number));
            proptest::prop_assert_eq!(reader.signed(), Some(signed));
            proptest::prop_assert_eq!(reader.bytes(), Some(&bytes[..]));
            proptest::prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_number_has_one_encoding(bytes in proptest::collection::vec(0_u8.., 1..12)) {
            let mut reader = Reader::new(&bytes);
            if let Some(number) = reader.number() {
                let mut put = Vec::new();
                put.put_number(number);
                proptest::prop_assert_eq!(&put[..], &bytes[..bytes.len() - reader.left()]);
            }
        }
    }

    #[test]
    fn lengths_beyond_what_is_there_are_refused() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]);

        assert_eq!(reader.bytes(), None);
    }
}
