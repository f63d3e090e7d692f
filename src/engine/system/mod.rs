//! The system relations: `pg_catalog`, `information_schema` and the views of `squilla`.
//!
//! In: a [`view::SystemView`]. Out: Arrow columns. Invariant: every row follows from the server's own catalog, types,
//! functions and settings; names and types of columns are PostgreSQL's. Deliberately absent: storage of any kind, and
//! functions over the catalog (`postgres`).

pub mod acl;
pub mod classes;
pub mod cluster;
pub mod dependencies;
pub mod information;
pub mod keys;
pub mod objects;
pub mod oids;
pub mod operators;
pub mod own;
pub mod procs;
pub mod progress;
pub mod relation;
pub mod routines;
pub mod shapes;
pub mod shapes_information;
pub mod shapes_squilla;
pub mod shapes_tables;
pub mod shapes_views;
pub mod statistics;
pub mod table;
pub mod text_search;
pub mod types;
pub mod view;
pub mod workers;
