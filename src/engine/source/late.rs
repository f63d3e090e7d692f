//! Sources whose arguments are parameters: what is known of them before the parameters have values.
//!
//! In: the name of a source, its arguments. Out: its columns with no rows, and the types of its arguments. Invariant: a
//! statement described with such a source has the columns that it gives when it is executed. Deliberately absent: sources
//! whose columns follow from their files.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use super::read_files;
use super::tables::sources;

/// A source whose arguments are not known yet.
///
/// # Errors
/// 0A000 where the files decide the columns.
pub fn unresolved(name: &str) -> Result<Arc<dyn TableProvider>> {
    let columns = match name {
        // Its contents are read beside the listing.
        "read_files" => read_files::columns(),
        _ => sources().iter().find(|d| d.name == name).map(|d| (d.columns)()).unwrap_or_default(),
    };
    if columns.is_empty() {
        return Err(Error::unsupported(format!("the columns of {name} follow from its files, which a parameter cannot name"))
            .hint("Write the name of the files into the statement."));
    }
    let fields: Vec<Field> = columns.into_iter().map(|(name, ty)| ty.field(name)).collect();
    Ok(Arc::new(EmptyTable::new(Arc::new(Schema::new(fields)))))
}

/// The arguments of a source and their declared types; none for other functions.
pub fn argument_types<'a>(name: &str, args: &'a [FunctionArg]) -> Vec<(&'a Expr, SqlType)> {
    let Some(declaration) = sources().iter().find(|d| d.name == name) else { return Vec::new() };
    let known = args.iter().enumerate().filter_map(|(at, arg)| {
        let (parameter, expr) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (declaration.parameters.get(at)?, e),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                (declaration.parameters.iter().find(|p| p.name.eq_ignore_ascii_case(&name.value))?, e)
            }
            _ => return None,
        };
        Some((expr, SqlType::parse(parameter.ty)?))
    });
    known.collect()
}
