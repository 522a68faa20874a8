//! Making the copy of a segment what the segment is, as far as that is filed.

use std::io;
use std::rc::Rc;

use crate::base::Offset;
use crate::base::crc::{crc32c, crc32c_append};
use crate::base::limits::{BLOCK_BYTES, LOG_WRITE_BYTES_MAX};
use crate::record::{BATCH_HEADER_BYTES, BatchError, BatchView};
use crate::runtime::disk::{Buffer, File, Open};
use crate::runtime::task;

use super::super::names::{self, LOG, OFFSET_INDEX, SNAPSHOT, TIME_INDEX, TRANSACTION_INDEX};
use super::super::space::{Purpose, Want};
use super::{Move, MoveError, Target};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Where the checksum's range begins in a batch: at the attributes.
const CRC_RANGE: usize = 21;
/// The bytes that the length field does not count.
const LOG_OVERHEAD: u64 = 12;

/// The copy of one segment.
pub(super) struct Copy {
    /// Open while it is being written.
    file: Option<File>,
    /// What was in the file when it was found, and was not compared yet.
    found: u64,
    /// Bytes of batches that it has, flushed or not.
    len: u64,
    /// The end of the last whole batch.
    whole: u64,
    check: Check,
    /// The file holds what was not flushed.
    dirty: bool,
    /// All of a sealed segment, with its indexes, durable.
    complete: bool,
    /// Files beside it that do not change were copied.
    beside: bool,
}

impl Copy {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The offset after the last whole batch.
    pub fn next(&self) -> Offset {
        self.check.next
    }

    /// Closes the file. `keep`: at the end of a batch, so that it is a segment's file for whoever comes.
    pub async fn end(self, keep: bool) {
        let Some(file) = self.file else { return };
        if keep {
            // What fails here is found by who goes on.
            let _ = file.set_length(self.whole).await;
            let _ = file.flush().await;
        }
        let _ = file.close().await;
    }

    /// Takes the file, and what it has of space.
    pub fn take_file(&mut self) -> Option<File> {
        self.file.take()
    }
}

/// Follows the batches of a segment through pieces of any length, and verifies each.
struct Check {
    head: Vec<u8>,
    crc: u32,
    /// Bytes of the batch that are still to come.
    left: u64,
    next: Offset,
}

impl Check {
    fn new(base: Offset) -> Check {
        Check { head: Vec::with_capacity(BATCH_HEADER_BYTES), crc: 0, left: 0, next: base }
    }

    /// Takes the next bytes. Gives how many of them belong to a batch that has not come to its end.
    fn take(&mut self, mut bytes: &[u8]) -> Result<u64, String> {
        while !bytes.is_empty() {
            if self.head.len() < BATCH_HEADER_BYTES {
                let (more, rest) = bytes.split_at(bytes.len().min(BATCH_HEADER_BYTES - self.head.len()));
                self.head.extend_from_slice(more);
                bytes = rest;
                if self.head.len() == BATCH_HEADER_BYTES {
                    self.begin()?;
                }
            } else {
                let (more, rest) = bytes.split_at((bytes.len() as u64).min(self.left) as usize);
                self.crc = crc32c_append(self.crc, more);
                self.left -= more.len() as u64;
                bytes = rest;
            }
            if self.head.len() == BATCH_HEADER_BYTES && self.left == 0 {
                self.finish()?;
            }
        }
        Ok(match self.head.len() {
            BATCH_HEADER_BYTES => self.size() - self.left,
            some => some as u64,
        })
    }

    /// Bytes of the batch whose header is there.
    fn size(&self) -> u64 {
        let length = self.head[8..12].try_into().map_or(0, i32::from_be_bytes);
        length as u64 + LOG_OVERHEAD
    }

    fn begin(&mut self) -> Result<(), String> {
        match BatchView::first(&self.head) {
            Ok(_) | Err(BatchError::Cut { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        self.left = self.size() - BATCH_HEADER_BYTES as u64;
        self.crc = crc32c(&self.head[CRC_RANGE..]);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let head = &self.head;
        let base = Offset(head[0..8].try_into().map_or(-1, i64::from_be_bytes));
        let claimed = head[17..CRC_RANGE].try_into().map_or(0, u32::from_be_bytes);
        let delta = head[23..27].try_into().map_or(-1, i32::from_be_bytes);
        if claimed != self.crc {
            return Err(format!("the batch at offset {base} has a wrong checksum"));
        }
        if base < self.next || delta < 0 {
            return Err(format!("the batch at offset {base} where {} is due", self.next));
        }
        self.next = base.plus(i64::from(delta) + 1);
        self.head.clear();
        Ok(())
    }
}

impl Move {
    /// Copies what the copy lacks of a segment. Gives what is left: 0, or some of what is not there to be copied
    /// any more.
    pub(super) async fn copy(&mut self, target: &Target) -> Result<u64, MoveError> {
        let base = target.segment.base;
        if self.copies.get(&base).is_some_and(|copy| copy.complete) {
            return Ok(0);
        }
        if !self.copies.contains_key(&base) {
            let copy = self.open_copy(base).await?;
            self.copies.insert(base, copy);
        }
        if !self.copies[&base].beside {
            self.copy_beside(base, &[TRANSACTION_INDEX]).await?;
            self.copy_snapshot(base).await?;
            self.copies.get_mut(&base).expect("just made").beside = true;
        }
        match self.copy_batches(target).await {
            // Retention was faster: its file is gone, or another's name.
            Err(MoveError::Failed(_)) if !self.is_there(target) => return Ok(0),
            copied => copied?,
        }
        if target.sealed {
            self.complete(target).await?;
        }
        self.told();
        Ok(0)
    }

    fn is_there(&self, target: &Target) -> bool {
        let state = self.log.state.borrow();
        state.segments.iter().any(|segment| Rc::ptr_eq(segment, &target.segment))
    }

    async fn open_copy(&self, base: Offset) -> Result<Copy, MoveError> {
        let path = self.to.future.join(names::file_name(base, LOG));
        let file =
            self.log.disk.open(&path, Open::CREATE).await.map_err(|error| self.failed("create", &path, &error))?;
        Ok(Copy {
            found: file.length(),
            file: Some(file),
            len: 0,
            whole: 0,
            check: Check::new(base),
            dirty: true,
            complete: false,
            beside: false,
        })
    }

    async fn copy_batches(&mut self, target: &Target) -> Result<(), MoveError> {
        let log = Rc::clone(&self.log);
        let base = target.segment.base;
        let path = self.to.future.join(names::file_name(base, LOG));
        let (from_dir, from_turns) = (log.dir(), Rc::clone(&log.memory().turns));
        let turns = Rc::clone(&self.to.memory.turns);
        let source_path = target.segment.log_path(&from_dir);
        let file = self.copies[&base].file.clone().expect("open until it is complete");
        let mut buffer = Rc::new(Buffer::with_capacity(LOG_WRITE_BYTES_MAX));
        while self.copies[&base].len < target.filed {
            self.goes_on()?;
            let (len, found) = (self.copies[&base].len, self.copies[&base].found);
            // The last block may have grown since.
            let position = len - len % BLOCK;
            let piece = if self.hurries { LOG_WRITE_BYTES_MAX as u64 } else { self.to.throttle.piece() };
            let end = target.filed.min(position + piece);
            let source = target.segment.file(&log.disk, &from_dir).await?;
            let read = from_turns.read(&source, position, (end - position) as usize).await;
            let bytes = read.map_err(|error| MoveError::Failed(describe_read(&source_path, &error)))?;
            if (bytes.len() as u64) < end - position {
                let reason = format!("{} is shorter than its batches", source_path.display());
                return Err(MoveError::Failed(reason.into()));
            }
            {
                let copy = self.copies.get_mut(&base).expect("open");
                let unfinished = copy.check.take(&bytes[(len - position) as usize..]).map_err(|reason| {
                    MoveError::Failed(format!("{} is damaged: {reason}", source_path.display()).into())
                })?;
                copy.whole = end - unfinished;
            }
            let padded = end.next_multiple_of(BLOCK);
            let is_right = found >= padded && {
                let there = turns.read(&file, position, bytes.len()).await;
                there.map_err(|error| self.failed("read", &path, &error))?[..] == bytes[..]
            };
            if !is_right {
                if padded > file.length() {
                    self.make_room(&file, &path, padded, target).await?;
                }
                match Rc::get_mut(&mut buffer) {
                    Some(buffer) => buffer.truncate(0),
                    None => buffer = Rc::new(Buffer::with_capacity(LOG_WRITE_BYTES_MAX)),
                }
                buffer.append(&bytes, |_| {});
                buffer.pad_to_block();
                let written = turns.write(&file, &buffer, position).await;
                written.map_err(|error| self.failed("write", &path, &error))?;
            } else {
                self.progress.compared.set(self.progress.compared.get() + bytes.len() as u64);
            }
            let copy = self.copies.get_mut(&base).expect("open");
            copy.len = end;
            copy.dirty = true;
            self.told();
            if !self.hurries {
                self.to.throttle.passed(bytes.len() as u64, || self.goes_on()).await?;
            }
            task::yield_if_needed().await;
        }
        Ok(())
    }

    /// Gives the copy the space that its next write needs, and if it can what all of the segment needs.
    async fn make_room(&self, file: &File, path: &std::path::Path, end: u64, target: &Target) -> Result<(), MoveError> {
        let length = file.length();
        let whole = target.filed.next_multiple_of(BLOCK).max(end);
        let purpose = Purpose::of(self.log.is_vital.get());
        let want = Want { need: end - length, ahead: whole - end, is_asked_for: false, purpose };
        let (to, grant) = match self.to.memory.space.ask(&self.log.disk, &self.to.future, want).await {
            Ok(None) => return Err(MoveError::DiskFull(Rc::clone(&self.log.name))),
            Ok(Some(grant)) => (length + grant.bytes(), Some(grant)),
            Err(_) => (whole, None),
        };
        match file.allocate(length, to - length).await {
            Ok(()) => drop(grant),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(self.failed("allocate space for", path, &error)),
        }
        Ok(())
    }

    /// Ends the copy of a sealed segment: its length, its indexes, all durable.
    async fn complete(&mut self, target: &Target) -> Result<(), MoveError> {
        let base = target.segment.base;
        let path = self.to.future.join(names::file_name(base, LOG));
        let file = self.copies[&base].file.clone().expect("open until it is complete");
        if file.length() != target.filed {
            file.set_length(target.filed).await.map_err(|error| self.failed("cut", &path, &error))?;
        }
        file.flush().await.map_err(|error| self.failed("flush", &path, &error))?;
        drop(file);
        self.copy_beside(base, &[OFFSET_INDEX, TIME_INDEX]).await?;
        // Put in place when the segment was sealed.
        self.copy_snapshot(target.end).await?;
        let copy = self.copies.get_mut(&base).expect("open");
        copy.complete = true;
        copy.dirty = false;
        if let Some(file) = copy.file.take() {
            let _ = file.close().await;
        }
        Ok(())
    }

    /// Copies small files of a segment that is not going to change them, if it has them.
    async fn copy_beside(&self, base: Offset, kinds: &[&str]) -> Result<bool, MoveError> {
        let from_dir = self.log.dir();
        let mut any = false;
        for kind in kinds {
            let name = names::file_name(base, kind);
            let (from, to) = (from_dir.join(&name), self.to.future.join(&name));
            match self.log.disk.read_file(&from).await {
                Ok(bytes) => {
                    self.log.disk.write_file(&to, bytes).await.map_err(|error| self.failed("write", &to, &error))?;
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(MoveError::Failed(describe_read(&from, &error))),
            }
        }
        Ok(any)
    }

    async fn copy_snapshot(&mut self, offset: Offset) -> Result<(), MoveError> {
        if !self.snapshots.contains(&offset) && self.copy_beside(offset, &[SNAPSHOT]).await? {
            self.snapshots.insert(offset);
        }
        Ok(())
    }

    /// Makes what was copied durable.
    pub(super) async fn flush(&mut self) -> Result<(), MoveError> {
        let dirty: Vec<Offset> =
            self.copies.iter().filter(|(_, copy)| copy.dirty && !copy.complete).map(|(base, _)| *base).collect();
        for base in dirty {
            let Some(file) = self.copies[&base].file.clone() else { continue };
            let path = self.to.future.join(names::file_name(base, LOG));
            let copy = self.copies.get_mut(&base).expect("copies go only here");
            let padded = copy.len.next_multiple_of(BLOCK);
            if std::mem::take(&mut copy.found) > padded {
                // What was found behind is nothing of the segment.
                file.set_length(padded).await.map_err(|error| self.failed("cut", &path, &error))?;
            }
            let urgent = self.to.memory.turns.begin_write(false);
            let flushed = file.flush().await;
            drop(urgent);
            flushed.map_err(|error| self.failed("flush", &path, &error))?;
            self.copies.get_mut(&base).expect("copies go only here").dirty = false;
        }
        Ok(())
    }
}

fn describe_read(path: &std::path::Path, error: &io::Error) -> Rc<str> {
    super::describe("read", path, error).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, NewRecord, Stamp};

    fn batches() -> Vec<u8> {
        let mut all = Vec::new();
        for (base, bytes) in [(5, 10), (6, 3000), (9, 0), (10, 700)] {
            let mut builder = BatchBuilder::new();
            builder.push(NewRecord { timestamp: 1, key: None, value: Some(&vec![7; bytes]), headers: &[] });
            let mut batch = builder.build();
            let stamp =
                Stamp { base_offset: Offset(base), leader_epoch: crate::base::LeaderEpoch(1), log_append_time: None };
            crate::record::stamp(&mut batch, &stamp);
            all.extend(batch);
        }
        all
    }

    #[test]
    fn batches_are_followed_through_pieces_of_any_length() {
        let all = batches();
        for piece in [1, 7, 60, 61, 62, 500, 4096, all.len()] {
            let mut check = Check::new(Offset(5));
            let (mut whole, mut at) = (0, 0);
            for bytes in all.chunks(piece) {
                at += bytes.len() as u64;
                whole = at - check.take(bytes).unwrap();
            }
            assert_eq!((whole, check.next), (all.len() as u64, Offset(11)), "pieces of {piece}");
            // A cut within the last batch.
            let mut check = Check::new(Offset(5));
            let cut = all.len() - 9;
            let unfinished: u64 = all[..cut].chunks(piece).map(|bytes| check.take(bytes).unwrap()).last().unwrap();
            assert_eq!(check.next, Offset(10));
            let last = BatchView::first(&all[cut - unfinished as usize..]).map(|batch| batch.base_offset());
            assert_eq!(last.ok(), Some(Offset(10)), "pieces of {piece}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let all = batches();
        for at in (0..all.len()).step_by(37) {
            let mut harmed = all.clone();
            harmed[at] ^= 4;
            let mut check = Check::new(Offset(5));
            let found = harmed.chunks(1000).try_fold(0, |_, bytes| check.take(bytes));
            // Offset and epoch lie outside of the checksum; a length that is wrong may end behind the last byte.
            let whole = found == Ok(0) && check.next == Offset(11);
            let epoch_or_offset = |at: usize| {
                let mut begin = 0;
                while let Ok(batch) = BatchView::first(&all[begin..]) {
                    if (begin..begin + 8).contains(&at) || (begin + 12..begin + 16).contains(&at) {
                        return true;
                    }
                    begin += batch.size();
                }
                false
            };
            assert!(!whole || epoch_or_offset(at), "byte {at}");
        }
    }
}
