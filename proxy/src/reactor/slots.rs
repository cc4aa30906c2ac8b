//! A list with stable places. A key of a place that was given to something else since finds nothing.

/// A place, and the how-manieth of its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Which place.
    pub(super) index: u32,
    /// Which of its users; 22 bits are used.
    pub(super) generation: u32,
}

/// Bits of a generation: with a reactor's number it has to fit beside an index into a waker.
pub(super) const GENERATION_BITS: u32 = 22;

impl Key {
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_u64(word: u64) -> Self {
        Self { index: (word & 0xffff_ffff) as u32, generation: (word >> 32) as u32 }
    }
}

/// The list.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Option<u32>,
    count: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Used(T),
    Free { next: Option<u32> },
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: None, count: 0 }
    }
}

impl<T> Slots<T> {
    /// Puts a value into a free place.
    pub(super) fn insert(&mut self, value: T) -> Key {
        self.count += 1;
        if let Some(index) = self.free
            && let Some(entry) = self.entries.get_mut(index as usize)
        {
            if let Content::Free { next } = entry.content {
                self.free = next;
            }
            entry.content = Content::Used(value);
            return Key { index, generation: entry.generation };
        }
        let index = u32::try_from(self.entries.len()).expect("descriptors end long before 2^32");
        self.entries.push(Entry { generation: 0, content: Content::Used(value) });
        Key { index, generation: 0 }
    }

    /// The value at a key, if it is still there.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some(Entry { generation, content: Content::Used(value) }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Takes the value out.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let entry = self.entries.get_mut(key.index as usize)?;
        entry.generation = (entry.generation + 1) & ((1 << GENERATION_BITS) - 1);
        let old = std::mem::replace(&mut entry.content, Content::Free { next: self.free });
        self.free = Some(key.index);
        self.count -= 1;
        match old {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slots = Slots::default();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.remove(a), None);
        let c = slots.insert('c');
        assert_eq!(c.index, a.index);
        assert!(slots.get_mut(a).is_none());
        assert_eq!(slots.get_mut(c).copied(), Some('c'));
        assert_eq!(slots.get_mut(b).copied(), Some('b'));
        assert_eq!(Key::from_u64(c.to_u64()), c);
        slots.remove(b);
        assert!(!slots.is_empty());
        slots.remove(c);
        assert!(slots.is_empty());
    }
}
