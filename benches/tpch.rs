//! The queries of TPC-H on DataFusion in a process of its own: what `benches/wire` measures squilla against.
//!
//! `tpch DATA QUERIES.sql`: one line a query: number, wall seconds, CPU seconds, rows. The same version and build of DataFusion
//! as in squilla, a partition a core, results collected and dropped.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use datafusion::execution::context::{SessionConfig, SessionContext};
use datafusion::execution::options::ParquetReadOptions;

const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// Processor seconds of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::main]
async fn main() {
    // `cargo bench` passes `--bench` along.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [data, queries] = arguments.as_slice() else {
        eprintln!("tpch DATA QUERIES.sql: see benches/wire/run");
        return;
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(cores));
    for table in TABLES {
        context.register_parquet(table, format!("{data}/{table}.parquet"), ParquetReadOptions::default()).await.unwrap();
    }
    for (number, query) in std::fs::read_to_string(queries).unwrap().split("-- ").skip(1).enumerate() {
        let sql = query.split_once('\n').unwrap().1.trim().trim_end_matches(';');
        let (started, before) = (Instant::now(), cpu_seconds());
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
        println!("{} {:.4} {:.2} {rows}", number + 1, started.elapsed().as_secs_f64(), cpu_seconds() - before);
    }
}
