//! The table store on a real directory: what is visible, what is left behind, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use datafusion::arrow::array::{AsArray, Int64Array, StringArray};
use datafusion::arrow::datatypes::{Int32Type, IntervalMonthDayNano};
use datafusion::prelude::SessionContext;

use super::*;
use crate::catalog::relations::DropKind;

fn columns() -> Vec<ColumnEntry> {
    let mut id = ColumnEntry::new("id", &SqlType::Int4);
    id.not_null = true;
    let types = [
        ("t", "varchar(9)"),
        ("i", "interval"),
        ("v", "vector"),
        ("img", "image"),
        ("j", "jsonb"),
        ("n", "numeric(10,2)"),
        ("tags", "text[]"),
        ("b", "bytea"),
    ];
    std::iter::once(id).chain(types.iter().map(|(n, t)| ColumnEntry::new(*n, &SqlType::parse(t).unwrap()))).collect()
}

fn new_table(name: &str) -> NewTable {
    NewTable { schema: "public".into(), name: name.into(), owner: "squilla".into(), columns: columns(), if_not_exists: false }
}

/// Rows of all columns, with bigint ids as an INSERT of literals has them.
fn rows(ids: Vec<Option<i64>>) -> SendableRecordBatchStream {
    let n = ids.len();
    let schema = schema_of(&columns()).unwrap();
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[0] = Field::new("?column?", DataType::Int64, true);
    let mut arrays: Vec<ArrayRef> = fields.iter().map(|f| datafusion::arrow::array::new_null_array(f.data_type(), n)).collect();
    arrays[0] = Arc::new(Int64Array::from(ids));
    arrays[1] = Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("t{i}"))));
    arrays[2] = Arc::new(
        (0..n).map(|i| Some(IntervalMonthDayNano::new(14, i as i32, 5_500_000_000))).collect::<datafusion::arrow::array::IntervalMonthDayNanoArray>(),
    );
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays);
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([batch.map_err(Into::into)])))
}

struct Setup {
    dir: tempfile::TempDir,
    catalog: Arc<Catalog>,
    store: Arc<dyn TableStore>,
    context: SessionContext,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let context = SessionContext::new();
    let store = ParquetStore::open(&catalog, &context.runtime_env()).unwrap();
    Setup { dir, catalog, store, context }
}

impl Setup {
    async fn ids(&self, name: &str) -> Result<Vec<i32>> {
        let provider = self.store.scan(self.catalog.snapshot().relation("public", name)?)?;
        let batches = self.context.read_table(provider).unwrap().collect().await.map_err(crate::error::from_datafusion)?;
        let mut ids: Vec<i32> = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int32Type>().values().to_vec()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn files(&self) -> usize {
        let tables = std::fs::read_dir(self.dir.path().join("data")).unwrap();
        tables.map(|t| std::fs::read_dir(t.unwrap().path()).unwrap().count()).sum()
    }
}

#[tokio::test]
async fn rows_come_back_with_their_types() {
    let s = setup();
    assert_eq!(s.store.create(new_table("t"), None).await.unwrap(), Some(0));
    assert!(s.ids("t").await.unwrap().is_empty());
    assert_eq!(s.store.append("public", "t", rows(vec![Some(1), Some(2)])).await.unwrap(), 2);
    assert_eq!(s.store.append("public", "t", rows(vec![Some(3)])).await.unwrap(), 1);
    assert_eq!(s.ids("t").await.unwrap(), [1, 2, 3]);
    let provider = s.store.scan(s.catalog.snapshot().relation("public", "t").unwrap()).unwrap();
    let found: Vec<String> = provider.schema().fields().iter().map(|f| crate::catalog::data::spelling(&SqlType::of_field(f))).collect();
    assert_eq!(found, columns().iter().map(|c| c.ty.clone()).collect::<Vec<_>>());
    let frame = s.context.read_table(provider).unwrap();
    let batches = frame.clone().filter(datafusion::prelude::col("id").eq(datafusion::prelude::lit(2))).unwrap().collect().await.unwrap();
    let interval = batches[0].column(2).as_primitive::<datafusion::arrow::datatypes::IntervalMonthDayNanoType>().value(0);
    assert_eq!(interval, IntervalMonthDayNano::new(14, 1, 5_500_000_000));
    assert_eq!(SqlType::of_field(batches[0].schema().field(4)), SqlType::Image);
    assert_eq!(frame.count().await.unwrap(), 3);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let s = setup();
    s.store.create(new_table("t"), None).await.unwrap();
    let code = |r: Result<u64>| r.unwrap_err().sqlstate();
    assert_eq!(code(s.store.append("public", "t", rows(vec![Some(1), None])).await), "23502");
    assert_eq!(code(s.store.append("public", "t", rows(vec![Some(1 << 40)])).await), "22003");
    assert_eq!(code(s.store.append("public", "none", rows(vec![])).await), "42P01");
    assert_eq!(s.store.create(new_table("t"), None).await.unwrap_err().sqlstate(), "42P07");
    assert_eq!(s.store.create(NewTable { if_not_exists: true, ..new_table("t") }, Some(rows(vec![Some(1)]))).await.unwrap(), None);
    let failing = RecordBatchStreamAdapter::new(
        rows(vec![]).schema(),
        rows(vec![Some(1)]).chain(futures::stream::iter([Err(to_datafusion(Error::new(Kind::BadMedia, "x")))])),
    );
    assert_eq!(s.store.create(new_table("u"), Some(Box::pin(failing))).await.unwrap_err().sqlstate(), "22P03");
    let never = RecordBatchStreamAdapter::new(rows(vec![]).schema(), rows(vec![Some(1)]).chain(futures::stream::pending()));
    let inserting = s.store.append("public", "t", Box::pin(never));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), inserting).await.is_err());
    assert_eq!(s.files(), 0);
    assert!(s.ids("u").await.is_err());
}

#[tokio::test]
async fn created_from_a_query_and_kept_over_a_restart() {
    let s = setup();
    let table = NewTable { columns: Vec::new(), ..new_table("c") };
    assert_eq!(s.store.create(table, Some(rows(vec![Some(7), Some(8)]))).await.unwrap(), Some(2));
    let Setup { dir, catalog, store, .. } = s;
    let oid = catalog.snapshot().relation("public", "c").unwrap().oid;
    assert_eq!(catalog.snapshot().relation("public", "c").unwrap().columns[0].ty, "bigint");
    drop((catalog, store));
    // What a crash may leave: a file of no table, and a file that its table does not name.
    let data = dir.path().join("data");
    std::fs::create_dir(data.join("99999")).unwrap();
    std::fs::write(data.join("99999/x.parquet"), "x").unwrap();
    std::fs::write(data.join(format!("{oid}/.half.tmp")), "x").unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let context = SessionContext::new();
    let store = ParquetStore::open(&catalog, &context.runtime_env()).unwrap();
    assert!(!data.join("99999").exists());
    let provider = store.scan(catalog.snapshot().relation("public", "c").unwrap()).unwrap();
    assert_eq!(context.read_table(provider).unwrap().count().await.unwrap(), 2);
    assert_eq!(std::fs::read_dir(data.join(oid.to_string())).unwrap().count(), 1);
}

#[tokio::test]
async fn dropped_tables_stay_for_their_readers() {
    let s = setup();
    s.store.create(new_table("t"), Some(rows(vec![Some(1)]))).await.unwrap();
    let provider = s.store.scan(s.catalog.snapshot().relation("public", "t").unwrap()).unwrap();
    let plan = s.context.read_table(provider).unwrap().create_physical_plan().await.unwrap();
    let dropped = s.catalog.update(|d| d.drop_relation(DropKind::Table, "public", "t", false, false)).unwrap();
    s.store.dropped(&dropped);
    assert_eq!(s.files(), 1);
    let rows = datafusion::physical_plan::collect(Arc::clone(&plan), s.context.task_ctx()).await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    drop((plan, rows));
    assert_eq!(std::fs::read_dir(s.dir.path().join("data")).unwrap().count(), 0);
}

#[tokio::test]
async fn truncate_and_memory() {
    let s = setup();
    s.store.create(new_table("t"), Some(rows(vec![Some(1)]))).await.unwrap();
    s.store.truncate("public", "t").await.unwrap();
    assert!(s.ids("t").await.unwrap().is_empty());
    assert_eq!(s.files(), 0);
    let context = SessionContext::new();
    let catalog = Catalog::in_memory();
    let store = ParquetStore::open(&catalog, &context.runtime_env()).unwrap();
    assert_eq!(store.create(new_table("m"), Some(rows(vec![Some(1)]))).await.unwrap(), Some(1));
    let provider = store.scan(catalog.snapshot().relation("public", "m").unwrap()).unwrap();
    assert_eq!(context.read_table(provider).unwrap().count().await.unwrap(), 1);
}
