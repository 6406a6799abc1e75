//! Tokens into expressions; macros become what they stand for here.

use crate::error::Compile;
use crate::expr::{Expr, Kind, Macro, What};
use crate::lexer::{Token, tokens};
use crate::names::RESERVED;
use crate::value::Value;

/// Brackets nest no deeper than this.
const MOST_DEPTH: usize = 100;
/// No more operators, fields and calls follow upon each other, as in cel-go: who walks an expression goes that deep.
const MOST_HEIGHT: u16 = 250;
const BINARY: [(&str, &str, u8); 12] = [
    ("==", "_==_", 1),
    ("!=", "_!=_", 1),
    ("<", "_<_", 1),
    ("<=", "_<=_", 1),
    (">", "_>_", 1),
    (">=", "_>=_", 1),
    ("in", "@in", 1),
    ("+", "_+_", 2),
    ("-", "_-_", 2),
    ("*", "_*_", 3),
    ("/", "_/_", 3),
    ("%", "_%_", 3),
];

/// Reads an expression.
pub fn parse(source: &str) -> Result<Expr, Compile> {
    read(source, false)
}

/// Reads an expression that may bind names: `cel.bind(name, value, expression)`, which only selectors of devices may.
pub fn parse_binding(source: &str) -> Result<Expr, Compile> {
    read(source, true)
}

fn read(source: &str, binds: bool) -> Result<Expr, Compile> {
    let mut parser = Parser { source, tokens: tokens(source)?, next: 0, depth: 0, binds };
    let expr = parser.choice()?;
    match parser.peek() {
        Token::End => Ok(expr),
        // A single token too many is passed over by cel-go's parser, to look for more.
        _ if matches!(parser.tokens.get(parser.next + 1), None | Some((_, Token::End))) => {
            let words = format!("Syntax error: extraneous input '{}' expecting <EOF>", parser.shown());
            parser.fail(parser.at(), &words)
        }
        _ => parser.unexpected("<EOF>"),
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    binds: bool,
}

type Parsed = Result<Expr, Compile>;

fn bounded(expr: Expr) -> Parsed {
    if expr.height > MOST_HEIGHT { Err(Compile::of_all("max recursion depth exceeded")) } else { Ok(expr) }
}

/// The operands of `signs`, of which there is one less, as a tree that is as low as can be: cel-go's.
fn balanced(mut all: Vec<Expr>, signs: &[usize], kind: fn(Box<Expr>, Box<Expr>) -> Kind) -> Expr {
    let middle = signs.len() / 2;
    let (Some(at), right) = (signs.get(middle), all.split_off(all.len().min(middle + 1))) else {
        return all.remove(0);
    };
    let (left, right) = (balanced(all, &signs[..middle], kind), balanced(right, &signs[middle + 1..], kind));
    Expr::new(*at, kind(Box::new(left), Box::new(right)))
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Compile> {
        if self.take(sign) {
            return Ok(());
        }
        if matches!(self.peek(), Token::End) && sign == ")" {
            return self.fail(self.at(), "Syntax error: missing ')' at '<EOF>'");
        }
        self.unexpected(&format!("'{sign}'"))
    }

    fn fail<T>(&self, at: usize, words: &str) -> Result<T, Compile> {
        Err(Compile::at(self.source, at, words))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, Compile> {
        self.fail(self.at(), &format!("Syntax error: mismatched input '{}' expecting {wanted}", self.shown()))
    }

    /// The next token as messages show it.
    fn shown(&self) -> String {
        match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Name(name) => name.clone(),
            Token::Literal(value) => value.to_string(),
        }
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth >= MOST_DEPTH {
            return self.fail(self.at(), "expression recursion limit exceeded: 100");
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        bounded(read?)
    }

    fn choice(&mut self) -> Parsed {
        self.deeper(|p| {
            let condition = p.or()?;
            let at = p.at();
            if !p.take("?") {
                return Ok(condition);
            }
            let yes = p.or()?;
            p.expect(":")?;
            let no = p.choice()?;
            Ok(Expr::new(at, Kind::Choice(Box::new(condition), Box::new(yes), Box::new(no))))
        })
    }

    fn or(&mut self) -> Parsed {
        let (mut all, mut signs) = (vec![self.and()?], Vec::new());
        loop {
            let at = self.at();
            if !self.take("||") {
                return Ok(balanced(all, &signs, Kind::Or));
            }
            signs.push(at);
            all.push(self.and()?);
        }
    }

    fn and(&mut self) -> Parsed {
        let (mut all, mut signs) = (vec![self.binary(1)?], Vec::new());
        loop {
            let at = self.at();
            if !self.take("&&") {
                return Ok(balanced(all, &signs, Kind::And));
            }
            signs.push(at);
            all.push(self.binary(1)?);
        }
    }

    fn binary(&mut self, level: u8) -> Parsed {
        if level > 3 {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        loop {
            let at = self.at();
            let found =
                BINARY.iter().find(|(sign, _, l)| *l == level && matches!(self.peek(), Token::Sign(s) if s == sign));
            let Some((_, function, _)) = found else { return Ok(left) };
            self.next += 1;
            let right = self.binary(level + 1)?;
            let call = Kind::Call { target: None, function: (*function).into(), args: vec![left, right] };
            left = bounded(Expr::new(at, call))?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if !self.take(sign) {
                continue;
            }
            if sign == "-" && *self.peek() == Token::Literal(Value::Int(i64::MIN)) {
                self.next += 1;
                return Ok(Expr::new(at, Kind::Literal(Value::Int(i64::MIN))));
            }
            return self.deeper(|p| {
                let operand = p.unary()?;
                Ok(match (sign, operand.kind) {
                    ("-", Kind::Literal(Value::Int(n))) => Expr::new(at, Kind::Literal(Value::Int(n.wrapping_neg()))),
                    ("-", Kind::Literal(Value::Double(n))) => Expr::new(at, Kind::Literal(Value::Double(-n))),
                    (_, kind) => {
                        let operand = Expr::new(operand.at, kind);
                        Expr::new(at, Kind::Call { target: None, function: function.into(), args: vec![operand] })
                    }
                })
            });
        }
        self.member()
    }

    fn name(&mut self) -> Result<String, Compile> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.next += 1;
                Ok(name)
            }
            Token::Sign(".") => {
                self.fail(self.at(), &format!("Syntax error: no viable alternative at input '.{}'", self.shown()))
            }
            _ => self.unexpected("IDENTIFIER"),
        }
    }

    fn member(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        loop {
            let at = self.at();
            if self.take(".") {
                let field = self.name()?;
                let open = self.at();
                if self.take("(") {
                    let args = self.list(")")?;
                    expr = self.method(open, expr, field, args)?;
                } else {
                    expr = Expr::new(at, Kind::Select { of: Box::new(expr), field, optional: false });
                }
            } else if self.take(".?") {
                let field = self.name()?;
                expr = Expr::new(at, Kind::Select { of: Box::new(expr), field, optional: true });
            } else if matches!(self.peek(), Token::Sign("[" | "[?")) {
                let optional = self.take("[?") || !self.take("[");
                let index = self.choice()?;
                self.expect("]")?;
                expr = Expr::new(at, Kind::Index { of: Box::new(expr), index: Box::new(index), optional });
            } else if matches!(self.peek(), Token::Sign("{"))
                && let Some(name) = path(&expr)
            {
                self.next += 1;
                expr = self.structure(at, name)?;
            } else {
                return Ok(expr);
            }
            expr = bounded(expr)?;
        }
    }

    fn list(&mut self, end: &'static str) -> Result<Vec<Expr>, Compile> {
        let mut all = Vec::new();
        loop {
            if self.take(end) {
                return Ok(all);
            }
            all.push(self.choice()?);
            if !self.take(",") {
                self.expect(end)?;
                return Ok(all);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.peek().clone() {
            // Only its negative is a number.
            Token::Literal(Value::Int(i64::MIN)) => self.fail(at, "invalid int literal"),
            Token::Literal(value) => {
                self.next += 1;
                Ok(Expr::new(at, Kind::Literal(value)))
            }
            Token::Name(name) => {
                self.next += 1;
                if RESERVED.contains(&name.as_str()) {
                    return self.fail(at, &format!("reserved identifier: {name}"));
                }
                let open = self.at();
                if self.take("(") {
                    let args = self.list(")")?;
                    return self.function(open, at, name, args);
                }
                Ok(Expr::new(at, Kind::Name(name)))
            }
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.choice()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign(open @ ("[" | "[?")) => {
                self.next += 1;
                self.items(at, open == "[?")
            }
            Token::Sign("{") => {
                self.next += 1;
                self.entries(at)
            }
            Token::Sign(".") => {
                self.next += 1;
                let name = self.name()?;
                Ok(Expr::new(at, Kind::Name(name)))
            }
            _ => self.unexpected("{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"),
        }
    }

    fn items(&mut self, at: usize, mut optional: bool) -> Parsed {
        let mut items = Vec::new();
        loop {
            if !optional && self.take("]") {
                break;
            }
            items.push((self.choice()?, optional));
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
            optional = self.take("?");
        }
        Ok(Expr::new(at, Kind::List(items)))
    }

    fn entries(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.choice()?;
            self.expect(":")?;
            entries.push((key, self.choice()?, optional));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::new(at, Kind::Map(entries)))
    }

    fn structure(&mut self, at: usize, name: String) -> Parsed {
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let field = self.name()?;
            self.expect(":")?;
            fields.push((field, self.choice()?, optional));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::new(at, Kind::Struct { name, fields }))
    }

    fn function(&mut self, open: usize, at: usize, name: String, mut args: Vec<Expr>) -> Parsed {
        if name == "has" && args.len() == 1 {
            return match args.remove(0).kind {
                Kind::Select { of, field, .. } => Ok(Expr::new(open, Kind::Has { of, field })),
                _ => self.fail(open, "invalid argument to has() macro"),
            };
        }
        let _ = at;
        Ok(Expr::new(open, Kind::Call { target: None, function: name, args }))
    }

    fn method(&mut self, at: usize, target: Expr, name: String, mut args: Vec<Expr>) -> Parsed {
        let what = match (name.as_str(), args.len()) {
            ("all", 2 | 3) => What::All,
            ("exists", 2 | 3) => What::Exists,
            ("exists_one", 2) | ("existsOne", 2 | 3) => What::ExistsOne,
            ("filter", 2) => What::Filter,
            ("map", 2 | 3) | ("transformList", 3 | 4) => What::Map,
            ("transformMap", 3 | 4) => What::TransformMap,
            ("transformMapEntry", 3 | 4) => What::TransformMapEntry,
            ("optMap", 2) => What::OptMap,
            ("optFlatMap", 2) => What::OptFlatMap,
            ("sortBy", 2) => What::SortBy,
            ("bind", 3) if self.binds && matches!(&target.kind, Kind::Name(name) if name == "cel") => {
                let (body, range, name) = (args.pop(), args.pop(), args.pop());
                let (Some(body), Some(range), Some(name)) = (body, range, name) else {
                    return self.unexpected("an expression");
                };
                let variables = vec![self.variable(&name)?];
                let bind = Macro { what: What::Bind, range, variables, filter: None, body };
                return Ok(Expr::new(at, Kind::Macro(Box::new(bind))));
            }
            _ => {
                let target = Some(Box::new(target));
                return Ok(Expr::new(at, Kind::Call { target, function: name, args }));
            }
        };
        let two = name.starts_with("transform") || (args.len() == 3 && name != "map");
        let body = args.pop();
        let count = if two { 2 } else { 1 };
        let filter = if args.len() > count { args.pop() } else { None };
        let variables = args.iter().map(|arg| self.variable(arg)).collect::<Result<Vec<_>, _>>()?;
        match body {
            Some(body) => {
                Ok(Expr::new(at, Kind::Macro(Box::new(Macro { what, range: target, variables, filter, body }))))
            }
            None => self.unexpected("an expression"),
        }
    }

    fn variable(&self, expr: &Expr) -> Result<String, Compile> {
        match &expr.kind {
            Kind::Name(name) => Ok(name.clone()),
            _ => self.fail(expr.at, "argument must be a simple name"),
        }
    }
}

/// `a.b.C` as a name.
fn path(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Name(name) => Some(name.clone()),
        Kind::Select { of, field, optional: false } => Some(format!("{}.{field}", path(of)?)),
        _ => None,
    }
}
