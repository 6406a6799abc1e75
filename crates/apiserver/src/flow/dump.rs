//! What the limiter is doing, for people: `/debug/api_priority_and_fairness/dump_*`, in upstream's columns.

use std::fmt::Write;

use super::Plan;

/// Rows in columns; a comma ends each cell but the last.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0) + 2;
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == columns {
                out.push_str(cell);
            } else {
                // Writing to a string cannot fail.
                let _ = write!(out, "{:<width$}", format!("{cell},"), width = widths[at]);
            }
        }
        out.push('\n');
    }
    out
}

fn row<const N: usize>(cells: [&dyn ToString; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

pub(super) fn levels(plan: &Plan) -> String {
    let mut rows = vec![row([
        &"PriorityLevelName",
        &"ActiveQueues",
        &"IsIdle",
        &"IsQuiescing",
        &"WaitingRequests",
        &"ExecutingRequests",
        &"DispatchedRequests",
        &"RejectedRequests",
        &"TimedoutRequests",
        &"CancelledRequests",
    ])];
    for (name, level) in &plan.levels {
        let (passing, passed) = level.passes();
        rows.push(level.look(|s| {
            let active = s.queues.iter().filter(|q| !q.is_empty()).count();
            let waiting: usize = s.queues.iter().map(|q| q.len()).sum();
            let executing = s.executing + passing;
            let is_idle = executing == 0 && waiting == 0;
            let dispatched = s.dispatched + passed;
            row([name, &active, &is_idle, &false, &waiting, &executing, &dispatched, &s.rejected, &s.timed_out, &0])
        }));
    }
    table(&rows)
}

pub(super) fn queues(plan: &Plan) -> String {
    let mut rows = vec![row([
        &"PriorityLevelName",
        &"Index",
        &"PendingRequests",
        &"ExecutingRequests",
        &"SeatsInUse",
        &"NextDispatchR",
        &"InitialSeatsSum",
        &"MaxSeatsSum",
        &"TotalWorkSum",
    ])];
    for (name, level) in &plan.levels {
        level.look(|s| {
            for (index, queue) in s.queues.iter().enumerate() {
                let seats: usize = queue.iter().map(|w| w.told.seats).sum();
                let none = "0.00000000ss";
                rows.push(row([name, &index, &queue.len(), &0, &0, &none, &seats, &seats, &none]));
            }
        });
    }
    table(&rows)
}

pub(super) fn requests(plan: &Plan) -> String {
    let mut rows = vec![row([
        &"PriorityLevelName",
        &"FlowSchemaName",
        &"QueueIndex",
        &"RequestIndexInQueue",
        &"FlowDistingsher",
        &"ArriveTime",
        &"InitialSeats",
        &"FinalSeats",
        &"AdditionalLatency",
        &"StartTime",
    ])];
    for (name, level) in &plan.levels {
        level.look(|s| {
            for (index, queue) in s.queues.iter().enumerate() {
                for (position, waiter) in queue.iter().enumerate() {
                    let told = &waiter.told;
                    let arrived = base::time::format_seconds(told.arrived);
                    let (schema, flow) = (&told.schema.name, &told.flow);
                    let begins = "0001-01-01T00:00:00Z";
                    rows.push(row([name, schema, &index, &position, flow, &arrived, &told.seats, &0, &"0s", &begins]));
                }
            }
        });
    }
    table(&rows)
}
