//! The elementary types: a reader that borrows, and writers that append to a `Vec<u8>`.

use crate::table::{Table, TableError};

/// Why octets could not be read as what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The octets end before the value does.
    #[error("it ends too early")]
    Truncated,
    /// Octets are left over after the last value.
    #[error("{0} octet(s) are left over")]
    Trailing(usize),
    /// A short string of a method is not UTF-8; RabbitMQ refuses it too.
    #[error("Malformed UTF-8 in shortstr")]
    NotUtf8,
    /// A field table is malformed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Reads big-endian values off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Fails when something is left.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[octet]| octet)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string as octets.
    #[inline]
    pub(crate) fn shortbytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A short string, which must be UTF-8.
    #[inline]
    pub(crate) fn shortstr(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.shortbytes()?).map_err(|_| WireError::NotUtf8)
    }

    #[inline]
    pub(crate) fn longstr(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u32()?;
        // A length that does not fit in usize cannot be in memory either.
        self.take(usize::try_from(length).map_err(|_| WireError::Truncated)?)
    }

    #[inline]
    pub(crate) fn table(&mut self) -> Result<Table<'a>, WireError> {
        let octets = self.longstr()?;
        Ok(Table::parse(octets)?)
    }
}

/// The writing counterpart of [`Reader`], for `Vec<u8>`.
pub(crate) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    /// A short string. More than 255 octets do not fit the format; the excess is cut at a character.
    fn put_shortstr(&mut self, value: &str);
    /// A short string of any octets, cut to 255.
    fn put_shortbytes(&mut self, value: &[u8]);
    fn put_longstr(&mut self, value: &[u8]);
    fn put_table(&mut self, value: Table<'_>);
}

impl Put for Vec<u8> {
    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn put_shortstr(&mut self, value: &str) {
        self.put_shortbytes(&value.as_bytes()[..value.floor_char_boundary_255()]);
    }

    #[inline]
    fn put_shortbytes(&mut self, value: &[u8]) {
        let value = &value[..value.len().min(255)];
        self.put_u8(value.len() as u8);
        self.extend_from_slice(value);
    }

    #[inline]
    fn put_longstr(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.put_u32(length);
        self.extend_from_slice(&value[..length as usize]);
    }

    #[inline]
    fn put_table(&mut self, value: Table<'_>) {
        self.put_longstr(value.as_bytes());
    }
}

trait FloorCharBoundary {
    fn floor_char_boundary_255(&self) -> usize;
}

impl FloorCharBoundary for str {
    /// The largest prefix of at most 255 octets that ends at a character.
    #[inline]
    fn floor_char_boundary_255(&self) -> usize {
        if self.len() <= 255 {
            return self.len();
        }
        (0..=255).rev().find(|&end| self.is_char_boundary(end)).unwrap_or(0)
    }
}
