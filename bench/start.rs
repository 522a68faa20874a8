//! Starting: the time from the start of a command until the broker it starts
//! answers.

use std::fs::File;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kafka_protocol::messages::MetadataRequest;

use crate::cluster::Connection;
use crate::failure;
use crate::failure::{Doing, Outcome};

/// Between two attempts to reach the broker.
const ATTEMPT_GAP: Duration = Duration::from_millis(1);

/// When the broker reached each stage, from the start of the command.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub pid: u32,
    /// A connection was accepted and ApiVersions answered.
    pub versions: Duration,
    /// Metadata named at least one broker.
    pub metadata: Duration,
}

/// Runs `command` in a process group of its own, so that it lives on after us, its
/// output appended to `log`, and asks `bootstrap` until it answers or `patience` is over. Something that
/// listens there already is refused: its answer would be taken for the new one's.
pub fn start(bootstrap: &str, command: &[String], log: Option<&Path>, patience: Duration) -> Outcome<Started> {
    let [program, arguments @ ..] = command else {
        return Err(failure!("start needs the command that starts the broker"));
    };
    let mut targets = bootstrap.to_socket_addrs().doing(|| format!("find {bootstrap}"))?;
    let target = targets.next().ok_or_else(|| failure!("{bootstrap} has no address"))?;
    if TcpStream::connect(target).is_ok() {
        return Err(failure!("something listens at {bootstrap} already"));
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    match log {
        Some(log) => {
            let file = File::options().create(true).append(true).open(log);
            let file = file.doing(|| format!("open {}", log.display()))?;
            let both = file.try_clone().doing(|| format!("open {}", log.display()))?;
            command.stdout(file).stderr(both);
        }
        None => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    let begun = Instant::now();
    let child = command.spawn();
    let mut child = child.doing(|| format!("start {program}"))?;
    let mut versions = None;
    loop {
        // Whoever accepts before the broker is ready keeps us waiting in `open` for
        // the first answer, which is what is measured.
        if let Some(mut connection) = TcpStream::connect(target).ok().and_then(|_| Connection::open(bootstrap).ok()) {
            let versions = *versions.get_or_insert_with(|| begun.elapsed());
            let metadata = connection.call(&MetadataRequest::default().with_topics(Some(Vec::new())));
            if metadata.is_ok_and(|answer| !answer.brokers.is_empty()) {
                return Ok(Started { pid: child.id(), versions, metadata: begun.elapsed() });
            }
        }
        // A command that starts the broker in the background may end well before it.
        if let Ok(Some(status)) = child.try_wait()
            && !status.success()
        {
            return Err(failure!("{program} ended with {status}"));
        }
        if begun.elapsed() > patience {
            let _ = child.kill();
            return Err(failure!("{bootstrap} did not answer within {} s", patience.as_secs()));
        }
        std::thread::sleep(ATTEMPT_GAP);
    }
}
