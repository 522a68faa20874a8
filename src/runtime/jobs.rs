//! What blocks, kept apart by drive, so that one that stalls holds up only its own.
//!
//! A core's helpers are threads for jobs that block, one for each drive, which does one after another; and several when
//! the process stops. And what blocks within io_uring takes a worker, of which each drive has its share. From the [`Pulse`]
//! of a drive a core sees that the next call for it may block.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use super::clock;
use crate::base::Moment;
use crate::base::budget::Budget;
use crate::base::limits::{DRIVE_STILL, DRIVE_WORKERS};

type Job = Box<dyn FnOnce() + Send>;

/// The helpers of a core, and the shares of its drives.
pub(super) struct Helpers {
    /// The first is for everything that lies in none of the others.
    drives: Vec<Drive>,
}

struct Drive {
    /// What lies below it.
    dir: PathBuf,
    helper: Helper,
    /// One each of [`DRIVE_WORKERS`].
    workers: Option<Rc<Budget>>,
    pulse: Rc<Pulse>,
}

/// Which of a core's helpers does a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HelperOf(usize);

impl HelperOf {
    pub const NO_DRIVE: HelperOf = HelperOf(0);
}

impl Helpers {
    /// Starts one for what lies below each of these directories, and one for the rest; with one directory or none, one for
    /// all. They have the affinity of the thread that calls.
    pub fn start(dirs: &[PathBuf]) -> io::Result<Helpers> {
        let dirs = if dirs.len() > 1 { dirs } else { &[] };
        let drive = |dir: PathBuf, workers| Ok(Drive { dir, helper: Helper::start()?, workers, pulse: Rc::default() });
        // All paths begin with the empty one.
        let rest = std::iter::once_with(|| drive(PathBuf::new(), None));
        let of_dirs = dirs.iter().map(|dir| drive(dir.clone(), Some(Budget::new(DRIVE_WORKERS))));
        Ok(Helpers { drives: rest.chain(of_dirs).collect::<io::Result<_>>()? })
    }

    /// How many drives there are; 0 where there is one only, of which nothing is kept apart.
    pub fn drives(&self) -> usize {
        self.drives.len() - 1
    }

    /// Who does jobs with this file or directory.
    pub fn of(&self, path: &Path) -> HelperOf {
        let holds = self.drives.iter().enumerate().filter(|(_, drive)| path.starts_with(&drive.dir));
        let nearest = holds.max_by_key(|(_, drive)| drive.dir.components().count());
        nearest.map_or(HelperOf::NO_DRIVE, |(at, _)| HelperOf(at))
    }

    pub fn get(&self, of: HelperOf) -> &Helper {
        &self.drives[of.0].helper
    }

    /// The drive's share of the workers, if there are several drives.
    pub fn workers(&self, of: HelperOf) -> Option<&Rc<Budget>> {
        self.drives[of.0].workers.as_ref()
    }

    pub fn pulse(&self, of: HelperOf) -> &Rc<Pulse> {
        &self.drives[of.0].pulse
    }

    /// So many more threads for each.
    pub fn add_threads(&self, count: usize) -> io::Result<()> {
        self.drives.iter().try_for_each(|drive| (0..count).try_for_each(|_| drive.helper.add_thread()))
    }
}

/// How a core sees that a drive stands still: something is under way there, and nothing has ended for
/// [`DRIVE_STILL`].
///
/// A call that begins a direct write may wait for the drive, though io_uring asks it not to: ext4 puts the file's time into
/// its inode first, and waits there while its journal writes the block of that inode. With a drive that answers nobody
/// notices; with one that does not, the core would stand still with it.
#[derive(Default)]
pub(super) struct Pulse {
    under_way: Cell<usize>,
    /// When something ended last, or began with nothing else under way.
    last: Cell<Moment>,
}

impl Pulse {
    /// Runs a request to the drive.
    pub async fn during<T>(&self, request: impl Future<Output = T>) -> T {
        /// A future that is dropped has told nothing of the drive.
        struct UnderWay<'a>(&'a Pulse);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.under_way.set(self.0.under_way.get() - 1);
            }
        }
        if self.under_way.get() == 0 {
            self.last.set(clock::turn_began());
        }
        self.under_way.set(self.under_way.get() + 1);
        let _under_way = UnderWay(self);
        let done = request.await;
        self.last.set(clock::turn_began());
        done
    }

    pub fn stands_still(&self) -> bool {
        self.under_way.get() > 0 && clock::turn_began().since(self.last.get()) > DRIVE_STILL
    }
}

/// The threads end when this is dropped and its jobs are done.
pub(super) struct Helper {
    jobs: mpsc::Sender<Job>,
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
}

/// What a job gave, once it has ended.
struct Place<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

impl Helper {
    fn start() -> io::Result<Helper> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let helper = Helper { jobs, queue: Arc::new(Mutex::new(queue)) };
        helper.add_thread()?;
        Ok(helper)
    }

    /// One more thread. From now on jobs may run at the same time.
    fn add_thread(&self) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let work = move || std::iter::from_fn(|| next().ok()).for_each(|job| job());
        std::thread::Builder::new().name("corelog-helper".to_owned()).spawn(work)?;
        Ok(())
    }

    /// Runs `job` there and waits for it. It must not panic. Dropped meanwhile, the job is
    /// done all the same.
    pub fn run<T, F>(&self, job: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let place = Arc::new(Mutex::new(Place { result: None, waker: None }));
        let filled = Arc::clone(&place);
        let job = Box::new(move || {
            let result = job();
            let waker = {
                let mut place = filled.lock().unwrap_or_else(PoisonError::into_inner);
                place.result = Some(result);
                place.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        });
        self.jobs.send(job).expect("the helper ends after its core");
        std::future::poll_fn(move |cx| {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            match place.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    place.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::run_one;
    use futures_lite::future::{block_on, poll_once, zip};

    #[test]
    fn each_drive_has_a_helper_of_its_own() {
        let dirs = ["/a", "/b", "/a/c"].map(PathBuf::from);
        let helpers = Helpers::start(&dirs).unwrap();
        let of = |path: &str| helpers.of(Path::new(path)).0;
        assert_eq!([of("/a/x"), of("/b/x/y"), of("/a/c/x"), of("/a/cd"), of("/x/a")], [1, 2, 3, 1, 0]);
        // Each waits for the other.
        let (one, other) = mpsc::sync_channel::<()>(0);
        let waits = helpers.get(helpers.of(Path::new("/a/x"))).run(move || other.recv().is_ok());
        let tells = helpers.get(helpers.of(Path::new("/b/x"))).run(move || one.send(()).is_ok());
        assert_eq!(block_on(zip(waits, tells)), (true, true));
    }

    #[test]
    fn a_drive_that_ends_nothing_stands_still() {
        run_one(async {
            let pulse = Pulse::default();
            let mut hangs = Box::pin(pulse.during(std::future::pending::<()>()));
            assert!(poll_once(&mut hangs).await.is_none() && !pulse.stands_still(), "it has just begun");
            clock::sleep(2 * DRIVE_STILL).await;
            assert!(pulse.stands_still());
            pulse.during(async {}).await;
            assert!(!pulse.stands_still(), "something ended");
            clock::sleep(2 * DRIVE_STILL).await;
            assert!(pulse.stands_still());
            drop(hangs);
            assert!(!pulse.stands_still(), "nothing is under way");
        });
    }

    #[test]
    fn one_directory_needs_one_helper() {
        let helpers = Helpers::start(&["/a".into()]).unwrap();
        assert_eq!(helpers.of(Path::new("/a/x")), helpers.of(Path::new("/b")));
    }
}
