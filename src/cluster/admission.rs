//! How many statements the cluster works on at a time, and who is next.
//!
//! In: statements with their roles. Out: permits. Invariants: never more permits than allowed; roles take turns, so that one
//! role's hundred statements do not keep another's one waiting; a queue that is full refuses at once (53400). Deliberately
//! absent: priorities, and statements that run in the coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use tokio::sync::oneshot;

/// The door.
#[derive(Default)]
pub struct Admission(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    running: usize,
    waiting: usize,
    roles: BTreeMap<String, VecDeque<oneshot::Sender<Permit>>>,
    /// The role that was let in last: the next one after it comes next.
    last: String,
}

/// A statement that was let in, until it is dropped.
pub struct Permit(Arc<Admission>);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut queue = self.0.0.lock();
        queue.running -= 1;
        queue.let_in(&self.0);
    }
}

impl Queue {
    /// Gives a place that is free to the next role's oldest statement.
    fn let_in(&mut self, door: &Arc<Admission>) {
        loop {
            let after = self.roles.range::<str, _>((std::ops::Bound::Excluded(self.last.as_str()), std::ops::Bound::Unbounded)).next();
            let Some(role) = after.or_else(|| self.roles.iter().next()).map(|(role, _)| role.clone()) else { return };
            let Some(line) = self.roles.get_mut(&role) else { return };
            let next = line.pop_front();
            if line.is_empty() {
                self.roles.remove(&role);
            }
            let Some(next) = next else { continue };
            self.waiting -= 1;
            self.last = role;
            // A permit that is given and never taken up comes back when the channel is dropped.
            match next.send(Permit(Arc::clone(door))) {
                Ok(()) => {
                    self.running += 1;
                    return;
                }
                // One that has gone away leaves its place to the next; this permit never counted.
                Err(unused) => std::mem::forget(unused),
            }
        }
    }
}

impl Admission {
    /// Waits for a place among `running_max`, behind at most `waiting_max` others.
    pub async fn enter(self: &Arc<Self>, role: &str, running_max: usize, waiting_max: usize) -> Result<Permit> {
        let turn = {
            let mut queue = self.0.lock();
            if queue.running < running_max.max(1) && queue.waiting == 0 {
                queue.running += 1;
                return Ok(Permit(Arc::clone(self)));
            }
            if queue.waiting >= waiting_max {
                return Err(Error::new(Kind::ConfigurationLimit, format!("{} statements wait for the cluster already", queue.waiting))
                    .hint("Try again later. The limits are the settings squilla.cluster_statements and squilla.cluster_queue."));
            }
            let (sender, turn) = oneshot::channel();
            queue.waiting += 1;
            queue.roles.entry(role.to_owned()).or_default().push_back(sender);
            turn
        };
        // A statement that is cancelled while it waits drops `turn`; its place in the line is skipped.
        turn.await.map_err(|_| Error::internal("the queue was closed"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn roles_take_turns_and_a_full_queue_refuses() {
        let door = Arc::new(Admission::default());
        let first = door.enter("a", 1, 4).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for role in ["a", "a", "a", "b"] {
            let (door, order) = (Arc::clone(&door), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _permit = door.enter(role, 1, 4).await.unwrap();
                order.lock().push(role);
            }));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(door.enter("c", 1, 4).await.err().unwrap().sqlstate(), "53400");
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(order.lock().iter().position(|r| *r == "b").unwrap(), 1, "{:?}", order.lock());
        assert!(door.enter("c", 1, 0).await.is_ok());
    }

    #[tokio::test]
    async fn who_leaves_the_line_loses_nothing_for_others() {
        let door = Arc::new(Admission::default());
        let first = door.enter("a", 1, 4).await.unwrap();
        let gone = tokio::time::timeout(Duration::from_millis(20), door.enter("a", 1, 4)).await;
        assert!(gone.is_err());
        let waits = tokio::spawn({
            let door = Arc::clone(&door);
            async move { door.enter("b", 1, 4).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(first);
        waits.await.unwrap().unwrap();
    }
}
