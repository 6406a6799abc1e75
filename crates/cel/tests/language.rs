//! The language and its library, by example.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use cel::{Budget, Environment, Type, Value, check, evaluate, from_json, instantiate, parse};
use proptest::prelude::*;
use serde_json::json;

fn variables() -> HashMap<String, Value> {
    let this = json!({"name": "web", "replicas": 3, "ratio": 0.5, "labels": {"app": "x", "tier": "y"}, "list": [3, 1, 2],
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443}], "nothing": null});
    HashMap::from([("self".to_owned(), from_json(&this))])
}

fn outcome(text: &str) -> Result<Value, String> {
    let expr = parse(text).map_err(|e| e.to_string())?;
    check(&expr, text, &Environment::from([("self".to_owned(), Type::Dyn)])).map_err(|e| e.to_string())?;
    evaluate(&expr, &variables(), &mut Budget::new(100_000)).map_err(|e| e.to_string())
}

#[test]
fn what_is_true() {
    let mut wrong = Vec::new();
    for text in [
        "1 + 2 * 3 == 7 && -3 % 2 == -1 && 7 / 2 == 3 && 0x10 == 16 && 1u + 2u == 3u",
        "dyn(1) == 1.0 && 2u > 1 && 'a' < 'b' && !(1 > 2)",
        "'a\\tb'.size() == 3 && r'\\d' == '\\\\d' && \"\"\"x\"y\"\"\" == 'x\"y' && b'abc' == bytes('abc')",
        "self.name == 'web' && self['name'] == 'web' && has(self.name) && !has(self.nope)",
        "self.?nope.orValue('d') == 'd' && self.?name.hasValue() && self.list[?9].or(optional.of(1)).value() == 1",
        "self.ports.all(p, p.port > 0) && self.ports.exists(p, p.name == 'b') && self.ports.exists_one(p, p.port == 80)",
        "self.ports.map(p, p.name) == ['a', 'b'] && self.ports.map(p, p.port > 100, p.name) == ['b']",
        "self.ports.filter(p, p.port < 100).size() == 1 && self.labels.all(k, self.labels[k] != '')",
        "self.labels.all(k, v, k != v) && self.list.exists(i, v, i == 0 && v == 3)",
        "self.list.transformList(i, v, v > 1, i + v) == [3, 4] && self.labels.transformMap(k, v, v + '!') == {'app': 'x!', 'tier': 'y!'}",
        "self.labels.transformMapEntry(k, v, {v: k}) == {'x': 'app', 'y': 'tier'}",
        "lists.range(3) == [0, 1, 2] && optional.of(3).optMap(x, x + 1).value() == 4",
        "(self.nope == 1 || true) && !(self.nope == 1 && false) && [dyn(1), 'a'].exists(x, x == 'a' || x < 0)",
        "self.list.sum() == 6 && self.list.max() == 3 && !self.list.isSorted() && self.list.sort() == [1, 2, 3] && self.list.indexOf(2) == 2",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b' && 'hello'.substring(1, 3) == 'el' && 'x'.charAt(0) == 'x'",
        "'Hello'.lowerAscii() == 'hello' && ' a '.trim() == 'a' && 'aXbX'.replace('X', '') == 'ab' && 'abc'.indexOf('c') == 2",
        "'abc123'.matches('^[a-z]+[0-9]+$') && 'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
        "duration('1h30m') == duration('90m') && timestamp('2024-01-01T00:00:00Z').getFullYear() == 2024",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h') && duration('90s').getMinutes() == 1",
        "quantity('1.5Gi').isLessThan(quantity('2Gi')) && quantity('1k').asInteger() == 1000 && isQuantity('5m') && quantity('1').add(quantity('500m')) == quantity('1500m')",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1') && !cidr('10.0.0.0/8').containsCIDR('0.0.0.0/0') && isIP('::1')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && ip('127.0.0.1').isLoopback()",
        "url('https://a.b:8080/p?x=1').getHostname() == 'a.b' && url('https://a.b:8080/p?x=1').getPort() == '8080' && !isURL('../x')",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "format.dns1123Label().validate('Abc').hasValue() && !format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
        "'%s has %d and %.2f'.format(['x', 3, 1.0]) == 'x has 3 and 1.00' && string(3) == '3' && int('4') == 4 && double(1) == 1.0",
        "type(1) == int && type('a') == string && dyn(1) != 'a'",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').compareTo(semver('1.0.0')) == -1",
        "'a' in self.labels || 'app' in self.labels && 3 in self.list && !(5 in self.list)",
        "{'a': 1, ?'b': optional.none()} == {'a': 1} && [?optional.of(1)] == [1]",
        "self.replicas > 1 ? true : false // a comment",
    ] {
        let found = outcome(text);
        if found != Ok(Value::Bool(true)) {
            wrong.push((text, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_has_no_value() {
    for (text, wanted) in [
        ("self.nope == 1", "no such key: nope"),
        ("self.list[5] == 1", "index out of bounds: 5"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("self.name > 1", "no such overload"),
        (
            "self.list.all(a, self.list.all(b, self.list.all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, [1,2,3,4,5,6,7,8,9].all(g, a + b + c + d + e + f + g > 0)))))))",
            "operation cancelled: actual cost limit exceeded",
        ),
    ] {
        assert_eq!(outcome(text).unwrap_err(), wanted, "{text}");
    }
}

#[test]
fn what_cannot_be_compiled() {
    let object = |fields: &[(&str, Type)]| {
        Type::Object(std::sync::Arc::new(fields.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect()))
    };
    let environment =
        Environment::from([("self".to_owned(), object(&[("replicas", Type::Int), ("name", Type::String)]))]);
    for (text, wanted) in [
        ("self.nope > 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 1\n | ....^"),
        ("this.x", "ERROR: <input>:1:1: undeclared reference to 'this' (in container '')\n | this.x\n | ^"),
        (
            "self.replicas + self.name",
            "ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(int, string)'\n | self.replicas + self.name\n | ..............^",
        ),
        (
            "self.name.nope()",
            "ERROR: <input>:1:15: undeclared reference to 'nope' (in container '')\n | self.name.nope()\n | ..............^",
        ),
    ] {
        let checked = check(&parse(text).unwrap(), text, &environment);
        assert_eq!(checked.unwrap_err().to_string(), wanted);
    }
    let broken = parse("self.a >").unwrap_err().to_string();
    assert!(broken.starts_with("ERROR: <input>:1:9: Syntax error: mismatched input '<EOF>'"), "{broken}");
    assert!(parse(&"(".repeat(5000)).is_err() && parse(&"-".repeat(5000)).is_err(), "depth is bounded");
    assert_eq!(check(&parse("self.replicas").unwrap(), "", &environment), Ok(Type::Int));
}

proptest! {
    #[test]
    fn nothing_panics(text in "[-a-z0-9 .()\\[\\]{}+*/%<>=!&|?:,'\"x]{0,40}") {
        let _ = outcome(&text);
    }
}

/// What is constant is made once, whatever the variables are.
#[test]
fn constants_cost_once() {
    let expr = parse("x in ['a', string(1)] && x.matches('^[a-z]$') && {'a': [duration('1s')]}.size() == 1").unwrap();
    for (value, wanted) in [("a", true), ("b", false), ("1", false), ("a", true)] {
        let variables = HashMap::from([("x".to_owned(), Value::from(value))]);
        assert_eq!(evaluate(&expr, &variables, &mut Budget::new(100)), Ok(Value::Bool(wanted)), "{value}");
    }
    let number = HashMap::from([("x".to_owned(), Value::Int(1))]);
    let error = evaluate(&parse("x.matches('a')").unwrap(), &number, &mut Budget::new(100)).unwrap_err().to_string();
    assert_eq!(error, "no such overload: matches(int, string)");
    let broken = parse("x.matches('(') || [int('x')] == [1]").unwrap();
    let variables = HashMap::from([("x".to_owned(), Value::from("a"))]);
    for _ in 0..2 {
        let error = evaluate(&broken, &variables, &mut Budget::new(100)).unwrap_err().to_string();
        assert!(error.starts_with("error parsing regexp"), "{error}");
    }
}

#[test]
fn names_are_known_where_they_mean_something() {
    let errors = |text: &str, environment: &Environment| {
        let checked = check(&parse(text).unwrap(), text, environment);
        let said = checked.err().map(|error| error.to_string()).unwrap_or_default();
        said.lines().filter(|line| line.starts_with("ERROR")).map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    let none = Environment::new();
    let patches =
        Environment::from([("JSONPatch{}".to_owned(), cel::JSON_PATCH), ("Object{}".to_owned(), cel::CONFIGURATION)]);
    let undeclared =
        |at: usize, name: &str| format!("ERROR: <input>:1:{at}: undeclared reference to '{name}' (in container '')");
    let (jsonpatch, escape) = (undeclared(1, "jsonpatch"), undeclared(20, "escapeKey"));
    assert_eq!(errors("jsonpatch.escapeKey('a') == 'a'", &none), format!("{jsonpatch}; {escape}"));
    assert_eq!(errors("Object.spec{} == 1", &none), undeclared(12, "Object.spec"));
    assert_eq!(errors("jsonpatch.escapeKey('a') == 'a' && JSONPatch{op: 'a'} == JSONPatch{op: 'b'}", &patches), "");
    let told: Vec<String> =
        [(1, "cel"), (9, "bind"), (10, "x"), (16, "x")].map(|(at, name)| undeclared(at, name)).into();
    assert_eq!(errors("cel.bind(x, 1, x == 1)", &none), told.join("; "), "only selectors of devices bind names");
}

#[test]
fn what_constants_make_certain() {
    // What upstream's server says of each when it is written: the compiler's errors have a place, those of a program have none.
    for (text, wanted) in [
        ("duration('1d') < duration('1s')", "1:10: invalid duration argument"),
        ("timestamp(-1000000000000) == self", "1:11: invalid timestamp argument"),
        ("'a'.matches('a**')", "1:13: invalid matches argument"),
        ("matches('a', '(')", "error parsing regexp: missing closing ): `(`"),
        ("'a'.find('[') == ''", "error parsing regexp: missing closing ]: `[`"),
        ("self == 'a' ? int('q') == 1 : true", "type conversion error from 'string' to 'int'"),
        ("int(dyn('x')) == 1", "type conversion error from 'string' to 'int'"),
        ("uint(-1) == 1u", "unsigned integer overflow"),
        ("string(b'\\xff') == 'x'", "invalid UTF-8 in bytes, cannot convert to string"),
        (
            "'%d'.format(['x']) == ''",
            "1:14: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%q'.format([1]) == ''", "1:12: could not parse formatting clause: unrecognized formatting clause \"q\""),
        ("'%s'.format([1, 2]) == ''", "1:12: too many arguments supplied to string.format (expected 1, got 2)"),
        ("'%s%s'.format([1]) == ''", "1:14: index 1 out of range"),
        ("{'a': 1, 2: 3} == {}", "1:10: expected type 'string' but found 'int'"),
        ("9223372036854775808 == 1", "1:1: invalid int literal"),
        ("1e400 == 1.0", "1:1: invalid double literal"),
        (
            "sets.contains([1], ['a'])",
            "found no matching overload for 'sets.contains' applied to '(list(int), list(string))'",
        ),
    ] {
        let told = parse(text)
            .and_then(|expr| check(&expr, text, &Environment::from([("self".to_owned(), Type::Dyn)])).map(|_| expr))
            .map_err(|e| e.to_string())
            .and_then(|expr| instantiate(&expr).map_err(|e| e.to_string()))
            .unwrap_err();
        assert!(told.contains(wanted), "{text}: {told}");
    }
    // These fail only when they are evaluated, as upstream.
    for text in [
        "1 / 0 == 1",
        "[1][2] == 1",
        "url('::bad') == url('x')",
        "quantity('x').isInteger()",
        "cidr('x') == cidr('y')",
        "-9223372036854775808 < 0",
        "'%s %.3f %x'.format([[1, 'a'], 1.0, b'a']) == ''",
    ] {
        let expr = parse(text).unwrap();
        check(&expr, text, &Environment::from([("self".to_owned(), Type::Dyn)])).unwrap();
        instantiate(&expr).unwrap();
    }
}

#[test]
fn evaluations_cost_what_they_cost_upstream() {
    // By the rules of cel-go's tracker and of Kubernetes' estimator of actual costs; thresholds were compared with upstream's server.
    let spent = |text: &str| {
        let mut budget = Budget::new(100_000);
        evaluate(&parse(text).unwrap(), &variables(), &mut budget).unwrap();
        100_000 - budget.left()
    };
    for (text, steps) in [
        ("1 + 2 == 3", 2),
        ("self.name == 'web'", 3),
        ("has(self.name)", 1),
        ("self.labels['app'] == 'x'", 4),
        // Three rounds of three and what the body costs, the range, the result.
        ("self.list.all(x, x > 0)", 2 + 1 + 3 * (3 + 2)),
        ("self.list.exists(x, x == 1)", 2 + 1 + 2 * (4 + 2)),
        ("self.list.filter(x, x > 1)", 2 + 1 + 3 * 2 + 2 * 13),
        ("self.list.map(x, x)", 2 + 1 + 3 * (12 + 1)),
        ("self.list.map(k, self.list[k - 1])", 2 + 1 + 3 * (12 + 3 + 2)),
        // Constants are known before.
        ("[1, 2, 3].size() == 3 && int('1') == 1", 3),
        ("'aaaaaaaaaaaaaaaaaaaa'.matches('a+b+')", 3),
        ("'aaaaaaaaaaaaaaaaaaaa'.contains('aaaaaaaaaaaaa')", 4),
        ("'aaaaaaaaaaaaaaaaaaaa'.split('b').size() == 1", 4 + 1 + 1),
        ("lists.range(10).size() == 10", 21 + 1 + 1),
    ] {
        assert_eq!(spent(text), steps, "{text}");
    }
}

#[test]
fn what_follows_upon_each_other_has_an_end() {
    let check = |text: String, fits: bool| match parse(&text) {
        Ok(_) => assert!(fits, "{text}"),
        Err(error) => {
            assert_eq!(error.to_string(), "ERROR: <input>:-1:0: max recursion depth exceeded");
            assert!(!fits, "{text}");
        }
    };
    for (chain, first) in [("+1", "1"), (".a", "a"), ("[0]", "a"), (".trim()", "a")] {
        check(format!("{first}{}", chain.repeat(250)), true);
        check(format!("{first}{}", chain.repeat(251)), false);
        check(format!("{first}{}", chain.repeat(100_000)), false);
    }
    check(format!("{}1{}", "(1+".repeat(99), "+1".repeat(250)), false);
    check(format!("[{}]{}", "[0],".repeat(100), "[0]".repeat(250)), false);
    // As low as can be.
    let all = parse(&["true"; 5000].join("&&")).unwrap();
    assert_eq!(evaluate(&all, &HashMap::new(), &mut Budget::new(100_000)).unwrap(), Value::Bool(true));
    let one = parse(&format!("{}true", "false||".repeat(5000))).unwrap();
    assert_eq!(evaluate(&one, &HashMap::new(), &mut Budget::new(100_000)).unwrap(), Value::Bool(true));
}
