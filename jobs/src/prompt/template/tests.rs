#![allow(clippy::unwrap_used)]
use super::*;
use minijinja::context;

fn render(source: &str, context: Value) -> Result<String, String> {
    Template::new("--prompt", source, 0).unwrap().render(context, 0)
}

#[test]
fn renders_as_python_does() {
    let row = context! { text => "  Straße <b> ", n => 3, x => 2.0, none => (), yes => true, list => [1, 2] };
    for (source, expected) in [
        ("{{ text.strip().upper() }}", "STRASSE <B>"),
        ("{{ none }} {{ yes }} {{ x }} {{ list }} {{ missing }}", "None True 2.0 [1, 2] "),
        ("{% for i in list %}\n  {{ i }}\n{% endfor %}\n", "  1\n  2\n"),
        ("{% if yes %}\n    {% set z = 1 %}\na\n{% endif %}", "a\n"),
        ("a{% generation %}b{%- endgeneration -%} c", "abc"),
        ("{{ 'a {%} b' }}{%- generation %}c", "a {%} bc"),
        ("{{ {'b': '<ä>', 'a': [1, none]} | tojson }}", r#"{"b": "<ä>", "a": [1, null]}"#),
        (
            "{{ {'b': 'ä😀', 'a': {}} | tojson(ensure_ascii=true) }}",
            r#"{"b": "\u00e4\ud83d\ude00", "a": {}}"#,
        ),
        ("{{ {'b': [1, []]} | tojson(indent=2) }}", "{\n  \"b\": [\n    1,\n    []\n  ]\n}"),
        ("{{ [1] | tojson(indent=20) }}", "[\n                    1\n]"),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        (
            "{% set ns = namespace(n=0) %}{% for i in list %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        (
            "{% for i in list %}{% if loop.first %}{% continue %}{% endif %}{{ i }}{% break %}{% endfor %}",
            "2",
        ),
    ] {
        assert_eq!(render(source, row.clone()).unwrap(), expected, "{source}");
    }
}

#[test]
fn a_template_can_refuse_a_row() {
    let error = render("\n{{ raise_exception('no system role') }}", context! {}).unwrap_err();
    assert_eq!(error, "--prompt: invalid operation: no system role (line 2)");
}

#[test]
fn bounds_hold() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{% set ns = namespace(s='x' * 1000) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ range(1000000000) | list | length }}",
        "{{ range(9999) | list | tojson(indent='x' * 1000000) }}",
        "{{ [1] | tojson(indent=1001) }}",
        "{{ range(9999) | list | tojson(separators=['x' * 1000000, ':']) }}",
    ] {
        let error = render(source, context! {}).unwrap_err();
        assert!(error.starts_with("--prompt: "), "{source}: {error}");
    }
    for source in [
        "{% if a %}".repeat(5500) + &"{% endif %}".repeat(5500),
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        "{% include 'secret' %}{{".to_string(),
    ] {
        let error = Template::new("--prompt", &source, 0).unwrap_err().to_string();
        assert!(error.starts_with("--prompt: "), "{error}");
    }
    assert!(render("{% include '/etc/hostname' %}", context! {}).is_err());
}

/// Templates whose values outgrow what made them.
const OUTGROW: [&str; 28] = [
    "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor %}x",
    "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = {'a': ns.a} %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(90000) %}{% set ns.a = ns.a | batch(1) %}{% endfor %}x",
    "{% set ns = namespace(a=[1]) %}{% for i in range(90000) %}{% set ns.a = [ns.a[9:]] %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(90000) %}{% set ns.a = dict(a=ns.a) %}{% endfor %}x",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "{% set ns = namespace() %}{% set ns.a = [dict(b=ns)] %}{{ ns }}",
    "{% set ns = namespace(a=namespace()) %}{{ ns }}",
    "{% macro f(x, n) %}{{ f([[[[x]]]], n - 1) if n }}{% endmacro %}{{ f(1, 90) }}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(15) %}{% set ns.a = [ns.a, ns.a] %}\
     {% set ns.b = [ns.b, ns.b] %}{% endfor %}{% for i in range(9999) %}{{ ns.a == ns.b }}{% endfor %}",
    "{{ [[0] * 10000] * 10000 }}",
    "{{ ['x' * 100000] * 10000 }}",
    "{{ (['x' * 100000] * 10000) ~ '' }}",
    "{{ (['x' * 100000] * 10000) | string | length }}",
    "{{ ','.join(['x' * 100000] * 10000) }}",
    "{{ (['x' * 100000] * 10000) | join(',') }}",
    "{{ ([['x' * 100000] * 10000]) | map('join') | list }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:.1000000000f}'.format(1.5) }}",
    "{{ ('{0}' * 100000).format('x' * 100000) }}",
    "{{ ('%(a)s' * 100000) | format(a='x' * 100000) }}",
    "{% set a = 'a' * 300000 %}{% for i in range(99999) %}{{ a[-1] }}{% endfor %}",
    "{% set a = 'a' * 300000 %}{% for i in range(99999) %}{{ a[5:6] }}{% endfor %}",
    "{% set a = 'a' * 300000 %}{% for i in range(99999) %}{{ a.isalpha() }}{% endfor %}",
    "{{ ('a' * 1000000).split('a') | length }}",
    "{% set m = [1] * 100000000 %}{{ m | length }}",
];

#[test]
fn values_that_outgrow_what_made_them_are_errors() {
    for source in OUTGROW {
        for template in [Template::new("t", source, 0), Template::prompt("t", source, 0)] {
            let error = template.unwrap().render(context! {}, 0).unwrap_err();
            assert!(error.starts_with("t: "), "{source}: {error}");
        }
    }
}

#[test]
fn bounds_leave_what_templates_do() {
    let row = context! {
        messages => (0..1000).map(|i| context! { role => "user", content => format!("text {i}") }).collect::<Vec<_>>(),
        text => "äöü", deep => [[[1]]],
    };
    for (source, expected) in [
        (
            "{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m] %}{% endfor %}{{ ns.l | length }}",
            "1000",
        ),
        (
            "{% set loop_messages = messages[1:] %}{{ loop_messages[0].content }}{{ loop_messages | length }}",
            "text 1999",
        ),
        ("{% for k, v in {'a': 1, 'b': [2]}.items() %}{{ k }}{{ v }}{% endfor %}", "a1b[2]"),
        ("{{ text[-1] }}{{ text[::-1] }}{{ (text)[1:] }}{{ (text ~ '!')[-1] }}", "üüöäöü!"),
        (
            "{{ deep[0][0][0] }}{{ (deep + [1])[-1] }}{{ deep == [[[1]]] }}{{ 1 in deep[0][0] }}{{ 2 not in [1] }}",
            "11TrueTrueTrue",
        ),
        ("{{ missing == none }}{{ missing is defined }}{{ messages[0]['gone'] == 'x' }}", "FalseFalseFalse"),
        ("{% set a, b = 1, [2] %}{% set c = (1, 2) %}{{ a }}{{ b }}{{ c }}{{ c[0] }}", "1[2](1, 2)1"),
        (
            "{% set x = (1 if text else 2) %}{{ x }}{% set y = not text %}{{ y }}{% set z = -x %}{{ z }}",
            "1False-1",
        ),
        (
            "{% macro f(a, b=[1]) %}{{ a }}{{ b }}{% endmacro %}{{ f([1] + [2], b={'k': 1}) }}",
            "[1, 2]{'k': 1}",
        ),
        ("{% macro f() %}<{{ caller([1]) }}>{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}", "<[1]>"),
        ("{% for x in [[1, [2, 3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"),
        ("{{ '{} {:>4} {a:.2f}'.format('x', 1, a=1.5) }}{{ ', '.join(['a', 'b']) }}", "x    1 1.50a, b"),
        (
            "{{ (messages | map(attribute='content') | list)[:2] }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
            "['text 0', 'text 1']1000",
        ),
        (
            "{{ [3, 1, 2] | sort | join('') }}{{ ['a', 'b'] | map('upper') | join }}{{ [1, 1] | unique | list }}",
            "123AB[1]",
        ),
        (
            "{{ [1, 2, 3] | batch(2) | list }}{{ ('a' ~ 1 ~ none) }}{{ 'a' 'b' ~ 'c' }}",
            "[[1, 2], [3]]a1Noneabc",
        ),
        ("{% with a = [1], b = 2 %}{{ a ~ b }}{% endwith %}{{ dict(a=[1], b=2) }}", "[1]2{'a': [1], 'b': 2}"),
    ] {
        assert_eq!(render(source, row.clone()).unwrap(), expected, "{source}");
    }
}

#[test]
fn names_what_it_reads() {
    let template =
        Template::new("--prompt", "{% set q = 1 %}{{ a.b }}{{ q }}{{ range(c) }}{{ strftime_now('%Y') }}", 0);
    let names: Vec<String> = template.unwrap().variables().into_iter().collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn jinja_and_python_names_are_there() {
    let row = context! { text => "one two three four", n => 42, none => () };
    for (source, expected) in [
        ("a\r\n{{ 'b\r\nc' }}\rd", "a\nb\nc\nd"),
        ("{{ text | truncate(9, leeway=0) }}", "one..."),
        ("{{ text | truncate(9, true, '!', 0) }}", "one two !"),
        ("{{ text | truncate(15) }}", "one two three four"),
        ("[{{ 'ab' | center(5) }}][{{ 'abc'.center(6) }}]", "[  ab ][ abc  ]"),
        ("{{ \"it's one_two, three\" | wordcount }}", "4"),
        ("{% set comma = joiner() %}{% for i in [1, 2] %}{{ comma() }}{{ i }}{% endfor %}", "1, 2"),
        (
            "{{ 'a b  c'.rsplit() }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b c '.rsplit(none, 1) }}",
            "['a', 'b', 'c']['a,b', 'c']['a b', 'c']",
        ),
        ("{{ 'k=v=w'.partition('=') }}{{ 'k=v=w'.rpartition('=')[0] }}", "('k', '=', 'v=w')k=v"),
        ("{{ 'unhappy'.removeprefix('un').removesuffix('py') }}{{ 'äbc'.index('c') }}", "hap2"),
        ("{{ '' | default('x', boolean=true) }}{{ '' | default('x', boolean=false) }}", "x"),
        ("{{ '' | default('x', true) }}{{ gone | d(default_value='y') }}{{ none | default('z') }}", "xyNone"),
        ("{{ '%s of %d' % (text[:3], n) }}", "one of 42"),
        ("{{ ('%s' % text[:3] ~ '!') }}{{ ('%(a)s') % {'a': n} }}", "one!42"),
        ("{{ '%s' '%%' % n }}{{ 7 % 4 }}{{ n % 5 }}", "42%32"),
    ] {
        assert_eq!(render(source, row.clone()).unwrap(), expected, "{source}");
    }
    let error = render("\n{{ text % n }}", row.clone()).unwrap_err();
    assert!(error.contains("(line 2); `%` formats text only where a literal"), "{error}");
    assert!(render("{{ 'abc'.index('x') }}", row).unwrap_err().contains("does not hold"));
    for (source, why) in [
        ("a\n{{ x | shout }}", "there is no filter `shout` (line 2)"),
        ("{{ x is loud }}", "there is no test `loud`"),
    ] {
        let error = Template::new("--chat-template", source, 0).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// The columns that a template reads as values.
fn columns(source: &str) -> Vec<String> {
    let template = Template::prompt("--prompt", source, 0).unwrap();
    let read = template
        .names()
        .uses
        .iter()
        .filter(|used| matches!(used.kind, Kind::Value | Kind::RowKey | Kind::Row));
    read.map(|used| used.name.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn every_expression_form_reads_its_columns() {
    for (source, expected) in [
        ("{{ a }}", "a"),
        ("{{ a[:3000] }}{{ [1][b:] }}{{ [1][:c:d] }}", "a b c d"),
        ("{{ a[b] }}{{ c.d }}{{ e['f'] }}", "a b c e"),
        ("{{ range(a) }}{{ a.method(b, key=c, *d, **e) }}", "a b c d e"),
        ("{{ a is divisibleby(b) }}{{ c is defined }}{{ d is none }}", "a b c d"),
        ("{{ a | replace(b, c) | join(d=e) }}", "a b c e"),
        (
            "{% set x = a %}{{ x }}{% set y %}{{ b }}{% endset %}{% set z | replace('a', c) %}{% endset %}",
            "a b c",
        ),
        ("{% for x in a if b %}{{ x }}{{ c }}{{ loop.index }}{% else %}{{ d }}{% endfor %}", "a b c d"),
        ("{% macro m(x, y=a) %}{{ x }}{{ b }}{{ caller() }}{% endmacro %}{{ m(c) }}", "a b c"),
        ("{% macro m(x) %}{{ caller(x) }}{% endmacro %}{% call(z) m(a) %}{{ z }}{{ b }}{% endcall %}", "a b"),
        ("{{ a if b else c }}", "a b c"),
        ("{{ a == b }}{{ c < d <= e }}{{ f in g }}{{ h not in i }}", "a b c d e f g h i"),
        (
            "{{ a + b - c * d / e // f % g ** h ~ i }}{{ -j }}{{ not k }}{{ l and m or n }}",
            "a b c d e f g h i j k l m n",
        ),
        ("{{ {'k': a, b: 1} }}{{ [c, [d]] }}{{ (e, f) }}", "a b c d e f"),
        ("{% filter replace(a, 'x') %}{{ b }}{% endfilter %}", "a b"),
        ("{% set text = text[:9] %}{{ text }}", "text"),
        ("{% with text = text %}{{ text }}{% endwith %}", "text"),
        ("{% with x = a, y = x %}{{ y }}{% endwith %}{{ x }}", "a x"),
        ("{% if a %}{{ b }}{% elif c %}{{ d }}{% else %}{{ e }}{% endif %}", "a b c d e"),
        ("{% set ns = namespace(n=a) %}{% set ns.n = b %}{{ ns.n }}", "a b"),
        (
            "{% do raise_exception(a) %}{% autoescape a %}{{ b }}{% endautoescape %}{% block x %}{{ c }}{% endblock %}",
            "a b c",
        ),
        (
            "{{ range }}{{ dict }}{{ self }}{{ debug }}{{ namespace }}{{ loop }}",
            "debug dict loop namespace range self",
        ),
        ("{{ row['my col'] }}{{ row.b }}", "b my col"),
        ("{{ row | tojson }}", "row"),
        ("{{ row[a] }}", "a row"),
        ("{{ row.items() }}", "row"),
        ("{% for key in row %}{{ key }}{% endfor %}", "row"),
    ] {
        assert_eq!(columns(source).join(" "), expected, "{source}");
    }
}

/// Renders a prompt of a row with a null.
fn prompt(source: &str) -> Result<String, String> {
    let row = context! { x => (), y => "ä b", n => 3, list => [Value::from(1), Value::from(())],
    items => [context! { t => (), u => "v" }], text => "one" };
    Template::prompt("--prompt", source, 0).unwrap().render(row, 0)
}

#[test]
fn a_null_never_becomes_text() {
    for source in [
        "{{ x }}",
        "{{ y ~ x }}",
        "{{ x ~ y ~ n }}",
        "{{ ('a' ~ (n ~ x)) ~ y }}",
        "{{ x | string }}",
        "{{ [y, x] | join(', ') }}",
        "{{ y | replace('a', x) }}",
        "{{ '%s' | format(x) }}",
        "{{ '%s' % x }}",
        "{{ '%s %s' % (y, x) }}",
        "{{ '{}'.format(x) }}",
        "{{ ','.join([x]) }}",
        "{{ x[:3] }}",
        "{{ (x)[1:] }}",
        "{{ x | upper }}",
        "{{ x | trim }}",
        "{{ x | truncate(3) }}",
        "{% set z = x %}{{ z }}",
        "{{ x if true }}",
        "{% set z = y ~ x %}{{ z }}",
        "{{ {'a': x} }}",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(x) }}",
        "{% for a in [x] %}{{ a }}{% endfor %}",
        "{{ x | default('v') }}",
        "{{ x | join(', ') }}",
        "{{ x | int }}",
        "{{ x | float }}",
        "{{ row_of.a | default(x) }}",
    ] {
        let source = source.replace("row_of", "{}");
        let error = prompt(&source).unwrap_err();
        assert!(error.contains("null"), "{source}: {error}");
        let named = error.contains("column `x` is null in this row") || source.contains("macro");
        assert!(named, "{source}: {error}");
    }
    for source in [
        "{{ list }}",
        "{% for i in list %}{{ i }}{% endfor %}",
        "{{ list[1] }}",
        "{{ list | join }}",
        "{{ list | map('upper') | join }}",
        "{{ list | map('int') | join }}",
    ] {
        let error = prompt(source).unwrap_err();
        assert!(
            error.contains("null") && (error.contains("column `list`") || source.contains("for")),
            "{source}: {error}"
        );
    }
    let field = prompt("{{ items[0].t }}").unwrap_err();
    assert!(field.starts_with("--prompt: a null in column `items` would become text (line 1)"), "{field}");
    assert!(prompt("{{ items | join(',', attribute='t') }}").unwrap_err().contains("column `items`"));
    assert!(prompt("{{ x.strip() }}").unwrap_err().contains("column `x` is null in this row"));
}

#[test]
fn a_null_is_a_null_where_it_is_tested_or_given_on() {
    for (source, expected) in [
        (
            "{{ x is none }}{{ x == none }}{{ x is defined }}{{ none == x }}{{ x != none }}",
            "TrueTrueTrueTrueFalse",
        ),
        ("{% if x %}a{% else %}b{% endif %}{{ 'c' if not x }}{{ 'gone' if x }}", "bc"),
        ("{{ x or y }}{{ x | default('v', true) }}{{ x | default('w', boolean=true) }}", "ä bvw"),
        ("{{ (x | default('v')) is none }}{{ x | int(-1) }}{{ '7' | int }}", "True-17"),
        (
            "{{ x | tojson }}{{ list | tojson }}{{ items | tojson }}",
            r#"null[1, null][{"t": null, "u": "v"}]"#,
        ),
        ("{% for i in x %}{{ i }}{% else %}empty{% endfor %}", "empty"),
        (
            "{% for i in list %}{{ i is none }}{% endfor %}{{ list | select('none') | list | length }}",
            "FalseTrue1",
        ),
        ("{{ y[:1] ~ n ~ (text ~ '!')[1:] ~ '%s' % (n) ~ -n ~ n * 2 }}", "ä3ne!3-36"),
        ("{{ (y | upper)[:2] }}{{ text[1:][:1] }}{{ [y, n] | join('/') }}{{ (list)[:1] }}", "Ä nä b/3[1]"),
        ("{{ items | map(attribute='u') | join(',') }}{{ y | replace('b' ~ '', text[:2]) }}", "vä on"),
        ("{{ (n ~ 'a' if n else x) ~ (x if false else 'b') }}", "3ab"),
        ("{{ 'literal' ~ 'only' }}{{ items[0].t is none }}", "literalonlyTrue"),
    ] {
        assert_eq!(prompt(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn what_is_undefined_is_an_error_in_a_prompt() {
    for source in [
        "{{ items[0].gone }}",
        "{{ y ~ items[0].gone }}",
        "{{ items[0].gone | tojson }}",
        "{{ items[0].gone | upper }}",
    ] {
        assert!(prompt(source).unwrap_err().contains("undefined"), "{source}");
    }
    assert_eq!(prompt("{{ items[0].gone is defined }}{{ items[0].gone | default('d') }}").unwrap(), "Falsed");
    assert_eq!(
        render("{{ gone }}{{ y }}", context! { y => () }).unwrap(),
        "None",
        "a chat template keeps Jinja's rules"
    );
}

/// Expressions of texts, of any depth.
fn expressions() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let leaf = prop::sample::select(vec![
        "y",
        "text",
        "n",
        "'ö'",
        "items[0].u",
        "'a' 'b'",
        "(y)",
        "m.k",
        "[y, text][1]",
    ]);
    leaf.prop_map(String::from).prop_recursive(5, 40, 3, |inner| {
        let of = |form: &'static str| {
            (inner.clone(), inner.clone()).prop_map(move |(a, b)| form.replace('A', &a).replace('B', &b))
        };
        prop_oneof![
            of("A ~ B"),
            of("A~B~A"),
            of("(A ~ (B))"),
            of("((A) ~ B)[:3]"),
            of("(A | string)[1:]"),
            of("( ( A | upper ) ~ B )[ :4 ] | lower"),
            of("'<%s>' % (A)"),
            of("'%s-%s' % (A, B) ~ B"),
            of("(A | string | replace(B ~ '', 'z'))"),
            of("(A if n else B)"),
            of("(A ~ B if n == B else (B) ~ A) ~ A"),
            of("[A, B] | join(B | string)"),
            of("(A | string).strip()[::-1]"),
            of("{'k': A}['k'] ~ {'k': B}.k"),
            of("(A ~ '' is string) ~ (B | default(A) | string | length > 2 and 1 < 2 < 3)"),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn rewriting_changes_no_prompt_without_nulls(expr in expressions()) {
        let row = context! { y => "ä b", n => 3, items => [context! { u => "v" }], text => "one", m => context! { k => 2.5 } };
        let source = format!("a\n{{{{ {expr} }}}}{{% set z = {expr} %}}{{{{ z }}}}");
        let plain = render(&source, row.clone());
        let strict = Template::prompt("--prompt", &source, 0).unwrap().render(row, 0);
        match (&plain, &strict) {
            (Ok(plain), Ok(strict)) => proptest::prop_assert_eq!(plain, strict, "{}", source),
            (Err(_), Err(_)) => {}
            _ => proptest::prop_assert!(false, "{}: {:?} {:?}", source, plain, strict),
        }
    }
}

/// A chain is as deep as it is long: those that could overflow a stack are refused, and those of 400 compile and drop.
#[test]
fn chains_have_bounds() {
    let chain = |link: &str, n: usize| link.repeat(n);
    for (before, link, after) in [
        ("{{ 1", " + 1", " }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ 'a'", "|upper", " }}"),
        ("{{ x", ".a", " }}"),
        ("{{ x", "['a']", " }}"),
        ("{{ x", "(1, 2)", " }}"),
        ("{{ 1", " if 1 else 1", " }}"),
        ("{{ 1", " ~ [1, 2]", " }}"),
        ("{% if 1 %}", "{% elif 1 %}", "{% endif %}"),
    ] {
        let source = |n| format!("{before}{}{after}", chain(link, n));
        let why = Template::new("t", &source(20_000), 0).unwrap_err().to_string();
        assert!(why.contains("more than 1000"), "{link}: {why}");
        let few = if link.contains("if") { 100 } else { 400 };
        assert!(
            Template::new("t", &source(few), 0).is_ok(),
            "{link}: {}",
            Template::new("t", &source(few), 0).unwrap_err()
        );
    }
    assert!(Template::new("t", &format!("{{{{ [{}] }}}}", "1 + 1, ".repeat(5000)), 0).is_ok());
    let deep = format!("{}{}", "{% if 1 %}".repeat(10_000), "{% endif %}".repeat(10_000));
    assert!(Template::new("t", &deep, 0).is_err());
}
