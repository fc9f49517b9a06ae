//! What is tried on untrusted bytes: each target must return, with or without an error, and describes the outcome in a
//! few words. Shared by `tests/mutations.rs` and the targets of libFuzzer.

// Each target uses one of them.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use engine::dtype::DType;
use engine::models::{Checkpoint, Formats, Fp8, LoadFormat, Model, ModelConfig, decoder};
use jobs::batch::body::Body;
use jobs::batch::envelope::Envelope;
use jobs::options::sampling::SamplingOptions;
use minijinja::{Value, context};
use std::cell::RefCell;
use std::path::Path;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find_map(|a| a.join("tests/golden").canonicalize().ok())
        .unwrap()
        .join(name)
}

thread_local! {
    /// A model folder with a valid `config.json`.
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// Writes a file into the thread's own folder, which has a valid `config.json`.
fn with_file<T>(name: &str, bytes: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let memory = Path::new("/dev/shm");
            let home = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
            let folder = tempfile::tempdir_in(home).unwrap();
            std::fs::copy(golden("qwen3/config.json"), folder.path().join("config.json")).unwrap();
            folder
        });
        std::fs::write(folder.path().join(name), bytes).unwrap();
        look(folder.path())
    })
}

fn outcome<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "sound".into())
}

/// A `config.json`. For a valid one the plan is made too: the file must not be able to make it too large.
pub fn config(bytes: &[u8]) -> String {
    let config = ModelConfig::parse(bytes, Path::new("config.json"));
    if let Ok(config) = &config {
        decoder(config, &Formats::default(), 1, 1, 1, |_| DType::F32.into());
    }
    outcome(config)
}

/// A `model.safetensors`, by itself and for a model that expects other tensors.
pub fn safetensors(bytes: &[u8]) -> String {
    with_file("model.safetensors", bytes, |folder| {
        let alone = outcome(Checkpoint::open(folder, Fp8::default()));
        alone + "; " + &outcome(Model::open(folder, LoadFormat::Auto))
    })
}

/// A chat template, rendered for a short conversation.
pub fn template(bytes: &[u8]) -> String {
    let source = String::from_utf8_lossy(bytes);
    let template = match jobs::prompt::template::Template::new("--chat-template", &source, 0) {
        Ok(template) => template,
        Err(error) => return error.to_string(),
    };
    template.variables();
    let message = |role: &str, content: &str| context! { role => role, content => content };
    let messages = vec![message("system", "be brief"), message("user", "hello"), message("assistant", "x")];
    let names = context! {
        messages => messages,
        tools => Value::from(()),
        bos_token => "<s>",
        eos_token => "</s>",
        add_generation_prompt => true,
    };
    outcome(template.render(names, 20))
}

/// A job file.
pub fn job(bytes: &[u8]) -> String {
    with_file("job.toml", bytes, |folder| {
        let path = folder.join("job.toml").into_os_string();
        outcome(jobs::cli::parse::parse(["gristmill".into(), "run".into(), path]))
    })
}

/// A line of a batch, down to the sampling that it asks for.
pub fn request(bytes: &[u8]) -> String {
    let envelope = match Envelope::read(bytes) {
        Ok(envelope) => envelope,
        Err(bad) => return format!("{} {}", bad.code, bad.message),
    };
    outcome(Body::read(envelope.endpoint, &envelope.body).map(|body| {
        let (options, _) = body.sampling.over(&SamplingOptions::default());
        assert!(options.logprobs.is_none_or(|n| n <= 20));
    }))
}

/// An input of Parquet, read to its end.
pub fn parquet(bytes: &[u8]) -> String {
    with_file("in.parquet", bytes, |folder| {
        let name = folder.join("in.parquet").to_str().unwrap().to_owned();
        let input = match jobs::input::Input::open(&[name]) {
            Ok(input) => input,
            Err(error) => return error.to_string(),
        };
        let columns = (0..input.schema.fields().len()).collect();
        // A footer may claim any number of rows; a hostile one costs no more than its errors.
        let batches = input.read(columns, 0..input.rows).take(100);
        let errors: Vec<String> = batches
            .filter_map(|batch| batch.and_then(jobs::input::batch::Batch::refuse_lost).err())
            .map(|e| e.to_string())
            .collect();
        if errors.is_empty() { "sound".into() } else { errors.join("; ") }
    })
}
