#![allow(clippy::unwrap_used)]
use super::*;
use crate::cli::args::RunArgs;
use crate::options::job::ReturnColumn;

fn run(arguments: &[&str]) -> Result<RunArgs, String> {
    let arguments = ["gristmill", "run"].iter().chain(arguments).map(OsString::from);
    match parse(arguments).map_err(|e| e.to_string())?.command {
        Command::Run(run) => Ok(*run),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_go_over_the_job_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    let job = r#"
        model = "m"
        input = ["a.parquet", "b.parquet"]
        output = "out.parquet"
        prompt = "--{{ q }}\n"
        max_tokens = 5
        top-k = -1
        stop = ["\n", ","]
        stop-token-ids = [1, 2]
        raw = true
        ignore-eos = false
        skip_special_tokens = false
        max-model-len = "32K"
        logit-bias = { 5 = -1.5, 6 = 2 }
        return = ["logprobs", "token_logprobs"]
        chat-template-kwargs = { enable_thinking = false }
    "#;
    std::fs::write(&path, job).unwrap();
    let path = path.to_str().unwrap();
    let r = run(&["--max-tokens", "7", path, "--stop", "x", "--input=c.parquet"]).unwrap();
    assert_eq!((r.sampling.max_tokens, r.sampling.top_k), (Some(7), Some(-1)));
    assert_eq!(
        (r.sampling.stop.as_slice(), r.input.as_slice()),
        (&["x".into()][..], &["c.parquet".into()][..])
    );
    assert_eq!(r.sampling.stop_token_ids, [1, 2]);
    assert_eq!(r.prompt.prompt.as_deref(), Some("--{{ q }}\n"));
    assert_eq!((r.prompt.raw, r.sampling.ignore_eos), (true, false));
    assert_eq!(r.sampling.skip_special_tokens, Some(false));
    assert_eq!(r.engine.max_model_len, Some(32_768));
    assert_eq!(r.sampling.logit_bias, Some([(5, -1.5), (6, 2.0)].into()));
    assert_eq!(r.returns, [ReturnColumn::Logprobs, ReturnColumn::TokenLogprobs]);
    assert_eq!(r.prompt.chat_template_kwargs.unwrap()["enable_thinking"], false.into());
    let plain = run(&[path]).unwrap();
    assert_eq!((plain.sampling.stop, plain.input.len()), (vec!["\n".to_string(), ",".into()], 2));
}

#[test]
fn wrong_job_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    for (job, message) in [
        ("temprature = 1", "job.toml: unknown key `temprature`; did you mean `temperature`?"),
        ("max_new_token = 1", "did you mean `max-new-tokens`?"),
        ("temperature = 'hot'", "invalid value 'hot' for '--temperature"),
        ("raw = 1", "`raw` is either true or false"),
        ("help = true", "unknown key `help`"),
        ("[model", "job.toml: TOML parse error"),
        ("return = 'words'", "invalid value 'words'"),
        // The last of them would count, and the others would be lost.
        ("max-tokens = [1, 2]", "`max-tokens` takes one value, and not a list of 2"),
        ("price-per-hour = []", "`price-per-hour` takes one value, and not a list of 0"),
        // As text of JSON they would be cut at its commas.
        (
            "choices = { mood = ['good', 'bad'] }",
            "`choices` takes text, and no table; a table of choices is `columns`",
        ),
        ("[prompt]\nuser = 'hi'", "`prompt` takes text, and no table"),
        ("stop = [{ a = 1 }]", "`stop` takes text, and no table"),
        ("compare-price = [0.1]", "\"0.1\" is not two prices such as 0.15,0.60"),
    ] {
        std::fs::write(&path, job).unwrap();
        let error = run(&[path.to_str().unwrap()]).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    assert!(run(&["/nowhere/job.toml"]).unwrap_err().contains("/nowhere/job.toml"));
}

#[test]
fn two_prices_are_a_text_or_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    for prices in ["'0.1, 2'", "[0.1, 2]", "['0.1', '2']"] {
        std::fs::write(&path, format!("compare-price = {prices}")).unwrap();
        let prices = run(&[path.to_str().unwrap()]).unwrap().prices.compare_price.unwrap();
        assert_eq!((prices.input, prices.output), (0.1, 2.0));
    }
}

#[test]
fn the_field_s_names_are_known() {
    let r = run(&["--max-new-tokens=3", "--prompt-template", "x", "--enable-prefix-caching=false"]).unwrap();
    assert_eq!((r.sampling.max_tokens, r.prompt.prompt.as_deref()), (Some(3), Some("x")));
    assert_eq!(r.engine.enable_prefix_caching, Some(false));
    let r = run(&["--top-k", "-1", "--presence-penalty", "-0.5", "--logit-bias", "5:-1.5,6:2"]).unwrap();
    assert_eq!(r.sampling.logit_bias, Some([(5, -1.5), (6, 2.0)].into()));
}

#[test]
fn a_job_is_taken_over_as_it_was_begun_and_in_a_store_only() {
    let refused = |more: &[&str]| {
        let all = [&["--model", "m", "--prompt", "{{ q }}", "-i", "a.parquet", "--take-over"][..], more];
        run(&all.concat()).unwrap().job_options().unwrap_err().to_string()
    };
    let store = |more: &[&'static str]| refused(&[&["-o", "s3://b/out"][..], more].concat());
    assert!(refused(&["-o", "out.parquet"]).contains("for outputs in an object store"));
    assert!(store(&["--shard", "1/2", "--rows-per-file", "9"]).contains("a shard needs no --take-over"));
    assert!(store(&["--fresh"]).contains("--fresh discards it"));
    assert!(store(&["--resume", "never"]).contains("--resume never refuses to"));
    assert!(store(&["--retry", "errors"]).contains("give --retry when it is published"));
}

#[test]
fn a_value_apart_from_a_flag_that_is_true_or_false_is_no_job_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    std::fs::write(&path, "max-tokens = 3").unwrap();
    let path = path.to_str().unwrap();
    for (flag, value, instead) in [
        ("enable-prefix-caching", "false", "write --enable-prefix-caching=false"),
        ("enable-prefix-caching", "True", "write --enable-prefix-caching=true"),
        ("enable-prompt-sharing", "no", "write --enable-prompt-sharing=false"),
        ("skip-special-tokens", "off", "write --skip-special-tokens=false"),
        ("ignore-eos", "true", "write --ignore-eos alone"),
        ("ignore-eos", "false", "leave --ignore-eos out"),
        ("fresh", "false", "leave --fresh out"),
    ] {
        let flag = format!("--{flag}");
        for more in [&[][..], &[path], &["--max-tokens", "3"]] {
            let error = run(&[more, &[&flag, value]].concat()).unwrap_err();
            assert!(error.contains(&format!("{flag} {value}: ")) && error.contains(instead), "{error}");
        }
    }
    for (flag, instead) in [
        ("--no-enable-prefix-caching", "write --enable-prefix-caching=false"),
        ("--no-ignore-eos", "leave --ignore-eos out"),
    ] {
        let error = run(&[path, flag]).unwrap_err();
        assert!(error.contains(flag) && error.contains(instead), "{error}");
    }
    let bench = ["gristmill", "bench", "throughput", "--enable-prefix-caching", "false"];
    let error = parse(bench.map(OsString::from)).unwrap_err().to_string();
    assert!(error.contains("--enable-prefix-caching=false") && error.contains("bench throughput"), "{error}");
    // A job file and a value that stand where they belong.
    let r = run(&["--enable-prefix-caching", path, "--stop", "true", "--stop", "false"]).unwrap();
    assert_eq!((r.engine.enable_prefix_caching, r.sampling.stop.len()), (Some(true), 2));
}
