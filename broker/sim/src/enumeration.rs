//! The frame of a crash enumeration: run a workload, cut the power everywhere, recover, and sometimes go on and
//! cut it again. What is worked on, and what must hold, is a `Subject`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_store::disk::Disk;

use crate::crash::{Crasher, Survivors};
use crate::disk::SimDisk;
use crate::mutant::{MutantDisk, Mutation};
use crate::random::Random;

/// A run of the enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Chooses the workload and the surviving writes.
    pub seed: u64,
    /// How many steps the workload has.
    pub steps: u32,
    /// Random choices of surviving writes per crash point, besides none and all.
    pub choices: u64,
    /// How the disk is broken on purpose.
    pub mutation: Option<Mutation>,
}

impl Setup {
    /// The disk that the workload sees.
    #[must_use]
    pub fn disk(&self, sim: &Arc<SimDisk>) -> Arc<dyn Disk> {
        match self.mutation {
            Some(mutation) => Arc::new(MutantDisk::new(Arc::<SimDisk>::clone(sim), mutation)),
            None => Arc::<SimDisk>::clone(sim),
        }
    }
}

/// What an enumeration found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Places at which the power was cut.
    pub crash_points: u64,
    /// Disks recovered from.
    pub images: u64,
    /// How many of them had a torn tail.
    pub torn: u64,
    /// Broken promises.
    pub violations: Vec<String>,
}

/// Something on a disk that keeps promises.
pub(crate) trait Subject {
    /// What was ever done to it.
    type History: Default;
    /// Tells the random choices of one subject from another's.
    const SALT: u64;

    /// Opens it, which holds what `history` says, and works on it.
    fn work(
        sim: &Arc<SimDisk>,
        setup: &Setup,
        history: Self::History,
        steps: u32,
    ) -> Result<Self::History, String>;

    /// Opens it after a crash and checks it. Returns the history up to where it reaches, and whether it had a
    /// torn tail.
    fn check(
        setup: &Setup,
        sim: &Arc<SimDisk>,
        history: &Self::History,
        promised: u64,
    ) -> Result<(Self::History, bool), String>;
}

/// A disk as a power loss left it.
pub(crate) struct Crash {
    /// The disk.
    pub(crate) image: Arc<SimDisk>,
    /// The highest promise that was made before.
    pub(crate) promised: u64,
    /// Which operation it was, and what survived.
    pub(crate) at: String,
}

/// Cuts the power before each of the operations on a disk, with several choices of what survives. Ends early after
/// the operation at which `visit` has said `false`. Returns how many operations that were.
pub(crate) fn every_crash(
    sim: &SimDisk,
    choices: u64,
    random: &mut Random,
    mut visit: impl FnMut(Crash, &mut Random) -> bool,
) -> u64 {
    let ops = sim.ops();
    let mut crasher = Crasher::new(BTreeMap::new(), sim.dirs(), &ops);
    let mut points = 0;
    loop {
        points += 1;
        let mut survivors = vec![Survivors::None];
        if crasher.is_unsettled() {
            survivors.push(Survivors::All);
            survivors.extend((0..choices).map(|_| Survivors::Some(random.number())));
        }
        let mut go_on = true;
        for survivors in survivors {
            let image = Arc::new(crasher.image(survivors));
            let at = format!("operation {} {survivors:?}", crasher.at());
            go_on &= visit(Crash { image, promised: crasher.promised(), at }, random);
        }
        if !crasher.step() || !go_on {
            return points;
        }
    }
}

/// Runs a workload and recovers from every crash.
pub(crate) fn enumerate<S: Subject>(setup: &Setup) -> Report {
    let mut report = Report::default();
    let sim = Arc::new(SimDisk::new());
    let history = match S::work(&sim, setup, S::History::default(), setup.steps) {
        Ok(history) => history,
        Err(error) => {
            report.violations.push(format!("the workload itself failed: {error}"));
            return report;
        }
    };
    let mut random = Random::new(setup.seed ^ S::SALT);
    report.crash_points = every_crash(&sim, setup.choices, &mut random, |crash, random| {
        report.images += 1;
        match recover::<S>(setup, crash.image, &history, crash.promised, random) {
            Ok(torn) => report.torn += u64::from(torn),
            Err(error) => report.violations.push(format!("seed {} {}: {error}", setup.seed, crash.at)),
        }
        report.violations.is_empty()
    });
    report
}

/// Recovers and checks; sometimes goes on and crashes again. Says whether there was a torn tail.
fn recover<S: Subject>(
    setup: &Setup,
    image: Arc<SimDisk>,
    history: &S::History,
    promised: u64,
    random: &mut Random,
) -> Result<bool, String> {
    let (before, dirs) = (image.files(), image.dirs());
    let (found, torn) = S::check(setup, &image, history, promised)?;
    if random.one_in(4) {
        let seed = random.number();
        let again = Setup { seed, ..*setup };
        let continued = S::work(&image, &again, found, 5)?;
        let ops = image.ops();
        let mut crasher = Crasher::new(before, dirs, &ops);
        let stop = random.below(ops.len() as u64 + 1);
        for _ in 0..stop {
            crasher.step();
        }
        let image = Arc::new(crasher.image(Survivors::Some(random.number())));
        S::check(setup, &image, &continued, promised.max(crasher.promised()))
            .map_err(|error| format!("then operation {stop} of seed {seed}: {error}"))?;
    }
    Ok(torn)
}
