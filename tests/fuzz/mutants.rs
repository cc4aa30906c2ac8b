//! Runs the body of a fuzz target over its stored corpus and mutations of it, the same ones each time.
//!
//! Included by the tests of the packages that have such bodies. A corpus has the seeds that its package writes when
//! `UPDATE_FUZZ_CORPUS` is set, and whatever a fuzzer found worth keeping.

use std::path::{Path, PathBuf};

/// A seed: its name in the corpus, and its octets.
pub(crate) type Seed = (String, Vec<u8>);

fn folder(target: &str) -> PathBuf {
    let mut above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("tests/fuzz/corpus"));
    above.find(|dir| dir.is_dir()).expect("the corpus is in the repository").join(target)
}

/// Checks that the corpus of a target has these seeds, or writes them.
#[allow(clippy::disallowed_methods, reason = "a test reads and writes its corpus")]
pub(crate) fn check_seeds(target: &str, seeds: &[Seed]) {
    let update = std::env::var_os("UPDATE_FUZZ_CORPUS").is_some();
    for (name, octets) in seeds {
        let path = folder(target).join(name);
        if update {
            std::fs::create_dir_all(folder(target)).unwrap();
            std::fs::write(&path, octets).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|stored| stored == *octets), "{} is stale", path.display());
    }
}

/// The corpus of a target in a fixed order.
#[allow(clippy::disallowed_methods, reason = "a test reads its corpus")]
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "the corpus of {target} is missing");
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// SplitMix64: mutations must be the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// An octet, more often than not one that `telling` has.
    fn octet(&mut self, telling: &[u8]) -> u8 {
        match self.below(3) {
            0 => self.next() as u8,
            _ => telling[self.below(telling.len())],
        }
    }
}

fn mutate(octets: &mut Vec<u8>, other: &[u8], telling: &[u8], random: &mut Random) {
    let at = random.below(octets.len() + 1);
    match random.below(7) {
        0 => octets.truncate(at),
        1 => octets.insert(at, random.octet(telling)),
        2 if at < octets.len() => drop(octets.remove(at)),
        3 if at < octets.len() => octets[at] ^= 1 << random.below(8),
        4 => {
            // The rest of another one.
            octets.truncate(at);
            octets.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        5 => {
            // A piece of another one in the middle.
            let start = random.below(other.len() + 1);
            let end = start + random.below(other.len() - start + 1);
            octets.splice(at..at, other[start..end].iter().copied());
        }
        _ if at < octets.len() => octets[at] = random.octet(telling),
        _ => {}
    }
}

/// Prints what broke a decoder, so that it can be kept as a seed.
struct Culprit<'a>(&'a [u8]);

impl Drop for Culprit<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// Runs `body` over the corpus of `target`, over what is in it cut short, and over `mutants` mutations. Octets
/// that mean something to the decoder are in `telling`.
pub(crate) fn run(target: &str, mutants: u64, telling: &[u8], body: impl Fn(&[u8])) {
    let corpus = corpus(target);
    let check = |octets: &[u8]| {
        let _culprit = Culprit(octets);
        body(octets);
    };
    for octets in &corpus {
        check(octets);
        // Where few mutations are affordable, so are few ends.
        for end in (0..octets.len().min(600)).step_by((2400 / mutants.max(1)).max(1) as usize) {
            check(&octets[..end]);
        }
    }
    let mut random = Random(0xa3_9b);
    for _ in 0..mutants {
        let mut octets = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            let other = &corpus[random.below(corpus.len())];
            mutate(&mut octets, other, telling, &mut random);
        }
        octets.truncate(16_384);
        check(&octets);
    }
    for _ in 0..mutants / 4 {
        let length = random.below(64);
        let octets: Vec<_> = (0..length).map(|_| random.octet(telling)).collect();
        check(&octets);
    }
}
