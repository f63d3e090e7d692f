//! A store between a task and those who read it: a slow reader never holds a task's device.
//!
//! In: the body of an ExecuteTask answer, as the task makes it. Out: the same frames to the reader, at its pace. Frames
//! wait in memory while the statements' pool gives it and a share per answer allows it, then in a file of the spill
//! directories, sealed with a key that dies with the answer. Invariants: order is kept and trailers come last; memory and
//! files are bounded, and where neither has room the task waits; a full disk is 53100 for the reader. Files have mode
//! 0600, are unlinked with the answer, and never decide an answer: what was tampered with fails its seal.
//! Deliberately absent: streams inside one worker, which pass no socket; the pool bounds those.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use http_body::{Body as _, Frame};
use ring::aead;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::error::from_datafusion;
use squilla_engine::error_wire;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

use crate::control::TaskOutput;

/// Bytes of one answer that wait in memory at most.
const MEMORY_BYTES_MAX: usize = 32 << 20;
/// Bytes of one answer that wait in files at most; then the task waits.
const FILE_BYTES_MAX: u64 = 16 << 30;
/// Frames on their way to the reader.
const CHANNEL_FRAMES: usize = 2;

type Item = std::result::Result<Frame<Bytes>, Status>;

/// An answer whose frames are drained as they come. `done` is told what passed, at its end.
pub fn drained(body: Body, environment: &Arc<RuntimeEnv>, threads: &tokio::runtime::Handle, done: impl FnOnce(TaskOutput) + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<Item>(CHANNEL_FRAMES);
    let store = Store {
        environment: Arc::clone(environment),
        reservation: MemoryConsumer::new("spool").register(&environment.memory_pool),
        waiting: VecDeque::new(),
        file: None,
        told: TaskOutput::default(),
    };
    let task = threads.spawn(async move {
        // The end is told before the reader sees it: what comes after the last row knows of every task.
        let told = store.run(body, &sender).await;
        done(told);
        drop(sender);
    });
    Body::new(Drained { receiver, task: task.abort_handle() })
}

/// The reader's side.
struct Drained {
    receiver: mpsc::Receiver<Item>,
    task: tokio::task::AbortHandle,
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl http_body::Body for Drained {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.receiver.poll_recv(context)
    }
}

enum Waiting {
    Here(Frame<Bytes>, usize),
    /// Where in the file, how long sealed, and its number.
    Filed(u64, usize, u64),
}

/// One answer's frames between task and reader.
struct Store {
    environment: Arc<RuntimeEnv>,
    reservation: MemoryReservation,
    waiting: VecDeque<Waiting>,
    file: Option<SealedFile>,
    told: TaskOutput,
}

impl Store {
    async fn run(mut self, mut body: Body, sender: &mpsc::Sender<Item>) -> TaskOutput {
        let mut ended = false;
        loop {
            if ended && self.waiting.is_empty() {
                break;
            }
            let room = !ended && (self.waiting.is_empty() || self.has_room());
            let mut pending = Pin::new(&mut body);
            tokio::select! {
                biased;
                slot = sender.reserve(), if !self.waiting.is_empty() => {
                    let Ok(slot) = slot else { break };
                    match self.take().await {
                        Ok(frame) => slot.send(Ok(frame)),
                        Err(error) => {
                            slot.send(end_with(&error));
                            break;
                        }
                    }
                }
                frame = std::future::poll_fn(|context| pending.as_mut().poll_frame(context)), if room => match frame {
                    None => ended = true,
                    Some(Ok(frame)) => {
                        if let Err(error) = self.put(frame).await {
                            let _ = sender.send(end_with(&error)).await;
                            break;
                        }
                    }
                    Some(Err(status)) => {
                        // What the task made before it failed is of no use.
                        let _ = sender.send(Err(status)).await;
                        break;
                    }
                },
            }
        }
        self.told.at_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0));
        self.told
    }

    fn has_room(&self) -> bool {
        self.file.as_ref().is_none_or(|f| f.end < FILE_BYTES_MAX)
    }

    async fn put(&mut self, frame: Frame<Bytes>) -> Result<()> {
        let Some(data) = frame.data_ref() else {
            self.waiting.push_back(Waiting::Here(frame, 0));
            return Ok(());
        };
        let size = data.len();
        self.told.wire_bytes += size as u64;
        // The first frame in line is on its way: it is never filed.
        let next = self.waiting.is_empty();
        if next || (self.reservation.size() + size <= MEMORY_BYTES_MAX && self.reservation.try_grow(size).is_ok()) {
            let held = if next { 0 } else { size };
            self.told.memory_bytes = self.told.memory_bytes.max(self.reservation.size() as u64);
            self.waiting.push_back(Waiting::Here(frame, held));
            return Ok(());
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => SealedFile::create(&self.environment)?,
        };
        let data = data.clone();
        let (file, filed) = blocking(move || {
            let filed = file.write(&data)?;
            Ok((file, filed))
        })
        .await?;
        self.file = Some(file);
        self.told.spilled_bytes += size as u64;
        self.waiting.push_back(Waiting::Filed(filed.0, filed.1, filed.2));
        Ok(())
    }

    async fn take(&mut self) -> Result<Frame<Bytes>> {
        match self.waiting.pop_front() {
            Some(Waiting::Here(frame, held)) => {
                self.reservation.shrink(held);
                Ok(frame)
            }
            Some(Waiting::Filed(at, length, number)) => {
                let file = self.file.take().ok_or_else(|| Error::internal("a spooled frame without a file"))?;
                let (file, data) = blocking(move || {
                    let data = file.read(at, length, number)?;
                    Ok((file, data))
                })
                .await?;
                // Nothing in it is wanted any more: the next frame that must be filed begins a new one.
                self.file = self.waiting.iter().any(|w| matches!(w, Waiting::Filed(..))).then_some(file);
                Ok(Frame::data(data))
            }
            None => Err(Error::internal("nothing was spooled")),
        }
    }
}

/// The last frame of an answer that failed here. As trailers: an error of the body itself resets the stream, and the reader
/// would take the worker for lost.
fn end_with(error: &Error) -> Item {
    let mut trailers = http::HeaderMap::new();
    Status::internal(error_wire::encode(error)).add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("the spool failed: {e}")))?
}

/// Frames in a file, each sealed under its number with a key that only this process has.
struct SealedFile {
    /// Removes the file when it goes.
    _holder: Arc<dyn SpillFile>,
    path: PathBuf,
    /// Counts what is written against the limit of spill files.
    writer: Box<dyn SpillWriter>,
    reader: File,
    key: aead::LessSafeKey,
    end: u64,
    frames: u64,
}

impl SealedFile {
    fn create(environment: &RuntimeEnv) -> Result<Self> {
        let holder = environment.disk_manager.create_tmp_file("spool").map_err(from_datafusion)?;
        let path = holder.path().map(PathBuf::from).ok_or_else(|| Error::internal("a spill file without a path"))?;
        let writer = holder.open_writer().map_err(from_datafusion)?;
        let reader = File::open(&path).map_err(|e| Error::io(format!("could not open the spill file {}", path.display()), e))?;
        let mut bytes = [0u8; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).map_err(|_| Error::internal("no random numbers"))?;
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &bytes).map_err(|_| Error::internal("no key"))?;
        Ok(Self { _holder: holder, path, writer, reader, key: aead::LessSafeKey::new(key), end: 0, frames: 0 })
    }

    fn nonce(number: u64) -> aead::Nonce {
        let mut bytes = [0u8; aead::NONCE_LEN];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        aead::Nonce::assume_unique_for_key(bytes)
    }

    /// Where it is, how long sealed, and its number: numbers never come again.
    fn write(&mut self, data: &[u8]) -> Result<(u64, usize, u64)> {
        let (at, number) = (self.end, self.frames);
        let mut sealed = data.to_vec();
        let seal = self.key.seal_in_place_append_tag(Self::nonce(number), aead::Aad::empty(), &mut sealed);
        seal.map_err(|_| Error::internal("a frame could not be sealed"))?;
        self.writer.write_all(&sealed).and_then(|()| self.writer.flush()).map_err(|e| full(&self.path, e))?;
        self.end += sealed.len() as u64;
        self.frames += 1;
        Ok((at, sealed.len(), number))
    }

    fn read(&self, at: u64, length: usize, number: u64) -> Result<Bytes> {
        let mut sealed = vec![0u8; length];
        self.reader.read_exact_at(&mut sealed, at).map_err(|e| Error::io(format!("could not read {}", self.path.display()), e))?;
        let broken = |_| Error::new(Kind::DataCorrupted, format!("the spill file {} was changed or is damaged", self.path.display()));
        let length = self.key.open_in_place(Self::nonce(number), aead::Aad::empty(), &mut sealed).map_err(broken)?.len();
        sealed.truncate(length);
        Ok(Bytes::from(sealed))
    }
}

/// No space left on device, on every system that this runs on.
const ENOSPC: i32 = 28;

fn full(path: &Path, error: std::io::Error) -> Error {
    // The disk manager's own limit has no kind of its own.
    if error.to_string().contains("allowable limit") {
        return Error::new(Kind::DiskFull, "the limit of spill files is reached").hint("The limit is the setting squilla.spill_bytes_max.");
    }
    // What the disk manager passes on has lost its kind: the operating system's own text is left.
    let full = error.to_string().contains(&std::io::Error::from_raw_os_error(ENOSPC).to_string());
    let mut error = Error::io(format!("could not write the spill file {}", path.display()), error);
    if full {
        error.kind = Kind::DiskFull;
    }
    if error.kind == Kind::DiskFull { error.hint("Make room there, or name another directory with --spill-dir.") } else { error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use futures::StreamExt;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn frames_come_out_as_they_went_in_whatever_the_memory() {
        for pool in [1usize << 30, 40_000] {
            let environment = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(pool))).build_arc().unwrap();
            let frames: Vec<Bytes> = (0..200u32).map(|i| Bytes::from(vec![i as u8; 1000 + i as usize])).collect();
            let source = frames.clone();
            let body = Body::new(http_body_of(source));
            let (told, tell) = tokio::sync::oneshot::channel();
            let mut out = drained(body, &environment, &tokio::runtime::Handle::current(), move |o| drop(told.send(o)));
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert!(environment.memory_pool.reserved() <= pool);
            let mut got = Vec::new();
            while let Some(frame) = std::future::poll_fn(|c| Pin::new(&mut out).poll_frame(c)).await {
                got.push(frame.unwrap().into_data().unwrap());
            }
            assert_eq!(got, frames);
            let told = tell.await.unwrap();
            assert_eq!(told.spilled_bytes > 0, pool == 40_000, "{told:?}");
            assert_eq!(told.wire_bytes, frames.iter().map(|f| f.len() as u64).sum::<u64>());
            drop(out);
            assert_eq!(environment.memory_pool.reserved(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_directory_ends_the_answer_with_a_status_that_says_so() {
        let disk = datafusion::execution::disk_manager::DiskManagerBuilder::default().with_max_temp_directory_size(5_000);
        let environment =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(5_000))).with_disk_manager_builder(disk).build_arc().unwrap();
        let body = Body::new(http_body_of(vec![Bytes::from(vec![7; 1000]); 100]));
        let mut out = drained(body, &environment, &tokio::runtime::Handle::current(), |_| {});
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let mut last = None;
        while let Some(frame) = std::future::poll_fn(|c| Pin::new(&mut out).poll_frame(c)).await {
            last = frame.unwrap().into_trailers().ok().or(last);
        }
        let status = Status::from_header_map(&last.unwrap()).unwrap();
        assert_eq!(error_wire::decode(status.message()).unwrap().sqlstate(), "53100");
    }

    fn http_body_of(frames: Vec<Bytes>) -> impl http_body::Body<Data = Bytes, Error = Status> {
        struct Frames(futures::stream::BoxStream<'static, Bytes>);
        impl http_body::Body for Frames {
            type Data = Bytes;
            type Error = Status;
            fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
                self.0.poll_next_unpin(context).map(|f| f.map(|b| Ok(Frame::data(b))))
            }
        }
        Frames(futures::stream::iter(frames).boxed())
    }
}
