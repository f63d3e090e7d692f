//! The pool against real children: this test binary, run again, is the child.
//!
//! In: a probe job that does what bad decoders do. Invariant under test: every way to go wrong costs one row only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squilla_core::error::{Kind, Result};
use squilla_core::kernel::CancelFlag;
use squilla_core::limits::{Deadline, Limits};

use super::{Config, Sandbox};
use crate::sandbox::job::{Chunk, Emit, Job, Payload};

/// A job for these tests.
#[derive(Serialize, Deserialize)]
pub enum Probe {
    /// Gives the payload back.
    Echo,
    /// Gives so many chunks of so many bytes.
    Count(u32, usize),
    /// Never ends.
    Hang,
    /// Dies.
    Abort,
    /// Panics.
    Panic,
    /// Takes more memory than there is.
    Allocate,
    /// Returns an error of its own.
    Fail,
}

impl Job for Probe {
    const NAME: &'static str = "probe";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        match self {
            Probe::Echo => {
                emit(Chunk::new(&payload.file()?.path().exists(), payload.bytes()?.into_owned())?)?;
            }
            Probe::Count(chunks, bytes) => {
                for number in 0..chunks {
                    if !emit(Chunk::new(&number, vec![number as u8; bytes])?)? {
                        break;
                    }
                }
            }
            Probe::Hang => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            Probe::Abort => std::process::abort(),
            Probe::Panic => panic!("boom"),
            Probe::Allocate => {
                // Seen by black_box, or an optimizing compiler leaves the allocation out.
                let bytes = std::hint::black_box(vec![1_u8; 64 << 30]);
                emit(Chunk::new(&bytes.len(), Vec::new())?)?;
            }
            Probe::Fail => return Err(squilla_core::error::Error::limit("too many", "squilla.x")),
        }
        Ok(())
    }
}

/// The body of a child; a no-op when the tests run as tests.
#[test]
#[ignore = "the entry of the child processes"]
fn child_entry() {
    std::process::exit(crate::sandbox::worker_main());
}

fn sandbox(children: usize) -> Sandbox {
    let mut config = Config::new(std::env::current_exe().unwrap());
    config.args = ["sandbox::pool::tests::child_entry", "--exact", "--ignored", "--nocapture"].map(String::from).to_vec();
    config.env = std::env::vars().filter(|(k, _)| k == "LD_LIBRARY_PATH").collect();
    config.children_max = children;
    Sandbox::new(config)
}

fn deadline(ms: u64) -> Deadline {
    Limits { row_timeout: Duration::from_millis(ms), ..Limits::default() }.deadline()
}

fn echo(sandbox: &Sandbox, payload: &Payload<'_>) -> Result<Vec<u8>> {
    let mut got = Vec::new();
    sandbox.run(&Probe::Echo, payload, deadline(20_000), &CancelFlag::default(), &mut |chunk| {
        assert!(chunk.header::<bool>()?);
        got = chunk.data;
        Ok(true)
    })?;
    Ok(got)
}

#[test]
fn a_child_is_reused_and_replaced_after_its_jobs() {
    let mut sandbox = sandbox(1);
    sandbox.config.jobs_per_child = 2;
    assert_eq!(echo(&sandbox, &Payload::borrowed(b"one")).unwrap(), b"one");
    assert_eq!(sandbox.idle_children(), 1);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"two").unwrap();
    assert_eq!(echo(&sandbox, &Payload::path(file.path())).unwrap(), b"two");
    assert_eq!(sandbox.idle_children(), 0);
    assert_eq!(echo(&sandbox, &Payload::borrowed(b"")).unwrap(), b"");
}

#[test]
fn large_payloads_pass() {
    let sandbox = sandbox(1);
    let bytes = vec![7_u8; 70 << 20];
    assert!(echo(&sandbox, &Payload::borrowed(&bytes)).unwrap() == bytes);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"from a file").unwrap();
    assert_eq!(echo(&sandbox, &Payload::File(file)).unwrap(), b"from a file");
}

#[test]
fn every_failure_costs_one_row() {
    let sandbox = sandbox(1);
    let fails = |job: Probe, ms| {
        let error = sandbox.run(&job, &Payload::borrowed(b"x"), deadline(ms), &CancelFlag::default(), &mut |_| Ok(true)).unwrap_err();
        assert_eq!(echo(&sandbox, &Payload::borrowed(b"alive")).unwrap(), b"alive");
        error
    };
    let crashed = fails(Probe::Abort, 20_000);
    assert_eq!((crashed.kind, &*crashed.message), (Kind::BadMedia, "the decoder crashed on this input"));
    let panicked = fails(Probe::Panic, 20_000);
    assert_eq!(panicked.kind, Kind::BadMedia);
    assert!(panicked.detail.unwrap().contains("boom"));
    let late = fails(Probe::Hang, 300);
    assert_eq!(late.kind, Kind::LimitExceeded);
    assert!(late.message.contains("longer than 0.3 s"), "{late}");
    let large = fails(Probe::Allocate, 20_000);
    assert_eq!((large.kind, &*large.message), (Kind::LimitExceeded, "decoding needs more than 4096 MiB of memory"));
    let own = fails(Probe::Fail, 20_000);
    assert_eq!((own.kind, &*own.message), (Kind::LimitExceeded, "too many"));
}

#[test]
fn a_consumer_with_enough_stops_the_child() {
    let sandbox = sandbox(1);
    let mut seen = 0;
    sandbox
        .run(&Probe::Count(u32::MAX, 100_000), &Payload::borrowed(b""), deadline(20_000), &CancelFlag::default(), &mut |chunk| {
            assert_eq!(chunk.header::<u32>()?, seen);
            seen += 1;
            Ok(seen < 5)
        })
        .unwrap();
    assert_eq!(seen, 5);
    assert_eq!(sandbox.idle_children(), 1, "the child followed and is used again");
    assert_eq!(echo(&sandbox, &Payload::borrowed(b"next")).unwrap(), b"next");
}

#[test]
fn a_slow_consumer_is_not_the_rows_fault_and_may_use_the_pool() {
    let sandbox = sandbox(1);
    let mut seen = 0;
    sandbox
        .run(&Probe::Count(8, 500_000), &Payload::borrowed(b""), deadline(5_000), &CancelFlag::default(), &mut |_| {
            std::thread::sleep(Duration::from_millis(800));
            if seen == 0 {
                assert_eq!(echo(&sandbox, &Payload::borrowed(b"inner"))?, b"inner");
            }
            seen += 1;
            Ok(true)
        })
        .unwrap();
    assert_eq!(seen, 8);
}

#[test]
fn a_cancelled_statement_kills_its_silent_child() {
    let sandbox = sandbox(1);
    let cancel = CancelFlag::default();
    let start = std::time::Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            cancel.cancel();
        });
        sandbox.run(&Probe::Hang, &Payload::borrowed(b""), deadline(60_000), &cancel, &mut |_| Ok(true)).unwrap_err()
    });
    assert_eq!(error.kind, Kind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(echo(&sandbox, &Payload::borrowed(b"next")).unwrap(), b"next");
}

#[test]
fn in_process_without_configuration() {
    let mut seen = 0;
    super::run(&Probe::Count(3, 1), &Payload::borrowed(b""), deadline(1_000), &mut |_| {
        seen += 1;
        Ok(true)
    })
    .unwrap();
    assert_eq!(seen, 3);
    let error = super::run(&Probe::Panic, &Payload::borrowed(b""), deadline(1_000), &mut |_| Ok(true)).unwrap_err();
    assert_eq!(error.kind, Kind::BadMedia);
}

/// What the process boundary costs, by hand: `cargo test -p squilla-media what_a_child_costs -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn what_a_child_costs() {
    let sandbox = sandbox(1);
    let time = |what: &str, times: u32, f: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        (0..times).for_each(|_| f());
        println!("{what}: {:.3} ms", start.elapsed().as_secs_f64() * 1e3 / f64::from(times));
    };
    time("first job, with the start of the child", 1, &mut || drop(echo(&sandbox, &Payload::borrowed(b"x")).unwrap()));
    time("one job in a child that waits", 200, &mut || drop(echo(&sandbox, &Payload::borrowed(b"x")).unwrap()));
    let frame = 640 * 640 * 3;
    let cancel = CancelFlag::default();
    time("500 frames of 640x640 RGB", 1, &mut || {
        sandbox.run(&Probe::Count(500, frame), &Payload::borrowed(b""), deadline(60_000), &cancel, &mut |_| Ok(true)).unwrap();
    });
}
