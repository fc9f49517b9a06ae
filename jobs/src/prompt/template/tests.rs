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

#[test]
fn names_what_it_reads() {
    let template =
        Template::new("--prompt", "{% set q = 1 %}{{ a.b }}{{ q }}{{ range(c) }}{{ strftime_now('%Y') }}", 0);
    let names: Vec<String> = template.unwrap().variables().into_iter().collect();
    assert_eq!(names, ["a", "c"]);
}
