//! Questions about a running broker from outside: a helper thread that listens on a socket
//! in the data directory and asks the cores by message.
//!
//! It speaks as much HTTP as `GET` needs, one request per connection (`curl --unix-socket
//! DIR/corelog.sock http://broker/debug/slow`), and answers in JSON; `corelog debug` is a
//! client of it. One peer at a time: more than one person rarely asks, and whoever says
//! nothing is hung up on soon. Who may open the socket is who may read the data.
//!
//! Relies on [`crate::shard::Core`] for what a core knows of itself. Touches no partition,
//! and no core waits for it: a core that does not answer is left out, and named.

mod report;
mod server;

pub use report::{DirsReport, SlowReport, StagesReport, StallsReport};
pub use server::{SOCKET_NAME, Server, get};

use std::rc::Rc;
use std::sync::mpsc::SyncSender;

use crate::base::Uuid;
use crate::metrics::{ApiDistributions, SlowRequest};
use crate::runtime::mailbox::Receiver;
use crate::runtime::{Stall, clock, task};
use crate::shard::partitions::{self, InDir};
use crate::shard::{Core, dirs};

/// What a core is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    Slowest,
    Stages,
    Stalls,
    Dirs,
}

/// A question, and where its answer goes. The answer is lost when it comes too late.
pub struct Inquiry {
    question: Question,
    answer: SyncSender<CoreAnswer>,
}

/// What a core says.
enum CoreAnswer {
    Slowest(Vec<SlowRequest>),
    Stages(Vec<ApiDistributions>),
    /// How many there were since the start, and the latest.
    Stalls(u64, Vec<Stall>),
    Dirs(CoreDirs),
}

/// The data directories, and what a core has in them.
struct CoreDirs {
    dirs: Vec<CoreDir>,
    /// Partitions that are offline and lie in none of them.
    offline_elsewhere: u64,
}

/// A data directory, as one core knows it.
struct CoreDir {
    path: String,
    /// `None`: it could not be read.
    id: Option<Uuid>,
    /// Why it is offline.
    reason: Option<String>,
    has_metadata: bool,
    held: InDir,
}

fn dirs_of(core: &Core) -> CoreDirs {
    let (held, offline_elsewhere) = partitions::in_dirs(core);
    let dirs = core.dirs().all().zip(held).map(|((index, dir), held)| CoreDir {
        path: dirs::shown(dir.path()),
        id: Some(dir.id()).filter(|id| !id.is_zero()),
        reason: dir.offline().map(str::to_string),
        has_metadata: core.dirs().metadata().among == Some(index),
        held,
    });
    CoreDirs { dirs: dirs.collect(), offline_elsewhere }
}

/// Answers what this core is asked, until the process stops.
pub async fn answer_inquiries(core: Rc<Core>, inquiries: Receiver<Inquiry>) {
    let next = || async {
        let stopped = async {
            core.stop().raised().await;
            None
        };
        futures_lite::future::or(async { Some(inquiries.next().await) }, stopped).await
    };
    while let Some(Inquiry { question, answer }) = next().await {
        let said = match question {
            Question::Slowest => CoreAnswer::Slowest(core.requests().slowest(clock::moment())),
            Question::Stages => CoreAnswer::Stages(core.requests().distributions()),
            Question::Stalls => {
                let (count, latest) = task::stalls();
                CoreAnswer::Stalls(count, latest)
            }
            Question::Dirs => CoreAnswer::Dirs(dirs_of(&core)),
        };
        // There is room for one answer. Who asked may have given up.
        let _ = answer.try_send(said);
    }
}
