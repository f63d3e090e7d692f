//! Names in FROM, for one statement: tables of the catalog, system relations, and the statement's own sources.
//!
//! In: the catalog snapshot, the session's search path. Out: table providers for DataFusion's planner. Invariant: a
//! statement sees one snapshot. An unqualified name is looked for among the statement's sources, in pg_catalog, then
//! along the search path.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result as DfResult;
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{CatalogData, RelationKind, SequenceEntry, TEMPORARY};
use crate::error::to_datafusion;
use crate::table::Tables;

/// The pseudo schema of unqualified names.
pub const PATH_SCHEMA: &str = "$path";

/// Makes providers of relations whose contents are not in the table store.
pub trait OtherRelations: Send + Sync + std::fmt::Debug {
    /// A system relation (pg_catalog, information_schema, squilla).
    fn system(&self, schema: &str, name: &str) -> Option<Arc<dyn TableProvider>>;
    /// The one row of a sequence: last_value, log_cnt, is_called.
    fn sequence(&self, oid: u32, sequence: &SequenceEntry) -> Result<Arc<dyn TableProvider>>;
}

/// The relations of one statement.
#[derive(Debug)]
pub struct StatementRelations {
    /// Catalog at the start of the statement.
    pub data: Arc<CatalogData>,
    /// Contents of tables.
    pub store: Arc<Tables>,
    /// Schemas of unqualified names, in order.
    pub search_path: Vec<String>,
    /// The version that tables are read as of; None is what `data` says.
    pub at: Option<String>,
    /// Sources and external tables of this statement, by name (external tables by "schema.name").
    pub made: HashMap<String, Arc<dyn TableProvider>>,
    /// System relations.
    pub other: Arc<dyn OtherRelations>,
}

impl StatementRelations {
    fn find(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if schema != PATH_SCHEMA {
            return self.in_schema(schema, name);
        }
        if let Some(made) = self.made.get(name) {
            return Ok(Some(Arc::clone(made)));
        }
        if let Some(system) = self.other.system("pg_catalog", name) {
            return Ok(Some(system));
        }
        for schema in &self.search_path {
            if let Some(found) = self.in_schema(schema, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_schema(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(made) = self.made.get(&format!("{schema}.{name}")) {
            return Ok(Some(Arc::clone(made)));
        }
        if let Some(system) = self.other.system(schema, name) {
            return Ok(Some(system));
        }
        match self.data.schemas.get(schema).and_then(|s| s.relations.get(name)) {
            Some(relation) => match &relation.kind {
                RelationKind::Table { materialized: Some(view), .. } if view.unpopulated => {
                    Err(Error::new(Kind::NotInPrerequisiteState, format!("materialized view \"{name}\" has not been populated"))
                        .hint("Use the REFRESH MATERIALIZED VIEW command."))
                }
                RelationKind::Table { .. } => match &self.at {
                    Some(version) if !schema.starts_with(TEMPORARY) => self.store.scan_at(relation, version).map(Some),
                    _ => self.store.scan(relation).map(Some),
                },
                RelationKind::Sequence(sequence) => self.other.sequence(relation.oid, sequence).map(Some),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

/// The catalogs of one statement: one, named squilla.
#[derive(Debug)]
pub struct Catalogs(pub Arc<StatementRelations>);

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec!["squilla".into()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == "squilla").then(|| Arc::new(Schemas(Arc::clone(&self.0))) as _)
    }
}

#[derive(Debug)]
struct Schemas(Arc<StatementRelations>);

impl CatalogProvider for Schemas {
    fn schema_names(&self) -> Vec<String> {
        self.0.data.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let known = name == PATH_SCHEMA || matches!(name, "pg_catalog" | "information_schema" | "squilla") || self.0.data.schemas.contains_key(name);
        known.then(|| Arc::new(Schema { name: name.to_owned(), relations: Arc::clone(&self.0) }) as _)
    }
}

#[derive(Debug)]
struct Schema {
    name: String,
    relations: Arc<StatementRelations>,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.relations.data.schemas.get(&self.name).map(|s| s.relations.keys().cloned().collect()).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        self.relations.find(&self.name, name).map_err(to_datafusion)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.relations.find(&self.name, name).is_ok_and(|t| t.is_some())
    }
}
