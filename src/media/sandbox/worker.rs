//! The child's side: the list of jobs and the loop that serves them.
//!
//! In: requests on the socket that is standard input. Out: replies on the same socket. Invariant: a job's panic becomes a
//! reply, and the process ends itself when its parent hangs up, even while a decoder hangs. Deliberately absent: any use
//! of standard output, which a native library may write to at will.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use squilla_core::error::{Error, Result};

use crate::sandbox::job::{Chunk, Emit, Job, MEMORY_BYTES_MAX, Payload, scratch_file};
use crate::sandbox::wire::{Reply, Request, WireError, read_data, read_head, write_frame};

/// Makes `dispatch` and the list of names from the list of job types.
macro_rules! jobs {
    ($($(#[$when:meta])* $job:ty,)*) => {
        /// Every job's name, for the test that they differ.
        #[cfg(test)]
        const NAMES: &[&str] = &[$($(#[$when])* <$job as Job>::NAME,)*];

        fn dispatch(name: &str, args: serde_json::Value, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
            $($(#[$when])*
            if name == <$job as Job>::NAME {
                let job: $job = serde_json::from_value(args).map_err(|e| Error::internal(format!("job {name}: {e}")))?;
                return job.run(payload, emit);
            })*
            Err(Error::internal(format!("unknown job \"{name}\"")))
        }
    };
}

jobs! {
    crate::audio::foreign::FfmpegAudioInfo,
    crate::audio::foreign::FfmpegAudio,
    crate::video::info::VideoInfoJob,
    crate::video::frames::VideoFramesJob,
    crate::video::frames::VideoFrameAtJob,
    crate::pdf::job::PdfInfoJob,
    crate::pdf::job::PdfPagesJob,
    crate::pdf::render::PdfRenderJob,
    #[cfg(test)] crate::sandbox::pool::tests::Probe,
}

/// Runs a job here, with its panics turned into row errors.
pub fn run_guarded(name: &str, args: serde_json::Value, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(|| dispatch(name, args, payload, emit))).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::bad_media("the decoder gave up on this input").detail(format!("It panicked: {what}.")))
    })
}

/// Serves until the parent hangs up. Returns the exit code.
pub fn serve_standard_input() -> i32 {
    let socket = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return 2,
    };
    match serve(socket) {
        Ok(()) => 0,
        Err(error) => {
            // Best effort: the parent keeps the last lines of standard error for its log.
            let _ = writeln!(std::io::stderr(), "media-worker: {error}");
            1
        }
    }
}

/// A request with its payload in hand.
struct Work {
    job: String,
    args: serde_json::Value,
    payload: Result<Payload<'static>>,
}

fn serve(mut socket: UnixStream) -> std::io::Result<()> {
    // A crash of a decoder is expected here; a core file of it is of no use and can fill a disk.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, rustix::process::Rlimit { current: Some(0), maximum: Some(0) });
    let stop = Arc::new(AtomicBool::new(false));
    let (send, work) = mpsc::channel();
    let reader = socket.try_clone()?;
    let reader_stop = Arc::clone(&stop);
    std::thread::Builder::new().name("requests".to_owned()).spawn(move || {
        read_requests(reader, &reader_stop, &send);
        // The parent is gone. A hanging decoder must not outlive it, and exit handlers could hang too.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    })?;
    while let Ok(Work { job, args, payload }) = work.recv() {
        let mut broken = None;
        let result = payload.and_then(|payload| {
            run_guarded(&job, args, &payload, &mut |chunk: Chunk| {
                if stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                if let Err(error) = write_frame(&mut socket, &Reply::Chunk(chunk.meta), &chunk.data) {
                    broken = Some(error);
                    return Ok(false);
                }
                Ok(true)
            })
        });
        if let Some(error) = broken {
            return Err(error);
        }
        match result {
            Ok(()) => write_frame(&mut socket, &Reply::End, b"")?,
            Err(error) => write_frame(&mut socket, &Reply::Failed(WireError::from(&error)), b"")?,
        }
    }
    Ok(())
}

/// Reads requests until the stream ends or breaks.
fn read_requests(mut socket: UnixStream, stop: &AtomicBool, send: &mpsc::Sender<Work>) {
    while let Ok(Some((request, data_bytes))) = read_head::<Request>(&mut socket) {
        match request {
            Request::Configure { memory_bytes } => {
                let limit = rustix::process::Rlimit { current: Some(memory_bytes), maximum: Some(memory_bytes) };
                let _ = rustix::process::setrlimit(rustix::process::Resource::As, limit);
            }
            Request::Stop => stop.store(true, Ordering::Relaxed),
            Request::Run { job, args, path } => {
                let payload = match path {
                    Some(path) => Ok(Payload::path(path)),
                    None => match read_payload(&mut socket, data_bytes) {
                        Ok(payload) => payload,
                        Err(_) => return,
                    },
                };
                // A Stop that crossed the End of the job before belongs to that job.
                stop.store(false, Ordering::Relaxed);
                if send.send(Work { job, args, payload }).is_err() {
                    return;
                }
            }
        }
    }
}

/// Takes the payload off the socket: to memory when small, to a temporary file when large. The outer error is a broken
/// socket; the inner one (no room for the file) fails the row, after the payload was read past.
fn read_payload(socket: &mut UnixStream, data_bytes: u64) -> std::io::Result<Result<Payload<'static>>> {
    if data_bytes <= MEMORY_BYTES_MAX {
        return read_data(socket, data_bytes).map(|data| Ok(Payload::Bytes(data.into())));
    }
    let mut left = std::io::Read::take(socket, data_bytes);
    let stored = scratch_file(data_bytes).and_then(|mut file| {
        std::io::copy(&mut left, &mut file).map_err(|e| Error::io("could not store the payload", e))?;
        Ok(Payload::File(file))
    });
    std::io::copy(&mut left, &mut std::io::sink())?;
    if left.limit() > 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(stored) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }

    #[test]
    fn an_unknown_job_is_our_bug() {
        let error = run_guarded("nope", serde_json::Value::Null, &Payload::borrowed(b""), &mut |_| Ok(true)).unwrap_err();
        assert_eq!(error.sqlstate(), "XX000");
    }
}
