//! The catalog over restarts and between transactions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use squilla_core::types::SqlType;

use super::data::{ColumnEntry, RelationKind};
use super::*;

fn table(data: &mut CatalogData, name: &str) -> Result<u32> {
    data.create_relation("public", name, "squilla", vec![ColumnEntry::new("a", &SqlType::Int4)], RelationKind::table())
}

/// A transaction that began with `base` and did this.
fn pending(base: &Arc<CatalogData>, change: impl FnOnce(&mut CatalogData)) -> Pending {
    let mut ours = CatalogData::clone(base);
    change(&mut ours);
    ours.touch();
    Pending { base: Arc::clone(base), ours: Arc::new(ours), keys: Vec::new(), durable: true, compaction: false }
}

#[test]
fn a_change_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let oid = {
        let catalog = Catalog::open(dir.path()).unwrap();
        assert_eq!(Catalog::open(dir.path()).unwrap_err().sqlstate(), "55000");
        catalog.update(|d| d.create_schema("lake", "squilla")).unwrap();
        catalog.update(|d| table(d, "t")).unwrap()
    };
    let catalog = Catalog::open(dir.path()).unwrap();
    let data = catalog.snapshot();
    assert!(data.schemas.contains_key("lake") && data.roles.contains_key("squilla"));
    assert_eq!(data.relation("public", "t").unwrap().oid, oid);
    assert!(data.allocate_oid().unwrap() > oid);
}

#[test]
fn a_failed_change_leaves_no_trace() {
    let catalog = Catalog::in_memory().unwrap();
    let stamp = catalog.snapshot().stamp;
    let failed: Result<()> = catalog.update(|d| {
        d.create_schema("half", "squilla")?;
        Err(Error::new(Kind::Io, "no"))
    });
    assert!(failed.is_err());
    assert_eq!(catalog.snapshot().stamp, stamp);
}

#[tokio::test]
async fn transactions_commute_or_conflict() {
    let catalog = Catalog::in_memory().unwrap();
    catalog.update(|d| table(d, "t")).unwrap();
    let base = catalog.snapshot();
    let made = |name: &'static str| {
        pending(&base, move |d| {
            table(d, name).unwrap();
        })
    };
    catalog.commit(made("u")).await.unwrap();
    catalog.commit(made("v")).await.unwrap();
    assert_eq!(catalog.commit(made("u")).await.unwrap_err().sqlstate(), "42P07");
    // Both sides change the definition of one table.
    catalog.commit(pending(&base, |d| d.rename_relation("public", "t", "t2").unwrap())).await.unwrap();
    let late = pending(&base, |d| d.rename_relation("public", "t", "t3").unwrap());
    assert_eq!(catalog.commit(late).await.unwrap_err().sqlstate(), "40001");
    // Two tables change places.
    let base = catalog.snapshot();
    let swap = pending(&base, |d| {
        d.rename_relation("public", "u", "w").unwrap();
        d.rename_relation("public", "v", "u").unwrap();
        d.rename_relation("public", "w", "v").unwrap();
    });
    catalog.update(|d| table(d, "other")).unwrap();
    let (u, v) = (base.relation("public", "u").unwrap().oid, base.relation("public", "v").unwrap().oid);
    catalog.commit(swap).await.unwrap();
    let now = catalog.snapshot();
    assert_eq!((now.relation("public", "u").unwrap().oid, now.relation("public", "v").unwrap().oid), (v, u));
    assert!(now.relation("public", "other").is_ok());
}

#[test]
fn sequences_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sequence = data::SequenceEntry { start: 1, increment: 2, min: 1, max: 1000, cycle: false, owned_by: None };
    {
        let catalog = Catalog::open(dir.path()).unwrap();
        assert_eq!(catalog.next_values(7, "s", &sequence, 3).unwrap(), [1, 3, 5]);
    }
    let catalog = Catalog::open(dir.path()).unwrap();
    assert!(catalog.next_values(7, "s", &sequence, 1).unwrap()[0] > 5);
    assert_eq!(catalog.next_values(7, "s", &sequence, 1000).unwrap_err().sqlstate(), "2200H");
}
