//! A job file, as flags.

use crate::cli::args::Cli;
use crate::error::JobError;
use crate::model::builtin::NANO;
use crate::store::location::{ObjectUrl, refuse_malformed_url, refuse_url};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, CommandFactory, Parser};
use engine::models::read_capped;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Groups of keys of which a job has one at most. One that the command line gives takes the place of those of the file.
const EITHER: [&[&str]; 11] = [
    &["batch", "input"],
    &["choices", "columns"],
    &["json_schema", "regex", "grammar", "structured_outputs"],
    &["prompt", "prompt_file", "prompt_column", "messages_column", "prompt_tokens_column"],
    &["raw", "chat_template"],
    &["raw", "system_prompt"],
    &["raw", "messages_column"],
    &["prompt_tokens_column", "chat_template"],
    &["prompt_tokens_column", "system_prompt"],
    &["resume", "fresh"],
    &["gpu_memory_utilization", "kv_cache_memory_bytes"],
];

/// The keys of a job file as flags, but for those that the command line gives.
///
/// # Errors
/// [`JobError::Usage`] names the key; what cannot be read.
pub fn flags(path: &Path, given: impl Fn(&str) -> bool) -> Result<Vec<OsString>, JobError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let flags = flags_of(read(path)?, folder, |id| Ok(!overridden(id, &given)));
    flags.map_err(|why| JobError::Usage(format!("{}: {why}", path.display())))
}

/// The keys of a job file.
///
/// # Errors
/// [`JobError::Usage`] if it is no TOML; what cannot be read.
pub fn read(path: &Path) -> Result<toml::Table, JobError> {
    let wrong = |why: String| JobError::Usage(format!("{}: {why}", path.display()));
    let bytes = read_capped(path, 1 << 20)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
    parse(path, &text)
}

/// The keys of the text of a job file.
///
/// # Errors
/// [`JobError::Usage`] if it is no TOML.
pub fn parse(path: &Path, text: &str) -> Result<toml::Table, JobError> {
    text.parse().map_err(|e: toml::de::Error| JobError::Usage(format!("{}: {e}", path.display())))
}

/// The keys of a table that are wanted, by the names that the parser knows them by, as flags. Paths are from `folder`.
///
/// # Errors
/// What is wrong names the key.
pub fn flags_of(
    table: toml::Table,
    folder: &Path,
    wanted: impl Fn(&str) -> Result<bool, String>,
) -> Result<Vec<OsString>, String> {
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").ok_or("there is no `run`")?;
    let mut flags = Vec::new();
    let mut spelt = HashMap::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let Some(arg) = run.get_arguments().find(|arg| is_key(arg, &name)) else {
            let near = nearest(&name).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("unknown key `{key}`{near}"));
        };
        let id = arg.get_id().as_str();
        if let Some(other) = spelt.insert(id.to_string(), key.clone()) {
            return Err(format!("`{other}` and `{key}` are the same key; keep one of them"));
        }
        if wanted(id)? {
            let mut values = Vec::new();
            let value = joined_prices(id, value);
            add_values(&mut values, &value, arg.get_action().takes_values())
                .map_err(|why| format!("`{key}` {why}"))?;
            if has_table(&value) && !OF_TABLES.contains(&id) {
                let instead = if id == "choices" { "; a table of choices is `columns`" } else { "" };
                return Err(format!("`{key}` takes text, and no table{instead}"));
            }
            if values.len() != 1 && value.is_array() && !matches!(arg.get_action(), ArgAction::Append) {
                return Err(format!("`{key}` takes one value, and not a list of {}", values.len()));
            }
            if values.is_empty() && value.is_array() && MEANS_ALL.contains(&id) {
                return Err(format!("`{key}` is an empty list; name at least one, or leave it out"));
            }
            for value in values {
                let mut flag = OsString::from(format!("--{name}"));
                if let Some(text) = value {
                    flag.push("=");
                    flag.push(in_folder(folder, id, text).map_err(|why| format!("`{key}`: {why}"))?);
                }
                flags.push(flag);
            }
        }
    }
    Ok(flags)
}

/// What a table stands for.
const OF_TABLES: [&str; 6] =
    ["chat_template_kwargs", "columns", "documents", "json_schema", "logit_bias", "structured_outputs"];

fn has_table(value: &toml::Value) -> bool {
    value.is_table() || value.as_array().is_some_and(|items| items.iter().any(has_table))
}

/// Lists that are not empty: without a flag they are not none, but all, or another kind of job.
const MEANS_ALL: [&str; 2] = ["keep", "choices"];

fn is_key(arg: &Arg, name: &str) -> bool {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    (arg.get_long() == Some(name) || aliases.contains(&name))
        && !matches!(arg.get_id().as_str(), "help" | "log_level" | "log_format" | "color" | "shard")
}

/// Whether the command line gives a flag, or one that stands for it.
pub fn overridden(id: &str, given: impl Fn(&str) -> bool) -> bool {
    let mut either = EITHER.iter().filter(|group| group.contains(&id)).copied().flatten();
    // Another model has other revisions.
    given(id) || either.any(|&other| given(other)) || id == "revision" && given("model")
}

/// Two prices in a list are as good as the text of both.
fn joined_prices(id: &str, value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Array(items) if id == "compare_price" => {
            let texts: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), String::from))
                .collect();
            toml::Value::String(texts.join(","))
        }
        other => other,
    }
}

/// The values of a key as text; `None` for a flag without a value.
fn add_values(
    values: &mut Vec<Option<String>>,
    value: &toml::Value,
    takes_value: bool,
) -> Result<(), String> {
    use toml::Value::{Array, Boolean, Table};
    match value {
        Boolean(on) if !takes_value => values.extend(on.then_some(None)),
        _ if !takes_value => return Err("is either true or false".into()),
        Array(items) => items.iter().try_for_each(|item| add_values(values, item, true))?,
        Table(_) => values.push(Some(serde_json::to_string(value).map_err(|e| e.to_string())?)),
        toml::Value::String(text) => values.push(Some(text.clone())),
        other => values.push(Some(other.to_string())),
    }
    Ok(())
}

/// The names that the parser knows the keys of a table by; unknown ones are left out.
pub fn ids<'a>(keys: impl Iterator<Item = &'a String>) -> HashSet<String> {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    let id = |key: &String| {
        let name = key.replace('_', "-");
        let arg = run?.get_arguments().find(|arg| is_key(arg, &name));
        arg.map(|arg| arg.get_id().to_string())
    };
    keys.filter_map(id).collect()
}

/// The value of a key, where that is a path, from the folder of the job file.
fn in_folder(folder: &Path, id: &str, text: String) -> Result<OsString, String> {
    let there = join(folder, &text);
    match id {
        "input" | "output" => refuse_malformed_url(&text)?,
        "state_dir" | "download_dir" | "prompt_file" => refuse_url(&text)?,
        _ => {}
    }
    Ok(match id {
        "input" | "batch" | "output" if ObjectUrl::parse(&text).is_none() => there.into(),
        "prompt_file" | "state_dir" | "download_dir" | "grammar" => there.into(),
        "json_schema" if !text.trim_start().starts_with('{') => there.into(),
        "prompt" => match text.strip_prefix('@') {
            Some(file) => {
                let mut named = OsString::from("@");
                named.push(join(folder, file));
                named
            }
            None => text.into(),
        },
        // The name of a file, and not a template.
        "chat_template" if !text.contains(['{', '\n']) => there.into(),
        // A folder of that name is `./nano`.
        "model" | "tokenizer" if text == NANO => text.into(),
        "model" | "tokenizer" if there.is_dir() || text.starts_with('.') => there.into(),
        "model" | "tokenizer" if there != Path::new(&text) && Path::new(&text).is_dir() => {
            return Err(format!(
                "there is no folder {}; the paths of a job file are relative to the file, and {text} is a folder here: \
                 give the way from there, or --model {text}",
                there.display()
            )
            .replace("--model", if id == "model" { "--model" } else { "--tokenizer" }));
        }
        _ => text.into(),
    })
}

/// A path from a folder, without the steps back of which it is certain where they lead.
fn join(folder: &Path, text: &str) -> PathBuf {
    let mut joined = PathBuf::new();
    for component in folder.join(text).components() {
        let back = component == Component::ParentDir
            && matches!(joined.components().next_back(), Some(Component::Normal(_)))
            && !joined.is_symlink();
        match component {
            _ if back => drop(joined.pop()),
            Component::CurDir => {}
            other => joined.push(other),
        }
    }
    if joined.as_os_str().is_empty() || text.ends_with('/') {
        joined.push(if joined.as_os_str().is_empty() { "." } else { "" });
    }
    joined
}

/// The flag whose name is nearest to an unknown one, by the parser's own measure.
fn nearest(name: &str) -> Option<String> {
    let error = Cli::try_parse_from(["gristmill", "run", &format!("--{name}")]).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => Some(flag.trim_start_matches('-').to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_from_the_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = folder.path().join("jobs");
        std::fs::create_dir_all(jobs.join("tiny")).unwrap();
        let to = |id: &str, text: &str| in_folder(&jobs, id, text.into()).map(PathBuf::from);
        assert_eq!(to("input", "a/*.parquet"), Ok(jobs.join("a/*.parquet")));
        assert_eq!(to("output", "../out/x.parquet"), Ok(folder.path().join("out/x.parquet")));
        assert_eq!(to("output", "./out/").unwrap().as_os_str(), jobs.join("out/").as_os_str());
        for other in ["s3://bucket/x.parquet", "/somewhere/x.parquet"] {
            assert_eq!(to("output", other), Ok(other.into()));
        }
        assert_eq!(to("prompt", "@p.txt").unwrap(), Path::new(&format!("@{}", jobs.join("p.txt").display())));
        assert_eq!(to("prompt", "{{ a }}/../b"), Ok("{{ a }}/../b".into()));
        assert_eq!(to("chat_template", "t.jinja"), Ok(jobs.join("t.jinja")));
        assert_eq!(to("chat_template", "{{ messages }}/.."), Ok("{{ messages }}/..".into()));
        assert_eq!(
            (to("model", "tiny"), to("model", "./none")),
            (Ok(jobs.join("tiny")), Ok(jobs.join("none")))
        );
        std::fs::create_dir(jobs.join("nano")).unwrap();
        for name in ["nano", "org/name@main"] {
            assert_eq!(to("model", name), Ok(name.into()));
        }
        for (id, text) in [("input", "s3:/bucket/x"), ("output", "s3:"), ("state_dir", "s3://bucket/x")] {
            assert!(to(id, text).unwrap_err().starts_with(text), "{id}");
        }
        // A folder from where the tests run.
        assert!(to("model", "src").unwrap_err().contains("is a folder here"));
        assert_eq!(in_folder(Path::new(""), "input", "../a".into()), Ok("../a".into()));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&jobs, folder.path().join("link")).unwrap();
            let beyond = join(&folder.path().join("link"), "../x");
            assert!(beyond.ends_with("link/../x"), "{beyond:?}");
        }
    }
}
