//! Which workers can take a plan: those that see the tables that it reads and take a message of its size.
//!
//! In: a plan, its size, the workers. Out: those that can, or an error that names each worker and what it lacks. The server
//! keeps an identity in its data directory and tells it with its question how a worker is; a worker that finds it under the
//! same path sees the same tables. Deliberately absent: labels and devices (`place`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::source::object::location_of_file;

use crate::channels::address;
use crate::members::Ready;
use crate::spread::{anywhere, scan};

/// The file with the identity.
const IDENTITY: &str = "cluster-id";

/// The data directory of a server, as a worker is asked about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Its path.
    pub path: PathBuf,
    /// What its identity says.
    pub id: String,
}

impl Tables {
    /// Of this server: makes the identity at the first start.
    pub fn of(data_dir: &Path) -> Result<Self> {
        let failed = |e| Error::io(format!("could not write {IDENTITY} in {}", data_dir.display()), e);
        std::fs::create_dir_all(data_dir).map_err(failed)?;
        let path = data_dir.canonicalize().map_err(failed)?;
        let file = path.join(IDENTITY);
        let id = match std::fs::read_to_string(&file) {
            Ok(id) if !id.trim().is_empty() => id,
            _ => {
                let id = uuid::Uuid::new_v4().to_string();
                std::fs::write(&file, &id).map_err(failed)?;
                id
            }
        };
        Ok(Self { path, id: id.trim().to_owned() })
    }

    /// Whether this process sees them.
    pub fn seen(&self) -> bool {
        std::fs::read_to_string(self.path.join(IDENTITY)).is_ok_and(|id| id.trim() == self.id)
    }

    /// Whether the plan reads any of them.
    pub fn read_by(&self, plan: &Arc<dyn ExecutionPlan>) -> bool {
        let folder = location_of_file(&self.path);
        anywhere(plan, |node| {
            let mut files = scan(node).into_iter().flat_map(|s| s.file_groups.iter()).flat_map(|g| g.files());
            files.any(|f| f.object_meta.location.as_ref().strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/')))
        })
    }
}

/// The workers that can take a plan of `bytes` bytes; an error when none of those that there are can.
pub fn able(ready: Vec<Ready>, plan: &Arc<dyn ExecutionPlan>, bytes: u64, tables: Option<&Tables>) -> Result<Vec<Ready>> {
    if ready.is_empty() {
        return Ok(ready);
    }
    let fits = |r: &Ready| bytes <= r.info.plan_bytes_max;
    if !ready.iter().any(fits) {
        let limits: Vec<String> = ready.iter().map(|r| format!("{} takes {} bytes", address(&r.url), r.info.plan_bytes_max)).collect();
        return Err(Error::new(Kind::LimitExceeded, format!("the plan of the statement has {bytes} bytes, more than a worker takes"))
            .detail(format!("{}.", limits.join("; ")))
            .hint("Put long lists of values into a table or a file and join it, or raise squilla.plan_bytes_max of the workers."));
    }
    let ready: Vec<Ready> = ready.into_iter().filter(fits).collect();
    let Some(tables) = tables.filter(|t| t.read_by(plan)) else { return Ok(ready) };
    let sees = |r: &Ready| r.info.sees_tables;
    if !ready.iter().any(sees) {
        let path = tables.path.display();
        let names: Vec<String> = ready.iter().map(|r| format!("{} does not see {path}", address(&r.url))).collect();
        return Err(Error::new(Kind::NotInPrerequisiteState, "no worker sees the tables of this server")
            .detail(format!("{}.", names.join("; ")))
            .hint("Mount the server's data directory under the same path on the workers, or keep the rows as files that they can read."));
    }
    Ok(ready.into_iter().filter(sees).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::empty::EmptyExec;

    use super::*;
    use crate::control::Info;

    #[test]
    fn an_identity_is_made_once_and_found_under_its_path() {
        let folder = std::env::temp_dir().join(format!("squilla-able-{}", uuid::Uuid::new_v4().simple()));
        let tables = Tables::of(&folder).unwrap();
        assert_eq!(Tables::of(&folder).unwrap(), tables);
        assert!(tables.seen());
        assert!(!Tables { id: "another".into(), ..tables.clone() }.seen());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(!tables.seen());
    }

    #[test]
    fn a_plan_goes_to_those_that_take_its_size() {
        let worker = |port: u16, plan_bytes_max: u64| Ready {
            url: format!("http://127.0.0.1:{port}").parse().unwrap(),
            info: Info { plan_bytes_max, ..Info::default() },
        };
        let plan: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        let all = vec![worker(1, 10), worker(2, 1000)];
        assert_eq!(able(all.clone(), &plan, 10, None).unwrap().len(), 2);
        assert_eq!(able(all.clone(), &plan, 11, None).unwrap()[0].url.port(), Some(2));
        let error = able(all, &plan, 1001, None).unwrap_err();
        assert!(error.sqlstate() == "54000" && error.detail.unwrap().contains("127.0.0.1:2 takes 1000"));
    }
}
