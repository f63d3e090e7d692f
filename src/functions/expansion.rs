//! From a decoder that pushes to an iterator that is pulled.
//!
//! In: a closure that calls `emit` with batches as it makes them. Out: an [`Expansion`]. Invariant: at most two batches
//! wait; dropping the iterator makes the next `emit` return `false`, and the closure's thread ends.
//! Deliberately absent: cancellation, which reaches the closure as a dropped iterator.

use std::sync::mpsc::{Receiver, sync_channel};

use arrow::array::RecordBatch;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Expansion, guarded};

/// Receives batches; `Ok(false)` means that nobody wants more.
pub type EmitBatch<'a> = dyn FnMut(RecordBatch) -> Result<bool> + 'a;

/// Batches made but not taken yet.
const BATCHES_AHEAD: usize = 1;

/// Runs `work` on a thread of its own. What it returns as `Err`, or a panic of it, comes last.
pub fn pushed(name: &str, work: impl FnOnce(&mut EmitBatch<'_>) -> Result<()> + Send + 'static) -> Result<Expansion> {
    let (send, receive) = sync_channel(BATCHES_AHEAD);
    let body = move || {
        let result = guarded(|| work(&mut |batch| Ok(send.send(Ok(batch)).is_ok())));
        if let Err(error) = result {
            // Nobody to tell when the iterator is gone.
            let _ = send.send(Err(error));
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|e| Error::io("could not start a thread", e))?;
    Ok(Box::new(Pulled(receive)))
}

struct Pulled(Receiver<Result<RecordBatch>>);

impl Iterator for Pulled {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use arrow::array::{ArrayRef, Int32Array};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn batch(n: i32) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![n])) as ArrayRef)]).unwrap()
    }

    #[test]
    fn batches_come_in_order_and_the_error_last() {
        let rows: Vec<_> = pushed("test", |emit| {
            assert!(emit(batch(1))? && emit(batch(2))?);
            Err(Error::bad_media("no more"))
        })
        .unwrap()
        .collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1].as_ref().unwrap(), &batch(2));
        assert_eq!(rows[2].as_ref().unwrap_err().sqlstate(), "22P03");
    }

    #[test]
    fn dropping_the_iterator_stops_the_work() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut rows = pushed("test", move |emit| {
            while emit(batch(0))? {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
        .unwrap();
        rows.next().unwrap().unwrap();
        drop(rows);
        while Arc::strong_count(&made) > 1 {
            std::thread::yield_now();
        }
        assert!(made.load(Ordering::Relaxed) <= 4);
    }

    #[test]
    fn a_panic_is_an_error() {
        let mut rows = pushed("test", |_| panic!("ouch")).unwrap();
        assert_eq!(rows.next().unwrap().unwrap_err().sqlstate(), "22P03");
        assert!(rows.next().is_none());
    }
}
