//! A core's helper: a thread for jobs that block, one after another; and several when the process
//! stops.

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

type Job = Box<dyn FnOnce() + Send>;

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
    /// Starts the thread, with the affinity of the one that calls.
    pub fn start() -> io::Result<Helper> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let helper = Helper { jobs, queue: Arc::new(Mutex::new(queue)) };
        helper.add_thread()?;
        Ok(helper)
    }

    /// One more thread, with the affinity of the one that calls. From now on jobs may run at the same time.
    pub fn add_thread(&self) -> io::Result<()> {
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
