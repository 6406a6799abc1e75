//! What changed in a structure, as upstream's messages tell it: a unified diff of its JSON, line by line, by the algorithm of Python's
//! difflib (which Go has from there), so that the hunks are the same.

use std::collections::HashMap;

use serde_json::Value;

/// Lines around a change that are told, too.
const CONTEXT: usize = 3;

/// The difference between two values of a type.
pub(crate) fn diff(name: &str, old: &Value, new: &Value) -> String {
    let lines = |value| schema::go::indented(&schema::go::shown(schema::table(), name, value));
    let (old, new) = (lines(old), lines(new));
    unified(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>())
}

/// A run of lines that are the same in both, or of lines that are not.
#[derive(Clone, Copy)]
struct Step {
    same: bool,
    old: (usize, usize),
    new: (usize, usize),
}

fn unified(old: &[&str], new: &[&str]) -> String {
    let mut out = String::new();
    let range = |(from, to): (usize, usize)| match to - from {
        0 => format!("{from},0"),
        1 => format!("{}", from + 1),
        count => format!("{},{count}", from + 1),
    };
    for group in groups(steps(old, new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let ranges = (range((first.old.0, last.old.1)), range((first.new.0, last.new.1)));
        out.push_str(&format!("@@ -{} +{} @@\n", ranges.0, ranges.1));
        for step in group {
            let (gone, come) = if step.same { (" ", None) } else { ("-", Some("+")) };
            old[step.old.0..step.old.1].iter().for_each(|line| out.extend([gone, line, "\n"]));
            if let Some(come) = come {
                new[step.new.0..step.new.1].iter().for_each(|line| out.extend([come, line, "\n"]));
            }
        }
    }
    out
}

/// The steps with what is the same in between cut to the context.
fn groups(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    if let Some(first) = steps.first_mut().filter(|s| s.same) {
        first.old.0 = first.old.0.max(first.old.1.saturating_sub(CONTEXT));
        first.new.0 = first.new.0.max(first.new.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = steps.last_mut().filter(|s| s.same) {
        last.old.1 = last.old.1.min(last.old.0 + CONTEXT);
        last.new.1 = last.new.1.min(last.new.0 + CONTEXT);
    }
    let (mut groups, mut group) = (Vec::new(), Vec::new());
    for mut step in steps {
        if step.same && step.old.1 - step.old.0 > 2 * CONTEXT {
            let cut = |(from, to): (usize, usize)| (from, to.min(from + CONTEXT));
            group.push(Step { same: true, old: cut(step.old), new: cut(step.new) });
            groups.push(std::mem::take(&mut group));
            step.old.0 = step.old.0.max(step.old.1.saturating_sub(CONTEXT));
            step.new.0 = step.new.0.max(step.new.1.saturating_sub(CONTEXT));
        }
        group.push(step);
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|step| !step.same));
    groups
}

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let mut matches = Matcher::new(old, new).matches();
    matches.push((old.len(), new.len(), 0));
    let (mut i, mut j) = (0, 0);
    let mut steps = Vec::new();
    for (a, b, size) in matches {
        if i < a || j < b {
            steps.push(Step { same: false, old: (i, a), new: (j, b) });
        }
        (i, j) = (a + size, b + size);
        if size > 0 {
            steps.push(Step { same: true, old: (a, i), new: (b, j) });
        }
    }
    steps
}

struct Matcher<'l> {
    old: &'l [&'l str],
    new: &'l [&'l str],
    places: HashMap<&'l str, Vec<usize>>,
}

impl<'l> Matcher<'l> {
    fn new(old: &'l [&'l str], new: &'l [&'l str]) -> Self {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, line) in new.iter().enumerate() {
            places.entry(line).or_default().push(index);
        }
        // Lines that are everywhere match nothing by themselves.
        if new.len() >= 200 {
            places.retain(|_, at| at.len() <= new.len() / 100 + 1);
        }
        Self { old, new, places }
    }

    /// The longest run of lines that is in both ranges, the earliest of several: where it is, and how long.
    fn longest(&self, (alo, ahi): (usize, usize), (blo, bhi): (usize, usize)) -> (usize, usize, usize) {
        let mut best = (alo, blo, 0);
        let mut lengths: HashMap<usize, usize> = HashMap::new();
        for i in alo..ahi {
            let mut next = HashMap::new();
            for &j in self.places.get(self.old[i]).into_iter().flatten().filter(|j| (blo..bhi).contains(*j)) {
                let length = j.checked_sub(1).and_then(|j| lengths.get(&j)).copied().unwrap_or(0) + 1;
                next.insert(j, length);
                if length > best.2 {
                    best = (i + 1 - length, j + 1 - length, length);
                }
            }
            lengths = next;
        }
        while best.0 > alo && best.1 > blo && self.old[best.0 - 1] == self.new[best.1 - 1] {
            best = (best.0 - 1, best.1 - 1, best.2 + 1);
        }
        while best.0 + best.2 < ahi && best.1 + best.2 < bhi && self.old[best.0 + best.2] == self.new[best.1 + best.2] {
            best.2 += 1;
        }
        best
    }

    /// All runs that are in both, in order, neighbours joined.
    fn matches(&self) -> Vec<(usize, usize, usize)> {
        let mut open = vec![((0, self.old.len()), (0, self.new.len()))];
        let mut found = Vec::new();
        while let Some((a, b)) = open.pop() {
            let (i, j, size) = self.longest(a, b);
            if size > 0 {
                found.push((i, j, size));
                open.push(((a.0, i), (b.0, j)));
                open.push(((i + size, a.1), (j + size, b.1)));
            }
        }
        found.sort_unstable();
        let mut joined: Vec<(usize, usize, usize)> = Vec::new();
        for (i, j, size) in found {
            match joined.last_mut() {
                Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += size,
                _ => joined.push((i, j, size)),
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks() {
        let text = |change: &[(usize, &str)]| {
            let mut lines: Vec<String> = (1..=20).map(|n| format!("line {n}")).collect();
            change.iter().for_each(|(at, line)| lines[*at] = (*line).to_owned());
            lines
        };
        let check = |change: &[(usize, &str)], wanted: &str| {
            let (old, new) = (text(&[]), text(change));
            let slices = |lines: &'static [String]| lines.iter().map(String::as_str).collect::<Vec<_>>();
            let (old, new): (&'static [String], &'static [String]) = (old.leak(), new.leak());
            assert_eq!(unified(&slices(old), &slices(new)), wanted);
        };
        check(&[], "");
        check(&[(0, "x")], "@@ -1,4 +1,4 @@\n-line 1\n+x\n line 2\n line 3\n line 4\n");
        check(
            &[(4, "x"), (18, "y")],
            "@@ -2,7 +2,7 @@\n line 2\n line 3\n line 4\n-line 5\n+x\n line 6\n line 7\n line 8\n\
             @@ -16,5 +16,5 @@\n line 16\n line 17\n line 18\n-line 19\n+y\n line 20\n",
        );
    }
}
