//! A model service over the tiny models, for the unit tests of this family.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, AsArray, ListBuilder, StringBuilder};
use squilla_core::columns::Arg;
use squilla_core::cores::Cores;
use squilla_core::declaration::Returns;
use squilla_core::kernel::{Call, Env, SqlFunction};
use squilla_core::types::SqlType;
use squilla_infer::engines::EngineOptions;
use squilla_infer::hub::HubOptions;
use squilla_infer::models::Models;
use squilla_infer::registry::RegisteredModel;
use squilla_infer::runtime::{self, RuntimeOptions};

use crate::testing::{call_overload, constant};

fn service() -> Arc<Models> {
    static SERVICE: OnceLock<Arc<Models>> = OnceLock::new();
    Arc::clone(SERVICE.get_or_init(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")).join("squilla");
        let runtime = RuntimeOptions { library: None, candidates: runtime::candidates(None, &cache) };
        let engines = EngineOptions { runtime, device: "cpu".into(), cores: Cores::new(2), ..EngineOptions::default() };
        let models = Models::new(HubOptions { home: cache.join("hf"), offline: true, ..HubOptions::default() }, engines);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for name in ["resnet-shapes", "yolo-shapes", "yolos-random", "clip-random", "whisper-commands"] {
            add(&models, &format!("tiny/{name}"), &root.join("models/tiny").join(name));
        }
        add(&models, "models/linear", &root.join("tests/fixtures/model/linear.onnx"));
        Arc::new(models)
    }))
}

fn add(models: &Models, name: &str, path: &Path) {
    let source = path.display().to_string();
    models.registry().add(RegisteredModel { name: name.into(), source, ..Default::default() }, false).unwrap();
}

/// A call of one overload with the model service.
pub(crate) fn model_call(function: &SqlFunction, signature: usize, args: Vec<Arg>, rows: usize) -> Arc<Call> {
    let given = args.clone();
    let call = call_overload(function, signature, args, rows);
    let env = Env { models: service(), ..call.env.as_ref().clone() };
    let variadic = call.function.signatures[signature].arguments.iter().any(|a| a.variadic);
    let args = if variadic { given } else { call.args.clone() };
    Arc::new(Call { function: Arc::clone(&call.function), signature, args, rows, env: Arc::new(env) })
}

/// A constant text[].
pub(crate) fn list_of_texts(items: &[&str]) -> Arg {
    let mut builder = ListBuilder::new(StringBuilder::new());
    items.iter().for_each(|item| builder.values().append_value(item));
    builder.append(true);
    constant(builder.finish())
}

/// Asserts that a column of lists has the composite that the function declares.
pub(crate) fn list_matches(function: &SqlFunction, array: &ArrayRef) {
    let declaration = function.declaration().unwrap();
    let Returns::Table(columns) = &declaration.signatures[0].returns else { panic!("{} is not set-returning", declaration.name) };
    assert_eq!(array.as_list::<i32>().value_type(), SqlType::Record(columns.clone()).arrow());
}
