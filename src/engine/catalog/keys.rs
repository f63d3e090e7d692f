//! Keys that a transaction added, so that two of them cannot add the same one at the same time.
//!
//! In: hashes of keys by table and constraint. Out: whether commits since a snapshot added one of them. Invariant: each
//! statement has looked for its keys in the snapshot that it saw, so only what came later matters here. Equal hashes of
//! different keys cost a repeated statement, never a wrong answer. Deliberately absent: the keys themselves.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result};

/// Hashes of the keys that a transaction added under one constraint.
#[derive(Clone, Debug)]
pub struct NewKeys {
    /// Table.
    pub table: u32,
    /// Constraint.
    pub constraint: u32,
    /// Hashes.
    pub hashes: Arc<HashSet<u64>>,
}

/// Keys remembered at most.
const KEYS_MAX: usize = 4_000_000;

/// What recent commits added.
#[derive(Debug, Default)]
pub struct RecentKeys {
    entries: VecDeque<(u64, NewKeys)>,
    count: usize,
    /// Commits up to this snapshot are forgotten.
    floor: u64,
}

impl RecentKeys {
    /// Whether a commit after `base` added one of these: 40001 when it did, or when that is forgotten.
    pub fn check(&self, base: u64, keys: &[NewKeys]) -> Result<()> {
        let clash = |mine: &NewKeys| {
            let later = self.entries.iter().rev().take_while(|(snapshot, _)| *snapshot > base);
            later.filter(|(_, theirs)| theirs.constraint == mine.constraint && theirs.table == mine.table).any(|(_, theirs)| {
                let (small, large) =
                    if theirs.hashes.len() < mine.hashes.len() { (&theirs.hashes, &mine.hashes) } else { (&mine.hashes, &theirs.hashes) };
                small.iter().any(|h| large.contains(h))
            })
        };
        if !keys.is_empty() && (base < self.floor || keys.iter().any(clash)) {
            return Err(Error::new(Kind::SerializationFailure, "could not serialize access due to concurrent insert of the same key")
                .hint("Run the transaction again."));
        }
        Ok(())
    }

    /// Remembers the keys of a commit.
    pub fn add(&mut self, snapshot: u64, keys: Vec<NewKeys>) {
        for keys in keys {
            self.count += keys.hashes.len();
            self.entries.push_back((snapshot, keys));
        }
        while self.count > KEYS_MAX || self.entries.len() > 100_000 {
            let Some((snapshot, keys)) = self.entries.pop_front() else { return };
            self.count -= keys.hashes.len();
            self.floor = snapshot;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_later_equal_keys_clash() {
        let keys = |hashes: &[u64]| vec![NewKeys { table: 1, constraint: 2, hashes: Arc::new(hashes.iter().copied().collect()) }];
        let mut recent = RecentKeys::default();
        recent.add(5, keys(&[1, 2]));
        recent.add(6, keys(&[3]));
        assert!(recent.check(6, &keys(&[1, 3])).is_ok());
        assert!(recent.check(5, &keys(&[1])).is_ok());
        assert_eq!(recent.check(5, &keys(&[3])).unwrap_err().sqlstate(), "40001");
        assert_eq!(recent.check(4, &keys(&[2])).unwrap_err().sqlstate(), "40001");
    }
}
