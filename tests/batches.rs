//! Batch files through the binary: each line has its result, in the input's order, whatever is wrong with it.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use support::golden;
use support::job::{Bench, Ran, ints, texts};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn request(id: &str, url: &str, body: Value) -> Value {
    json!({"custom_id": id, "method": "POST", "url": url, "body": body})
}

fn ask(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// A body of a question, with more fields.
fn body(text: &str, more: Value) -> Value {
    let mut body = json!({"messages": ask(text), "temperature": 0, "max_tokens": 6});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Writes lines as they are.
fn write(bench: &Bench, name: &str, lines: &[Vec<u8>]) -> String {
    std::fs::write(bench.path(name), lines.concat()).unwrap();
    bench.name(name)
}

fn line(request: &Value) -> Vec<u8> {
    format!("{request}\n").into_bytes()
}

fn batch(bench: &Bench, requests: &[Value]) -> String {
    write(bench, "requests.jsonl", &requests.iter().map(line).collect::<Vec<_>>())
}

/// Runs a batch on a golden model.
fn run(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> Ran {
    let model = golden("qwen3");
    let mut all = vec!["run", "--device", "cpu", "--batch", input, "-o", output];
    if !flags.contains(&"--model") {
        all.extend(["--model", model.to_str().unwrap()]);
    }
    all.extend(flags);
    bench.run(&all)
}

/// The results of a batch that must end well, with any number of errors.
fn results(bench: &Bench, input: &str, flags: &[&str]) -> Vec<Value> {
    let output = bench.name("results.jsonl");
    let ran = run(bench, input, &output, &[&["--max-error-rate", "1"], flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let verified = bench.run(&["verify", &output]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    read(bench, "results.jsonl")
}

fn read(bench: &Bench, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bench.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn content(result: &Value) -> &str {
    result["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap()
}

/// The answer of a result without what belongs to its row.
fn answer(result: &Value) -> Value {
    let mut body = result["response"]["body"].clone();
    body.as_object_mut().unwrap().remove("id").unwrap();
    body
}

#[test]
fn a_batch_is_answered_as_openai_answers_it() {
    let bench = Bench::new();
    let cached = bench.name("cache");
    let chat = body("My parcel never came. Is this positive, neutral or negative?", json!({"model": "nano"}));
    let text = json!({"prompt": "My parcel", "temperature": 0, "max_tokens": 3, "logprobs": 2, "n": 2});
    let logprobs = json!({"logprobs": true, "top_logprobs": 3, "user": "me", "stream": false, "stop": null});
    let requests = [
        request("one", CHAT, chat),
        request("two", COMPLETIONS, text),
        request("three", CHAT, body("Where is my refund?", logprobs)),
    ];
    let input = batch(&bench, &requests);
    let output = bench.name("results.jsonl");
    let command = |output: &str, more: &[&str]| {
        let all = ["run", "--batch", &input, "--model", "nano", "--device", "cpu", "-o", output];
        let ran = bench.command(&[&all, more].concat()).env("GRISTMILL_CACHE", &cached).output().unwrap();
        Ran::of(ran)
    };
    let ran = command(&output, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("batch: messages through the chat template; the model is called nano"));
    let results = read(&bench, "results.jsonl");
    let ids: Vec<&Value> = results.iter().map(|result| &result["custom_id"]).collect();
    assert_eq!(ids, ["one", "two", "three"]);
    for (result, object) in results.iter().zip(["chat.completion", "text_completion", "chat.completion"]) {
        let keys: Vec<&String> = result.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert!(result["id"].as_str().unwrap().starts_with("batch_req_") && result["error"].is_null());
        let response = &result["response"];
        assert_eq!(response["status_code"], 200, "{result}");
        assert!(response["request_id"].as_str().unwrap().len() > 8);
        let body = &response["body"];
        assert_eq!((&body["object"], &body["model"]), (&json!(object), &json!("nano")));
        assert!(body["created"].as_i64().unwrap() % 86_400 == 0);
        let usage = |key: &str| body["usage"][key].as_u64().unwrap();
        assert_eq!(usage("total_tokens"), usage("prompt_tokens") + usage("completion_tokens"));
        for (index, choice) in body["choices"].as_array().unwrap().iter().enumerate() {
            assert_eq!(choice["index"], index);
            assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
        }
    }
    assert!(results[0]["response"]["body"]["choices"][0]["logprobs"].is_null());
    assert_eq!(results[0]["response"]["body"]["choices"][0]["message"]["role"], "assistant");
    // Completions: lists side by side.
    let two = &results[1]["response"]["body"];
    assert_eq!(
        (two["choices"].as_array().unwrap().len(), &two["usage"]["completion_tokens"]),
        (2, &json!(6))
    );
    let logprobs = &two["choices"][1]["logprobs"];
    let count = |key: &str| logprobs[key].as_array().unwrap().len();
    assert_eq!(["tokens", "token_logprobs", "text_offset", "top_logprobs"].map(count), [3; 4]);
    let tokens: String =
        logprobs["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(two["choices"][1]["text"], tokens);
    assert!(logprobs["top_logprobs"][0].as_object().unwrap().len() >= 2);
    // Chat: each token with its alternatives.
    let three = &results[2]["response"]["body"]["choices"][0];
    let content = three["logprobs"]["content"].as_array().unwrap();
    let joined: Vec<u8> = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(three["message"]["content"].as_str().unwrap().as_bytes(), joined);
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(
            (top.len(), &top[0]["token"], &top[0]["logprob"]),
            (3, &token["token"], &token["logprob"])
        );
    }
    // Published, verified, and published again it is the same; in parts it has the same lines.
    let bytes = std::fs::read(&output).unwrap();
    assert_eq!(bench.run(&["verify", &output]).code, 0);
    assert_eq!(command(&output, &[]).code, 0);
    assert!(std::fs::read(&output).unwrap() == bytes);
    assert_eq!(command(&output, &["--rows-per-file", "2"]).code, 0);
    let parts = ["part-00000.jsonl", "part-00001.jsonl"]
        .map(|part| std::fs::read(bench.path("results.jsonl").join(part)).unwrap());
    assert!(parts.concat() == bytes);
    assert_eq!(bench.run(&["verify", &output]).code, 0);
}

/// The same prompts as rows of a table, by flags.
#[test]
fn requests_are_answered_as_rows_are() {
    let bench = Bench::new();
    let texts_of = ["Where is the river?", "the mill", "grain and flour"];
    let requests: Vec<Value> = texts_of
        .iter()
        .map(|text| request(text, CHAT, body(text, json!({"max_tokens": 9, "min_tokens": 2, "stop": ["in"], "logit_bias": {"5": 3}, "top_k": 4}))))
        .collect();
    let got = results(&bench, &batch(&bench, &requests), &[]);
    let columns = vec![("q", support::job::strings(&texts_of.map(Some)))];
    let input = bench.table("in.parquet", columns);
    let flags = ["--prompt-column", "q", "--max-tokens", "9", "--min-tokens", "2", "--stop", "in"];
    let more = ["--logit-bias", "5:3", "--top-k", "4"];
    let want = bench.answers("qwen3", &input, &[flags.as_slice(), &more].concat());
    let (want_texts, reasons) = (texts(&want, "generated_text"), texts(&want, "finish_reason"));
    for row in 0..texts_of.len() {
        let body = &got[row]["response"]["body"];
        assert_eq!(content(&got[row]), want_texts[row]);
        assert_eq!(body["choices"][0]["finish_reason"], reasons[row]);
        assert_eq!(body["usage"]["prompt_tokens"], ints(&want, "num_input_tokens")[row].unwrap());
        assert_eq!(body["usage"]["completion_tokens"], ints(&want, "num_generated_tokens")[row].unwrap());
    }
}

#[test]
fn what_a_request_says_goes_before_flags_and_flags_before_the_model() {
    let bench = Bench::new();
    let tokens = |body: &Value| body["response"]["body"]["usage"]["completion_tokens"].as_u64().unwrap();
    let requests = [
        request(
            "own",
            CHAT,
            json!({"messages": ask("grain"), "max_completion_tokens": 3, "ignore_eos": true}),
        ),
        request("flag", CHAT, json!({"messages": ask("grain"), "ignore_eos": true})),
        request("default", COMPLETIONS, json!({"prompt": [1, 2, 3], "ignore_eos": true})),
    ];
    let input = batch(&bench, &requests);
    let by_flag = results(&bench, &input, &["--max-tokens", "5", "--temperature", "0"]);
    assert_eq!(by_flag.iter().map(tokens).collect::<Vec<_>>(), [3, 5, 5]);
    // Without a flag, chat goes on to the end of the context, and completions have 16 tokens.
    let free = results(&bench, &input, &["--max-model-len", "48", "--temperature", "0", "--fresh"]);
    let prompt = free[1]["response"]["body"]["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(free.iter().map(tokens).collect::<Vec<_>>(), [3, 48 - prompt, 16]);
}

#[test]
fn requests_that_were_cut_off_run_again_with_a_greater_limit() {
    let bench = Bench::new();
    let chat = |id: &str, more: Value| {
        let mut body = json!({"messages": ask("grain"), "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request(id, CHAT, body)
    };
    let requests = [
        chat("own", json!({"max_tokens": 3, "ignore_eos": true})),
        chat("flag", json!({"ignore_eos": true})),
        chat("structure", json!({"guided_regex": "[a-c]{7}"})),
    ];
    let input = batch(&bench, &requests);
    let tokens = |results: &[Value]| {
        let of = |result: &Value| result["response"]["body"]["usage"]["completion_tokens"].as_u64().unwrap();
        results.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&results(&bench, &input, &["--max-tokens", "5"])), [3, 5, 5]);
    let again = results(&bench, &input, &["--max-tokens", "9", "--retry", "length"]);
    let whole = results(&bench, &input, &["--max-tokens", "9", "--fresh"]);
    assert_eq!(tokens(&again), [3, 9, 7]);
    let choices = |results: &[Value]| {
        results.iter().map(|result| result["response"]["body"]["choices"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(choices(&again), choices(&whole));
}

#[test]
fn every_wrong_request_is_its_own_result() {
    let bench = Bench::new();
    let chat = |id: &str, more: Value| line(&request(id, CHAT, body("grain", more)));
    let raw = |text: &str| format!("{text}\n").into_bytes();
    let good = |id: &str| line(&request(id, CHAT, body("grain", json!({}))));
    let messages =
        |id: &str, messages: Value| line(&request(id, CHAT, json!({"messages": messages, "max_tokens": 3})));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    let long = "the mill ".repeat(120_000);
    let completion = |id: &str, body: Value| line(&request(id, COMPLETIONS, body));
    // A line, its custom_id, and what its result says: a code of the line, or a status and the field.
    let cases: Vec<(Vec<u8>, Option<&str>, &str)> = vec![
        (good("good"), Some("good"), "200"),
        (raw("{\"custom_id\": \"cut\", "), None, "invalid_json_line"),
        (raw("nothing"), None, "invalid_json_line"),
        (raw("[1, 2]"), None, "invalid_json_line"),
        (raw("{\"custom_id\": \"\\ud800\"}"), None, "invalid_json_line"),
        (b"{\"custom_id\": \"a\x00b\"}\n".to_vec(), None, "invalid_json_line"),
        (b"{\"custom_id\": \"\xff\xfe\"}\n".to_vec(), None, "invalid_json_line"),
        (raw("{\"custom_id\": \"d\", \"custom_id\": \"d\"}"), None, "invalid_json_line"),
        (raw(&deep), None, "invalid_json_line"),
        (raw("{\"method\": \"POST\"}"), None, "missing_required_parameter"),
        (raw("{\"custom_id\": 5}"), None, "invalid_custom_id"),
        (good("good"), Some("good"), "duplicate_custom_id"),
        (line(&request("url", "/v1/embeddings", json!({"input": "x"}))), Some("url"), "invalid_url"),
        (
            line(&json!({"custom_id": "m", "method": "GET", "url": CHAT, "body": {}})),
            Some("m"),
            "invalid_method",
        ),
        (
            line(&json!({"custom_id": "b", "method": "POST", "url": CHAT, "body": "x"})),
            Some("b"),
            "invalid_body",
        ),
        (chat("stream", json!({"stream": true})), Some("stream"), "400 stream"),
        (chat("model", json!({"model": "gpt"})), Some("model"), "404 model"),
        (chat("model type", json!({"model": 4})), Some("model type"), "400 model"),
        (chat("tools", json!({"tools": [{"type": "function"}]})), Some("tools"), "400 tools"),
        (chat("format", json!({"response_format": {"type": "xml"}})), Some("format"), "400 response_format"),
        (chat("unknown", json!({"reasoning_effort": "low"})), Some("unknown"), "400 reasoning_effort"),
        (chat("cold", json!({"temperature": -1})), Some("cold"), "400 temperature"),
        (chat("text", json!({"temperature": "0"})), Some("text"), "400 temperature"),
        (chat("n", json!({"n": 0})), Some("n"), "400 n"),
        (chat("none", json!({"max_tokens": 0})), Some("none"), "400 max_tokens"),
        (chat("half", json!({"max_tokens": 1.5})), Some("half"), "400 max_tokens"),
        (
            chat("two", json!({"max_tokens": 5, "max_completion_tokens": 6})),
            Some("two"),
            "400 max_completion_tokens",
        ),
        (chat("bias", json!({"logit_bias": {"x": 1}})), Some("bias"), "400 logit_bias"),
        (chat("far", json!({"logit_bias": {"1": 101}})), Some("far"), "400 logit_bias"),
        (chat("beyond", json!({"stop_token_ids": [100_000]})), Some("beyond"), "400 stop_token_ids"),
        (chat("top", json!({"top_logprobs": 3})), Some("top"), "400 top_logprobs"),
        (chat("stop", json!({"stop": [""]})), Some("stop"), "400 stop"),
        (chat("k", json!({"top_k": -2})), Some("k"), "400 top_k"),
        (messages("no list", json!("grain")), Some("no list"), "400 messages"),
        (messages("empty", json!([])), Some("empty"), "400 messages"),
        (messages("no role", json!([{"content": "x"}])), Some("no role"), "400 messages"),
        (
            messages(
                "image",
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            ),
            Some("image"),
            "400 messages",
        ),
        (
            messages("calls", json!([{"role": "assistant", "content": "x", "tool_calls": [1]}])),
            Some("calls"),
            "400 messages",
        ),
        (messages("share", json!([{"from": "human", "value": "x"}])), Some("share"), "400 messages"),
        (messages("long", ask(&long)), Some("long"), "400 messages"),
        (line(&request("missing", CHAT, json!({}))), Some("missing"), "400 messages"),
        (
            line(&request("twice", CHAT, json!({"messages": ask("x"), "prompt": "x"}))),
            Some("twice"),
            "400 prompt",
        ),
        (completion("no prompt", json!({})), Some("no prompt"), "400 prompt"),
        (completion("several", json!({"prompt": ["a", "b"]})), Some("several"), "400 prompt"),
        (completion("ids", json!({"prompt": [100_000]})), Some("ids"), "400 prompt"),
        (completion("mark", json!({"prompt": "<|im_start|>user"})), Some("mark"), "400 prompt"),
        (completion("blank", json!({"prompt": []})), Some("blank"), "400 prompt"),
        (completion("echo", json!({"prompt": "x", "echo": true})), Some("echo"), "400 echo"),
        (messages("nested", nested), Some("nested"), "400 messages"),
        (
            completion(
                "one token",
                json!({"prompt": "x", "allowed_token_ids": [5], "logit_bias": {"5": -100}, "bad_words": ["%"]}),
            ),
            Some("one token"),
            "200",
        ),
        (
            completion("far token", json!({"prompt": "x", "allowed_token_ids": [99999999]})),
            Some("far token"),
            "400 allowed_token_ids",
        ),
        (
            completion("word token", json!({"prompt": "x", "bad_words": [""]})),
            Some("word token"),
            "400 bad_words",
        ),
        (
            completion(
                "dead token",
                json!({"prompt": "x", "allowed_token_ids": [5], "guided_regex": "[0-9]+"}),
            ),
            Some("dead token"),
            "400 guided_regex",
        ),
        (messages("control", ask("a\u{0}b\u{1}\u{fdd0}\u{2028}")), Some("control"), "200"),
        (good("last"), Some("last"), "200"),
    ];
    let lines: Vec<Vec<u8>> = cases.iter().map(|(line, ..)| line.clone()).collect();
    let input = write(&bench, "requests.jsonl", &lines);
    let results = results(&bench, &input, &[]);
    assert_eq!(results.len(), cases.len());
    for (result, (_, id, want)) in results.iter().zip(&cases) {
        assert_eq!(result["custom_id"].as_str(), *id, "{result}");
        let response = &result["response"];
        let got = match result["error"]["code"].as_str() {
            Some(code) => {
                assert!(response.is_null() && !result["error"]["message"].as_str().unwrap().is_empty());
                code.to_string()
            }
            None if response["status_code"] == 200 => "200".into(),
            None => {
                let error = &response["body"]["error"];
                assert_eq!(error["type"], "invalid_request_error");
                assert!(!error["message"].as_str().unwrap().is_empty());
                format!("{} {}", response["status_code"], error["param"].as_str().unwrap())
            }
        };
        assert_eq!(got, *want, "{result}");
    }
    let long = results.iter().find(|result| result["custom_id"] == "long").unwrap();
    assert_eq!(long["response"]["body"]["error"]["code"], "context_length_exceeded");
    let ids: std::collections::HashSet<&str> =
        results.iter().map(|result| result["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), results.len());
    // What is wrong counts as elsewhere.
    let output = bench.name("results.jsonl");
    let ran = run(&bench, &input, &output, &[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("Read why in the `error` of its result in"), "{}", ran.stderr);
    assert!(ran.stderr.contains("14 bad line") && ran.stderr.contains("1 unknown model"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("grain") && !ran.stderr.contains("human"), "{}", ran.stderr);
}

/// Requests that differ in all that a row may have of its own.
fn mixed(bench: &Bench, rows: usize) -> String {
    let requests: Vec<Value> = (0..rows)
        .map(|i| {
            let text = format!("mill {} {}", i % 50, "river ".repeat(i * 7 % 13));
            let more = match i % 6 {
                0 => json!({}),
                1 => json!({"temperature": 1.1, "top_p": 0.9, "n": 2}),
                2 => json!({"temperature": 0.8, "seed": 7, "logprobs": true, "top_logprobs": 2}),
                3 => json!({"repetition_penalty": 1.3, "max_tokens": 9}),
                4 => json!({"min_p": 0.1, "temperature": 1, "frequency_penalty": 0.5, "stop": "ab"}),
                _ if i % 4 == 1 => json!({"guided_regex": "[a-f]{2,9}", "temperature": 1, "seed": i}),
                _ => json!({"logprobs": true, "top_k": 1, "min_tokens": 4}),
            };
            match i {
                _ if i % 17 == 3 => json!({"custom_id": format!("{i}"), "method": "POST"}),
                _ if i % 19 == 4 => request(&format!("{}", i - 1), CHAT, body(&text, more)),
                _ => request(&format!("{i}"), CHAT, body(&text, more)),
            }
        })
        .collect();
    batch(bench, &requests)
}

#[test]
fn rows_that_share_a_batch_have_the_bits_they_have_alone() {
    let bench = Bench::new();
    let input = mixed(&bench, 90);
    let together = results(&bench, &input, &[]);
    let bytes = std::fs::read(bench.path("results.jsonl")).unwrap();
    let alone =
        ["--max-num-seqs", "1", "--fresh", "--enable-prompt-sharing=false", "--enable-prefix-caching=false"];
    results(&bench, &input, &alone);
    assert!(std::fs::read(bench.path("results.jsonl")).unwrap() == bytes);
    // The log-probabilities that one request asks for are not taken from another of the same prompt.
    let asks = |result: &Value| !result["response"]["body"]["choices"][0]["logprobs"].is_null();
    assert!(together.iter().any(asks) && !together.iter().all(asks));
}

#[test]
fn equal_prompts_run_once_and_equal_seeds_give_equal_answers() {
    let bench = Bench::new();
    let own = json!({"temperature": 1.5, "seed": -3});
    let mut requests: Vec<Value> =
        (0..8).map(|i| request(&format!("{i}"), CHAT, body("grain", json!({})))).collect();
    requests.push(request("logprobs", CHAT, body("grain", json!({"logprobs": true}))));
    requests.push(request("seed", CHAT, body("grain", own.clone())));
    requests.push(request("same seed", CHAT, body("grain", own)));
    requests.push(request("job's seed", CHAT, body("grain", json!({"temperature": 1.5}))));
    requests.push(request("job's again", CHAT, body("grain", json!({"temperature": 1.5}))));
    let results = results(&bench, &batch(&bench, &requests), &[]);
    for result in &results[1..8] {
        assert_eq!(answer(result), answer(&results[0]));
        assert_ne!(result["response"]["body"]["id"], results[0]["response"]["body"]["id"]);
    }
    assert_eq!(content(&results[8]), content(&results[0]));
    assert!(results[8]["response"]["body"]["choices"][0]["logprobs"]["content"].is_array());
    assert_eq!(answer(&results[9]), answer(&results[10]));
    assert_ne!(answer(&results[11]), answer(&results[12]));
    let status = bench.run(&["status", &bench.name("results.jsonl"), "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["shared"], 7);
}

#[cfg(unix)]
#[test]
fn a_killed_batch_goes_on_and_has_the_same_bytes() {
    let bench = Bench::new();
    let input = mixed(&bench, 300);
    results(&bench, &input, &[]);
    let want = std::fs::read(bench.path("results.jsonl")).unwrap();
    let (model, output) = (golden("qwen3"), bench.name("killed.jsonl"));
    let all = ["run", "--device", "cpu", "--threads", "1", "--batch", &input, "-o", &output];
    let more =
        ["--model", model.to_str().unwrap(), "--max-error-rate", "1", "--in-process", "--max-num-seqs", "4"];
    let all = [all.as_slice(), &more].concat();
    let mut command = bench.command(&all);
    command.env("GRISTMILL_FAULTS", "1:hang@250").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let finished = || {
        let status = bench.run(&["status", &output, "--json"]);
        let status: Option<Value> = serde_json::from_str(&status.stdout).ok();
        status.map_or(0, |status| status["finished"].as_u64().unwrap())
    };
    while finished() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = finished();
    assert!(done > 0 && done < 300, "{done} rows");
    let ran = bench.run(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("rows already answered"), "{}", ran.stderr);
    assert!(std::fs::read(&output).unwrap() == want);
    // An edit of a line shows.
    let mut edited = want.clone();
    let at = edited.iter().position(|&byte| byte == b'm').unwrap();
    edited[at] = b'M';
    std::fs::write(&output, edited).unwrap();
    assert_eq!(bench.run(&["verify", &output]).code, 2);
}

#[test]
fn a_batch_is_named_alone_and_by_a_job_file_too() {
    let bench = Bench::new();
    let input = batch(&bench, &[request("a", CHAT, body("grain", json!({"model": "other"})))]);
    let table = bench.table("in.parquet", vec![("q", support::job::strings(&[Some("x")]))]);
    let output = bench.name("no.jsonl");
    for (flags, why) in [
        (&["-i", &table][..], "--input does not go together with --batch"),
        (&["--prompt", "{{ q }}"], "--prompt does not go together"),
        (&["--raw"], "--raw does not go together"),
        (&["--system-prompt", "x"], "--system-prompt does not go together"),
        (&["--choices", "x,y"], "--choices does not go together"),
        (&["--regex", "x"], "--regex does not go together"),
        (&["--return", "generated_tokens"], "--return does not go together"),
        (&["--keep", "q"], "--keep does not go together"),
        (&["--on-corrupt", "row-errors"], "--on-corrupt does not go together"),
        (&["--logprobs", "2"], "--logprobs has no effect"),
        (&["--temperature", "-1"], "--temperature is -1"),
    ] {
        let ran = run(&bench, &input, &output, flags);
        assert_eq!(ran.code, 2, "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{flags:?}: {}", ran.stderr);
    }
    let ran = run(&bench, &input, &bench.name("no.parquet"), &[]);
    assert!(ran.code == 2 && ran.stderr.contains("name the output .jsonl"), "{}", ran.stderr);
    let packed = run(&bench, "requests.jsonl.gz", &output, &[]);
    assert!(packed.code == 2 && packed.stderr.contains("unpack it"), "{}", packed.stderr);
    let served = ["run", "-i", &table, "-o", "no.parquet", "--served-model-name", "x"];
    assert!(bench.run(&served).stderr.contains("--served-model-name has no effect without --batch"));
    assert!(!bench.path("no.jsonl").exists());
    let job = format!(
        "model = {:?}\nbatch = \"requests.jsonl\"\noutput = \"out.jsonl\"\ndevice = \"cpu\"\nserved-model-name = [\"mine\", \"other\"]\n",
        golden("qwen3")
    );
    std::fs::create_dir(bench.path("jobs")).unwrap();
    std::fs::write(bench.path("job.toml"), job).unwrap();
    let ran = bench.run(&["run", "job.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let results = read(&bench, "out.jsonl");
    assert_eq!(results[0]["response"]["body"]["model"], "mine");
    let shown = bench.run(&["show", "job.toml", "--row", "0", "--answer"]);
    assert!(
        shown.stdout.contains("grain") && shown.stdout.contains("answer ("),
        "{}{}",
        shown.stdout,
        shown.stderr
    );
    // Another name is another job: results would have it.
    let other = bench.run(&["run", "job.toml", "--served-model-name", "x"]);
    assert!(other.code == 2 && other.stderr.contains("served_model_names"), "{}", other.stderr);
    // None at all.
    std::fs::write(bench.path("none.jsonl"), "\n\n").unwrap();
    let ran = run(&bench, "none.jsonl", "empty.jsonl", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        (std::fs::read(bench.path("empty.jsonl")).unwrap().len(), bench.run(&["verify", "empty.jsonl"]).code),
        (0, 0)
    );
}

#[test]
fn a_response_format_is_kept_and_what_cannot_be_is_refused() {
    let bench = Bench::new();
    let schema = json!({"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
        "required": ["mood", "sure"], "additionalProperties": false});
    let format = |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}});
    let chat = |id: &str, more: Value| request(id, CHAT, body("grain", more));
    let long = json!({"max_tokens": 60, "response_format": format(&schema)});
    let hot = json!({"max_tokens": 60, "temperature": 1.5, "n": 3, "logprobs": true, "response_format": format(&schema)});
    let requests = [
        chat("schema", long.clone()),
        chat("hot", hot),
        chat("choice", json!({"structured_outputs": {"choice": ["mill", "river"]}})),
        chat("regex", json!({"guided_regex": "[A-C]-[0-9]{2}", "max_tokens": 20})),
        chat("text", json!({"response_format": {"type": "text"}})),
        chat("again", long),
        chat("cut", json!({"max_tokens": 2, "response_format": format(&schema)})),
        request(
            "end",
            COMPLETIONS,
            json!({"prompt": "x", "guided_choice": ["mill"], "stop_token_ids": [7], "temperature": 0}),
        ),
        chat("two", json!({"guided_regex": "a", "guided_choice": ["b"]})),
        chat("kind", json!({"response_format": {"type": "xml"}})),
        chat(
            "bad",
            json!({"response_format": format(&json!({"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}))}),
        ),
        chat("broken", json!({"guided_regex": "("})),
        chat("stop", json!({"guided_regex": "a", "stop": "b"})),
        chat("endless", json!({"guided_regex": "a", "ignore_eos": true})),
    ];
    let first = results(&bench, &batch(&bench, &requests), &[]);
    for choice in [0, 1].iter().flat_map(|&row| first[row]["response"]["body"]["choices"].as_array().unwrap())
    {
        let text: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
        let keys: Vec<&String> = text.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 2);
        assert!(["good", "bad"].contains(&text["mood"].as_str().unwrap()) && text["sure"].is_boolean());
        assert_eq!(choice["finish_reason"], "stop");
    }
    assert!(["mill", "river"].contains(&content(&first[2])));
    let code = content(&first[3]).as_bytes();
    assert!(code.len() == 4 && (b'A'..=b'C').contains(&code[0]) && code[2..].iter().all(u8::is_ascii_digit));
    assert_eq!(answer(&first[5]), answer(&first[0]));
    let cut = &first[6]["response"];
    assert_eq!(
        (&cut["status_code"], &cut["body"]["choices"][0]["finish_reason"]),
        (&json!(200), &json!("length"))
    );
    for (row, param) in [
        (7, "guided_choice"),
        (8, "guided_regex"),
        (9, "response_format"),
        (10, "response_format"),
        (11, "guided_regex"),
        (12, "guided_regex"),
        (13, "guided_regex"),
    ] {
        let response = &first[row]["response"];
        assert_eq!(
            (&response["status_code"], &response["body"]["error"]["param"]),
            (&json!(400), &json!(param)),
            "{response}"
        );
    }
    let status = bench.run(&["status", &bench.name("results.jsonl"), "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(
        (&status["shared"], &status["errors"]),
        (&json!(1), &json!({"bad request": 7, "incomplete": 1}))
    );
    // What flags say of other answers' ends does not end one that has a structure.
    let mixed = [chat("free", json!({"max_tokens": 40})), requests[3].clone(), requests[7].clone()];
    let flags = ["--fresh", "--ignore-eos", "--stop", "a", "--stop-token-ids", "9"];
    let mixed = results(&bench, &batch(&bench, &mixed), &flags);
    assert_eq!(answer(&mixed[1])["choices"], answer(&first[3])["choices"]);
    assert_eq!(mixed[2]["response"]["body"]["error"]["param"], "guided_choice");
    let template = "{{ messages[0].content }}{{ tag }}";
    let with = |tag: &str| json!({"guided_regex": "ab?", "chat_template_kwargs": {"tag": tag}});
    let thinking = [chat("opened", with("<think>\n")), chat("closed", with("<think></think>"))];
    let lines: Vec<Vec<u8>> = thinking.iter().map(line).collect();
    let input = write(&bench, "thinks.jsonl", &lines);
    let output = bench.name("thinks.out.jsonl");
    let ran = run(&bench, &input, &output, &["--chat-template", template, "--max-error-rate", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let thinking = read(&bench, "thinks.out.jsonl");
    let error = &thinking[0]["response"]["body"]["error"]["message"];
    assert!(error.as_str().unwrap().contains("opens <think>"), "{error}");
    assert!(content(&thinking[1]).starts_with('a'));
}

/// A request's text is never markup, whatever field it comes in.
#[test]
fn markers_in_requests_are_text() {
    let bench = Bench::new();
    let template =
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}{{ extra }}";
    let with = |extra: &str| json!({"chat_template_kwargs": {"extra": extra}});
    let requests = [
        request("plain", CHAT, body("a b", with("c"))),
        request("content", CHAT, body("a<|im_end|>b", with("c"))),
        request("names", CHAT, body("a b", with("<|im_end|>"))),
        request("own", CHAT, body("a b", json!({"chat_template_kwargs": {"messages": []}}))),
    ];
    let input = batch(&bench, &requests);
    let model = golden("qwen3");
    let tokens = |row: &str| {
        let all =
            ["show", "--batch", &input, "--model", model.to_str().unwrap(), "--chat-template", template];
        let ran = bench.run(&[all.as_slice(), &["-o", "x.jsonl", "--row", row, "--json"]].concat());
        let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
        shown
    };
    let marks = |row: &str| {
        let shown = tokens(row);
        let pieces = shown["pieces"].as_array().unwrap();
        pieces.iter().filter(|piece| *piece == "<|im_end|>").count()
    };
    assert_eq!(["0", "1", "2"].map(marks), [1, 1, 1]);
    assert!(
        tokens("3")["error"]
            .as_str()
            .unwrap()
            .contains("`chat_template_kwargs`: messages is not for a request")
    );
}
