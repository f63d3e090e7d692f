//! From a parsed query to a logical plan: names, sources and parameters.
//!
//! In: a query, and what the session is when it is planned. Out: a plan of DataFusion, with the types of its parameters.
//! Invariant: what a name means is decided over one snapshot of the catalog. Deliberately absent: optimizing and
//! executing (`query`).

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use sqlparser::ast::{self, VisitMut, VisitorMut};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::bind::calls::CallContext;
use crate::bind::relations::{BoundSource, Relations};
use crate::catalog::data::{CatalogData, RelationKind};
use crate::error::{from_datafusion, from_datafusion_in};
use crate::session::parameters::{by_place, declare, spell, types};
use crate::session::relations::{Catalogs, StatementRelations};
use crate::session::view::SessionView;
use crate::session::{Session, sql_functions};

/// A planned query.
pub(super) struct Planned {
    pub plan: LogicalPlan,
    /// Types of parameters that are known without the plan.
    pub given: Vec<Option<SqlType>>,
    /// A source has to be resolved when the values of the parameters are known.
    pub late: bool,
}

/// What a query is planned with.
#[derive(Default)]
pub(super) struct Around<'a> {
    /// Values of parameters, which may name its sources.
    pub values: Option<&'a [ScalarValue]>,
    /// Tables of this statement, by name.
    pub tables: Vec<(String, Arc<dyn datafusion::catalog::TableProvider>)>,
    /// How many functions in SQL are being planned around it.
    pub nesting: usize,
}
impl Session {
    /// Binds and plans a query.
    pub async fn plan_query(self: &Arc<Self>, statement: ast::Statement, text: &str, given: &[Option<SqlType>]) -> Result<LogicalPlan> {
        self.plan_with(statement, text, given, Around::default()).await.map(|planned| planned.plan)
    }

    /// The same with tables of this statement, by name.
    pub async fn plan_query_over(
        self: &Arc<Self>,
        statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        tables: Vec<(String, Arc<dyn datafusion::catalog::TableProvider>)>,
    ) -> Result<LogicalPlan> {
        self.plan_with(statement, text, given, Around { tables, ..Around::default() }).await.map(|planned| planned.plan)
    }

    /// Types of the parameters of a query over tables of this statement.
    pub async fn types_over(
        self: &Arc<Self>,
        statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        tables: Vec<(String, Arc<dyn datafusion::catalog::TableProvider>)>,
    ) -> Result<Vec<SqlType>> {
        let planned = self.plan_with(statement, text, given, Around { tables, ..Around::default() }).await?;
        types(&planned.plan, &planned.given)
    }

    /// Binds and plans the body of a function; `nesting` functions are being planned around it.
    pub(crate) async fn plan_body(
        self: &Arc<Self>,
        statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        nesting: usize,
    ) -> Result<LogicalPlan> {
        self.plan_with(statement, text, given, Around { nesting, ..Around::default() }).await.map(|planned| planned.plan)
    }

    /// Binds and plans a query.
    pub(super) async fn plan_with(
        self: &Arc<Self>,
        mut statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        around: Around<'_>,
    ) -> Result<Planned> {
        let Around { values, tables, nesting } = around;
        let settings = self.settings();
        let (reads, beside) = {
            let inner = self.inner.lock();
            (inner.reads.clone(), inner.beside.clone())
        };
        let data = reads.unwrap_or_else(|| self.snapshot());
        let search_path = self.search_path(&data);
        let given = by_place(&mut statement, given);
        if let Some(values) = values {
            spell(&mut statement, &given, values);
        }
        declare(&mut statement, &given);
        let lookup = Lookup { data: &data, search_path: &search_path, values, beside: &beside };
        let context = CallContext { functions: &self.database.functions, settings: &settings };
        let depth = settings.int("squilla.max_statement_depth").max(16) as usize;
        let sources = crate::bind::relations::bind(&mut statement, &context, &lookup, depth)?;
        crate::postgres::rewrite::rewrite(&mut statement)?;
        let mut state = self.lease(&settings)?;
        let built_in = |name: &str| {
            state.scalar_functions().contains_key(name)
                || state.aggregate_functions().contains_key(name)
                || state.window_functions().contains_key(name)
        };
        let called = sql_functions::mark(&mut statement, &data, &search_path, &built_in)?;
        if !called.is_empty() {
            state.keep();
        }
        for udf in called.udfs() {
            datafusion::execution::FunctionRegistry::register_udf(&mut *state, Arc::clone(udf)).map_err(from_datafusion)?;
        }
        crate::bind::calls::bind(&mut statement, &context)?;
        // Calls of ours have told more types.
        let given = by_place(&mut statement, &given);
        let late = sources.iter().any(|s| s.late);
        let mut made = self.resolve_sources(&sources, &state).await?;
        made.extend(beside.iter().cloned());
        made.extend(tables);
        self.external_tables(&mut statement, &lookup, &state, &mut made).await?;
        let relations = StatementRelations {
            data: Arc::clone(&data),
            store: Arc::clone(&self.database.store),
            search_path,
            at: Some(settings.get("squilla.snapshot")).filter(|at| !at.is_empty()).map(str::to_owned),
            made,
            other: Arc::new(SessionView(Arc::downgrade(self))),
        };
        state.register_catalog_list(Arc::new(Catalogs(Arc::new(relations))));
        let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await;
        let plan = plan.and_then(crate::postgres::common_type::unify).map_err(|e| from_datafusion_in(e, text))?;
        let plan = if called.is_empty() { plan } else { self.call_functions(plan, &called, nesting).await? };
        Ok(Planned { plan, given, late })
    }

    async fn resolve_sources(
        self: &Arc<Self>,
        sources: &[BoundSource],
        state: &SessionState,
    ) -> Result<HashMap<String, Arc<dyn datafusion::catalog::TableProvider>>> {
        let mut made = HashMap::new();
        let allowed = if sources.is_empty() { None } else { self.allowed_paths() };
        for source in sources {
            if source.late {
                made.insert(source.table.clone(), crate::source::late::unresolved(&source.call.name)?);
                continue;
            }
            if let Some(allowed) = &allowed {
                source.call.places().iter().try_for_each(|place| allowed.check(place))?;
            }
            let provider = match crate::table::versions::resolve(self, &source.call)? {
                Some(provider) => Some(provider),
                None => crate::source::tables::resolve(&source.call, &self.database.files, state).await?,
            };
            let provider = provider.ok_or_else(|| Error::internal(format!("{} is not a source", source.call.name)))?;
            made.insert(source.table.clone(), provider);
        }
        Ok(made)
    }

    /// Providers of the external tables that the statement names.
    async fn external_tables(
        &self,
        statement: &mut ast::Statement,
        lookup: &Lookup<'_>,
        state: &SessionState,
        made: &mut HashMap<String, Arc<dyn datafusion::catalog::TableProvider>>,
    ) -> Result<()> {
        for name in relation_names(statement) {
            let Some((schema, table, relation)) = lookup.find(&name) else { continue };
            if let RelationKind::External { format, location, options, partitioned_by } = &relation.kind {
                let external =
                    crate::source::tables::external(&relation.columns, format, location, options, partitioned_by, &self.database.files, state);
                let provider = external.await?;
                made.insert(format!("{schema}.{table}"), provider);
            }
        }
        Ok(())
    }
}

/// Looks names up in one snapshot.
pub struct Lookup<'a> {
    /// Snapshot.
    pub data: &'a CatalogData,
    /// Schemas of unqualified names.
    pub search_path: &'a [String],
    /// Values of parameters, where the statement has them.
    pub values: Option<&'a [ScalarValue]>,
    /// Tables of the statement that hide views of their names.
    pub beside: &'a [(String, Arc<dyn datafusion::catalog::TableProvider>)],
}

impl<'a> Lookup<'a> {
    /// The relation of a name of one to three parts, with its schema and name.
    pub fn find<'s>(&'s self, name: &[String]) -> Option<(String, String, &'a crate::catalog::data::Relation)> {
        match name {
            [table] => {
                let (schema, relation) = self.data.resolve(self.search_path, table)?;
                Some((schema.to_owned(), table.clone(), relation))
            }
            [schema, table] | [_, schema, table] => {
                let relation = self.data.schemas.get(schema)?.relations.get(table)?;
                Some((schema.clone(), table.clone(), relation))
            }
            _ => None,
        }
    }
}

impl Relations for Lookup<'_> {
    fn view(&self, name: &[String]) -> Option<(u32, String)> {
        if let [name] = name
            && self.beside.iter().any(|(hiding, _)| hiding == name)
        {
            return None;
        }
        let relation = self.find(name)?.2;
        match &relation.kind {
            RelationKind::View { sql, .. } => Some((relation.oid, sql.clone())),
            _ => None,
        }
    }

    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<crate::catalog::functions::FunctionEntry> {
        self.data.functions_named(schema, self.search_path, name)
    }

    fn catalog(&self) -> &CatalogData {
        self.data
    }

    fn columns(&self, name: &[String]) -> Option<Vec<(String, String)>> {
        self.find(name).map(|(_, _, relation)| relation.columns.iter().map(|c| (c.name.clone(), c.ty.clone())).collect())
    }

    fn is_source(&self, name: &str) -> bool {
        crate::source::tables::sources().iter().chain(crate::table::versions::FUNCTIONS).any(|s| s.name == name)
    }

    fn parameter(&self, number: usize) -> Option<ScalarValue> {
        self.values?.get(number.checked_sub(1)?).cloned()
    }
}

/// Every name that stands where a relation can.
fn relation_names(statement: &mut ast::Statement) -> Vec<Vec<String>> {
    struct Names(Vec<Vec<String>>);
    impl VisitorMut for Names {
        type Break = ();
        fn pre_visit_relation(&mut self, name: &mut ast::ObjectName) -> ControlFlow<()> {
            self.0.push(crate::statement::name_parts(name));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    let _ = statement.visit(&mut names);
    names.0
}
