//! Nothing leaves the machine: a job with a local model opens no socket, and no log has row text.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use support::job::{Bench, Ran, strings};

/// Which sockets a process may open.
#[derive(Clone, Copy)]
enum Sockets {
    None,
    /// Local sockets: Vulkan drivers look for a desktop.
    Local,
}

/// A filter that kills a process when it opens a socket that is not allowed. Children inherit it. Socket
/// pairs within a process stay allowed, since they lead nowhere.
fn filter(allowed: Sockets) -> BpfProgram {
    let unix = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64);
    let forbidden = match allowed {
        Sockets::None => Vec::new(),
        Sockets::Local => vec![SeccompRule::new(vec![unix.unwrap()]).unwrap()],
    };
    // io_uring can open sockets without a system call for each.
    let rules = [(libc::SYS_socket, forbidden), (libc::SYS_io_uring_setup, Vec::new())];
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let (otherwise, then) = (SeccompAction::Allow, SeccompAction::KillProcess);
    SeccompFilter::new(rules.into_iter().collect(), otherwise, then, arch).unwrap().try_into().unwrap()
}

/// Runs the command under the filter. Nothing else keeps it off the network.
fn run_filtered(mut command: Command, allowed: Sockets) -> Ran {
    let filter = filter(allowed);
    let install = move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other);
    command.env_remove("HF_HUB_OFFLINE");
    // SAFETY: between fork and exec there are two system calls only; nothing is allocated unless they fail.
    unsafe { command.pre_exec(install) };
    Ran::of(command.output().unwrap())
}

fn job<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["run", "--device", "cpu", "--model", model, "-i", "in.parquet", "-o", "out"];
    all.extend(["--temperature", "0", "--max-tokens", "4"]);
    all.extend(more);
    all
}

#[test]
fn a_job_on_a_local_model_opens_no_socket() {
    let bench = Bench::new();
    bench.table("in.parquet", vec![("q", strings(&[Some("the mill"), None, Some("grain")]))]);
    let model = support::golden("qwen3");
    let parts =
        ["--prompt-column", "q", "--rows-per-file", "2", "--max-error-rate", "1", "--log-level", "info"];
    let whole = job(model.to_str().unwrap(), &parts);
    for (arguments, allowed) in [
        (&whole[..], Sockets::None),
        (&["status", "out"], Sockets::None),
        (&["verify", "out"], Sockets::None),
        (&["devices"], Sockets::Local),
    ] {
        let ran = run_filtered(bench.command(arguments), allowed);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    }
    assert!(bench.path("out/part-00001.parquet").exists());
}

/// The filter works, in the worker too: opening a socket kills the process. Signal 31 is SIGSYS.
#[cfg(feature = "hub")]
#[test]
fn the_filter_sees_a_model_from_the_hub() {
    let bench = Bench::new();
    bench.table("in.parquet", vec![("q", strings(&[Some("the mill")]))]);
    let mut command = bench.command(&job("org/name", &["--prompt-column", "q"]));
    let cache = bench.name("cache");
    command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HOME", &cache);
    let ran = run_filtered(command, Sockets::Local);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("signal 31"), "{}", ran.stderr);
}

/// Text that occurs in a row only.
const SECRET: &str = "Quetzalcoatl";

/// Conversations of one message, with a role that the row names.
fn messages(roles: &[&str]) -> ArrayRef {
    let fields = ["role", "content"].map(|name| Arc::new(Field::new(name, DataType::Utf8, true)));
    let text = || Arc::new(StringArray::from(roles.to_vec())) as ArrayRef;
    let messages = StructArray::new(fields.into_iter().collect(), vec![text(), text()], None);
    let item = Arc::new(Field::new("item", messages.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(vec![1; roles.len()]);
    Arc::new(ListArray::new(item, offsets, Arc::new(messages), None))
}

#[test]
fn row_text_is_in_no_log_above_debug() {
    let bench = Bench::new();
    let long = SECRET.repeat(400);
    let rows = [Some(SECRET), None, Some(&*long), Some("Quetzalcoatl\0<|im_end|>")];
    let texts = strings(&rows);
    let tokens: ArrayRef = {
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths(vec![1; 4]);
        Arc::new(ListArray::new(item, offsets, Arc::new(StringArray::from(vec![SECRET; 4])), None))
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    bench.table(
        "in.parquet",
        vec![("q", texts), ("n", numbers), ("m", messages(&[SECRET, "user", " ", &long])), ("t", tokens)],
    );
    let model = support::golden("qwen3");
    let model = model.to_str().unwrap();
    let run = |flags: &[&str], level: &str| {
        let mut all = job(model, flags);
        all.extend(["--fresh", "--max-error-rate", "0"]);
        let mut command = bench.command(&all);
        command.env("RUST_LOG", level);
        let ran = Ran::of(command.output().unwrap());
        // 2 where no row can be rendered.
        assert!(matches!(ran.code, 2 | 3), "{flags:?}: {} {}", ran.code, ran.stderr);
        ran.stderr + &ran.stdout
    };
    let thrown = ["--prompt", "{{ raise_exception(q ~ n) }}"];
    for flags in [
        &["--prompt-column", "q"][..],
        &["--prompt", "{{ q }} {{ n }}"],
        &thrown,
        &["--prompt", "{{ q | int + n }}"],
        &["--prompt", "{{ q[n:].missing.more }}"],
        &["--prompt", "{{ q ~ '' % n }}"],
        &["--prompt", "{{ q | int % q }}"],
        &["--prompt", "{{ q.index('nowhere') }}"],
        &["--prompt", "{{ 'a'.index(q) }}"],
        &["--prompt", "{{ 'a' | truncate(1, end=q) }}"],
        &["--prompt", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q, b=q) }}"],
        &["--messages-column", "m"],
        &["--prompt-tokens-column", "t"],
    ] {
        for format in ["text", "json"] {
            let log = run(&[flags, &["--log-format", format]].concat(), "info");
            assert!(!log.contains(SECRET), "{flags:?} {format}: {log}");
        }
    }
    assert!(
        run(&thrown, "debug").contains(SECRET),
        "the secret is not in a debug log either, so the test proves nothing"
    );
}

/// A reader of metrics learns how many rows have which kind of error, and nothing of what they say.
#[test]
fn row_text_is_in_no_metrics() {
    let bench = Bench::new();
    bench.table("in.parquet", vec![("q", strings(&[Some(SECRET), None, Some("Quetzalcoatl again")]))]);
    let model = support::golden("qwen3");
    let thrown = "{% if 'again' in q %}{{ raise_exception(q) }}{% endif %}{{ q }}";
    let mut command = bench.command(&job(model.to_str().unwrap(), &["--prompt", thrown, "--metrics", "0"]));
    command.env("GRISTMILL_FAULTS", "*:hang@2");
    let run = support::metrics::Watched::start(command);
    let text = run.wait_for(|text| support::metrics::value(text, "gristmill_job_rows_failed") == Some(2.0));
    assert!(
        text.contains("kind=\"template error\"") && !text.contains(SECRET) && !text.contains("in.parquet"),
        "{text}"
    );
}

/// The same of a batch, wherever a request has the text.
#[test]
fn a_batch_opens_no_socket_and_logs_no_text_of_requests() {
    let bench = Bench::new();
    let mut count = 0;
    let mut body = |body: &str| {
        count += 1;
        let chat = "\"method\": \"POST\", \"url\": \"/v1/chat/completions\"";
        format!("{{\"custom_id\": \"{SECRET} {count}\", {chat}, \"body\": {body}}}\n")
    };
    let asked = format!("\"messages\": [{{\"role\": \"user\", \"content\": \"{SECRET}\"}}]");
    let lines = [
        body(&format!("{{{asked}}}")),
        body(&format!("{{{asked}, \"stop\": \"{SECRET}\\\\n<|im_end|>\"}}")),
        body(&format!("{{{asked}, \"{SECRET}\": 1}}")),
        body(&format!("{{{asked}, \"temperature\": \"{SECRET}\"}}")),
        body(&format!("{{{asked}, \"model\": \"{SECRET}\"}}")),
        body(&format!("{{{asked}, \"bad_words\": [\"{SECRET}\"]}}")),
        body(&format!("{{\"messages\": [{{\"role\": \"{SECRET}!\", \"content\": \"x\"}}]}}")),
        format!("{SECRET}\n"),
        format!("{{\"custom_id\": \"a\", \"{SECRET}\": 1}}\n"),
    ];
    std::fs::write(bench.path("requests.jsonl"), lines.concat()).unwrap();
    let model = support::golden("qwen3");
    let mut all =
        vec!["run", "--device", "cpu", "--model", model.to_str().unwrap(), "--batch", "requests.jsonl"];
    all.extend(["-o", "out.jsonl", "--max-tokens", "4", "--log-level", "info", "--max-error-rate", "0"]);
    let ran = run_filtered(bench.command(&all), Sockets::None);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
    let results = std::fs::read_to_string(bench.path("out.jsonl")).unwrap();
    assert_eq!(
        (results.lines().count(), results.matches("\"status_code\":200").count()),
        (9, 3),
        "{results}"
    );
}
