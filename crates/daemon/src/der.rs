//! Values in DER, as certificates consist of them.
//!
//! ```text
//! value ::= tag (1 byte), length (1 byte below 128, else 0x80 + number of bytes and that many bytes), content
//! ```
//! Only tags of one byte and lengths of up to four are read (X.690 section 8.1); certificates have no others.

/// A row of values.
#[derive(Debug, Clone, Copy)]
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next value: its tag and its content. `None` at the end, and when it is cut off.
    pub fn take(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (octets, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Takes the next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.take().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Takes the next value when it has this tag.
    pub fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.expect(tag) } else { None }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_one_after_another() {
        let long = [[0x04, 0x82, 1, 0].as_slice(), &[7; 256]].concat();
        let bytes = [[0x02, 1, 5].as_slice(), &[0xa0, 0], &long].concat();
        let mut der = Der(&bytes);
        assert_eq!(der.optional(0xa0), None);
        assert_eq!(der.expect(0x02), Some(&[5][..]));
        assert_eq!(der.optional(0xa0), Some(&[][..]));
        assert_eq!(der.take(), Some((0x04, &[7; 256][..])));
        assert!(der.is_empty() && der.take().is_none());
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_none() {
        for bytes in [
            &[0x30][..],
            &[0x30, 2, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x30, 0x84, 255],
        ] {
            assert_eq!(Der(bytes).take(), None, "{bytes:?}");
        }
        assert_eq!(Der(&[2, 1, 5]).expect(0x30), None);
    }
}
