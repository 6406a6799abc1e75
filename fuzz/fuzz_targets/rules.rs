#![no_main]
use std::collections::HashMap;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const TOKENS: &[&str] = &[
    "self",
    ".a",
    ".b",
    ".list",
    ".map",
    "[0]",
    "[-1]",
    "['a']",
    "1",
    "0",
    "-9223372036854775808",
    "9223372036854775807",
    "1.5",
    "0u",
    "2u",
    "'a'",
    "''",
    "\"\\u00e9\"",
    "b'a'",
    "null",
    "true",
    "false",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ",",
    ":",
    "?",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    " in ",
    "&&",
    "||",
    "!",
    ".size()",
    "size(",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    ".exists_one(x, ",
    "x",
    "has(",
    ".matches('^(a|b)+$')",
    ".contains('a')",
    ".startsWith('')",
    ".split(',')",
    ".join()",
    ".replace('a', 'bb')",
    ".substring(1)",
    ".indexOf('a')",
    ".lowerAscii()",
    "int(",
    "uint(",
    "double(",
    "string(",
    "bytes(",
    "dyn(",
    "type(",
    "duration('1h')",
    "timestamp('2020-01-01T00:00:00Z')",
    ".getFullYear()",
    "quantity('1Gi')",
    ".add(",
    "ip('10.0.0.1')",
    "cidr('10.0.0.0/8')",
    ".containsIP(",
    "url('http://x/y?z')",
    ".getHost()",
    "semver('1.2.3')",
    "optional.of(",
    ".orValue(",
    ".?a",
    "[?0]",
    ".isSorted()",
    ".sum()",
    ".min()",
    "format.named('dns1123Label')",
    "sets.contains(",
    "cel.bind(",
    "'%s %d'.format([",
    ".reverse()",
    ".flatten()",
];

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    let source = if u.ratio(1, 8)? {
        u.arbitrary::<String>()?
    } else {
        let count = u.int_in_range(1..=24)?;
        (0..count).map(|_| u.choose(TOKENS).copied()).collect::<Result<String>>()?
    };
    let Ok(expression) = cel::parse(&source) else { return Ok(()) };
    let environment = [("self".to_owned(), cel::Type::Dyn)].into();
    let _ = cel::check(&expression, &source, &environment);
    let value = json!({"a": 1, "b": "text", "list": [1, 2, "x", null], "map": {"a": {"b": true}}});
    let variables = HashMap::from([("self".to_owned(), cel::from_json(&value))]);
    let _ = cel::evaluate(&expression, &variables, &mut cel::Budget::new(100_000));
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
