//! Where rows come from: files and objects, listings of them, and tables in them.
//!
//! `location` tells local files, URLs and buckets apart; `buckets` opens those; `glob` matches patterns; `files` reads; `listing` lists; `object` hands the
//! same files to DataFusion's readers; `read_files`, `tables`, `scan` and `text` are the table functions.
//! Deliberately absent: names and argument rules of SQL functions on values (the binder), writing (`sink`).

pub mod buckets;
pub mod confined;
pub mod files;
pub mod glob;
pub mod late;
pub mod list_local;
pub mod list_objects;
pub mod listing;
pub mod location;
pub mod object;
pub mod options;
pub mod read_files;
pub mod rows;
pub mod scan;
pub mod tables;
pub mod text;
