//! Set-returning functions of the catalog.
//!
//! In: nothing. Out: rows. Invariant: columns are PostgreSQL's. Deliberately absent: set-returning functions with arguments
//! from the left (LATERAL), which the binder plans.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result as DataFusionResult;
use squilla_core::types::SqlType;

use crate::postgres::keywords;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// `pg_get_keywords()`
    Keywords,
    /// `pg_listening_channels()`: nobody listens.
    Channels,
}

impl TableFunctionImpl for Rows {
    fn call_with_args(&self, _: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = match self {
            Rows::Keywords => {
                let all: Vec<keywords::Keyword> = keywords::all().collect();
                let text =
                    |get: &dyn Fn(&keywords::Keyword) -> String| Arc::new(all.iter().map(|k| Some(get(k))).collect::<StringArray>()) as ArrayRef;
                let label = |k: &keywords::Keyword| if k.bare_label { "can be bare label" } else { "requires AS" }.to_owned();
                (
                    vec![
                        SqlType::Text.field("word"),
                        SqlType::SingleChar.field("catcode"),
                        SqlType::Bool.field("barelabel"),
                        SqlType::Text.field("catdesc"),
                        SqlType::Text.field("baredesc"),
                    ],
                    vec![
                        text(&|k| k.word.to_owned()),
                        text(&|k| k.category.to_string()),
                        Arc::new(all.iter().map(|k| Some(k.bare_label)).collect::<BooleanArray>()),
                        text(&|k| k.description().to_owned()),
                        text(&label),
                    ],
                )
            }
            Rows::Channels => (vec![SqlType::Text.field("pg_listening_channels")], vec![Arc::new(StringArray::new_null(0))]),
        };
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}

/// Name and function.
pub const TABLE_FUNCTIONS: &[(&str, Rows)] = &[("pg_get_keywords", Rows::Keywords), ("pg_listening_channels", Rows::Channels)];
