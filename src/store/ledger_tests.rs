//! The catalog on disk, over restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn commit(name: &str, changes: Vec<Change>) -> Commit {
    Commit { transaction: name.into(), changes }
}

fn object(id: &str, body: Option<&str>) -> Change {
    Change::Object { class: Class::Relation, id: id.into(), body: body.map(str::to_owned) }
}

fn file(id: u64, rows: u64) -> Change {
    Change::FileAdded(FileRow { id, table: 7, path: Some(format!("t/x/{id}.parquet")), rows, bytes: 10, inline: None, sums: None })
}

#[test]
fn every_snapshot_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut ledger = Ledger::open(Some(dir.path())).unwrap();
        ledger.commit(&[commit("a", vec![object("7", Some("{}")), file(1, 3)])], &[("oid", 17)], true).unwrap();
        let deleted = Deleted::from_iter([0, 2]);
        ledger.commit(&[commit("b", vec![file(2, 5), Change::Deleted { file: 1, rows: deleted }])], &[], false).unwrap();
        ledger.commit(&[commit("c", vec![Change::FileRemoved(1)]), commit("d", vec![object("7", None), Change::FileRemoved(2)])], &[], true).unwrap();
    }
    let ledger = Ledger::open(Some(dir.path())).unwrap();
    assert_eq!(ledger.head().id, 4);
    assert_eq!(ledger.counter("oid").unwrap(), 17);
    let at = |n| ledger.load(Some(n)).unwrap();
    assert_eq!((at(1).files.len(), at(1).deleted.len(), at(1).objects.len()), (1, 0, 1));
    assert_eq!((at(2).files.len(), at(2).deleted[0].1.len()), (2, 2));
    assert_eq!((at(3).files.len(), at(3).deleted.len()), (1, 0));
    assert!(ledger.load(None).unwrap().files.is_empty() && ledger.load(None).unwrap().objects.is_empty());
    let versions = ledger.versions(7).unwrap();
    assert_eq!(versions.iter().map(|v| (v.rows_added, v.rows_removed)).collect::<Vec<_>>(), [(3, 0), (5, 2), (0, 1), (0, 5)]);
}

#[test]
fn a_failed_commit_leaves_no_trace() {
    let mut ledger = Ledger::open(None).unwrap();
    ledger.commit(&[commit("a", vec![file(1, 1)])], &[], true).unwrap();
    assert!(ledger.commit(&[commit("b", vec![file(2, 1), file(1, 1)])], &[], true).is_err());
    assert_eq!((ledger.head().id, ledger.load(None).unwrap().files.len()), (1, 1));
    // The same transaction again is known by its id.
    let again = ledger.commit(&[commit("a", vec![file(1, 1)])], &[], true).unwrap();
    assert_eq!(again[0].id, 1);
}

#[test]
fn what_no_snapshot_needs_is_forgotten() {
    let mut ledger = Ledger::open(None).unwrap();
    ledger.commit(&[commit("a", vec![object("7", Some("{}")), file(1, 1), file(2, 1)])], &[], true).unwrap();
    ledger.commit(&[commit("b", vec![Change::FileRemoved(1), file(3, 1)])], &[], true).unwrap();
    ledger.commit(&[commit("c", vec![Change::FileRemoved(2), Change::FileRemoved(3)])], &[], true).unwrap();
    ledger.tag(7, "kept", Some(1)).unwrap();
    assert_eq!(ledger.tag(7, "kept", Some(2)).unwrap_err().sqlstate(), "42710");
    assert_eq!(ledger.expire(3, None, &|_| false).unwrap(), ["t/x/3.parquet"]);
    assert!(ledger.is_whole(7, 1).unwrap() && !ledger.is_whole(7, 2).unwrap() && ledger.is_whole(7, 3).unwrap());
    ledger.tag(7, "kept", None).unwrap();
    assert_eq!(ledger.expire(3, None, &|id| id == 2).unwrap(), ["t/x/1.parquet"]);
}

#[test]
fn events_are_what_came_and_went() {
    let mut ledger = Ledger::open(None).unwrap();
    let gone = |rows: &[u32]| Change::Deleted { file: 1, rows: rows.iter().copied().collect() };
    ledger.commit(&[commit("a", vec![file(1, 4)])], &[], true).unwrap();
    ledger.commit(&[commit("b", vec![gone(&[1])])], &[], true).unwrap();
    ledger.commit(&[commit("c", vec![gone(&[1, 2]), file(2, 1)])], &[], true).unwrap();
    ledger.commit(&[commit("compaction-d", vec![Change::FileRemoved(2), file(3, 1)])], &[], true).unwrap();
    ledger.commit(&[commit("e", vec![Change::FileRemoved(1)])], &[], true).unwrap();
    let events = ledger.events(7, 0, 5).unwrap();
    let told: Vec<_> = events.iter().map(|e| (e.snapshot.id, e.removed, e.file.id, e.others.iter().collect::<Vec<_>>())).collect();
    assert_eq!(
        told,
        [(1, false, 1, vec![]), (2, true, 1, vec![0, 2, 3]), (3, true, 1, vec![0, 1, 3]), (3, false, 2, vec![]), (5, true, 1, vec![1, 2]),]
    );
    assert_eq!(ledger.events(7, 2, 3).unwrap().len(), 2);
}

#[test]
fn a_damaged_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), "nonsense ".repeat(1000)).unwrap();
    assert_eq!(Ledger::open(Some(dir.path())).unwrap_err().sqlstate(), "XX001");
}
