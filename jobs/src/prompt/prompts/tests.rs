#![allow(clippy::unwrap_used)]
use super::*;
use crate::input::tests::write_parquet;
use crate::prompt::tokenizer::tests::byte_level;
use arrow::array::*;
use arrow::datatypes::{DataType, Field};

const CHAT: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>a{% endif %}";

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn prompts(options: &PromptOptions, table: &RecordBatch, chat: Option<&str>) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.parquet");
    write_parquet(&path, table, 100);
    let input = Input::open(&[path.to_str().unwrap().into()]).unwrap();
    let tokenizer = Arc::new(byte_level());
    let prompts = Prompts::new(options, &input, tokenizer.clone(), chat.map(String::from), 64, 270, 0);
    let prompts = prompts.map_err(|e| e.to_string())?;
    let batch = input.read(prompts.columns().to_vec(), 0..100).next().unwrap().unwrap().columns;
    let rows: Vec<usize> = (0..batch.num_rows()).collect();
    let shown = prompts.of_rows(&batch, &rows, 3).into_iter().map(|prompt| match prompt {
        Ok(ids) => tokenizer.decode(&ids, false).unwrap(),
        Err(error) => format!("! {error}"),
    });
    Ok(shown.collect())
}

#[test]
fn a_prompt_template_sees_the_columns_it_names() {
    let table = table(vec![
        ("q", strings(&[Some("ä"), None, Some("<|im_end|> hello")])),
        ("unused", Arc::new(BinaryArray::from(vec![&b""[..]; 3]))),
        ("n", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ]);
    let options = PromptOptions { prompt: Some("{{ q }}/{{ n }}".into()), ..PromptOptions::default() };
    let plain = prompts(&options, &table, None).unwrap();
    assert_eq!(plain[0], "ä/1");
    assert!(
        plain[1].starts_with("! template error: --prompt: column `q` is null in this row"),
        "{}",
        plain[1]
    );
    assert_eq!(plain[2], "<|im_end|> hello/3");
    let chat = prompts(&options, &table, Some(CHAT)).unwrap();
    assert_eq!(chat[2], "<|im_start|>user\n<|im_end|> hello/3<|im_end|><|im_start|>a");
    let missing = PromptOptions { prompt: Some("{{ quest }}".into()), ..PromptOptions::default() };
    let error = prompts(&missing, &table, None).unwrap_err();
    assert_eq!(
        error,
        "--prompt: the input has no column `quest` (line 1), and the template does not set it; it has `q`, `unused`, \
         `n`"
    );
}

#[test]
fn bad_rows_are_errors_of_their_own() {
    let long = "x y ".repeat(100);
    let longer = "x y ".repeat(1000);
    let table = table(vec![("text", strings(&[None, Some(&long), Some(&longer), Some(""), Some("hello")]))]);
    let options = PromptOptions { prompt_column: Some("text".into()), ..PromptOptions::default() };
    let shown = prompts(&options, &table, None).unwrap();
    assert_eq!(shown[0], "! null prompt: the prompt column is null in this row");
    assert!(shown[1].starts_with("! prompt too long: 400 tokens; the context has 64"), "{}", shown[1]);
    assert!(shown[2].starts_with("! prompt too long: 4000 bytes"), "{}", shown[2]);
    assert!(shown[3].starts_with("! empty prompt"), "{}", shown[3]);
    assert_eq!(shown[4], "hello");
    let refuse = "{{ raise_exception('no') if messages[0].content == 'hello' }}x";
    let shown = prompts(&options, &table, Some(refuse)).unwrap();
    assert_eq!(shown[4], "! template error: the model's chat template: invalid operation: no (line 1)");
    assert_eq!(shown[3], "x");
}

fn messages(rows: &[&[(&str, Option<&str>)]]) -> ArrayRef {
    let fields = vec![
        Field::new("content", arrow::datatypes::DataType::Utf8, true),
        Field::new("role", arrow::datatypes::DataType::Utf8, true),
    ];
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields, 0));
    for row in rows {
        for (role, content) in *row {
            let message = list.values();
            message.field_builder::<StringBuilder>(0).unwrap().append_option(*content);
            message.field_builder::<StringBuilder>(1).unwrap().append_value(role);
            message.append(true);
        }
        list.append(true);
    }
    list.append_null();
    Arc::new(list.finish())
}

#[test]
fn conversations_go_through_the_chat_template() {
    let list = messages(&[
        &[("user", Some("hi <|im_start|>")), ("assistant", Some("yo"))],
        &[("system", Some("be")), ("user", Some("x"))],
        &[],
        &[("user", None)],
        &[("<|im_end|>", Some("x"))],
    ]);
    let table = table(vec![("messages", list)]);
    let options = PromptOptions { system_prompt: Some("S".into()), ..PromptOptions::default() };
    let shown = prompts(&options, &table, Some(CHAT)).unwrap();
    assert_eq!(
        shown[0],
        "<|im_start|>system\nS<|im_end|><|im_start|>user\nhi <|im_start|><|im_end|><|im_start|>assistant\nyo<|im_end|>\
         <|im_start|>a"
    );
    assert_eq!(shown[1], "<|im_start|>system\nbe<|im_end|><|im_start|>user\nx<|im_end|><|im_start|>a");
    assert_eq!(shown[2], "! bad messages: the list is empty");
    assert_eq!(shown[3], "! bad messages: message 0: it has no content");
    assert!(shown[4].starts_with("! bad messages: message 0: its role is"), "{}", shown[4]);
    assert!(shown[5].starts_with("! null prompt"), "{}", shown[5]);
    assert!(prompts(&options, &table, None).unwrap_err().contains("--messages-column needs a chat template"));
}

#[test]
fn token_ids_are_checked() {
    let mut list = ListBuilder::new(Int64Builder::new());
    for ids in [&[72i64, 73][..], &[-1], &[270], &[]] {
        list.append_value(ids.iter().map(|&id| Some(id)));
    }
    list.append_value([None]);
    let table = table(vec![("ids", Arc::new(list.finish()))]);
    let options = PromptOptions { prompt_tokens_column: Some("ids".into()), ..PromptOptions::default() };
    let shown = prompts(&options, &table, Some(CHAT)).unwrap();
    assert_eq!(shown[0], "HI");
    for (row, text) in
        [(1, "item 0 is -1"), (2, "tokens are 0 to 269"), (3, "empty prompt"), (4, "item 0 is None")]
    {
        assert!(shown[row].contains(text), "{}", shown[row]);
    }
    let both = PromptOptions { prompt: Some("x".into()), ..options.clone() };
    assert!(prompts(&both, &table, None).unwrap_err().contains("both say what the prompt is"));
    let system = PromptOptions { system_prompt: Some("x".into()), ..options };
    assert!(prompts(&system, &table, None).unwrap_err().contains("does not go together"));
}

fn refused(source: &str, table: &RecordBatch) -> String {
    let options = PromptOptions { prompt: Some(source.into()), ..PromptOptions::default() };
    match prompts(&options, table, None) {
        Err(why) => why,
        Ok(shown) => panic!("{source}: {shown:?}"),
    }
}

fn first(source: &str, table: &RecordBatch) -> String {
    let options = PromptOptions { prompt: Some(source.into()), ..PromptOptions::default() };
    prompts(&options, table, None).unwrap_or_else(|why| panic!("{source}: {why}"))[0].clone()
}

const ODD: [&str; 21] = [
    "range",
    "dict",
    "my col",
    "a.b",
    "class",
    "loop",
    "self",
    "in",
    "namespace",
    "debug",
    "Größe",
    "true",
    "not",
    "1st",
    "none",
    "strftime_now",
    "super",
    "caller",
    "joiner",
    "it's",
    "q",
];

/// A table whose columns have odd names, with their names as values.
fn odd() -> RecordBatch {
    table(ODD.iter().map(|&name| (name, strings(&[Some(&format!("<{name}>"))]))).collect())
}

#[test]
fn a_column_wins_over_what_the_engine_calls_so() {
    let odd = odd();
    for name in [
        "range",
        "dict",
        "class",
        "loop",
        "self",
        "in",
        "namespace",
        "debug",
        "Größe",
        "strftime_now",
        "super",
    ] {
        assert_eq!(first(&format!("{{{{ {name} }}}}"), &odd), format!("<{name}>"));
    }
    for name in ODD {
        let quoted = name.replace('\'', "\\'");
        assert_eq!(first(&format!("{{{{ row['{quoted}'] }}}}"), &odd), format!("<{name}>"));
    }
    assert_eq!(first("{{ row.range }}{% set k = 'my ' ~ 'col' %}{{ row[k] }}", &odd), "<range><my col>");
    assert_eq!(first("{{ row | length }}{{ row.items() | list | length }}", &odd), "2121");
}

#[test]
fn a_name_that_may_be_mistaken_is_refused() {
    let odd = odd();
    for (source, why) in [
        (
            "{{ true }}",
            "`true` (line 1) is a literal and also a column of the input; read the column as row['true']",
        ),
        ("{{ q }}{{ none }}", "`none` (line 1) is a literal"),
        ("{{ not }}", "The column `not` is read as row['not']"),
        ("{{ my col }}", "The column `my col` is read as row['my col']"),
        ("{{ 1st }}", "The column `1st` is read as row['1st']"),
        ("{{ a.b }}", "no column `a` (line 1)"),
        ("{{ row['my colum'] }}", "no column `my colum` (line 1)"),
        ("{{ q }}\n{{ p is defined }}", "no column `p` (line 2)"),
        ("{{ q }}{{ p | default('x') }}", "no column `p`"),
        ("{{ q }}{% for i in range(3) %}{% endfor %}", "`range` is called (line 1), but it is a column"),
        (
            "{% for i in q %}{{ loop.index }}{% endfor %}",
            "`loop` (line 1) is a variable of the template and also a column",
        ),
        (
            "{% for q in [1] %}{{ q }}{% endfor %}",
            "`q` (line 1) is a variable of the template and also a column",
        ),
        ("{% macro m(q) %}{{ q }}{% endmacro %}{{ m(1) }}", "`q` (line 1) is a variable"),
        ("{% set q = 1 %}{{ q }}", "read the column as row['q']"),
        ("{{ q }}{{ shout(q) }}", "there is no function `shout` (line 1)"),
        ("{{ q }}{{ self.block() }}", "`self` is called"),
    ] {
        let error = refused(source, &odd);
        assert!(error.starts_with("--prompt: ") && error.contains(why), "{source}: {error}");
    }
    assert!(refused("{{ a.b }}", &odd).contains("is read as row['a.b']"), "odd names have a hint");
    assert!(refused("{{ zebra }}", &odd).contains("is read as row['my col']"));
    assert_eq!(first("{% set q = q[:2] %}{{ q }}{% with q = q | upper %}{{ q }}{% endwith %}", &odd), "<q<Q");
    assert_eq!(first("{% for q in q %}{{ q }}{% endfor %}", &odd), "<q>");
    assert_eq!(first("{% for q in [1] %}{{ row['q'] }}{% endfor %}", &odd), "<q>");
    let plain = table(vec![("q", strings(&[Some("x")]))]);
    assert!(refused("{{ q }}{{ range }}", &plain).contains("`range` (line 1) is a function and no column"));
    assert_eq!(first("{{ q }}{% for i in range(2) %}{{ loop.index }}{% endfor %}", &plain), "x12");
    let row = table(vec![("row", strings(&[Some("the row")])), ("q", strings(&[Some("x")]))]);
    assert_eq!(first("{{ row }}{{ q }}", &row), "the rowx");
    let mark = table(vec![(MARK, strings(&[Some("x")]))]);
    assert!(refused("{{ __mark__ }}", &mark).contains("rename it"));
}

#[test]
fn a_prompt_without_a_column_is_refused() {
    let table =
        table(vec![("body", strings(&[Some("x"), Some("y")])), ("n", strings(&[Some("1"), Some("2")]))]);
    let error = refused("Summarise: {body}", &table);
    assert!(
        error.contains("{body} is plain text: write {{ body }}, or give --allow-constant-prompt"),
        "{error}"
    );
    let error = refused("{% set x = 1 %}{{ x }}", &table);
    assert!(
        error.contains("uses no column") && error.contains("{{ body }} (the input has `body`, `n`)"),
        "{error}"
    );
    let options = PromptOptions {
        prompt: Some("hello".into()),
        allow_constant_prompt: true,
        ..PromptOptions::default()
    };
    assert_eq!(prompts(&options, &table, None).unwrap(), ["hello", "hello"]);
}

#[test]
fn a_template_that_no_row_can_render_is_refused() {
    let rows = table(vec![("q", strings(&[None, Some("abc"), Some("secret")]))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.parquet");
    write_parquet(&path, &rows, 2);
    let input = Input::open(&[path.to_str().unwrap().into()]).unwrap();
    let check = |prompt: &str, chat: Option<&str>, rows| {
        let options = PromptOptions { prompt: Some(prompt.into()), ..PromptOptions::default() };
        let tokenizer = Arc::new(byte_level());
        let prompts = Prompts::new(&options, &input, tokenizer, chat.map(String::from), 64, 270, 0).unwrap();
        prompts.check_rows(&input, rows).map_err(|error| error.to_string())
    };
    assert_eq!(check("{{ q }}", None, 3), Ok(()));
    assert_eq!(check("{{ raise_exception('no') if q != 'secret' }}{{ q }}", None, 3), Ok(()));
    let no = "{{ q }}{{ raise_exception('no') if q != 'secret' }}";
    assert_eq!(
        check(no, None, 2).unwrap_err(),
        "--prompt: no row can be rendered (2 tried); row 1: invalid operation: no (line 1)",
        "a row that is null says less than any other"
    );
    for (source, why) in [
        (
            "{{ raise_exception('always ' ~ 'no') }}{{ q }}",
            "row 0: invalid operation in line 1; its text may quote",
        ),
        ("{{ raise_exception('always') }}{{ q }}", "row 0: invalid operation: always (line 1)"),
        (
            "{{ (q or 'x') % 1 }}",
            "row 0: invalid operation: tried to use % operator on unsupported types string and number (line 1); `%` formats",
        ),
        ("{{ raise_exception(q or '') }}", "row 0: invalid operation"),
        (
            "{% for x in (q or '') | length %}{{ x }}{% endfor %}",
            "row 0: invalid operation: number is not iterable (line 1) in {% for x in (q or '') | length %}",
        ),
        (
            "{{ q.gone.more or 1 }}",
            "row 1: undefined value (line 1) in {{ q.gone.more or 1 }}; say what to write instead",
        ),
    ] {
        let error = check(source, None, 3).unwrap_err();
        assert!(
            error.contains("(3 tried)") && error.contains(why) && !error.contains("secret"),
            "{source}: {error}"
        );
    }
    let chat = check("{{ q or 'x' }}", Some("{{ raise_exception('No system role') }}"), 3).unwrap_err();
    assert_eq!(
        chat,
        "the model's chat template: no row can be rendered (3 tried); row 0: invalid operation: No system role (line 1)"
    );
}

#[test]
fn a_null_field_of_a_message_is_an_absent_key() {
    let utf8 = |name: &str| Field::new(name, arrow::datatypes::DataType::Utf8, true);
    let role: ArrayRef = strings(&[Some("user"), Some("assistant")]);
    let content: ArrayRef = strings(&[Some("hi"), Some("yo")]);
    let name: ArrayRef = strings(&[None, Some("Ann")]);
    let inner =
        StructArray::from(vec![(Arc::new(utf8("a")), name.clone()), (Arc::new(utf8("b")), content.clone())]);
    let meta = Field::new("meta", inner.data_type().clone(), true);
    let message = StructArray::from(vec![
        (Arc::new(utf8("role")), role),
        (Arc::new(utf8("content")), content),
        (Arc::new(utf8("name")), name),
        (Arc::new(meta), Arc::new(inner) as ArrayRef),
    ]);
    let item = Arc::new(Field::new("item", message.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
    let list: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::new(message), None));
    let table = table(vec![("messages", list)]);
    let chat =
        "{% for m in messages %}{{ 'name' in m }}{{ m.name is defined }}{{ m.meta | tojson }}{% endfor %}";
    let shown = prompts(&PromptOptions::default(), &table, Some(chat)).unwrap();
    assert_eq!(shown[0], r#"FalseFalse{"b": "hi"}TrueTrue{"a": "Ann", "b": "yo"}"#);
}

#[test]
fn columns_that_no_template_can_have_are_refused_at_the_start() {
    let blobs: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"x"[..]), None]));
    let bytes = Arc::new(Field::new("bytes", DataType::Binary, true));
    let path = Arc::new(Field::new("path", DataType::Utf8, true));
    let image: ArrayRef = Arc::new(StructArray::from(vec![
        (bytes, blobs.clone()),
        (path, strings(&[Some("a.png"), Some("b.png")])),
    ]));
    let both = table(vec![("text", strings(&[Some("a"), Some("b")])), ("bin", blobs), ("image", image)]);
    let of = |prompt: &str| {
        let options = PromptOptions { prompt: Some(prompt.into()), ..PromptOptions::default() };
        prompts(&options, &both, None)
    };
    for prompt in ["{{ bin }}", "{{ row['bin'] }}", "{{ text }}{{ 'x' if bin is none }}"] {
        let error = of(prompt).unwrap_err();
        assert!(error.contains("column `bin` (line 1): a template cannot use Binary; cast it"), "{error}");
    }
    let column = PromptOptions { prompt_column: Some("bin".into()), ..PromptOptions::default() };
    let error = prompts(&column, &both, None).unwrap_err();
    assert!(error.contains("--prompt-column bin: the column is Binary"), "{error}");
    assert_eq!(of("{{ image.path }}").unwrap(), ["a.png", "b.png"], "what can be had of a struct is read");
    assert_eq!(of("{% set key = 'text' %}{{ row[key] }}").unwrap(), ["a", "b"], "and of a row");
    assert!(of("{{ text }}{{ image.bytes }}").unwrap()[0].contains("a template cannot use Binary"));
}

#[test]
fn advice_is_of_the_column_that_is_meant() {
    let columns = table(vec![
        ("my col", strings(&[Some("a")])),
        ("row", strings(&[Some("b")])),
        ("", strings(&[Some("c")])),
    ]);
    let error = |prompt: &str| {
        let options = PromptOptions { prompt: Some(prompt.into()), ..PromptOptions::default() };
        prompts(&options, &columns, None).unwrap_err()
    };
    let hint = error("hello");
    assert!(hint.contains("name one as in {{ row['my col'] }}"), "{hint}");
    let hint = error("Ask: {my col} {}");
    assert!(hint.contains("{my col} is plain text: write {{ row['my col'] }}"), "{hint}");
    let hint = error("{{ row['my col'] }}");
    assert!(hint.contains("the input has a column `row`, so that row['my col'] (line 1)"), "{hint}");
    let hint = error("{{ x");
    assert!(!hint.contains("The column"), "{hint}");
    let both = table(vec![("prompt", strings(&[Some("a")])), ("messages", strings(&[Some("[]")]))]);
    let error = prompts(&PromptOptions::default(), &both, Some(CHAT)).unwrap_err();
    assert!(error.contains("--prompt-column prompt or --messages-column messages"), "{error}");
}

#[test]
fn what_is_undefined_is_shown_and_a_null_is_blamed_only_for_what_it_does() {
    let columns = table(vec![("q", strings(&[None, Some("x")])), ("t", strings(&[Some("a"), Some("b")]))]);
    let of = |prompt: &str| {
        let options = PromptOptions { prompt: Some(prompt.into()), ..PromptOptions::default() };
        prompts(&options, &columns, None).unwrap()
    };
    let shown = of("a\n{{ t.gone }}");
    assert!(
        shown[0].contains("undefined value (line 2) in {{ t.gone }}; say what to write instead"),
        "{}",
        shown[0]
    );
    let shown = of("{{ (q or 'y') ~ raise_exception('no') }}");
    assert_eq!(shown[0], "! template error: --prompt: invalid operation: no (line 1)");
    let shown = of("{{ q.upper() }}");
    assert!(shown[0].contains("column `q` is null in this row"), "{}", shown[0]);
}
