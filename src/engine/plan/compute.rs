//! The logical Compute node: the input's columns and one more per output call.
//!
//! Made by `lift` after optimization, so no optimizer rule ever sees it. Invariant: a step's arguments read input columns
//! and earlier steps only.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result as DfResult, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepExpr {
    /// Name of the result column.
    pub name: String,
    /// The call: a marker UDF over its arguments.
    pub call: Expr,
    /// When given, the call is made only for rows where this is true.
    pub guard: Option<Expr>,
    /// Whether the column leaves the node.
    pub output: bool,
    /// Whether failures are recorded (not under try()).
    pub recorded: bool,
}

/// The node.
#[derive(Clone, Debug)]
pub struct Compute {
    /// Input.
    pub input: Arc<LogicalPlan>,
    /// Calls in order.
    pub steps: Vec<StepExpr>,
    /// Input and output steps.
    pub schema: DFSchemaRef,
    /// Input and all steps: what the calls' arguments are resolved against.
    pub extended: DFSchemaRef,
}

impl Compute {
    /// A node over `input`.
    pub fn try_new(input: Arc<LogicalPlan>, steps: Vec<StepExpr>) -> DfResult<Self> {
        let mut extended = input.schema().as_ref().clone();
        let mut output: Vec<(Option<TableReference>, FieldRef)> = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        let metadata = extended.metadata().clone();
        for step in &steps {
            let (_, field) = step.call.to_field(&extended)?;
            let field = Arc::new(field.as_ref().clone().with_name(&step.name).with_nullable(true));
            let mut fields: Vec<(Option<TableReference>, FieldRef)> = extended.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
            fields.push((None, Arc::clone(&field)));
            extended = DFSchema::new_with_metadata(fields, metadata.clone())?;
            if step.output {
                output.push((None, field));
            }
        }
        Ok(Self { input, steps, schema: Arc::new(DFSchema::new_with_metadata(output, metadata)?), extended: Arc::new(extended) })
    }

    /// The reference to a step's column.
    pub fn column(name: &str) -> Expr {
        Expr::Column(Column::new_unqualified(name))
    }
}

impl PartialEq for Compute {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.steps == other.steps
    }
}

impl Eq for Compute {}

impl Hash for Compute {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.steps.hash(state);
    }
}

impl PartialOrd for Compute {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for Compute {
    fn name(&self) -> &str {
        "Compute"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// None: the steps' expressions belong to the extended schema, which rules over `expressions` would not know.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let calls: Vec<String> = self.steps.iter().map(|s| format!("{}={}", s.name, s.call)).collect();
        write!(f, "Compute: {}", calls.join(", "))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let input = inputs.pop().ok_or_else(|| DataFusionError::Internal("Compute has one input".into()))?;
        Compute::try_new(Arc::new(input), self.steps.clone())
    }
}
