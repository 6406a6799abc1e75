//! Samples, and how they are shown: JSON in the shape of apibench.py, a table, the figures of BENCHMARKS.md.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::process::{self, Usage};
use crate::targets::{self, Target};

/// Where the figures stand in the page.
const BEGIN: &str = "<!-- figures -->";
const END: &str = "<!-- end of figures -->";

/// One measurement.
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) client_cpu: Duration,
    pub(crate) server: Option<(Usage, Usage)>,
    /// Of the operations that succeeded, in microseconds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) errors: usize,
    pub(crate) first_error: Option<String>,
    /// Of the last reply.
    pub(crate) bytes: usize,
    pub(crate) load_average: f64,
}

fn rounded(number: f64) -> Value {
    let factor = if number.abs() >= 100.0 { 10.0 } else { 1000.0 };
    json!((number * factor).round() / factor)
}

impl Sample {
    pub(crate) fn operations(&self) -> u64 {
        self.latencies.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.operations() as f64 / self.seconds
    }

    /// A quantile in milliseconds.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The server's CPU time per operation, in microseconds.
    pub(crate) fn server_micros(&self) -> Option<f64> {
        let (before, after) = self.server?;
        Some(after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / self.operations().max(1) as f64)
    }

    /// What to say of a phase in which operations failed.
    pub(crate) fn failure(&self) -> Value {
        let error = self.first_error.as_deref().unwrap_or("nothing was done");
        json!({"failed": error, "errors": self.errors, "ops": self.operations()})
    }

    /// In the shape of apibench.py.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({
            "ops": self.operations(), "errors": self.errors, "seconds": rounded(self.seconds),
            "ops_per_s": rounded(self.per_second()), "client_cpu_s": rounded(self.client_cpu.as_secs_f64()),
            "p50_ms": rounded(self.millis(0.5)), "p90_ms": rounded(self.millis(0.9)), "p99_ms": rounded(self.millis(0.99)),
            "max_ms": rounded(self.latencies.max() as f64 / 1000.0), "mean_ms": rounded(self.latencies.mean() / 1000.0),
            "bytes": self.bytes, "load_average": self.load_average,
        });
        if let Some((before, after)) = self.server {
            value["procs"] = json!({"server": {"rss_kib": after.rss_kib, "peak_rss_kib": after.peak_rss_kib,
                "cpu_s": rounded(after.cpu.saturating_sub(before.cpu).as_secs_f64())}});
            value["server_us_per_op"] = rounded(self.server_micros().unwrap_or(0.0));
        }
        value
    }
}

/// All results so far: of this run, over those of earlier ones.
pub(crate) struct Report {
    results: Map<String, Value>,
}

impl Report {
    /// What an earlier run left in the file, or nothing.
    pub(crate) fn load(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        Self { results: value["results"].as_object().cloned().unwrap_or_default() }
    }

    /// Keeps a result, and shows it.
    pub(crate) fn add(&mut self, name: &str, value: Value) {
        eprintln!("{name} {value}");
        self.results.insert(name.into(), value);
    }

    /// Keeps a result that is one number.
    pub(crate) fn number(&mut self, name: &str, number: f64) {
        self.add(name, json!({"value": rounded(number), "load_average": process::load_average()}));
    }

    /// Writes the file.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let value =
            json!({"server": "navarch", "when": when(), "machine": process::machine(), "results": self.results});
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        std::fs::write(path, format!("{value:#}\n")).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The figures beside their floors, goals and upstream's.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![["what", "floor", "goal", "upstream", "here", "server CPU", "load"].map(String::from)];
        for target in targets::TARGETS {
            let Some(result) = self.results.get(target.result) else { continue };
            let Some(figure) = result[target.field].as_f64().map(|f| f * target.factor) else { continue };
            let micros = result["server_us_per_op"].as_f64().filter(|_| target.per_operation);
            rows.push([
                target.what.into(),
                shown(target.floor, target),
                shown(target.goal, target),
                shown(target.upstream, target),
                format!("{}{}", shown(Some(figure), target), target.verdict(figure)),
                micros.map_or(String::new(), |us| format!("{us:.0} µs")),
                result["load_average"].as_f64().map_or(String::new(), |l| format!("{l:.1}")),
            ]);
        }
        let mut text = String::new();
        for (index, row) in rows.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if index == 0 {
                text.push_str("|---|---|---|---|---|---|---|\n");
            }
        }
        text
    }

    /// Puts the figures between the marks of the page.
    pub(crate) fn write_page(&self, page: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        let (head, rest) = text.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", page.display()))?;
        let (_, tail) = rest.split_once(END).with_context(|| format!("{} has no {END}", page.display()))?;
        let figures = format!("{}\n{}.\n\n{}", when(), process::machine(), self.table());
        std::fs::write(page, format!("{head}{BEGIN}\n{figures}{END}{tail}"))
            .with_context(|| format!("cannot write {}", page.display()))
    }
}

/// The commit and the day.
fn when() -> String {
    let line = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().ok();
        output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    let commit = line("git", &["rev-parse", "--short", "HEAD"]);
    format!("Commit {commit}, {}.", line("date", &["-u", "+%F"]))
}

fn shown(figure: Option<f64>, target: &Target) -> String {
    let Some(figure) = figure else { return String::new() };
    let number = if figure >= 1000.0 {
        let whole = format!("{figure:.0}");
        let cut = whole.len() - 3;
        format!("{},{}", &whole[..cut], &whole[cut..])
    } else if figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.2}")
    };
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number };
    format!("{number} {}", target.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_between_the_marks_and_say_what_was_reached() {
        let mut report = Report { results: Map::new() };
        report.results.insert("get_configmap".into(), json!({"ops_per_s": 16_000.0, "server_us_per_op": 31.4}));
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page.md");
        std::fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        report.write_page(&page).unwrap();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("after\n") && !text.contains("old"), "{text}");
        assert!(text.contains("| 15,000 /s | 30,000 /s | 2,700 /s | 16,000 /s (floor) | 31 µs |"), "{text}");
    }
}
