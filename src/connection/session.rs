//! One connection: frames in, requests to [`crate::api`], answers to
//! [`super::replies`].
//!
//! A panic while a request is handled ends its connection alone (see
//! `docs/invariants.md`); a frame that lies about its size ends it too.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::finished::{self, About};
use super::read_buffer::ReadBuffer;
use super::replies::Replies;
use crate::api::{self, Context, Reply};
use crate::base::Moment;
use crate::base::budget::Permit;
use crate::base::wait;
use crate::runtime::clock;
use crate::runtime::net::Socket;
use crate::runtime::task::{self, OnPanic, Queue};
use crate::shard::Core;
use crate::wire::{self, ApiKey, SIZE_BYTES};

/// A connection, as the sweeper of idle ones sees it.
pub struct Session {
    socket: Socket,
    replies: Rc<Replies>,
    /// When bytes last came or went.
    active: Cell<Moment>,
    /// Whether part of a frame has been read: the peer owes us the rest.
    frame_open: Cell<bool>,
    /// Whether a request is being handled whose answer is not queued yet.
    handling: Cell<bool>,
}

impl Session {
    pub fn new(socket: Socket) -> Rc<Session> {
        let active = Cell::new(clock::moment());
        let (frame_open, handling) = Default::default();
        Rc::new(Session { socket, replies: Replies::new(), active, frame_open, handling })
    }

    /// When bytes last came in, or the answer that is on its way last moved.
    pub fn active(&self) -> Moment {
        self.active.get()
    }

    /// Since when the peer has owed us something that holds memory here: the rest of a
    /// frame, or room for an answer.
    pub fn stalled_since(&self) -> Option<Moment> {
        self.replies.stalled_since().or_else(|| self.frame_open.get().then(|| self.active.get()))
    }

    /// Whether a request waits for its answer, or an answer to be sent.
    pub fn is_answering(&self) -> bool {
        self.handling.get() || self.replies.are_under_way()
    }

    /// Ends the connection: both tasks notice.
    pub fn disconnect(&self) {
        self.socket.shutdown();
        self.replies.close();
    }
}

/// Serves a connection until it ends.
pub async fn serve(core: Rc<Core>, session: Rc<Session>, listener: usize) {
    let writer = {
        let (core, session) = (Rc::clone(&core), Rc::clone(&session));
        let (done, writer_done) = wait::once::<()>();
        task::spawn(Queue::Network, "replies", OnPanic::EndTask, async move {
            // Also when this task panics: a reader that waits for bytes of a peer that
            // takes none has to notice.
            let _ending = Ending(&session, done);
            session.replies.send_all(&core, &session.socket).await;
        });
        writer_done
    };
    let (buffer, peer) = (ReadBuffer::default(), session.socket.peer().ip());
    let mut reader =
        Reader { core, session: &session, listener, buffer, frames_are_large: false, peer, just_now: None };
    if let Err(why) = reader.run().await {
        tracing::debug!(peer = %session.socket.peer(), why, "connection ended");
    }
    // What has been ordered is still answered: a half-closed client gets its answers.
    session.replies.close();
    let _ = writer.await;
    session.socket.shutdown();
}

/// Ends a connection when the writer's task ends.
struct Ending<'a>(&'a Session, #[expect(dead_code, reason = "dropping it is the message")] wait::Sender<()>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.disconnect();
    }
}

struct Reader<'a> {
    core: Rc<Core>,
    session: &'a Rc<Session>,
    listener: usize,
    buffer: ReadBuffer,
    /// The last one had a buffer of its own.
    frames_are_large: bool,
    peer: IpAddr,
    /// When the last bytes came or the request before was ordered, if nothing was waited for
    /// since: then it is still about that time, and the clock need not be asked.
    just_now: Option<Moment>,
}

/// Why a connection ends, for the debug log.
type Ended = &'static str;

impl Reader<'_> {
    async fn run(&mut self) -> Result<(), Ended> {
        loop {
            // With it comes what else there is, unless frames are large: the next one is then better read
            // into memory of its own.
            let most = if self.frames_are_large { SIZE_BYTES } else { usize::MAX };
            if !self.fill(SIZE_BYTES, most).await? {
                return Ok(());
            }
            let size = i32::from_be_bytes(self.buffer.bytes()[..SIZE_BYTES].try_into().expect("four bytes"));
            let max = self.core.config().socket_request_max_bytes;
            if size < 0 || size as usize > max as usize {
                return Err("a frame size outside 0 to socket.request.max.bytes");
            }
            let size = size as usize;
            // Memory first: the socket is not read while there is none.
            let memory = self.core.request_memory();
            let permit = match memory.try_take(size) {
                Some(permit) => permit,
                None => {
                    let permit = memory.take(size).await;
                    self.just_now = None;
                    permit
                }
            };
            self.session.frame_open.set(true);
            self.frames_are_large = ReadBuffer::is_large(SIZE_BYTES + size);
            let most = if self.frames_are_large { SIZE_BYTES + size } else { usize::MAX };
            if !self.fill(SIZE_BYTES + size, most).await? {
                return Err("the peer closed inside a frame");
            }
            self.session.frame_open.set(false);
            self.buffer.bytes().advance(SIZE_BYTES);
            let frame = self.buffer.bytes().split_to(size).freeze();
            self.request(frame, permit).await?;
        }
    }

    /// Reads until `wanted` bytes are there, and `most` at most; false when the peer closed before the first.
    async fn fill(&mut self, wanted: usize, most: usize) -> Result<bool, Ended> {
        while self.buffer.bytes().len() < wanted {
            let len = self.buffer.bytes().len();
            self.buffer.make_room(wanted - len);
            match self.session.socket.receive(self.buffer.bytes(), most - len).await {
                Ok(0) if self.buffer.bytes().is_empty() => return Ok(false),
                Ok(0) => return Err("the peer closed inside a frame"),
                Ok(_) => {
                    let now = clock::turn_began();
                    self.session.active.set(now);
                    self.just_now = Some(now);
                }
                Err(_) => return Err("the connection broke"),
            }
        }
        Ok(true)
    }

    async fn request(&mut self, mut frame: Bytes, memory: Permit) -> Result<(), Ended> {
        let (read, request_bytes) = (self.session.active(), SIZE_BYTES + frame.len());
        let header =
            wire::read_header(&mut frame).map_err(|_| "an unreadable request header, or an API that is not served")?;
        let replies = &self.session.replies;
        if replies.room_for(header.api.key).await {
            self.just_now = None;
        }
        if replies.is_closed() {
            // What is still in the buffer must not be worked on for nobody.
            return Err("the peer takes no more answers");
        }
        let (api, version) = (header.api, header.api_version);
        let context = Context::new(header, self.peer, self.listener, read, self.just_now.take());
        if !api.serves(version) {
            return match api.key {
                ApiKey::ApiVersions => {
                    // KIP-511: answered in version 0 with the range we serve.
                    let about = About::new(context, request_bytes);
                    replies.push_ready(about, api::unsupported_api_versions().into(), memory);
                    Ok(())
                }
                _ => Err("a version that is not served"),
            };
        }
        self.session.handling.set(true);
        let reply = api::dispatch(&self.core, &context, frame).await;
        self.session.handling.set(false);
        match reply {
            Reply::Ready(answer) => replies.push_ready(About::new(context, request_bytes), answer, memory),
            Reply::Later(answer) => {
                let about = About::new(context, request_bytes);
                self.just_now = Some(about.timeline.last());
                replies.push_waiting(about, answer, memory);
            }
            Reply::None => {
                let about = About::new(context, request_bytes);
                finished::note(&self.core, self.session.socket.peer(), &about, 0);
            }
            Reply::Close => return Err("an unreadable request"),
        }
        Ok(())
    }
}
