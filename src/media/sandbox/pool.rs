//! The server's side: a bounded pool of decoder children, reused until they die, are killed or have served long enough.
//!
//! In: a job, a payload, the row's deadline and a consumer. Out: the consumer is called with each chunk; then `Ok` or one
//! error. Invariant: the clock of the row runs only while the server waits for the child, never while the consumer works,
//! and a child waiting for its consumer holds no slot, so a slow consumer that itself needs a child cannot deadlock.
//! Deliberately absent: async; callers block on their own thread.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::CancelFlag;
use squilla_core::limits::Deadline;

use crate::sandbox::job::{Chunk, Emit, Job, Payload};
use crate::sandbox::wire::{Reply, Request, read_data, read_head, write_frame, write_head};
use crate::sandbox::worker::run_guarded;

/// How children are started and bounded.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program; it must end up in [`crate::sandbox::worker_main`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment: nothing is inherited, so no secret of the server reaches a decoder.
    pub env: Vec<(String, String)>,
    /// Address space of one child, in bytes.
    pub memory_bytes: u64,
    /// Jobs that run at one time.
    pub children_max: usize,
    /// Jobs one child serves before it is replaced; bounds what leaks in native libraries can cost.
    pub jobs_per_child: u32,
}

impl Config {
    /// `program media-worker` with the default bounds: 4 GiB of address space, one child per core, 1000 jobs each.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: vec!["media-worker".to_owned()],
            env: Vec::new(),
            memory_bytes: 4 << 30,
            children_max: std::thread::available_parallelism().map_or(1, usize::from),
            jobs_per_child: 1000,
        }
    }
}

/// A pool of children. One per process is made by [`configure`]; tests make their own.
#[derive(Debug)]
pub struct Sandbox {
    config: Config,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Children without a job.
    idle: Vec<Process>,
    /// Jobs whose child is at work.
    busy: usize,
}

static GLOBAL: OnceLock<Sandbox> = OnceLock::new();

/// Makes the pool of this process. The second call is an error.
pub fn configure(config: Config) -> Result<()> {
    GLOBAL.set(Sandbox::new(config)).map_err(|_| Error::internal("the media sandbox is configured twice"))
}

/// Runs `job` in a child, or in process where nothing was configured (unit tests, one-shot tools).
///
/// `consumer` returns `Ok(false)` to stop early, which is not an error. Errors: the job's own; `BadMedia` when the decoder
/// crashed; `LimitExceeded` when it passed the deadline or its memory; the consumer's own.
pub fn run<J: Job>(job: &J, payload: &Payload<'_>, deadline: Deadline, consumer: &mut Emit<'_>) -> Result<()> {
    run_cancellable(job, payload, deadline, &CancelFlag::default(), consumer)
}

/// As [`run`], and the child is killed within [`CANCEL_TICK`] once `cancel` is set, even while its decoder says nothing.
/// In process, `cancel` is looked at with each chunk.
pub fn run_cancellable<J: Job>(job: &J, payload: &Payload<'_>, deadline: Deadline, cancel: &CancelFlag, consumer: &mut Emit<'_>) -> Result<()> {
    match GLOBAL.get() {
        Some(sandbox) => sandbox.run(job, payload, deadline, cancel, consumer),
        None => {
            let args = args_of(job)?;
            run_guarded(J::NAME, args, payload, &mut |chunk| {
                cancel.check()?;
                deadline.check()?;
                consumer(chunk)
            })
        }
    }
}

fn args_of<J: Job>(job: &J) -> Result<Value> {
    serde_json::to_value(job).map_err(|e| Error::internal(format!("job {}: {e}", J::NAME)))
}

impl Sandbox {
    /// A pool without children; they start when needed.
    pub fn new(config: Config) -> Self {
        Self { config, state: Mutex::default(), freed: Condvar::new() }
    }

    /// As [`run_cancellable`], in this pool.
    pub fn run<J: Job>(&self, job: &J, payload: &Payload<'_>, deadline: Deadline, cancel: &CancelFlag, consumer: &mut Emit<'_>) -> Result<()> {
        let args = args_of(job)?;
        let budget = deadline.left();
        let mut slot = Slot::take(self, cancel)?;
        let idle = self.state.lock().idle.pop();
        let mut process = match idle {
            Some(process) => process,
            None => Process::start(&self.config)?,
        };
        process.left = budget;
        process.cancel = cancel.clone();
        let outcome = process.request(J::NAME, args, payload).and_then(|()| process.replies(&mut slot, consumer));
        match outcome {
            Ok(result) => {
                process.jobs += 1;
                if process.jobs < self.config.jobs_per_child && process.forget_log() {
                    self.state.lock().idle.push(process);
                }
                result
            }
            Err(Broken::Late) => Err(deadline.error()),
            Err(Broken::Cancelled(error)) => Err(error),
            Err(Broken::Consumer(result)) => result,
            Err(Broken::Stream(error)) => Err(process.obituary(&error, self.config.memory_bytes)),
        }
    }

    /// Starts children so that the first jobs need not wait for it.
    pub fn warm_up(&self, children: usize) -> Result<()> {
        for _ in 0..children.min(self.config.children_max) {
            let process = Process::start(&self.config)?;
            self.state.lock().idle.push(process);
        }
        Ok(())
    }

    /// Children without a job.
    pub fn idle_children(&self) -> usize {
        self.state.lock().idle.len()
    }
}

/// The right to have a child at work; given back while the consumer works.
struct Slot<'a> {
    sandbox: &'a Sandbox,
    held: bool,
}

impl<'a> Slot<'a> {
    fn take(sandbox: &'a Sandbox, cancel: &CancelFlag) -> Result<Self> {
        let mut slot = Self { sandbox, held: false };
        slot.acquire(cancel)?;
        Ok(slot)
    }

    fn acquire(&mut self, cancel: &CancelFlag) -> Result<()> {
        let mut state = self.sandbox.state.lock();
        while state.busy >= self.sandbox.config.children_max.max(1) {
            cancel.check()?;
            self.sandbox.freed.wait_for(&mut state, CANCEL_TICK);
        }
        state.busy += 1;
        self.held = true;
        Ok(())
    }

    fn release(&mut self) {
        if self.held {
            self.sandbox.state.lock().busy -= 1;
            self.sandbox.freed.notify_one();
            self.held = false;
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

/// Why a child cannot be used again.
enum Broken {
    /// The row's time is over.
    Late,
    /// Nobody wants the row any more.
    Cancelled(Error),
    /// The consumer stopped and the child did not follow in time.
    Consumer(Result<()>),
    /// The child died or broke the protocol.
    Stream(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Late;
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(cancelled) => Self::Cancelled(cancelled.clone()),
            None => Self::Stream(error),
        }
    }
}

/// How often a waiting thread looks whether its statement was cancelled.
pub const CANCEL_TICK: Duration = Duration::from_millis(100);

/// How long a child may take to notice that its consumer has enough. Cheaper than a new child for most decoders.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// One child. Dropping it kills it.
#[derive(Debug)]
struct Process {
    child: Child,
    socket: UnixStream,
    log: File,
    jobs: u32,
    /// Time the job may still take.
    left: Duration,
    cancel: CancelFlag,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(config: &Config) -> Result<Self> {
        let fail = |e: io::Error| Error::io(format_args!("could not start {}", config.program.display()), e);
        let (socket, theirs) = UnixStream::pair().map_err(fail)?;
        // Standard error goes to memory and is read only when the child dies: it tells "out of memory" from a crash.
        let log = rustix::fs::memfd_create("squilla-media-log", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
        rustix::fs::fcntl_setfl(&log, rustix::fs::OFlags::APPEND).map_err(|e| fail(e.into()))?;
        let log = File::from(log);
        let child = Command::new(&config.program)
            .args(&config.args)
            .env_clear()
            .envs(config.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log.try_clone().map_err(fail)?))
            .spawn()
            .map_err(fail)?;
        let mut process = Self { child, socket, log, jobs: 0, left: Duration::from_secs(10), cancel: CancelFlag::default() };
        write_frame(&mut process.socket, &Request::Configure { memory_bytes: config.memory_bytes }, b"").map_err(fail)?;
        Ok(process)
    }

    /// Sends the job and its payload.
    fn request(&mut self, name: &str, args: Value, payload: &Payload<'_>) -> Result<(), Broken> {
        let path = match payload {
            Payload::Path(path) => {
                let path = std::path::absolute(path)?;
                Some(path.into_os_string().into_string().map_err(|_| Broken::Stream(io::ErrorKind::InvalidFilename.into()))?)
            }
            _ => None,
        };
        let header = Request::Run { job: name.to_owned(), args, path };
        match payload {
            Payload::Path(_) => write_frame(self, &header, b"")?,
            Payload::Bytes(bytes) => write_frame(self, &header, bytes)?,
            Payload::File(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                let bytes = file.metadata()?.len();
                write_head(self, &header, bytes)?;
                io::copy(&mut file.take(bytes), self)?;
            }
        }
        Ok(())
    }

    /// Feeds the consumer until the job ends.
    fn replies(&mut self, slot: &mut Slot<'_>, consumer: &mut Emit<'_>) -> Result<Result<()>, Broken> {
        loop {
            match self.reply()? {
                (Reply::End, _) => return Ok(Ok(())),
                (Reply::Failed(error), _) => return Ok(Err(error.into())),
                (Reply::Chunk(meta), data) => {
                    slot.release();
                    let verdict = consumer(Chunk { meta, data });
                    if let Ok(true) = verdict {
                        slot.acquire(&self.cancel).map_err(Broken::Cancelled)?;
                    } else {
                        return self.stop(verdict.map(|_| ()));
                    }
                }
            }
        }
    }

    /// Asks the child to stop and waits a moment for its End, so that it can be used again.
    fn stop(&mut self, verdict: Result<()>) -> Result<Result<()>, Broken> {
        self.left = STOP_GRACE;
        if write_frame(self, &Request::Stop, b"").is_err() {
            return Err(Broken::Consumer(verdict));
        }
        loop {
            match self.reply() {
                Ok((Reply::Chunk(_), _)) => {}
                Ok(_) => return Ok(verdict),
                Err(_) => return Err(Broken::Consumer(verdict)),
            }
        }
    }

    fn reply(&mut self) -> Result<(Reply, Vec<u8>), Broken> {
        let Some((header, data_bytes)) = read_head::<Reply>(self)? else {
            return Err(Broken::Stream(io::ErrorKind::UnexpectedEof.into()));
        };
        let data = read_data(self, data_bytes)?;
        Ok((header, data))
    }

    /// Runs one socket call within the time left and takes what it used off the time left. Looks at the cancel flag before
    /// every wait and at every tick of it.
    fn timed<T>(&mut self, mut call: impl FnMut(&mut UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            // Not `Interrupted`: the standard library would repeat the call.
            self.cancel.check().map_err(io::Error::other)?;
            if self.left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let tick = Some(self.left.clamp(Duration::from_millis(1), CANCEL_TICK));
            self.socket.set_read_timeout(tick)?;
            self.socket.set_write_timeout(tick)?;
            let start = Instant::now();
            let result = call(&mut self.socket);
            self.left = self.left.saturating_sub(start.elapsed());
            match result {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                result => return result,
            }
        }
    }

    /// Empties the log of a job that went well. `false` when the child had better be replaced.
    fn forget_log(&mut self) -> bool {
        self.log.set_len(0).is_ok()
    }

    /// What the death of the child means for the row.
    fn obituary(&mut self, error: &io::Error, memory_bytes: u64) -> Error {
        let _ = self.child.kill();
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return Error::internal(format!("lost a decoder process: {error}")),
        };
        let log = self.last_words();
        let out_of_memory = log.contains("memory allocation of") || log.contains("bad_alloc");
        if out_of_memory {
            return Error::limit(format!("decoding needs more than {} MiB of memory", memory_bytes >> 20), "squilla.media_worker_bytes_max");
        }
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("The decoder process ended with signal {signal}."),
            (None, Some(code)) => format!("The decoder process exited with code {code} ({error})."),
            (None, None) => format!("The decoder process ended ({error})."),
        };
        let last = log.lines().last().unwrap_or_default();
        Error::bad_media("the decoder crashed on this input").detail(if last.is_empty() { how } else { format!("{how} Its last words: {last}") })
    }

    /// The end of the child's standard error.
    fn last_words(&mut self) -> String {
        const BYTES: u64 = 4096;
        let mut words = Vec::new();
        let bytes = self.log.metadata().map_or(0, |m| m.len());
        // The log is opened for appending; reading has its own place in it.
        if self.log.seek(SeekFrom::Start(bytes.saturating_sub(BYTES))).is_ok() {
            let _ = (&self.log).take(BYTES).read_to_end(&mut words);
        }
        String::from_utf8_lossy(&words).into_owned()
    }
}

impl Read for Process {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.timed(|socket| socket.read(buffer))
    }
}

impl Write for Process {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.timed(|socket| socket.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
pub(crate) mod tests;
