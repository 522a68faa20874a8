//! The helper thread and its socket, and the client's side of it.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{CoreAnswer, DirsReport, Inquiry, Question, SlowReport, StagesReport, StallsReport};
use crate::runtime::local_socket;
use crate::runtime::mailbox::Sender;

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "corelog.sock";

/// How long a peer may take to say what it wants, and to take the answer.
const PEER_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long all cores together may take to answer. A core that takes longer is stuck, and
/// what the others know may say why.
const CORES_WAIT_MAX: Duration = Duration::from_secs(2);
/// Bytes of a request: a line, and headers that nobody reads.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an answer that a client believes: some hundred lines.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The thread that answers, until dropped.
pub struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in `data_dir`, which the caller has locked, and asks `cores`.
    ///
    /// # Errors
    /// The socket cannot be made: the broker runs as well without.
    pub fn start(data_dir: &Path, cores: Vec<Sender<Inquiry>>) -> io::Result<Server> {
        let path = data_dir.join(SOCKET_NAME);
        let listener = local_socket::listen(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let body = move || serve(&listener, &cores, &told);
        let thread = std::thread::Builder::new().name("corelog-admin".to_owned()).spawn(body)?;
        Ok(Server { path, stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread. If that fails somebody has removed the socket; the thread
        // then ends with the process.
        let woken = local_socket::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        if woken.is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, cores: &[Sender<Inquiry>], stop: &AtomicBool) {
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Acquire) {
            return;
        }
        let told = accepted.and_then(|(peer, _)| converse(peer, cores));
        if let Err(error) = told {
            tracing::debug!(%error, "a question to the broker");
            // Out of descriptors, most likely; accepting again at once would spin.
            if error.kind() != io::ErrorKind::BrokenPipe && error.kind() != io::ErrorKind::WouldBlock {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// One request of one peer.
fn converse(mut peer: UnixStream, cores: &[Sender<Inquiry>]) -> io::Result<()> {
    peer.set_write_timeout(Some(PEER_WAIT_MAX))?;
    let request = read_request(&mut peer)?;
    let (status, body) = match request.as_deref() {
        Some(line) => respond(line, cores),
        None => ("400 Bad Request", error_body("no request, or a too long one")),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    peer.write_all(head.as_bytes())?;
    peer.write_all(&body)
}

/// The request's first line; `None` when there is none within bounds of time and size.
fn read_request(peer: &mut UnixStream) -> io::Result<Option<String>> {
    let deadline = Instant::now() + PEER_WAIT_MAX;
    let mut request = Vec::new();
    let mut some = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        peer.set_read_timeout(Some(left))?;
        match peer.read(&mut some)? {
            0 => return Ok(None),
            read => request.extend_from_slice(&some[..read]),
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(std::str::from_utf8(line).ok().map(str::to_owned))
}

fn error_body(error: &str) -> Vec<u8> {
    serde_json::json!({ "error": error }).to_string().into_bytes()
}

/// Status and body for a request's first line.
fn respond(line: &str, cores: &[Sender<Inquiry>]) -> (&'static str, Vec<u8>) {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != "GET" {
        return ("405 Method Not Allowed", error_body("only GET is served"));
    }
    let body = match path {
        "/debug/slow" => {
            let (said, silent) = ask(cores, Question::Slowest, |said| match said {
                CoreAnswer::Slowest(slowest) => Some(slowest),
                _ => None,
            });
            serde_json::to_vec(&SlowReport::of(said, silent))
        }
        "/debug/stages" => {
            let (said, silent) = ask(cores, Question::Stages, |said| match said {
                CoreAnswer::Stages(stages) => Some(stages),
                _ => None,
            });
            serde_json::to_vec(&StagesReport::of(said, silent))
        }
        "/debug/stalls" => {
            let (said, silent) = ask(cores, Question::Stalls, |said| match said {
                CoreAnswer::Stalls(count, latest) => Some((count, latest)),
                _ => None,
            });
            serde_json::to_vec(&StallsReport::of(said, silent))
        }
        "/debug/dirs" => {
            let (said, silent) = ask(cores, Question::Dirs, |said| match said {
                CoreAnswer::Dirs(dirs) => Some(dirs),
                _ => None,
            });
            serde_json::to_vec(&DirsReport::of(said, silent))
        }
        _ => {
            return (
                "404 Not Found",
                error_body("served are /debug/slow, /debug/stages, /debug/stalls and /debug/dirs"),
            );
        }
    };
    match body {
        Ok(body) => ("200 OK", body),
        Err(error) => ("500 Internal Server Error", error_body(&error.to_string())),
    }
}

/// Asks all cores at once: what those said that answered in time, and which did not.
fn ask<T>(
    cores: &[Sender<Inquiry>],
    question: Question,
    expected: impl Fn(CoreAnswer) -> Option<T>,
) -> (Vec<(usize, T)>, Vec<usize>) {
    let deadline = Instant::now() + CORES_WAIT_MAX;
    let asked = cores.iter().map(|core| {
        let (answer, said) = mpsc::sync_channel(1);
        core.send(Inquiry { question, answer }).is_ok().then_some(said)
    });
    // All are asked before the first is waited for.
    let asked: Vec<_> = asked.collect();
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for (core, said) in asked.into_iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let said = said.ok_or(RecvTimeoutError::Disconnected).and_then(|said| said.recv_timeout(left));
        match said.ok().and_then(&expected) {
            Some(said) => answers.push((core, said)),
            None => silent.push(core),
        }
    }
    (answers, silent)
}

/// Asks the broker whose data lies in `data_dir`: the body of its answer to `GET path`.
///
/// # Errors
/// Nobody listens there, it hung up, or it refused: then the error is its own sentence.
pub fn get(data_dir: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut broker = local_socket::connect(&data_dir.join(SOCKET_NAME))?;
    // Behind another client it may take as long as that one.
    let patience = 4 * (PEER_WAIT_MAX + CORES_WAIT_MAX);
    broker.set_read_timeout(Some(patience))?;
    broker.write_all(format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    broker.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let head_end = answer.windows(4).position(|end| end == b"\r\n\r\n").ok_or_else(|| invalid("no HTTP answer"))?;
    let body = answer.split_off(head_end + 4);
    let head = String::from_utf8_lossy(&answer).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    if length != Some(body.len()) {
        return Err(invalid("the answer is cut off"));
    }
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned()));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Moment, UnixMs};
    use crate::metrics::{Finished, Requests, Timeline};
    use crate::runtime::mailbox::mailbox;

    /// Says something to the broker in `dir` byte for byte, and gives what it says.
    fn say(dir: &Path, words: &[u8]) -> String {
        let mut broker = local_socket::connect(&dir.join(SOCKET_NAME)).unwrap();
        broker.write_all(words).unwrap();
        broker.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        // A peer that said too much may be hung up on before it has heard everything.
        let _ = broker.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn bad_requests_are_refused_and_the_next_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), Vec::new()).unwrap();
        for (words, status) in [
            (&b"POST /debug/slow HTTP/1.1\r\n\r\n"[..], "405"),
            (b"GET /etc/passwd HTTP/1.1\r\n\r\n", "404"),
            (b"\xff\xfe\r\n\r\n", "400"),
            (b"\r\n\r\n", "405"),
            (b"GET /debug", "400"),
            (b"", "400"),
        ] {
            let answer = say(dir.path(), words);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{words:?}: {answer}");
        }
        say(dir.path(), &vec![b'x'; 3 * REQUEST_BYTES_MAX]);
        let report: SlowReport = serde_json::from_slice(&get(dir.path(), "/debug/slow").unwrap()).unwrap();
        assert!(report.requests.is_empty() && report.silent_cores.is_empty());
        let refused = get(dir.path(), "/nothing").unwrap_err().to_string();
        assert!(refused.contains("served are"), "{refused}");
        drop(server);
        assert_eq!(get(dir.path(), "/debug/slow").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_core_that_does_not_answer_is_named_and_the_others_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let (cores, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mailbox::<Inquiry>()).unzip();
        let mut receivers = receivers.into_iter();
        let (first, _stuck, gone) = (receivers.next().unwrap(), receivers.next().unwrap(), receivers.next());
        drop(gone);
        let _server = Server::start(dir.path(), cores).unwrap();
        let core = std::thread::spawn(move || {
            let requests = Requests::default();
            let mut timeline = Timeline::begin(Moment(0));
            timeline.mark(crate::metrics::Stage::Sent, Moment(7_000_000));
            let peer = ([127, 0, 0, 1], 9).into();
            let (api_key, api_version, correlation_id, client_id) = (0, 9, 5, "someone");
            let (partitions, request_bytes, answer_bytes) = (2, 300, 40);
            let request = Finished {
                api_key,
                api_version,
                correlation_id,
                client_id,
                peer,
                partitions,
                request_bytes,
                answer_bytes,
                timeline,
            };
            requests.finish(&request, || UnixMs(1));
            let inquiry = futures_lite::future::block_on(first.next());
            assert_eq!(inquiry.question, Question::Slowest);
            inquiry.answer.send(CoreAnswer::Slowest(requests.slowest(Moment(0)))).unwrap();
        });
        let report: SlowReport = serde_json::from_slice(&get(dir.path(), "/debug/slow").unwrap()).unwrap();
        core.join().unwrap();
        assert_eq!(report.silent_cores, [1, 2]);
        let [slow] = &report.requests[..] else { panic!("{report:?}") };
        assert_eq!((slow.api.as_str(), slow.client_id.as_str(), slow.total_us), ("Produce", "someone", 7000));
        assert_eq!(slow.stages_us.get("sent"), Some(&7000));
    }
}
