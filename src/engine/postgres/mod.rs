//! PostgreSQL's functions and SQL shapes that DataFusion lacks.
//!
//! In: the syntax tree of a statement, and the system view. Out: a tree that DataFusion plans, and the functions it then
//! finds. Invariant: nothing here looks at which client sent a statement; a rule holds for every statement of its shape.
//! Deliberately absent: the functions of `sql-functions/` and the relations of `system`.

pub mod aggregate;
pub mod arithmetic;
pub mod bounded;
pub mod buckets;
pub mod bytes;
pub mod cast;
pub mod cast_rule;
pub mod casts;
pub mod catalog_functions;
#[cfg(test)]
mod catalog_tests;
pub mod checked;
pub mod column_names;
pub mod common_type;
pub mod concat;
pub mod datetime;
pub mod decimal;
pub mod definitions;
pub mod deparse;
pub mod encoding;
pub mod expand_array;
pub mod expression_planner;
pub mod fields;
pub mod from_calls;
pub mod function;
pub mod hashing;
pub mod hoist;
pub mod input;
pub mod interval;
pub mod json;
pub mod json_edit;
pub mod json_path;
pub mod json_path_parser;
pub mod json_value;
pub mod keywords;
pub mod list_rows;
pub mod names;
pub mod number;
pub mod number_format;
pub mod operators;
pub mod options;
pub mod ordered_aggregate;
pub mod output;
pub mod patterns;
pub mod privilege_functions;
pub mod quantified;
pub mod regexp;
pub mod registry;
pub mod rewrite;
pub mod scalar;
pub mod series;
pub mod session_functions;
pub mod size_functions;
pub mod special_functions;
pub mod subquery;
pub mod subquery_rule;
pub mod syntax;
pub mod table_functions;
pub mod text_functions;
pub mod time;
pub mod time_template;
pub mod to_char;
pub mod type_planner;
pub mod untyped;
pub mod vector;
pub mod vector_aggregate;
pub mod whole_row;
pub mod zoned;
