//! The logical Expand node: each input row with the rows of a set-returning call.
//!
//! The planner makes it as a leaf over one empty row; `lateral` moves it over the left side of its join. Invariant: the
//! schema is the input's columns, then the call's columns under their output names and qualifier.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result as DfResult, TableReference};
use datafusion::logical_expr::utils::expr_to_columns;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// The node.
#[derive(Clone, Debug)]
pub struct Expand {
    /// Input.
    pub input: Arc<LogicalPlan>,
    /// The set-returning call: a marker UDF over its arguments.
    pub call: Expr,
    /// Rows without results come out once, with NULLs.
    pub outer: bool,
    /// Qualifier of the generated columns.
    pub qualifier: Option<TableReference>,
    /// Generated columns under their output names.
    pub generated: Vec<FieldRef>,
    /// Input, then generated.
    pub schema: DFSchemaRef,
}

impl Expand {
    /// A node over `input`.
    pub fn try_new(input: Arc<LogicalPlan>, call: Expr, outer: bool, qualifier: Option<TableReference>, generated: Vec<FieldRef>) -> DfResult<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        fields.extend(generated.iter().map(|f| (qualifier.clone(), Arc::clone(f))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, call, outer, qualifier, generated, schema })
    }
}

impl PartialEq for Expand {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.call == other.call && self.outer == other.outer && self.schema == other.schema
    }
}

impl Eq for Expand {}

impl Hash for Expand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.call.hash(state);
    }
}

impl PartialOrd for Expand {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for Expand {
    fn name(&self) -> &str {
        "Expand"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.call.clone()]
    }

    /// Predicates on the input's columns may pass below; those on generated columns may not.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.generated.iter().map(|f| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Expand: {}{}", self.call, if self.outer { " outer" } else { "" })
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let missing = || DataFusionError::Internal("Expand has one call and one input".into());
        // Rules that rewrite expressions keep names by aliases; a call has no name to keep.
        let call = exprs.pop().ok_or_else(missing)?.unalias();
        let input = inputs.pop().ok_or_else(missing)?;
        Expand::try_new(Arc::new(input), call, self.outer, self.qualifier.clone(), self.generated.clone())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: HashSet<usize> = output_columns.iter().copied().filter(|i| *i < width).collect();
        let mut columns = HashSet::new();
        expr_to_columns(&self.call, &mut columns).ok()?;
        for column in columns {
            needed.extend(self.input.schema().maybe_index_of_column(&column));
        }
        let mut needed: Vec<usize> = needed.into_iter().collect();
        needed.sort_unstable();
        Some(vec![needed])
    }
}
